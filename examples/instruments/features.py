"""The stage `features`: an archive of sounds in, one file of spectrograms and labels for each split out.

This is what to change first for data of your own: `read_table` says which members there are and what they are called.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import params
from backbeat.audio.logmel import LogMel, Values
from backbeat.audio.read import mono_blocks
from backbeat.config import FeatureParams
from backbeat.datasets.intended_use import require_use
from backbeat.datasets.packed.archives import Member, list_members, read_member
from backbeat.datasets.registry import load_record
from backbeat.errors import ArchiveError
from backbeat.executor import run_tasks
from backbeat.progress import progress
from backbeat.provenance import digest_of
from backbeat.storage.staging import new_file

TABLE = "tones.csv"
COLUMNS = ("file", "family", "split")
SPLITS = ("train", "test")


@dataclass(frozen=True)
class Sound:
    """One sound: where it is, what it is, which split it is in, and what to make of it."""

    archive: Path
    member: Member
    family: str
    split: str
    features: FeatureParams


def read_table(archive: Path, features: FeatureParams) -> list[Sound]:
    """Return the sounds of an archive, in its order.

    Raises:
        ArchiveError: if it has no table, the table has other columns or names what is not there, or a family or one of
            the splits `train` and `test` has no sounds.
    """
    members = list_members(archive)
    if TABLE not in members:
        raise ArchiveError(f"{archive} has no table", expected=TABLE, got=f"{len(members)} other members")
    # Excel begins UTF-8 with a mark.
    table = csv.DictReader(io.StringIO(read_member(archive, members[TABLE]).decode("utf-8-sig")))
    columns = table.fieldnames or []
    if not set(COLUMNS) <= set(columns):
        raise ArchiveError(f"{TABLE} has other columns", expected=", ".join(COLUMNS), got=", ".join(columns))
    rows = list(table)
    absent = [row["file"] for row in rows if row["file"] not in members]
    if absent:
        raise ArchiveError(f"{TABLE} names files that are not in {archive}", expected="members", got=", ".join(absent))
    found = {(row["family"], row["split"]) for row in rows}
    without = [f"{family} in {split}" for family in sorted({row["family"] for row in rows}) for split in SPLITS
               if (family, split) not in found]  # fmt: skip
    if not rows or without:
        raise ArchiveError(f"{TABLE} has too few sounds", expected="sounds of each family in train and in test",
                           got=f"no {', no '.join(without)}" if rows else "no row")  # fmt: skip
    return [Sound(archive, members[row["file"]], row["family"], row["split"], features) for row in rows]


def spectrogram(sound: Sound) -> Values:
    """Return the 8-bit spectrogram of a sound, shape (frames, mels)."""
    content = read_member(sound.archive, sound.member)
    return LogMel(sound.features).all_frames(mono_blocks(content, sound.member.name, sound.features.sample_rate_hz))


def make(project: Path) -> None:
    """Write `data/features/<split>.npz`: `frames` (sounds, frames, mels), `labels` (sounds,), `families`, `digest`.

    Raises:
        BackbeatError: if parameters, record or archive are faulty, or the license forbids the intended use.
    """
    chosen = params.load()
    record = load_record(project, chosen.dataset)
    require_use(record, chosen.intended_use)
    sounds = read_table(project / "data" / "raw" / record.name / record.files[0].path, chosen.features)
    made: dict[str, Values] = {}
    with progress("spectrograms", len(sounds), unit="sounds") as advance:
        # A process takes longer to start than this takes in all; without `workers` there is one for each processor.
        for sound, frames in run_tasks(spectrogram, sounds, workers=1):
            made[sound.member.name] = frames
            advance(1)
    if len(lengths := sorted({len(frames) for frames in made.values()})) > 1:
        step = "cut or pad the sounds before they are packed, or train on windows"
        got = f"{lengths[0]} to {lengths[-1]} frames"
        raise ArchiveError("sounds are not equally long", expected="one length", got=got, next_step=step)
    families = sorted({sound.family for sound in sounds})
    digest = digest_of([chosen.features.model_dump(), sorted((s.member.name, s.member.crc32) for s in sounds)])
    for split in sorted({sound.split for sound in sounds}):
        inside = [sound for sound in sounds if sound.split == split]
        labels: NDArray[np.int64] = np.array([families.index(sound.family) for sound in inside])
        with new_file(params.FEATURES_FOLDER / f"{split}.npz") as part, part.open("wb") as stream:
            frames = np.stack([made[sound.member.name] for sound in inside])
            np.savez_compressed(stream, frames=frames, labels=labels, families=families, digest=digest)


if __name__ == "__main__":
    params.run(lambda: make(Path.cwd()))
