"""An HTTP server on this machine that knows ranges as well as Apache does, and forgets what a test wants it to.

It sends one range, the last bytes, and several ranges as `multipart/byteranges`; it honors `If-Range`, and counts what
it is asked for and what it sends.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from local_server import local_server

BOUNDARY = "THIS_STRING_SEPARATES"
PIECE_BYTES = 2**16

Ranges = list[tuple[int, int]]


@dataclass
class RangeServer:
    """The server's file, what it cannot do, and what it has done.

    Args:
        body: the file.
        url: where it is.
        ranges: whether it knows ranges at all.
        suffixes: whether it can count from the end.
        many: what it does when asked for several ranges: `parts`, `whole` (as S3 does), `first` of them alone, or
            `refused`.
        validator: the header that tells versions apart; None for none.
        change_at: before which request (0 is the first) the file becomes `other_body`.
        other_body: the file from then on.
        refuse: how many requests are answered with 503 from request `refuse_at` on.
        drops: after how many bytes of the body the connection is cut, for each of the next answers with parts; None for
            not.
        shift: added to the first byte in every `Content-Range`, for so many answers.
        encoding: sent as `Content-Encoding`.
        flip: places of the file that are sent wrong, for as many times.
    """

    body: bytes
    url: str = ""
    ranges: bool = True
    suffixes: bool = True
    many: str = "parts"
    validator: str | None = "ETag"
    change_at: int | None = None
    other_body: bytes = b""
    refuse: int = 0
    refuse_at: int = 0
    drops: list[int | None] = field(default_factory=list)
    shift: list[int] = field(default_factory=list)
    encoding: str | None = None
    flip: dict[int, int] = field(default_factory=dict)
    stall_at: int | None = None  # from which request on nothing is answered: connections are cut at `go_on`

    requests: int = 0
    body_bytes: int = 0
    asked: list[str | None] = field(default_factory=list)
    if_range: list[str | None] = field(default_factory=list)
    authorization: list[str | None] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    stalled: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)

    @property
    def version(self) -> str:
        return _version_of(self.body)


@functools.lru_cache(maxsize=8)
def _version_of(body: bytes) -> str:
    return f'"{hashlib.sha256(body).hexdigest()[:16]}"'


@contextlib.contextmanager
def range_server(body: bytes) -> Iterator[RangeServer]:
    """Serve `body` on a free port of this machine until the block ends."""
    server = RangeServer(body)
    with local_server(_RequestHandler, server, server.go_on.set) as http:
        server.url = f"http://127.0.0.1:{http.server_port}/some.zip"
        yield server


class _RequestHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    def handle(self) -> None:
        # A client may hang up without reading everything: that is what it does with an answer that it does not want.
        with contextlib.suppress(ConnectionError):
            super().handle()

    def do_GET(self) -> None:
        state: RangeServer = self.server.state
        with state.lock:
            number = state.requests
            state.requests += 1
            state.asked.append(self.headers["Range"])
            state.if_range.append(self.headers["If-Range"])
            state.authorization.append(self.headers["Authorization"])
            if state.change_at == number:
                state.body = state.other_body
        if state.stall_at is not None and number >= state.stall_at:
            state.stalled.set()
            state.go_on.wait()
            self.close_connection = True
            return None
        if state.refuse and number >= state.refuse_at:
            state.refuse -= 1
            return self._send(503, {"Retry-After": "0"}, [b""])
        headers = {} if state.validator is None else {state.validator: state.version}
        if state.encoding is not None:
            headers["Content-Encoding"] = state.encoding
        asked = self._ranges(state)
        if asked is None or self.headers["If-Range"] not in {None, state.version}:
            return self._send(200, headers, [state.body])
        if not asked:
            return self._send(416, headers | {"Content-Range": f"bytes */{len(state.body)}"}, [b""])
        if len(asked) == 1 or state.many == "first":
            start, end = asked[0]
            headers["Content-Range"] = self._content_range(state, start, end)
            return self._send(206, headers, [_flipped(state, start, end)])
        if state.many == "refused":
            return self._send(416, headers, [b""])
        if state.many == "whole":
            return self._send(200, headers, [state.body])
        headers["Content-Type"] = f"multipart/byteranges; boundary={BOUNDARY}"
        return self._send(206, headers, self._parts(state, asked))

    def _ranges(self, state: RangeServer) -> Ranges | None:
        """Return the satisfiable ones; None where the header is to be ignored."""
        header = self.headers["Range"]
        if header is None or not state.ranges:
            return None
        found: Ranges = []
        size = len(state.body)
        for part in header.removeprefix("bytes=").split(","):
            first, _, last = part.strip().partition("-")
            if not first and not state.suffixes:
                return None
            start = max(0, size - int(last)) if not first else int(first)
            end = size if not first or not last else min(size, int(last) + 1)
            if start < end:
                found.append((start, end))
        return found

    def _content_range(self, state: RangeServer, start: int, end: int) -> str:
        shift = state.shift.pop(0) if state.shift else 0
        return f"bytes {start + shift}-{end - 1}/{len(state.body)}"

    def _parts(self, state: RangeServer, asked: Ranges) -> list[bytes]:
        parts = []
        for start, end in asked:
            lines = f"\r\n--{BOUNDARY}\r\nContent-Type: application/zip\r\n"
            lines += f"Content-Range: {self._content_range(state, start, end)}\r\n\r\n"
            parts += [lines.encode(), _flipped(state, start, end)]
        return [*parts, f"\r\n--{BOUNDARY}--\r\n".encode()]

    def _send(self, status: int, headers: dict[str, str], pieces: list[bytes]) -> None:
        state: RangeServer = self.server.state
        body = b"".join(pieces)
        drop = state.drops.pop(0) if status == 206 and state.drops else None
        with state.lock:
            state.statuses.append(status)
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if drop is not None:
            self.close_connection = True
            body = body[:drop]
        for start in range(0, len(body), PIECE_BYTES):
            piece = body[start : start + PIECE_BYTES]
            self.wfile.write(piece)
            with state.lock:
                state.body_bytes += len(piece)

    def log_message(self, *_: object) -> None:
        """Keep quiet: what matters is counted."""


def _flipped(state: RangeServer, start: int, end: int) -> bytes:
    content = bytearray(state.body[start:end])
    for place, times in state.flip.items():
        if start <= place < end and times:
            content[place - start] ^= 1
            state.flip[place] -= 1
    return bytes(content)
