"""A picture of what a dataset holds: how long its recordings are, and how many there are of each class."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from backbeat.datasets.stats import Durations, Stats
from backbeat.errors import ConfigError
from backbeat.storage.staging import new_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, QUIET, PAPER, BAR, LINE = "#1f2430", "#8a90a0", "#ffffff", "#2a9d8f", "#e9a23b"
DOTS_PER_INCH = 130

# More bars than these cannot be told apart; the rest is one bar.
MOST_BARS = 16
# Of the ways to tell examples apart, as many as fit under each other.
MOST_PANELS = 4
LONGEST_LABEL = 34
LOG_TICKS_S = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 60, 180, 600, 1_800, 5_400)


def draw_stats(path: Path, stats: Stats) -> None:
    """Draw the lengths and the classes of a dataset as a PNG; the same numbers give the same bytes.

    Raises:
        ConfigError: if matplotlib is not installed.
        StorageError: if the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError(
            "there is nothing to draw with",
            expected="matplotlib",
            got=str(error),
            next_step="pip install backbeat[train]",
        ) from error
    bars = dict(list(stats.classes.items())[:MOST_PANELS]) or {"files by kind": _kinds(stats)}
    lengths = stats.audio or stats.midi
    heights_in = ([2.4] if lengths else []) + [0.7 + 0.2 * min(len(counts), MOST_BARS + 1) for counts in bars.values()]
    # The object interface, without pyplot: no global state, no display.
    figure = Figure(figsize=(8.5, 0.7 + sum(heights_in)), layout="constrained", facecolor=PAPER)
    panels = figure.subplots(len(heights_in), 1, gridspec_kw={"height_ratios": heights_in}, squeeze=False)[:, 0]
    figure.suptitle(_headline(stats), x=0.01, ha="left", fontsize=12, color=INK)
    for axes in panels:
        axes.spines[:].set_visible(False)
        axes.tick_params(colors=INK, labelsize=9, length=0)
    if lengths:
        _draw_lengths(panels[0], lengths, "recordings" if stats.audio else "MIDI files")
    for axes, (title, counts) in zip(panels[1 if lengths else 0 :], bars.items(), strict=True):
        _draw_bars(axes, title, counts)
    with new_file(path) as part:
        # Without metadata the same picture has the same bytes.
        figure.savefig(part, dpi=DOTS_PER_INCH, format="png", metadata={"Software": None})


def _headline(stats: Stats) -> str:
    length = f", {stats.hours:,.1f} h of audio" if stats.audio and stats.hours >= 1 else ""
    if stats.audio and stats.hours < 1:
        length = f", {stats.audio.total_s / 60:,.1f} min of audio"
    return f"{stats.dataset}: {stats.files:,} files{length}"


def _kinds(stats: Stats) -> dict[str, int]:
    return {kind: amount.files for kind, amount in stats.kinds.items()}


def _draw_lengths(axes: Axes, lengths: Durations, what: str) -> None:
    edges_s = lengths.edges_s
    widths_s = [(after - before) * 0.94 for before, after in pairwise(edges_s)]
    axes.bar(edges_s[:-1], lengths.bins, width=widths_s, align="edge", color=BAR)
    if edges_s[0] > 0:
        axes.set_xscale("log")
        axes.set_xticks([tick for tick in LOG_TICKS_S if edges_s[0] <= tick <= edges_s[-1]])
    axes.xaxis.set_major_formatter(lambda seconds, _: _time_text(seconds))
    axes.minorticks_off()
    axes.set_xlim(edges_s[0], edges_s[-1])
    axes.set_ylim(0, max(lengths.bins) * 1.18)
    axes.axvline(lengths.median_s, color=LINE, linewidth=2)
    at_right = edges_s.index(next(edge for edge in edges_s[1:] if edge >= lengths.median_s)) > 0.7 * len(edges_s)
    axes.annotate(
        f"median {_time_text(lengths.median_s)}",
        (lengths.median_s, 1.0),
        xycoords=axes.get_xaxis_transform(),
        xytext=(-5 if at_right else 5, -11),
        textcoords="offset points",
        ha="right" if at_right else "left",
        fontsize=9,
        color=INK,
    )
    axes.grid(axis="y", color="#e4e6eb", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_title(f"length of {lengths.count:,} {what}", loc="left", fontsize=10, color=INK)


def _time_text(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds < 120 else f"{seconds / 60:.3g} min"


def _draw_bars(axes: Axes, title: str, counts: dict[str, int]) -> None:
    shown = list(counts.items())[:MOST_BARS]
    rest = list(counts.items())[MOST_BARS:]
    if rest:
        shown.append((f"{len(rest)} others", sum(count for _, count in rest)))
    names = [name if len(name) <= LONGEST_LABEL else f"{name[: LONGEST_LABEL - 1]}…" for name, _ in shown]
    most = max(count for _, count in shown)
    for row, (_, count) in enumerate(shown):
        axes.barh(row, count, height=0.72, color=QUIET if rest and row == len(shown) - 1 else BAR)
        axes.text(count + most * 0.008, row, f"{count:,}", va="center", fontsize=9, color=INK)
    # Names are data: a dollar sign in one is no formula.
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, most * 1.1)
    axes.set_xticks([])
    axes.set_title(f"by {title}" if title != "files by kind" else title, loc="left", fontsize=10, color=INK)
