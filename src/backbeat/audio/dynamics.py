"""Descriptors of level and time: how loud a sound is, how it begins and how it ends.

Each function is one descriptor; its docstring is its definition, from which `backbeat.audio.descriptors` makes the
table. None stands for what a sound does not have: silence has no attack.
"""

from __future__ import annotations

import math

import numpy as np

from backbeat.audio.loudness import BLOCK_S, integrated_lufs, true_peak
from backbeat.audio.sound import LEVEL_S, Sound

# The quietest level that is told apart from silence: the last bit of 24.
FLOOR_DB = -144.0

# What is heard as the beginning of a hit.
_ATTACK_S = 0.25


def decibels(amplitude: float) -> float:
    """Convert an amplitude to decibels of full scale, down to `FLOOR_DB`."""
    return max(FLOOR_DB, 20 * math.log10(max(amplitude, 1e-12)))


def peak_db(sound: Sound) -> float | None:
    """The largest magnitude of a sample of any channel.

    Unit: dBFS. Range: -144 to 0 (above for float files).
    Source: AES17-2020, peak level without its filter.
    """
    return decibels(sound.peak) if sound.peak else None


def true_peak_db(sound: Sound) -> float | None:
    """The largest magnitude of the sound between its samples, four times oversampled.

    Unit: dBTP. Range: -144 to 6.
    Source: ITU-R BS.1770-5, Annex 2.
    """
    return decibels(true_peak(sound.channels, sound.sample_rate_hz)) if sound.peak else None


def rms_db(sound: Sound) -> float | None:
    """The root mean square of all samples of all channels.

    Unit: dBFS, a square wave of full scale being 0. Range: -144 to 0.
    Source: IEC 61606-1, without its filter.
    """
    return decibels(_rms(sound)) if sound.peak else None


def crest_db(sound: Sound) -> float | None:
    """How far the peak stands above the root mean square.

    Unit: dB. Range: 0 to 60.
    Source: IEC 60268-1, crest factor.
    """
    return decibels(sound.peak) - decibels(_rms(sound)) if sound.peak else None


def loudness_lufs(sound: Sound) -> float | None:
    """Integrated loudness; a sound shorter than 400 ms is filled up with silence to that (`loudness_padded`).

    Unit: LUFS. Range: -70 to 5; none below the absolute gate of -70.
    Source: ITU-R BS.1770-5, EBU R 128, computed by pyloudnorm (Steinmetz & Reiss, AES 150, 2021).
    """
    return integrated_lufs(sound.channels, sound.sample_rate_hz) if sound.peak else None


def loudness_padded(sound: Sound) -> bool:
    """Whether the sound is shorter than what BS.1770 measures, so that its loudness is that of it and silence.

    Unit: yes or no. Range: yes or no.
    Source: ITU-R BS.1770-5: gating blocks of 400 ms.
    """
    return sound.duration_s < BLOCK_S


def leading_silence_s(sound: Sound) -> float | None:
    """Time before the envelope first comes within 50 dB of its maximum.

    Unit: s. Range: 0 to the length.
    Source: Peeters 2004, "A large set of audio features", 6.1; the threshold is ours.
    """
    return sound.steps_to_seconds(_first_above(sound, 10 ** (-50 / 20))) if sound.peak else None


def attack_s(sound: Sound) -> float | None:
    """Time in which the envelope rises from 20 to 90 % of its maximum; its logarithm is the log-attack-time.

    Unit: s. Range: 0 to the length.
    Source: Peeters 2004, 6.1, with fixed thresholds as in ISO/IEC 15938-4 (MPEG-7 LogAttackTime).
    """
    if not sound.peak:
        return None
    return sound.steps_to_seconds(_first_above(sound, 0.9) - _first_above(sound, 0.2))


def decay_s(sound: Sound) -> float | None:
    """Time from the maximum of the envelope to when it was last within 20 dB of it.

    Unit: s. Range: 0 to the length; none where the sound ends before it has fallen so far.
    Source: ISO 3382-2, decay by 20 dB, taken from the envelope.
    """
    return _decay_s(sound, 20.0)


def decay_60_s(sound: Sound) -> float | None:
    """Time from the maximum of the envelope to when it was last within 60 dB of it.

    Unit: s. Range: 0 to the length; none where the sound ends before it has fallen so far.
    Source: ISO 3382-2, reverberation time, taken from the envelope.
    """
    return _decay_s(sound, 60.0)


def temporal_centroid_s(sound: Sound) -> float | None:
    """Center of gravity in time of the squared envelope, from the end of the leading silence.

    Unit: s. Range: 0 to the length.
    Source: ISO/IEC 15938-4 (MPEG-7 TemporalCentroid); Peeters 2004, 6.2.
    """
    if not sound.peak:
        return None
    squares = sound.envelope.astype(np.float64) ** 2
    center = float((squares * np.arange(len(squares))).sum() / squares.sum())
    return sound.steps_to_seconds(max(0.0, center - _first_above(sound, 10 ** (-50 / 20))))


def end_level_db(sound: Sound) -> float | None:
    """The root mean square of the last 10 ms, relative to the loudest 10 ms: near 0 the sound was cut off.

    Unit: dB. Range: -144 to 0.
    Source: own definition, for tails that were truncated.
    """
    if not sound.peak:
        return None
    end = sound.channels[:, -max(1, round(LEVEL_S * sound.sample_rate_hz)) :]
    return min(0.0, decibels(float(np.sqrt((end.astype(np.float64) ** 2).mean())) / float(sound.levels.max())))


def noise_floor_db(sound: Sound) -> float | None:
    """The level that one in twenty pieces of 10 ms stays below.

    Unit: dBFS. Range: -144 to 0.
    Source: own definition; a percentile as the background level L95 of ISO 1996-1.
    """
    return decibels(float(np.percentile(sound.levels, 5))) if sound.peak else None


def end_energy_share(sound: Sound) -> float | None:
    """The share of the energy that is in the last tenth of the sound; 0.1 where it is even.

    Unit: share. Range: 0 to 1.
    Source: own definition; with onsets, what tells loops from one-shots.
    """
    if not sound.peak:
        return None
    squares = sound.envelope.astype(np.float64) ** 2
    return float(squares[-max(1, len(squares) // 10) :].sum() / squares.sum())


def attack_crest_db(sound: Sound) -> float | None:
    """How far the peak of the first quarter of a second stands above its root mean square, in dB.

    The beginning is where the envelope first comes within 20 dB of its maximum; after its end a sound is silent. The
    word for punch rests on it, because the crest of the whole depends on how long it was let ring. It is no column.
    """
    if not sound.peak:
        return None
    start, size = (
        _first_above(sound, 0.1) * sound.envelope_step_samples,
        max(1, round(_ATTACK_S * sound.sample_rate_hz)),
    )
    part = sound.channels[:, start : start + size]
    mean_square = float((part * part).sum(dtype=np.float64)) / (size * len(part))
    return decibels(float(np.abs(part).max())) - decibels(math.sqrt(mean_square))


def _rms(sound: Sound) -> float:
    squares = sound.channels * sound.channels
    return math.sqrt(float(squares.sum(dtype=np.float64)) / squares.size)


def _first_above(sound: Sound, share: float) -> int:
    return int(np.argmax(sound.envelope >= share * float(sound.envelope.max())))


def _decay_s(sound: Sound, fall_db: float) -> float | None:
    if not sound.peak:
        return None
    loud = np.flatnonzero(sound.envelope >= float(sound.envelope.max()) * 10 ** (-fall_db / 20))
    # The last few milliseconds are where a file that was cut is faded out.
    if len(sound.envelope) - 1 - loud[-1] < min(10, len(sound.envelope) // 20):
        return None
    return sound.steps_to_seconds(int(loud[-1]) - int(sound.envelope.argmax()))
