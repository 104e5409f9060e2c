"""Files of annotations: what they look like, and what each of their labels can be.

The format is told by the end of the name:

- MDB Drums (Southall, Wu, Lerch, Hockman 2017): `_subclass.txt` and `_class.txt`, lines of seconds and a label. The
  classes put side sticks under `OT`, with all that is no drum of the kit, which is ignored.
- IDMT-SMT-Drums (Dittmar, Gaertner 2014): `.xml`, or `.txt` with lines of seconds and a label. It has words for kick,
  snare and hi-hat. The usual protocol scores these three, and so it is here: a tom that is estimated counts as wrong
  only in a class map that takes toms for one of the three.
- MIDI: `.mid` or `.midi`, by the notes of `configs/drums.yaml`. Other notes are ignored, as in the pipeline. In a file
  of a whole song the drums are on channel 10; in one that has nothing there, every channel is taken for drums.
- CSV: a table with a column `onset_s`, either `pitch` or `class`, and perhaps `velocity` (1 to 127); other columns are
  passed over. A class is an instrument or a class of `configs/drums.yaml`; one that several class maps have stands for
  the instruments that it has in all of them.

Hits of a class less than a frame apart are one sound in MIDI and CSV (two rims of a cymbal, a layered pad), as in the
stage `evaluate`. In the published text formats only what is there twice at one time counts once, which is how ADTOF
(Zehren et al. 2021) is scored on MDB Drums.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.parsers import expat

import mido
import numpy as np

from backbeat.config import DRUMS_FILE
from backbeat.drums.classes import DrumTable
from backbeat.drums.midi import DRUM_CHANNEL, MAX_ONSET_S, read_onsets
from backbeat.transcription.annotations import PADS_APART_S, Annotation, AnnotationError, annotation_of_onsets

Labels = Mapping[str, frozenset[str]]
Reader = Callable[[bytes, str, DrumTable], Annotation]

_SNARE = frozenset({"snare", "snare_rim"})
_HATS = frozenset({"hat_closed", "hat_open", "hat_pedal"})

# The 21 subclasses of MDB Drums. The high-mid tom is the upper one of a kit with one rack tom, the middle one of
# another. What a drum module takes a china and a splash for are crashes.
MDB_SUBCLASSES: Labels = {
    "KD": frozenset({"kick"}),
    **dict.fromkeys(("SD", "SDB", "SDD", "SDF", "SDG", "SDNS"), _SNARE),
    "SST": frozenset({"cross_stick"}),
    "CHH": frozenset({"hat_closed"}),
    "OHH": frozenset({"hat_open"}),
    "PHH": frozenset({"hat_pedal"}),
    "HIT": frozenset({"tom_high"}),
    "MHT": frozenset({"tom_high", "tom_mid"}),
    **dict.fromkeys(("HFT", "LFT"), frozenset({"tom_low"})),
    **dict.fromkeys(("CRC", "CHC", "SPC"), frozenset({"crash"})),
    "RDC": frozenset({"ride"}),
    "RDB": frozenset({"bell"}),
    "TMB": frozenset({"tambourine"}),
}

MDB_CLASSES: Labels = {
    "KD": frozenset({"kick"}),
    "SD": _SNARE,
    "HH": _HATS,
    "TT": frozenset({"tom_high", "tom_mid", "tom_low"}),
    "CY": frozenset({"crash", "ride", "bell"}),
    "OT": frozenset(),
}

IDMT_CLASSES: Labels = {"KD": frozenset({"kick"}), "SD": _SNARE | {"cross_stick"}, "HH": _HATS}


@dataclass(frozen=True)
class Format:
    """A way to write annotations down: its name, how names of its files end, how they are read."""

    name: str
    suffix: str
    read: Reader


def read_annotation(path: Path, drums: DrumTable) -> tuple[str, Annotation]:
    """Return the name of the format of an annotation, by the end of its name, and what it says.

    Raises:
        AnnotationError: if it is of no known format or says what its format cannot; with the line.
        MidiError: if it is a MIDI file that cannot be read.
    """
    for kind in FORMATS:
        if path.name.lower().endswith(kind.suffix):
            try:
                return kind.name, kind.read(path.read_bytes(), path.name, drums)
            except OSError as error:
                raise AnnotationError(f"{path.name} cannot be read", expected="a file", got=str(error)) from error
    expected = f"a name that ends in {', '.join(kind.suffix for kind in FORMATS)}"
    raise AnnotationError(f"{path.name} is no annotation", expected=expected, got=path.name)


def _midi(content: bytes, name: str, drums: DrumTable) -> Annotation:
    onsets = read_onsets(content, name)
    of_drums = _of_drums(content)
    return annotation_of_onsets(onsets if of_drums is None else read_onsets(of_drums, name), drums)


def _of_drums(content: bytes) -> bytes | None:
    """Return a MIDI file without the notes of other channels; None if it has no drums, or nothing else."""
    song = mido.MidiFile(file=io.BytesIO(content))
    struck = {message.channel for track in song.tracks for message in track if _is_struck(message)}
    if DRUM_CHANNEL not in struck or len(struck) == 1:
        return None
    kept = mido.MidiFile(type=song.type, ticks_per_beat=song.ticks_per_beat)
    for track in song.tracks:
        waited, left = 0, mido.MidiTrack()
        for message in track:
            waited += message.time
            if message.type == "set_tempo" or (_is_struck(message) and message.channel == DRUM_CHANNEL):
                left.append(message.copy(time=waited))
                waited = 0
        kept.tracks.append(left)
    written = io.BytesIO()
    kept.save(file=written)
    return written.getvalue()


def _is_struck(message: Any) -> bool:
    return bool(message.type == "note_on" and message.velocity > 0)


def _lines_of(labels: Labels) -> Reader:
    """Return what reads lines of seconds and one of these labels."""

    def read(content: bytes, name: str, _: DrumTable) -> Annotation:
        rows = []
        for number, line in enumerate(_text(content, name).splitlines(), start=1):
            if line.strip():
                where, cells = f"{name}, line {number}", line.split()
                if len(cells) != 2:
                    raise AnnotationError(where, expected="seconds and a label", got=repr(line))
                rows.append((_seconds(cells[0], where), _known(cells[1], labels, where), None))
        return _annotation(rows, labels, name, apart_s=0.0)

    return read


def _idmt_xml(content: bytes, name: str, _: DrumTable) -> Annotation:
    """Read the elements `event` of an XML file: in each, `onsetSec` and `instrument`."""
    rows: list[tuple[float, str, float | None]] = []
    path: list[str] = []
    event: dict[str, str] = {}
    parser = expat.ParserCreate()

    def begin(element: str, _: dict[str, str]) -> None:
        path.append(element)
        if element == "event":
            event.clear()

    def characters(text: str) -> None:
        event[path[-1]] = event.get(path[-1], "") + text

    def end(element: str) -> None:
        path.pop()
        if element == "event":
            where = f"{name}, line {parser.CurrentLineNumber}"
            time, label = (event.get(part, "").strip() for part in ("onsetSec", "instrument"))
            rows.append((_seconds(time, where), _known(label, IDMT_CLASSES, where), None))

    # Entities, which can make a small file a large one, are declared there; these files have none.
    def document_type(*_: object) -> None:
        raise AnnotationError(f"{name} declares a document type", expected="elements alone", got="<!DOCTYPE")

    parser.StartElementHandler, parser.CharacterDataHandler, parser.EndElementHandler = begin, characters, end
    parser.StartDoctypeDeclHandler = document_type
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise AnnotationError(
            f"{name} is no XML", expected="an annotation of IDMT-SMT-Drums", got=str(error)
        ) from error
    return _annotation(rows, IDMT_CLASSES, name, apart_s=0.0)


def _csv(content: bytes, name: str, drums: DrumTable) -> Annotation:
    labels = {instrument: frozenset({instrument}) for instrument in dict.fromkeys(drums.pitches.values())}
    rows = []
    for where, cells in _csv_rows(content, name):
        label, instruments = _csv_label(cells, drums, where)
        labels.setdefault(label, instruments)
        velocity = _number(cells["velocity"], where, "a velocity") if "velocity" in cells else None
        if velocity is not None and not 1 <= velocity <= 127:
            raise AnnotationError(where, expected="a velocity from 1 to 127", got=cells["velocity"])
        rows.append((_seconds(cells.get("onset_s", ""), where), label, velocity))
    return _annotation(rows, labels, name, apart_s=PADS_APART_S)


def _csv_rows(content: bytes, name: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield where each row of a table is, and its cells without the empty ones."""
    reader = csv.DictReader(io.StringIO(_text(content, name), newline=""), strict=True)
    try:
        columns = {column.strip() for column in reader.fieldnames or ()}
        if "onset_s" not in columns or not {"pitch", "class"} & columns:
            got = ", ".join(sorted(columns)) or "none"
            raise AnnotationError(
                f"{name}, line 1", expected="columns onset_s and pitch, or onset_s and class", got=got
            )
        for row in reader:
            cells: dict[Any, Any] = row
            where = f"{name}, line {reader.line_num}"
            if None in cells:
                raise AnnotationError(where, expected="a cell for each column", got=f"more: {cells[None]}")
            yield where, {column.strip(): cell.strip() for column, cell in cells.items() if cell and cell.strip()}
    except csv.Error as error:
        raise AnnotationError(f"{name}, line {reader.line_num}", expected="a CSV table", got=str(error)) from error


def _csv_label(cells: Mapping[str, str], drums: DrumTable, where: str) -> tuple[str, frozenset[str]]:
    """Return the label of a row and the instruments that it can be."""
    pitch, label = cells.get("pitch"), cells.get("class")
    if (pitch is None) == (label is None):
        got = f"pitch {pitch}, class {label}"
        raise AnnotationError(where, expected=f"a pitch, or a class of {DRUMS_FILE}", got=got)
    if pitch is not None:
        label = drums.pitches.get(int(pitch) if pitch.isdecimal() else -1)
        if label is None:
            raise AnnotationError(where, expected=f"a pitch that has a row in {DRUMS_FILE}", got=pitch)
    assert label is not None
    if label in drums.pitches.values():
        return label, frozenset({label})
    meanings = [frozenset(rows[label].instruments) for rows in drums.class_maps.values() if label in rows]
    instruments = frozenset.intersection(*meanings) if meanings else frozenset()
    if not instruments:
        raise AnnotationError(where, expected=f"an instrument or a class of {DRUMS_FILE}", got=label)
    return label, instruments


def _seconds(text: str, where: str) -> float:
    onset_s = _number(text, where, "seconds")
    if not 0 <= onset_s <= MAX_ONSET_S:
        raise AnnotationError(where, expected="seconds from the beginning of the recording", got=text)
    return onset_s


def _known(label: str, labels: Labels, where: str) -> str:
    if label not in labels:
        raise AnnotationError(where, expected=f"one of {', '.join(labels)}", got=label or "no label")
    return label


def _number(text: str, where: str, expected: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise AnnotationError(where, expected=expected, got=text or "nothing")
    return number


def _text(content: bytes, name: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{name} is no text", expected="UTF-8", got=str(error)) from error


def _annotation(
    rows: Sequence[tuple[float, str, float | None]], labels: Labels, name: str, *, apart_s: float
) -> Annotation:
    if not rows:
        raise AnnotationError(f"{name} has no hits", expected="at least one", got="none")
    silent = sum(velocity is None for _, _, velocity in rows)
    if 0 < silent < len(rows):
        got = f"{silent} hits without"
        raise AnnotationError(f"{name} has a velocity for some hits", expected="one for all, or for none", got=got)
    names = list(labels)
    onset_s, label, velocity = zip(*sorted(rows, key=lambda row: row[:2]), strict=True)
    return Annotation(
        labels=tuple(labels.values()),
        onset_s=np.array(onset_s, np.float64),
        label=np.array([names.index(one) for one in label], np.int64),
        velocity=None if silent else np.array(velocity, np.float64),
        apart_s=apart_s,
    )


# Where one end is the end of another, the longer one stands first.
FORMATS = (
    Format("MDB Drums, subclasses", "_subclass.txt", _lines_of(MDB_SUBCLASSES)),
    Format("MDB Drums, classes", "_class.txt", _lines_of(MDB_CLASSES)),
    Format("MIDI", ".midi", _midi),
    Format("MIDI", ".mid", _midi),
    Format("CSV", ".csv", _csv),
    Format("IDMT-SMT-Drums", ".xml", _idmt_xml),
    Format("IDMT-SMT-Drums", ".txt", _lines_of(IDMT_CLASSES)),
)
