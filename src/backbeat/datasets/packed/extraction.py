"""Taking an archive apart where its layout cannot be read in place: all of it as declared, or nothing.

What is refused is in `backbeat.datasets.packed.extraction_rules`; one such member and nothing is extracted.

Files are made in a fresh folder `<name>.part` beside the target, each under a name that was not there (O_EXCL) and
through no link (O_NOFOLLOW), then read again and compared with the listing (names, sizes, CRC-32), synced, and the
folder is renamed. A killed extraction leaves the `.part` folder, which the next one removes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import zlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from backbeat.datasets.packed.containers import is_tar, is_zip, members_of, open_zip
from backbeat.datasets.packed.extraction_rules import Rules
from backbeat.datasets.packed.items import CHUNK_BYTES, Item
from backbeat.datasets.registry import Record, RecordFile, Unpack
from backbeat.errors import ArchiveError
from backbeat.provenance import digest_of
from backbeat.storage.staging import Staging, disk_errors, require_space

KIND = "unpacked"


@dataclass(frozen=True)
class Extracted:
    """What came out of an archive.

    Args:
        folder: where it is.
        names: the files, relative to the folder, in the order of the archive.
        size_bytes: their sizes together.
    """

    folder: Path
    names: tuple[str, ...]
    size_bytes: int


def extract(
    archive: Path, folder: Path, limits: Unpack, *, name: str | None = None, earlier: Sequence[Path] = ()
) -> Extracted:
    """Extract an archive into a new folder, completely or not at all.

    Args:
        archive: a tar, compressed or not, or a zip; the last part of a zip in parts.
        folder: what to make; it must not exist.
        limits: how many files and bytes may come out, at most.
        name: what the archive is called if its path does not say what it is.
        earlier: the other parts of a zip in parts, in their order.

    Raises:
        ArchiveError: if the archive is damaged, or holds what is not allowed or declared; nothing is left then.
        StorageError: if the disk is or would be full, or the folder is there already.
    """
    part = folder.with_name(f"{folder.name}.part")
    label = name or archive.name
    if not is_tar(label) and not is_zip(label):
        raise ArchiveError(f"{label} cannot be extracted", expected=".tar, .tar.gz, .zip or the like", got=label)
    with disk_errors(folder):
        if folder.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(folder))
        require_space(folder.parent, _needed_bytes([*earlier, archive], label, limits), label)
        folder.parent.mkdir(parents=True, exist_ok=True)
        if part.exists():
            shutil.rmtree(part)
        try:
            part.mkdir()
            written = _write_all(members_of([*earlier, archive], label), part, Rules(label, limits))
            _verify(part, written, label)
            _take_name(part, folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return Extracted(folder, tuple(written), sum(file.size_bytes for file in written.values()))


def unpacked(
    staging: Staging, record: Record, file: RecordFile, archive: Path, earlier: Sequence[Path] = ()
) -> dict[str, Path]:
    """Return what came out of an archive of a dataset, after extracting it if that has not been done.

    Args:
        staging: the store to extract into.
        record: the dataset.
        file: the archive's entry in the record, with `unpack`.
        archive: where the archive is; the last part of a zip in parts.
        earlier: where its other parts are, in their order.

    Returns:
        the extracted files by their path below `data/raw/<name>/`: in the folder of the archive.

    Raises:
        ArchiveError: as `extract`.
        StorageError: as `extract`.
        ValueError: if the file is not to be unpacked.
    """
    if file.unpack is None:
        raise ValueError(f"{file.path} stays packed")
    folder = unpacked_folder(staging, file, archive)
    with disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f"{folder.name}.lock.part")):
            if not folder.is_dir():
                extract(archive, folder, file.unpack, name=f"{record.name}/{file.path}", earlier=earlier)
    beside = Path(file.path).parent
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {(beside / path.relative_to(folder)).as_posix(): path for path in paths}


def unpacked_folder(staging: Staging, file: RecordFile, archive: Path) -> Path:
    """Return where what comes out of an archive is or will be: it depends on the archive and on the limits alone.

    Of a zip in parts, the last part stands for all: its directory has the checksum of every member.
    """
    source = file.promise[1] if file.promise is not None else archive.name
    limits = None if file.unpack is None else file.unpack.model_dump(mode="json")
    return staging.entry(KIND, digest_of({"archive": source, "limits": limits}), "")


@dataclass(frozen=True)
class _Written:
    size_bytes: int
    crc32: int


def _needed_bytes(parts: Sequence[Path], label: str, limits: Unpack) -> int:
    """Return how much will be written, as far as the archive says; refuse what cannot be right before writing it."""
    if not is_zip(label):
        return limits.bytes
    _, entries = open_zip(parts)
    needed_bytes = sum(entry.size_bytes for entry in entries)
    if needed_bytes > limits.bytes or sum(not entry.is_dir for entry in entries) > limits.members:
        raise ArchiveError(
            f"{label} holds more than its record declares",
            expected=f"at most {limits.members:,} files of {limits.bytes:,} bytes",
            got=f"{len(entries):,} members of {needed_bytes:,} bytes",
            next_step="look at the archive, then correct `unpack` in the record",
        )
    return needed_bytes


def _write_all(members: Generator[Item], folder: Path, rules: Rules) -> dict[str, _Written]:
    written: dict[str, _Written] = {}
    with contextlib.closing(members):
        for member in members:
            name = rules.admit(member)
            if name is not None:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                written[name] = _write(member, folder / name, rules)
    return written


def _write(member: Item, path: Path, rules: Rules) -> _Written:
    crc32 = 0
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    with os.fdopen(descriptor, "wb") as stream:
        for chunk in member.chunks():
            rules.count_bytes(len(chunk), member.name)
            crc32 = zlib.crc32(chunk, crc32)
            stream.write(chunk)
    return _Written(member.size_bytes, crc32)


def _verify(folder: Path, written: dict[str, _Written], label: str) -> None:
    """Read everything again, sync it, and compare it with the listing."""
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    faults = sorted(found.symmetric_difference(written))
    faults += [name for name in sorted(found.intersection(written)) if _reread(folder / name) != written[name]]
    if faults:
        raise ArchiveError(
            f"{label}: {len(faults):,} of {len(written):,} files are not on the disk as they were written",
            expected="the files of the archive, and no others",
            got=", ".join(map(repr, faults[:20])),
            next_step="check the disk, then try again",
        )


def _reread(path: Path) -> _Written:
    crc32 = size_bytes = 0
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
        while chunk := stream.read(CHUNK_BYTES):
            crc32 = zlib.crc32(chunk, crc32)
            size_bytes += len(chunk)
    return _Written(size_bytes, crc32)


def _take_name(part: Path, folder: Path) -> None:
    for path in (*(path for path in part.rglob("*") if path.is_dir()), part):
        _sync_folder(path)
    part.rename(folder)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
