"""What a child process does to a library until it is killed."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

# Imported late by what is tested; a child that is forked from here has them already.
import pyarrow.parquet  # noqa: F401

from backbeat.library import removal, restore
from backbeat.library.archive import archive

# Few files at a time, so that a kill finds it anywhere.
removal.BATCH_FILES = restore.BATCH_FILES = 3


def archive_and_remove(project: Path, changes: int | None = None) -> None:
    """Archive what there is and remove the originals; killed before that change to the disk, if one is named."""
    _die_at(changes)
    archive(project, workers=1)
    removal.remove_originals(project, dry_run=False)


def bring_back(project: Path, changes: int | None = None) -> None:
    """Restore everything; killed as above."""
    _die_at(changes)
    restore.restore(project)


def _die_at(changes: int | None) -> None:
    """Let this process be killed before it opens a file for writing, renames or removes one for the n-th time."""
    left = changes

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if left is not None and (writes or event in {"os.remove", "os.rename", "os.symlink", "os.truncate"}):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
