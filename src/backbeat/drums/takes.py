"""A folder of takes: recordings of drums, each with its notes beside it, read and checked.

A take is a WAV or FLAC file of any rate, depth and channel count, and a file of the same name with its notes:

- a MIDI file (`.mid`, `.midi`), or
- a CSV table with the columns `onset_s`, `velocity` (1 to 127) and either `pitch` (a MIDI note) or `class`: an
  instrument or a class of `configs/drums.yaml`. A class is written as the note of the first class map that has it, an
  instrument that is no class as its lowest note. Times are rounded to ticks of 1/960 s, at most 0.53 ms.

What else is known of a take is in the names of its folders, or in a table `takes.csv` at the top of the folder:

- a folder `train`, `validation` or `test` is the split, a folder `kit-3` the number of the kit, else it is 1; capitals
  make no difference, and a folder that looks like a split but is none, `val` say, is a fault;
- `takes.csv` has a column `file` (with or without suffix) and any of `performance`, `drummer`, `style`, `tempo_bpm`,
  `kit` and `split`. Cells may be empty, takes may be left out. What folders and table say must agree.

Takes of one performance through several kits have one name in the folders of these kits, or one `performance`.

Nothing is guessed: every fault that can be told is in one error. What rests on something faulty is not told before that
is corrected: the split of a take whose row is wrong, or splits that are drawn among takes that cannot all be read.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from backbeat.audio.read import AudioInfo, mono_blocks, read_info
from backbeat.config import DRUMS_FILE
from backbeat.datasets.egmdtable import SPLITS
from backbeat.drums.classes import DrumTable
from backbeat.drums.midi import Onsets, read_onsets
from backbeat.drums.taketables import HIGHEST_KIT, TABLE, TakeRow, TakesError, in_a_line, key, midi_of_table, read_table
from backbeat.errors import BackbeatError
from backbeat.executor import default_workers, run_threads
from backbeat.progress import progress

SOUNDS = frozenset({".wav", ".flac"})
NOTES = frozenset({".mid", ".midi", ".csv"})

# Their encoders put silence in front, or lose what an onset is: times would not be those of the recording.
OTHER_SOUNDS = frozenset({".mp3", ".ogg", ".opus", ".m4a", ".aac", ".wma", ".aif", ".aiff"})

# General MIDI's tempo where none is known; the pipeline stores it and uses it for nothing.
DEFAULT_TEMPO_BPM = 120.0

# How many faults a message lists.
MOST_FAULTS = 50

# Folders that somebody may take for a split; were they passed over, their takes would be drawn at random.
NEARLY_SPLITS = {
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validate": "validation",
    "dev": "validation",
    "eval": "validation or test",
    "evaluation": "validation or test",
    "tests": "test",
    "testing": "test",
}

_KIT = re.compile(r"kit[-_ ]?(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Take:
    """One recording with its notes, checked.

    Attributes:
        name: its path in the folder, without suffix.
        sound: the recording.
        info: what the recording says of itself.
        midi: the notes, as the content of a MIDI file.
        onsets: what is read from `midi`.
        performance: what was played; the same for every kit.
        split: None if neither folders nor table say it.
    """

    name: str
    sound: Path
    info: AudioInfo
    midi: bytes
    onsets: Onsets
    performance: str
    drummer: str
    style: str
    tempo_bpm: float
    kit: int
    split: str | None


@dataclass(frozen=True)
class _Pair:
    """The two files of a take, and what `takes.csv` says of it; None if that is faulty."""

    name: str
    sound: Path
    notes: Path
    row: TakeRow | None


def read_takes(folder: Path, drums: DrumTable) -> tuple[list[Take], list[str]]:
    """Return the takes of a folder, sorted by name, and the faults of all of them.

    A take is left out if what is known of it is faulty.

    Args:
        folder: searched to its bottom; what begins with a dot is passed over, a link to a folder is a fault.
        drums: which notes are drums, and what they are called.

    Raises:
        TakesError: if there are no takes.
    """
    if not folder.is_dir():
        raise TakesError(f"{folder} is not there", expected="a folder of takes", got="no such folder")
    paths = [
        path
        for path in sorted(folder.rglob("*"))
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    files = [path for path in paths if path.is_file()]
    rows: dict[str, TakeRow | None] = {}
    try:
        rows, faults = read_table(folder, SOUNDS | NOTES)
        table_is_whole = True
    except TakesError as error:
        faults, table_is_whole = [in_a_line(error)], False
    faults += [
        f"{path.relative_to(folder)}: a link to a folder, which is not followed, or to nothing; put the files here"
        for path in paths
        if path.is_symlink() and not path.is_file()
    ]
    pairs: list[_Pair] = []
    for name, found in _by_name(folder, files).items():
        sounds, notes = ([path for path in found if path.suffix.lower() in kind] for kind in (SOUNDS, NOTES))
        row = rows.pop(key(name), TakeRow(file=name) if table_is_whole else None)
        if any(unicodedata.category(letter) in {"Cc", "Cs"} for letter in name):
            faults.append(f"{name!a}: a name with control characters, or not in UTF-8")
        elif len(sounds) == len(notes) == 1:
            pairs.append(_Pair(name, sounds[0], notes[0], row))
        else:
            faults.append(f"{name}: {_not_a_pair(sounds, notes)}")
    faults += [f"{path.relative_to(folder)}: neither WAV nor FLAC" for path in files if _is_other_sound(path)]
    faults += [f"{TABLE}: {row.file} is not there" for row in rows.values() if row is not None]
    takes, of_takes = _read_all(pairs, drums)
    if not (takes or faults or of_takes):
        got = f"{len(files):,} files, none of them a recording"
        raise TakesError(f"{folder} has no takes", expected="WAV or FLAC files with MIDI or CSV beside them", got=got)
    return takes, faults + of_takes


def refuse(folder: Path, faults: list[str]) -> None:
    """Raise a TakesError that lists these faults, if there are any."""
    if faults:
        listed = sorted(faults)[:MOST_FAULTS]
        more = [f"and {len(faults) - MOST_FAULTS:,} more"] if len(faults) > MOST_FAULTS else []
        raise TakesError(
            f"{folder} cannot be packed",
            expected="takes without a fault",
            got="\n".join([f"{len(faults):,} of them:", *(f"    {fault}" for fault in [*listed, *more])]),
            next_step="correct or remove these files; nothing has been written",
        )


def _read_all(pairs: list[_Pair], drums: DrumTable) -> tuple[list[Take], list[str]]:
    takes: list[Take] = []
    faults: list[str] = []
    total_bytes = sum(pair.sound.stat().st_size for pair in pairs)
    with progress("reading takes", total_bytes, unit="bytes") as advance:
        for pair, result in run_threads(lambda pair: _read(pair, drums), pairs, threads=default_workers()):
            advance(pair.sound.stat().st_size)
            if isinstance(result, BackbeatError):
                faults.append(f"{pair.name}: {in_a_line(result)}")
            else:
                take, of_take = result
                takes += [take] if take else []
                faults += [f"{pair.name}: {fault}" for fault in of_take]
    return sorted(takes, key=lambda take: take.name), faults


def _read(pair: _Pair, drums: DrumTable) -> tuple[Take | None, list[str]]:
    """Return a take and its faults; None if it cannot be read, or its folders or its row are faulty."""
    kit, split, performance, faults = _said_by_folders(pair.name)
    row = pair.row
    for noun, here, there in (("kit", kit, row and row.kit), ("split", split, row and row.split)):
        if here is not None and there is not None and here != there:
            faults.append(f"{noun} {here} by its folder, {there} in {TABLE}")
    known = row is not None and not faults
    info = midi = onsets = None
    try:
        info = _sound(pair.sound)
    except BackbeatError as error:
        faults.append(in_a_line(error))
    try:
        midi, faulty_lines = _notes(pair.notes, drums)
        faults += faulty_lines
        onsets = None if faulty_lines else read_onsets(midi, pair.notes.name)
    except BackbeatError as error:
        faults.append(in_a_line(error))
    if onsets is not None:
        faults += _faults_of_notes(onsets, info, drums)
    if row is None or info is None or midi is None or onsets is None or not known:
        return None, faults
    take = Take(
        name=pair.name,
        sound=pair.sound,
        info=info,
        midi=midi,
        onsets=onsets,
        performance=unicodedata.normalize("NFC", row.performance or performance),
        drummer=row.drummer or "drummer1",
        style=row.style or "unknown",
        tempo_bpm=row.tempo_bpm or DEFAULT_TEMPO_BPM,
        kit=next(number for number in (row.kit, kit, 1) if number is not None),
        split=row.split or split,
    )
    return take, faults


def _sound(path: Path) -> AudioInfo:
    info = read_info(path, path.name)
    # Whatever cannot be decoded, or is not a number, is noticed now and not after hours of preprocessing.
    for _ in mono_blocks(path, path.name, info.sample_rate_hz):
        pass
    return info


def _notes(path: Path, drums: DrumTable) -> tuple[bytes, list[str]]:
    """Return notes as the content of a MIDI file, and what is wrong with the lines of a table."""
    content = path.read_bytes()
    return midi_of_table(content, path.name, drums) if path.suffix.lower() == ".csv" else (content, [])


def _faults_of_notes(onsets: Onsets, info: AudioInfo | None, drums: DrumTable) -> Iterator[str]:
    if info is not None and onsets.onset_s[-1] > info.duration_s:
        count = int((onsets.onset_s > info.duration_s).sum())
        yield f"{count} notes after the end of the sound, {info.duration_s:.2f} s; {onsets.onset_s[-1]:.2f} s"
    for pitch, count in sorted(Counter(onsets.pitch.tolist()).items()):
        if pitch not in drums.pitches:
            yield f"pitch {pitch}, {count} notes, has no row in {DRUMS_FILE}"


def _said_by_folders(name: str) -> tuple[int | None, str | None, str, list[str]]:
    """Return the kit and the split that folders say, the name without the kit, and what is wrong with the folders."""
    *folders, last = PurePosixPath(name).parts
    kits: list[int] = []
    splits: list[str] = []
    others: list[str] = []
    faults: list[str] = []
    for folder in folders:
        plain = folder.casefold()
        if found := _KIT.fullmatch(folder):
            kits.append(int(found[1]))
            continue
        if plain in SPLITS:
            splits.append(plain)
        elif plain in NEARLY_SPLITS:
            faults.append(f"a folder {folder}: call it {NEARLY_SPLITS[plain]}, or something else if it is no split")
        others.append(plain if plain in SPLITS else folder)
    faults += [f"kit {kit} by its folder: expected 1 to {HIGHEST_KIT}" for kit in kits if not 1 <= kit <= HIGHEST_KIT]
    faults += [f"in several folders of kits: {', '.join(map(str, kits))}"] if len(kits) > 1 else []
    faults += [f"in several folders of splits: {', '.join(splits)}"] if len(splits) > 1 else []
    return (kits[0] if kits else None), (splits[0] if splits else None), "/".join([*others, last]), faults


def _by_name(folder: Path, files: list[Path]) -> dict[str, list[Path]]:
    """Return recordings and notes by their path without suffix; names that some disks take for one are one."""
    found: dict[str, list[Path]] = {}
    shown: dict[str, str] = {}
    for path in files:
        if path.suffix.lower() in SOUNDS | NOTES and path != folder / TABLE:
            name = path.relative_to(folder).with_suffix("").as_posix()
            found.setdefault(shown.setdefault(key(name), name), []).append(path)
    return found


def _not_a_pair(sounds: list[Path], notes: list[Path]) -> str:
    if not sounds:
        return f"notes ({notes[0].name}) without a recording"
    if not notes:
        return f"a recording ({sounds[0].name}) without notes"
    return f"one name for several files: {', '.join(path.name for path in [*sounds, *notes])}"


def _is_other_sound(path: Path) -> bool:
    return path.suffix.lower() in OTHER_SOUNDS
