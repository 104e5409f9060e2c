"""One-shot or loop, and which drum: by rules over descriptors, by names, by a model where there is one.

A rule says in which range the descriptors of a class are. What is outside loses points, by how far it is outside: in
octaves for times and frequencies, in eighths and in ratios for shares, in steps of 4 dB for levels. The points of the
classes are compared, so that each sound has a class and a confidence; a name adds points to the classes it allows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from backbeat.library.names import NameHints

Kind = Literal["one-shot", "loop"]
Range = tuple[float, float]

# Points that are lost for one step outside of a range.
_STEP_POINTS = 1.0
# Points that are had for each condition that is met.
_FITTING_POINTS = 0.12
# What one descriptor can cost; so that a single odd one does not decide.
_MOST_POINTS = 4.0

# A name that says a class outright outweighs four descriptors that are altogether wrong.
NAME_POINTS = 16.0

# Points as probabilities: so many are a factor of e.
_SPREAD_POINTS = 1.5

# A model knows the classes that it has seen; where it wavers, the sound may be of another.
LEAST_MODEL_SHARE = 0.5

RULES: dict[str, dict[str, Range]] = {
    "kick": {
        "spectral_centroid_hz": (60, 900), "low_share": (0.55, 1), "decay_s": (0.03, 0.45), "attack_s": (0, 0.02),
        "pitch_confidence": (0, 0.55), "harmonic_percussive_db": (-10, 5), "temporal_centroid_s": (0, 0.12),
    },
    "snare": {
        "spectral_centroid_hz": (2500, 9000), "mid_share": (0.25, 0.9), "high_share": (0.03, 0.7),
        "low_share": (0.02, 0.6), "decay_s": (0.02, 0.3), "attack_s": (0, 0.006), "pitch_confidence": (0, 0.5),
        "harmonic_percussive_db": (-20, 1), "spectral_flatness": (0.01, 0.3),
    },
    "clap": {
        "spectral_centroid_hz": (2500, 8500), "low_share": (0, 0.03), "mid_share": (0.35, 0.95),
        "attack_s": (0.003, 0.04), "decay_s": (0.02, 0.3), "pitch_confidence": (0, 0.05),
        "harmonic_percussive_db": (-20, 0), "spectral_flatness": (0.05, 0.4), "crest_db": (18, 40),
    },
    "rim": {
        "spectral_centroid_hz": (1200, 4000), "mid_share": (0.8, 1), "low_share": (0, 0.1), "decay_s": (0.005, 0.05),
        "temporal_centroid_s": (0, 0.02), "attack_s": (0, 0.003), "spectral_flatness": (0.0005, 0.05),
        "pitch_confidence": (0.2, 0.7),
    },
    "closed_hat": {
        "spectral_centroid_hz": (6500, 16000), "high_share": (0.6, 1), "decay_s": (0.003, 0.07),
        "temporal_centroid_s": (0, 0.03), "attack_s": (0, 0.004), "low_share": (0, 0.02),
    },
    "open_hat": {
        "spectral_centroid_hz": (6500, 16000), "high_share": (0.6, 1), "decay_s": (0.09, 0.5),
        "temporal_centroid_s": (0.025, 0.25), "attack_s": (0, 0.02), "low_share": (0, 0.02),
    },
    # The modes of a real head are no multiples of one another: its pitch is less clear than that of a machine.
    "tom": {
        "spectral_centroid_hz": (100, 1100), "high_share": (0, 0.03), "decay_s": (0.1, 0.65), "attack_s": (0, 0.02),
        "pitch_confidence": (0.22, 0.93), "pitch_hz": (70, 320), "harmonic_percussive_db": (5, 18),
        "zero_crossing_rate_hz": (130, 650),
    },
    "crash": {
        "spectral_centroid_hz": (5500, 15000), "high_share": (0.5, 1), "decay_s": (0.45, 3), "low_share": (0, 0.02),
        "temporal_centroid_s": (0.15, 1.5), "pitch_confidence": (0, 0.6), "spectral_flatness": (0.01, 0.3),
    },
    "ride": {
        "spectral_centroid_hz": (4000, 10500), "mid_share": (0.25, 0.9), "high_share": (0.1, 0.75),
        "decay_s": (0.25, 3), "low_share": (0, 0.03), "harmonic_percussive_db": (1, 12),
        "temporal_centroid_s": (0.08, 1.5), "pitch_confidence": (0, 0.4),
    },
    "cowbell": {
        "spectral_centroid_hz": (800, 2600), "mid_share": (0.95, 1), "decay_s": (0.04, 0.35),
        "pitch_confidence": (0.7, 1), "pitch_hz": (200, 800), "zero_crossing_rate_hz": (1100, 2600),
        "harmonic_percussive_db": (0, 14), "attack_s": (0, 0.003),
    },
    "shaker": {
        "spectral_centroid_hz": (5500, 13000), "high_share": (0.8, 1), "attack_s": (0.004, 0.08),
        "decay_s": (0.015, 0.2), "pitch_confidence": (0, 0.1), "harmonic_percussive_db": (-20, -2),
        "spectral_flatness": (0.005, 0.3),
    },
    "perc": {
        "spectral_centroid_hz": (350, 2800), "mid_share": (0.6, 1), "decay_s": (0.015, 0.2),
        "pitch_confidence": (0.4, 1), "pitch_hz": (160, 1500), "harmonic_percussive_db": (-4, 14),
        "spectral_flatness": (0, 0.004),
    },
    "bass": {
        "spectral_centroid_hz": (30, 400), "low_share": (0.8, 1), "decay_s": (0.25, 5), "pitch_confidence": (0.7, 1),
        "pitch_hz": (27, 130), "harmonic_percussive_db": (8, 40), "temporal_centroid_s": (0.06, 5),
        "zero_crossing_rate_hz": (40, 190), "high_share": (0, 0.02),
    },
    "tonal": {
        "spectral_centroid_hz": (150, 2500), "pitch_confidence": (0.93, 1), "decay_s": (0.07, 10),
        "attack_s": (0.002, 1), "harmonic_percussive_db": (3, 40), "pitch_hz": (110, 1500),
        "spectral_flatness": (0, 0.003),
    },
    "fx": {
        "attack_s": (0.08, 10), "temporal_centroid_s": (0.4, 20), "pitch_confidence": (0, 0.5),
        "decay_s": (0.5, 30),
    },
}  # fmt: skip

LOOP_CLASSES = ("drums", "melodic")
CLASSES = (*RULES, *LOOP_CLASSES)

# Points from which on a sound is a loop.
LOOP_POINTS = 2.5
# From here on there are partials enough to be in a key (`backbeat.audio.key`).
LEAST_TONALITY = 0.4


@dataclass(frozen=True)
class SoundClass:
    """What a sound is: its class, how sure (0 to 1), and who says so."""

    name: str
    confidence: float
    source: Literal["name", "rule", "model"]


def kind_of(facts: Mapping[str, Any], hints: NameHints) -> Kind:
    """Return whether a sound is a loop: it begins again and again, goes on to its end, is regular, is called so."""
    length_s, center_s = facts["described_s"], facts["temporal_centroid_s"]
    if center_s is None or length_s < 0.4:
        return "one-shot"
    onsets, tempo = facts["onset_count"], facts["tempo"]
    points = min(onsets - 1, 4) * 0.5
    points += min(1.0, max(0.0, (center_s / length_s - 0.15) / 0.1))
    points += 0.5 * ((facts["end_energy_share"] or 0) > 0.01)
    points += 1.0 if tempo and tempo["confidence"] >= 0.3 and onsets >= 3 else 0.0
    # What goes on at one level for seconds: a drone, a texture.
    points += 0.5 * (length_s > 2.5 and 0.35 < center_s / length_s < 0.65)
    points -= 1.0 * (length_s < 0.9) + 0.5 * (onsets < 2)
    points += 2.0 * ("loop" in hints.says) - 1.5 * ("one-shot" in hints.says)
    points -= 0.5 * (hints.sound_class is not None and "loop" not in hints.says)
    return "loop" if points >= LOOP_POINTS else "one-shot"


def loop_class(facts: Mapping[str, Any], hints: NameHints) -> SoundClass:
    """Return whether a loop is of drums or melodic: by its partials, by its name where that is clear."""
    tonality = facts["key"]["tonality"] if facts["key"] else 0.0
    by_rule = "melodic" if tonality >= LEAST_TONALITY else "drums"
    sure = 0.5 + abs(tonality - LEAST_TONALITY) / (2 * max(LEAST_TONALITY, 1 - LEAST_TONALITY))
    if ("drums" in hints.says) != ("melodic" in hints.says):
        said = "drums" if "drums" in hints.says else "melodic"
        if said == by_rule or sure < 0.9:
            return SoundClass(said, 0.9, "name")
    return SoundClass(by_rule, min(sure, 0.95), "rule")


def one_shot_class(
    facts: Mapping[str, Any], hints: NameHints, modeled: Mapping[str, float] | None = None
) -> SoundClass:
    """Return the class of a one-shot.

    Args:
        facts: its descriptors.
        hints: what its names say.
        modeled: the probabilities that a model gives each class; they take the place of the rules where one of them
            is at least `LEAST_MODEL_SHARE`.
    """
    if modeled is not None and max(modeled.values()) < LEAST_MODEL_SHARE:
        modeled = None
    if modeled is None:
        points = rule_points(facts)
    else:
        points = {name: _SPREAD_POINTS * math.log(max(share, 1e-6)) for name, share in modeled.items()}
    hint = hints.sound_class
    if hint is not None:
        for name in hint.classes:
            points[name] = points.get(name, -_MOST_POINTS) + NAME_POINTS * hint.weight
    best = max(points, key=lambda name: (points[name], name))
    total = sum(math.exp((value - points[best]) / _SPREAD_POINTS) for value in points.values())
    if hint is not None and best in hint.classes:
        return SoundClass(best, max(1 / total, 0.6 + 0.35 * hint.weight), "name")
    return SoundClass(best, 1 / total, "rule" if modeled is None else "model")


def rule_points(facts: Mapping[str, Any]) -> dict[str, float]:
    """Return the points of every class. Of two that fit, that with more conditions does so less by chance."""
    return {
        name: sum(_FITTING_POINTS - _outside(column, facts.get(column), limits) for column, limits in ranges.items())
        for name, ranges in RULES.items()
    }


def _outside(column: str, value: float | None, limits: Range) -> float:
    low, high = limits
    if value is None:
        # No pitch is no reproach to a class that needs none; a decay that is cut off is a long one.
        return 1.5 if column == "pitch_hz" else 0.5
    if low <= value <= high:
        return 0.0
    edge = low if value < low else high
    if column.endswith(("_hz", "_s")):
        steps = abs(math.log2(max(value, 1e-3) / max(edge, 1e-3)))
    elif column == "spectral_flatness":
        steps = 0.5 * abs(math.log2(max(value, 1e-6) / max(edge, 1e-6)))
    elif column.endswith("_db"):
        steps = abs(value - edge) / 4
    else:
        steps = abs(value - edge) / 0.12 + 0.5 * abs(math.log2((value + 0.005) / (edge + 0.005)))
    return min(_MOST_POINTS, _STEP_POINTS * steps)
