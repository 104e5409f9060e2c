"""Writing a zip out of members of another one: their bytes as they are, a new directory behind them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from dataclasses import replace
from typing import BinaryIO

from backbeat.datasets.packed.zipdirectory import (
    CENTRAL,
    END,
    END64,
    FULL16,
    FULL32,
    LOCAL_HEADER,
    LOCATOR,
    ZIP64_FIELD,
    Entry,
    extra_fields,
)

_NEEDS_ZIP64 = 45  # the version that a reader must know


def write_directory(stream: BinaryIO, entries: Iterable[Entry]) -> None:
    """Write the directory of an archive in one part behind its last member; zip64 where something does not fit.

    Args:
        stream: stands behind the last member, and counts from the beginning of the archive.
        entries: the members with their new offsets; all else of their records stays as it is.
    """
    start, count = stream.tell(), 0
    for count, entry in enumerate(entries, start=1):  # noqa: B007 - the last one is how many there are
        stream.write(_record(entry))
    size_bytes = stream.tell() - start
    if count >= FULL16 or size_bytes >= FULL32 or start >= FULL32:
        end64 = stream.tell()
        sizes = (count, count, size_bytes, start)
        stream.write(END64.pack(b"PK\x06\x06", END64.size - 12, _NEEDS_ZIP64, _NEEDS_ZIP64, 0, 0, *sizes))
        stream.write(LOCATOR.pack(b"PK\x06\x07", 0, end64, 1))
    shown = min(count, FULL16)
    stream.write(END.pack(b"PK\x05\x06", 0, 0, shown, shown, min(size_bytes, FULL32), min(start, FULL32), 0))


def stored_anew(entry: Entry, content: bytes) -> tuple[Entry, bytes]:
    """Return a member of the same name and date but of another content, stored, and its bytes in the archive.

    Args:
        entry: the member that it takes the place of.
        content: less than 4 GiB.
    """
    fields = list(CENTRAL.unpack_from(entry.record))
    name_bytes = fields[10]
    raw_name = entry.record[46 : 46 + name_bytes]
    # Of the flags only the one about the name is still true; extra fields may be about the old content.
    fields[2], fields[3], fields[4] = 20, entry.flags & 0x800, 0
    fields[7], fields[8], fields[9] = zlib.crc32(content), len(content), len(content)
    fields[11] = fields[12] = 0
    header = LOCAL_HEADER.pack(b"PK\x03\x04", 20, *fields[3:10], name_bytes, 0) + raw_name
    made = replace(
        entry,
        end=entry.offset + len(header) + len(content),
        crc32=fields[7],
        stored_bytes=len(content),
        size_bytes=len(content),
        method=0,
        flags=fields[3],
        record=CENTRAL.pack(*fields) + raw_name,
    )
    return made, header + content


def _record(entry: Entry) -> bytes:
    """Return the record of a member in an archive of one part; what does not fit goes into a zip64 field."""
    fields = list(CENTRAL.unpack_from(entry.record))
    name_bytes, extra_bytes = fields[10], fields[11]
    name, extra = entry.record[46 : 46 + name_bytes], entry.record[46 + name_bytes :][:extra_bytes]
    comment = entry.record[46 + name_bytes + extra_bytes :]
    places = {9: entry.size_bytes, 8: entry.stored_bytes, 16: entry.offset}
    wide = b"".join(struct.pack("<Q", value) for value in places.values() if value >= FULL32)
    kept = b"".join(
        struct.pack("<2H", kind, len(body)) + body for kind, body in extra_fields(extra) if kind != ZIP64_FIELD
    )
    extra = (struct.pack("<2H", ZIP64_FIELD, len(wide)) + wide if wide else b"") + kept
    for place, value in places.items():
        fields[place] = min(value, FULL32)
    fields[2] = max(fields[2], _NEEDS_ZIP64) if wide else fields[2]
    fields[11], fields[13] = len(extra), 0
    return CENTRAL.pack(*fields) + name + extra + comment
