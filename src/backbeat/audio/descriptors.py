"""The descriptors of a sound: one function each, whose docstring says what it is, in which unit, and after whom.

`DESCRIPTORS` is the table of them, read from those docstrings: what `backbeat library descriptors` prints.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import numpy as np

from backbeat.audio import dynamics, timbre
from backbeat.audio.sound import Sound

Value = float | bool | None

# Digits that are kept: more than any of them means, fewer than what differs between two orders of adding.
DIGITS = 6


@dataclass(frozen=True)
class Descriptor:
    """One entry of the table.

    Args:
        name: of the column; `mfcc` stands for `mfcc_00`, `mfcc_01`, ….
        unit: of its values.
        range: of its values.
        definition: what it is.
        source: after which paper or standard.
        columns: the columns that it fills.
    """

    name: str
    unit: str
    range: str
    definition: str
    source: str
    columns: tuple[str, ...]


_FUNCTIONS: tuple[Callable[[Sound], Any], ...] = (
    dynamics.peak_db,
    dynamics.true_peak_db,
    dynamics.rms_db,
    dynamics.crest_db,
    dynamics.loudness_lufs,
    dynamics.loudness_padded,
    dynamics.leading_silence_s,
    dynamics.attack_s,
    dynamics.decay_s,
    dynamics.decay_60_s,
    dynamics.temporal_centroid_s,
    dynamics.end_level_db,
    dynamics.end_energy_share,
    dynamics.noise_floor_db,
    timbre.spectral_centroid_hz,
    timbre.spectral_bandwidth_hz,
    timbre.spectral_rolloff_hz,
    timbre.spectral_flatness,
    timbre.spectral_contrast_db,
    timbre.spectral_flux_db,
    timbre.zero_crossing_rate_hz,
    timbre.harmonic_percussive_db,
    timbre.low_share,
    timbre.mid_share,
    timbre.high_share,
    timbre.bandwidth_limit_hz,
    timbre.upsampled,
    timbre.onset_count,
    timbre.onset_rate_hz,
    timbre.pitch_hz,
    timbre.pitch_confidence,
    timbre.stereo_width,
    timbre.fake_stereo,
    timbre.mfcc,
    timbre.mfcc_spread,
)


def _entry(function: Callable[[Sound], Any]) -> Descriptor:
    assert isinstance(function, FunctionType)
    name, text = function.__name__, " ".join((function.__doc__ or "").split())
    fields = re.fullmatch(r"(?P<definition>.+?) Unit: (?P<unit>.+?)\. Range: (?P<range>.+?)\. Source: (?P<source>.+)",
                          text)  # fmt: skip
    assert fields, f"the docstring of {name} lacks Unit, Range or Source"
    is_family = function in {timbre.mfcc, timbre.mfcc_spread}
    columns = tuple(f"{name}_{number:02d}" for number in range(timbre.MFCC_COUNT)) if is_family else (name,)
    return Descriptor(name, columns=columns, **fields.groupdict())


DESCRIPTORS: dict[str, Descriptor] = {entry.name: entry for entry in map(_entry, _FUNCTIONS)}


def describe_sound(sound: Sound) -> dict[str, Value]:
    """Return every descriptor of a sound by the name of its column, rounded to `DIGITS` digits.

    What a sound does not have is None; no value is infinite or not a number.
    """
    values: dict[str, Value] = {}
    for function, entry in zip(_FUNCTIONS, DESCRIPTORS.values(), strict=True):
        value = function(sound)
        for column, one in zip(entry.columns, np.atleast_1d(value), strict=True):
            values[column] = one if one is None or isinstance(value, bool) else rounded(float(one))
        if isinstance(value, bool):
            values[entry.name] = value
    return values


def rounded(value: float) -> float | None:
    """Round to `DIGITS` significant digits; None where the value is not finite."""
    return float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None
