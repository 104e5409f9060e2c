"""The pitch of a sound of one voice: YIN over its frames, and what most of its energy agrees on.

de Cheveigné & Kawahara, "YIN, a fundamental frequency estimator for speech and music", JASA 111(4), 2002: the
difference function, its cumulative mean normalization, the first dip below a threshold, a parabola through the dip.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray

Floats = NDArray[np.float32]

LOWEST_HZ, HIGHEST_HZ = 27.5, 2000.0

# Length of the compared pieces, and from one frame to the next. The longest lag is one period of the lowest pitch.
WINDOW_S, HOP_S = 0.05, 0.025

# After so much of the sound its pitch is known.
LONGEST_S = 2.0

# YIN's threshold: how aperiodic a frame may be, as a share of its power.
THRESHOLD = 0.15

# Frames within this of the answer agree with it: half a semitone.
AGREE_CENTS = 50.0

NOTES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")


@dataclass(frozen=True)
class Pitch:
    """A fundamental frequency, and how much of the sound's energy is periodic and agrees on it (0 to 1)."""

    hz: float
    confidence: float


NO_PITCH = Pitch(0.0, 0.0)


def find_pitch(mono: Floats, sample_rate_hz: int) -> Pitch:
    """Return the pitch of the beginning of a sound; a confidence of 0 where there is none.

    Args:
        mono: shape (samples,), at a rate that need not be more than five times `HIGHEST_HZ`.
        sample_rate_hz: its rate.
    """
    longest_lag = math.ceil(sample_rate_hz / LOWEST_HZ) + 2
    window = round(WINDOW_S * sample_rate_hz)
    size, hop = window + longest_lag, max(1, round(HOP_S * sample_rate_hz))
    sound = mono[: round(LONGEST_S * sample_rate_hz)]
    sound = np.pad(sound, (0, max(0, size - len(sound))))
    frames = np.lib.stride_tricks.sliding_window_view(sound, size)[::hop].astype(np.float64)
    energy = (frames[:, :window] ** 2).sum(axis=1)
    if energy.max() <= 1e-12:
        return NO_PITCH
    chosen = energy > energy.max() * 1e-4
    lags, aperiodicity = _dips(frames[chosen], window, longest_lag, sample_rate_hz)
    return _agreed(sample_rate_hz / lags, aperiodicity, energy[chosen])


def note_name(pitch_hz: float) -> str:
    """Return the nearest note of equal temperament at A4 = 440 Hz, with the cents from it: `A1 +12`."""
    semitones = 69 + 12 * math.log2(pitch_hz / 440)
    nearest = round(semitones)
    return f"{NOTES[nearest % 12]}{nearest // 12 - 1} {round(100 * (semitones - nearest)):+d}"


def _dips(
    frames: NDArray[np.float64], window: int, longest_lag: int, sample_rate_hz: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the period of each frame in samples, and how aperiodic it is (0 to 1)."""
    length = scipy.fft.next_fast_len(frames.shape[1] + window, real=True)
    whole = scipy.fft.rfft(frames, length, axis=1)
    head = scipy.fft.rfft(frames[:, :window], length, axis=1)
    correlation = scipy.fft.irfft(whole * head.conj(), length, axis=1)[:, :longest_lag]
    sums = np.cumsum(np.pad(frames**2, ((0, 0), (1, 0))), axis=1)
    powers = sums[:, window : window + longest_lag] - sums[:, :longest_lag]
    difference = np.maximum(0, powers[:, :1] + powers - 2 * correlation)
    difference[:, 0] = 0
    running = np.cumsum(difference, axis=1)
    steps = np.arange(longest_lag)
    normal = np.where(running > 0, difference * steps / np.maximum(running, 1e-30), 1.0)
    shortest_lag = max(2, math.floor(sample_rate_hz / HIGHEST_HZ))
    inner = normal[:, shortest_lag:-1]
    is_dip = (inner <= normal[:, shortest_lag - 1 : -2]) & (inner < normal[:, shortest_lag + 1 :])
    good = is_dip & (inner < THRESHOLD)
    lag = np.where(good.any(axis=1), good.argmax(axis=1), np.where(is_dip, inner, 2.0).argmin(axis=1)) + shortest_lag
    rows = np.arange(len(frames))
    # The parabola goes through the difference itself: its mean normalization leans to one side.
    before, at, after = (difference[rows, lag + step] for step in (-1, 0, 1))
    bend = np.maximum(before - 2 * at + after, 1e-12 * np.maximum(powers[:, 0], 1e-12))
    return lag + np.clip(0.5 * (before - after) / bend, -0.5, 0.5), np.clip(normal[rows, lag], 0, 1)


def _agreed(pitches_hz: NDArray[np.float64], aperiodicity: NDArray[np.float64], energy: NDArray[np.float64]) -> Pitch:
    weight = np.sqrt(energy) * np.maximum(0, 1 - aperiodicity / 0.5)
    if weight.sum() <= 0:
        return NO_PITCH
    order = np.argsort(pitches_hz, kind="stable")
    middle = order[np.searchsorted(np.cumsum(weight[order]), weight.sum() / 2)]
    cents = 1200 * np.abs(np.log2(pitches_hz / pitches_hz[middle]))
    agree = cents < AGREE_CENTS
    hz = float((pitches_hz * weight)[agree].sum() / weight[agree].sum())
    return Pitch(hz, float(weight[agree].sum() / np.sqrt(energy).sum()))
