"""Proving a member of a zip while its bytes arrive: its header, its inflated size, its CRC-32."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from backbeat.datasets.packed.zipdirectory import LOCAL_HEADER, Entry
from backbeat.errors import ArchiveError

_CHUNK_BYTES = 2**20
# In the record of the directory: how long the name is, and where it begins (APPNOTE.TXT 4.3.12).
_NAME_BYTES_AT, _NAME_AT = 28, 46

_STORED, _DEFLATED = 0, 8


class MemberCheck:
    """One member, fed with the bytes of `[offset, end)` in their order.

    Args:
        entry: what the directory says about it.
        archive: what the archive is called in messages.
    """

    def __init__(self, entry: Entry, archive: str) -> None:
        self._entry, self._archive = entry, archive
        self._header = bytearray()
        self._name = entry.record[_NAME_AT:][: int.from_bytes(entry.record[_NAME_BYTES_AT:][:2], "little")]
        self._left = entry.stored_bytes
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS) if entry.method == _DEFLATED else None
        self._crc32 = self._size_bytes = 0
        if entry.is_encrypted or entry.method not in {_STORED, _DEFLATED}:
            got = "encrypted content" if entry.is_encrypted else f"compression method {entry.method}"
            raise self._damaged("stored or deflated content, not encrypted", got)

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Take more bytes, and yield the content that they are, in small pieces; to be iterated to its end.

        Raises:
            ArchiveError: if they cannot belong to this member.
        """
        content = self._behind_header(chunk)[: self._left]
        self._left -= len(content)
        for piece in self._inflated(content):
            self._crc32 = zlib.crc32(piece, self._crc32)
            self._size_bytes += len(piece)
            if self._size_bytes > self._entry.size_bytes:
                raise self._damaged(f"{self._entry.size_bytes:,} bytes", "more")
            yield piece

    def finish(self) -> None:
        """Say that there are no more bytes.

        Raises:
            ArchiveError: if what there was is not the member.
        """
        if self._header[LOCAL_HEADER.size :][: len(self._name)] != self._name:
            raise self._damaged("a local file header with its name", "one with another name")
        if self._left or self._size_bytes != self._entry.size_bytes:
            raise self._damaged(f"{self._entry.size_bytes:,} bytes", f"{self._size_bytes:,}")
        if self._crc32 != self._entry.crc32:
            raise self._damaged(f"CRC-32 {self._entry.crc32:08x}", f"{self._crc32:08x}")

    def _behind_header(self, chunk: bytes) -> memoryview:
        view = memoryview(chunk)
        wanted = LOCAL_HEADER.size
        while len(self._header) < wanted and view:
            count = min(wanted - len(self._header), len(view))
            self._header += view[:count]
            view = view[count:]
            if len(self._header) >= LOCAL_HEADER.size:
                wanted = self._header_bytes()
        return view

    def _header_bytes(self) -> int:
        signature, *_, name_bytes, extra_bytes = LOCAL_HEADER.unpack_from(self._header)
        if signature != b"PK\x03\x04":
            raise self._damaged("a local file header", "something else")
        count = LOCAL_HEADER.size + int(name_bytes) + int(extra_bytes)
        if self._entry.offset + count + self._entry.stored_bytes > self._entry.end:
            raise self._damaged("content that ends before the next member", f"a header of {count:,} bytes")
        return count

    def _inflated(self, content: memoryview) -> Iterator[bytes]:
        if self._inflater is None:
            yield bytes(content)
            return
        try:
            piece = self._inflater.decompress(content, _CHUNK_BYTES)
            while piece:
                yield piece
                piece = self._inflater.decompress(self._inflater.unconsumed_tail, _CHUNK_BYTES)
        except zlib.error as error:
            raise self._damaged("deflated content", str(error)) from error

    def _damaged(self, expected: str, got: str) -> ArchiveError:
        return ArchiveError(
            f"{self._entry.name} in {self._archive} is damaged",
            expected=expected,
            got=got,
            next_step="fetch it again",
        )
