"""Independent checks, each with a time limit: none that fails, breaks or hangs hides what the others find."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from backbeat.errors import BackbeatError

State = Literal["ok", "warning", "fails"]

# Longer than any answer worth waiting for: a folder of a server that is gone blocks for good.
LIMIT_S = 30.0


@dataclass(frozen=True)
class Line:
    """What a check has found.

    Args:
        name: what was looked at.
        state: `fails` is for what keeps a command from working, `warning` for what will cost somebody something.
        found: what is there, in a sentence without its full stop.
        next_step: the command to type or the thing to change; None if there is nothing to do.
    """

    name: str
    state: State
    found: str
    next_step: str | None = None


Look = Callable[[], Iterable[Line]]


@dataclass(frozen=True)
class Check:
    """Something to look at.

    Args:
        name: what it is called when it finds nothing because it broke or took too long.
        look: yields lines; those before a failure count.
        limit_s: how long it may take.
    """

    name: str
    look: Look
    limit_s: float = LIMIT_S


class Running:
    """A check that has been started, in a thread that nobody waits for longer than its limit."""

    def __init__(self, check: Check) -> None:
        self._check = check
        self._found: queue.SimpleQueue[Line | None] = queue.SimpleQueue()
        self._until = time.monotonic() + check.limit_s
        # A daemon: what hangs in the kernel must not keep the program from ending.
        threading.Thread(target=self._look, name=check.name, daemon=True).start()

    def lines(self) -> list[Line]:
        """Return what was found, as soon as the check is done or its time is up."""
        found: list[Line] = []
        while True:
            try:
                line = self._found.get(timeout=max(0.0, self._until - time.monotonic()))
            except queue.Empty:
                late = f"no answer in {self._check.limit_s:g} s"
                return [*found, Line(self._check.name, "fails", late, "look at what it waits for: a disk, a server")]
            if line is None:
                return found
            found.append(line)

    def _look(self) -> None:
        try:
            for line in self._check.look():
                self._found.put(line)
        except BackbeatError as error:
            self._found.put(line_of(self._check.name, error))
        except Exception as error:  # noqa: BLE001 - a check that breaks is one line of many
            broken = f"the check itself broke: {type(error).__name__}: {error}"
            self._found.put(Line(self._check.name, "fails", broken, "report it"))
        finally:
            self._found.put(None)


def line_of(name: str, error: BackbeatError, state: State = "fails") -> Line:
    """Return an error as a line."""
    expected = f", expected {error.expected}" if error.expected else ""
    got = f": {error.got}" if error.got else ""
    return Line(name, state, f"{error.what}{got}{expected}", error.next_step)
