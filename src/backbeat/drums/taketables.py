"""The two tables that a folder of takes may have: what is known of each take, and the notes of one of them.

Both are CSV in UTF-8 with a line of column names; empty cells say nothing. `backbeat.drums.takes` says what is in them.
"""

from __future__ import annotations

import csv
import io
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from backbeat.config import DRUMS_FILE, validated
from backbeat.drums.classes import DrumTable
from backbeat.drums.midi import Onsets, write_onsets
from backbeat.errors import BackbeatError, ConfigError

TABLE = "takes.csv"

# What a shard's table of sequences holds.
HIGHEST_KIT = 65_535

# How many faults of one table of notes are listed, so that there is room for those of the others.
MOST_FAULTY_LINES = 5

RowT = TypeVar("RowT", bound=BaseModel)
Velocity = Annotated[int, Field(ge=1, le=127)]


class TakesError(BackbeatError):
    """A folder of takes that cannot be packed as it is."""


class _Row(BaseModel):
    # Everything in a CSV file is text: converted here, unlike in YAML.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class TakeRow(_Row):
    """A row of `takes.csv`; what is None is not said."""

    file: Annotated[str, Field(min_length=1)]
    performance: Annotated[str, Field(pattern=r"^[^/\\\x00-\x1f]*[^/\\\x00-\x1f.][^/\\\x00-\x1f]*$")] | None = None
    drummer: str | None = None
    style: str | None = None
    tempo_bpm: Annotated[float, Field(gt=0, le=1_000)] | None = None
    kit: Annotated[int, Field(ge=1, le=HIGHEST_KIT)] | None = None
    split: Literal["train", "validation", "test"] | None = None


class NoteRow(_Row):
    """A row of a table of notes."""

    onset_s: Annotated[float, Field(ge=0)]
    velocity: Velocity
    pitch: Annotated[int, Field(ge=0, le=127)] | None = None
    label: Annotated[str | None, Field(alias="class")] = None


def read_table(folder: Path, suffixes: frozenset[str]) -> tuple[dict[str, TakeRow | None], list[str]]:
    """Return the rows of `takes.csv` by `key` of their file, and its faults; nothing if there is no such table.

    A faulty row is None: what it says of its take is not known.

    Args:
        folder: the folder of takes.
        suffixes: what a file may end in; the key is without it.

    Raises:
        TakesError: if it is no table.
    """
    rows: dict[str, TakeRow | None] = {}
    faults: list[str] = []
    if not (folder / TABLE).is_file():
        return rows, faults
    for where, cells in _rows((folder / TABLE).read_bytes(), TABLE):
        row: TakeRow | None = None
        try:
            row = _checked(TakeRow, cells, where)
        except TakesError as error:
            faults.append(in_a_line(error))
        if "file" not in cells:
            continue
        path = PurePosixPath(cells["file"])
        found = key(str(path.with_suffix("") if path.suffix.lower() in suffixes else path))
        if found in rows:
            faults.append(f"{where}: {path} is there twice")
        rows[found] = row
    return rows, faults


def midi_of_table(content: bytes, name: str, drums: DrumTable) -> tuple[bytes, list[str]]:
    """Return a table of notes as a MIDI file, and its faults; the file is empty if there are any.

    Raises:
        TakesError: if it is no table, or an empty one.
    """
    notes, faults = [], []
    for where, cells in _rows(content, name):
        try:
            notes.append(_note(cells, where, drums))
        except TakesError as error:
            faults.append(in_a_line(error))
    if faults:
        more = len(faults) - MOST_FAULTY_LINES
        return b"", faults[:MOST_FAULTY_LINES] + ([f"{name}: and {more:,} more lines"] if more > 0 else [])
    if not notes:
        raise TakesError(name, expected="at least one note", got="no notes")
    onset_s, pitches, velocities = zip(*sorted(notes), strict=True)
    onsets = Onsets(np.array(onset_s, np.float32), np.array(pitches, np.uint8), np.array(velocities, np.uint8))
    with tempfile.TemporaryDirectory() as scratch:
        write_onsets(onsets, Path(scratch) / "notes.midi")
        return (Path(scratch) / "notes.midi").read_bytes(), []


def _note(cells: dict[str | None, Any], where: str, drums: DrumTable) -> tuple[float, int, int]:
    """Return time, pitch and velocity of a row."""
    note = _checked(NoteRow, cells, where)
    pitch = note.pitch if note.label is None else pitch_of_label(drums, note.label)
    if pitch is None or None not in {note.label, note.pitch}:
        got = f"pitch {note.pitch}, class {note.label}"
        raise TakesError(where, expected=f"a pitch, or a class of {DRUMS_FILE}", got=got)
    return note.onset_s, pitch, note.velocity


def pitch_of_label(drums: DrumTable, label: str) -> int | None:
    """Return the MIDI note that a class or an instrument of `configs/drums.yaml` is written as; None if unknown."""
    for classes in drums.class_maps.values():
        if label in classes:
            return classes[label].note
    return min((pitch for pitch, instrument in drums.pitches.items() if instrument == label), default=None)


def in_a_line(error: BackbeatError) -> str:
    """Return an error as one of several faults."""
    return (
        f"{error.what}: expected {error.expected}, got {error.got}" if error.expected else f"{error.what}: {error.got}"
    )


def key(name: str) -> str:
    """Return a name as disks compare it that tell neither case nor forms of Unicode apart."""
    return unicodedata.normalize("NFC", name).casefold()


def _rows(content: bytes, name: str) -> Iterator[tuple[str, dict[str | None, Any]]]:
    """Yield where each row of a CSV file is, and its cells without the empty ones; None is cells without a column."""
    try:
        reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        columns = Counter(column.strip() for column in reader.fieldnames or ())
        twice = sorted(column for column, count in columns.items() if column and count > 1)
        if twice:
            raise TakesError(name, expected="each column once", got=f"several of {', '.join(twice)}")
        for row in reader:
            cells: dict[str | None, Any] = {}
            for column, cell in dict[str | None, Any](row).items():
                if column is None:
                    cells[None] = cell
                elif cell and cell.strip():
                    cells[column.strip()] = cell.strip()
            yield f"{name}, line {reader.line_num}", cells
    except (UnicodeDecodeError, csv.Error) as error:
        raise TakesError(name, expected="a CSV table in UTF-8", got=str(error)) from error


def _checked(model: type[RowT], cells: dict[str | None, Any], where: str) -> RowT:
    if None in cells:
        raise TakesError(where, expected="a cell for each column", got=f"more: {cells[None]}")
    try:
        return validated(model, cells, where)
    except ConfigError as error:
        raise TakesError(where, got=error.got) from error
