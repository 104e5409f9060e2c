"""One transfer, move or rendering of bytes at a time in each clone, and who it is if there is one already."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from backbeat.errors import CloudError

# DVC ignores this folder, and so does Git.
_FOLDER = ".dvc/tmp"


@contextlib.contextmanager
def exclusive(project: Path, doing: str) -> Iterator[None]:
    """Hold this clone's lock on transfers; the system lets go of it whichever way the process ends.

    Raises:
        CloudError: if another process has it, with what it does and since when.
    """
    folder = project / _FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    holder = folder / "backbeat-transfer.txt"
    lock = FileLock(folder / "backbeat-transfer.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        with contextlib.suppress(OSError):
            who = holder.read_text(encoding="utf-8")
        raise CloudError(
            f"cannot {doing}: another command is at work in this clone",
            got=who or "a process that has not yet said who it is",
            next_step="wait for it, or end it, then repeat the command",
        ) from None
    try:
        now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        holder.write_text(f"{doing}, process {os.getpid()}, since {now}", encoding="utf-8")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()
