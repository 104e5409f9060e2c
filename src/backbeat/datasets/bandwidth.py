"""How fast the network was the last time, so that a plan can say how long it will take."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from backbeat.storage.staging import Staging, new_file

# Less than this says more about waiting for answers than about the line.
TELLING_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Bandwidth:
    """A measured or given speed of the network."""

    bytes_per_s: float

    @property
    def mbps(self) -> float:
        """The same in megabits per second, as lines are sold."""
        return self.bytes_per_s * 8 / 1e6


def note_bandwidth(staging: Staging, size_bytes: int, elapsed_s: float) -> None:
    """Remember the speed of a download, if it was long enough to tell."""
    if size_bytes >= TELLING_BYTES and elapsed_s > 0:
        with new_file(staging.root / "bandwidth.json") as part:
            part.write_text(json.dumps(asdict(Bandwidth(size_bytes / elapsed_s))), encoding="utf-8")


def last_bandwidth(staging: Staging) -> Bandwidth | None:
    """Return the speed of the last download that told one; None if there was none yet."""
    try:
        return Bandwidth(**json.loads((staging.root / "bandwidth.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
