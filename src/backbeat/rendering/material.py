"""What recordings are made of, kept in the staging store: banks of sounds, and songs that play along."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from backbeat.executor import run_tasks
from backbeat.progress import progress
from backbeat.rendering.backing import make_backing
from backbeat.rendering.bank import Bank, OneShot
from backbeat.rendering.plan import SOURCES_OF_A_KIT, KitTask
from backbeat.rendering.recipe import Recipe
from backbeat.rendering.seeds import Purpose, generator
from backbeat.rendering.sources import Source, load_bank, located
from backbeat.storage.staging import new_file


def make_banks(tasks: Sequence[KitTask], workers: int | None, cluster: str | None) -> None:
    """Turn every recorded source that is needed into a bank, once; they are read from the staging store then."""
    wanted = {
        path: source
        for task in tasks
        for source, path in zip(task.sources, task.banks, strict=True)
        if path is not None and not path.exists()
    }
    with progress("reading sounds", len(wanted), unit="sources") as advance:
        for _ in run_tasks(
            _make_bank, sorted(wanted.items(), key=lambda one: one[1].name), workers=workers, cluster=cluster
        ):
            advance(1)


def make_songs(recipe: Recipe, tasks: Sequence[KitTask], workers: int | None, cluster: str | None) -> None:
    """Have the band play the songs that the kits of these tasks may hear, once."""
    wanted = {path: (task.role, index) for task in tasks for index, path in enumerate(task.songs) if not path.exists()}
    if recipe.band is None or not wanted:
        return
    font = located(recipe.band.file, recipe.band.package)
    songs = [(path, font, recipe.seed, role, index) for path, (role, index) in wanted.items()]
    with progress("playing songs", len(songs), unit="songs") as advance:
        for _ in run_tasks(_make_song, songs, workers=workers, cluster=cluster):
            advance(1)


@lru_cache(maxsize=SOURCES_OF_A_KIT)
def read_bank(path: Path, name: str) -> Bank:
    """Return a bank that `make_banks` has made."""
    shots: dict[str, list[OneShot]] = {}
    with np.load(path) as arrays:
        for key in sorted(arrays.files):
            instrument, _, force = key.split("/")
            shots.setdefault(instrument, []).append(OneShot(arrays[key], float(force)))
    return Bank(name, {instrument: tuple(of) for instrument, of in shots.items()})


def _make_bank(task: tuple[Path, Source]) -> None:
    path, source = task
    bank = load_bank(source, 0)
    arrays = {
        f"{instrument}/{position:03d}/{shot.force!r}": shot.samples
        for instrument, shots in sorted(bank.shots.items())
        for position, shot in enumerate(shots)
    }
    with new_file(path) as part, part.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]


def _make_song(task: tuple[Path, Path, int, str, int]) -> None:
    path, font, seed, role, index = task
    song = make_backing(font, generator(seed, role, index, Purpose.SONG))
    with new_file(path) as part, part.open("wb") as stream:
        np.save(stream, song)
