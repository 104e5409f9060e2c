"""Progress of long work: a bar on a terminal, a plain line now and then everywhere else.

Everything goes to standard error, so that what a command prints can be piped.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

Advance = Callable[[int], None]

# In a log file a line every few seconds says that the work goes on; more would be noise.
PLAIN_INTERVAL_S = 10.0


@contextlib.contextmanager
def progress(label: str, total: int, *, unit: str = "items", done: int = 0) -> Iterator[Advance]:
    """Show how far a piece of work is; yields a function that is called with each amount done.

    Args:
        label: what is being done, in a word or two.
        total: the amount of work, in `unit`.
        unit: what is counted; `bytes` also shows sizes and speed.
        done: the part of `total` that an earlier run has already done.
    """
    console = Console(stderr=True)
    shown = _bar(console, label, total, unit, done) if console.is_terminal else _lines(label, total, unit, done)
    with shown as advance:
        yield advance


@contextlib.contextmanager
def _bar(console: Console, label: str, total: int, unit: str, done: int) -> Iterator[Advance]:
    amounts: list[ProgressColumn] = (
        [DownloadColumn(), TransferSpeedColumn()] if unit == "bytes" else [MofNCompleteColumn()]
    )
    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        *amounts,
        TimeRemainingColumn(),
    ]
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(label, total=total, completed=done)
        yield lambda amount: bar.advance(task, amount)


@contextlib.contextmanager
def _lines(label: str, total: int, unit: str, done: int) -> Iterator[Advance]:
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    started = last = time.monotonic()
    count = done

    def advance(amount: int) -> None:
        nonlocal count, last
        count += amount
        now = time.monotonic()
        if now - last >= PLAIN_INTERVAL_S and count < total:
            last = now
            remaining_s = (now - started) * (total - count) / max(count - done, 1)
            percent = 100 * count // max(total, 1)
            console.print(f"{label}: {percent} % ({count:,} of {total:,} {unit}), about {remaining_s:.0f} s left")

    yield advance
