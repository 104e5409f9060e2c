"""An HTTP server on a free port of this machine, in a thread for each connection."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class _Server(ThreadingHTTPServer):
    # Ten connections at once are common, and five would be the default.
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that hangs up, as those do that are killed, is nothing to speak of; everything else is.
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


@contextlib.contextmanager
def local_server(
    handler: type[BaseHTTPRequestHandler], state: Any = None, at_end: Callable[[], None] = lambda: None
) -> Iterator[ThreadingHTTPServer]:
    """Serve until the block ends.

    Args:
        handler: what answers; it finds `state` as `self.server.state`.
        state: what all requests share.
        at_end: called before the server stops, to let go of what hangs.
    """
    with _Server(("127.0.0.1", 0), handler) as http:
        http.state = state  # type: ignore[attr-defined]
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield http
        finally:
            at_end()
            http.shutdown()
            thread.join()
