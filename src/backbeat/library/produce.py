"""The files of production: made once, linked under names that a sampler takes, with a manifest back to the originals.

A file is an entry of the staging store under the digest of its sound and of what the device wants. It is linked at
`data/library/production/<class>/<bank>/<name>.wav`; loops have their tempo and key in front of their name. Where
several would have one name, the digits of its sound are behind that of each, so that no order of samples decides whose
it is: adding one never gives the name of a sound to another.
"""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from backbeat.errors import BackbeatError
from backbeat.executor import run_tasks
from backbeat.library.batches import Batch, batches
from backbeat.library.memo import open_memo
from backbeat.library.production import render
from backbeat.library.settings import LIBRARY_FOLDER, CurateSettings, Device, load_settings
from backbeat.library.sources import read_samples
from backbeat.library.vault import sha256
from backbeat.progress import progress
from backbeat.provenance import digest_of
from backbeat.storage.staging import link_folder, new_file, open_staging

PRODUCTION_KIND = "production"
PRODUCTION_FOLDER = f"{LIBRARY_FOLDER}/production"
MANIFEST = "manifest.csv"
SUFFIX = ".wav"

# Raised when `render` makes other bytes of the same sound.
FINGERPRINT = "1"

# What FAT, shells and samplers take.
_UNSAFE = re.compile(r"[^A-Za-z0-9 #()+._-]+")

# Digits of the hash of a sound that tell files of one name apart.
_SOUND_DIGITS = 6

_COLUMNS = (
    *("production_path", "sample", "source", "license", "url", "file_sha256", "audio_sha256"),
    *("gain_db", "score", "class", "tempo_bpm", "key", "pitch_hz"),
)

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Chosen:
    """A sample for production: its rows of the tables scan and descriptors, its class and score."""

    row: Row
    sound: Row
    sound_class: str
    score: float

    @property
    def name(self) -> str:
        """The name of the sample."""
        return str(self.row["sample"])


@dataclass(frozen=True)
class Produced:
    """What is in production.

    Args:
        paths: where each sample is, relative to the folder of production.
        faults: samples that could not be made, and why.
        made: files that this run has made.
        size_bytes: of all files.
    """

    paths: dict[str, str]
    faults: dict[str, str]
    made: int
    size_bytes: int


@dataclass(frozen=True)
class Made:
    """A file that was made, and by how much it was turned down; or why it could not be."""

    gain_db: float = 0.0
    fault: str | None = None


def produce(
    project: Path, chosen: Sequence[Chosen], settings: CurateSettings, *, workers: int | None = None
) -> Produced:
    """Make `data/library/production` hold exactly these samples.

    Raises:
        StorageError: if the disk is full or read-only.
    """
    device = settings.devices[settings.device]
    results, made = _make(project, chosen, device, workers)
    there = [one for one in chosen if results[one.name].fault is None]
    paths = production_paths(
        ((one.name, one.sound_class, _wanted(one), one.row["audio_sha256"]) for one in there), device
    )
    manifest = _manifest((one, paths[one.name], results[one.name].gain_db) for one in there)
    listing = open_staging(project).entry(PRODUCTION_KIND, sha256(manifest), ".csv")
    if not listing.is_file():
        with new_file(listing) as part:
            part.write_bytes(manifest)
    links = {paths[one.name]: _entry(project, one.row, device) for one in there}
    link_folder(project / PRODUCTION_FOLDER, {**links, MANIFEST: listing})
    faults = {name: result.fault for name, result in results.items() if result.fault is not None}
    return Produced(paths, faults, made, sum(path.stat().st_size for path in links.values()))


def _make(project: Path, chosen: Sequence[Chosen], device: Device, workers: int | None) -> tuple[dict[str, Made], int]:
    """Make the files that are not there yet; return what became of each sample, and how many were made."""
    keys = {one.name: _digest(one.row, device) for one in chosen}
    with open_memo(project) as memo:
        known = memo.known("curate", FINGERPRINT, keys.values())
        results = {
            one.name: Made(json.loads(known[keys[one.name]]))
            for one in chosen
            if keys[one.name] in known and _entry(project, one.row, device).is_file()
        }
        todo = [one.row for one in chosen if one.name not in results]
        with progress("production", len(todo)) as advance:
            for batch, made in run_tasks(make_files, list(batches(project, todo)), workers=workers):
                for row, one in zip(batch.rows, made, strict=True):
                    results[row["sample"]] = one
                    if one.fault is None:
                        memo.remember("curate", FINGERPRINT, keys[row["sample"]], json.dumps(one.gain_db).encode())
                advance(len(batch.rows))
    return results, sum(results[row["sample"]].fault is None for row in todo)


def make_files(batch: Batch) -> list[Made]:
    """Make some files of production; a task of `run_tasks`."""
    settings = load_settings(batch.project).curate
    device = settings.devices[settings.device]
    made: dict[str, Made] = {}
    for row, original in read_samples(batch.project, batch.rows):
        try:
            if isinstance(original, BackbeatError):
                raise original
            rendered = render(original, row["sample"], row["audio_sha256"], device)
        except BackbeatError as error:
            made[row["sample"]] = Made(fault=f"{error.what}: {error.got}" if error.got else error.what)
            continue
        with new_file(_entry(batch.project, row, device)) as part:
            part.write_bytes(rendered.wav)
        made[row["sample"]] = Made(rendered.gain_db)
    return [made[row["sample"]] for row in batch.rows]


def _digest(row: Row, device: Device) -> str:
    wants = device.model_dump(include={"sample_rate_hz", "longest_s", "fade_s", "ceiling_db"})
    return digest_of({"audio": row["audio_sha256"], "device": wants, "version": FINGERPRINT})


def _entry(project: Path, row: Row, device: Device) -> Path:
    return open_staging(project).entry(PRODUCTION_KIND, _digest(row, device), SUFFIX)


def _wanted(one: Chosen) -> str:
    """Return what a file is called where nothing stands against it."""
    tempo_bpm, key = one.sound.get("tempo_bpm"), one.sound.get("key")
    before = [f"{tempo_bpm:03.0f}bpm"] if tempo_bpm else []
    before += [key.replace(" major", "").replace(" minor", "m")] if key else []
    return " ".join([*before, PurePosixPath(one.row["path"]).stem])


def production_paths(samples: Iterable[tuple[str, str, str, str]], device: Device) -> dict[str, str]:
    """Return a path for each sample: ASCII, names short enough and different from all others in more than case.

    Args:
        samples: name of the sample, its class, what the file is to be called, and the hash of its sound, which is of
            no other.
        device: how many characters it shows, and how many files a folder of it takes.
    """
    listed = list(samples)
    names = _names([(wanted, sound) for _, _, wanted, sound in listed], device.name_characters)
    classes: dict[str, list[tuple[str, str]]] = {}
    for (sample, sound_class, _, _), name in zip(listed, names, strict=True):
        classes.setdefault(sound_class, []).append((name, sample))
    paths: dict[str, str] = {}
    for sound_class, members in classes.items():
        for number, (name, sample) in enumerate(sorted(members, key=lambda one: (one[0].casefold(), one[1]))):
            bank = [f"bank {number // device.files_per_folder + 1:02d}"] if device.files_per_folder else []
            paths[sample] = "/".join([_ascii(sound_class), *bank, name])
    return paths


def _names(wanted: Sequence[tuple[str, str]], characters: int) -> list[str]:
    """Return a name for each (what it is to be called, hash of its sound): with digits of that where others have it."""
    plain = [_short(name, SUFFIX, characters) for name, _ in wanted]
    times = Counter(name.casefold() for name in plain)
    names = plain
    # More digits only where two sounds have the same six, or a file is called as if it had some.
    for digits in range(_SOUND_DIGITS, characters - len(SUFFIX) - 1):
        names = [
            name if times[name.casefold()] == 1 else _short(one, f"-{sound[:digits]}{SUFFIX}", characters)
            for name, (one, sound) in zip(plain, wanted, strict=True)
        ]
        if len({name.casefold() for name in names}) == len(names):
            break
    return names


def _short(wanted: str, end: str, characters: int) -> str:
    return _ascii(wanted)[: characters - len(end)].rstrip(" .") + end


def _ascii(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text.replace("ß", "ss")).encode("ascii", "ignore").decode()
    return _UNSAFE.sub("_", plain).strip(" ._") or "sample"


def _manifest(made: Iterable[tuple[Chosen, str, float]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for one, path, gain_db in sorted(made, key=lambda entry: entry[1]):
        row, sound = one.row, one.sound
        origin = [row[name] for name in ("sample", "source", "license", "source_url", "file_sha256", "audio_sha256")]
        heard = [sound.get(name) for name in ("tempo_bpm", "key", "pitch_hz")]
        writer.writerow([path, *origin, f"{gain_db:.3f}", f"{one.score:.2f}", one.sound_class, *heard])
    return text.getvalue().encode()
