"""Find samples: by what somebody says of them, by what they sound like, and one by its name."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlite_utils import Database

from backbeat.audio.read import mono_blocks, read_info
from backbeat.audio.resemblance import embedding, from_bytes
from backbeat.errors import ConfigError, LibraryError
from backbeat.library.catalog import read_catalog
from backbeat.library.conditions import Query, between, key_is, one_of
from backbeat.library.query import Vocabulary, meaning, parse
from backbeat.library.settings import load_settings
from backbeat.library.tables import read_table

# How many names a message suggests.
_SUGGESTED = 5


@dataclass(frozen=True)
class Wish:
    """What is looked for; everything has to hold.

    Args:
        text: in words (`backbeat.library.query`).
        bpm: bounds, `90:100`, `90:`, `:100`, or one tempo.
        key: `Am`, `A minor`, or `A` for either mode.
        classes: one of these.
        kind: `one-shot` or `loop`.
        like: a sample of the library or any sound file; what resembles it most comes first.
    """

    text: str = ""
    bpm: str | None = None
    key: str | None = None
    classes: tuple[str, ...] = ()
    kind: str | None = None
    like: str | None = None


@dataclass(frozen=True)
class Hit:
    """A sample that was found.

    Args:
        sample: its name.
        place: where its file is; None if it is in an archive.
        sound_class: what it is; the rest as in the view `library`.
        similarity: to what it should be like, as the cosine of the embeddings; None where nothing was asked for.
    """

    sample: str
    place: Path | None
    sound_class: str | None
    kind: str | None
    duration_ms: int | None
    tempo_bpm: float | None
    key: str | None
    note: str | None
    words: str | None
    tags: str | None
    rating: int | None
    score: float | None
    similarity: float | None = None


@dataclass(frozen=True)
class Found:
    """What was found.

    Args:
        understood: the wish in words, as it was taken.
        hits: the best ones.
        total: how many there are in all.
        copies: samples left out because they sound the same as one that is in.
    """

    understood: str
    hits: tuple[Hit, ...]
    total: int
    copies: int


def find(project: Path, wish: Wish, *, limit: int = 20, copies: bool = False) -> Found:
    """Return the samples that a wish describes: the most similar first, else the best rated, else the best score.

    Args:
        project: the root of the repository.
        wish: what is looked for.
        limit: how many at most.
        copies: whether to return also what sounds the same as a better one.

    Raises:
        AudioError: if the sound file to compare with cannot be read.
        ConfigError: if bounds or a key cannot be understood.
        LibraryError: if there is no catalog, or no such sample to compare with.
    """
    with read_catalog(project) as db:
        query = _query(wish, db)
        clauses, values = query.where()
        # No rating is neither praise nor blame.
        rows = list(
            db.query(
                f"SELECT * FROM library WHERE {' AND '.join(clauses) or '1'}"  # noqa: S608 - of our own making
                " ORDER BY coalesce(rating, 3) DESC, score DESC, sample",
                values,
            )
        )
        understood, itself = query.understood, None
        if wish.like is not None:
            itself, vector = _reference(db, project, wish.like)
            rows = _by_similarity(db, project, rows, vector)
            understood += f", like {wish.like}"
    if itself is not None:
        rows = [row for row in rows if row["sample"] != itself["sample"]]
    kept = rows if copies else _without_copies(rows, itself)
    places = {source.name: source.place(project) for source in load_settings(project).sources}
    return Found(understood, tuple(_hit(row, places) for row in kept[:limit]), len(kept), len(rows) - len(kept))


def vocabulary(db: Database) -> Vocabulary:
    """Return what the words of the catalog mean: its classes, and how it says bright, heavy and punchy."""
    meant: dict[str, tuple[str, str]] = {}
    twice = set()
    for column in ("punch", "weight", "brightness", "class"):
        for (value,) in db.execute(f'SELECT DISTINCT "{column}" FROM library WHERE "{column}" IS NOT NULL'):  # noqa: S608
            if value in meant and column != "class":
                twice.add(value)
            meant[value.lower()] = (column, value)
    # Of medium weight, or of medium punch?
    for value in twice:
        meant.pop(value, None)
    return meant


def resolve(db: Database, project: Path, name: str) -> str:
    """Return the full name of a sample that was given by it, by the path of its file, or by the end of its name.

    Raises:
        LibraryError: if there is none, or more than one.
    """
    if _named(db, name):
        return name
    absolute = Path(name).absolute()
    for source in load_settings(project).sources:
        place = source.place(project).absolute()
        if absolute.is_relative_to(place) and _named(db, f"{source.name}/{absolute.relative_to(place).as_posix()}"):
            return f"{source.name}/{absolute.relative_to(place).as_posix()}"
    names = [
        one
        for (one,) in db.execute(
            "SELECT sources.name || '/' || path FROM samples JOIN sources ON sources.id = source_id"
            " WHERE instr(lower(sources.name || '/' || path), lower(?)) ORDER BY 1",
            (name,),
        )
    ]
    exact = [one for one in names if one.lower().endswith(f"/{name.lower()}")] or names
    if len(exact) == 1:
        return str(exact[0])
    raise LibraryError(
        f"no sample is called {name}" if not exact else f"{len(exact)} samples are called {name}",
        expected="<source>/<path>, the path of a file of a source, or a part of the name that only one sample has",
        got=", ".join(exact[:_SUGGESTED]) + (", …" if len(exact) > _SUGGESTED else "") if exact else None,
        next_step="backbeat library find shows names",
    )


def _named(db: Database, sample: str) -> bool:
    source, _, path = sample.partition("/")
    found = db.execute(
        "SELECT 1 FROM samples WHERE source_id = (SELECT id FROM sources WHERE name = ?) AND path = ?", (source, path)
    )
    return found.fetchone() is not None


def _query(wish: Wish, db: Database) -> Query:
    words = vocabulary(db)
    query = parse(wish.text, words)
    conditions = list(query.conditions)
    if wish.bpm is not None:
        conditions.append(between("tempo_bpm", *_bounds(wish.bpm)))
    if wish.key is not None:
        in_key = key_is(wish.key)
        if in_key is None:
            raise ConfigError(f"--key {wish.key} is no key", expected="Am, 'F# minor', or C for either mode")
        conditions.append(in_key)
    if wish.classes:
        conditions.append(one_of("class", _classes(wish.classes, words)))
    if wish.kind is not None:
        conditions.append(one_of("kind", [wish.kind]))
    return replace(query, conditions=tuple(conditions))


def _classes(names: tuple[str, ...], words: Vocabulary) -> list[str]:
    known = sorted(value for column, value in words.values() if column == "class")
    wanted = []
    for name in names:
        meant = [value for column, value in meaning(name, words) if column == "class"]
        if not meant:
            raise ConfigError(f"--class {name} is no class of the catalog", expected=", ".join(known))
        wanted += meant
    return wanted


def _bounds(text: str) -> tuple[float | None, float | None]:
    low, colon, high = text.partition(":")
    try:
        if not colon:
            return float(low) - 1, float(low) + 1
        return (float(low) if low else None), (float(high) if high else None)
    except ValueError:
        raise ConfigError(f"--bpm {text} is no tempo", expected="90:100, 90:, :100 or 95") from None


def _reference(db: Database, project: Path, like: str) -> tuple[dict[str, Any] | None, NDArray[np.float32]]:
    """Return the row of the sample to compare with, None for another file; and its vector."""
    file = Path(like)
    try:
        sample = resolve(db, project, like)
    except LibraryError:
        if not file.is_file():
            raise
        return None, _vector_of_file(file)
    row = next(iter(db.query("SELECT * FROM library WHERE sample = ?", (sample,))), None)
    vectors = {} if row is None else _vectors(db, project, {row["sound_id"]})
    if row is None or row["sound_id"] not in vectors:
        raise LibraryError(
            f"{sample} has no embedding", expected="a sample that could be read and described", next_step="name another"
        )
    return row, vectors[row["sound_id"]]


def _vector_of_file(file: Path) -> NDArray[np.float32]:
    rate_hz = read_info(file, str(file)).sample_rate_hz
    return embedding(np.concatenate(list(mono_blocks(file, str(file), rate_hz))), rate_hz)


def _vectors(db: Database, project: Path, sounds: set[int]) -> dict[int, NDArray[np.float32]]:
    ids = dict(db.execute("SELECT audio_sha256, id FROM sounds").fetchall())
    table = read_table(project, "embeddings").to_pydict()
    pairs = zip(table["audio_sha256"], table["embedding"], strict=True)
    return {ids[digest]: from_bytes(content) for digest, content in pairs if ids.get(digest) in sounds}


def _by_similarity(
    db: Database, project: Path, rows: list[dict[str, Any]], vector: NDArray[np.float32]
) -> list[dict[str, Any]]:
    vectors = _vectors(db, project, {row["sound_id"] for row in rows})
    near = {sound: float(vector @ other) for sound, other in vectors.items() if len(other) == len(vector)}
    compared = [row | {"similarity": near[row["sound_id"]]} for row in rows if row["sound_id"] in near]
    return sorted(compared, key=lambda row: -float(row["similarity"]))


def _without_copies(rows: list[dict[str, Any]], itself: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Leave out what is the same sound as one before it: by its digest, or by the stage `duplicates`."""
    seen: set[tuple[str, Any]] = set()
    kept = []
    for row in [itself, *rows] if itself else rows:
        sounds = {(name, row[name]) for name in ("sound_id", "same_as") if row[name] is not None}
        if not sounds & seen:
            kept.append(row)
        seen |= sounds
    return kept[1:] if itself else kept


def _hit(row: dict[str, Any], places: dict[str, Path]) -> Hit:
    in_folder = row["tier"] == "original" and row["container"] is None and row["source"] in places
    place = places[row["source"]] / row["sample"].partition("/")[2] if in_folder else None
    named = {"place", "sound_class"}
    columns: dict[str, Any] = {name: row.get(name) for name in Hit.__dataclass_fields__ if name not in named}
    return Hit(place=place, sound_class=row["class"], **columns)


def hit_values(hit: Hit) -> dict[str, Any]:
    """Return a hit as JSON has it: its class is called so."""
    values = asdict(hit)
    values["class"] = values.pop("sound_class")
    return values
