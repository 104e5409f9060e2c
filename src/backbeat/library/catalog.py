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
from pathlib import Path

from sqlite_utils import Database

from backbeat.config import validated
from backbeat.errors import LibraryError
from backbeat.library.catalog_rows import (
    insert_duplicates,
    insert_notes,
    insert_production,
    insert_samples,
    insert_sounds,
    insert_sources,
    insert_words,
    rows_of,
)
from backbeat.library.migrations import is_current, migrate, rebuild_search
from backbeat.library.notes import Note, load_notes, match_notes, notes_lock, write_notes
from backbeat.library.settings import LIBRARY_FOLDER
from backbeat.library.stats import count, write_report
from backbeat.storage.staging import new_file, open_staging

CATALOG_FILE = f"{LIBRARY_FOLDER}/catalog.db"


@dataclass(frozen=True)
class CatalogResult:
    """What is in the catalog.

    Args:
        samples: files, also those that could not be read.
        sounds: distinct ones that are described.
        noted: samples that the user has noted something about.
        moved: name in notes.yaml -> the name of the sample today, where an earlier run has not said so.
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
    scan = rows_of(project, "scan")
    matched = match_notes(notes, {row["sample"]: row["audio_sha256"] for row in scan})
    path = project / CATALOG_FILE
    with new_file(path) as part, _opened(part) as db:
        migrate(db)
        with db.atomic():
            sources = insert_sources(db, project, scan)
            sounds = insert_sounds(db, project)
            samples = insert_samples(db, project, scan, sources, sounds)
            insert_duplicates(db, project, samples)
            insert_production(db, project, samples)
            insert_notes(db, notes, matched, samples)
            insert_words(db, project)
            rebuild_search(db)
        db.execute("INSERT INTO search(search) VALUES ('optimize')")
        db.vacuum()
        figures = count(db)
    write_report(project, figures)
    moved = _not_said(project, {name: sample for sample, name in matched.keys.items() if sample != name})
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
        _renew(project, sounds)
    return changed


def renew_catalog(project: Path) -> bool:
    """Take notes and bought words into the catalog, which is made anew by its stage alone; False if there is none.

    Raises:
        ConfigError: if the notes are wrong.
        LibraryError: if the catalog or the words are damaged.
        StorageError: if the disk is full or read-only.
    """
    if not (project / CATALOG_FILE).exists():
        return False
    with notes_lock(project), read_catalog(project) as db:
        _renew(project, sounds_by_sample(db))
    return True


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


def _renew(project: Path, sounds: Mapping[str, str | None]) -> None:
    notes = load_notes(project)
    with _replaced(project / CATALOG_FILE) as db, db.atomic():
        ids = dict(
            db.execute(
                "SELECT sources.name || '/' || samples.path, samples.id"
                " FROM samples JOIN sources ON sources.id = samples.source_id"
            ).fetchall()
        )
        db.execute("DELETE FROM notes")
        db.execute("DELETE FROM words")
        insert_notes(db, notes, match_notes(notes, sounds), ids)
        insert_words(db, project)
        rebuild_search(db)


def _not_said(project: Path, moved: dict[str, str]) -> dict[str, str]:
    """Return what the last run has not said; it is kept in the staging store, and said again where it is lost."""
    path = open_staging(project).root / "library" / "moved.json"
    try:
        said = json.loads(path.read_bytes())
    except (OSError, ValueError):
        said = {}
    if moved != said:
        with new_file(path) as part:
            part.write_text(json.dumps(moved))
    return {name: sample for name, sample in moved.items() if said.get(name) != sample}


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
