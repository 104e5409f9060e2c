"""What is measured on: projects in temporary folders, with archives like E-GMD's."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backbeat.audio.read import mono_blocks
from backbeat.config import FeatureParams, load_params
from backbeat.datasets.mini import ALL_KITS, write_archive
from backbeat.drums.midi import Onsets
from backbeat.drums.shards import SequenceInfo, ShardWriter

REPOSITORY = Path(__file__).parents[1]
EXCERPT = REPOSITORY.parent / "shared" / "data" / "e-gmd-excerpt.zip"


def features() -> FeatureParams:
    """Return the parameters that the repository ships."""
    return load_params(REPOSITORY).preprocess.features


def deflated_mini(target: Path, minutes: float, kits: tuple[int, ...] = tuple(ALL_KITS)) -> Path:
    """Write a synthetic archive, deflated like E-GMD's own (the one that the pipeline makes is stored)."""
    stored = target.with_suffix(".stored")
    write_archive(stored, kits=kits, minutes=minutes)
    with zipfile.ZipFile(stored) as source, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as sink:
        for info in source.infolist():
            sink.writestr(info.filename, source.read(info))
    stored.unlink()
    return target


def repeated(target: Path, archive: Path, times: int) -> Path:
    """Write an archive several times over into one, each time played by other drummers."""
    with (
        zipfile.ZipFile(archive) as source,
        zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as sink,
    ):
        played = [name for name in source.namelist() if name.endswith((".wav", ".midi"))]
        table = next(name for name in source.namelist() if name.endswith(".csv"))
        header, *rows = source.read(table).decode().splitlines()
        for copy in range(times):
            for name in played:
                sink.writestr(name.replace("drummer", f"drummer{copy}"), source.read(name))
        lines = [row.replace("drummer", f"drummer{copy}") for copy in range(times) for row in rows]
        sink.writestr(table, "\n".join([header, *lines]) + "\n")
    return target


def project(folder: Path, archive: Path) -> Path:
    """Make a project whose raw data is this archive, unless it is there already."""
    if folder.exists():
        return folder
    (folder / ".dvc").mkdir(parents=True)
    for name in (".dvc/config", "params.yaml"):
        shutil.copy(REPOSITORY / name, folder / name)
    shutil.copytree(REPOSITORY / "configs", folder / "configs")
    raw = folder / "data" / "raw" / "egmd_mini"
    raw.mkdir(parents=True)
    (raw / archive.name).symlink_to(archive)
    return folder


def recordings(archive: Path, count: int) -> list[bytes]:
    """Return the content of the first WAV members."""
    with zipfile.ZipFile(archive) as opened:
        names = sorted(name for name in opened.namelist() if name.endswith(".wav"))
        return [opened.read(name) for name in names[:count]]


def sounds(archive: Path, length_s: float, count: int) -> list[NDArray[np.float32]]:
    """Return recordings of this length, put together from the members."""
    rate = features().sample_rate_hz
    parts = [np.concatenate(list(mono_blocks(wav, "member", rate))) for wav in recordings(archive, 400)]
    joined = np.concatenate(parts)
    samples = round(length_s * rate)
    return [joined[i * samples : (i + 1) * samples] for i in range(min(count, len(joined) // samples))]


def shard_of(path: Path, spectrograms: list[NDArray[np.uint8]]) -> Path:
    """Write spectrograms as one shard, in which nothing was hit."""
    nothing = Onsets(np.empty(0, np.float32), np.empty(0, np.uint8), np.empty(0, np.uint8))
    with ShardWriter(path, spectrograms[0].shape[1], {}) as writer:
        for index, values in enumerate(spectrograms):
            writer.append(SequenceInfo(str(index), str(index), "", "", 1, 120.0, 0, 0), values, nothing)
    return path
