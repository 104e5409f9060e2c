"""From what was measured of a sound and what its names say to a row of the table: kind, class, tempo, key, words.

All of it is a function of facts and names, cheap, and made anew by each run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from backbeat.audio.pitch import note_name
from backbeat.audio.tempo import same_tempo
from backbeat.library.names import ClassHint, NameHints, TempoHint, read_names
from backbeat.library.settings import WordThresholds
from backbeat.library.sound_class import (
    LEAST_TONALITY,
    Kind,
    SoundClass,
    kind_of,
    loop_class,
    one_shot_class,
    rule_points,
)

# What a sound is called that is not silent and fits no class so well that it could be told from the others.
UNSURE = "other"
# Below this, the class of a one-shot that the rules or a model speak for is a guess, right in one of three cases. Above
# it, it is so in six of ten on real samples, in nine of ten on generated ones.
LEAST_CLASS_CONFIDENCE = 0.35
# Of drums or melodic where the name of a loop says which.
_NAMED_CONFIDENCE = 0.9

# An open hat rings on. What is shorter than this is a closed one: so many points for each octave, up to so many.
_CLOSED_BELOW_S, _CLOSED_POINTS, _MOST_CLOSED_POINTS = 0.25, 4.0, 4.0
# Points as probabilities (`backbeat.library.sound_class`): so many are a factor of e.
_SPREAD_POINTS = 1.5

# Below this a key is left out: hiss and drums have such ones, and of a hundred tonal loops not five.
LEAST_KEY_CONFIDENCE = 0.42
# What a name calls drums has a key only where that is beyond doubt.
_LEAST_KEY_CONFIDENCE_OF_DRUMS = 0.6

# Below this, the tempo that the onsets speak for is left out: of such, one in ten or more is wrong.
LEAST_TEMPO_CONFIDENCE = 0.3

# How much worse than the best a candidate may be that a name speaks for; less for a number that only may be a tempo.
_SAID_WITHIN, _NUMBER_WITHIN = 1.0, 0.5
_NEUTRAL, _HEAVY = 1, 2

# So near a whole usual number of beats the length of a cut loop is.
_EXACT = 0.004
_BEATS = (1, 2, 4, 8, 16, 32, 64, 128)
_BAR = 4
# Of a tempo that both a name and the audio speak for.
_CONFIRMED_CONFIDENCE = 0.95

# Facts that others rest on.
_NO_COLUMNS = frozenset({"tempo", "key", "described_s", "chunk_bpm", "loud_centroid_hz", "attack_crest_db"})

Tempo = tuple[float | None, float | None, str | None]


def row_of(
    facts: Mapping[str, Any],
    paths: Iterable[str],
    thresholds: WordThresholds,
    modeled: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Return the row of a sound, without its hash.

    Args:
        facts: what was measured (`backbeat.library.measure`).
        paths: of the samples that hold it.
        thresholds: of the words.
        modeled: the probabilities that a model gives each class of one-shots.
    """
    if facts.get("error"):
        return {"error": facts["error"]}
    row = {name: value for name, value in facts.items() if name not in _NO_COLUMNS}
    hints = read_names(paths)
    kind = kind_of(facts, hints)
    what = _class_of(kind, facts, hints, modeled)
    is_music = kind == "loop" and not (what and what.name == "fx")
    tempo, confidence, source = tempo_of(facts, hints) if is_music else (None, None, None)
    key, key_confidence = _key_of(facts, what) if is_music else (None, None)
    if kind == "loop":
        # The pitch of several notes is that of none.
        row["pitch_hz"] = None
    return {
        **row,
        "kind": kind,
        "sound_class": what and what.name,
        "class_confidence": what and round(what.confidence, 4),
        "class_source": what and what.source,
        "tempo_bpm": tempo,
        "tempo_confidence": confidence,
        "tempo_source": source,
        "key": key,
        "key_confidence": key_confidence,
        "note": note_name(row["pitch_hz"]) if row["pitch_hz"] else None,
        **words_of(facts, thresholds, kind),
    }


def tempo_of(facts: Mapping[str, Any], hints: NameHints) -> Tempo:
    """Return tempo, confidence and source of a loop; None where it is not clear.

    What a name or the file's own chunk says counts where the audio does not contradict: where it is a candidate of the
    onsets that is not much worse than their best, or makes the length a usual number of beats. It then settles what
    onsets cannot: half or double.
    """
    said = [(hint, "name") for hint in hints.tempi if hint.is_said]
    if facts.get("chunk_bpm"):
        said.append((TempoHint(facts["chunk_bpm"], is_said=True), "chunk"))
    said += [(hint, "name") for hint in hints.tempi if not hint.is_said]
    for hint, source in said:
        if _speaks_for(facts, hint):
            return hint.bpm, _CONFIRMED_CONFIDENCE, source
    tempo = facts["tempo"]
    if tempo is None or tempo["confidence"] < LEAST_TEMPO_CONFIDENCE:
        return None, None, None
    return _exact(tempo["bpm"], facts["described_s"]), round(tempo["confidence"], 4), "audio"


def words_of(facts: Mapping[str, Any], thresholds: WordThresholds, kind: Kind) -> dict[str, str | None]:
    """Return brightness, weight and punch in plain words; None for silence. A loop has many hits and no punch."""
    if facts["loud_centroid_hz"] is None:
        return dict.fromkeys(("brightness", "weight", "punch"))
    brightness = _word(facts["loud_centroid_hz"], thresholds.dark_below_hz, thresholds.bright_above_hz)
    weight = _word(facts["low_share"], thresholds.thin_below_share, thresholds.heavy_above_share)
    if weight == _HEAVY:
        # Its buzz is high, and most of it is not.
        brightness = min(brightness, _NEUTRAL)
    attack_s, crest_db = facts["attack_s"], facts["attack_crest_db"]
    soft = attack_s > thresholds.soft_attack_s and crest_db < thresholds.soft_below_crest_db
    punchy = attack_s <= thresholds.punchy_attack_s and crest_db >= thresholds.punchy_above_crest_db
    return {
        "brightness": ("dark", "neutral", "bright")[brightness],
        "weight": ("thin", "medium", "heavy")[weight],
        "punch": None if kind == "loop" else "soft" if soft else "punchy" if punchy else "medium",
    }


def _key_of(facts: Mapping[str, Any], what: SoundClass | None) -> tuple[str | None, float | None]:
    """Return the key of a loop and its confidence; None where there is none, or none that is clear."""
    key = facts["key"]
    if key is None or key["tonality"] < LEAST_TONALITY:
        return None, None
    confidence = round(key["confidence"] * key["tonality"], 4)
    least = _LEAST_KEY_CONFIDENCE_OF_DRUMS if what is not None and what.name == "drums" else LEAST_KEY_CONFIDENCE
    return (key["name"], confidence) if confidence >= least else (None, None)


def _class_of(
    kind: Kind, facts: Mapping[str, Any], hints: NameHints, modeled: Mapping[str, float] | None
) -> SoundClass | None:
    if facts["spectral_centroid_hz"] is None:
        return None
    hint = hints.sound_class
    if kind == "loop":
        said = hints.says & {"drums", "melodic"}
        if not hints.says and hint is not None and hint.classes == ("fx",):
            # Hiss and rewinding go on like a loop.
            said = frozenset(hint.classes)
        return SoundClass(min(said), _NAMED_CONFIDENCE, "name") if len(said) == 1 else loop_class(facts, hints)
    what = one_shot_class(facts, hints, modeled)
    if what.source == "name" and hint is not None:
        return _one_of(hint, what, facts, modeled) if len(hint.classes) > 1 else what
    return what if what.confidence >= LEAST_CLASS_CONFIDENCE else replace(what, name=UNSURE)


def _one_of(
    hint: ClassHint, what: SoundClass, facts: Mapping[str, Any], modeled: Mapping[str, float] | None
) -> SoundClass:
    """Return which of several classes it is: a name says that it is a hat, the sound whether it is an open one."""
    if modeled is None or what.name not in modeled:
        points = rule_points(facts)
    else:
        points = {name: _SPREAD_POINTS * math.log(max(share, 1e-6)) for name, share in modeled.items()}
    octaves = max(0.0, math.log2(_CLOSED_BELOW_S / facts["described_s"]))
    points["closed_hat"] = points.get("closed_hat", -math.inf) + min(_MOST_CLOSED_POINTS, _CLOSED_POINTS * octaves)
    allowed = {name: points.get(name, -math.inf) for name in hint.classes}
    best = max(allowed, key=lambda name: (allowed[name], name))
    total = sum(math.exp((value - allowed[best]) / _SPREAD_POINTS) for value in allowed.values())
    return replace(what, name=best, confidence=what.confidence / total)


def _speaks_for(facts: Mapping[str, Any], hint: TempoHint) -> bool:
    tempo, length_s = facts["tempo"], facts["described_s"]
    beats = hint.bpm * length_s / 60
    fitting = [number for number in _BEATS if abs(beats / number - 1) < _EXACT]
    if fitting and hint.is_said:
        return True
    if tempo is None or tempo["confidence"] < LEAST_TEMPO_CONFIDENCE:
        # A number that only may be a tempo, and the length is a bar or more of it: one in eighty is so by chance.
        fits = max(fitting, default=0) >= _BAR
        if fits or tempo is None:
            return fits
    within = _SAID_WITHIN if hint.is_said else _NUMBER_WITHIN
    best = max(score for _, score in tempo["candidates"])
    return any(same_tempo(bpm, hint.bpm) and score >= best - within for bpm, score in tempo["candidates"])


def _exact(bpm: float, length_s: float) -> float:
    """Return the tempo at which the length is a whole number of beats, where that is as near as the onsets can tell."""
    for number in _BEATS:
        if abs(bpm * length_s / 60 / number - 1) < _EXACT:
            return round(60 * number / length_s, 3)
    return round(bpm, 2)


def _word(value: float, low: float, high: float) -> int:
    return 0 if value < low else 2 if value > high else 1
