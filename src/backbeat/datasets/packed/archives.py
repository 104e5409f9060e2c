"""Reading members of a zip archive in place.

The central directory is read once. Members are then read by offset, so that a worker process needs the path and a few
numbers, not 91,108 directory entries.
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from backbeat.datasets.packed.zipdirectory import LOCAL_HEADER, LocalBytes, read_directory
from backbeat.errors import ArchiveError

_ENCRYPTED = 0x1


@dataclass(frozen=True, order=True)
class Member:
    """One file in an archive; sorted by its place in it."""

    offset: int
    name: str
    crc32: int
    stored_bytes: int
    size_bytes: int
    method: int


def list_members(archive: Path) -> dict[str, Member]:
    """Return the files of a zip archive by name, in the order of their place in it.

    Raises:
        ArchiveError: if it is not a whole zip archive, if two members have one name or bytes in common.
    """
    try:
        entries = read_directory(LocalBytes(archive))
    except OSError as error:
        raise ArchiveError(
            f"{archive} is not a whole zip archive",
            expected="a zip file with its central directory at the end",
            got=str(error),
            next_step="fetch it again: backbeat datasets verify, then dvc repro",
        ) from error
    return {
        entry.name: Member(entry.offset, entry.name, entry.crc32, entry.stored_bytes, entry.size_bytes, entry.method)
        for entry in entries
        if not entry.is_dir
    }


def read_member(archive: Path, member: Member) -> bytes:
    """Return the content of one member, its CRC-32 checked.

    Raises:
        ArchiveError: if it is cut off, damaged, encrypted or compressed in an unknown way.
    """
    where = f"{member.name} in {archive.name}"
    with archive.open("rb") as stream:
        stream.seek(member.offset)
        header = stream.read(LOCAL_HEADER.size)
        if len(header) < LOCAL_HEADER.size or not header.startswith(b"PK\x03\x04"):
            raise _damaged(where, "a local file header", "something else")
        _, _, flags, *_, name_length, extra_length = LOCAL_HEADER.unpack(header)
        if flags & _ENCRYPTED:
            raise _damaged(where, "plain content", "encrypted content")
        stream.seek(name_length + extra_length, 1)
        stored = stream.read(member.stored_bytes)
    if len(stored) < member.stored_bytes:
        raise _damaged(where, f"{member.stored_bytes:,} bytes", f"{len(stored):,}")
    content = _inflated(stored, member, where)
    if len(content) != member.size_bytes:
        raise _damaged(where, f"{member.size_bytes:,} bytes", f"{len(content):,}")
    if zlib.crc32(content) != member.crc32:
        raise _damaged(where, f"CRC-32 {member.crc32:08x}", f"{zlib.crc32(content):08x}")
    return content


def _inflated(stored: bytes, member: Member, where: str) -> bytes:
    if member.method == zipfile.ZIP_STORED:
        return stored
    if member.method != zipfile.ZIP_DEFLATED:
        raise _damaged(where, "stored or deflated content", f"compression method {member.method}")
    # One byte more than declared is enough to notice a bomb, and all that it gets.
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        return inflater.decompress(stored, member.size_bytes + 1)
    except zlib.error as error:
        raise _damaged(where, "deflated content", str(error)) from error


def _damaged(where: str, expected: str, got: str) -> ArchiveError:
    step = "fetch the archive again: backbeat datasets verify, then dvc repro"
    return ArchiveError(f"{where} is damaged", expected=expected, got=got, next_step=step)
