"""What a person looks at: data for `dvc plots`, and pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from backbeat.config import EvaluateParams, FeatureParams
from backbeat.drums.classes import ClassMap
from backbeat.storage.staging import new_file
from backbeat.transcription.dataset import SequenceRef
from backbeat.transcription.decode import Peaks
from backbeat.transcription.metrics import THRESHOLDS, Counts, Reference, SequenceScore

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# How much of a sequence is drawn: enough for two bars, little enough to tell hits apart.
SHOWN_S = 6.0

INK, QUIET, PAPER = "#1f2430", "#8a90a0", "#ffffff"
FOUND, MISSED, WRONG = "#2a9d8f", "#e9a23b", "#d1495b"
DOTS_PER_INCH = 130


def write_f1_by_class(path: Path, by_class: dict[str, float]) -> None:
    """Write rows of (class, f1) for `dvc plots`."""
    _write_rows(path, [{"class": drum, "f1": f1} for drum, f1 in by_class.items()])


def write_precision_recall(path: Path, curve: list[Counts]) -> None:
    """Write rows of (threshold, precision, recall, f1) for `dvc plots`, one threshold for all classes."""
    rows = [
        {
            "threshold": float(threshold),
            "precision": round(counts.precision, 4),
            "recall": round(counts.recall, 4),
            "f1": round(counts.micro, 4),
        }
        for threshold, counts in zip(THRESHOLDS, curve, strict=True)
    ]
    _write_rows(path, rows)


def draw_f1_by_kit(path: Path, by_kit: dict[str, Any], test: dict[str, Any]) -> None:
    """Draw the onset F1 of each kit and class as a table of shades."""
    classes = list(test["onset_f1_by_class"])
    columns = ["all", *classes]
    cells = np.array(
        [
            [row["onset_f1"], *(row["onset_f1_by_class"].get(name, np.nan) for name in classes)]
            for row in by_kit.values()
        ]
    )
    figure, axes = _figure(2.6 + 0.85 * len(columns), 1.1 + 0.36 * len(by_kit))
    axes.imshow(cells, vmin=0, vmax=1, cmap="YlGnBu", aspect="auto")
    for (row, column), f1 in np.ndenumerate(cells):
        text = "-" if np.isnan(f1) else f"{f1:.2f}"
        axes.text(column, row, text, ha="center", va="center", color=PAPER if f1 > 0.55 else INK, fontsize=9)
    axes.set_xticks(range(len(columns)), [name.replace("_", " ") for name in columns])
    axes.set_yticks(range(len(by_kit)), list(by_kit))
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.axvline(0.5, color=PAPER, linewidth=4)
    axes.set_title("Onset F1 on the test split, by kit and class", loc="left", fontsize=11, pad=24)
    _save(figure, path)


def draw_transcription(
    path: Path,
    sequence: SequenceRef,
    reference: Reference,
    hits: Peaks,
    score: SequenceScore,
    classes: ClassMap,
    features: FeatureParams,
    params: EvaluateParams,
) -> None:
    """Draw a spectrogram, and under it for each class the reference hits, the estimated ones, and where they differ."""
    from mir_eval.util import match_events

    shown_s = min(SHOWN_S, sequence.n_frames / features.frame_rate_hz)
    figure, (above, below) = _figure(12, 6.4, rows=2, heights=(1.3, 1))
    values = sequence.frames()[: round(shown_s * features.frame_rate_hz)].T
    extent = (0, shown_s, 0, features.mels)
    loudest = int(values.max())
    above.imshow(values, origin="lower", aspect="auto", extent=extent, cmap="magma", vmin=loudest - 120, vmax=loudest)
    _label_bands(above, features)
    above.set_title(f"{sequence.id}   {sequence.kit_name}   onset F1 {score.onset.micro:.2f}", loc="left", fontsize=11)
    for index in range(len(classes.classes)):
        times, estimated = reference[index][0], hits.of_class(index).onset_s
        pairs = match_events(times, estimated, params.onset_tolerance_s) if len(times) and len(estimated) else []
        found, right = {pair[0] for pair in pairs}, {pair[1] for pair in pairs}
        for onset, at in enumerate(times):
            color = FOUND if onset in found else MISSED
            below.plot([at, at], [index + 0.05, index + 0.42], color=color, linewidth=2.2, solid_capstyle="butt")
        for hit, at in enumerate(estimated):
            color = FOUND if hit in right else WRONG
            below.plot([at, at], [index - 0.42, index - 0.05], color=color, linewidth=2.2, solid_capstyle="butt")
    below.set_yticks(range(len(classes.classes)), [name.replace("_", " ") for name in classes.classes])
    below.set_xlim(0, shown_s)
    below.set_ylim(-0.6, len(classes.classes) - 0.4)
    below.set_xlabel("seconds")
    below.hlines(np.arange(len(classes.classes)), 0, shown_s, color="#e4e6eb", linewidth=0.8, zorder=0)
    for text, color, at in (("found", FOUND, 0.72), ("missed", MISSED, 0.82), ("not played", WRONG, 0.92)):
        below.text(at, 1.03, f"\u25ae {text}", color=color, transform=below.transAxes, fontsize=9)
    below.set_title("upper half: reference   lower half: estimate", loc="left", fontsize=9, color=QUIET)
    _save(figure, path)


def _label_bands(axes: Axes, features: FeatureParams) -> None:
    from backbeat.audio.logmel import hz_to_mel

    low, high = hz_to_mel(features.low_hz), hz_to_mel(features.high_hz)
    ticks_hz = [hz for hz in (100, 500, 1_000, 2_000, 5_000, 10_000) if features.low_hz < hz < features.high_hz]
    places = [float((hz_to_mel(hz) - low) / (high - low)) * features.mels for hz in ticks_hz]
    axes.set_yticks(places, [f"{hz / 1000:g} kHz" if hz >= 1000 else f"{hz} Hz" for hz in ticks_hz])
    axes.set_xticklabels([])


def _figure(width: float, height: float, rows: int = 1, heights: tuple[float, ...] = (1,)) -> tuple[Figure, Any]:
    # The object interface, without pyplot: no global state, no display.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor=PAPER)
    axes = figure.subplots(rows, 1, gridspec_kw={"height_ratios": heights}, sharex=False)
    for one in np.atleast_1d(axes):
        one.spines[:].set_visible(False)
        one.tick_params(colors=INK, labelsize=9)
    return figure, axes


def _save(figure: Figure, path: Path) -> None:
    with new_file(path) as part:
        # Without metadata the same picture has the same bytes.
        figure.savefig(part, dpi=DOTS_PER_INCH, format="png", metadata={"Software": None})


def _write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    with new_file(path) as part:
        part.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
