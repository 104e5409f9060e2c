"""Paired timing: ours and the peer in turn, so that a machine that changes its speed changes both.

A ratio is our figure over the peer's in the same round: of speeds it has to be at least the bar, of times and sizes at
most. The median of the rounds counts; the lowest and highest ratio are its spread.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Clock = Callable[[], float]


@dataclass(frozen=True)
class Result:
    """One row of `reports/benchmarks.json`."""

    question: str
    case: str
    ours: float
    peer: float
    unit: str
    ratio: float
    low: float
    high: float
    bar: str
    met: bool


def timed(work: Callable[[], object], clock: Clock = time.perf_counter) -> float:
    """Return how long `work` takes by this clock, in seconds."""
    started = clock()
    work()
    return clock() - started


def compare(
    question: str,
    case: str,
    ours: Callable[[], float],
    peer: Callable[[], float],
    *,
    unit: str,
    bar: float,
    kind: Literal["at least", "at most"],
    runs: int,
) -> Result:
    """Measure two figures in turn and hold their ratio against a bar.

    Args:
        question: what is asked, the same for all cases of it.
        case: which peer, on which data.
        ours: returns our figure in `unit`.
        peer: returns the peer's.
        unit: of both figures.
        bar: the ratio of ours to the peer's that is promised.
        kind: whether the ratio has to be at least or at most that.
        runs: rounds that count, after one that does not.
    """
    ours(), peer()
    pairs = [(ours(), peer()) for _ in range(runs)]
    ratios = [one / other for one, other in pairs]
    ratio = statistics.median(ratios)
    met = ratio >= bar if kind == "at least" else ratio <= bar
    return Result(
        question,
        case,
        _short(statistics.median(one for one, _ in pairs)),
        _short(statistics.median(other for _, other in pairs)),
        unit,
        _short(ratio),
        _short(min(ratios)),
        _short(max(ratios)),
        f"{kind} {bar:g}",
        met,
    )


def _short(value: float) -> float:
    return float(f"{value:.4g}")
