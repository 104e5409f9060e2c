"""What a disk can do, tried rather than believed: links, room, speed, and which file system it is.

Everything else here stands on links: a shard in the staging store, its object in DVC's cache and its name in the
workspace are one file. Where links cannot be made, DVC copies in silence, so that is found out beforehand.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from backbeat.errors import StorageError
from backbeat.storage.staging import SPARE_BYTES, disk_errors, nearest_existing

# Long enough for a hard disk to get up to speed, short enough to wait for.
SPEED_TEST_BYTES = 64 * 2**20
_BLOCK_BYTES = 2**20

_MOUNTS = Path("/proc/self/mountinfo")
_NOT_IN_MEMORY = "the speed is that of memory"


@dataclass(frozen=True)
class Place:
    """Where a path is.

    Args:
        mount_point: the folder that the file system is mounted on.
        filesystem: its type, such as `ext4`; `unknown` where the system does not say.
        device: what is mounted, such as `/dev/sdb1`; `unknown` where the system does not say.
        free_bytes: what is free for this user.
        total_bytes: how large it is.
    """

    mount_point: str
    filesystem: str
    device: str
    free_bytes: int
    total_bytes: int


@dataclass(frozen=True)
class Disk:
    """What trying has shown of a folder that is to hold data.

    Args:
        path: the folder.
        place: the file system that it is on.
        other_than_project: whether that is another file system than the one of the working tree.
        read_bytes_per_s: speed of a sequential read past the page cache; None if it was not measured.
        note: why it was not measured, or what to think of the number; None if there is nothing to say.
    """

    path: str
    place: Place
    other_than_project: bool
    read_bytes_per_s: int | None
    note: str | None


def place_of(path: Path) -> Place:
    """Return which file system a path is or would be on."""
    existing = nearest_existing(path).resolve()
    mount_point = next(folder for folder in [existing, *existing.parents] if os.path.ismount(folder))
    filesystem, device = _mounted(mount_point)
    usage = shutil.disk_usage(existing)
    return Place(str(mount_point), filesystem, device, usage.free, usage.total)


def same_filesystem(one: Path, other: Path) -> bool:
    """Return whether a hard link from one path to the other could exist."""
    return nearest_existing(one).stat().st_dev == nearest_existing(other).stat().st_dev


def is_within(path: Path, folder: Path) -> bool:
    """Return whether a path is or would be `folder` or in it, by whichever name: of a mount, or of another case."""
    if path.is_relative_to(folder):
        return True
    return folder.exists() and any(above.exists() and above.samefile(folder) for above in [path, *path.parents])


def examine(folder: Path, project: Path, *, measure: bool = True) -> Disk:
    """Try what the staging store and DVC's cache need of a disk; leaves nothing behind but the folder itself.

    Args:
        folder: where the data is to be; made if it is missing.
        project: the root of the repository.
        measure: whether to measure the speed of reading.

    Raises:
        StorageError: if the folder cannot be written to, or has no hard links or symbolic links.
    """
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _try_links(folder)
    place = place_of(folder)
    speed, note = _read_speed(folder, place) if measure else (None, None)
    return Disk(str(folder), place, not same_filesystem(folder, project), speed, note)


def _try_links(folder: Path) -> None:
    trial = folder / f".trial.{os.getpid()}-{secrets.token_hex(4)}.part"
    trial.mkdir()
    try:
        written = trial / "written"
        written.write_bytes(b"links\n")
        for kind, make in (("hard link", os.link), ("symbolic link", os.symlink)):
            link = trial / kind
            try:
                make(written, link)
                works = link.read_bytes() == b"links\n" and link.samefile(written)
                got = "one that leads elsewhere"
            except OSError as error:
                works, got = False, os.strerror(error.errno or 0)
            if not works:
                place = place_of(folder)
                raise StorageError(
                    f"{folder} cannot hold {kind}s",
                    expected="a file system on which one file can have several names: ext4, XFS, btrfs, APFS, NTFS",
                    got=f"{got} ({place.filesystem} at {place.mount_point})",
                    next_step="name a folder on another disk, or format this one with such a file system",
                )
    finally:
        shutil.rmtree(trial, ignore_errors=True)


def _read_speed(folder: Path, place: Place) -> tuple[int | None, str | None]:
    """Return bytes per second, and what to say of them."""
    if place.free_bytes < 4 * SPEED_TEST_BYTES + SPARE_BYTES:
        return None, "not measured: there is little room"
    trial = folder / f".speed.{os.getpid()}-{secrets.token_hex(4)}.part"
    # Random, because a file system that compresses would be measured by its processor.
    block = os.urandom(_BLOCK_BYTES)
    try:
        with disk_errors(folder), trial.open("wb") as stream:
            for _ in range(SPEED_TEST_BYTES // _BLOCK_BYTES):
                stream.write(block)
            stream.flush()
            os.fsync(stream.fileno())
        forget_pages(trial)
        started_s = time.perf_counter()
        with trial.open("rb", buffering=0) as stream:
            while stream.read(_BLOCK_BYTES):
                pass
        elapsed_s = max(time.perf_counter() - started_s, 1e-6)
    finally:
        trial.unlink(missing_ok=True)
    note = _NOT_IN_MEMORY if place.filesystem in {"tmpfs", "ramfs"} or not hasattr(os, "posix_fadvise") else None
    return round(SPEED_TEST_BYTES / elapsed_s), note


def forget_pages(path: Path) -> None:
    """Let the next read of a file that has been synced come from its disk, where the system can be asked for that."""
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _mounted(mount_point: Path) -> tuple[str, str]:
    """Return type and device of what is mounted there; of several mounts over each other the last one counts."""
    found = ("unknown", "unknown")
    with contextlib.suppress(OSError):
        for line in _MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines():
            before, _, after = line.partition(" - ")
            where = before.split()[4].replace("\\040", " ")
            if where == str(mount_point):
                filesystem, device, *_ = after.split()
                found = (filesystem, device)
    return found
