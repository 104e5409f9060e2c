"""Human performances: the Groove MIDI Dataset's archive, or any zip of its layout.

`info.csv` names the MIDI files and says which split each is in. The archive of MIDI files alone (3 MB) is enough: what
is wanted is how people play. Long performances are cut to excerpts, so that a kit hears many of them.
"""

from __future__ import annotations

import csv
import io
import math
import struct
import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from backbeat.datasets.egmdtable import SPLITS
from backbeat.drums.midi import Onsets, read_onsets
from backbeat.errors import ConfigError

TABLE = "info.csv"
COLUMNS = frozenset(
    {"drummer", "session", "id", "style", "bpm", "beat_type", "time_signature", "midi_filename", "split"}
)

_STEP = "fetch it: backbeat datasets download groove_midi, or name another archive with --performances"

# What zipfile raises depends on what is broken: a checksum, the packed bytes, a flag, an offset.
_DAMAGES = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, NotImplementedError, RuntimeError)

# Silence before the first hit of an excerpt.
LEAD_S = 0.25


@dataclass(frozen=True)
class Performance:
    """One performance: where it is from, in the words of the table, and its hits."""

    drummer: str
    session: str
    id: str
    style: str
    tempo_bpm: float
    beat_type: str
    meter: str
    split: str
    stem: str
    onsets: Onsets


def read_performances(archive: Path) -> list[Performance]:
    """Return every performance of an archive, in the order of its table.

    Raises:
        ConfigError: if it is not such an archive, or is damaged; the message names the member, or the row.
        MidiError: if a MIDI file cannot be used; one without a hit is no performance.
    """
    try:
        opened = zipfile.ZipFile(archive)
    except FileNotFoundError:
        raise ConfigError(f"{archive} is missing", expected="performances", got="no file", next_step=_STEP) from None
    except _DAMAGES as error:
        what = f"{archive.name} cannot be used"
        raise ConfigError(what, expected="the Groove MIDI Dataset as a zip", got=str(error), next_step=_STEP) from error
    with opened:
        names = [name for name in opened.namelist() if PurePosixPath(name).name == TABLE]
        if len(names) != 1:
            what = f"{archive.name} has no table"
            raise ConfigError(what, expected=f"one {TABLE}", got=f"{len(names)}", next_step=_STEP)
        root = names[0].removesuffix(TABLE)
        rows = _rows(_read(opened, names[0], archive.name), archive.name)
        return [
            _performance(row, _read(opened, root + row["midi_filename"], archive.name), archive.name) for row in rows
        ]


def _read(opened: zipfile.ZipFile, name: str, archive: str) -> bytes:
    try:
        return opened.read(name)
    except KeyError:
        what = f"{archive} lacks {name}"
        raise ConfigError(
            what, expected=f"every file that {TABLE} names", got="no such member", next_step=_STEP
        ) from None
    except _DAMAGES as error:
        got = str(error) or type(error).__name__
        what = f"{name} of {archive} cannot be read"
        raise ConfigError(what, expected="a whole member", got=got, next_step=_STEP) from error


def _rows(content: bytes, archive: str) -> list[dict[str, str]]:
    """Return the rows of the table, each with all cells that are used."""
    where = f"{TABLE} of {archive}"
    try:
        reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        missing = sorted(COLUMNS - set(reader.fieldnames or ()))
        rows = [] if missing else list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{where} is no table", expected="CSV in UTF-8", got=str(error), next_step=_STEP) from error
    if missing:
        got = f"none of {', '.join(missing)}"
        raise ConfigError(f"{where} is another table", expected=", ".join(sorted(COLUMNS)), got=got, next_step=_STEP)
    if not rows:
        raise ConfigError(f"{where} is empty", expected="a row for each performance", got="none", next_step=_STEP)
    seen: set[str] = set()
    for number, row in enumerate(rows, start=1):
        fault = _fault(row, seen)
        if fault is not None:
            expected, got = fault
            raise ConfigError(f"row {number} of {where} cannot be used", expected=expected, got=got, next_step=_STEP)
    return rows


def _fault(row: dict[str, str], seen: set[str]) -> tuple[str, str] | None:
    """Return what a row should be and what it is; None if it can be used. `seen` gets its MIDI file."""
    cells = {column: row[column] for column in sorted(COLUMNS)}
    if None in row or None in cells.values():
        return "a cell for each column", "fewer" if None in cells.values() else "more"
    broken = [column for column, cell in cells.items() if not cell.isprintable()]
    if broken:
        return "cells of one line", f"{broken[0]}: {cells[broken[0]]!r}"
    if cells["split"] not in SPLITS:
        return f"split: one of {', '.join(SPLITS)}", repr(cells["split"])
    try:
        tempo_bpm = float(cells["bpm"])
    except ValueError:
        tempo_bpm = math.nan
    if not 0 < tempo_bpm < math.inf:
        return "bpm: a number above zero", repr(cells["bpm"])
    path = cells["midi_filename"]
    if not path or path.startswith("/") or any(part in {"", ".", ".."} for part in path.split("/")):
        return "midi_filename: a path in the folder of the table", repr(path)
    if path in seen:
        return "midi_filename: another one in each row", f"{path} twice"
    seen.add(path)
    return None


def excerpt(performance: Performance, longest_s: float, rng: np.random.Generator) -> Performance:
    """Return the performance, or a random part of it that begins with a hit and is no longer than `longest_s`."""
    onsets = performance.onsets
    last_s = float(onsets.onset_s[-1])
    begin_s = float(onsets.onset_s[0])
    if last_s - begin_s > longest_s:
        first = int(rng.integers(np.searchsorted(onsets.onset_s, last_s - longest_s, side="right")))
        begin_s = float(onsets.onset_s[first])
    kept = (onsets.onset_s >= begin_s) & (onsets.onset_s <= begin_s + longest_s)
    onsets = onsets.where(kept)
    moved = replace(onsets, onset_s=(onsets.onset_s - begin_s + LEAD_S).astype(np.float32))
    return replace(performance, onsets=moved)


def _performance(row: dict[str, str], midi: bytes, archive: str) -> Performance:
    return Performance(
        drummer=row["drummer"],
        session=row["session"],
        id=row["id"],
        style=row["style"],
        tempo_bpm=float(row["bpm"]),
        beat_type=row["beat_type"],
        meter=row["time_signature"],
        split=row["split"],
        stem=row["midi_filename"].rsplit(".", 1)[0],
        onsets=read_onsets(midi, f"{row['midi_filename']} of {archive}"),
    )
