"""How fast the network was the last time, so that a plan can say how long it will take: for each direction apart."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal

from backbeat.storage.staging import Staging, new_file

# Less than this says more about waiting for answers than about the line.
TELLING_BYTES = 16 * 2**20

# From publishers; to the bucket; from the bucket.
Direction = Literal["download", "push", "pull"]

_FILES: dict[Direction, str] = {
    "download": "bandwidth.json",
    "push": "bandwidth-push.json",
    "pull": "bandwidth-pull.json",
}


@dataclass(frozen=True)
class Bandwidth:
    """A measured or given speed of the network."""

    bytes_per_s: float

    @property
    def mbps(self) -> float:
        """The same in megabits per second, as lines are sold."""
        return self.bytes_per_s * 8 / 1e6


def note_bandwidth(staging: Staging, size_bytes: int, elapsed_s: float, direction: Direction = "download") -> None:
    """Remember the speed of a transfer, if it was long enough to tell."""
    if size_bytes >= TELLING_BYTES and elapsed_s > 0:
        with new_file(staging.root / _FILES[direction]) as part:
            part.write_text(json.dumps(asdict(Bandwidth(size_bytes / elapsed_s))), encoding="utf-8")


def last_bandwidth(staging: Staging, direction: Direction = "download") -> Bandwidth | None:
    """Return the speed of the last transfer in this direction that told one; None if there was none yet."""
    try:
        return Bandwidth(**json.loads((staging.root / _FILES[direction]).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
