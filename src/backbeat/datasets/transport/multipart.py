"""Bodies of partial answers: so many bytes, or several parts with lines between them (RFC 9110, 14.6)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

import requests

from backbeat.datasets.transport.spans import Span

CHUNK_BYTES = 2**20
_LONGEST_LINE_BYTES = 2**13


class BrokenBody(Exception):  # noqa: N818 - a signal, no error that anybody sees
    """A body that ended before it was all there, or goes on behind its end."""


class _Lines:
    """A body by lines and by counts."""

    def __init__(self, response: requests.Response, received: Callable[[int], None]) -> None:
        self._response, self._received, self._buffer = response, received, bytearray()

    def line(self) -> bytes:
        while (at := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > _LONGEST_LINE_BYTES:
                raise BrokenBody("a line between parts that does not end")
            self._more(2**12)
        line = bytes(self._buffer[:at]).rstrip(b"\r")
        del self._buffer[: at + 1]
        return line

    def exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._more(min(CHUNK_BYTES, count - len(self._buffer)))
        content = bytes(self._buffer[:count])
        del self._buffer[:count]
        return content

    def finish(self) -> None:
        """Read what little is behind the last part: a body that is at its end leaves its connection for the next."""
        if chunk := self._response.raw.read1(_LONGEST_LINE_BYTES, decode_content=False):
            self._received(len(chunk))

    def _more(self, count: int) -> None:
        chunk = self._response.raw.read1(count, decode_content=False)
        if not chunk:
            raise BrokenBody("the body ended early")
        self._received(len(chunk))
        self._buffer += chunk


def read_exactly(response: requests.Response, count: int, found: bytearray, received: Callable[[int], None]) -> None:
    """Append the body to `found` as it arrives.

    Args:
        response: not read yet.
        count: how long the body must be.
        found: what has arrived is in here whatever happens.
        received: called with the number of bytes that arrive.

    Raises:
        BrokenBody: if it is shorter.
    """
    left = count
    while left:
        chunk = response.raw.read1(min(CHUNK_BYTES, left), decode_content=False)
        if not chunk:
            raise BrokenBody(f"the body ended after {count - left:,} of {count:,} bytes")
        received(len(chunk))
        found += chunk
        left -= len(chunk)


def read_parts(
    response: requests.Response, spans: Sequence[Span], size_bytes: int, received: Callable[[int], None]
) -> Iterator[bytes | None]:
    """Yield the parts of an answer as they arrive; None, and nothing more, if it is not made of these parts.

    Args:
        response: not read yet, with the status 206.
        spans: what was asked for.
        size_bytes: the size of the whole file.
        received: called with the number of bytes that arrive.

    Raises:
        BrokenBody: if it ends before the last part does.
    """
    kind = response.headers.get("Content-Type", "")
    boundary = re.fullmatch(r"multipart/byteranges\s*;.*boundary=\"?([^\";]+)\"?.*", kind, re.IGNORECASE)
    if boundary is None:
        yield None
        return
    body = _Lines(response, received)
    opening = b"--" + boundary[1].encode()
    for span in spans:
        while not (line := body.line()):
            pass
        headers = []
        while line == opening and (header := body.line()):
            headers.append(header.decode("latin-1").lower().replace(" ", ""))
        if f"content-range:bytes{span.start}-{span.end - 1}/{size_bytes}" not in headers:
            yield None
            return
        yield body.exactly(span.size_bytes)
    body.finish()
