"""One reader for whatever a file of a dataset is: a tar, a zip, a zip in several parts, or just a file.

What it is follows from its name, as the record spells it: `.tar`, `.tar.gz` and the like, `.zip`; a `.zip` beside
files of the same stem that end in `.z01`, `.z02`, … is their last part. Everything else is one item. Archives within
archives stay closed.

- Iterators hold files open: whoever stops early closes them (`contextlib.closing`), or leaves it to chance.
- Items come in the order of the archive, one at a time; nothing grows with their number but the directory of a zip.
- A tar is read from front to back: its items are read before the next one is asked for, or not at all.
- The CRC-32 of a zip's member is compared whenever its content is read; a tar's own checks are in
  `backbeat.datasets.packed.tars`.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from backbeat.datasets.packed.items import CHUNK_BYTES, Item, file_item
from backbeat.datasets.packed.tars import tar_items
from backbeat.datasets.packed.zipdirectory import ByteSource, Entry, LocalBytes, SplitBytes, read_directory
from backbeat.datasets.packed.zips import zip_items
from backbeat.datasets.places import RAW_FOLDER, staged_path
from backbeat.datasets.registry import Record, RecordFile, load_record
from backbeat.errors import ArchiveError, DownloadError
from backbeat.progress import Advance, progress
from backbeat.storage.staging import open_staging

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_TAR = re.compile(r"\.(tar|tar\.(gz|bz2|xz)|tgz|tbz2?|txz)$", re.IGNORECASE)
_ZIP = re.compile(r"\.zip$", re.IGNORECASE)
_PART = re.compile(r"\.z(\d{2,})$", re.IGNORECASE)

_log = logging.getLogger(__name__)


def is_tar(name: str) -> bool:
    """Return whether a file of this name is a tar."""
    return _TAR.search(name) is not None


def is_zip(name: str) -> bool:
    """Return whether a file of this name is a zip, or the last part of one."""
    return _ZIP.search(name) is not None


def iterate(path: Path) -> Generator[Item]:
    """Yield the files in an archive, in its order, or the file itself.

    Raises:
        ArchiveError: if the archive is damaged, with the member and the place; the items before it were right.
    """
    if _PART.search(path.name):
        step = f"name {path.with_suffix('.zip').name}, the last part"
        raise ArchiveError(f"{path} is one part of a zip", expected="a whole archive", got="a part", next_step=step)
    siblings = [sibling for sibling in path.parent.iterdir() if sibling.stem == path.stem]
    yield from files_only(members_of([*_parts(siblings), path] if is_zip(path.name) else [path], path.name), path.name)


def dataset_items(project: Path, name: str, *, label: str | None = None) -> Generator[Item]:
    """Return the items of all files of a dataset that is here, in the order of its record.

    Args:
        project: the root of the repository.
        name: the name of the record.
        label: what to call the work in a progress bar; None for none.

    Raises:
        ConfigError: if there is no such record or it is not valid.
        DownloadError: if a file of it is not here.
        ArchiveError: while iterating, if an archive is damaged.
    """
    record = load_record(project, name)
    missing = [file.path for file in record.files if _place(project, record, file) is None]
    if missing:
        raise DownloadError(
            f"{name} is not here",
            expected=f"{len(record.files)} files",
            got=f"{', '.join(missing[:5])}{', …' if missing[5:] else ''} missing",
            next_step=f"backbeat datasets download {name}, or dvc pull",
        )
    return _dataset_items(project, record, label)


def is_here(project: Path, record: Record) -> bool:
    """Return whether `dataset_items` would find every file of a dataset."""
    return all(_place(project, record, file) is not None for file in record.files)


def grouped(files: Sequence[RecordFile]) -> list[tuple[RecordFile, ...]]:
    """Return the files of a record, the parts of a split zip together, in their order, where the first of them was."""
    groups: dict[str, list[RecordFile]] = {}
    last_parts = {_ZIP.sub("", file.path) for file in files if is_zip(file.path)}
    for file in files:
        stem = _PART.sub("", _ZIP.sub("", file.path))
        groups.setdefault(stem if stem in last_parts else file.path, []).append(file)
    return [tuple(sorted(group, key=lambda file: _part_number(file.path))) for group in groups.values()]


def files_only(members: Iterator[Item], where: str) -> Generator[Item]:
    """Yield the members that are files; say how many were links or devices, since their content is not read."""
    others = 0
    for member in members:
        if member.kind == "file":
            yield member
        others += member.kind == "other"
    if others:
        _log.warning("%s: %d links, sparse files or devices left out", where, others)


def members_of(parts: Sequence[Path], name: str, advance: Advance = lambda _: None) -> Generator[Item]:
    """Yield every member of an archive, folders and links too, or a file that is none.

    Args:
        parts: where the archive is; several paths only for a zip in parts, the last one last.
        name: its name in the record, which says what kind of archive it is.
        advance: called with the bytes of the archive that have been read.

    Raises:
        ArchiveError: if it is damaged.
    """
    if is_tar(name):
        with io.BufferedReader(_Counted(parts[0], advance), CHUNK_BYTES) as stream:
            yield from tar_items(stream, name)
    elif is_zip(name):
        source, entries = open_zip(parts)
        yield from zip_items(source, entries, advance)
    else:
        item = file_item(parts[0], name)
        yield item
        advance(item.size_bytes)


def open_zip(parts: Sequence[Path]) -> tuple[ByteSource, list[Entry]]:
    """Return the bytes and the directory of a zip in one part or several, the last one last.

    Raises:
        ArchiveError: if it is damaged.
    """
    if len(parts) == 1:
        whole = LocalBytes(parts[0])
        return whole, read_directory(whole)
    split = SplitBytes(parts)
    return split, read_directory(split, [part.stat().st_size for part in parts])


class _Counted(io.FileIO):
    """A file that says how much of it has been read."""

    def __init__(self, path: Path, advance: Advance) -> None:
        super().__init__(path)
        self._advance = advance

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        count = super().readinto(buffer)
        self._advance(count or 0)
        return count


def _dataset_items(project: Path, record: Record, label: str | None) -> Generator[Item]:
    groups = [
        (group[-1], [place for file in group if (place := _place(project, record, file)) is not None])
        for group in grouped(record.files)
    ]
    total_bytes = sum(place.stat().st_size for _, places in groups for place in places)
    shown = contextlib.nullcontext(lambda _: None) if label is None else progress(label, total_bytes, unit="bytes")
    with shown as advance:
        for file, places in groups:
            if places[-1].is_dir():
                yield from _unpacked_items(project / RAW_FOLDER / record.name, record, file)
            else:
                yield from files_only(members_of(places, file.path, advance), file.path)


def _place(project: Path, record: Record, file: RecordFile) -> Path | None:
    """Return the staged file, or what a pull has brought, or the folder with what came out of it; None if nothing."""
    linked = project / RAW_FOLDER / record.name / file.path
    for place in (staged_path(open_staging(project), file), linked):
        if place.is_file():
            return place
    return linked.parent if file.unpack is not None and linked.parent.is_dir() else None


def _unpacked_items(folder: Path, record: Record, file: RecordFile) -> Generator[Item]:
    others = {other.path for other in record.files}
    for path in sorted((folder / file.path).parent.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in others:
            yield file_item(path, name)


def _parts(siblings: Sequence[Path]) -> list[Path]:
    return sorted((path for path in siblings if _PART.search(path.name)), key=lambda path: _part_number(path.name))


def _part_number(name: str) -> float:
    part = _PART.search(PurePosixPath(name).name)
    return int(part[1]) if part else float("inf")
