"""A project whose sample library has given sources, and sounds to put into them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import yaml
from numpy.typing import NDArray

from backbeat.library.tables import read_table

REPOSITORY = Path(__file__).parents[1]
RATE = 44_100


def library_project(folder: Path, **sources: str) -> Path:
    """Make a project with these sources, name and path."""
    (folder / ".dvc").mkdir(parents=True)
    (folder / "params.yaml").write_bytes((REPOSITORY / "params.yaml").read_bytes())
    settings: dict[str, Any] = yaml.safe_load((REPOSITORY / "configs/library.yaml").read_text(encoding="utf-8"))
    settings["sources"] = [{"name": name, "path": path} for name, path in sources.items()]
    (folder / "configs").mkdir()
    (folder / "configs/library.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    return folder


def noise(seed: int, frames: int = 3_000, channels: int = 1) -> NDArray[np.float64]:
    """Noise that decays, on the steps of 16 bits."""
    decay = np.exp(-np.arange(frames) / 600)[:, None]
    return np.round(np.random.default_rng(seed).uniform(-0.9, 0.9, (frames, channels)) * decay * 2**15) / 2**15


def sound(seed: int, subtype: str = "PCM_16", kind: str = "WAV", **options: Any) -> bytes:
    """A file of noise."""
    return stored(noise(seed, **options), subtype, kind)


def stored(samples: NDArray[np.float64], subtype: str = "PCM_16", kind: str = "WAV", rate: int = RATE) -> bytes:
    """Samples as a file of some format."""
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, subtype, format=kind)
    return stream.getvalue()


def write(folder: Path, files: dict[str, bytes]) -> None:
    """Write files, with the folders they are in."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def rows_of(project: Path, table: str) -> dict[str, dict[str, Any]]:
    """Return the rows of a table by sample."""
    return {row["sample"]: row for row in read_table(project, table).to_pylist()}
