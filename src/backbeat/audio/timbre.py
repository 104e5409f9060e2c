"""Descriptors of the spectrum, of pitch, onsets and channels: what a sound is like at any level.

Each function is one descriptor, as in `backbeat.audio.dynamics`. A mean over frames is over those within 60 dB of the
loudest: others hold what the recording added. Frames, bands and windows: `backbeat.audio.spectrum`.
"""

from __future__ import annotations

import math

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from backbeat.audio.sound import Sound

MFCC_COUNT = 13

# Between low and mid, mid and high: the top of a kick's body, and where sibilance and cymbals begin.
LOW_BELOW_HZ, HIGH_ABOVE_HZ = 200.0, 4000.0

# Above the highest frequency that is in a sound, its spectrum is this far below its maximum.
_LIMIT_DB = 90.0
# A low-pass filter of a converter falls by this within a sixth of an octave; no instrument does.
_CLIFF_DB = 30.0
_CLIFF_RATIO = 2 ** (1 / 6)
_LOWEST_CLIFF_HZ, _HIGHEST_CLIFF = 5000.0, 0.8

# Two channels whose difference is this far below their sum are one.
_SAME_DB = 60.0


def spectral_centroid_hz(sound: Sound) -> float | None:
    """Center of gravity of the magnitude spectrum, the mean over frames.

    Unit: Hz. Range: 0 to half the rate.
    Source: Peeters 2004, 6.1.1; as librosa.feature.spectral_centroid.
    """
    return _mean(sound, sound.spectrum.centroid_hz)


def loud_centroid_hz(sound: Sound) -> float | None:
    """The spectral centroid, the mean over frames weighted by their power, in Hz: of the hit, not of its quiet tail.

    The word for brightness rests on it. It is no column: other programs, and the rules, go by `spectral_centroid_hz`.
    """
    active = sound.spectrum.active
    if not active.any():
        return None
    return float(np.average(sound.spectrum.centroid_hz[active], weights=sound.spectrum.power[active].astype(float)))


def spectral_bandwidth_hz(sound: Sound) -> float | None:
    """Standard deviation of the magnitude spectrum around its centroid, the mean over frames.

    Unit: Hz. Range: 0 to half the rate.
    Source: Peeters 2004, 6.1.2 (spread); as librosa.feature.spectral_bandwidth.
    """
    return _mean(sound, sound.spectrum.bandwidth_hz)


def spectral_rolloff_hz(sound: Sound) -> float | None:
    """Frequency below which 85 % of the magnitude spectrum lies, the mean over frames.

    Unit: Hz. Range: 0 to half the rate.
    Source: Tzanetakis & Cook 2002, IEEE TSAP 10(5); as librosa.feature.spectral_rolloff.
    """
    return _mean(sound, sound.spectrum.rolloff_hz)


def spectral_flatness(sound: Sound) -> float | None:
    """Geometric over arithmetic mean of the power spectrum, the mean over frames: 1 for white noise, near 0 for tones.

    Unit: ratio. Range: 0 to 1.
    Source: Johnston 1988, IEEE JSAC 6(2); as librosa.feature.spectral_flatness.
    """
    return _mean(sound, sound.spectrum.flatness)


def spectral_contrast_db(sound: Sound) -> float | None:
    """The strongest 2 % of the bins of an octave over the weakest 2 %, the mean over octaves and frames.

    Unit: dB. Range: 0 to 100.
    Source: Jiang et al. 2002, ICME, "Music type classification by spectral contrast feature".
    """
    return _mean(sound, sound.spectrum.contrast_db)


def spectral_flux_db(sound: Sound) -> float | None:
    """How much the mel bands rise over two frames, the mean over bands and frames.

    Unit: dB. Range: 0 to 60.
    Source: Böck & Widmer 2013, DAFx: the SuperFlux, in decibels.
    """
    return _mean(sound, sound.onsets.envelope)


def zero_crossing_rate_hz(sound: Sound) -> float | None:
    """How often the mono sound changes its sign.

    Unit: 1/s. Range: 0 to the rate.
    Source: Gouyon et al. 2000, DAFx; librosa.feature.zero_crossing_rate is this over the rate.
    """
    if not sound.peak:
        return None
    signs = np.signbit(sound.mono)
    return float(np.count_nonzero(signs[1:] != signs[:-1])) / sound.duration_s


def harmonic_percussive_db(sound: Sound) -> float | None:
    """Power of what lasts over power of what strikes, split by medians over time and over mel bands.

    Unit: dB. Range: -40 to 40; above 0 a sound lasts.
    Source: FitzGerald 2010, DAFx, "Harmonic/percussive separation using median filtering", on mel bands.
    """
    if not sound.peak:
        return None
    harmonic, percussive = sound.harmonic_and_percussive
    return float(np.clip(10 * math.log10((harmonic + 1e-20) / (percussive + 1e-20)), -40, 40))


def low_share(sound: Sound) -> float | None:
    """The share of the power below 200 Hz.

    Unit: share. Range: 0 to 1.
    Source: Herrera et al. 2002, ICMAI: relative energy in bands, for drums; the edges are ours.
    """
    return _share(sound, 0.0, LOW_BELOW_HZ)


def mid_share(sound: Sound) -> float | None:
    """The share of the power from 200 to 4000 Hz.

    Unit: share. Range: 0 to 1.
    Source: as low_share.
    """
    return _share(sound, LOW_BELOW_HZ, HIGH_ABOVE_HZ)


def high_share(sound: Sound) -> float | None:
    """The share of the power above 4000 Hz.

    Unit: share. Range: 0 to 1.
    Source: as low_share.
    """
    return _share(sound, HIGH_ABOVE_HZ, math.inf)


def bandwidth_limit_hz(sound: Sound) -> float | None:
    """The highest frequency at which the spectrum comes within 90 dB of its maximum.

    Unit: Hz. Range: 0 to half the rate.
    Source: own definition, for sounds that were resampled or coded with loss.
    """
    if not sound.peak:
        return None
    highest = sound.spectrum.highest_power
    return float(sound.spectrum.bins_hz[np.flatnonzero(highest >= highest.max() * 10 ** (-_LIMIT_DB / 10))[-1]])


def upsampled(sound: Sound) -> bool:
    """Whether the spectrum ends in a cliff well below half the rate: 30 dB within a sixth of an octave.

    Unit: yes or no. Range: yes or no.
    Source: own definition: the anti-aliasing filter of the lower rate that the sound once had, or of a codec.
    """
    if not sound.peak:
        return False
    bins_hz, levels = sound.spectrum.bins_hz, 10 * np.log10(np.maximum(sound.spectrum.highest_power, 1e-20))
    edges_hz = np.geomspace(_LOWEST_CLIFF_HZ, max(_LOWEST_CLIFF_HZ + 1, _HIGHEST_CLIFF * float(bins_hz[-1])), 80)
    start, edge, end = (np.searchsorted(bins_hz, edges_hz * ratio) for ratio in (1 / _CLIFF_RATIO, 1, _CLIFF_RATIO))
    sums = np.concatenate([[0.0], np.cumsum(levels, dtype=np.float64)])
    highest_above = np.maximum.accumulate(levels[::-1])[::-1]
    there = (edge > start) & (end <= len(levels) - 4)
    start, edge, end = start[there], edge[there], end[there]
    return bool(((sums[edge] - sums[start]) / (edge - start) - highest_above[end] > _CLIFF_DB).any())


def onset_count(sound: Sound) -> float:
    """How many times something begins.

    Unit: onsets. Range: 0 and up.
    Source: Böck & Widmer 2013, DAFx: peaks of the SuperFlux (`backbeat.audio.onsets`).
    """
    return float(len(sound.onsets.times_s))


def onset_rate_hz(sound: Sound) -> float:
    """Onsets in a second of the sound.

    Unit: 1/s. Range: 0 to 25.
    Source: as onset_count.
    """
    return len(sound.onsets.times_s) / max(sound.duration_s, 0.04)


def pitch_hz(sound: Sound) -> float | None:
    """Fundamental frequency that most of the energy of the first two seconds agrees on.

    Unit: Hz. Range: 27.5 to 2000; none where less than half of the energy is periodic and agrees.
    Source: de Cheveigné & Kawahara 2002, JASA 111(4): YIN.
    """
    return sound.pitch.hz if sound.pitch.confidence >= 0.5 else None


def pitch_confidence(sound: Sound) -> float:
    """The share of the amplitude that is periodic and within half a semitone of the pitch.

    Unit: share. Range: 0 to 1.
    Source: YIN's aperiodicity, weighted over frames.
    """
    return sound.pitch.confidence


def stereo_width(sound: Sound) -> float | None:
    """Power of the difference of the first two channels over that of their sum and difference.

    Unit: share. Range: 0 (mono) to 1 (only difference); none for one channel.
    Source: Blumlein's mid and side; the ratio is ours.
    """
    if len(sound.channels) < 2 or not sound.peak:
        return None
    middle, side = _middle_and_side(sound)
    return side / (middle + side) if middle + side else None


def fake_stereo(sound: Sound) -> bool:
    """Whether there are two channels that hold the same: their difference is 60 dB below their sum.

    Unit: yes or no. Range: yes or no.
    Source: own definition.
    """
    if len(sound.channels) < 2 or not sound.peak:
        return False
    middle, side = _middle_and_side(sound)
    return side < middle * 10 ** (-_SAME_DB / 10)


def mfcc(sound: Sound) -> NDArray[np.float32]:
    """Mel-frequency cepstral coefficients, the mean over frames: the shape of the spectrum, from coarse to fine.

    Unit: dB. Range: -600 to 600.
    Source: Davis & Mermelstein 1980, IEEE TASSP 28(4); 64 HTK mel bands in dB over 60 dB, orthonormal DCT-II.
    """
    return np.asarray(_cepstra(sound).mean(axis=1))


def mfcc_spread(sound: Sound) -> NDArray[np.float32]:
    """Standard deviation of the mel-frequency cepstral coefficients over frames.

    Unit: dB. Range: 0 to 300.
    Source: as mfcc.
    """
    return np.asarray(_cepstra(sound).std(axis=1))


def _cepstra(sound: Sound) -> NDArray[np.float32]:
    """Return the coefficients of the frames that count, shape (MFCC_COUNT, frames), at least one frame."""
    if not sound.spectrum.active.any():
        return np.zeros((MFCC_COUNT, 1), np.float32)
    levels = sound.spectrum.bands_db[:, sound.spectrum.active]
    # Relative to the loudest band: a gain does not change the shape.
    return np.asarray(scipy.fft.dct(levels - levels.max(), axis=0, norm="ortho")[:MFCC_COUNT])


def _mean(sound: Sound, values: NDArray[np.float32]) -> float | None:
    active = sound.spectrum.active
    return float(values[active].mean(dtype=np.float64)) if active.any() else None


def _share(sound: Sound, low_hz: float, high_hz: float) -> float | None:
    power, bins_hz = sound.spectrum.mean_power, sound.spectrum.bins_hz
    total = float(power.sum(dtype=np.float64))
    chosen = (bins_hz >= low_hz) & (bins_hz < high_hz)
    return float(power[chosen].sum(dtype=np.float64)) / total if sound.peak and total else None


def _middle_and_side(sound: Sound) -> tuple[float, float]:
    left, right = sound.channels[:2]
    middle, side = left + right, left - right
    return float((middle * middle).sum(dtype=np.float64)), float((side * side).sum(dtype=np.float64))
