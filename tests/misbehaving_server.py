"""An HTTP server on this machine that does, one request after the other, exactly what a script of answers says.

Without a script it is a good server: strong ETag, Range, If-Range, 416. Each answer of the script spoils one thing
of one request; when the script is used up, the server is good again. Every request is recorded.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from local_server import local_server


@dataclass(frozen=True)
class Answer:
    """What is wrong with one answer; the default is that nothing is.

    Args:
        status: sent instead of the right one, with an empty body unless `body` is given.
        body: served instead of the file from this answer on (as a new version, with another ETag).
        headers: added, in place of those of the same name; None removes one.
        ignore_range: whether to send the whole file whatever was asked for.
        ignore_if_range: whether to send the range even if the file has changed.
        drop_after: how many bytes of the body to send before the connection is cut.
        stall_after: how many bytes of the body to send before nothing more comes, until the server's `go_on` is set.
        flip_byte: the place in the body of a byte to send with one bit wrong.
    """

    status: int | None = None
    body: bytes | None = None
    headers: dict[str, str | None] = field(default_factory=dict)
    ignore_range: bool = False
    ignore_if_range: bool = False
    drop_after: int | None = None
    stall_after: int | None = None
    flip_byte: int | None = None


GOOD = Answer()


@dataclass(frozen=True)
class Seen:
    """What one request asked for."""

    path: str
    range: str | None
    if_range: str | None
    method: str = "GET"
    authorization: str | None = None


class MisbehavingServer:
    """The server's file, its script and its memory."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.script: list[Answer] = []
        self.pages: dict[str, Answer] = {}  # by path with query: what is always answered there
        self.seen: list[Seen] = []
        self.stalled = threading.Event()
        self.go_on = threading.Event()
        # With pieces, a body takes its time: a millisecond for each of them.
        self.piece_bytes: int | None = None
        # What answers are drawn from when the script is used up.
        self.lies: Callable[[], Answer] | None = None
        self.address = ""

    def url(self, name: str = "file.zip") -> str:
        return f"{self.address}/{name}"

    def ranges(self) -> list[str | None]:
        return [seen.range for seen in self.seen]

    def next_answer(self) -> Answer:
        answer = self.script.pop(0) if self.script else self.lies() if self.lies else GOOD
        if answer.body is not None and answer.status is None:
            self.body = answer.body
        return answer


def etag_of(body: bytes) -> str:
    return f'"{hashlib.sha256(body).hexdigest()[:16]}"'


@contextlib.contextmanager
def misbehaving_server(body: bytes) -> Iterator[MisbehavingServer]:
    """Serve `body` on a free port of this machine until the block ends."""
    server = MisbehavingServer(body)
    with local_server(_RequestHandler, server, server.go_on.set) as http:
        server.address = f"http://127.0.0.1:{http.server_port}"
        yield server


class _RequestHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    def handle(self) -> None:
        # A client may hang up without reading everything: some of them are killed.
        with contextlib.suppress(ConnectionError):
            super().handle()

    def do_GET(self) -> None:
        server: MisbehavingServer = self.server.state
        seen = self.headers["Range"], self.headers["If-Range"], self.command, self.headers["Authorization"]
        server.seen.append(Seen(self.path, *seen))
        answer = server.pages.get(self.path) or server.next_answer()
        if answer.status is not None:
            return self._send(answer, answer.status, {}, answer.body or b"")
        body, etag = server.body, etag_of(server.body)
        changed = self.headers["If-Range"] not in {None, etag} and not answer.ignore_if_range
        headers: dict[str, str | None] = {"ETag": etag, "Content-Type": "application/zip"}
        if self.headers["Range"] is None or changed or answer.ignore_range:
            return self._send(answer, 200, headers, body)
        first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
        start = int(first or max(0, len(body) - int(last)))
        end = min(int((first and last) or len(body) - 1), len(body) - 1)
        if start >= len(body):
            return self._send(answer, 416, headers | {"Content-Range": f"bytes */{len(body)}"}, b"")
        headers["Content-Range"] = f"bytes {start}-{end}/{len(body)}"
        return self._send(answer, 206, headers, body[start : end + 1])

    def do_HEAD(self) -> None:
        self.do_GET()

    def _send(self, answer: Answer, status: int, headers: dict[str, str | None], body: bytes) -> None:
        headers = {"Content-Length": str(len(body))} | headers | answer.headers
        if "chunked" in (headers.get("Transfer-Encoding") or ""):
            body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:1000], body[1000:])) + b"0\r\n\r\n"
        self.send_response(status)
        for name, value in headers.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if answer.flip_byte is not None:
            body = body[: answer.flip_byte] + bytes([body[answer.flip_byte] ^ 1]) + body[answer.flip_byte + 1 :]
        cuts = [cut for cut in (answer.drop_after, answer.stall_after) if cut is not None]
        self.close_connection = bool(cuts) or headers["Content-Length"] is None
        body = body[: min([len(body), *cuts])]
        piece_bytes = self.server.state.piece_bytes or len(body) or 1
        for start in range(0, len(body), piece_bytes):
            self.server.state.go_on.wait(0.001 if start else 0)
            self.wfile.write(body[start : start + piece_bytes])
        if answer.stall_after is not None:
            self.server.state.stalled.set()
            self.server.state.go_on.wait()

    def log_message(self, *_: object) -> None:
        """Keep quiet: what matters is in `seen`."""
