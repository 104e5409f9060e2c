"""What a page says of one result, read out of the reports that Git tracks: scores, curves, kits, thresholds, origin."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from backbeat.errors import ExperimentError
from backbeat.experiments.compare import Comparison, verdict
from backbeat.experiments.results import Result, read_file
from backbeat.report import charts
from backbeat.report.evaluation import Evaluation, read_json

CURVES_FOLDER = "reports/training/plots/metrics"
THRESHOLDS_FILE = "reports/plots/precision_recall.json"

# Groups of test sequences, as the stage `evaluate` calls them.
GROUPS = {"test": "test split", "seen_kits": "kits heard", "held_out_kits": "kits held out"}

_HEADLINES = {
    "test.onset_f1": "onset F1, test split",
    "seen_kits.onset_f1": "on kits heard in training",
    "held_out_kits.onset_f1": "on kits held out",
    "test.onset_f1_macro": "mean of the classes",
    "test.onset_velocity_f1": "onset and velocity",
    "test.onset_precision": "precision",
    "test.onset_recall": "recall",
}

# Title, file below CURVES_FOLDER, name of its column, and whether its axis begins at zero.
_CURVES = (
    ("Training loss", "train/loss.tsv", "loss", True),
    ("Onset F1 on validation", "validation/onset_f1.tsv", "onset_f1", False),
    ("F1 on validation, mean of the classes", "validation/onset_f1_macro.tsv", "onset_f1_macro", False),
)


@dataclass(frozen=True)
class Headline:
    """A score that is looked at first, its difference to the result compared with, and what that means."""

    label: str
    value: float
    difference: float | None
    verdict: str | None


@dataclass(frozen=True)
class Chart:
    """A chart with the numbers behind it; `svg` is None where the package that draws is not installed."""

    title: str
    note: str
    svg: Markup | None
    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]


@dataclass(frozen=True)
class Kit:
    """The scores of one kit: F1 of all hits and of each class; None where the class does not occur."""

    name: str
    held_out: bool
    onset_f1: float
    by_class: tuple[float | None, ...]
    sequences: int


@dataclass(frozen=True)
class _Point:
    """The scores at one threshold."""

    threshold: float
    precision: float
    recall: float
    f1: float


def headlines(comparison: Comparison, result: Result) -> tuple[Headline, ...]:
    """Return the scores that are looked at first."""
    differences = next((row.differences for row in comparison.rows if row.result is result), {})
    return tuple(
        Headline(
            label,
            result.metrics[name],
            differences.get(name),
            verdict(name, differences[name]) if name in differences else None,
        )
        for name, label in _HEADLINES.items()
        if name in result.metrics
    )


def standing(shown: Sequence[Headline], against: Result) -> str:
    """Return what the differences of these scores are to, or why there are none."""
    verdicts = [one.verdict for one in shown]
    if {"better", "worse"}.intersection(verdicts):
        return f"Differences are to {against.name}."
    if "same" in verdicts:
        which = "that can be compared" if None in verdicts else "here"
        return f"Every score {which} equals that of {against.name}."
    if against.metrics:
        return f"These scores cannot be compared with those of {against.name}."
    return f"{against.name} has no scores to compare with."


def training_curves(project: Path, results: Sequence[Result]) -> tuple[Chart, ...]:
    """Return the training curves of the first few results that have any, drawn over each other."""
    shown = []
    for title, path, column, from_zero in _CURVES:
        rows: list[dict[str, object]] = []
        for result in results[: charts.MOST_LINES]:
            points = _curve(project, result, f"{CURVES_FOLDER}/{path}", column)
            rows += [{"name": result.name, "step": step, column: value} for step, value in points]
        if rows:
            names = list(dict.fromkeys(str(row["name"]) for row in rows))
            label = f"{title} over the steps of training, of {', '.join(names)}"
            svg = charts.lines(rows, names, "step", column, label, from_zero=from_zero)
            numbers = tuple((row["name"], row["step"], f"{row[column]:.4f}") for row in rows)
            shown.append(Chart(title, "", svg, ("result", "step", words(column)), numbers))
    return tuple(shown)


def class_chart(evaluation: Evaluation) -> Chart:
    """Return F1 by class, of the kits that training heard and of those that it did not."""
    found = {"test": evaluation.test, "seen_kits": evaluation.seen_kits, "held_out_kits": evaluation.held_out_kits}
    scores = {key: one.onset_f1_by_class for key, one in found.items() if one}
    groups = {key: GROUPS[key] for key in scores if key != "test"} or {"test": GROUPS["test"]}
    rows = [
        {"class": words(name), "f1": scores[key][name], "group": label}
        for name in scores["test"]
        for key, label in groups.items()
        if name in scores[key]
    ]
    svg = charts.dots(rows, list(groups.values()), f"Onset F1 by class: {', '.join(groups.values())}")
    table = tuple((words(name), *(_score(scores[key].get(name)) for key in scores)) for name in scores["test"])
    return Chart("By class", "", svg, ("class", *(GROUPS[key] for key in scores)), table)


def kits(evaluation: Evaluation) -> tuple[tuple[str, ...], tuple[Kit, ...]]:
    """Return the classes, and the scores of each kit: those heard in training first, then those held out."""
    said = evaluation.provenance
    # What is older names those only that training was told to leave out.
    held_out = set(said.train.held_out_kits if said.held_out_kits is None else said.held_out_kits)
    classes = tuple(evaluation.test.onset_f1_by_class)
    listed = [
        Kit(
            name=name,
            held_out=int(name.split(" ", 1)[0]) in held_out,
            onset_f1=row.onset_f1,
            by_class=tuple(row.onset_f1_by_class.get(one) for one in classes),
            sequences=row.sequences,
        )
        for name, row in evaluation.by_kit.items()
    ]
    return tuple(map(words, classes)), tuple(sorted(listed, key=lambda kit: kit.held_out))


def threshold_chart(project: Path, result: Result, evaluation: Evaluation) -> Chart | None:
    """Return precision, recall and F1 over one threshold for all classes; None where that was not kept."""
    curve = read_json(project, result, THRESHOLDS_FILE, list[_Point])
    if not curve:
        return None
    kinds = ("precision", "recall", "f1")
    rows = [
        {"threshold": point.threshold, "score": getattr(point, kind), "name": "F1" if kind == "f1" else kind}
        for kind in kinds
        for point in curve
    ]
    chosen = evaluation.thresholds
    label = "Precision, recall and F1 over the threshold, with the thresholds that were chosen for the classes"
    table = tuple((f"{point.threshold:.2f}", *(_score(getattr(point, kind)) for kind in kinds)) for point in curve)
    note = ", ".join(f"{words(name)} {value:.2f}" for name, value in chosen.items())
    svg = charts.thresholds(rows, chosen, label)
    return Chart("Over one threshold for all classes", note, svg, ("threshold", "precision", "recall", "F1"), table)


def words(name: str) -> str:
    """Return the name of a class for people: `hi hat`."""
    return name.replace("_", " ")


def _curve(project: Path, result: Result, path: str, column: str) -> list[tuple[int, float]]:
    content = read_file(project, result.revision, path) or b""
    try:
        lines = csv.DictReader(io.StringIO(content.decode()), delimiter="\t")
        return [(int(line["step"]), float(line[column])) for line in lines]
    except (ValueError, KeyError, TypeError) as error:
        expected = f"the columns step and {column}, of numbers"
        raise ExperimentError(f"{path} of {result.name} cannot be read", expected=expected, got=str(error)) from error


def _score(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
