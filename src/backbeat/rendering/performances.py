"""Human performances: the Groove MIDI Dataset's archive, or any zip of its layout.

`info.csv` names the MIDI files and says which split each is in. The archive of MIDI files alone (3 MB) is enough: what
is wanted is how people play. Long performances are cut to excerpts, so that a kit hears many of them.
"""

from __future__ import annotations

import csv
import io
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from backbeat.drums.midi import Onsets, read_onsets
from backbeat.errors import ConfigError

TABLE = "info.csv"
COLUMNS = frozenset(
    {"drummer", "session", "id", "style", "bpm", "beat_type", "time_signature", "midi_filename", "split"}
)

# Silence before the first hit of an excerpt, and after its last one.
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
        ConfigError: if it is not such an archive.
        MidiError: if a MIDI file cannot be used.
    """
    step = "fetch it: backbeat datasets download groove_midi, or name another archive with --performances"
    try:
        with zipfile.ZipFile(archive) as opened:
            names = [name for name in opened.namelist() if PurePosixPath(name).name == TABLE]
            if len(names) != 1:
                raise ConfigError(f"{archive.name} has no table", expected=f"one {TABLE}", got=f"{len(names)}")
            root = names[0].removesuffix(TABLE)
            rows = list(csv.DictReader(io.TextIOWrapper(opened.open(names[0]), encoding="utf-8-sig")))
            missing = COLUMNS - set(rows[0] if rows else ())
            if missing:
                what = f"{archive.name}: {TABLE} is another table"
                raise ConfigError(
                    what, expected=", ".join(sorted(COLUMNS)), got=f"none of {', '.join(sorted(missing))}"
                )
            return [_performance(row, opened.read(root + row["midi_filename"])) for row in rows]
    except FileNotFoundError:
        raise ConfigError(f"{archive} is missing", expected="performances", got="no file", next_step=step) from None
    except (zipfile.BadZipFile, KeyError) as error:
        what = f"{archive.name} cannot be used"
        raise ConfigError(what, expected="the Groove MIDI Dataset as a zip", got=str(error), next_step=step) from error


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


def _performance(row: dict[str, str], midi: bytes) -> Performance:
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
        onsets=read_onsets(midi, row["midi_filename"]),
    )
