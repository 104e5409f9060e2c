"""The central directory of a zip, read from any place that bytes can be read at.

After APPNOTE.TXT 6.3.10. What the standard library leaves out is what this is for: archives on a server and archives
in several parts, where each member *ends*, and sizes that nobody has checked yet.

- The tail is read once. If the directory is not all in there, it is read once more, as one piece. No number in a header
  makes anything read or allocate more than the archive holds.
- Zip64 values are taken where a field says that it does not fit; bytes before the archive shift all offsets.
- In an archive of several parts, an offset counts from the first byte of the first part.
- Refused: what is cut off, counts that disagree, directories and members that lie outside or over each other, names
  that are empty, hold a NUL, are not in their encoding, or are there twice.

A member's bytes (local header, content, data descriptor) are all in `[offset, end)`.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple, Protocol

from backbeat.errors import ArchiveError

# The end record and the longest comment that can be behind it.
TAIL_BYTES = 22 + 0xFFFF

# A hundred times E-GMD's, which has 91,108 members. What is longer would fill the memory.
MOST_DIRECTORY_BYTES = 2**30

LOCAL_HEADER = struct.Struct("<4s5H3L2H")
CENTRAL = struct.Struct("<4s6H3L5H2L")
END = struct.Struct("<4s4H2LH")
END64 = struct.Struct("<4sQ2H2L4Q")
LOCATOR = struct.Struct("<4sLQL")
_UTF8, _ENCRYPTED = 0x800, 0x1
ZIP64_FIELD = 0x0001
FULL16, FULL32 = 0xFFFF, 0xFFFFFFFF


class ByteSource(Protocol):
    """An archive, wherever it is."""

    @property
    def name(self) -> str:
        """What it is called in messages."""

    @property
    def size_bytes(self) -> int:
        """How many bytes there are."""

    def read_at(self, offset: int, count: int) -> bytes:
        """Return `count` bytes from `offset` on; fewer only at the end."""


class LocalBytes:
    """A file on this machine."""

    def __init__(self, path: Path) -> None:
        self.path, self.name, self.size_bytes = path, path.name, path.stat().st_size

    def read_at(self, offset: int, count: int) -> bytes:
        """Return `count` bytes from `offset` on; fewer only at the end."""
        with self.path.open("rb") as file:
            file.seek(offset)
            return file.read(max(0, min(count, self.size_bytes - offset)))


class SplitBytes:
    """Files on this machine, one behind the other: the parts of a split zip, `.z01` first and `.zip` last."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._parts = [LocalBytes(path) for path in paths]
        self._starts = list(accumulate((part.size_bytes for part in self._parts), initial=0))
        self.name = self._parts[-1].name
        self.size_bytes = self._starts[-1]

    def read_at(self, offset: int, count: int) -> bytes:
        """Return `count` bytes from `offset` on, out of as many parts as it takes; fewer only at the end."""
        pieces = []
        for part, start in zip(self._parts, self._starts, strict=False):
            first, last = max(offset, start), min(offset + count, start + part.size_bytes)
            if first < last:
                pieces.append(part.read_at(first - start, last - first))
        return b"".join(pieces)


@dataclass(frozen=True, slots=True)
class Entry:
    """One member, as the central directory knows it.

    Args:
        offset: where its local header is.
        end: where the next member, or the directory, is.
        name: as people see it; that of a folder ends in `/`.
        crc32: of its content.
        stored_bytes: how long its content is in the archive.
        size_bytes: how long it is when inflated.
        method: 0 stored, 8 deflated.
        flags: bit 0 says encrypted, bit 3 that a data descriptor follows, bit 11 that the name is UTF-8.
        record: its record in the directory, verbatim.
    """

    offset: int
    end: int
    name: str
    crc32: int
    stored_bytes: int
    size_bytes: int
    method: int
    flags: int
    record: bytes

    @property
    def is_dir(self) -> bool:
        """Whether it is a folder."""
        return self.name.endswith("/")

    @property
    def is_encrypted(self) -> bool:
        """Whether its content is encrypted."""
        return bool(self.flags & _ENCRYPTED)

    @property
    def unix_mode(self) -> int | None:
        """Type and permissions, as `stat` has them; None if the archive was not made on a Unix."""
        return int.from_bytes(self.record[40:42], "little") if self.record[5] == 3 else None


# Of an entry, all but its end.
_Row = tuple[int, str, int, int, int, int, int, bytes]


class _End(NamedTuple):
    """What the end records say: of the directory, and of the disk that it begins on."""

    directory_end: int
    members: int
    directory_bytes: int
    offset: int
    disk: int
    last_disk: int


def read_directory(source: ByteSource, part_sizes: Sequence[int] | None = None) -> list[Entry]:
    """Return the members of a zip, folders too, in the order of their places in it.

    Args:
        source: the archive; one in several parts as one run of bytes.
        part_sizes: the sizes of these parts in bytes; None for an archive in one part.

    Raises:
        ArchiveError: if it is not a whole zip archive, or its directory contradicts itself.
    """
    tail_bytes = min(TAIL_BYTES, source.size_bytes)
    tail_start = source.size_bytes - tail_bytes
    tail = source.read_at(tail_start, tail_bytes)
    end = _read_end(source, tail, tail_start, part_sizes)
    starts = list(accumulate(part_sizes or (), initial=0))
    start = end.directory_end - end.directory_bytes
    shift = start - (starts[end.disk] + end.offset)
    if start < 0 or shift < 0 or (part_sizes is not None and shift):
        got = f"a directory of {end.directory_bytes:,} bytes at {end.offset:,} that ends at {end.directory_end:,}"
        raise _not_whole(source, f"a directory that lies within {source.size_bytes:,} bytes", got)
    if not 46 * end.members <= end.directory_bytes <= MOST_DIRECTORY_BYTES:
        got = f"{end.directory_bytes:,} bytes for {end.members:,} members"
        raise _not_whole(source, f"a directory of a possible size, at most {MOST_DIRECTORY_BYTES:,} bytes", got)
    if start >= tail_start:
        directory = tail[start - tail_start :][: end.directory_bytes]
    else:
        directory = source.read_at(start, end.directory_bytes)
    rows = list(_rows(source, directory, shift, starts[: len(part_sizes or (0,))]))
    if len(rows) != end.members:
        raise _not_whole(source, f"{end.members:,} members", f"{len(rows):,} in the directory")
    return _entries(source, rows, start)


def _read_end(source: ByteSource, tail: bytes, tail_start: int, part_sizes: Sequence[int] | None) -> _End:
    at = tail.rfind(b"PK\x05\x06")
    while at >= 0 and (at + 22 > len(tail) or at + 22 + int.from_bytes(tail[at + 20 : at + 22], "little") != len(tail)):
        at = tail.rfind(b"PK\x05\x06", 0, at)
    if at < 0:
        raise _not_whole(source, "a zip file with its central directory at the end", "no such end")
    _, last_disk, disk, _, count, size_bytes, offset, _ = END.unpack_from(tail, at)
    end = _End(tail_start + at, count, size_bytes, offset, disk, last_disk)
    if (locator_at := end.directory_end - LOCATOR.size) >= 0:
        locator = source.read_at(locator_at, LOCATOR.size) if locator_at < tail_start else tail[at - 20 : at]
        if locator.startswith(b"PK\x06\x07"):
            end = _read_end64(source, locator, locator_at, part_sizes)
    disks = len(part_sizes or (0,))
    if end.last_disk != disks - 1 or end.disk >= disks:
        got = f"the last of {end.last_disk + 1}"
        raise _not_whole(source, f"an archive in {disks} part{'s' * (disks > 1)}", got)
    return end


def _read_end64(source: ByteSource, locator: bytes, locator_at: int, part_sizes: Sequence[int] | None) -> _End:
    _, disk, offset, _ = LOCATOR.unpack(locator)
    starts = list(accumulate(part_sizes or (), initial=0))
    # Where it should be by its usual length, which no bytes before the archive can shift; else where it says.
    for at in (locator_at - END64.size, starts[min(disk, len(starts) - 1)] + offset):
        found = source.read_at(at, END64.size) if 0 <= at <= locator_at - END64.size else b""
        if found.startswith(b"PK\x06\x06"):
            _, _, _, _, last_disk, disk, _, count, size_bytes, offset = END64.unpack(found)
            return _End(at, count, size_bytes, offset, disk, last_disk)
    raise _not_whole(source, "a zip64 end of the directory", "something else where it should be")


def _rows(source: ByteSource, directory: bytes, shift: int, starts: Sequence[int]) -> Iterator[_Row]:
    at, parse = 0, CENTRAL.unpack_from
    while at < len(directory):
        if directory[at : at + 4] != b"PK\x01\x02" or at + 46 > len(directory):
            raise _not_whole(source, "a record in the directory", f"something else at byte {at:,} of it")
        (
            _, _, _, flags, method, _, _, crc32, stored_bytes, size_bytes,
            name_bytes, extra_bytes, comment_bytes, disk, _, _, offset,
        ) = parse(directory, at)  # fmt: skip
        next_at = at + 46 + name_bytes + extra_bytes + comment_bytes
        record = directory[at:next_at]
        name = _name(source, record[46 : 46 + name_bytes], flags)
        if next_at > len(directory):
            raise _not_whole(source, f"the whole record of {name}", "its beginning")
        if stored_bytes == FULL32 or size_bytes == FULL32 or offset == FULL32 or disk == FULL16:
            extra, values = record[46 + name_bytes :][:extra_bytes], (size_bytes, stored_bytes, offset, disk)
            size_bytes, stored_bytes, offset, disk = _unfolded(source, name, extra, values)
        if disk >= len(starts):
            raise _not_whole(source, f"{name} in one of {len(starts)} parts", f"part {disk + 1}")
        yield starts[disk] + offset + shift, name, crc32, stored_bytes, size_bytes, method, flags, record
        at = next_at


def _name(source: ByteSource, raw: bytes, flags: int) -> str:
    try:
        name = raw.decode("utf-8" if flags & _UTF8 else "cp437")
    except UnicodeDecodeError as error:
        raise _not_whole(source, "names in UTF-8", str(error)) from error
    if not name or "\0" in name:
        raise _not_whole(source, "names for all members", f"{name!r}")
    return name


def _unfolded(source: ByteSource, name: str, extra: bytes, values: tuple[int, int, int, int]) -> list[int]:
    """Return size, stored size, offset and disk, each from the zip64 field if its own place in the record is full."""
    widths, full = (8, 8, 8, 4), (FULL32, FULL32, FULL32, FULL16)
    wide = next((body for kind, body in extra_fields(extra) if kind == ZIP64_FIELD), b"")
    unfolded, at = [], 0
    for value, width, limit in zip(values, widths, full, strict=True):
        if value < limit:
            unfolded.append(value)
            continue
        if at + width > len(wide):
            raise _not_whole(source, f"a zip64 field of all that is in it for {name}", f"{len(wide)} bytes")
        unfolded.append(int.from_bytes(wide[at : at + width], "little"))
        at += width
    return unfolded


def extra_fields(extra: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the fields of an extra block, each with its kind; what is no whole field at the end is left."""
    at = 0
    while at + 4 <= len(extra):
        kind, count = struct.unpack_from("<2H", extra, at)
        yield kind, extra[at + 4 : at + 4 + count]
        at += 4 + count


def _entries(source: ByteSource, rows: list[_Row], directory_start: int) -> list[Entry]:
    names = [row[1] for row in rows]
    if len(set(names)) < len(names):
        what = f"{source.name} has two members of one name"
        raise ArchiveError(what, expected="unique names", got=Counter(names).most_common(1)[0][0])
    rows.sort(key=itemgetter(0))
    ends = [*(row[0] for row in rows[1:]), directory_start]
    entries = []
    for row, end in zip(rows, ends, strict=False):
        entry = Entry(row[0], end, *row[1:])
        if entry.offset + LOCAL_HEADER.size + entry.stored_bytes > end:
            raise ArchiveError(
                f"{entry.name} in {source.name} is damaged",
                expected=f"content within the {end - entry.offset:,} bytes up to the next member",
                got=f"{entry.stored_bytes:,} bytes from {entry.offset:,} on",
                next_step="fetch the archive again: backbeat datasets verify, then dvc repro",
            )
        entries.append(entry)
    return entries


def _not_whole(source: ByteSource, expected: str, got: str) -> ArchiveError:
    return ArchiveError(
        f"{source.name} is not a whole zip archive",
        expected=expected,
        got=got,
        next_step="fetch it again: backbeat datasets verify, then dvc repro",
    )
