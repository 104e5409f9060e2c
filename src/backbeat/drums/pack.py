"""Packing a folder of takes into one archive of E-GMD's layout, with its record: `backbeat datasets pack`.

    <name>/drummer1/<performance>_<kit>.midi     the notes
    <name>/drummer1/<performance>_<kit>.wav      the recording: a WAV as it is, a FLAC decoded to the same samples
    <name>/<name>.csv                            E-GMD's table; beat type and meter are not known and left empty

Members are stored, not deflated, in the order of performances with their kits side by side. Nothing depends on the
clock or the machine: the same takes give the same bytes.

Splits are what folders or `takes.csv` say, for all takes or for none. Where nothing is said, performances are ordered
by the SHA-256 of their names; the first tenth is test, the next one validation, at least one performance each, the rest
train. All kits of a performance are in one split. Takes in two splits that have the same hits are refused: they are one
performance, and a model would be tested on what it has learned.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import soundfile

from backbeat.datasets.egmdtable import COLUMNS, SPLITS, write_table
from backbeat.datasets.listing import Listed, file_url
from backbeat.datasets.new import Description, draft, new
from backbeat.datasets.registry import RECORDS_FOLDER
from backbeat.drums.classes import load_drums
from backbeat.drums.packrecord import known_record, updated_record
from backbeat.drums.takes import Take, read_takes, refuse
from backbeat.drums.taketables import TABLE, TakesError
from backbeat.progress import progress
from backbeat.storage.staging import new_file, require_space

# Where archives of one's own are, for `dvc add`; `data/raw` is for what is linked there by downloads.
OWN_FOLDER = "data/own"

LAYOUT = "egmd"

# The part of the performances that is the test split, and the part that is the validation split.
TEST_SHARE = VALIDATION_SHARE = 0.1

_MADE_AT = (1980, 1, 1, 0, 0, 0)  # the first moment that a zip can say

# A FLAC of 8 bits is signed, a WAV is not; the others are called the same.
_WAV_SUBTYPES = {"PCM_S8": "PCM_U8"}


@dataclass(frozen=True)
class PackedSplit:
    """What one split holds."""

    split: str
    performances: int
    takes: int
    kits: tuple[int, ...]
    duration_s: float
    onsets: int


@dataclass(frozen=True)
class Packed:
    """What was packed, or would be.

    Args:
        archive: the zip.
        record: the record of the dataset.
        splits: what is in it, by split.
    """

    archive: Path
    record: Path
    splits: tuple[PackedSplit, ...]


def pack(
    project: Path,
    name: str,
    folder: Path,
    description: Description,
    *,
    out: Path | None = None,
    dry_run: bool = False,
) -> Packed:
    """Write an archive of the takes in a folder, and a record of it; or bring both up to date.

    A record that is there already, of this very archive, gets the new size and hash and keeps everything else.

    Args:
        project: the root of the repository.
        name: the name of the dataset.
        folder: the takes; `backbeat.drums.takes` says what may be in it.
        description: what only a person knows.
        out: the archive; by default `data/own/<name>.zip`.
        dry_run: whether to check everything and write nothing.

    Raises:
        ConfigError: if the name or the file is taken, what is given makes no valid record, or the record cannot be
            brought up to date.
        TakesError: with every fault of the takes.
        StorageError: if the disk is or would be full.
    """
    archive = (out or project / OWN_FOLDER / f"{name}.zip").absolute()
    path = project / RECORDS_FOLDER / f"{name}.yaml"
    address = file_url(project, archive)
    draft(name, description, [Listed(archive.name, address)])
    known = known_record(project, path, archive, address)
    takes, faults = read_takes(folder, load_drums(project))
    split_of = _splits(folder, takes, faults)
    placed = [replace(take, split=split_of[take.name]) for take in takes]
    packed = Packed(archive, path, tuple(_summary(split, placed) for split in SPLITS))
    if dry_run:
        return packed
    _require_room(archive, placed)
    if known is None:
        with new_file(archive) as part:
            _write_archive(part, archive.name, name, placed)
        new(project, name, str(archive), description)
        return packed
    # Both are made before either takes its place. The archive does so first: after a kill between the two, the next
    # run makes the same archive and brings the record up to date.
    with new_file(path) as record, new_file(archive) as part:
        _write_archive(part, archive.name, name, placed)
        record.write_bytes(updated_record(path, known, part))
    return packed


def _splits(folder: Path, takes: Sequence[Take], of_takes: Sequence[str]) -> dict[str, str]:
    """Return the split of each take by its name; refuse what would be in two of them, and splits without a take.

    Args:
        folder: the folder of the takes, for messages.
        takes: those that could be read.
        of_takes: the faults that were found already, which are refused along with those of splits.
    """
    by_performance: dict[str, list[Take]] = defaultdict(list)
    for take in takes:
        by_performance[take.performance].append(take)
    faults = [*of_takes] + [
        f"{take.name}: kit {take.kit} of the performance {take.performance} is there twice"
        for same in by_performance.values()
        for take in same
        if take is not next(other for other in same if other.kit == take.kit)
    ]
    said = [take for take in takes if take.split]
    if said:
        splits = {take.name: take.split or "" for take in takes}
        faults += [f"{take.name}: in no split, though others are" for take in takes if take.split is None]
    else:
        splits = {take.name: split for take, split in _drawn(by_performance)}
    # What is drawn depends on every take.
    faults += list(_heard_twice(takes, splits)) if said or not of_takes else []
    missing = [split for split in SPLITS if split not in splits.values()]
    if missing and not faults:
        takes_needed = f"at least {len(SPLITS)} performances" if not said else f"takes in {', '.join(SPLITS)}"
        got = f"{len(by_performance)} performances; none in {', '.join(missing)}"
        raise TakesError(f"{folder} has too few takes for three splits", expected=takes_needed, got=got)
    refuse(folder, faults)
    return splits


def _drawn(by_performance: dict[str, list[Take]]) -> Iterator[tuple[Take, str]]:
    ordered = sorted(by_performance, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    test = max(1, round(TEST_SHARE * len(ordered)))
    validation = max(1, round(VALIDATION_SHARE * len(ordered)))
    for position, name in enumerate(ordered):
        split = "test" if position < test else "validation" if position < test + validation else "train"
        for take in by_performance[name]:
            yield take, split


def _heard_twice(takes: Sequence[Take], splits: dict[str, str]) -> Iterator[str]:
    """Yield what is wrong with takes of one performance, by name or by their hits, that are in two splits."""
    first: dict[object, Take] = {}
    for take in takes:
        # Kits have other pitches for the same hits, and those of one moment are in the order of their pitches.
        hits = tuple(sorted(zip(take.onsets.onset_s.tolist(), take.onsets.velocity.tolist(), strict=True)))
        for key, noun in ((take.performance, "the performance"), (hits, "the same hits")):
            other = first.setdefault(key, take)
            if splits[other.name] != splits[take.name]:
                yield (
                    f"{take.name}: in {splits[take.name] or 'no split'}, and {other.name}, {noun} of it, in "
                    f"{splits[other.name] or 'none'}; give both one split or one performance in {TABLE}"
                )
                break


def _require_room(archive: Path, takes: Sequence[Take]) -> None:
    require_space(archive.parent, sum(_wav_bytes(take) for take in takes), archive.name)


def _write_archive(part: Path, shown: str, name: str, takes: Sequence[Take]) -> None:
    size_bytes = sum(_wav_bytes(take) for take in takes)
    drummers = {drummer: number for number, drummer in enumerate(sorted({take.drummer for take in takes}), start=1)}
    ordered = sorted(takes, key=lambda take: (drummers[take.drummer], take.performance, take.kit))
    rows = []
    with (
        zipfile.ZipFile(part, "w") as target,
        progress(f"packing {shown}", size_bytes, unit="bytes") as advance,
    ):
        for take in ordered:
            session = f"drummer{drummers[take.drummer]}"
            stem = f"{session}/{take.performance}_{take.kit}"
            target.writestr(member(f"{name}/{stem}.midi"), take.midi)
            _write_wav(target, f"{name}/{stem}.wav", take)
            rows.append(_row(take, session, stem))
            advance(_wav_bytes(take))
        target.writestr(member(f"{name}/{name}.csv"), write_table(rows, COLUMNS))


def _write_wav(target: zipfile.ZipFile, name: str, take: Take) -> None:
    if take.sound.suffix.lower() == ".wav":
        header = member(name)
        # zipfile then knows beforehand whether the member needs the fields for more than 4 GB.
        header.file_size = take.sound.stat().st_size
        with take.sound.open("rb") as source, target.open(header, "w") as stream:
            shutil.copyfileobj(source, stream, 2**20)
        return
    samples, rate_hz = soundfile.read(take.sound, dtype="int32", always_2d=True)
    decoded = io.BytesIO()
    subtype = _WAV_SUBTYPES.get(take.info.subtype, take.info.subtype)
    soundfile.write(decoded, samples, rate_hz, subtype=subtype, format="WAV")
    target.writestr(member(name), decoded.getvalue())


def member(name: str) -> zipfile.ZipInfo:
    """Return the header of a member: the same wherever and whenever it is written."""
    header = zipfile.ZipInfo(name, date_time=_MADE_AT)
    header.create_system, header.external_attr = 3, 0o100644 << 16
    return header


def _wav_bytes(take: Take) -> int:
    if take.sound.suffix.lower() == ".wav":
        return take.sound.stat().st_size
    # What decoded samples take, at most: 24 bits are three bytes, and there is a header.
    return take.info.samples * take.info.channels * 3 + 100


def _row(take: Take, session: str, stem: str) -> dict[str, str]:
    return {
        "drummer": take.drummer,
        "session": session,
        "id": f"{session}/{take.performance}",
        "style": take.style,
        "bpm": f"{take.tempo_bpm:g}",
        "beat_type": "",
        "time_signature": "",
        "duration": repr(take.info.duration_s),
        "split": take.split or "",
        "midi_filename": f"{stem}.midi",
        "audio_filename": f"{stem}.wav",
        "kit_name": f"kit {take.kit}",
    }


def _summary(split: str, takes: Sequence[Take]) -> PackedSplit:
    chosen = [take for take in takes if take.split == split]
    return PackedSplit(
        split=split,
        performances=len({take.performance for take in chosen}),
        takes=len(chosen),
        kits=tuple(sorted({take.kit for take in chosen})),
        duration_s=sum(take.info.duration_s for take in chosen),
        onsets=sum(len(take.onsets) for take in chosen),
    )
