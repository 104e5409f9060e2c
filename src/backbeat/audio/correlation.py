"""Whether two sounds are one recording: their waveforms correlated, as a whole and in detail.

Two hits on one drum look alike and do not correlate, while a copy does whatever was done to it. As a whole: the
normalized cross-correlation from the onset on, at the lag at which it is largest. It is that of the loudest part: two
tuned kicks may reach it. In detail: the same in each octave and each stretch of time, where soft cells count nearly as
much as loud ones. Of an equalizer, a codec, saturation or a small room each cell sees little; of another stick, skin
or oscillator at least some of them see everything.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import scipy.fft
import soxr
from numpy.typing import NDArray

from backbeat.audio.resemblance import onset

# Waveforms are compared at this rate: what distinguishes two recordings is there below 11 kHz as well.
COMPARED_HZ = 22_050
# Of longer sounds the beginning is compared.
LONGEST_S = 20.0
# So much before the onset belongs to it.
_LEAD = round(0.025 * COMPARED_HZ)
# Onsets are found this exactly: a slow one shifts when another part of the sound is the loudest.
_LARGEST_LAG = round(0.05 * COMPARED_HZ)
# The lag is found in the beginning; where that does not correlate at all, the rest is not looked at.
_HEAD = 2**13
_LEAST_HEAD = 0.5
_FINER = 4
# Around that lag the one of the whole is looked for, in samples: a tone correlates nearly as well a period later.
_TURNS, _TURN_STEP, _TURNED_HZ = 6.0, 0.125, 40.0
# A cut tail is faded, by up to so much: this is not compared.
_FADE = round(0.05 * COMPARED_HZ)
_FADE_SHARE = 0.15
# Below this the details are not looked at.
_LEAST_WHOLE = 0.9

# The cells of the details: about an octave each, up to what every resampler leaves alone; and stretches of time that
# grow with the distance from the onset.
_OCTAVES_HZ = np.array([20, 100, 200, 400, 800, 1600, 3200, 6400, 10_500])
_STRETCHES = np.round(np.array([0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2]) * COMPARED_HZ).astype(np.intp)
_DETAILED = round(5 * COMPARED_HZ)
# A cell weighs as the fourth root of its share of the energy, and half as much in each later stretch: the attack tells
# instruments apart, the tail is where rooms and codecs leave their traces. One 50 dB down is noise.
_WEIGHT, _LATER = 0.25, 0.5
_LEAST_SHARE = 1e-5
# Octaves that a change of the gain is looked for in.
_HEARD_SHARE = 3e-3

Wave = NDArray[np.int16]


@dataclass(frozen=True)
class Likeness:
    """How much two waveforms are one.

    Args:
        correlation: of the common part as a whole; 1 for any gain, either polarity, a shift.
        detail: its weighted mean over octaves and stretches of time; 0 where the whole does not correlate.
        tilt_db: by how much the gain between the two differs from octave to octave, where they have energy: 0 for a
            copy that is only louder.
        common: what share of its energy each of the two has in the common part; the smaller one.
    """

    correlation: float
    detail: float
    tilt_db: float
    common: float


UNLIKE = Likeness(0.0, 0.0, 0.0, 0.0)


def waveform(mono: NDArray[np.float32], sample_rate_hz: int) -> Wave:
    """Return a sound as it is compared: at `COMPARED_HZ`, from just before its onset, normalized; empty for silence.

    Args:
        mono: the samples, shape (samples,).
        sample_rate_hz: their rate.
    """
    begin = onset(mono)
    if begin is None:
        return np.zeros(0, np.int16)
    lead = round(_LEAD / COMPARED_HZ * sample_rate_hz)
    part = mono[max(0, begin - lead) :][: round(LONGEST_S * sample_rate_hz)]
    part = np.concatenate([np.zeros(max(0, lead - begin), np.float32), part])
    if sample_rate_hz != COMPARED_HZ:
        part = soxr.resample(part, sample_rate_hz, COMPARED_HZ, quality="HQ")
    return np.round(part * (32_000 / max(float(np.abs(part).max(initial=0)), 1e-12))).astype(np.int16)


def compare(one: Wave, other: Wave) -> Likeness:
    """Return how much two waveforms (`waveform`) are one."""
    lag, coarse = _lag(one, other)
    if coarse < _LEAST_HEAD:
        return UNLIKE
    first, second = (one, other[lag:]) if lag > 0 else (one[-lag:], other)
    length = min(len(first), len(second))
    if abs(len(first) - len(second)) > _LEAD // 10:
        length -= min(_FADE, int(_FADE_SHARE * length))
    if length < _LEAD:
        return UNLIKE
    parts = [first[:length].astype(np.float32), second[:length].astype(np.float32)]
    common = min(_energy(parts[0]) / _energy(one), _energy(parts[1]) / _energy(other))
    turn, whole, tilt_db = _whole(parts)
    detail = _detail([part[:_DETAILED] for part in parts], turn, np.sign(whole)) if abs(whole) > _LEAST_WHOLE else 0.0
    return Likeness(abs(whole), detail, tilt_db, common)


def _lag(one: Wave, other: Wave) -> tuple[int, float]:
    """Return how many samples later the second is, and the correlation of the two heads at that lag."""
    heads = [part[:_HEAD].astype(np.float32) for part in (one, other)]
    size = scipy.fft.next_fast_len(max(map(len, heads)) + _LARGEST_LAG, real=True)
    spectra = [scipy.fft.rfft(head, size) for head in heads]
    # Finer than the samples: half way between two of them noise does not correlate, and a tone better a period later.
    fine = scipy.fft.irfft(np.conj(spectra[0]) * spectra[1], _FINER * size) * _FINER
    near = np.concatenate([fine[-_FINER * _LARGEST_LAG :], fine[: _FINER * _LARGEST_LAG + 1]])
    at = int(np.argmax(np.abs(near)))
    norm = np.sqrt(_energy(heads[0]) * _energy(heads[1]))
    return round(at / _FINER) - _LARGEST_LAG, float(abs(near[at]) / max(norm, 1e-12))


def _whole(parts: list[NDArray[np.float32]]) -> tuple[float, float, float]:
    """Return the rest of the lag in samples, the signed correlation, and the tilt in dB."""
    spectra, frequencies_hz, edges = _spectra(parts)
    inside = slice(edges[0], edges[-1])
    cross = np.conj(spectra[0][inside]).astype(np.complex128) * spectra[1][inside]
    turn = _turn(cross, frequencies_hz[inside])
    in_octaves = [
        _sums(np.square(np.abs(spectrum[inside]), dtype=np.float64), edges - edges[0]) for spectrum in spectra
    ]
    totals = [float(power.sum()) for power in in_octaves]
    if min(totals) <= 0:
        return 0.0, 0.0, 0.0
    turned = (cross * _phases(frequencies_hz[inside], turn)).real.sum()
    heard = np.sqrt(in_octaves[0] / totals[0] * (in_octaves[1] / totals[1])) > _HEARD_SHARE
    gains_db = 10 * np.log10(in_octaves[1][heard] / in_octaves[0][heard])
    return turn, float(turned / np.sqrt(totals[0] * totals[1])), float(np.ptp(gains_db)) if heard.any() else 0.0


def _turn(cross: NDArray[np.complex128], frequencies_hz: NDArray[np.float64]) -> float:
    """Return by how many samples, and which fraction of one, the second of a cross-spectrum is later."""
    # Over so few samples neighboring frequencies turn together: what is searched through are sums of them.
    width = max(1, round(_TURNED_HZ / (frequencies_hz[1] - frequencies_hz[0])))
    starts = np.arange(0, len(cross), width)
    sums = np.add.reduceat(cross, starts)
    centers = np.add.reduceat(frequencies_hz, starts) / np.diff(np.append(starts, len(cross)))
    lags = np.arange(-_TURNS, _TURNS + _TURN_STEP, _TURN_STEP)
    found = np.abs((np.exp(2j * np.pi / COMPARED_HZ * np.outer(lags, centers)) @ sums).real)
    at = int(np.clip(np.argmax(found), 1, len(lags) - 2))
    low, middle, high = found[at - 1 : at + 2]
    curve = low - 2 * middle + high
    return float(lags[at] + (_TURN_STEP * np.clip((low - high) / (2 * curve), -1, 1) if curve < 0 else 0.0))


def _detail(parts: list[NDArray[np.float32]], turn: float, sign: float) -> float:
    spectra, frequencies_hz, edges = _spectra(parts)
    length = len(parts[0])
    spectra[1] = sign * spectra[1] * _phases(frequencies_hz, turn).astype(np.complex64)
    starts = _STRETCHES[length > _STRETCHES]
    cells = np.zeros((3, len(_OCTAVES_HZ) - 1, len(starts)))
    for octave, (low, high) in enumerate(pairwise(edges)):
        first, second = (_octave(spectrum, low, high)[:length] for spectrum in spectra)
        for at, product in enumerate((first * second, first * first, second * second)):
            cells[at, octave] = np.add.reduceat(product, starts, dtype=np.float64)
    products, one, other = cells
    shares = np.sqrt(one / one.sum() * (other / other.sum()))
    weights = np.where(shares > _LEAST_SHARE, shares**_WEIGHT, 0) * _LATER ** np.arange(len(starts))
    correlations = products / np.maximum(np.sqrt(one * other), 1e-12)
    return float((weights * correlations).sum() / max(float(weights.sum()), 1e-12))


def _octave(spectrum: NDArray[np.complex64], low: int, high: int) -> NDArray[np.float32]:
    kept = np.zeros_like(spectrum)
    kept[low:high] = spectrum[low:high]
    return np.asarray(scipy.fft.irfft(kept))


def _spectra(
    parts: list[NDArray[np.float32]],
) -> tuple[list[NDArray[np.complex64]], NDArray[np.float64], NDArray[np.intp]]:
    """Return the spectra of two waveforms of one length, their frequencies, and where the octaves begin and end."""
    # Even, which is what the inverse transform takes a spectrum for.
    size = 2 * scipy.fft.next_fast_len((len(parts[0]) + _LEAD) // 2, real=True)
    frequencies_hz = scipy.fft.rfftfreq(size, 1 / COMPARED_HZ)
    return [scipy.fft.rfft(part, size) for part in parts], frequencies_hz, np.searchsorted(frequencies_hz, _OCTAVES_HZ)


def _phases(frequencies_hz: NDArray[np.float64], lag: float) -> NDArray[np.complex128]:
    return np.asarray(np.exp(2j * np.pi * frequencies_hz * (lag / COMPARED_HZ)))


def _sums(values: NDArray[np.float64], edges: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the sum of each octave that has a frequency of its own: of very short sounds the lowest have none."""
    return np.asarray(np.add.reduceat(values, edges[:-1][np.diff(edges) > 0]))


def _energy(samples: Wave | NDArray[np.float32]) -> float:
    return float(np.square(samples, dtype=np.float64).sum())
