"""Scores of estimated hits against reference hits.

Aim: numbers that can be set beside published ones. Matching is mir_eval's `util.match_events`, a maximum matching
within the tolerance; each class is matched on its own.

- *micro* F1 sums true positives, false positives and false negatives over all sequences and classes ("sum F" of
  Zehren et al.); it weighs every hit alike.
- *macro* F1 is the mean over the classes that occur in the reference or the estimate.
- *sequence mean* F1 is the mean over sequences of each one's micro F1, as the E-GMD paper reports.
- *onset + velocity*: an onset pair also has to agree in velocity within `velocity_tolerance` after mir_eval's
  rescaling of the estimated velocities of each sequence by linear regression. Velocities are the MIDI scale.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mir_eval
import numpy as np
from numpy.typing import NDArray

from backbeat.config import EvaluateParams
from backbeat.transcription.decode import Peaks

Reference = list[tuple[NDArray[np.float64], NDArray[np.float64]]]

# Candidate thresholds; finer steps chose no better ones.
THRESHOLDS = np.round(np.arange(0.05, 0.96, 0.05), 2)


@dataclass(frozen=True)
class Counts:
    """Found, wrongly found and missed hits, by class. All arrays have shape (classes,)."""

    found: NDArray[np.int64]
    wrong: NDArray[np.int64]
    missed: NDArray[np.int64]

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.found + other.found, self.wrong + other.wrong, self.missed + other.missed)

    def of_class(self, index: int) -> Counts:
        """Return the counts of one class, as arrays of shape (1,)."""
        return Counts(*(counts[index : index + 1] for counts in (self.found, self.wrong, self.missed)))

    @property
    def by_class(self) -> NDArray[np.float64]:
        """F1 of each class; nan where a class neither occurs nor is estimated."""
        total = 2 * self.found + self.wrong + self.missed
        return np.where(total > 0, 2 * self.found / np.maximum(total, 1), np.nan)

    @property
    def micro(self) -> float:
        """F1 of all hits together."""
        found, wrong, missed = (int(counts.sum()) for counts in (self.found, self.wrong, self.missed))
        return 2 * found / max(2 * found + wrong + missed, 1)

    @property
    def macro(self) -> float:
        """Mean F1 over the classes that occur."""
        by_class = self.by_class
        return float(np.nanmean(by_class)) if np.isfinite(by_class).any() else 0.0

    @property
    def precision(self) -> float:
        """The part of the estimated hits that are right."""
        return float(self.found.sum() / max(self.found.sum() + self.wrong.sum(), 1))

    @property
    def recall(self) -> float:
        """The part of the reference hits that are found."""
        return float(self.found.sum() / max(self.found.sum() + self.missed.sum(), 1))


@dataclass(frozen=True)
class SequenceScore:
    """The counts of one sequence and the groups it belongs to."""

    id: str
    kit: int
    kit_name: str
    style: str
    onset: Counts
    velocity: Counts


def no_counts(classes: int) -> Counts:
    """Return counts of zero."""
    zero = np.zeros(classes, np.int64)
    return Counts(zero, zero, zero)


def count_onsets(reference: Reference, estimate: Peaks, tolerance_s: float) -> Counts:
    """Match the onsets of each class within `tolerance_s`."""
    found, estimated, expected = (np.zeros(len(reference), np.int64) for _ in range(3))
    for index, (onset_s, _) in enumerate(reference):
        times = estimate.of_class(index).onset_s
        expected[index], estimated[index] = len(onset_s), len(times)
        if len(onset_s) and len(times):
            found[index] = len(mir_eval.util.match_events(onset_s, times, tolerance_s))
    return Counts(found, estimated - found, expected - found)


def count_velocities(reference: Reference, estimate: Peaks, params: EvaluateParams) -> Counts:
    """Match onsets of each class that also agree in velocity.

    This is `mir_eval.transcription_velocity.match_notes` with the onsets matched class by class, because its own
    matching holds a matrix of all notes by all notes; a test holds the two together.
    """
    classes = len(reference)
    counts = np.array([len(onset_s) for onset_s, _ in reference], np.int64)
    estimated = np.bincount(estimate.class_index, minlength=classes).astype(np.int64)
    played, heard, of_class = [], [], []
    for index, (onset_s, velocity) in enumerate(reference):
        mine = estimate.of_class(index)
        pairs = mir_eval.util.match_events(onset_s, mine.onset_s, params.onset_tolerance_s)
        played += [velocity[pair[0]] for pair in pairs]
        heard += [max(1.0, round(127 * mine.velocity[pair[1]])) for pair in pairs]
        of_class += [index] * len(pairs)
    found = np.zeros(classes, np.int64)
    if played:
        every = np.concatenate([velocity for _, velocity in reference])
        scaled = (np.array(played) - every.min()) / max(1.0, every.max() - every.min())
        design = np.stack([np.array(heard), np.ones(len(heard))], axis=1)
        fitted = design @ np.linalg.lstsq(design, scaled, rcond=None)[0]
        agreeing = np.abs(fitted - scaled) < params.velocity_tolerance
        found = np.bincount(np.array(of_class)[agreeing], minlength=classes).astype(np.int64)
    return Counts(found, estimated - found, counts - found)


def choose_thresholds(scored: list[tuple[Reference, Peaks]], classes: int, tolerance_s: float) -> NDArray[np.float64]:
    """Return for each class the threshold with the best F1 over all given sequences, shape (classes,)."""
    curve = threshold_curve(scored, classes, tolerance_s)
    scores = np.array([np.nan_to_num(counts.by_class) for counts in curve])
    # The middle of the best ones: where several are equal, the outermost are the ones that do not transfer.
    best = [np.flatnonzero(column >= column.max() - 1e-9) for column in scores.T]
    return np.array([THRESHOLDS[indices[len(indices) // 2]] for indices in best])


def threshold_curve(scored: list[tuple[Reference, Peaks]], classes: int, tolerance_s: float) -> list[Counts]:
    """Return the counts at each of `THRESHOLDS`, the same for every class."""
    curve = []
    for threshold in THRESHOLDS:
        level = np.full(classes, threshold)
        counts = (count_onsets(reference, peaks.above(level), tolerance_s) for reference, peaks in scored)
        curve.append(sum(counts, no_counts(classes)))
    return curve


def summarize(scores: list[SequenceScore], classes: tuple[str, ...]) -> dict[str, Any]:
    """Return the scores of a set of sequences, rounded to four digits: micro, macro, by class, with velocity."""
    onset = sum((score.onset for score in scores), no_counts(len(classes)))
    velocity = sum((score.velocity for score in scores), no_counts(len(classes)))
    by_class = dict(zip(classes, onset.by_class, strict=True))
    return {
        "sequences": len(scores),
        "onsets": int((onset.found + onset.missed).sum()),
        "onset_f1": round(onset.micro, 4),
        "onset_f1_macro": round(onset.macro, 4),
        "onset_f1_sequence_mean": round(float(np.mean([score.onset.micro for score in scores])), 4),
        "onset_precision": round(onset.precision, 4),
        "onset_recall": round(onset.recall, 4),
        "onset_velocity_f1": round(velocity.micro, 4),
        "onset_f1_by_class": {name: round(float(f1), 4) for name, f1 in by_class.items() if np.isfinite(f1)},
    }


def summarize_by(
    scores: list[SequenceScore], classes: tuple[str, ...], key: Callable[[SequenceScore], Any]
) -> dict[str, dict[str, Any]]:
    """Return `summarize` of each group of sequences, sorted by the key."""
    groups: dict[Any, list[SequenceScore]] = {}
    for score in scores:
        groups.setdefault(key(score), []).append(score)
    return {str(name): summarize(groups[name], classes) for name in sorted(groups)}
