"""Drum classes: which MIDI notes are which instrument, and which instruments a class map puts together.

`configs/drums.yaml` is the table and says where each part of it is from. This module loads and checks it, and turns a
class map into an array that a note number indexes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, model_validator

from backbeat.config import DRUMS_FILE, Strict, load_yaml, validated
from backbeat.errors import ConfigError

MIDI_NOTES = 128
IGNORED = -1

Pitch = Annotated[int, Field(ge=0, lt=MIDI_NOTES)]
Instrument = Annotated[str, Field(pattern=r"^[a-z_]+$")]


class ClassRow(Strict):
    """One class of a map: the note it is written as, and its instruments."""

    note: Pitch
    instruments: Annotated[list[Instrument], Field(min_length=1)]


def _by_number(pitches: Any) -> Any:
    """Return rows that are named by text by the number that it is: DVC cannot show parameters that numbers name."""
    if not isinstance(pitches, dict):
        return pitches
    rows = {int(name) if isinstance(name, str) and name.isdecimal() else name: row for name, row in pitches.items()}
    if len(rows) < len(pitches):
        raise ValueError("a note has two rows")
    return rows


class DrumTable(Strict):
    """The whole of `configs/drums.yaml`."""

    pitches: Annotated[dict[Pitch, Instrument], Field(min_length=1), BeforeValidator(_by_number)]
    class_maps: Annotated[dict[str, Annotated[dict[str, ClassRow], Field(min_length=1)]], Field(min_length=1)]

    @model_validator(mode="after")
    def _maps_agree_with_pitches(self) -> DrumTable:
        known = set(self.pitches.values())
        for name, classes in self.class_maps.items():
            listed = [instrument for row in classes.values() for instrument in row.instruments]
            unknown = sorted(set(listed) - known)
            if unknown:
                raise ValueError(f"class map {name} lists instruments that no pitch has: {', '.join(unknown)}")
            if len(set(listed)) < len(listed):
                raise ValueError(f"class map {name} lists an instrument in two classes")
            for label, row in classes.items():
                if self.pitches.get(row.note) not in row.instruments:
                    raise ValueError(f"class map {name} writes {label} as note {row.note}, which is something else")
        return self


@dataclass(frozen=True)
class ClassMap:
    """A class map ready for use.

    Attributes:
        name: its name in `configs/drums.yaml`.
        classes: the names of its classes, in order.
        notes: the MIDI note that each class is written as.
        class_of_pitch: shape (128,), the class index of each MIDI note, or `IGNORED`.
    """

    name: str
    classes: tuple[str, ...]
    notes: tuple[int, ...]
    class_of_pitch: NDArray[np.int8]


def load_drums(project: Path) -> DrumTable:
    """Load and check `configs/drums.yaml`.

    Raises:
        ConfigError: if it is missing or contradicts itself.
    """
    return validated(DrumTable, load_yaml(project / DRUMS_FILE), DRUMS_FILE)


def class_map(table: DrumTable, name: str) -> ClassMap:
    """Return the class map of this name.

    Raises:
        ConfigError: if there is none.
    """
    if name not in table.class_maps:
        known = ", ".join(table.class_maps)
        step = f"set train.classes to one of them, or add the map to {DRUMS_FILE}"
        raise ConfigError(f"no class map {name!r} in {DRUMS_FILE}", expected=known, got=name, next_step=step)
    rows = table.class_maps[name]
    index_of = {instrument: index for index, row in enumerate(rows.values()) for instrument in row.instruments}
    class_of_pitch = np.full(MIDI_NOTES, IGNORED, np.int8)
    for pitch, instrument in table.pitches.items():
        class_of_pitch[pitch] = index_of.get(instrument, IGNORED)
    return ClassMap(name, tuple(rows), tuple(row.note for row in rows.values()), class_of_pitch)
