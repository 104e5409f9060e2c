"""A project with a small E-GMD: two kits or three, a few short performances, all made of bursts of noise.

An archive is a dict of names and contents until it is written, so that a test can change or damage it.
"""

from __future__ import annotations

import csv
import io
import shutil
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import mido
import numpy as np
import soundfile
import yaml

from backbeat.datasets.egmdtable import COLUMNS
from backbeat.datasets.packed.archives import Member, list_members
from backbeat.storage.staging import open_staging

REPOSITORY = Path(__file__).parents[1]
ROOT = "e-gmd-v1.0.0"
TABLE = f"{ROOT}/{ROOT}.csv"
KIT_NAMES = {1: "Acoustic Kit", 2: "Studio (Live Room)", 10: "909 Simple"}
TEMPO_BPM = 120
BEAT_S = 60 / TEMPO_BPM

Contents = dict[str, bytes]
Rows = list[dict[str, str]]


@dataclass(frozen=True)
class Performance:
    """Drums hit on every beat."""

    drummer: int
    number: int
    split: str
    seconds: float
    pitches: tuple[int, ...] = (36, 42, 38, 46)

    @property
    def id(self) -> str:
        return f"drummer{self.drummer}/session1/{self.number}"

    def stem(self, kit: int) -> str:
        """Return the name of the recording through a kit, without its suffix, as in the table."""
        return f"{self.id}_rock_{TEMPO_BPM}_beat_4-4_{kit}"


PERFORMANCES = (
    Performance(1, 1, "train", 2.3),
    Performance(1, 2, "train", 0.8),
    Performance(2, 1, "validation", 1.1),
    Performance(2, 2, "test", 0.9),
)

# The first recording, and a name for it: most tests that need one member use these.
FIRST = PERFORMANCES[0].stem(1)
FIRST_WAV = f"{ROOT}/{FIRST}.wav"
FIRST_MIDI = f"{ROOT}/{FIRST}.midi"


def contents_of(kits: Iterable[int] = (1, 2), performances: Iterable[Performance] = PERFORMANCES) -> Contents:
    """Return the members of an archive, the kits of a performance side by side."""
    rows: Rows = []
    contents: Contents = {}
    for performance in performances:
        for kit in kits:
            stem = performance.stem(kit)
            contents[f"{ROOT}/{stem}.midi"] = midi(performance.pitches)
            contents[f"{ROOT}/{stem}.wav"] = recording(performance, kit)
            rows.append(_row(performance, kit))
    return {**contents, TABLE: table_of(rows)}


def rows_of(contents: Contents) -> Rows:
    return list(csv.DictReader(io.StringIO(contents[TABLE].decode())))


def table_of(rows: Rows, columns: Iterable[str] = COLUMNS) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def write_zip(path: Path, contents: Contents) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return path


def damage(archive: Path, name: str) -> None:
    """Exchange bytes of a member's stored content; the directory of the archive stays as it is."""
    at = _content_start(archive, list_members(archive)[name])
    with archive.open("r+b") as stream:
        stream.seek(at + 10)
        before = stream.read(4)
        stream.seek(at + 10)
        stream.write(bytes(byte ^ 0xFF for byte in before))


@lru_cache(maxsize=256)
def recording(performance: Performance, kit: int) -> bytes:
    """Return a WAV file; kit 10 was recorded in stereo at 48 kHz, the others as E-GMD is."""
    rate, channels = (48_000, 2) if kit == 10 else (44_100, 1)
    samples = round(performance.seconds * rate)
    since_beat_s = np.arange(samples) / rate % BEAT_S
    noise = np.random.default_rng([performance.drummer, performance.number, kit]).uniform(-1, 1, (samples, channels))
    return wav(noise * 0.8 * np.exp(-since_beat_s / 0.05)[:, None], rate)


def wav(samples: Any, rate: int = 44_100, subtype: str = "PCM_16", container: str = "WAV") -> bytes:
    content = io.BytesIO()
    soundfile.write(content, samples, rate, subtype=subtype, format=container)
    return content.getvalue()


def midi(pitches: Iterable[int]) -> bytes:
    """Return a MIDI file with one of these hits on each beat."""
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(TEMPO_BPM))])
    for beat, pitch in enumerate(pitches):
        track.append(mido.Message("note_on", channel=9, note=pitch, velocity=100, time=480 if beat else 0))
    content = io.BytesIO()
    mido.MidiFile(type=0, ticks_per_beat=480, tracks=[track]).save(file=content)
    return content.getvalue()


def new_project(folder: Path, contents: Contents | None = None) -> Path:
    """Make a folder a project whose raw archive has these members; by default, those of two kits."""
    (folder / ".dvc").mkdir(parents=True)
    shutil.copy(REPOSITORY / ".dvc" / "config", folder / ".dvc" / "config")
    shutil.copy(REPOSITORY / "params.yaml", folder / "params.yaml")
    (folder / "configs" / "datasets").mkdir(parents=True)
    shutil.copy(REPOSITORY / "configs" / "drums.yaml", folder / "configs" / "drums.yaml")
    record = yaml.safe_load((REPOSITORY / "configs" / "datasets" / "egmd_mini.yaml").read_text(encoding="utf-8"))
    record |= {"name": "small", "title": "A small E-GMD"}
    (folder / "configs" / "datasets" / "small.yaml").write_text(yaml.safe_dump(record, sort_keys=False))
    set_params(folder, dataset="small")
    archive_of(folder).parent.mkdir(parents=True)
    write_zip(archive_of(folder), contents_of() if contents is None else contents)
    return folder


def archive_of(project: Path) -> Path:
    return project / "data" / "raw" / "small" / "small.zip"


def set_params(project: Path, **changes: Any) -> None:
    """Change values of `params.yaml`, wherever they stand in it; without its comments."""
    path = project / "params.yaml"
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    sections = [values, values["preprocess"], values["preprocess"]["features"]]
    for name, value in changes.items():
        next(section for section in sections if name in section)[name] = value
    path.write_text(yaml.safe_dump(values, sort_keys=False))


def processed(project: Path) -> dict[str, bytes]:
    """Return what is in `data/processed/small`: names and contents."""
    folder = project / "data" / "processed" / "small"
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def staged(project: Path, kind: str) -> list[Path]:
    """Return the finished entries of the staging store: `shards` or `slices`."""
    return sorted((open_staging(project).root / kind).rglob("*.h5"))


def leftovers(project: Path) -> list[Path]:
    """Return everything that a finished run has to have removed."""
    return [*staged(project, "slices"), *project.rglob("*.part")]


def _row(performance: Performance, kit: int) -> dict[str, str]:
    stem = performance.stem(kit)
    values = (
        f"drummer{performance.drummer}", f"drummer{performance.drummer}/session1", performance.id, "rock",
        str(TEMPO_BPM), "beat", "4-4", str(performance.seconds), performance.split, f"{stem}.midi", f"{stem}.wav",
        KIT_NAMES.get(kit, f"Kit {kit}"),
    )  # fmt: skip
    return dict(zip(COLUMNS, values, strict=True))


def _content_start(archive: Path, member: Member) -> int:
    """Return where the stored content of a member begins, behind its local header."""
    with archive.open("rb") as stream:
        stream.seek(member.offset + 26)
        name_bytes, extra_bytes = (int.from_bytes(stream.read(2), "little") for _ in range(2))
    return member.offset + 30 + name_bytes + extra_bytes
