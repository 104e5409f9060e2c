"""Scores: counted by hand, and held against mir_eval."""

import mir_eval
import numpy as np
import pytest

from backbeat.config import EvaluateParams
from backbeat.transcription.decode import Peaks
from backbeat.transcription.metrics import (
    SequenceScore,
    choose_thresholds,
    count_onsets,
    count_velocities,
    no_counts,
    summarize,
    summarize_by,
    threshold_curve,
)

PARAMS = EvaluateParams(onset_tolerance_s=0.05, velocity_tolerance=0.1)


def estimate(*rows: tuple[float, int, float, float]) -> Peaks:
    """Rows of (onset_s, class, probability, velocity)."""
    onset_s, classes, probability, velocity = (np.array(column, float) for column in zip(*rows, strict=True))
    return Peaks(np.rint(onset_s * 100).astype(int), onset_s, classes.astype(int), probability, velocity)


def reference(*classes: list[tuple[float, float]]) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each class rows of (onset_s, velocity)."""
    return [(np.array([t for t, _ in rows], float), np.array([v for _, v in rows], float)) for rows in classes]


def test_a_hit_counts_up_to_the_tolerance_and_not_beyond() -> None:
    expected = reference([(1.0, 64), (2.0, 64)])
    counts = count_onsets(expected, estimate((1.049, 0, 0.9, 0.5), (2.051, 0, 0.9, 0.5)), 0.05)
    assert (counts.found.sum(), counts.wrong.sum(), counts.missed.sum()) == (1, 1, 1)


def test_one_estimate_never_answers_for_two_references() -> None:
    counts = count_onsets(reference([(1.0, 64), (1.02, 64)]), estimate((1.01, 0, 0.9, 0.5)), 0.05)
    assert (counts.found.sum(), counts.missed.sum()) == (1, 1)


def test_a_hit_of_another_class_is_wrong_and_missed() -> None:
    counts = count_onsets(reference([(1.0, 64)], []), estimate((1.0, 1, 0.9, 0.5)), 0.05)
    assert counts.missed.tolist() == [1, 0]
    assert counts.wrong.tolist() == [0, 1]


def test_micro_macro_and_class_scores_by_hand() -> None:
    expected = reference([(1.0, 64), (2.0, 64), (3.0, 64)], [(1.0, 64)])
    counts = count_onsets(expected, estimate((1.0, 0, 1, 1), (2.0, 0, 1, 1), (5.0, 1, 1, 1)), 0.05)
    assert counts.by_class == pytest.approx([4 / 5, 0.0])
    assert counts.micro == pytest.approx(4 / 7)
    assert counts.macro == pytest.approx(2 / 5)


def test_a_class_that_nobody_plays_does_not_weigh() -> None:
    counts = count_onsets(reference([(1.0, 64)], []), estimate((1.0, 0, 1, 1)), 0.05)
    assert np.isnan(counts.by_class[1])
    assert counts.macro == 1.0


def test_velocity_has_to_agree_after_rescaling() -> None:
    expected = reference([(t, 20.0 + 10 * t) for t in range(1, 9)])
    right = estimate(*((float(t), 0, 1.0, (20.0 + 10 * t) / 254) for t in range(1, 9)))
    counts = count_velocities(expected, right, PARAMS)
    assert counts.found.sum() == 8
    random = estimate(*((float(t), 0, 1.0, v) for t, v in zip(range(1, 9), [1, 0, 1, 0, 0, 1, 0, 1], strict=True)))
    assert count_velocities(expected, random, PARAMS).found.sum() < 8


def test_the_onset_count_is_that_of_mir_eval() -> None:
    rng = np.random.default_rng(1)
    played = np.sort(rng.uniform(0, 30, 80))
    heard = np.sort(np.concatenate([played[:60] + rng.normal(0, 0.03, 60), rng.uniform(0, 30, 20)]).clip(0))
    counts = count_onsets(reference([(t, 64) for t in played]), estimate(*((t, 0, 1, 1) for t in heard)), 0.05)
    assert counts.micro == pytest.approx(mir_eval.onset.f_measure(played, heard, window=0.05)[0])


def test_the_velocity_count_is_that_of_mir_eval() -> None:
    rng = np.random.default_rng(2)
    classes = [np.sort(rng.uniform(0, 60, 40)) for _ in range(3)]
    expected = [(times, rng.integers(1, 128, 40).astype(float)) for times in classes]
    rows = [
        (times[i] + rng.normal(0, 0.02), index, 1.0, float((velocity[i] + rng.normal(0, 12)).clip(1, 127)) / 127)
        for index, (times, velocity) in enumerate(expected)
        for i in range(0, 40, 1 + index)
    ]
    heard = estimate(*((max(0.0, row[0]), *row[1:]) for row in sorted(rows)))
    onset_s, velocity = (np.concatenate(column) for column in zip(*expected, strict=True))

    def notes(times: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.stack([times, times + 0.1], axis=1), 100 * 2.0**index

    pairs = mir_eval.transcription_velocity.match_notes(
        *notes(onset_s, np.repeat(np.arange(3), 40)), velocity,
        *notes(heard.onset_s, heard.class_index), np.maximum(1.0, np.rint(127 * heard.velocity)),
        onset_tolerance=0.05, offset_ratio=None, velocity_tolerance=0.1,
    )  # fmt: skip
    assert 0 < len(pairs) < 60
    assert count_velocities(expected, heard, PARAMS).found.sum() == len(pairs)


def test_thresholds_are_the_best_of_each_class() -> None:
    expected = reference([(1.0, 64)], [(1.0, 64)])
    peaks = estimate((1.0, 0, 0.3, 1), (2.0, 0, 0.15, 1), (1.0, 1, 0.9, 1), (2.0, 1, 0.6, 1))
    thresholds = choose_thresholds([(expected, peaks)], 2, 0.05)
    assert 0.15 < thresholds[0] <= 0.3
    assert 0.6 < thresholds[1] <= 0.9


def test_a_higher_threshold_never_finds_more() -> None:
    peaks = estimate(*((float(t), 0, p, 1) for t, p in zip(range(1, 20), np.linspace(0.02, 1, 19), strict=True)))
    curve = threshold_curve([(reference([(float(t), 64) for t in range(1, 20)]), peaks)], 1, 0.05)
    found = [int(counts.found.sum()) for counts in curve]
    assert found == sorted(found, reverse=True)


def test_groups_add_up_to_the_whole() -> None:
    onset = count_onsets(reference([(1.0, 64), (2.0, 64)]), estimate((1.0, 0, 1, 1)), 0.05)
    scores = [SequenceScore(f"s{i}", i % 2, "kit", "rock", onset, no_counts(1)) for i in range(4)]
    by_kit = summarize_by(scores, ("kick",), lambda score: score.kit)
    assert sum(row["onsets"] for row in by_kit.values()) == summarize(scores, ("kick",))["onsets"] == 8
