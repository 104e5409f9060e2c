"""The tempo of a loop: how regular its onsets are at each tempo, and how many beats long it would be.

Font & Serra, "Tempo estimation for music loops and a simple confidence measure", ISMIR 2016: a loop is almost always a
whole number of beats long, mostly a power of two, so its length names a few tempi, and the question is which of them
its onsets keep. A candidate is judged by

- regularity: the autocorrelation of the onset envelope at a half, one, two and four beats, less half of that at a
  sixteenth, which is high where the tempo is twice as fast;
- alignment: how near the onsets are to sixteenths that are counted from the first of them;
- a prior: tempi of loops are spread around 115 BPM, log-normally;
- whether the sound is a usual number of beats long.

A loop with a tail is longer than its beats: tempi from a fine grid are candidates as well, without that bonus. Half and
double tempo are different answers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from backbeat.audio.onsets import Onsets

Floats = NDArray[np.float64]

LOWEST_BPM, HIGHEST_BPM = 60.0, 200.0

# Beats of a loop, and how usual each number is.
USUAL_BEATS = {1: 0.4, 2: 0.7, 3: 0.2, 4: 1.0, 6: 0.3, 8: 1.0, 12: 0.4, 16: 1.0, 24: 0.4, 32: 1.0, 48: 0.4, 64: 1.0}

PRIOR_BPM, PRIOR_OCTAVES = 115.0, 0.5

# Weights of the marks; found on loops of the generator, and held against others of it and against real ones.
REGULARITY_WEIGHT, ALIGNMENT_WEIGHT, PRIOR_WEIGHT, LENGTH_WEIGHT = 1.0, 1.0, 0.35, 0.45

# With fewer onsets, or fewer than about one in a bar, any tempo is chance.
LEAST_ONSETS, MOST_BEATS_PER_ONSET = 3, 4.5

# Two tempi within this are one; a mark of the grid is exact to a quarter of it.
SAME_TEMPO = 0.02
_GRID_STEP = 0.005


@dataclass(frozen=True)
class Candidate:
    """A tempo, and what speaks for it: the sum of the weighted marks."""

    bpm: float
    score: float


@dataclass(frozen=True)
class Tempo:
    """The likeliest tempo, how sure it is (0 to 1), and the candidates, from the likeliest."""

    bpm: float
    confidence: float
    candidates: tuple[Candidate, ...]


def find_tempo(onsets: Onsets, duration_s: float) -> Tempo | None:
    """Return the tempo of a loop; None where nothing repeats.

    The confidence is how far the answer is better than the best that is another tempo, times how regular it is; 0 where
    less begins than a tempo can be told from, as in a chord that is strummed once.
    """
    if len(onsets.times_s) < 2 or duration_s < 0.5:
        return None
    marks = _Marks(onsets, duration_s)
    tempi = [60 * beats / duration_s for beats in USUAL_BEATS] + marks.regular_tempi()
    found = [Candidate(bpm, marks.score(bpm)) for bpm in tempi if LOWEST_BPM <= bpm <= HIGHEST_BPM]
    ordered = sorted(found, key=lambda one: (-one.score, one.bpm))
    if not ordered:
        return None
    best = ordered[0]
    others = [one.score for one in ordered if not same_tempo(one.bpm, best.bpm)]
    ahead = best.score - max(others, default=0.0)
    evidence = marks.evidence(best.bpm)
    confidence = _sigmoid(3.0 * (ahead - 0.25)) * _sigmoid(6.0 * (evidence - 0.35))
    enough = len(onsets.times_s) >= max(LEAST_ONSETS, best.bpm * duration_s / 60 / MOST_BEATS_PER_ONSET)
    return Tempo(best.bpm, confidence if enough else 0.0, tuple(ordered[:8]))


def same_tempo(one_bpm: float, other_bpm: float) -> bool:
    """Return whether two tempi are the same within `SAME_TEMPO`."""
    return abs(one_bpm / other_bpm - 1) <= SAME_TEMPO


class _Marks:
    """What is asked of each candidate."""

    def __init__(self, onsets: Onsets, duration_s: float) -> None:
        self._duration_s = duration_s
        self._hop_s = onsets.hop_s
        self._correlation = _autocorrelation(onsets.envelope)
        self._since_first_s = onsets.times_s - onsets.times_s[0]
        self._strengths = onsets.strengths_db.astype(np.float64)

    def regularity(self, bpm: Floats) -> Floats:
        """Return the mean autocorrelation at a half, one, two and four beats, less half of that at a sixteenth."""
        marks = np.stack([self._at(60 / bpm * beats) for beats in (0.5, 1.0, 2.0, 4.0)])
        known = np.isfinite(marks)
        mean = np.where(known, marks, 0).sum(axis=0) / np.maximum(1, known.sum(axis=0))
        return np.asarray(mean - 0.5 * np.maximum(0, np.nan_to_num(self._at(60 / bpm * 0.25))))

    def alignment(self, bpm: Floats) -> Floats:
        """Return how near onsets are to the grid of sixteenths: 1 on it, 0 as by chance."""
        turns = np.exp(2j * np.pi * 4 / 60 * bpm[:, None] * self._since_first_s)
        length = np.abs((turns * self._strengths).sum(axis=1)) / self._strengths.sum()
        chance = 1 / math.sqrt(len(self._strengths))
        return np.asarray(np.maximum(0, (length - chance) / (1 - chance)) if chance < 1 else 0 * length)

    def evidence(self, bpm: float) -> float:
        """Return the mean of regularity and alignment."""
        at = np.array([bpm])
        return float((self.regularity(at) + self.alignment(at))[0] / 2)

    def score(self, bpm: float) -> float:
        at = np.array([bpm])
        octaves = math.log2(bpm / PRIOR_BPM) / PRIOR_OCTAVES
        usual = max(
            share if abs(bpm * self._duration_s / 60 / beats - 1) < 0.004 else 0.0
            for beats, share in USUAL_BEATS.items()
        )
        return (
            REGULARITY_WEIGHT * float(self.regularity(at)[0])
            + ALIGNMENT_WEIGHT * float(self.alignment(at)[0])
            - PRIOR_WEIGHT * octaves**2 / 2
            + LENGTH_WEIGHT * usual
        )

    def regular_tempi(self) -> list[float]:
        """Return the tempi of a fine grid at which regularity and alignment have their highest peaks."""
        steps = math.ceil(math.log(HIGHEST_BPM / LOWEST_BPM) / _GRID_STEP)
        grid = np.geomspace(LOWEST_BPM, HIGHEST_BPM, steps)
        marks = self.regularity(grid) + self.alignment(grid)
        peaks = np.flatnonzero((marks[1:-1] >= marks[:-2]) & (marks[1:-1] > marks[2:])) + 1
        return [float(grid[at]) for at in peaks[np.argsort(-marks[peaks], kind="stable")][:6]]

    def _at(self, lag_s: Floats) -> Floats:
        """Return the autocorrelation at lags, the largest within a frame; nan beyond its end."""
        frames = np.rint(lag_s / self._hop_s).astype(int)
        inside = frames < len(self._correlation) - 1
        at = np.where(inside, frames, 1)
        nearby = np.maximum(np.maximum(self._correlation[at - 1], self._correlation[at]), self._correlation[at + 1])
        return np.where(inside, nearby, np.nan)


def _autocorrelation(envelope: NDArray[np.float32]) -> Floats:
    """Return the autocorrelation of a mean-free envelope, 1 at lag zero, as if all lags had as many products."""
    centered = envelope.astype(np.float64) - float(envelope.mean(dtype=np.float64))
    count = len(centered)
    size = scipy.fft.next_fast_len(2 * count, real=True)
    products = scipy.fft.irfft(np.abs(scipy.fft.rfft(centered, size)) ** 2, size)[: max(count, 3)]
    lags = np.arange(len(products))
    return np.asarray(products / max(float(products[0]), 1e-9) * count / np.maximum(count - lags, 0.25 * count))


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))
