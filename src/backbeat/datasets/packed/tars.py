"""Reading a tar from its first byte to its last, whatever it is compressed with, without ever going back.

The standard library parses the headers. In front of it stand the checks that it does not make:

- a header that is damaged or missing is the end of the archive to it, in silence; here only the two blocks of zeros
  are, and what follows them must be zeros, too;
- it reads a stream of gzip without the checksum at its end; here the archive is read to that end;
- a header may announce an extension or a sparse file of any size, which it would make room for; here an extension has
  a limit and a sparse file is no item.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any, cast

from backbeat.datasets.packed.items import CHUNK_BYTES, Item, Kind, StreamContent
from backbeat.errors import ArchiveError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# A long name, or the attributes of one member: a few hundred bytes in practice.
MAX_EXTENSION_BYTES = 2**20

# Padding after the end: a tape block, which nobody makes larger than this.
MAX_PADDING_BYTES = 2**26

_EXTENSIONS = {
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
}
# What damage makes the parsers below raise; a chain of extensions ends in the RecursionError.
_DAMAGE = (
    *(tarfile.TarError, EOFError, OSError, lzma.LZMAError, zlib.error),
    *(ValueError, OverflowError, RecursionError),
)

# What the parser takes for the end of the archive: all headers but the one of zeros.
_BAD_HEADERS = (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError, tarfile.EmptyHeaderError)  # type: ignore[attr-defined]


class _Header(tarfile.TarInfo):
    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        header = super().frombuf(buf, encoding, errors)
        if header.size < 0 or (header.type in _EXTENSIONS and header.size > MAX_EXTENSION_BYTES):
            raise tarfile.ReadError(f"a header announces {header.size:,} bytes")
        return header

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> _Header:
        try:
            return super().fromtarfile(tarfile)
        except _BAD_HEADERS as error:
            raise EOFError(f"{error} at byte {tarfile.offset:,}") from error


def tar_items(stream: io.BufferedReader[Any], where: str) -> Iterator[Item]:
    """Yield every member of a tar, plain or compressed with gzip, bzip2 or xz, in its order.

    An item can be read once, until the next one is asked for. That everything was right is known when the last one
    has been yielded and the iterator ends.

    Args:
        stream: the bytes, from the first one on; it need not be seekable.
        where: what to call the archive in messages.

    Raises:
        ArchiveError: if the archive is damaged or cut off.
    """
    with _damage(where):
        # Whoever opened the stream closes it; the archive holds nothing else.
        archive = tarfile.open(fileobj=_decompressed(stream), mode="r|", tarinfo=_Header, bufsize=CHUNK_BYTES)  # noqa: SIM115
    last = "its first member"
    while True:
        with _damage(f"{where}, after {last}"):
            header = archive.next()
            # It keeps every header that it has ever seen.
            archive.members.clear()  # type: ignore[attr-defined]
        if header is None:
            break
        name = header.name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        content = _content(archive, header, f"{name} in {where}")
        yield Item(name, header.size if header.isreg() else 0, content, _kind(header))
        content.over = True
        last = name
    with _damage(f"{where}, after {last}"):
        _read_to_the_end(cast("IO[bytes]", archive.fileobj))


def _content(archive: tarfile.TarFile, header: tarfile.TarInfo, where: str) -> StreamContent:
    # A link has the content of what it points to, which may be behind us.
    stream = archive.extractfile(header) if _kind(header) == "file" else None

    def read(count: int) -> bytes:
        with _damage(where):
            return stream.read(count) if stream is not None else b""

    return StreamContent(read, where)


def _kind(header: tarfile.TarInfo) -> Kind:
    if header.isdir():
        return "folder"
    return "file" if header.isreg() and not header.issparse() else "other"


class _Rejoined(io.RawIOBase):
    """A stream whose first bytes have been looked at."""

    def __init__(self, first: bytes, rest: io.BufferedReader[Any]) -> None:
        super().__init__()
        self._first, self._rest = first, rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        chunk = self._first[: len(view)] or self._rest.read(len(view))
        self._first = self._first[len(view) :]
        view[: len(chunk)] = chunk
        return len(chunk)


def _decompressed(stream: io.BufferedReader[Any]) -> IO[bytes]:
    # Not `peek`: that is content with the single byte that may have arrived.
    magic = stream.read(6)
    whole = io.BufferedReader(_Rejoined(magic, stream), CHUNK_BYTES)
    if magic.startswith(b"\x1f\x8b"):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=whole))
    if magic.startswith(b"BZh"):
        return bz2.BZ2File(whole)
    if magic == b"\xfd7zXZ\0":
        return lzma.LZMAFile(whole)
    return whole


def _read_to_the_end(plain: IO[bytes]) -> None:
    padding_bytes = 0
    while chunk := plain.read(CHUNK_BYTES):
        padding_bytes += len(chunk)
        if chunk.strip(b"\0") or padding_bytes > MAX_PADDING_BYTES:
            raise tarfile.ReadError("there is more after the end of the archive")


@contextlib.contextmanager
def _damage(where: str) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise ArchiveError(
            f"{where} is damaged",
            expected="a whole tar archive",
            got=str(error) or type(error).__name__,
            next_step="fetch the archive again: backbeat datasets download --verify NAME",
        ) from error
