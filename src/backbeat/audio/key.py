"""The key of a loop: which of 24 keys its partials are in, and whether there are partials at all.

The chroma is that of Gómez, "Tonal description of polyphonic audio for music content processing", INFORMS 18(3), 2006:
peaks of a long-window spectrum, each counted for the notes of which it may be a harmonic, from the tuning of the sound.
A key is scored by the correlation of that with a profile, those of Faraldo et al., "Key estimation in electronic dance
music", ECIR 2016 (edma), and by how much of its tonic is in the bass of the first half second: a relative key has the
same notes, and a loop mostly begins at home.

A long window is a second spectrum; it is taken of a quarter of the samples, and only where a key is asked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.fft
import scipy.ndimage
from numpy.typing import NDArray

from backbeat.audio.pitch import NOTES

Floats = NDArray[np.float32]

# The window tells the semitones of the small octave apart.
WINDOW_S, HOP_S = 0.37, 0.093

LOWEST_HZ, HIGHEST_HZ = 50.0, 2500.0
BEGINNING_S, BASS_BELOW_HZ = 0.5, 400.0

# The strongest peaks of a frame count, where they stand out from what is around them, and none that is so far below the
# loudest of all.
PEAKS_PER_FRAME = 24
PEAKS_BELOW_DB, PEAKS_ABOVE_AROUND_DB = 50.0, 13.0
_AROUND_BINS = 81

# A peak may be the first to the fourth harmonic of a note, each this much less likely than the one before.
HARMONICS, HARMONIC_DECAY = 4, 0.6

MAJOR = np.array([1.0, 0.29, 0.50, 0.40, 0.60, 0.56, 0.32, 0.80, 0.31, 0.45, 0.42, 0.39])
MINOR = np.array([1.0, 0.31, 0.44, 0.58, 0.33, 0.49, 0.29, 0.78, 0.43, 0.29, 0.53, 0.32])

BEGINNING_WEIGHT = 0.8

# Partials against drums: how much of the spectrum is peaks, how well they are in tune with each other, how much of the
# spectrum lasts for half a second. Weights of a logistic regression on loops of the generator.
_TONALITY = (-12.0, 114.0, 9.5, 5.0)


@dataclass(frozen=True)
class Key:
    """A key such as `A minor`, how sure it is (0 to 1), and how likely there is one at all (0 to 1)."""

    name: str
    confidence: float
    tonality: float


@dataclass(frozen=True)
class _Peaks:
    """Partials of all frames: MIDI numbers relative to the tuning, and weights."""

    pitches: NDArray[np.float64]
    weights: NDArray[np.float64]
    marks: tuple[float, float, float]


def find_key(mono: Floats, sample_rate_hz: int) -> Key | None:
    """Return the key of a loop; None where there are no partials.

    Args:
        mono: shape (samples,), at a rate of about four times `HIGHEST_HZ`.
        sample_rate_hz: its rate.
    """
    peaks = _peaks(mono, sample_rate_hz, HIGHEST_HZ)
    beginning = _peaks(mono[: round(BEGINNING_S * sample_rate_hz)], sample_rate_hz, BASS_BELOW_HZ)
    if peaks is None:
        return None
    chroma = _chroma(peaks)
    bass = np.full(12, 1 / 12) if beginning is None else _chroma(beginning)
    fits = np.array([np.corrcoef(np.roll(profile, tonic), chroma)[0, 1] for profile in (MAJOR, MINOR)
                     for tonic in range(12)])  # fmt: skip
    scores = fits + BEGINNING_WEIGHT * np.tile(bass, 2)
    best, second = np.argsort(-scores, kind="stable")[:2]
    constant, *weights = _TONALITY
    tonality = _sigmoid(constant + sum(weight * mark for weight, mark in zip(weights, peaks.marks, strict=True)))
    sure = _sigmoid(12 * (scores[best] - scores[second] - 0.02)) * _sigmoid(8 * (fits[best] - 0.5))
    return Key(f"{NOTES[best % 12]} {'major' if best < 12 else 'minor'}", float(sure), tonality)


def _peaks(mono: Floats, sample_rate_hz: int, highest_hz: float) -> _Peaks | None:
    size, hop = round(WINDOW_S * sample_rate_hz) // 2 * 2, round(HOP_S * sample_rate_hz)
    padded = np.pad(mono, size // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    magnitudes = np.abs(scipy.fft.rfft(frames * np.hanning(size).astype(np.float32), axis=1))
    low, high = (round(edge_hz * size / sample_rate_hz) for edge_hz in (LOWEST_HZ, highest_hz))
    high = min(high, magnitudes.shape[1] - 1)
    levels = np.log(np.maximum(magnitudes, 1e-9))
    around = scipy.ndimage.uniform_filter1d(levels, _AROUND_BINS, axis=1)[:, low:high]
    before, at, after = (levels[:, low + step : high + step] for step in (-1, 0, 1))
    db = math.log(10) / 20
    is_peak = (at > before) & (at >= after) & (at > around + PEAKS_ABOVE_AROUND_DB * db)
    is_peak &= at > max(float(levels.max()) - PEAKS_BELOW_DB * db, math.log(1e-6))
    frame, bin_number = np.nonzero(is_peak)
    if not len(frame):
        return None
    before, at, after = before[is_peak], at[is_peak], after[is_peak]
    frequencies = (bin_number + low + 0.5 * (before - after) / (before - 2 * at + after)) * (sample_rate_hz / size)
    # The square root: a melody over a loud bass is heard as well.
    weights = np.exp(at.astype(np.float64) / 2)
    strong = _rank_in_frame(frame, weights) < PEAKS_PER_FRAME
    pitches, weights = 69 + 12 * np.log2(frequencies[strong] / 440), weights[strong]
    turns = (weights * np.exp(2j * np.pi * pitches)).sum()
    spectrum = magnitudes[:, low:high]
    marks = (
        float(weights.sum()) / float(np.sqrt(spectrum).sum(dtype=np.float64)),
        float(np.abs(turns)) / float(weights.sum()),
        _lasting_share(spectrum),
    )
    return _Peaks(pitches - np.angle(turns) / (2 * np.pi), weights, marks)


def _rank_in_frame(frame: NDArray[np.intp], weights: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return for each peak how many of its frame are stronger; frames are in ascending order."""
    order = np.lexsort((-weights, frame))
    ranks = np.empty(len(frame), np.intp)
    ranks[order] = np.arange(len(frame)) - np.searchsorted(frame[order], frame[order])
    return ranks


def _lasting_share(magnitudes: Floats) -> float:
    """Return the share of the power that is there in most of five frames in a row."""
    rows = np.pad(magnitudes.T, ((0, 0), (2, 2)), mode="edge")
    medians = scipy.ndimage.median_filter(rows.ravel(), 5).reshape(rows.shape)[:, 2:-2].T
    lasting = np.minimum(magnitudes, medians)
    return float((lasting**2).sum(dtype=np.float64) / max(float((magnitudes**2).sum(dtype=np.float64)), 1e-20))


def _chroma(peaks: _Peaks) -> NDArray[np.float64]:
    """Return how much of each of the twelve notes there is, from C; they sum to one."""
    chroma = np.zeros(12)
    for number in range(1, HARMONICS + 1):
        pitches = peaks.pitches - 12 * math.log2(number)
        notes = np.rint(pitches)
        weights = peaks.weights * HARMONIC_DECAY ** (number - 1) * np.cos(np.pi * (pitches - notes)) ** 2
        np.add.at(chroma, notes.astype(int) % 12, weights)
    return np.asarray(chroma / chroma.sum())


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))
