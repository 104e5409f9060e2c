"""Sets of recordings with annotations: an archive of E-GMD's layout, or a folder.

In a folder every WAV and FLAC file is a recording, and its annotation is a file of the same name (of `X_Drum.wav`,
`X_subclass.txt`) in the same folder, or else anywhere in the set: MDB Drums and IDMT-SMT-Drums keep sound and
annotations apart. Small and capital letters are the same. Recordings without an annotation are counted and passed over:
mixes and single tracks lie beside what is annotated. So are annotations without a recording: a name that was written in
another way would otherwise be missed by nobody. Recordings whose annotations are of different formats are sets of their
own, because what can be scored differs.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from backbeat.audio.read import read_info
from backbeat.datasets.egmdtable import SPLITS
from backbeat.datasets.packed.archives import read_member
from backbeat.drums.classes import DrumTable
from backbeat.drums.egmd import Sequence, read_index
from backbeat.drums.midi import read_onsets
from backbeat.errors import BackbeatError
from backbeat.transcription.annotation_formats import FORMATS, read_annotation
from backbeat.transcription.annotations import Annotation, AnnotationError, annotation_of_onsets

SOUNDS = frozenset({".wav", ".flac"})

# What the names of MDB Drums' recordings of the drums alone end in, in small letters.
MDB_DRUMS = "_drum"

# What has two annotations of a recording that say the same.
_MDB = "MDB Drums"
_SEVERAL = {_MDB, "IDMT-SMT-Drums"}

# An annotation may end after the sound by what its encoder cut off, not by more: then it is that of another recording.
PAST_END_S = 0.5


@dataclass(frozen=True)
class Recording:
    """One recording with its annotation.

    Attributes:
        name: its path in the set, without suffix.
        kit: number and name of the kit, in an archive.
        duration_s: length.
        load: returns the content of the sound file, or where it is, and the annotation.
    """

    name: str
    kit: tuple[int, str] | None
    duration_s: float
    load: Callable[[], tuple[bytes | Path, Annotation]]


@dataclass(frozen=True)
class AnnotatedSet:
    """Recordings that are scored together.

    Attributes:
        name: the file or folder.
        content: what it is, in some words.
        labels: the instruments that each label of the annotations can be.
        has_velocity: whether all annotations have velocities.
        recordings: in the order of their place or name.
        passed_over: how many recordings there are in the whole folder without an annotation.
        unheard: the annotations in the whole folder without a recording, by their paths in it.
        datasets: what the record of the archive is called, by the archive's name or its place in `data/raw`.
        trained_kits: the kits that have a training split in the archive.
        archive_bytes: the size of the archive; None of a folder.
    """

    name: str
    content: str
    labels: frozenset[frozenset[str]]
    has_velocity: bool
    recordings: tuple[Recording, ...]
    passed_over: int = 0
    unheard: tuple[str, ...] = ()
    datasets: frozenset[str] = frozenset()
    trained_kits: frozenset[int] = frozenset()
    archive_bytes: int | None = None


def read_set(path: Path, split: str, drums: DrumTable) -> list[AnnotatedSet]:
    """Return the sets that an archive or a folder holds; every annotation of a folder has then been read.

    Args:
        path: a zip archive of E-GMD's layout, or a folder.
        split: which split of an archive.
        drums: which notes are drums, and what they are called.

    Raises:
        AnnotationError: if there is nothing to score, or an annotation is faulty or not that of its recording.
        ArchiveError: if the archive or its table is damaged.
        AudioError: if a recording of a folder is no sound.
        MidiError: if a MIDI file of a folder cannot be read.
    """
    if path.is_dir():
        return _folder(path, drums)
    expected = "an archive of E-GMD's layout, or a folder of recordings with annotations"
    if not path.is_file():
        raise AnnotationError(f"{path} is not there", expected=expected, got="nothing")
    if path.suffix.lower() == ".zip" or zipfile.is_zipfile(path):
        return [_archive(path, split, drums)]
    raise AnnotationError(
        f"{path.name} is a file of its own",
        expected=expected,
        got="a recording" if path.suffix.lower() in SOUNDS else f"a file that ends in {path.suffix or 'nothing'}",
        next_step="put the recording and its annotation (docs/reference/annotations.md) into a folder, and name that; "
        "without an annotation it can be transcribed: backbeat transcribe RECORDING",
    )


def _archive(archive: Path, split: str, drums: DrumTable) -> AnnotatedSet:
    sequences = read_index(archive)
    chosen = [sequence for sequence in sequences if sequence.split == split]
    if not chosen:
        found = {sequence.split for sequence in sequences}
        got = ", ".join(name for name in SPLITS if name in found)
        raise AnnotationError(f"{archive.name} has no split {split}", expected="recordings to score", got=got)
    recordings = [
        Recording(
            sequence.id,
            (sequence.kit, sequence.kit_name),
            sequence.duration_s,
            partial(_unpack, archive, sequence, drums),
        )
        for sequence in chosen
    ]
    folder = archive.absolute().parent
    return AnnotatedSet(
        name=archive.name,
        content=f"{split} split, E-GMD's layout",
        labels=frozenset(frozenset({instrument}) for instrument in drums.pitches.values()),
        has_velocity=True,
        recordings=tuple(recordings),
        datasets=frozenset({archive.stem.replace("-", "_"), *([folder.name] if folder.parent.name == "raw" else [])}),
        trained_kits=frozenset(sequence.kit for sequence in sequences if sequence.split == "train"),
        archive_bytes=archive.stat().st_size,
    )


def _unpack(archive: Path, sequence: Sequence, drums: DrumTable) -> tuple[bytes, Annotation]:
    onsets = read_onsets(read_member(archive, sequence.midi), sequence.midi.name)
    return read_member(archive, sequence.wav), annotation_of_onsets(onsets, drums)


def _folder(folder: Path, drums: DrumTable) -> list[AnnotatedSet]:
    files = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    by_name: dict[str, list[Path]] = {}
    for path in files:
        by_name.setdefault(path.name.casefold(), []).append(path)
    sounds = [path for path in files if path.suffix.lower() in SOUNDS]
    found: dict[str, list[tuple[Recording, Annotation]]] = {}
    passed_over, names, heard = 0, set[str](), set[Path]()
    for sound in sounds:
        candidates = _annotations_of(sound, by_name)
        if not candidates:
            passed_over += 1
            continue
        heard.update(candidates)
        name = sound.relative_to(folder).with_suffix("").as_posix()
        if name.casefold() in names:
            raise AnnotationError(f"{name} is there twice", expected="one sound file of a name", got=sound.name)
        names.add(name.casefold())
        format_name, duration_s, annotation = _read_pair(sound, candidates[0], drums)
        recording = Recording(name, None, duration_s, partial(_beside, sound, annotation))
        found.setdefault(format_name, []).append((recording, annotation))
    unheard = tuple(
        path.relative_to(folder).as_posix() for path in files if path not in heard and _is_annotation(path, drums)
    )
    if not found:
        got = f"sound files without annotations: {len(sounds)}; annotations without a sound file: {len(unheard)}"
        beside = ", ".join("NAME" + kind.suffix for kind in FORMATS if kind.suffix.startswith("."))
        expected = f"NAME.wav or NAME.flac with {beside}; or NAME_Drum.wav as MDB Drums has it"
        step = "annotations are described in docs/reference/annotations.md"
        raise AnnotationError(f"{folder.name} has nothing to score", expected=expected, got=got, next_step=step)
    return [
        AnnotatedSet(
            name=folder.resolve().name,
            content=f"annotations of {format_name}",
            labels=frozenset(label for _, annotation in pairs for label in annotation.labels),
            has_velocity=all(annotation.velocity is not None for _, annotation in pairs),
            recordings=tuple(recording for recording, _ in pairs),
            passed_over=passed_over,
            unheard=unheard,
        )
        for format_name, pairs in sorted(found.items())
    ]


def _read_pair(sound: Path, notes: Path, drums: DrumTable) -> tuple[str, float, Annotation]:
    """Return the format of an annotation, the length of its recording in seconds, and what it says."""
    format_name, annotation = read_annotation(notes, drums)
    duration_s = read_info(sound, sound.name).duration_s
    if not len(annotation.onset_s):
        raise AnnotationError(f"{notes.name} has no hits", expected="notes of drums", got="none of configs/drums.yaml")
    if annotation.onset_s[-1] > duration_s + PAST_END_S:
        got = f"a hit at {annotation.onset_s[-1]:.2f} s"
        raise AnnotationError(f"{notes.name} is not that of {sound.name}", expected=f"{duration_s:.2f} s", got=got)
    return format_name, duration_s, annotation


def _is_annotation(path: Path, drums: DrumTable) -> bool:
    """Return whether a file reads as an annotation: a text or a table that lies about may be anything."""
    try:
        read_annotation(path, drums)
    except BackbeatError:
        return False
    return True


def _beside(sound: Path, annotation: Annotation) -> tuple[Path, Annotation]:
    return sound, annotation


def _annotations_of(sound: Path, by_name: dict[str, list[Path]]) -> list[Path]:
    """Return the annotations of a recording that say the same, the finest first; mostly one or none.

    Raises:
        AnnotationError: if it cannot be told which it is.
    """
    candidates = [(kind, path) for kind, name in _names_of(sound) if (path := _nearest(name, sound, by_name))]
    # A transcription that was written beside an annotation would otherwise be scored against itself.
    if len(candidates) > 1 and (len({kind for kind, _ in candidates}) > 1 or candidates[0][0] not in _SEVERAL):
        got = ", ".join(path.name for _, path in candidates)
        raise AnnotationError(f"{sound.name} has several annotations", expected="one", got=got)
    return [path for _, path in candidates]


def _names_of(sound: Path) -> Iterator[tuple[str, str]]:
    """Yield the names that an annotation of a recording may have, each with what its format belongs to."""
    for kind in FORMATS:
        if kind.suffix.startswith("."):
            yield kind.name, sound.stem + kind.suffix
        elif sound.stem.lower().endswith(MDB_DRUMS):
            yield _MDB, sound.stem[: -len(MDB_DRUMS)] + kind.suffix


def _nearest(name: str, sound: Path, by_name: dict[str, list[Path]]) -> Path | None:
    """Return the file of this name in the folder of a recording, or the only one that is beside no other recording."""
    found = by_name.get(name.casefold(), [])
    beside = [path for path in found if path.parent == sound.parent]
    sounds = [path for suffix in SOUNDS for path in by_name.get(f"{sound.stem}{suffix}".casefold(), [])]
    taken = {path.parent for path in sounds}
    candidates = beside or [path for path in found if path.parent not in taken]
    if len(candidates) > 1:
        got = ", ".join(f"{path.parent.name}/{path.name}" for path in candidates)
        raise AnnotationError(f"{name} is there several times", expected=f"one for {sound.name}", got=got)
    return candidates[0] if candidates else None
