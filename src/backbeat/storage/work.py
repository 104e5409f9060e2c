"""Is anybody at work? Asked before bytes are moved or removed under the feet of a process.

There is no one lock to ask. DVC locks its repository, but lets go while a stage runs and notes the stage in `rwlock`
instead; downloads hold a lock beside each entry of the staging store; stages that make shards hold none and keep what
they write open. So all of that is looked at. Processes on other machines, and in containers with process numbers of
their own, cannot be seen: that is what `QUIET_S` is for.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from dvc.config import Config
from dvc.lock import LockError, make_lock

from backbeat.errors import StorageError
from backbeat.storage.staging import cache_dir, disk_errors

# A file that a process is writing is touched every few seconds. One that nobody has touched for so long belongs to
# no process, on whatever machine.
QUIET_S = 3_600

# `new_file` and `link_folder` in staging.py: the number of the process stands in the name.
PART_NAME = re.compile(r"\.(?P<pid>\d+)-[0-9a-f]{8}(?:\.move)?\.part$")

_PROCESSES = Path("/proc")


@contextlib.contextmanager
def dvc_at_rest(project: Path) -> Iterator[None]:
    """Hold DVC's own lock, so that no `dvc` starts in the meantime.

    Raises:
        StorageError: if a `dvc` is running, or a stage that it started; or DVC's configuration cannot be read.
    """
    dvc_dir = project / ".dvc"
    tmp = dvc_dir / "tmp"
    tmp.mkdir(exist_ok=True)
    # Says so where the configuration cannot be read.
    cache_dir(project)
    core = Config(dvc_dir=str(dvc_dir), validate=False).get("core", {})
    lock = make_lock(
        str(tmp / "lock"), tmp_dir=str(tmp), hardlink_lock=str(core.get("hardlink_lock", False)).lower() == "true"
    )
    try:
        lock.lock()
    except LockError:
        raise _busy("a dvc command is running") from None
    try:
        stage = _stage_at_work(tmp / "rwlock")
        if stage is not None:
            raise _busy(stage)
        yield
    finally:
        lock.unlock()


@contextlib.contextmanager
def folder_of_this_run(project: Path, name: str) -> Iterator[Path]:
    """Make an empty folder for as long as it is needed, and throw away those of its name that killed runs have left.

    It is where DVC keeps what is temporary, so neither DVC nor Git sees it.

    Raises:
        StorageError: if the disk is full or read-only.
    """
    tmp = project.absolute() / ".dvc" / "tmp"
    for left in tmp.glob(f"{name}.*.part"):
        if not has_running_writer(left):
            shutil.rmtree(left, ignore_errors=True)
    folder = tmp / f"{name}.{os.getpid()}-{secrets.token_hex(4)}.part"
    with disk_errors(folder):
        folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def require_nobody(*folders: Path, inodes: Collection[tuple[int, int]] | None = None) -> None:
    """Refuse if another process of this machine has a file of these folders open.

    Args:
        folders: where to look.
        inodes: the only files that matter (device, inode), under whatever name; None means all.

    Raises:
        StorageError: naming the process and the file.
    """
    for folder in folders:
        for path, pid in sorted(open_files(folder).items()):
            with contextlib.suppress(OSError):  # gone already
                state = Path(path).stat()
                if inodes is None or (state.st_dev, state.st_ino) in inodes:
                    raise _busy(f"process {pid} has {path} open")


def open_files(folder: Path) -> dict[str, int]:
    """Return which files under `folder` other processes have open, as far as this user may see: path -> process."""
    found: dict[str, int] = {}
    root = f"{folder.resolve()}{os.sep}"
    for process in _PROCESSES.glob("[0-9]*"):
        pid = int(process.name)
        if pid == os.getpid():
            continue
        with contextlib.suppress(OSError):
            for descriptor in (process / "fd").iterdir():
                with contextlib.suppress(OSError):
                    path = os.readlink(descriptor)  # noqa: PTH115 - what is open may have been removed
                    if path.startswith(root):
                        found[path] = pid
    return found


def writer_of(path: Path, opened: dict[str, int], *, now_s: float | None = None) -> str | None:
    """Return who may still be writing an unfinished file or folder; None if nobody is.

    Args:
        path: something that is called `*.part`, or another file that is touched while it is in use.
        opened: what `open_files` has said.
        now_s: the time now; given by tests.
    """
    inside = f"{path.resolve()}{os.sep}"
    for other, pid in opened.items():
        if other == str(path.resolve()) or other.startswith(inside):
            return f"process {pid} has it open"
    if has_running_writer(path):
        return "its process is running"
    quiet_s = (time.time() if now_s is None else now_s) - last_touched_s(path)
    return f"touched {max(0, quiet_s) / 60:.0f} min ago" if quiet_s < QUIET_S else None


def has_running_writer(path: Path) -> bool:
    """Return whether the process in the name of an unfinished file is another one than this, and running."""
    named = PART_NAME.search(path.name)
    return named is not None and int(named["pid"]) != os.getpid() and _is_running(int(named["pid"]))


def last_touched_s(path: Path) -> float:
    """Return when a file, or anything in a folder, was last written to: seconds since 1970."""
    newest = path.lstat().st_mtime
    if path.is_dir() and not path.is_symlink():
        newest = max([newest, *(inner.lstat().st_mtime for inner in path.rglob("*"))])
    return newest


def _stage_at_work(rwlock: Path) -> str | None:
    try:
        noted = json.loads(rwlock.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    writers = [noted.get("write", {}).get(path) for path in noted.get("write", {})]
    readers = [one for several in noted.get("read", {}).values() for one in several]
    for one in [*writers, *readers]:
        if one and _is_running(int(one["pid"])):
            return f"process {one['pid']} runs a stage: {one['cmd']}"
    return None


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _busy(got: str) -> StorageError:
    return StorageError(
        "somebody is at work on this data",
        expected="no download, stage or dvc command running",
        got=got,
        next_step="wait until it has ended, and repeat",
    )
