"""The plan: which kits there are, what each may be made of, what it plays, and where its recordings will be.

A kit's recordings are kept under the digest of everything that they depend on: the draws, the performances, the bytes
of its sounds, this package's code, and the libraries that compute.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from backbeat.datasets.egmdtable import SPLITS
from backbeat.drums.classes import load_drums
from backbeat.provenance import digest_of, file_digest
from backbeat.rendering.performances import Performance
from backbeat.rendering.playing import TAIL_S
from backbeat.rendering.recipe import Recipe
from backbeat.rendering.seeds import ROLES, Purpose, generator
from backbeat.rendering.sources import Source, located, source_digest
from backbeat.storage.staging import Staging, open_staging

# A kit is made of the sources that are drawn for it: so many are in memory at a time.
SOURCES_OF_A_KIT = 5


@dataclass(frozen=True)
class KitTask:
    """One kit and what it plays; a task of the executor.

    Attributes:
        recipe: the draws.
        role: of its sources.
        index: of the kit within its role, from 0.
        number: of the kit in the archive.
        sources: what it may be made of; it begins with the first.
        banks: where their sounds are.
        songs: where the backings are; none where no band plays.
        played: performances and how many seconds of each at most.
        instrument_of: pads of the kit.
        part: where its recordings go.
    """

    recipe: Recipe
    role: str
    index: int
    number: int
    sources: tuple[Source, ...]
    banks: tuple[Path | None, ...]
    songs: tuple[Path, ...]
    played: tuple[Performance, ...]
    instrument_of: dict[int, str]
    part: Path


def plan_kits(project: Path, recipe: Recipe, performances: list[Performance], archive_digest: str) -> list[KitTask]:
    """Return the kits of a recipe, in the order of their roles.

    Args:
        project: whose staging store recordings, sounds and songs are kept in.
        recipe: what is to be made.
        performances: what may be played.
        archive_digest: of the archive that they are from.

    Raises:
        ConfigError: if a source is not there.
    """
    staging = open_staging(project)
    libraries = [soundfile.__libsndfile_version__, np.__version__, version("scipy"), version("soxr")]
    code = digest_of([*libraries, *map(file_digest, sorted(Path(__file__).parent.glob("*.py")))])
    instrument_of = dict(load_drums(project).pitches)
    digests = {source.name: source_digest(source) for source in recipe.sources}
    songs = _songs(staging, recipe, code)
    draws = [recipe.kit.model_dump(), recipe.recording.model_dump(), recipe.longest_s, recipe.seed]
    everywhere = [code, [song.name for song in songs], archive_digest, draws, sorted(instrument_of.items())]
    tasks: list[KitTask] = []
    for role, part in ((role, recipe.parts[role]) for role in ROLES if role in recipe.parts):
        for index in range(part.kits):
            rng = generator(recipe.seed, role, index, Purpose.PLAN)
            sources = _sources_of(recipe, role, rng)
            played = [
                performance
                for split in SPLITS
                if split in part.minutes
                for performance in _chosen(performances, split, 60 * part.minutes[split], recipe.longest_s, rng)
            ]
            number = len(tasks) + 1
            of_kit = [role, index, number, [performance.stem for performance in played]]
            made_from = [*everywhere, *of_kit, [digests[source.name] for source in sources]]
            tasks.append(
                KitTask(
                    recipe=recipe,
                    role=role,
                    index=index,
                    number=number,
                    sources=sources,
                    banks=tuple(_bank(staging, source, digests[source.name], code) for source in sources),
                    songs=songs,
                    played=tuple(played),
                    instrument_of=instrument_of,
                    part=staging.entry("rendered", digest_of(made_from), ".zip"),
                )
            )
    return tasks


def _songs(staging: Staging, recipe: Recipe, code: str) -> tuple[Path, ...]:
    band = recipe.band
    if band is None or not recipe.recording.backing:
        return ()
    digest = digest_of([code, band.model_dump(), file_digest(located(band.file, band.package))])
    names = (digest_of([digest, recipe.seed, index]) for index in range(band.songs))
    return tuple(staging.entry("songs", name, ".npy") for name in names)


def _bank(staging: Staging, source: Source, digest: str, code: str) -> Path | None:
    """Return where the sounds of a source are kept; the synthesizer makes others for every kit."""
    if source.synthesizer is not None:
        return None
    return staging.entry("banks", digest_of([digest, code]), ".npz")


def _sources_of(recipe: Recipe, role: str, rng: np.random.Generator) -> tuple[Source, ...]:
    """Draw what a kit may be made of: the first is what it begins with."""
    of_role = [source for source in recipe.sources if source.role == role]
    made = [source for source in of_role if source.synthesizer is not None]
    recorded = [source for source in of_role if source.synthesizer is None]
    begins_made = bool(made) and (not recorded or rng.random() < recipe.kit.synthesizer)
    first = [made[0]] if begins_made else [recorded[int(rng.choice(len(recorded), p=_shares(recorded)))]]
    others = [source for source in recorded if source is not first[0]]
    wanted = min(SOURCES_OF_A_KIT - 1, len(others))
    if not wanted:
        return tuple(first)
    chosen = rng.choice(len(others), size=wanted, replace=False, p=_shares(others))
    return (*first, *(others[index] for index in chosen))


def _shares(sources: Sequence[Source]) -> NDArray[np.float64]:
    weights = np.array([source.weight for source in sources])
    return np.asarray(weights / weights.sum())


def _chosen(
    performances: list[Performance], split: str, wanted_s: float, longest_s: float, rng: np.random.Generator
) -> list[Performance]:
    """Draw performances of a split until they are long enough together."""
    pool = [performance for performance in performances if performance.split == split]
    chosen: list[Performance] = []
    total_s = 0.0
    for index in rng.permutation(len(pool)):
        if total_s >= wanted_s:
            break
        chosen.append(pool[index])
        total_s += length_s(pool[index], longest_s)
    return chosen


def length_s(performance: Performance, longest_s: float) -> float:
    """Return how long a recording of a performance is in seconds, before its tape runs faster or slower."""
    played = performance.onsets.onset_s
    return min(float(played[-1] - played[0]), longest_s) + TAIL_S
