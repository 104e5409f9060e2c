"""Removing originals that the archive has: the one place in the library where a file of the user goes.

For each file, in this order, under a lock that one process has at a time:

1. Its FLAC file is put on the disk with its folder, read from there, and unpacked; the file itself is read as it is
   now. Both are the same bytes, and have the hash that the table says.
2. The ledger says so, on the disk, of this very file.
3. The file goes, if it is still the very file that was read.

A kill between any two of these leaves the original, or the ledger and the proven FLAC file, or both. What is in the
ledger and still there is proven again by the next run.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from backbeat.errors import LibraryError
from backbeat.library.flac import unpack
from backbeat.library.ledger import Entry, append, read_ledger, sync_folder
from backbeat.library.settings import load_settings
from backbeat.library.tables import read_table
from backbeat.library.tracked import tracked_places
from backbeat.library.vault import read_from_disk, read_noted, sha256, vault_path, write_noted
from backbeat.progress import progress
from backbeat.storage.exclusive import exclusive

# Entries that are put on the disk at once: a sync for each file would take longer than proving it.
BATCH_FILES = 64


@dataclass(frozen=True)
class Removal:
    """What became of an original that is archived.

    Args:
        sample: its name.
        action: whether its file was removed.
        freed_bytes: what that frees.
        reason: why the file is kept; None if it is not.
    """

    sample: str
    action: Literal["removed", "would be removed", "kept"]
    freed_bytes: int
    reason: str | None = None


@dataclass(frozen=True)
class _Original:
    """An archived sample and where its file is."""

    row: Mapping[str, Any]
    path: Path
    fault: str | None

    @property
    def sample(self) -> str:
        return str(self.row["sample"])


def remove_originals(project: Path, *, dry_run: bool = True) -> list[Removal]:
    """Remove the files of folders whose FLAC file in the archive gives the identical bytes, and say why others stay.

    Args:
        project: the root of the repository.
        dry_run: whether to say what would go, prove nothing and remove nothing.

    Raises:
        LibraryError: if a table is missing.
        CloudError: if another process removes, restores or transfers in this clone.
        StorageError: if the disk is full or read-only.
    """
    if dry_run:
        return [
            Removal(one.sample, "kept", 0, one.fault)
            if one.fault
            else Removal(one.sample, "would be removed", _frees(one.path.lstat()))
            for one in _originals(project)
        ]
    done: list[Removal] = []
    with exclusive(project, "remove originals"), _noting(project):
        originals = _originals(project)
        done += [Removal(one.sample, "kept", 0, one.fault) for one in originals if one.fault]
        rest = [one for one in originals if not one.fault]
        size_bytes = sum(one.row["size_bytes"] for one in rest)
        with progress("proving and removing", size_bytes, unit="bytes") as advance:
            for start in range(0, len(rest), BATCH_FILES):
                batch = rest[start : start + BATCH_FILES]
                done += _remove(project, batch)
                advance(sum(one.row["size_bytes"] for one in batch))
    return sorted(done, key=lambda one: one.sample)


@contextlib.contextmanager
def _noting(project: Path) -> Iterator[None]:
    """Add what is in the ledger afterward to what is noted, however the work ends."""
    try:
        yield
    finally:
        ledger = read_ledger(project)
        write_noted(project, read_noted(project) | {entry.sample: entry.file_sha256 for entry in ledger.values()})


def _remove(project: Path, batch: list[_Original]) -> Iterator[Removal]:
    proven: list[tuple[_Original, os.stat_result]] = []
    for one in batch:
        try:
            proven.append((one, _prove(project, one)))
        except (LibraryError, OSError) as error:
            yield Removal(one.sample, "kept", 0, _words(error))
    for folder in {vault_path(project, one.row["file_sha256"]).parent for one, _ in proven}:
        sync_folder(folder)
    ledger = read_ledger(project)
    append(project, [_entry(one.row) for one, _ in proven if one.sample not in ledger])
    unlinked: set[tuple[int, int]] = set()
    for one, state in proven:
        inode = state.st_dev, state.st_ino
        try:
            if other := _other(ledger.get(one.sample), _entry(one.row)):
                raise LibraryError(other)
            now = one.path.lstat()
            # That another name of the file has gone changes its `ctime`, and nothing of what it holds.
            if _identity(now) != _identity(state) or (now.st_ctime_ns != state.st_ctime_ns and inode not in unlinked):
                raise LibraryError("it is being changed")
            one.path.unlink()
        except (LibraryError, OSError) as error:
            yield Removal(one.sample, "kept", 0, _words(error))
        else:
            unlinked.add(inode)
            yield Removal(one.sample, "removed", _frees(now))


def _other(there: Entry | None, entry: Entry) -> str | None:
    """Return what the line that the ledger has of a name says else: a line is all that is left of what is removed."""
    if there is None or there == entry:
        return None
    if there.file_sha256 != entry.file_sha256:
        return "the ledger has another file of this name"
    return "the ledger names another FLAC file of it: run `backbeat library archive`"


def _words(error: LibraryError | OSError) -> str:
    return error.what if isinstance(error, LibraryError) else error.strerror or str(error)


def _prove(project: Path, one: _Original) -> os.stat_result:
    """Return the state of the file that was read and is what its FLAC file gives.

    Raises:
        LibraryError: if it is not; `what` is the reason.
        OSError: if one of them cannot be read.
    """
    vault = vault_path(project, one.row["file_sha256"])
    with open(one.path, "rb", opener=_no_links) as stream:
        state = os.fstat(stream.fileno())
        now = stream.read()
    if sha256(now) != one.row["file_sha256"]:
        raise LibraryError("it has changed since it was archived")
    if not vault.is_file() or vault.is_symlink() or vault.samefile(one.path):
        raise LibraryError("its FLAC file is not in the staging store")
    flac = read_from_disk(vault)
    if not _gives(flac, now):
        # The original is here: the next run of the stage makes it anew.
        vault.unlink()
        raise LibraryError("its FLAC file was damaged: `backbeat library archive` makes it anew")
    if sha256(flac) != one.row["flac_sha256"]:
        raise LibraryError("its FLAC file is another one than in the table: run `backbeat library archive`")
    return state


def _gives(flac: bytes, original: bytes) -> bool:
    try:
        return unpack(flac) == original
    except LibraryError:
        return False


def _originals(project: Path) -> list[_Original]:
    """Return every archived sample; with a fault where its file is not to be removed or is not there."""
    rows = [row for row in read_table(project, "archive").to_pylist() if row["state"] == "archived"]
    columns = ["sample", "source", "path", "container"]
    scanned = {row["sample"]: row for row in read_table(project, "scan", columns).to_pylist()}
    roots = {source.name: source.place(project) for source in load_settings(project).sources}
    places = {
        sample: roots[row["source"]] / row["path"]
        for sample, row in scanned.items()
        if row["container"] is None and row["source"] in roots
    }
    names = Counter(os.path.realpath(path) for path in places.values())
    ledger = read_ledger(project)
    tracked = tracked_places({path.parent for path in places.values()})
    found = []
    for row in rows:
        sample = row["sample"]
        if sample in places:
            root = roots[scanned[sample]["source"]]
            fault = _fault(places[sample], root, tracked, names)
            if sample in ledger and fault is None:
                fault = _other(ledger[sample], _entry(row))
            gone = fault == _GONE and sample in ledger
            found.append(_Original(row, places[sample], "only the archive has it already" if gone else fault))
        else:
            archived = sample in scanned and scanned[sample]["container"] is not None
            fault = "it is inside an archive file" if archived else "its source is not in configs/library.yaml"
            found.append(_Original(row, Path(), fault))
    return found


_GONE = "it is not there any more"


def _fault(path: Path, root: Path, tracked: frozenset[Path], names: Counter[str]) -> str | None:
    """Return why a file is not to be removed, None if it may."""
    real = Path(os.path.realpath(root)) / path.relative_to(root)
    try:
        state = path.lstat()
    except OSError:
        return _GONE
    if not stat.S_ISREG(state.st_mode) or os.path.realpath(path) != str(real):
        return "it is reached through a link"
    if any(place in tracked for place in (real, *real.parents)):
        return "Git or DVC tracks it"
    if names[str(real)] > 1:
        return "another source has the same file"
    return None


def _entry(row: Mapping[str, Any]) -> Entry:
    return Entry(**{field.name: row[field.name] for field in fields(Entry)})


def _no_links(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0))


def _identity(state: os.stat_result) -> tuple[int, ...]:
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns


def _frees(state: os.stat_result) -> int:
    return state.st_size if state.st_nlink == 1 else 0
