"""How far DVC is, for logs: DVC itself draws its bars on terminals only."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from backbeat.progress import PLAIN_INTERVAL_S, progress

# Looking takes at most this share of the time: a listing of a large bucket is many requests.
_MOST_OF_THE_TIME = 0.05


@contextlib.contextmanager
def arriving(label: str, total_bytes: int, arrived_bytes: Callable[[], int]) -> Iterator[Callable[[], None]]:
    """Yield a function to be called again and again, which now and then prints how much has arrived.

    Args:
        label: what is being done, in a word or two.
        total_bytes: how much is to arrive.
        arrived_bytes: finds out how much has.
    """
    if sys.stderr.isatty():
        yield lambda: None
        return
    shown_bytes, next_at = 0, time.monotonic() + PLAIN_INTERVAL_S
    with progress(label, total_bytes, unit="bytes") as advance:

        def look() -> None:
            nonlocal shown_bytes, next_at
            began_at = time.monotonic()
            if began_at < next_at:
                return
            now_bytes = arrived_bytes()
            advance(now_bytes - shown_bytes)
            shown_bytes = now_bytes
            took_s = time.monotonic() - began_at
            next_at = began_at + max(PLAIN_INTERVAL_S, took_s / _MOST_OF_THE_TIME)

        yield look
