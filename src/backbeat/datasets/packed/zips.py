"""Reading the members of a zip, whose bytes may be in one file, in several parts, or on a server.

Sizes and checksums are those of the central directory. A member is never given more room than they say.
"""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from backbeat.datasets.packed.items import CHUNK_BYTES, Item, Kind
from backbeat.datasets.packed.zipdirectory import LOCAL_HEADER, ByteSource, Entry
from backbeat.errors import ArchiveError
from backbeat.progress import Advance


@dataclass(frozen=True)
class _ZipContent:
    source: ByteSource
    entry: Entry

    def head(self, count: int) -> bytes:
        head = b""
        for piece in self._plain(max(count, 4096)):
            head += piece[: count - len(head)]
            if len(head) >= count:
                break
        return head

    def chunks(self) -> Iterator[bytes]:
        crc32 = size_bytes = 0
        for piece in self._plain(CHUNK_BYTES):
            size_bytes += len(piece)
            if size_bytes > self.entry.size_bytes:
                raise self._damaged(f"{self.entry.size_bytes:,} bytes", "more")
            crc32 = zlib.crc32(piece, crc32)
            yield piece
        if size_bytes != self.entry.size_bytes:
            raise self._damaged(f"{self.entry.size_bytes:,} bytes", f"{size_bytes:,}")
        if crc32 != self.entry.crc32:
            raise self._damaged(f"CRC-32 {self.entry.crc32:08x}", f"{crc32:08x}")

    def _plain(self, piece_bytes: int) -> Iterator[bytes]:
        if self.entry.is_encrypted:
            raise self._damaged("plain content", "encrypted content")
        if self.entry.method == zipfile.ZIP_STORED:
            return self._stored(piece_bytes)
        if self.entry.method == zipfile.ZIP_DEFLATED:
            return self._inflated(piece_bytes)
        raise self._damaged("stored or deflated content", f"compression method {self.entry.method}")

    def _inflated(self, piece_bytes: int) -> Iterator[bytes]:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            for stored in self._stored(piece_bytes):
                # What one piece may become is limited, whatever the archive would like it to.
                yield inflater.decompress(stored, CHUNK_BYTES)
                while inflater.unconsumed_tail:
                    yield inflater.decompress(inflater.unconsumed_tail, CHUNK_BYTES)
            yield inflater.flush()
        except zlib.error as error:
            raise self._damaged("deflated content", str(error)) from error
        if not inflater.eof:
            raise self._damaged("deflated content", "content that does not end")

    def _stored(self, piece_bytes: int) -> Iterator[bytes]:
        begin = self._begin()
        for done in range(0, self.entry.stored_bytes, piece_bytes):
            count = min(piece_bytes, self.entry.stored_bytes - done)
            piece = self.source.read_at(begin + done, count)
            if len(piece) < count:
                raise self._damaged(f"{self.entry.stored_bytes:,} bytes", f"{done + len(piece):,}")
            yield piece

    def _begin(self) -> int:
        header = self.source.read_at(self.entry.offset, LOCAL_HEADER.size)
        if len(header) < LOCAL_HEADER.size or not header.startswith(b"PK\x03\x04"):
            raise self._damaged("a local file header", "something else")
        *_, name_length, extra_length = LOCAL_HEADER.unpack(header)
        return self.entry.offset + LOCAL_HEADER.size + int(name_length) + int(extra_length)

    def _damaged(self, expected: str, got: str) -> ArchiveError:
        return ArchiveError(
            f"{self.entry.name} at byte {self.entry.offset:,} of {self.source.name} is damaged",
            expected=expected,
            got=got,
            next_step="fetch the archive again: backbeat datasets download --verify NAME",
        )


def entry_kind(entry: Entry) -> Kind:
    """Return whether a member is a file, a folder or something else; not every program says so."""
    if entry.is_dir:
        return "folder"
    return "file" if stat.S_IFMT(entry.unix_mode or 0) in {0, stat.S_IFREG} else "other"


def zip_item(source: ByteSource, entry: Entry) -> Item:
    """Return one member of a zip as an item."""
    return Item(entry.name, entry.size_bytes, _ZipContent(source, entry), entry_kind(entry))


def zip_items(source: ByteSource, entries: Iterable[Entry], advance: Advance = lambda _: None) -> Iterator[Item]:
    """Yield members of a zip as items, in the given order, folders and links too.

    Args:
        source: the zip.
        entries: the members.
        advance: called with the bytes of the zip that each one took, when the next is asked for.
    """
    for entry in entries:
        yield zip_item(source, entry)
        advance(entry.stored_bytes)
