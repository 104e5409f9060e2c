"""The layout of E-GMD: one zip with a CSV table and a WAV and a MIDI file for every (performance, kit).

How the table is read: `backbeat.datasets.egmdtable`. Splits are the table's own and are per performance, so that no
performance is in two of them; a table that breaks this is refused.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from backbeat.datasets.egmdtable import COLUMNS, SPLITS, find_table, kit_of, read_table
from backbeat.datasets.packed.archives import Member, list_members, read_member
from backbeat.errors import ArchiveError


@dataclass(frozen=True)
class Sequence:
    """One performance through one kit."""

    id: str
    performance: str
    drummer: str
    style: str
    tempo_bpm: float
    duration_s: float
    split: str
    kit: int
    kit_name: str
    wav: Member
    midi: Member


def find_archive(folder: Path) -> Path:
    """Return the one zip archive in a folder of raw data.

    Raises:
        ArchiveError: if there is none, or more than one.
    """
    archives = sorted(folder.glob("*.zip"))
    if len(archives) != 1:
        got = ", ".join(archive.name for archive in archives) or "none"
        step = f"dvc repro data/dvc.yaml:download@{folder.name}"
        raise ArchiveError(f"no E-GMD archive in {folder}", expected="one zip file", got=got, next_step=step)
    return archives[0]


def read_index(archive: Path) -> list[Sequence]:
    """Return every sequence of an archive, in the order of their recordings in it.

    Raises:
        ArchiveError: if the archive or its table is damaged or they contradict each other.
    """
    members = list_members(archive)
    table, root = find_table(members, archive.name)
    rows = read_table(read_member(archive, members[table]), f"{table} in {archive.name}")
    sequences = [_sequence(row, number, root, members, archive.name) for number, row in enumerate(rows, start=2)]
    _check_agreement(sequences, members, archive.name)
    return sorted(sequences, key=lambda sequence: sequence.wav)


def _sequence(row: dict[str, str], line: int, root: str, members: dict[str, Member], archive: str) -> Sequence:
    where = f"line {line} of the table in {archive}"
    if None in row.values() or None in row:
        raise ArchiveError(f"{where} is not whole", expected=f"{len(COLUMNS)} columns", got=str(list(row.values())))
    wav, midi = (members.get(f"{root}/{row[column]}") for column in ("audio_filename", "midi_filename"))
    if wav is None or midi is None:
        absent = row["midi_filename"] if midi is None else row["audio_filename"]
        raise ArchiveError(f"{where} names a file that is not in the archive", expected=absent, got="no such member")
    kit = kit_of(row)
    if kit is None:
        got = row["audio_filename"]
        raise ArchiveError(f"{where} names no kit", expected="a file name that ends in _<kit>.wav", got=got)
    if row["split"] not in SPLITS:
        raise ArchiveError(f"{where} has an unknown split", expected=" or ".join(SPLITS), got=row["split"])
    try:
        tempo_bpm, duration_s = float(row["bpm"]), float(row["duration"])
    except ValueError as error:
        raise ArchiveError(f"{where} has no numbers for bpm and duration", got=str(error)) from error
    if not (0 < tempo_bpm < math.inf and 0 < duration_s < math.inf):
        got = f"bpm {row['bpm']}, duration {row['duration']}"
        raise ArchiveError(f"{where} has an impossible tempo or length", expected="numbers above 0", got=got)
    return Sequence(
        id=row["audio_filename"].removesuffix(".wav"),
        performance=row["id"],
        drummer=row["drummer"],
        style=row["style"],
        tempo_bpm=tempo_bpm,
        duration_s=duration_s,
        split=row["split"],
        kit=kit,
        kit_name=row["kit_name"],
        wav=wav,
        midi=midi,
    )


def _check_agreement(sequences: list[Sequence], members: dict[str, Member], archive: str) -> None:
    twice = [name for name, count in Counter(sequence.id for sequence in sequences).items() if count > 1]
    if twice:
        raise ArchiveError(f"{archive} lists a sequence twice", expected="each once", got=", ".join(twice[:5]))
    splits: dict[str, str] = {}
    for sequence in sequences:
        if splits.setdefault(sequence.performance, sequence.split) != sequence.split:
            got = f"{sequence.performance} in {splits[sequence.performance]} and {sequence.split}"
            raise ArchiveError(f"{archive} has a performance in two splits", expected="one split", got=got)
    listed = {sequence.wav.name for sequence in sequences}
    unlisted = [name for name in members if name.endswith(".wav") and name not in listed]
    if unlisted:
        got = f"{len(unlisted)} that are not, such as {unlisted[0]}"
        raise ArchiveError(f"{archive} has recordings without annotation", expected="every WAV listed", got=got)
