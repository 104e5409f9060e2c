"""A proxy on this machine before an S3 server: it refuses what it is told to, and lies about the time."""

from __future__ import annotations

import contextlib
import datetime as dt
import http.client
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

DENIED = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>not entitled</Message></Error>"


@dataclass
class RefusingProxy:
    """What the proxy does, which can be changed at any time, and what it has seen.

    Args:
        endpoint_url: its address.
        refuses: of which requests (method, path with query) it says 403.
        answers: by the end of a path with query, a status and body of its own.
        ahead: how far its clock is ahead.
        hangs: whether it accepts requests and does not answer.
        seen: methods and paths of all requests.
    """

    endpoint_url: str
    refuses: Callable[[str, str], bool] = lambda method, path: False
    answers: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    ahead: dt.timedelta = dt.timedelta()
    hangs: bool = False
    seen: list[tuple[str, str]] = field(default_factory=list)
    go_on: threading.Event = field(default_factory=threading.Event)


@contextlib.contextmanager
def refusing_proxy(server_url: str) -> Iterator[RefusingProxy]:
    """Stand before a server on a free port of this machine until the block ends."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.daemon_threads = True
        proxy = RefusingProxy(f"http://127.0.0.1:{server.server_port}")
        server.proxy, server.upstream = proxy, urlsplit(server_url).netloc  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.go_on.set()
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            super().handle()

    def _pass_on(self) -> None:
        proxy: RefusingProxy = self.server.proxy
        proxy.seen.append((self.command, self.path))
        if self.headers.get("Expect") == "100-continue":
            self.send_response_only(100)
            self.end_headers()
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if proxy.hangs:
            proxy.go_on.wait()
        own = next((answer for end, answer in proxy.answers.items() if self.path.endswith(end)), None)
        if own is None and proxy.refuses(self.command, self.path):
            own = (403, DENIED)
        if own is not None:
            self._send(own[0], {"Content-Type": "application/xml"}, own[1])
            return
        upstream = http.client.HTTPConnection(self.server.upstream, timeout=20)
        with contextlib.closing(upstream):
            # The signature covers the host that the client believes in.
            headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
            upstream.request(self.command, self.path, body=body, headers=headers)
            answer = upstream.getresponse()
            self._send(answer.status, dict(answer.getheaders()), answer.read())

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass_on  # noqa: N815

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        proxy: RefusingProxy = self.server.proxy
        self.send_response_only(status)
        now = dt.datetime.now(dt.UTC) + proxy.ahead
        kept = {name: value for name, value in headers.items() if name.lower() not in _OWN}
        length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(body))
        for name, value in {**kept, "Date": format_datetime(now, usegmt=True), "Content-Length": length}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep quiet: what matters is in `seen`."""


_OWN = {"date", "content-length", "transfer-encoding", "connection"}
