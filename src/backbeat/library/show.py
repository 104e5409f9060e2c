"""All that is known of one sample, in sections."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlite_utils import Database

Facts = dict[str, Any]

# Of the table `sounds`: what is said first; the rest is what was measured.
_SAID = ("kind", "sound_class", "class_confidence", "class_source", "class_by_program", "tempo_bpm",
         "tempo_confidence", "tempo_source", "key", "key_confidence", "note", "brightness", "weight", "punch",
         "error")  # fmt: skip
_FILE = ("tier", "container", "size_bytes", "format", "subtype", "bit_depth", "used_bits", "sample_rate_hz", "channels",
         "duration_s", "peak_db", "clipped_samples", "silent", "dc_offset", "file_sha256")  # fmt: skip
_ARCHIVE = ("archive_state", "archive_reason", "flac_bytes")

# What most people want to know of a sample; the rest is numbers and digests.
MAIN = ("unreadable", "sound", "words", "notes", "score", "duplicates", "file", "archive")
_VERDICT = ("score", "state", "reason", "production_path")
_NOT_MAIN = {"dc_offset", "file_sha256", "audio_sha256", "class_confidence", "tempo_confidence", "tempo_source",
             "key_confidence", "used_bits", "subtype"}  # fmt: skip

_YES_OR_NO = {"silent", "upsampled", "fake_stereo", "loudness_padded"}
# What is heard of a number.
_DIGITS = 3
_UNITS = {"s": "s", "ms": "ms", "hz": "Hz", "db": "dB", "lufs": "LUFS", "bpm": "bpm", "bytes": "bytes"}


@dataclass(frozen=True)
class Shown:
    """A sample.

    Args:
        number: in the catalog.
        sample: its name.
        sections: heading -> what is known, without what is null; `duplicates` and `score` are there if they say
            anything.
    """

    number: int
    sample: str
    sections: dict[str, Facts]


def show(db: Database, sample: str) -> Shown:
    """Return what the catalog knows of a sample, by its full name (`backbeat.library.find.resolve`)."""
    [number] = db.execute(
        "SELECT samples.id FROM samples JOIN sources ON sources.id = source_id WHERE sources.name || '/' || path = ?",
        (sample,),
    ).fetchone()
    file = _row(db, "samples", "id", number)
    sound = _row(db, "sounds", "id", file["sound_id"])
    source = _row(db, "sources", "id", file["source_id"])
    notes = _row(db, "notes", "sample_id", number)
    if notes.get("class"):
        corrected = {"sound_class": notes["class"], "class_source": "you", "class_confidence": None}
        sound |= corrected | {"class_by_program": sound.get("sound_class")}
    if file["silent"]:
        # One-shot or loop is said of it for want of anything else.
        sound["kind"] = "silent"
    sections = {
        "unreadable": {"reason": file["error"]} if file["error"] else {},
        "sound": _some(sound, _SAID),
        "words": _some(_row(db, "words", "sound_id", file["sound_id"]), ("text", "tags", "source")),
        "notes": _some(notes, ("rating", "tags", "notes", "class")),
        "score": {} if file["error"] else _score(_row(db, "production", "sample_id", number)),
        "duplicates": _duplicates(db, number),
        "measured": _some(sound, (name for name in sound if name not in {*_SAID, "id", "audio_sha256"})),
        "file": _some(file, _FILE) | _some(sound, ("audio_sha256",)) | _some(source, ("url", "license")),
        "archive": _some(file, _ARCHIVE),
    }
    return Shown(number, sample, {heading: facts for heading, facts in sections.items() if facts})


def _row(db: Database, table: str, key: str, value: Any) -> Facts:
    return next(iter(db.query(f"SELECT * FROM {table} WHERE {key} = ?", (value,))), {})  # noqa: S608 - our names


def _some(row: Mapping[str, Any], names: Iterable[str]) -> Facts:
    return {name: row[name] for name in names if row.get(name) is not None}


def _score(row: Facts) -> Facts:
    if row.get("score") is None:
        return _some(row, ("reason",))
    contributions = json.loads(row["contributions"] or "{}")
    return {
        "score": row["score"],
        **contributions,
        **_some(row, ("state", "reason", "curated_class", "production_path")),
    }


def _duplicates(db: Database, number: int) -> Facts:
    """Return the others of the group: name -> how each is related to the keeper; and why that one is kept."""
    rows = list(
        db.query(
            "SELECT sources.name || '/' || path AS sample, duplicates.tier, duplicates.reason, similarity, correlation"
            " FROM duplicates JOIN samples ON samples.id = sample_id JOIN sources ON sources.id = source_id"
            " WHERE group_id = (SELECT group_id FROM duplicates WHERE sample_id = ?)"
            " ORDER BY duplicates.tier = 'keeper' DESC, 1",
            (number,),
        )
    )
    facts: Facts = {}
    for row in rows:
        numbers = ", ".join(
            f"{name} {row[name]:.3f}" for name in ("similarity", "correlation") if row[name] is not None
        )
        detail = row["reason"] if row["tier"] == "keeper" else numbers
        facts[row["sample"]] = ": ".join(filter(None, [row["tier"].replace("_", " "), detail]))
    return facts


def main_facts(shown: Shown) -> dict[str, Facts]:
    """Return the sections that people want first, without their numbers for programs."""
    main = {
        heading: {name: fact for name, fact in facts.items() if name not in _NOT_MAIN}
        for heading, facts in shown.sections.items()
        if heading in MAIN
    }
    # The points of each rule are said by `curate --explain`, too, with what was measured.
    score = {name: main["score"][name] for name in _VERDICT if name in main.get("score", {})}
    return main | ({"score": score} if score else {})


def readable(name: str, value: Any) -> tuple[str, str]:
    """Return the name and the value of a fact as people read them: the unit is behind the number."""
    if name in _YES_OR_NO:
        return name.replace("_", " "), "yes" if value else "no"
    stem, _, unit = name.rpartition("_")
    if not stem or unit not in _UNITS or not isinstance(value, int | float):
        return name.replace("_", " "), _number(value) if isinstance(value, float) else str(value)
    stem = stem.replace("_", " ")
    if unit == "s" and value < 1:
        return stem, f"{_number(1000 * value)} ms"
    if unit in {"db", "lufs", "bpm"}:
        return stem, f"{round(value, 1):g} {_UNITS[unit]}"
    return stem, f"{value:,} {_UNITS[unit]}" if isinstance(value, int) else f"{_number(value)} {_UNITS[unit]}"


def _number(value: float) -> str:
    """Return a number to three significant digits, and all digits before the point."""
    return f"{value:,.0f}" if abs(value) >= 10 ** (_DIGITS - 1) else f"{value:.{_DIGITS}g}"
