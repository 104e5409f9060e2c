"""A picture of the library: what it holds by class, by source and tier, and how it has grown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.filesize import decimal

from backbeat.errors import ConfigError
from backbeat.library.stats import Stats
from backbeat.storage.staging import new_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, QUIET, PAPER, BAR, ARCHIVED, LINE = "#1f2430", "#8a90a0", "#ffffff", "#2a9d8f", "#a8d5cf", "#e9a23b"
DOTS_PER_INCH = 130

# More bars than these cannot be told apart; the rest is one bar.
MOST_BARS = 16


def draw_stats(path: Path, stats: Stats) -> None:
    """Draw the figures as a PNG; the same figures give the same bytes.

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
    classes = _most(stats.now.classes)
    sources = _sources(stats)
    heights_in = [0.7 + 0.22 * len(classes), 0.5 + 0.24 * len(sources)]
    # One point is no line.
    if len(stats.growth) > 1:
        heights_in.append(2.0)
    # The object interface, without pyplot: no global state, no display.
    figure = Figure(figsize=(8.5, 0.7 + sum(heights_in)), layout="constrained", facecolor=PAPER)
    panels = figure.subplots(len(heights_in), 1, gridspec_kw={"height_ratios": heights_in}, squeeze=False)[:, 0]
    figure.suptitle(_headline(stats), x=0.01, ha="left", fontsize=12, color=INK)
    for axes in panels:
        axes.spines[:].set_visible(False)
        axes.tick_params(colors=INK, labelsize=9, length=0)
    _draw_classes(panels[0], classes)
    _draw_sources(panels[1], sources)
    if len(stats.growth) > 1:
        _draw_growth(panels[2], stats)
    with new_file(path) as part:
        # Without metadata the same picture has the same bytes.
        figure.savefig(part, dpi=DOTS_PER_INCH, format="png", metadata={"Software": None})


def _headline(stats: Stats) -> str:
    now = stats.now
    parts = [f"{now.samples:,} samples", _length(now.hours), decimal(now.size_bytes)]
    if now.mean_score is not None:
        parts.append(f"quality {now.mean_score:.0f} on average")
    return ", ".join(parts)


def _length(hours: float) -> str:
    return f"{hours:,.1f} h" if hours >= 1 else f"{60 * hours:,.0f} min" if hours >= 1 / 60 else f"{3600 * hours:.0f} s"


def _most(counts: dict[str, int]) -> dict[str, int]:
    shown = dict(list(counts.items())[:MOST_BARS])
    rest = sum(counts.values()) - sum(shown.values())
    return shown | ({"others": rest} if rest else {})


def _sources(stats: Stats) -> dict[str, dict[str, float]]:
    """Return the hours of each source by tier, the largest source first."""
    hours: dict[str, dict[str, float]] = {}
    for part in stats.now.parts:
        hours.setdefault(part.source, {})[part.tier] = part.hours
    largest = sorted(hours.items(), key=lambda one: (-sum(one[1].values()), one[0]))
    return dict(largest[:MOST_BARS])


def _draw_classes(axes: Axes, classes: dict[str, int]) -> None:
    _title(axes, "samples by class")
    names = [name.replace("_", " ") for name in classes]
    bars = axes.barh(names, list(classes.values()), color=BAR, height=0.72)
    axes.bar_label(bars, [f"{count:,}" for count in classes.values()], padding=4, color=INK, fontsize=9)
    axes.invert_yaxis()
    axes.set_xticks([])
    axes.margins(x=0.12, y=0.02)


def _draw_sources(axes: Axes, sources: dict[str, dict[str, float]]) -> None:
    _title(axes, "length by source")
    left = [0.0] * len(sources)
    for tier, color, label in (("original", BAR, "as it came"), ("archive", ARCHIVED, "in the archive alone")):
        hours = [tiers.get(tier, 0.0) for tiers in sources.values()]
        axes.barh(list(sources), hours, left=left, color=color, height=0.72, label=label)
        left = [one + more for one, more in zip(left, hours, strict=True)]
    for number, total in enumerate(left):
        axes.text(total, number, f"  {_length(total)}", va="center", color=INK, fontsize=9)
    axes.set_ylim(len(sources) - 0.5, -0.5)
    axes.set_xticks([])
    axes.margins(x=0.12)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False, fontsize=8, labelcolor=INK,
                borderaxespad=0, handlelength=1)  # fmt: skip


def _draw_growth(axes: Axes, stats: Stats) -> None:
    _title(axes, "samples over time")
    # Matplotlib reads days as such, and labels them.
    days = [np.datetime64(one.day) for one in stats.growth]
    axes.plot(days, [one.samples for one in stats.growth], color=LINE, linewidth=2, marker="o", markersize=4)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", color="#e3e6ec", linewidth=0.8)
    axes.set_axisbelow(True)


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=10, color=QUIET, pad=8)
