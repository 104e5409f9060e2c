"""From what was measured of a sound and what its names say to a row of the table: kind, class, tempo, key, words.

All of it is a function of facts and names, cheap, and made anew by each run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from backbeat.audio.pitch import note_name
from backbeat.audio.tempo import same_tempo
from backbeat.library.names import NameHints, TempoHint, read_names
from backbeat.library.settings import WordThresholds
from backbeat.library.sound_class import LEAST_TONALITY, Kind, SoundClass, kind_of, loop_class, one_shot_class

# Below this, the tempo that the onsets speak for is left out: of such, one in ten or more is wrong.
LEAST_TEMPO_CONFIDENCE = 0.3

# How much worse than the best a candidate may be that a name speaks for; less for a number that only may be a tempo.
_SAID_WITHIN, _NUMBER_WITHIN = 1.0, 0.5
# So near a whole usual number of beats the length of a cut loop is.
_EXACT = 0.004
_BEATS = (1, 2, 4, 8, 16, 32, 64, 128)
# Of a tempo that both a name and the audio speak for.
_CONFIRMED_CONFIDENCE = 0.95

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
    row = {name: value for name, value in facts.items() if name not in {"tempo", "key", "described_s", "chunk_bpm"}}
    hints = read_names(paths)
    kind = kind_of(facts, hints)
    what = _class_of(kind, facts, hints, modeled)
    tempo, confidence, source = tempo_of(facts, hints) if kind == "loop" else (None, None, None)
    key = facts["key"] if kind == "loop" and facts["key"] and facts["key"]["tonality"] >= LEAST_TONALITY else None
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
        "key": key and key["name"],
        "key_confidence": key and round(key["confidence"] * key["tonality"], 4),
        "note": note_name(row["pitch_hz"]) if row["pitch_hz"] else None,
        **words_of(facts, thresholds),
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


def words_of(facts: Mapping[str, Any], thresholds: WordThresholds) -> dict[str, str | None]:
    """Return brightness, weight and punch in plain words; None for silence."""
    if facts["spectral_centroid_hz"] is None:
        return dict.fromkeys(("brightness", "weight", "punch"))
    brightness = _word(facts["spectral_centroid_hz"], thresholds.dark_below_hz, thresholds.bright_above_hz)
    weight = _word(facts["low_share"], thresholds.thin_below_share, thresholds.heavy_above_share)
    soft = facts["attack_s"] > thresholds.soft_attack_s or facts["crest_db"] < thresholds.soft_below_crest_db
    punchy = facts["crest_db"] >= thresholds.punchy_above_crest_db and facts["attack_s"] <= thresholds.punchy_attack_s
    return {
        "brightness": ("dark", "neutral", "bright")[brightness],
        "weight": ("thin", "medium", "heavy")[weight],
        "punch": "soft" if soft else "punchy" if punchy else "medium",
    }


def _class_of(
    kind: Kind, facts: Mapping[str, Any], hints: NameHints, modeled: Mapping[str, float] | None
) -> SoundClass | None:
    if facts["spectral_centroid_hz"] is None:
        return None
    return loop_class(facts, hints) if kind == "loop" else one_shot_class(facts, hints, modeled)


def _speaks_for(facts: Mapping[str, Any], hint: TempoHint) -> bool:
    tempo, length_s = facts["tempo"], facts["described_s"]
    beats = hint.bpm * length_s / 60
    fits = any(abs(beats / number - 1) < _EXACT for number in _BEATS)
    if tempo is None:
        return fits and hint.is_said
    within = _SAID_WITHIN if hint.is_said else _NUMBER_WITHIN
    best = max(score for _, score in tempo["candidates"])
    return (fits and hint.is_said) or any(
        same_tempo(bpm, hint.bpm) and score >= best - within for bpm, score in tempo["candidates"]
    )


def _exact(bpm: float, length_s: float) -> float:
    """Return the tempo at which the length is a whole number of beats, where that is as near as the onsets can tell."""
    for number in _BEATS:
        if abs(bpm * length_s / 60 / number - 1) < _EXACT:
            return round(60 * number / length_s, 3)
    return round(bpm, 2)


def _word(value: float, low: float, high: float) -> int:
    return 0 if value < low else 2 if value > high else 1
