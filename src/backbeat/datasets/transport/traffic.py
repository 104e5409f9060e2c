"""Counting what parts of a file cost on the network."""

from __future__ import annotations

import threading
from dataclasses import dataclass


@dataclass(frozen=True)
class Traffic:
    """What has been asked for and what has come; a request that is repeated counts again.

    Args:
        requests: how many.
        asked_bytes: the ranges in them.
        received_bytes: what was read of the bodies, with the lines between several parts.
    """

    requests: int = 0
    asked_bytes: int = 0
    received_bytes: int = 0


class Meter:
    """Counts for several threads."""

    def __init__(self) -> None:
        self._requests = self._asked_bytes = self._received_bytes = 0
        self._lock = threading.Lock()

    def asked(self, requests: int, asked_bytes: int) -> None:
        """Count requests, and the bytes that they ask for."""
        with self._lock:
            self._requests += requests
            self._asked_bytes += asked_bytes

    def received(self, received_bytes: int) -> None:
        """Count bytes of a body."""
        with self._lock:
            self._received_bytes += received_bytes

    @property
    def traffic(self) -> Traffic:
        """The counts so far."""
        with self._lock:
            return Traffic(self._requests, self._asked_bytes, self._received_bytes)
