"""The catalog: all that is known of the samples in one SQLite database, made of the tables and the user's notes.

It can be made anew at any time, since nothing is in it alone: what stages found out is in their tables, what the user
added in `notes.yaml`, words that were bought in `words.jsonl`. The same tables give the same bytes with the same
version of SQLite. The database is replaced and never written to: DVC links the file into its cache, and a browser
that has it open goes on with the old one.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from sqlite_utils import Database

from backbeat.config import validated
from backbeat.errors import LibraryError
from backbeat.library.migrations import is_current, migrate, rebuild_search
from backbeat.library.notes import Matched, Note, load_notes, match_notes, notes_lock, write_notes
from backbeat.library.settings import LIBRARY_FOLDER, load_settings
from backbeat.library.stats import count, write_report
from backbeat.library.tables import CURATION, read_table, table_path
from backbeat.library.words import read_bought, rule_words
from backbeat.storage.staging import new_file

CATALOG_FILE = f"{LIBRARY_FOLDER}/catalog.db"

Row = dict[str, Any]

# What is no contribution of a rule to the score.
_CURATION = frozenset(CURATION.names)


@dataclass(frozen=True)
class CatalogResult:
    """What is in the catalog.

    Args:
        samples: files, also those that could not be read.
        sounds: distinct ones that are described.
        noted: samples that the user has noted something about.
        moved: name in notes.yaml -> the name of the sample today.
        gone: names in notes.yaml that no sample answers to.
        size_bytes: of the database.
    """

    samples: int
    sounds: int
    noted: int
    moved: dict[str, str]
    gone: tuple[str, ...]
    size_bytes: int


def catalog(project: Path, *, workers: int | None = None) -> CatalogResult:  # noqa: ARG001 - as every stage
    """Make `data/library/catalog.db` anew, and write the figures of it to `reports/library.json`.

    Raises:
        ConfigError: if the settings or the notes are wrong.
        LibraryError: if a table is missing or damaged.
        StorageError: if the disk is full or read-only.
    """
    notes = load_notes(project)
    scan = _rows(project, "scan")
    matched = match_notes(notes, {row["sample"]: row["audio_sha256"] for row in scan})
    path = project / CATALOG_FILE
    with new_file(path) as part, _opened(part) as db:
        migrate(db)
        with db.atomic():
            sources = _insert_sources(db, project, scan)
            sounds = _insert_sounds(db, project, scan)
            samples = _insert_samples(db, project, scan, sources, sounds)
            _insert_duplicates(db, project, samples)
            _insert_production(db, project, samples)
            _insert_notes(db, notes, matched, samples)
            rebuild_search(db)
        db.execute("INSERT INTO search(search) VALUES ('optimize')")
        db.vacuum()
        figures = count(db)
    write_report(project, figures)
    moved = {name: sample for sample, name in matched.keys.items() if sample != name}
    return CatalogResult(len(samples), len(sounds), len(matched.keys), moved, matched.gone, path.stat().st_size)


def change_notes(project: Path, samples: Iterable[str], change: Callable[[Note], Note]) -> dict[str, Note]:
    """Change what is noted about some samples, in `notes.yaml` and in the catalog; return what is noted now.

    Args:
        project: the root of the repository.
        samples: their names in the catalog.
        change: gives the new note of a sample for the one that there is, or for an empty one.

    Raises:
        ConfigError: if the notes are wrong, or would be.
        LibraryError: if there is no catalog.
        StorageError: if the disk is full or read-only.
    """
    with notes_lock(project), read_catalog(project) as db:
        sounds = sounds_by_sample(db)
        notes = load_notes(project)
        keys = match_notes(notes, sounds).keys
        changed = {}
        for sample in dict.fromkeys(samples):
            before = notes[keys[sample]] if sample in keys else Note()
            values = change(before).model_dump(by_alias=True) | {"audio_sha256": sounds[sample]}
            changed[sample] = validated(Note, values, f"the note about {sample}")
        write_notes(project, changed, keys)
        _renew_notes(project, sounds)
    return changed


@contextlib.contextmanager
def read_catalog(project: Path) -> Iterator[Database]:
    """Open the catalog to read it; one of an older schema is brought up to date first.

    Raises:
        LibraryError: if it is not there or damaged.
    """
    path = project / CATALOG_FILE
    if not path.exists():
        raise LibraryError(
            f"{CATALOG_FILE} is not there",
            expected="what the stage catalog makes",
            next_step="dvc repro data/library/dvc.yaml:catalog, or dvc pull",
        )
    try:
        with _opened(path, read_only=True) as db:
            current = is_current(db)
        if not current:
            with _replaced(path) as db:
                migrate(db)
        with _opened(path, read_only=True) as db:
            yield db
    except sqlite3.DatabaseError as error:
        raise LibraryError(
            f"{CATALOG_FILE} cannot be read",
            expected="a catalog of this or an older version",
            got=str(error),
            next_step="dvc repro --force --single-item data/library/dvc.yaml:catalog",
        ) from error


def sounds_by_sample(db: Database) -> dict[str, str | None]:
    """Return every sample of the catalog with the digest of its sound."""
    return dict(
        db.execute(
            "SELECT sources.name || '/' || samples.path, sounds.audio_sha256 FROM samples"
            " JOIN sources ON sources.id = samples.source_id LEFT JOIN sounds ON sounds.id = samples.sound_id"
        ).fetchall()
    )


def _renew_notes(project: Path, sounds: Mapping[str, str | None]) -> None:
    notes = load_notes(project)
    with _replaced(project / CATALOG_FILE) as db, db.atomic():
        ids = dict(
            db.execute(
                "SELECT sources.name || '/' || samples.path, samples.id"
                " FROM samples JOIN sources ON sources.id = samples.source_id"
            ).fetchall()
        )
        db.execute("DELETE FROM notes")
        _insert_notes(db, notes, match_notes(notes, sounds), ids)
        rebuild_search(db)


def _insert_sources(db: Database, project: Path, scan: list[Row]) -> dict[str, int]:
    known = {source.name: (source.url, source.license) for source in load_settings(project).sources}
    # What is only in the archive any more may be of a source that the settings have no longer.
    known = {row["source"]: (row["source_url"], row["license"]) for row in scan} | known
    rows = [{"name": name, "url": url, "license": terms} for name, (url, terms) in sorted(known.items())]
    return _insert(db, "sources", "name", rows)


def _insert_sounds(db: Database, project: Path, scan: list[Row]) -> dict[str, int]:
    bought = read_bought(project)
    lengths = {row["audio_sha256"]: row["duration_s"] for row in scan}
    described = sorted(_rows(project, "descriptors"), key=lambda row: str(row["audio_sha256"]))
    ids = _insert(db, "sounds", "audio_sha256", described)
    words = []
    for row in described:
        digest = row["audio_sha256"]
        if digest in bought or not row["error"]:
            said = bought.get(digest) or rule_words({"duration_s": lengths.get(digest), **row})
            words.append(
                {"sound_id": ids[digest], "text": said.text, "tags": ", ".join(said.tags), "source": said.source}
            )
    _insert(db, "words", "sound_id", words)
    return ids


def _insert_samples(
    db: Database, project: Path, scan: list[Row], sources: Mapping[str, int], sounds: Mapping[str, int]
) -> dict[str, int]:
    archived = {row["sample"]: row for row in _rows(project, "archive", optional=True)}
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


def _insert_duplicates(db: Database, project: Path, samples: Mapping[str, int]) -> None:
    rows = [
        {**row, "sample_id": samples[row["sample"]], "group_id": row["group"], "keeper_id": samples[row["keeper"]]}
        for row in _rows(project, "duplicates", optional=True)
    ]
    _insert(db, "duplicates", "sample_id", rows)


def _insert_production(db: Database, project: Path, samples: Mapping[str, int]) -> None:
    rows = []
    for row in _rows(project, "curation", optional=True):
        points = {name: round(value, 2) for name, value in row.items() if name not in _CURATION and value is not None}
        own = {"sample_id": samples[row["sample"]], "contributions": json.dumps(points, separators=(",", ":"))}
        rows.append({**row, **own})
    _insert(db, "production", "sample_id", rows)


def _insert_notes(db: Database, notes: Mapping[str, Note], matched: Matched, samples: Mapping[str, int]) -> None:
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


def _rows(project: Path, name: str, *, optional: bool = False) -> list[Row]:
    if optional and not table_path(project, name).exists():
        return []
    rows: list[Row] = read_table(project, name).to_pylist()
    return rows


@contextlib.contextmanager
def _opened(path: Path, *, read_only: bool = False) -> Iterator[Database]:
    mode = "ro" if read_only else "rwc"
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True)
    try:
        yield Database(connection)
    finally:
        connection.close()


@contextlib.contextmanager
def _replaced(path: Path) -> Iterator[Database]:
    """Yield a copy that takes the place of the database."""
    with new_file(path) as part:
        shutil.copyfile(path, part)
        with _opened(part) as db:
            yield db
