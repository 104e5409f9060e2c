"""What starts DVC: a program that ends when the one that started it does, however that is ended.

`python -m backbeat.cloud.dvc_child PARENT ARGUMENT…`: a killed transfer has let go of its lock, and a DVC that went on
without it would work beside the next one. Linux sends the signal; elsewhere DVC goes on until it is done.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys

# <linux/prctl.h>
_PR_SET_PDEATHSIG = 1


def end_with(parent_pid: int) -> None:
    """Have the system end this process when its parent ends; exits if the parent is gone already."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    # It may have ended before anybody was told to notice.
    if os.getppid() != parent_pid:
        raise SystemExit(128 + signal.SIGTERM)


if __name__ == "__main__":
    end_with(int(sys.argv[1]))
    sys.argv = ["dvc", *sys.argv[2:]]
    runpy.run_module("dvc", run_name="__main__", alter_sys=True)
