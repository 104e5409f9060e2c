"""How long a download goes on trying."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Patience:
    """By default some six minutes without a new byte, and one minute for a host that is not there.

    Args:
        tries: failures in a row, without one new byte, after which a server that does answer is given up.
        unreachable_tries: the same for a host that has never sent a byte.
        first_wait_s: the wait after the first failure; each further one doubles it.
        longest_wait_s: no wait is longer, whatever the server asks for.
        connect_timeout_s: how long to wait for a connection.
        idle_timeout_s: how long to wait for a byte.
    """

    tries: int = 10
    unreachable_tries: int = 3
    first_wait_s: float = 1.0
    longest_wait_s: float = 120.0
    connect_timeout_s: float = 20.0
    idle_timeout_s: float = 60.0

    def wait_s(self, failures: int, asked_s: float | None) -> float:
        """Return how long to wait after so many failures in a row, or as the server asks, within the limit."""
        doubling_s = self.first_wait_s * 2.0 ** (failures - 1)
        return min(doubling_s if asked_s is None else asked_s, self.longest_wait_s)
