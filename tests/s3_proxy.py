"""A reverse proxy in front of an S3 server that refuses, lies, stops and dawdles as a test tells it to.

Switches are attributes, which a test sets and changes while the proxy runs. `Host` goes through unchanged, so that
signatures stay right; bodies stream both ways in small pieces. Kinds of requests: LIST, HEAD, GET, PUT, POST and
DELETE, and ASK for questions about the bucket itself (`?versioning`, `?lifecycle`).
"""

from __future__ import annotations

import contextlib
import datetime as dt
import email.utils
import http.client
import os
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.sax.saxutils import escape

from local_server import local_server

PIECE_BYTES = 2**15

# What Backblaze B2 does not know, and says so.
UNKNOWN_TO_B2 = ("x-amz-checksum-", "x-amz-sdk-checksum-algorithm", "x-amz-trailer")

# Beyond it S3 refuses to talk.
MOST_SKEW_S = 15 * 60


@dataclass(frozen=True)
class Asked:
    """A request.

    Args:
        kind: LIST, HEAD, GET, PUT, POST, DELETE or ASK.
        key: the object's key; of a listing the prefix.
        seen: how many requests of this kind and key there were before.
        path: the path with the query, as sent.
    """

    kind: str
    key: str
    seen: int
    path: str


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one request; the default is nothing.

    Args:
        status: answered instead of asking the server, with `code` and `message` as S3's XML.
        code: S3's name for the error.
        message: its sentence.
        details: further elements of the XML, such as the right `Region`.
        headers: added to the answer, in place of those of the same name.
        then: how the connection ends early: `close`, `reset` (RST) or `hang` until the proxy is released.
        after: how many bytes of the body pass before: of the answer, or of what is sent by PUT and POST, where at
            least its size means that all is stored and the answer is lost. None: before there is an answer.
        short_by: how many bytes the body of the answer lacks at its end, with a `Content-Length` that agrees.
        flip_at: the place in the answer's body of a byte that is sent with one bit wrong.
    """

    status: int | None = None
    code: str = ""
    message: str = ""
    details: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    then: Literal["close", "reset", "hang"] | None = None
    after: int | None = None
    short_by: int = 0
    flip_at: int | None = None


def refusal(status: int, code: str, message: str = "", **headers: str) -> Fault:
    """Return a fault that answers with one of S3's errors; `Retry_After="1"` becomes a header."""
    return Fault(status, code, message, headers={name.replace("_", "-"): text for name, text in headers.items()})


GOOD = Fault()
DENIED = refusal(403, "AccessDenied", "Access Denied")
EXPIRED = refusal(400, "ExpiredToken", "The provided token has expired.")
SLOW_DOWN = refusal(503, "SlowDown", "Please reduce your request rate.", Retry_After="0")
BROKEN = refusal(500, "InternalError", "An internal error occurred.")


class _Line:
    """One direction of a network: a rate that all connections share."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free_at = 0.0

    def wait(self, size_bytes: int, bytes_per_s: float | None) -> None:
        if bytes_per_s is None:
            return
        with self._lock:
            self._free_at = max(self._free_at, time.monotonic()) + size_bytes / bytes_per_s
            until = self._free_at
        time.sleep(max(0.0, until - time.monotonic()))


class S3Proxy:
    """The proxy's switches and its memory.

    Attributes:
        endpoint_url: its address.
        refused: kinds of requests answered with 403 AccessDenied, as a key without the right gets it.
        like_b2: whether checksum headers are answered with 400, as Backblaze B2 does.
        rules: asked one after the other what goes wrong with a request; the first that returns a fault decides.
        hanging: whether nothing at all is answered, until `release`.
        round_trip_s: added before every answer, and once for every connection.
        bytes_per_s: the rate of each direction; None for as fast as it goes.
        clock_shift_s: how far the server's clock is ahead: in `Date`, and beyond 15 minutes it refuses.
        counts: how many requests there were of each kind.
        methods: the same by HTTP method.
        asked: every request, in the order of arrival.
        up_bytes: bytes of bodies that came from clients.
        down_bytes: bytes of bodies that were sent to them.
    """

    def __init__(self, upstream: str) -> None:
        self.endpoint_url = ""
        self.refused: set[str] = set()
        self.like_b2 = True
        self.rules: list[Callable[[Asked], Fault | None]] = []
        self.hanging = False
        self.round_trip_s = 0.0
        self.bytes_per_s: float | None = None
        self.clock_shift_s = 0.0
        self._upstream = upstream
        self._lock = threading.Lock()
        self._released = threading.Event()
        self._up, self._down = _Line(), _Line()
        self.forget()

    def forget(self) -> None:
        """Set all counters to nothing."""
        with self._lock:
            self.counts: Counter[str] = Counter()
            self.methods: Counter[str] = Counter()
            self.asked: list[Asked] = []
            self.up_bytes = self.down_bytes = 0
            self._seen: Counter[tuple[str, str]] = Counter()

    def heal(self) -> None:
        """Turn every switch off; counters stay, and what hangs is let go."""
        self.refused, self.like_b2, self.rules, self.hanging = set(), True, [], False
        self.round_trip_s, self.bytes_per_s, self.clock_shift_s = 0.0, None, 0.0
        self.release()

    def release(self) -> None:
        """Close the connections that hang."""
        released, self._released = self._released, threading.Event()
        released.set()

    def spoil(self, fault: Fault, *kinds: str, key: str = "", first: int = 0, times: int | None = None) -> None:
        """Add a rule.

        Args:
            fault: what goes wrong.
            kinds: with which kinds of requests; all if none is named.
            key: with keys that contain this.
            first: how many such requests, counted from now on, are left alone before.
            times: and how many are spoilt then; None for all.
        """
        met = 0

        def rule(asked: Asked) -> Fault | None:
            nonlocal met
            if (kinds and asked.kind not in kinds) or key not in asked.key:
                return None
            met += 1
            return fault if met > first and (times is None or met <= first + times) else None

        self.rules.append(rule)

    def slow_line(self, round_trip_ms: float = 30, mbit_per_s: float = 100) -> None:
        """Be as far away, and on as narrow a line, as this."""
        self.round_trip_s, self.bytes_per_s = round_trip_ms / 1000, mbit_per_s * 1e6 / 8

    def _note(self, method: str, path: str) -> tuple[Asked, Fault]:
        address = urlsplit(path)
        query = dict(parse_qsl(address.query, keep_blank_values=True))
        key = unquote(address.path.lstrip("/").partition("/")[2])
        kind = method
        if method == "GET" and not key:
            kind, key = ("LIST", query.get("prefix", "")) if not query or query.keys() & _LISTING else ("ASK", "")
        with self._lock:
            asked = Asked(kind, key, self._seen[kind, key], path)
            self._seen[kind, key] += 1
            self.counts[kind] += 1
            self.methods[method] += 1
            self.asked.append(asked)
            if self.hanging:
                return asked, Fault(then="hang")
            if kind in self.refused:
                return asked, DENIED
            return asked, next((fault for rule in self.rules if (fault := rule(asked))), GOOD)

    def _carry(self, size_bytes: int, *, up: bool) -> None:
        (self._up if up else self._down).wait(size_bytes, self.bytes_per_s)
        with self._lock:
            if up:
                self.up_bytes += size_bytes
            else:
                self.down_bytes += size_bytes


_LISTING = {"list-type", "prefix", "delimiter", "marker", "max-keys", "continuation-token"}


@contextlib.contextmanager
def s3_proxy(upstream_url: str) -> Iterator[S3Proxy]:
    """Stand in front of the S3 server at `upstream_url`, on a free port of this machine, until the block ends."""
    proxy = S3Proxy(urlsplit(upstream_url).netloc)
    with local_server(_RequestHandler, proxy, proxy.heal) as http:
        proxy.endpoint_url = f"http://127.0.0.1:{http.server_port}"
        yield proxy


class _EndedError(Exception):
    """The connection ended before its time, as it was meant to."""


class _RequestHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Any

    def handle(self) -> None:
        self.upstream = http.client.HTTPConnection(self.server.state._upstream, timeout=120)
        self.is_new = True
        # A client may hang up without reading everything: some of them are killed. So may the server behind.
        with contextlib.suppress(OSError, http.client.HTTPException, _EndedError), contextlib.closing(self.upstream):
            super().handle()

    def handle_expect_100(self) -> bool:
        # `100 Continue` is sent when the body is wanted, which it is not where the request is refused.
        return True

    def do_GET(self) -> None:
        proxy: S3Proxy = self.server.state
        asked, fault = proxy._note(self.command, self.path)
        time.sleep(proxy.round_trip_s * (2 if self.is_new else 1))
        self.is_new = False
        fault = self._protocol_fault(proxy) or fault
        self.asked, self.fault = asked, fault
        if fault.status is not None:
            self._refuse(fault)
        elif fault.then is not None and fault.after is None:
            self._end()
        else:
            self._forward()

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815

    def _protocol_fault(self, proxy: S3Proxy) -> Fault | None:
        unknown = next((name for name in self.headers if name.lower().startswith(UNKNOWN_TO_B2)), None)
        if proxy.like_b2 and unknown is not None:
            return refusal(
                400, "InvalidArgument", f"Unsupported header '{unknown.lower()}' received for this API call."
            )
        stamp = self.headers["X-Amz-Date"]
        if stamp is None or abs(proxy.clock_shift_s) <= MOST_SKEW_S:
            return None
        # The client's clock is that of this machine, whatever the client: only the shift tells them apart.
        text = "The difference between the request time and the current time is too large."
        return refusal(403, "RequestTimeTooSkewed", text)

    def _refuse(self, fault: Fault) -> None:
        if "100-continue" in (self.headers["Expect"] or "").lower():
            self.close_connection = True
        else:
            for _ in self._body():
                pass
        details = {"Code": fault.code, "Message": fault.message} | fault.details
        body = "".join(f"<{name}>{escape(text)}</{name}>" for name, text in details.items())
        content = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{body}</Error>'.encode()
        headers = {"Content-Type": "application/xml", "Date": email.utils.formatdate(usegmt=True)}
        self._send_head(fault.status or 0, [*headers.items(), ("Content-Length", str(len(content)))])
        if self.command != "HEAD":
            self.wfile.write(content)

    def _forward(self) -> None:
        skip = {"connection", "expect", "keep-alive"}
        self.upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in skip:
                self.upstream.putheader(name, value)
        self.upstream.endheaders()
        is_sending = self.command in {"PUT", "POST"}
        passed = 0
        for piece, framed in self._body():
            if is_sending and self.fault.then is not None and passed + len(piece) > (self.fault.after or 0):
                # What the server behind has got is not all that it was promised, so that it stores nothing.
                self.upstream.close()
                self._end()
            passed += len(piece)
            self.upstream.send(framed)
        answer = self.upstream.getresponse()
        if is_sending and self.fault.then is not None:
            answer.read()
            self._end()
        self._answer(answer)

    def _body(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield the pieces of the request's body, and each as it is framed for the server behind."""
        proxy: S3Proxy = self.server.state
        if "100-continue" in (self.headers["Expect"] or "").lower():
            self.send_response_only(100)
            self.end_headers()
        if "chunked" not in (self.headers["Transfer-Encoding"] or "").lower():
            left = int(self.headers["Content-Length"] or 0)
            while left:
                piece = self._read(min(left, PIECE_BYTES))
                proxy._carry(len(piece), up=True)
                left -= len(piece)
                yield piece, piece
            return
        while size := int(self.rfile.readline().split(b";")[0], 16):
            left = size
            while left:
                piece = self._read(min(left, PIECE_BYTES))
                proxy._carry(len(piece), up=True)
                left -= len(piece)
                yield piece, b"%x\r\n%s\r\n" % (len(piece), piece)
            self.rfile.readline()
        trailer = b"".join(iter(self.rfile.readline, b"\r\n"))
        yield b"", b"0\r\n" + trailer + b"\r\n"

    def _read(self, size_bytes: int) -> bytes:
        piece = self.rfile.read1(size_bytes)  # type: ignore[attr-defined]
        if not piece:
            raise _EndedError
        return bytes(piece)

    def _answer(self, answer: http.client.HTTPResponse) -> None:
        proxy: S3Proxy = self.server.state
        fault = self.fault
        headers = [(name, value) for name, value in answer.getheaders() if name.lower() != "connection"]
        size = answer.headers["Content-Length"]
        if fault.short_by and size is not None:
            size = str(max(0, int(size) - fault.short_by))
            headers = [(name, size if name.lower() == "content-length" else value) for name, value in headers]
        self._send_head(answer.status, headers)
        if self.command == "HEAD":
            answer.read()
            return
        at, left = 0, None if size is None else int(size)
        is_chunked = answer.headers["Transfer-Encoding"] is not None
        while piece := answer.read(PIECE_BYTES):
            if fault.flip_at is not None and at <= fault.flip_at < at + len(piece):
                place = fault.flip_at - at
                piece = piece[:place] + bytes([piece[place] ^ 1]) + piece[place + 1 :]
            allowed = piece if left is None else piece[:left]
            if fault.then is not None:
                allowed = allowed[: max(0, (fault.after or 0) - at)]
            proxy._carry(len(allowed), up=False)
            if allowed:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(allowed), allowed) if is_chunked else allowed)
            at += len(piece)
            if left is not None:
                left -= len(allowed)
            if fault.then is not None and at >= (fault.after or 0):
                self._end()
        if is_chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _send_head(self, status: int, headers: list[tuple[str, str]]) -> None:
        proxy: S3Proxy = self.server.state
        now = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=proxy.clock_shift_s)
        replaced = {"date": email.utils.format_datetime(now, usegmt=True)}
        replaced |= {name.lower(): text for name, text in self.fault.headers.items()}
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, replaced.pop(name.lower(), value))
        for name, value in replaced.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()

    def _end(self) -> None:
        """End the connection as the fault says."""
        if self.fault.then == "hang":
            self.server.state._released.wait()
        if self.fault.then == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # Closed at once: the orderly way would say FIN first.
            os.close(self.connection.detach())
        self.close_connection = True
        raise _EndedError

    def log_message(self, *_: object) -> None:
        """Keep quiet: what matters is counted."""
