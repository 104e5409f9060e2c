"""Tasks for the executor: a worker imports this module, so it imports next to nothing."""

from __future__ import annotations

import hashlib
import os
import signal
from pathlib import Path

from backbeat.errors import AudioError


def square(number: int) -> int:
    return number * number


def process_of(number: int) -> int:
    return os.getpid()


def refuse_seven(number: int) -> int:
    if number == 7:
        raise AudioError("seven is no sound", expected="another number", next_step="count again")
    return number


def kill_itself_at_seven(number: int) -> int:
    if number == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def leave_a_trace(path: Path) -> None:
    """Make a file after a while of work; one that is to be called `bad` is refused at once."""
    if path.name == "bad":
        raise AudioError("bad name")
    hashlib.pbkdf2_hmac("sha256", b"", b"", 50_000)
    path.touch()
