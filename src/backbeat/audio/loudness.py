"""How loud a sound is: BS.1770's integrated loudness through pyloudnorm, and its peak between the samples."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import scipy.signal
from numpy.typing import NDArray

Floats = NDArray[np.float32]

# BS.1770 measures blocks of this length; what is shorter is filled up with silence.
BLOCK_S = 0.4

# The K-weighting's shelf begins near 1.7 kHz; at a lower rate than this there is no such filter.
LEAST_RATE_HZ = 8_000

# BS.1770 has weights for five channels.
MOST_CHANNELS = 5

# Annex 2: at four times 48 kHz a crest is underread by 0.7 dB at most.
OVERSAMPLED_HZ = 176_400
_TAPS_PER_PHASE = 12
_BLOCK_SAMPLES = 64


def integrated_lufs(channels: Floats, sample_rate_hz: int) -> float | None:
    """Return the loudness in LUFS; None where all of it is below the absolute gate of -70 LUFS.

    A sound shorter than 400 ms is filled up with silence to that length: BS.1770 defines nothing shorter, and
    pyloudnorm refuses it.

    Args:
        channels: shape (channels, samples).
        sample_rate_hz: its rate.
    """
    if sample_rate_hz < LEAST_RATE_HZ:
        return None
    least = math.ceil(BLOCK_S * sample_rate_hz) + 1
    sound = channels[:MOST_CHANNELS]
    if sound.shape[1] < least:
        sound = np.pad(sound, ((0, 0), (0, least - sound.shape[1])))
    with np.errstate(divide="ignore", invalid="ignore"):
        loudness = float(_meter(sample_rate_hz).integrated_loudness(sound.T))
    return loudness if math.isfinite(loudness) else None


def true_peak(channels: Floats, sample_rate_hz: int) -> float:
    """Return the largest magnitude of the sound between its samples (ITU-R BS.1770-5, Annex 2); 1 is full scale.

    Only where it can be is looked: the filter raises no sample by more than the sum of its coefficients.

    Args:
        channels: shape (channels, samples).
        sample_rate_hz: its rate.
    """
    factor = max(1, math.ceil(OVERSAMPLED_HZ / sample_rate_hz))
    highest = float(np.abs(channels).max(initial=0))
    if factor == 1 or highest == 0:
        return highest
    factor = min(factor, 8)
    taps = _interpolation(factor)
    gain = max(float(np.abs(taps[phase::factor]).sum()) for phase in range(factor))
    for channel in channels:
        for start, end in _loud_spans(channel, highest / gain):
            piece = channel[max(0, start - _TAPS_PER_PHASE) : end + _TAPS_PER_PHASE]
            highest = max(highest, float(np.abs(scipy.signal.upfirdn(taps, piece, factor)).max()))
    return highest


@functools.lru_cache(maxsize=8)
def _meter(sample_rate_hz: int) -> Any:
    import pyloudnorm

    return pyloudnorm.Meter(sample_rate_hz, block_size=BLOCK_S)


@functools.lru_cache(maxsize=4)
def _interpolation(factor: int) -> Floats:
    taps = scipy.signal.firwin(_TAPS_PER_PHASE * factor + 1, 1 / factor, window=("kaiser", 5.0))
    return np.asarray(factor * taps, np.float32)


def _loud_spans(channel: Floats, threshold: float) -> list[tuple[int, int]]:
    """Return the pieces, as (first, end) samples, outside of which all is below the threshold."""
    whole = -(-len(channel) // _BLOCK_SAMPLES)
    padded = np.pad(np.abs(channel), (0, whole * _BLOCK_SAMPLES - len(channel)))
    loud = padded.reshape(whole, _BLOCK_SAMPLES).max(axis=1) >= threshold
    edges = np.flatnonzero(np.diff(loud, prepend=False, append=False)) * _BLOCK_SAMPLES
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]
