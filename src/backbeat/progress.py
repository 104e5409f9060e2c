"""Progress of long work: a bar on a terminal, a plain line now and then everywhere else.

Everything goes to standard error, so that what a command prints can be piped.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

Advance = Callable[[int], None]

# In a log file a line every few seconds says that the work goes on; more would be noise.
PLAIN_INTERVAL_S = 10.0


class _Amount(ProgressColumn):
    """Sizes for bytes, `3/7` for everything else."""

    _of_bytes, _of_items = DownloadColumn(), MofNCompleteColumn()

    def render(self, task: Task) -> Text:
        return (self._of_bytes if task.fields["unit"] == "bytes" else self._of_items).render(task)


class _Speed(TransferSpeedColumn):
    def render(self, task: Task) -> Text:
        return super().render(task) if task.fields["unit"] == "bytes" else Text("")


class _Display:
    """The one display that a terminal can have, shared by all threads; it is there while somebody shows something."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bars: Progress | None = None
        self._users = 0

    @contextlib.contextmanager
    def opened(self, console: Console) -> Iterator[Progress]:
        with self._lock:
            if self._bars is None:
                self._bars = Progress(*_columns(), console=console)
                self._bars.start()
            self._users += 1
            bars = self._bars
        try:
            yield bars
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    bars.stop()
                    self._bars = None


_display = _Display()


@contextlib.contextmanager
def progress(label: str, total: int, *, unit: str = "items", done: int = 0) -> Iterator[Advance]:
    """Show how far a piece of work is; yields a function that is called with each amount done.

    Several pieces of work may be shown at once, by several threads.

    Args:
        label: what is being done, in a word or two.
        total: the amount of work, in `unit`; 0 if it is not known.
        unit: what is counted; `bytes` also shows sizes and speed.
        done: the part of `total` that an earlier run has already done.
    """
    console = Console(stderr=True)
    shown = _bar(console, label, total, unit, done) if console.is_terminal else _lines(label, total, unit, done)
    with shown as advance:
        yield advance


@contextlib.contextmanager
def _bar(console: Console, label: str, total: int, unit: str, done: int) -> Iterator[Advance]:
    with _display.opened(console) as bars:
        task = bars.add_task(label, total=total or None, completed=done, unit=unit)
        try:
            yield lambda amount: bars.advance(task, amount)
        finally:
            # What is finished makes room for what is not; the last one stays on the screen.
            if sum(not other.finished for other in bars.tasks if other.id != task):
                bars.remove_task(task)


def _columns() -> list[ProgressColumn]:
    return [
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        _Amount(),
        _Speed(),
        TimeRemainingColumn(),
    ]


@contextlib.contextmanager
def _lines(label: str, total: int, unit: str, done: int) -> Iterator[Advance]:
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    started = last = time.monotonic()
    count = done

    def advance(amount: int) -> None:
        nonlocal count, last
        count += amount
        now = time.monotonic()
        if now - last < PLAIN_INTERVAL_S or (total and count >= total):
            return
        last = now
        speed = (count - done) / (now - started)
        pace = f", {decimal(int(speed))}/s" if unit == "bytes" else ""
        if total:
            remaining_s = (total - count) / max(speed, 1e-9)
            left = f"{100 * count // total} % ({count:,} of {total:,} {unit}){pace}, about {remaining_s:.0f} s left"
        else:
            left = f"{count:,} {unit}{pace}"
        console.print(f"{label}: {left}")

    yield advance
