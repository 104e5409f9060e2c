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
from backbeat.library.conditions import STATES, Query, between, in_state, key_is, one_of
from backbeat.library.lookup import meant_classes, resolve, vocabulary
from backbeat.library.query import parse
from backbeat.library.settings import load_settings
from backbeat.library.tables import read_table

# Group by group, the most alike first.
_ORDER_OF_COPIES = "duplicate_of, duplicate = 'near', "


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
        state: one of `backbeat.library.conditions.STATES`.
    """

    text: str = ""
    bpm: str | None = None
    key: str | None = None
    classes: tuple[str, ...] = ()
    kind: str | None = None
    like: str | None = None
    state: str | None = None


@dataclass(frozen=True)
class Hit:
    """A sample that was found.

    Args:
        sample: its name.
        place: where its file is; None if it is in an archive.
        sound_class: what it is; the rest as in the view `library`.
        error: why it cannot be read; None if it can.
        silent: whether there is nothing in it; None if it cannot be read.
        why: what its state comes from, where one was asked for: the reason, the keeper, the file in production, how
            many samples are clipped, how many bytes the archive has.
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
    error: str | None
    silent: bool | None
    why: str | int | None = None
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
        copies: whether to return also what sounds the same as a better one; that is so where a state is asked for.

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
                f" ORDER BY {_ORDER_OF_COPIES if wish.state == 'duplicate' else ''}"
                " coalesce(rating, 3) DESC, score DESC, sample",
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
    kept = rows if copies or wish.state else _without_copies(rows, itself)
    places = {source.name: source.place(project) for source in load_settings(project).sources}
    return Found(
        understood, tuple(_hit(row, places, wish.state) for row in kept[:limit]), len(kept), len(rows) - len(kept)
    )


def _query(wish: Wish, db: Database) -> Query:
    words = vocabulary(db)
    query = parse(wish.text, words)
    conditions = list(query.conditions)
    if wish.bpm is not None:
        conditions.append(between("tempo_bpm", *_bounds(wish.bpm)))
    if wish.key is not None:
        in_key = key_is(wish.key)
        if in_key is None:
            raise ConfigError(
                f"--key {wish.key} is no key", expected="Am, 'F# minor', C for either mode, or a note such as C2"
            )
        conditions.append(in_key)
    if wish.classes:
        conditions.append(one_of("class", meant_classes(wish.classes, words)))
    if wish.state is not None:
        if wish.state not in STATES:
            raise ConfigError(f"--state {wish.state} is none", expected=", ".join(STATES))
        conditions.append(in_state(wish.state))
    if wish.kind is not None:
        conditions.append(one_of("kind", [wish.kind]))
    return replace(query, conditions=tuple(conditions))


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


def _hit(row: dict[str, Any], places: dict[str, Path], state: str | None) -> Hit:
    in_folder = row["tier"] == "original" and row["container"] is None and row["source"] in places
    place = places[row["source"]] / row["sample"].partition("/")[2] if in_folder else None
    named = {"place", "sound_class", "why"}
    why = None if state is None else row[STATES[state][1]]
    if state == "duplicate":
        kind = str(row["duplicate"]).replace("_", " ")
        why = f"{kind}: {'like ' if kind == 'near' else ''}{why}"
    columns: dict[str, Any] = {name: row.get(name) for name in Hit.__dataclass_fields__ if name not in named}
    return Hit(place=place, sound_class=row["class"], why=why, **columns)


def hit_values(hit: Hit) -> dict[str, Any]:
    """Return a hit as JSON has it: its class is called so."""
    values = asdict(hit)
    values["class"] = values.pop("sound_class")
    return values
