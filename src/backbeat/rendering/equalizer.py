"""Equalizers as analog ones are: of minimum phase, so that nothing is heard before its cause.

The phase follows from the magnitude: the logarithm of the response of a causal filter with a causal inverse has a
causal transform, the complex cepstrum, and that is the real cepstrum of the magnitude, folded (A. V. Oppenheim and
R. W. Schafer, Discrete-Time Signal Processing, on cepstra and the Hilbert transform). A curve is designed on a short
FFT, becomes an impulse response, and filters a whole signal as that.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.signal import fftconvolve

from backbeat.rendering.bank import SAMPLE_RATE_HZ, Audio

# Nothing is cut further than this below the loudest frequency: a codec's wall would have no logarithm that a short FFT
# can hold, and files of 16 bits end there.
_FLOOR_DB = 100.0

# Enough where nothing is steep.
_GENTLE_SAMPLES = 8_192

# The last part of an impulse response fades, where only what wrapped around is left.
_FADED_SHARE = 0.25


def frequencies_hz(size: int) -> NDArray[np.float64]:
    """Return the frequencies of a curve for an impulse response of `size` samples: (size // 2 + 1,)."""
    return np.asarray(fft.rfftfreq(size, 1 / SAMPLE_RATE_HZ), np.float64)


def minimum_phase(curve_db: NDArray[np.floating]) -> NDArray[np.complex128]:
    """Return the response of minimum phase whose magnitude is a curve.

    Args:
        curve_db: (bins,) on the bins of an rfft of `2 * (bins - 1)` samples. What is 100 dB and more below its highest
            is as if it were 100 dB below. It wants to be smooth on the scale of a few bins.

    Returns:
        (bins,) complex; its irfft is an impulse response whose energy comes as early as the curve allows.
    """
    magnitude_db = np.maximum(curve_db, curve_db.max() - _FLOOR_DB).astype(np.float64)
    bins = len(magnitude_db)
    cepstrum = fft.irfft(magnitude_db * (np.log(10) / 20), 2 * (bins - 1))
    cepstrum[1 : bins - 1] *= 2
    cepstrum[bins:] = 0
    return np.asarray(np.exp(fft.rfft(cepstrum)), np.complex128)


def impulse_response(curve_db: NDArray[np.floating]) -> Audio:
    """Return a curve as a causal filter: (2 * (bins - 1),) samples, faded at the end.

    Args:
        curve_db: (bins,) as for `minimum_phase`, at `frequencies_hz`.
    """
    response = fft.irfft(minimum_phase(curve_db))
    fade = round(_FADED_SHARE * len(response))
    response[-fade:] *= np.linspace(1.0, 0.0, fade)
    return np.asarray(response, np.float32)


@lru_cache(maxsize=16)
def tilt_and_bell(tilt_db: float, bell_db: float, bell_octave: float) -> Audio:
    """Return the filter of a slope and a bell; the same array for the same numbers, so it is not to be written to.

    Args:
        tilt_db: from 40 Hz to nine octaves above it, half of it below zero.
        bell_db: at the top of the bell, which is an octave wide to each side.
        bell_octave: where the bell is, above 40 Hz.
    """
    octaves = np.log2(np.maximum(frequencies_hz(_GENTLE_SAMPLES), 20.0) / 40.0)
    return impulse_response(tilt_db * (octaves / 9 - 0.5) + bell_db * np.exp(-((octaves - bell_octave) ** 2)))


def filtered(samples: Audio, response: Audio) -> Audio:
    """Filter a sound: it begins where it began, and what rings beyond its end is cut.

    Args:
        samples: (samples,).
        response: (taps,) of a causal filter.
    """
    return np.asarray(fftconvolve(samples, response)[: len(samples)], np.float32)
