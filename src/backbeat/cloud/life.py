"""Whether a program still moves bytes, seen from outside.

On Linux: what it reads and writes, how long it computes, and whether the send queues of its connections change; DVC
reads an object whole before it sends it, which may take an hour on a slow line. Elsewhere queues cannot be seen: there
any traffic of the machine counts as life.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

# What a program does that only tries again: it looks up a name, and opens another connection.
LEAST_BYTES = 2**16
LEAST_CPU_S = 1.0


@dataclass(frozen=True)
class Signs:
    """What can be seen of a program at one moment.

    Args:
        moved_bytes: what it has read and written so far; where that cannot be seen, what the machine's network has.
        cpu_s: how long it has computed.
        queues: for each of its connections what waits to be sent and to be read.
    """

    moved_bytes: int
    cpu_s: float
    queues: dict[str, str]

    def is_life_since(self, earlier: Signs) -> bool:
        """Return whether bytes have moved in between."""
        return (
            self.moved_bytes - earlier.moved_bytes >= LEAST_BYTES
            or self.cpu_s - earlier.cpu_s >= LEAST_CPU_S
            or any(self.queues.get(name, queue) != queue for name, queue in earlier.queues.items())
        )


def signs(pid: int) -> Signs | None:
    """Return what can be seen of a process; None if it has ended."""
    try:
        process = psutil.Process(pid)
        cpu = process.cpu_times()
        if not sys.platform.startswith("linux"):
            network = psutil.net_io_counters()
            return Signs(network.bytes_sent + network.bytes_recv, cpu.user + cpu.system, {})
        moved = process.io_counters()
        return Signs(moved.read_chars + moved.write_chars, cpu.user + cpu.system, _queues(pid))
    except (psutil.Error, OSError):
        return None


def _queues(pid: int) -> dict[str, str]:
    sockets = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except OSError:
            continue
        if target.startswith("socket:["):
            sockets.add(target[8:-1])
    found = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            if fields[9] in sockets:
                found[fields[9]] = fields[4]
    return found
