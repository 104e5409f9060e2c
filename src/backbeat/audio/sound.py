"""One sound and what is derived from it, each thing once: mono, envelope, spectrum, onsets, pitch."""

from __future__ import annotations

import functools

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from backbeat.audio.onsets import Onsets, find_onsets
from backbeat.audio.pitch import Pitch, find_pitch
from backbeat.audio.spectrum import Spectrum, short_time_spectrum

Floats = NDArray[np.float32]

# A step of the envelope: half of what an ear takes for one event.
ENVELOPE_STEP_S = 0.0005

# Levels are taken of pieces of this length.
LEVEL_S = 0.010

# What has pitch and key lies below half of this.
LOW_RATE_HZ = 11_025

# Medians over so many frames (0.2 s) and bands split a spectrum into what lasts and what strikes.
_MEDIAN_FRAMES, _MEDIAN_BANDS = 17, 13


class Sound:
    """Decoded samples, and what many descriptors share.

    Args:
        channels: shape (samples, channels), finite, at least one sample.
        sample_rate_hz: its rate.
    """

    def __init__(self, channels: Floats, sample_rate_hz: int) -> None:
        # One channel after the other, shape (channels, samples): sums over pairs of neighbors are slow.
        self.channels = np.ascontiguousarray(channels.T, dtype=np.float32)
        self.sample_rate_hz = sample_rate_hz
        self.duration_s = len(channels) / sample_rate_hz

    @functools.cached_property
    def mono(self) -> Floats:
        """The mean of the channels, shape (samples,)."""
        mono = self.channels[0] if len(self.channels) == 1 else self.channels.mean(axis=0, dtype=np.float32)
        return np.asarray(mono)

    @functools.cached_property
    def peak(self) -> float:
        """The largest magnitude of a sample of any channel; 0 is silence."""
        return float(self._magnitudes.max())

    @functools.cached_property
    def envelope(self) -> Floats:
        """The largest magnitude within each `ENVELOPE_STEP_S`, of any channel, shape (steps,)."""
        return np.asarray(_blocks(self._magnitudes, self.envelope_step_samples).max(axis=1))

    @functools.cached_property
    def _magnitudes(self) -> Floats:
        return np.asarray(np.abs(self.channels).max(axis=0))

    @property
    def envelope_step_samples(self) -> int:
        """Length of a step of the envelope."""
        return max(1, round(ENVELOPE_STEP_S * self.sample_rate_hz))

    def steps_to_seconds(self, steps: float) -> float:
        """Convert steps of the envelope."""
        return steps * self.envelope_step_samples / self.sample_rate_hz

    @functools.cached_property
    def levels(self) -> Floats:
        """The root mean square of all channels within each `LEVEL_S`, shape (pieces,); the last may be shorter."""
        squares = (self.channels * self.channels).mean(axis=0)
        size = max(1, round(LEVEL_S * self.sample_rate_hz))
        levels = np.sqrt(_blocks(squares, size).mean(axis=1))
        rest = len(squares) % size
        if rest:
            levels[-1] = np.sqrt(squares[-rest:].mean())
        return np.asarray(levels)

    @functools.cached_property
    def spectrum(self) -> Spectrum:
        """The short-time spectrum of the mono sound; where that cancels itself out, of the first channel."""
        silent = float(np.abs(self.mono).max()) < 1e-3 * self.peak
        return short_time_spectrum(self.channels[0] if silent else self.mono, self.sample_rate_hz)

    @functools.cached_property
    def onsets(self) -> Onsets:
        """Where something begins."""
        return find_onsets(self.spectrum)

    @functools.cached_property
    def low(self) -> tuple[Floats, int]:
        """The mono sound at no more than `LOW_RATE_HZ`, and its rate: enough for pitch and key."""
        if self.sample_rate_hz <= LOW_RATE_HZ:
            return self.mono, self.sample_rate_hz
        import soxr

        return soxr.resample(self.mono, self.sample_rate_hz, LOW_RATE_HZ, quality="HQ"), LOW_RATE_HZ

    @functools.cached_property
    def pitch(self) -> Pitch:
        """The pitch of its beginning."""
        return find_pitch(*self.low)

    @functools.cached_property
    def harmonic_and_percussive(self) -> tuple[float, float]:
        """The power of what lasts in time, and of what is spread over frequency (FitzGerald, DAFx 2010)."""
        bands = np.sqrt(self.spectrum.bands)
        lasting, striking = _medians(bands, _MEDIAN_FRAMES), _medians(bands.T, _MEDIAN_BANDS).T
        lasting, striking = lasting * lasting, striking * striking
        mask = lasting / np.maximum(lasting + striking, np.float32(1e-20))
        harmonic = self.spectrum.bands * mask
        return float(harmonic.sum()), float((self.spectrum.bands - harmonic).sum())


def _blocks(values: Floats, size: int) -> Floats:
    """Return the values in pieces, zeros after the last, shape (pieces, size)."""
    whole = -(-len(values) // size)
    return np.pad(values, (0, whole * size - len(values))).reshape(whole, size)


def _medians(rows: Floats, size: int) -> Floats:
    """Return the running medians of each row; in one line, where scipy is seven times as fast as in a table."""
    half = size // 2
    padded = np.pad(rows, ((0, 0), (half, half)), mode="symmetric" if rows.shape[1] > half else "edge")
    middle = scipy.ndimage.median_filter(padded.ravel(), size).reshape(padded.shape)
    return np.asarray(middle[:, half : half + rows.shape[1]])
