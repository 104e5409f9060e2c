"""What a dataset is made of, wherever it is read from: a name, a size, and bytes that are read when asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from backbeat.errors import ArchiveError

CHUNK_BYTES = 2**20

Kind = Literal["file", "folder", "other"]


class Content(Protocol):
    """Where the bytes of an item come from."""

    def head(self, count: int) -> bytes:
        """Return the first `count` bytes, or all if there are fewer, unchecked."""

    def chunks(self) -> Iterator[bytes]:
        """Yield all bytes, in pieces of about a mebibyte; whoever gets to the end knows that they are right."""


@dataclass(frozen=True)
class Item:
    """One file of a dataset: a member of an archive, or a file of its own.

    Args:
        name: its path inside the archive, with `/`; a file of its own has the path of the record.
        size_bytes: the size of its content, as its container says.
        content: where its bytes come from.
        kind: `other` is a link, a device, or anything else that is no file; only archives have what is not `file`.
    """

    name: str
    size_bytes: int
    content: Content
    kind: Kind = "file"

    def head(self, count: int) -> bytes:
        """Return the first `count` bytes without reading the rest, where that is possible; they are not checked."""
        return self.content.head(count)

    def chunks(self) -> Iterator[bytes]:
        """Yield the content in pieces; that it is whole and undamaged is known at the end.

        Raises:
            ArchiveError: if it is cut off, damaged or not of the announced size.
        """
        size_bytes = 0
        for chunk in self.content.chunks():
            size_bytes += len(chunk)
            yield chunk
        if size_bytes != self.size_bytes:
            raise ArchiveError(f"{self.name} is damaged", expected=f"{self.size_bytes:,} bytes", got=f"{size_bytes:,}")

    def read(self) -> bytes:
        """Return the whole content, checked.

        Raises:
            ArchiveError: if it is cut off, damaged or not of the announced size.
        """
        return b"".join(self.chunks())


@dataclass(frozen=True)
class FileContent:
    """The content of a file on this machine."""

    path: Path

    def head(self, count: int) -> bytes:
        """Return the first bytes."""
        with self.path.open("rb") as stream:
            return stream.read(count)

    def chunks(self) -> Iterator[bytes]:
        """Yield all bytes."""
        with self.path.open("rb") as stream:
            while chunk := stream.read(CHUNK_BYTES):
                yield chunk


@dataclass(frozen=True)
class BytesContent:
    """Content that is in memory."""

    content: bytes

    def head(self, count: int) -> bytes:
        """Return the first bytes."""
        return self.content[:count]

    def chunks(self) -> Iterator[bytes]:
        """Yield all bytes."""
        yield self.content


class StreamContent:
    """Content that comes by once: it is read before what follows it, or not at all.

    Args:
        read: returns up to so many of the next bytes; nothing when there are no more.
        where: what to call it in messages.
    """

    def __init__(self, read: Callable[[int], bytes], where: str) -> None:
        self._read, self._where = read, where
        self._kept = b""
        self.over = False

    def head(self, count: int) -> bytes:
        """Return the first bytes, which `chunks` will yield again."""
        self._require_time()
        while len(self._kept) < count and (more := self._read(count - len(self._kept))):
            self._kept += more
        return self._kept[:count]

    def chunks(self) -> Iterator[bytes]:
        """Yield all bytes, once."""
        self._require_time()
        if self._kept:
            yield self._kept
        while chunk := self._read(CHUNK_BYTES):
            yield chunk
        self.over = True

    def _require_time(self) -> None:
        if self.over:
            raise ValueError(f"{self._where} has gone by: it is read once, and before the next item is asked for")


def file_item(path: Path, name: str) -> Item:
    """Return a file on this machine as an item."""
    return Item(name, path.stat().st_size, FileContent(path))
