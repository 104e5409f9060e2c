"""What goes into the catalog: rows of the stages' tables, of the notes and of the words, as the schema has them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from sqlite_utils import Database

from backbeat.library.notes import Matched, Note
from backbeat.library.settings import load_settings
from backbeat.library.tables import CURATION, read_table, table_path
from backbeat.library.words import read_bought, rule_words

Row = dict[str, Any]

# What is no contribution of a rule to the score.
_CURATION = frozenset(CURATION.names)


def insert_sources(db: Database, project: Path, scan: list[Row]) -> dict[str, int]:
    """Insert where samples are from; return name -> number."""
    known = {source.name: (source.url, source.license) for source in load_settings(project).sources}
    # What is only in the archive any more may be of a source that the settings have no longer.
    known = {row["source"]: (row["source_url"], row["license"]) for row in scan} | known
    rows = [{"name": name, "url": url, "license": terms} for name, (url, terms) in sorted(known.items())]
    return _insert(db, "sources", "name", rows)


def insert_sounds(db: Database, project: Path) -> dict[str, int]:
    """Insert what is described; return digest -> number."""
    described = sorted(rows_of(project, "descriptors"), key=lambda row: str(row["audio_sha256"]))
    return _insert(db, "sounds", "audio_sha256", described)


def insert_words(db: Database, project: Path) -> None:
    """Insert what every sound is called: by a model where it was asked, and by rule in any case, for the search.

    The class is that which the user has given to one of its samples, where the program is wrong.
    """
    bought = read_bought(project)
    sounds = db.query(
        "SELECT sounds.*, max(samples.duration_s) AS duration_s,"
        " coalesce(min(notes.class), sounds.sound_class) AS class FROM sounds"
        " LEFT JOIN samples ON samples.sound_id = sounds.id LEFT JOIN notes ON notes.sample_id = samples.id"
        " GROUP BY sounds.id ORDER BY sounds.id"
    )
    words = []
    for row in list(sounds):
        ruled = None if row["error"] else rule_words({**row, "sound_class": row["class"]})
        said = bought.get(row["audio_sha256"]) or ruled
        if said is not None:
            tags = ", ".join(said.tags)
            by_rule = None if ruled is None else ruled.text
            words.append(
                {"sound_id": row["id"], "text": said.text, "tags": tags, "source": said.source, "by_rule": by_rule}
            )
    _insert(db, "words", "sound_id", words)


def insert_samples(
    db: Database, project: Path, scan: list[Row], sources: Mapping[str, int], sounds: Mapping[str, int]
) -> dict[str, int]:
    """Insert the files, with what the archive has of them; return name -> number."""
    archived = {row["sample"]: row for row in rows_of(project, "archive", optional=True)}
    rows = []
    for row in scan:
        kept = archived.get(row["sample"], {})
        own = {
            "source_id": sources[row["source"]],
            "name": PurePosixPath(row["path"]).stem,
            "sound_id": sounds.get(row["audio_sha256"]),
            "archive_state": kept.get("state"),
            "archive_reason": kept.get("reason"),
            "flac_bytes": kept.get("flac_bytes"),
        }
        rows.append({**row, **own})
    return _insert(db, "samples", "sample", rows)


def insert_duplicates(db: Database, project: Path, samples: Mapping[str, int]) -> None:
    """Insert which of them sound the same."""
    rows = [
        {**row, "sample_id": samples[row["sample"]], "group_id": row["group"], "keeper_id": samples[row["keeper"]]}
        for row in rows_of(project, "duplicates", optional=True)
    ]
    _insert(db, "duplicates", "sample_id", rows)


def insert_production(db: Database, project: Path, samples: Mapping[str, int]) -> None:
    """Insert scores and verdicts."""
    rows = []
    for row in rows_of(project, "curation", optional=True):
        points = {name: round(value, 2) for name, value in row.items() if name not in _CURATION and value is not None}
        own = {"sample_id": samples[row["sample"]], "contributions": json.dumps(points, separators=(",", ":"))}
        rows.append({**row, **own})
    _insert(db, "production", "sample_id", rows)


def insert_notes(db: Database, notes: Mapping[str, Note], matched: Matched, samples: Mapping[str, int]) -> None:
    """Insert what is noted about the samples of today."""
    rows = []
    for sample, name in matched.keys.items():
        note = notes[name]
        own = {"sample_id": samples[sample], "tags": ", ".join(note.tags) or None, "class": note.sound_class}
        rows.append({"rating": note.rating, "notes": note.notes, **own})
    _insert(db, "notes", "sample_id", sorted(rows, key=lambda row: row["sample_id"]))


def _insert(db: Database, table: str, key: str, rows: list[dict[str, Any]]) -> dict[Any, int]:
    """Insert rows in their order, of each what the table has a column for; return key -> number of the row."""
    columns = [column.name for column in db.table(table).columns if column.name != "id"]
    names = ", ".join(f'"{column}"' for column in columns)
    marks = ", ".join("?" * len(columns))
    db.conn.executemany(
        f"INSERT INTO {table} ({names}) VALUES ({marks})",  # noqa: S608 - names of our own schema
        ([_cell(row.get(column)) for column in columns] for row in rows),
    )
    return {row[key]: number for number, row in enumerate(rows, 1)}


def _cell(value: Any) -> Any:
    # Six digits are more than any descriptor is worth; the last ones of a float would only fill the file.
    return float(f"{value:.6g}") if isinstance(value, float) else value


def rows_of(project: Path, name: str, *, optional: bool = False) -> list[Row]:
    """Return the rows of a table; of an optional one that is not there, none."""
    if optional and not table_path(project, name).exists():
        return []
    rows: list[Row] = read_table(project, name).to_pylist()
    return rows
