"""The short-time spectrum of a sound, taken once, and what its frames say: level, bands, moments, shape.

Definition. Frames of 46 ms every 12 ms (2048 and 512 samples at 44.1 kHz; as long in seconds at any other rate), a
periodic Hann window, centered, with zeros before the beginning and after the end. What is kept of a frame is small, so
that memory grows with the length of the sound by some hundred bytes a frame.

The bands are 64 triangles on the HTK mel scale from 20 Hz to 16 kHz whatever the rate; a band above half the rate is
empty. All sums are numpy's and scipy.sparse's own, which one thread adds up in one order: a linear algebra library
with threads would give other last digits on another number of processors.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass

import numpy as np
import scipy.fft
import scipy.sparse
from numpy.typing import NDArray

from backbeat.audio.logmel import hz_to_mel, mel_to_hz

Floats = NDArray[np.float32]

FRAME_S = 2048 / 44_100
HOP_S = 512 / 44_100

BANDS = 64
LOW_HZ = 20.0
HIGH_HZ = 16_000.0

# Below so much of the loudest frame there is only what a recording adds to a sound; such frames are left out of means.
ACTIVE_BELOW_DB = 60.0

# The octaves of spectral contrast: their lower edges, and the share of bins that are a peak or a valley (Jiang 2002).
CONTRAST_EDGES_HZ = (0.0, 200.0, 400.0, 800.0, 1600.0, 3200.0, 6400.0, 12_800.0)
CONTRAST_SHARE = 0.02

ROLLOFF_SHARE = 0.85

# Frames worked on at once: they fit the second-level cache.
_BLOCK_FRAMES = 64

# What keeps a logarithm finite: 200 dB below full scale, and 100 dB below the frame.
_TINY, _FLOOR = np.float32(1e-20), np.float32(1e-10)


@dataclass(frozen=True)
class Spectrum:
    """What the frames of a sound say.

    Args:
        hop_s: from one frame to the next.
        bins_hz: the frequencies of the transform, shape (bins,).
        power: shape (frames,): the sum of the squared magnitudes of a frame.
        bands: shape (BANDS, frames): power in mel bands.
        centroid_hz: shape (frames,); so the following.
        bandwidth_hz: the standard deviation of frequency around it.
        rolloff_hz: below it are 85 % of the magnitudes.
        flatness: geometric over arithmetic mean of the power.
        contrast_db: peaks over valleys, the mean over octaves.
        mean_power: shape (bins,): the mean over all frames.
        highest_power: shape (bins,): the maximum over all frames.
    """

    hop_s: float
    bins_hz: Floats
    power: Floats
    bands: Floats
    centroid_hz: Floats
    bandwidth_hz: Floats
    rolloff_hz: Floats
    flatness: Floats
    contrast_db: Floats
    mean_power: Floats
    highest_power: Floats

    @functools.cached_property
    def active(self) -> NDArray[np.bool_]:
        """Which frames are loud enough to count, shape (frames,); none of silence."""
        return np.asarray(self.power > max(float(self.power.max()) * 10 ** (-ACTIVE_BELOW_DB / 10), float(_TINY)))

    @functools.cached_property
    def bands_db(self) -> Floats:
        """Return the bands in decibels, down to `ACTIVE_BELOW_DB` below the loudest of all, shape (BANDS, frames)."""
        decibels = 10 * np.log10(np.maximum(self.bands, _TINY))
        return np.asarray(np.maximum(decibels, decibels.max() - np.float32(ACTIVE_BELOW_DB)))


def frame_samples(sample_rate_hz: int) -> tuple[int, int]:
    """Return the length of a frame and the distance of two, in samples."""
    hop = max(1, round(HOP_S * sample_rate_hz))
    # An even number without large prime factors, near four hops: what the transform is fast at.
    return int(scipy.fft.next_fast_len(2 * hop, real=True)) * 2, hop


def short_time_spectrum(mono: Floats, sample_rate_hz: int) -> Spectrum:
    """Take the spectrum of a sound.

    Args:
        mono: shape (samples,), finite, at least one.
        sample_rate_hz: its rate.
    """
    size, hop = frame_samples(sample_rate_hz)
    plan = _plan(sample_rate_hz, size)
    padded = np.zeros(len(mono) + size, np.float32)
    padded[size // 2 : size // 2 + len(mono)] = mono
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    count = len(frames)
    bands = np.empty((BANDS, count), np.float32)
    measures = np.empty((6, count), np.float32)
    total = np.zeros(size // 2 + 1, np.float64)
    highest = np.zeros(size // 2 + 1, np.float32)
    for start in range(0, count, _BLOCK_FRAMES):
        part = slice(start, min(start + _BLOCK_FRAMES, count))
        magnitude = np.abs(scipy.fft.rfft(frames[part] * plan.window, axis=1))
        power = magnitude * magnitude
        bands[:, part] = plan.filters @ np.ascontiguousarray(power.T)
        _measure(magnitude, power, plan, measures[:, part])
        total += power.sum(axis=0, dtype=np.float64)
        np.maximum(highest, power.max(axis=0), out=highest)
    level, centroid_hz, bandwidth_hz, rolloff_hz, flatness, contrast_db = measures
    return Spectrum(
        hop_s=hop / sample_rate_hz,
        bins_hz=plan.bins_hz,
        power=level,
        bands=bands,
        centroid_hz=centroid_hz,
        bandwidth_hz=bandwidth_hz,
        rolloff_hz=rolloff_hz,
        flatness=flatness,
        contrast_db=contrast_db,
        mean_power=(total / count).astype(np.float32),
        highest_power=highest,
    )


@dataclass(frozen=True)
class _Plan:
    """What depends on the rate alone."""

    window: Floats
    bins_hz: Floats
    filters: scipy.sparse.csr_array
    octaves: tuple[tuple[int, int], ...]


@functools.lru_cache(maxsize=8)
def _plan(sample_rate_hz: int, size: int) -> _Plan:
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    bins_hz = np.arange(size // 2 + 1) * (sample_rate_hz / size)
    corners_hz = mel_to_hz(np.linspace(hz_to_mel(LOW_HZ), hz_to_mel(HIGH_HZ), BANDS + 2))[:, None]
    rising = (bins_hz - corners_hz[:-2]) / (corners_hz[1:-1] - corners_hz[:-2])
    falling = (corners_hz[2:] - bins_hz) / (corners_hz[2:] - corners_hz[1:-1])
    filters = np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)
    edges = [*np.searchsorted(bins_hz, CONTRAST_EDGES_HZ), len(bins_hz)]
    octaves = tuple((int(low), int(high)) for low, high in itertools.pairwise(edges) if high - low >= 4)
    # A window scaled so that a sine of amplitude 1 has a magnitude of 1.
    scaled = (window * (2 / window.sum())).astype(np.float32)
    return _Plan(scaled, bins_hz.astype(np.float32), scipy.sparse.csr_array(filters), octaves)


def _measure(magnitude: Floats, power: Floats, plan: _Plan, out: Floats) -> None:
    """Write power, centroid, bandwidth, rolloff, flatness and contrast of some frames into `out`, shape (6, frames)."""
    sums = np.maximum(magnitude.sum(axis=1), _TINY)
    squares = power.sum(axis=1)
    centroid = (magnitude * plan.bins_hz).sum(axis=1) / sums
    away = plan.bins_hz - centroid[:, None]
    out[0], out[1] = squares, centroid
    out[2] = np.sqrt((magnitude * away * away).sum(axis=1) / sums)
    below = np.cumsum(magnitude, axis=1) < np.float32(ROLLOFF_SHARE) * sums[:, None]
    out[3] = plan.bins_hz[np.minimum(below.sum(axis=1), len(plan.bins_hz) - 1)]
    # What is further below a frame than this is rounding, or the dither of a file, and not the sound.
    floored = np.maximum(power, np.maximum(squares * _FLOOR, _TINY)[:, None])
    out[4] = np.exp(np.log(floored).mean(axis=1)) / floored.mean(axis=1)
    contrast = np.zeros(len(magnitude), np.float32)
    for low, high in plan.octaves:
        ordered = np.sort(floored[:, low:high], axis=1)
        edge = max(1, round(CONTRAST_SHARE * (high - low)))
        contrast += np.log10(ordered[:, -edge:].mean(axis=1) / ordered[:, :edge].mean(axis=1))
    out[5] = 10 * contrast / max(1, len(plan.octaves))
