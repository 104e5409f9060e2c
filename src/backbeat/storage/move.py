"""Moving DVC's cache, with the staging store in it, to another folder: whole, provable, and safe to kill.

- A file gets its final name on the other side only after its bytes were read back from there and are those that were
  read here. What has its final name, size and time is done: a repeated run copies it no second time.
- Several names of one file here (an object of DVC's and its entry in the staging store) are several names of one file
  there. Modes and times stay: DVC trusts an object for as long as it is read-only, notes about downloads name times.
- An object of DVC's whose bytes are not those that its name promises is not carried over, and is named.
- What is on the same file system is not copied: its new names are further names of the same file. That is asked of
  each file, since other disks may be mounted within either cache.
- Of a file that may change (a download under way, a note) and is on both sides, the later one stays.
- Nothing is removed here before everything is there, and then only what still is as it was carried over.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from backbeat.errors import StorageError
from backbeat.progress import Advance, progress
from backbeat.storage.contents import OBJECT, PART_SUFFIX, Contents, StoredFile, contents_of, inode_of
from backbeat.storage.disk import forget_pages
from backbeat.storage.staging import disk_errors, nearest_existing, publish, require_space
from backbeat.storage.work import has_running_writer

_BLOCK_BYTES = 4 * 2**20
# File systems keep times to 1 ns, 100 ns, 1 s or 2 s.
_SAME_TIME_NS = 2 * 10**9


class UnreadableError(Exception):
    """The old disk cannot read a file any more."""


@dataclass(frozen=True)
class Rotten:
    """An object whose bytes are not those that its name promises.

    Args:
        names: all names of the file, relative to the cache.
        expected: the MD5 in its name.
        got: the MD5 of its bytes.
    """

    names: tuple[str, ...]
    expected: str
    got: str


@dataclass(frozen=True)
class Moved:
    """What a move has done: what it copied, what was there already, and what it would not carry over."""

    copied_files: int
    copied_bytes: int
    there_before_bytes: int
    rotten: tuple[Rotten, ...]


def missing_bytes(contents: Contents, target: Path) -> int:
    """Return how many bytes are not on the other side yet."""
    return sum(file.size_bytes for file in contents.files if not _done_names(file, target))


def bytes_to_copy(contents: Contents, target: Path) -> int:
    """Return how much of what is missing has to be copied, because it is on another file system."""
    return sum(
        file.size_bytes for file in contents.files if not _links_to(file, target) and not _done_names(file, target)
    )


def carry_over(source: Path, target: Path, contents: Contents | None = None) -> Moved:
    """Make everything of the cache `source` exist in `target`, too; `source` stays as it is.

    Raises:
        StorageError: before the first byte if `target` has too little room; or if its disk fails, or gives back other
            bytes than were written to it.
    """
    contents = contents or contents_of(source)
    missing = missing_bytes(contents, target)
    to_copy = bytes_to_copy(contents, target)
    if to_copy:
        require_space(target, to_copy, "the cache and its staging store")
    with disk_errors(target):
        target.mkdir(parents=True, exist_ok=True)
        for left in target.rglob(f"*{PART_SUFFIX}"):
            if not has_running_writer(left):  # the cache of several projects may be moving here
                left.unlink()
        for name in contents.folders:
            (target / name).mkdir(parents=True, exist_ok=True)
        rotten = []
        copied_files = copied_bytes = 0
        with progress("moving", contents.size_bytes, unit="bytes", done=contents.size_bytes - missing) as advance:
            for file in contents.files:
                if not _done_names(file, target):
                    linked, bad = _carry(source, target, file, advance)
                    if bad is not None:
                        rotten.append(bad)
                        continue
                    copied_files += 1
                    copied_bytes += 0 if linked else file.size_bytes
                _link_names(source, target, file)
        for name, says in contents.links:
            _copy_link(source, target, name, says)
    return Moved(copied_files, copied_bytes, contents.size_bytes - missing, tuple(rotten))


def remove_carried(source: Path, target: Path, contents: Contents) -> list[Path]:
    """Remove from `source` what is in `target`, and `source` itself if nothing else is in it.

    Returns:
        What has changed since it was carried over, and stays.

    Raises:
        OSError: if the disk of `source` does not let go of something.
    """
    changed = []
    for file in contents.files:
        for name in file.names:
            if not _is_there(target / name, file):
                continue
            if _may_go(source / name, target / name, file):
                (source / name).unlink(missing_ok=True)
            elif os.path.lexists(source / name):
                changed.append(source / name)
    for name, says in contents.links:
        if (target / name).is_symlink() and _says(source / name) == says:
            (source / name).unlink(missing_ok=True)
    for name in sorted(contents.folders, key=len, reverse=True):
        with contextlib.suppress(OSError):  # something is in it
            (source / name).rmdir()
    with contextlib.suppress(OSError):
        source.rmdir()
    return changed


def _may_go(here: Path, there: Path, file: StoredFile) -> bool:
    """Return whether a name is still that of the file that was carried over, and not the last one of its bytes."""
    try:
        state = here.lstat()
    except FileNotFoundError:
        return False
    if inode_of(state) == inode_of(there.lstat()):  # one file, whatever was written to it
        return state.st_nlink > 1
    return (inode_of(state), state.st_size, state.st_mtime_ns) == (file.inode, file.size_bytes, file.mtime_ns)


def _says(link: Path) -> str | None:
    try:
        return str(link.readlink())
    except OSError:
        return None


def _is_there(path: Path, file: StoredFile) -> bool:
    """Return whether a name on the other side is that of this file. It gets its final name after its proof only."""
    try:
        state = path.lstat()
    except OSError:
        return False
    later_ns = state.st_mtime_ns - file.mtime_ns
    same = state.st_size == file.size_bytes and abs(later_ns) <= _SAME_TIME_NS
    # What is called by its content has no versions; the same name with another time is proven again.
    newer = later_ns > _SAME_TIME_NS and not OBJECT.match(file.names[0])
    return stat.S_ISREG(state.st_mode) and (same or newer)


def _done_names(file: StoredFile, target: Path) -> list[str]:
    return [name for name in file.names if _is_there(target / name, file)]


def _links_to(file: StoredFile, target: Path) -> bool:
    """Return whether a file can have a further name in `target`, by the number of its file system."""
    return nearest_existing((target / file.names[0]).parent).stat().st_dev == file.inode[0]


def _carry(source: Path, target: Path, file: StoredFile, advance: Advance) -> tuple[bool, Rotten | None]:
    """Link a file to its first name, or copy it; returns whether it is a link, and what is wrong with it."""
    if _links_to(file, target):
        try:
            return True, _relink(source, target, file, advance)
        except OSError as error:
            if error.errno != errno.EXDEV:  # one file system at two mount points
                raise
    return False, _copy(source, target, file, advance)


def _copy(source: Path, target: Path, file: StoredFile, advance: Advance) -> Rotten | None:
    """Copy a file to its first name, proven; returns what is wrong with it where it is not what its name says."""
    first = target / file.names[0]
    original = source / file.names[0]
    first.parent.mkdir(parents=True, exist_ok=True)
    with _part_of(first) as part:
        digest = hashlib.md5(usedforsecurity=False)
        with part.open("xb") as stream:
            try:
                # The blocks of further names are in memory by now: comparing costs no second read of the disk.
                for block, *others in zip(*(_blocks(source / name) for name in file.names), strict=False):
                    if any(other != block for other in others):
                        raise _not_one_file(source, file)
                    digest.update(block)
                    stream.write(block)
                    advance(len(block))
            except UnreadableError as error:
                return Rotten(file.names, "readable bytes", str(error))
            stream.flush()
            os.fsync(stream.fileno())
        now = original.lstat()
        if part.stat().st_size != file.size_bytes or now.st_mtime_ns != file.mtime_ns:
            raise StorageError(
                f"{original} has changed while it was read",
                expected=f"{file.size_bytes:,} bytes",
                got=f"{now.st_size:,} bytes, written to meanwhile",
                next_step="wait until nobody is at work on it, and repeat",
            )
        rotten = _rotten(file, digest.hexdigest())
        if rotten is not None:
            return rotten
        forget_pages(part)
        read_back = _md5(part)
        if read_back != digest.hexdigest():
            raise StorageError(
                f"the disk gave back other bytes than were written to it: {first}",
                expected=digest.hexdigest(),
                got=read_back,
                next_step="do not trust this disk: look at its cable, its S.M.A.R.T. values and the kernel's log",
            )
        part.chmod(file.mode)
        os.utime(part, ns=(file.mtime_ns, file.mtime_ns))
        publish(part, first)
    return None


def _relink(source: Path, target: Path, file: StoredFile, advance: Advance) -> Rotten | None:
    """Give a file of the same file system its first new name, after the same proof of an object."""
    first = target / file.names[0]
    if OBJECT.match(file.names[0]):
        try:
            rotten = _rotten(file, _md5(source / file.names[0]))
        except UnreadableError as error:
            rotten = Rotten(file.names, "readable bytes", str(error))
        if rotten is not None:
            return rotten
    first.parent.mkdir(parents=True, exist_ok=True)
    _replace_by_link(source / file.names[0], first)
    advance(file.size_bytes)
    return None


def _link_names(source: Path, target: Path, file: StoredFile) -> None:
    """Make all names of a file that is there names of one file; or copies of it, where a disk is mounted in between."""
    (first, *_) = _done_names(file, target)
    for name in file.names:
        other = target / name
        if name == first or (other.exists() and other.samefile(target / first)):
            continue
        other.parent.mkdir(parents=True, exist_ok=True)
        try:
            _replace_by_link(target / first, other)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            if not _is_there(other, file):
                _copy(source, target, replace(file, names=(name,)), lambda _: None)


def _not_one_file(source: Path, file: StoredFile) -> StorageError:
    return StorageError(
        f"the file system of {source} says of several files that they are one",
        expected="names of one file to have the same bytes",
        got=", ".join(file.names),
        next_step="nothing was removed; move these files by hand, then repeat",
    )


def _replace_by_link(existing: Path, name: Path) -> None:
    with _part_of(name) as part:
        os.link(existing, part)
        # Renaming one name of a file to another one of it does nothing at all, and leaves both.
        part.replace(name)


def _copy_link(source: Path, target: Path, name: str, says: str) -> None:
    """Make a symbolic link again; one that led into the old cache leads into the new one."""
    inside = os.path.relpath(says, source) if Path(says).is_absolute() else None
    says = str(target / inside) if inside is not None and not inside.startswith("..") else says
    with _part_of(target / name) as part:
        part.symlink_to(says)
        part.replace(target / name)


@contextlib.contextmanager
def _part_of(final: Path) -> Iterator[Path]:
    part = final.with_name(f"{final.name}.{os.getpid()}-{secrets.token_hex(4)}{PART_SUFFIX}")
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)


def _rotten(file: StoredFile, found: str) -> Rotten | None:
    for name in file.names:
        named = OBJECT.match(name)
        if named is not None and named["head"] + named["rest"] != found:
            return Rotten(file.names, named["head"] + named["rest"], found)
    return None


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as stream:
        while True:
            try:
                block = stream.read(_BLOCK_BYTES)
            except OSError as error:
                raise UnreadableError(os.strerror(error.errno or 0)) from error
            if not block:
                return
            yield block


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    for block in _blocks(path):
        digest.update(block)
    return digest.hexdigest()
