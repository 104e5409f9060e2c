"""The plan: which kits there are, what each may be made of, what it plays, and where its recordings will be.

A kit's recordings are kept under the digest of everything that they depend on: the draws, the performances, the bytes
of its sounds, the code that makes them, and the libraries and the program that compute.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from backbeat.audio import read
from backbeat.datasets import egmdtable
from backbeat.datasets.egmdtable import SPLITS
from backbeat.datasets.mini import grooves as mini_grooves
from backbeat.datasets.mini import kits as mini_kits
from backbeat.drums import midi
from backbeat.drums.classes import load_drums
from backbeat.errors import ConfigError
from backbeat.provenance import digest_of, file_digest
from backbeat.rendering.performances import Performance
from backbeat.rendering.playing import TAIL_S
from backbeat.rendering.recipe import Recipe
from backbeat.rendering.seeds import ROLES, Purpose, generator
from backbeat.rendering.soundfonts import PROGRAM
from backbeat.rendering.sources import Source, located, source_digest
from backbeat.storage.staging import Staging, open_staging

# A kit is made of the sources that are drawn for it: so many are in memory at a time.
SOURCES_OF_A_KIT = 5

# Code elsewhere that is heard: the synthesizer's voices, what decodes sounds, what reads and writes hits, the table.
_HEARD_CODE = (mini_kits, mini_grooves, read, midi, egmdtable)


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
        songs: where the backings of its role are; none where no band plays.
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
        ConfigError: if a source that a kit may be made of is not there, or there is nothing to play.
    """
    _require_splits(recipe, performances)
    staging = open_staging(project)
    code = _code_digest()
    player = _player()
    instrument_of = dict(load_drums(project).pitches)
    kits = [(role, index) for role in ROLES if role in recipe.parts for index in range(recipe.parts[role].kits)]
    drawn = [_sources_of(recipe, role, generator(recipe.seed, role, index, Purpose.SOURCES)) for role, index in kits]
    digests = _digests(drawn, player)
    songs = {role: _songs(staging, recipe, role, [code, player]) for role in recipe.parts}
    draws = [recipe.kit.model_dump(), recipe.recording.model_dump(), recipe.longest_s, recipe.seed]
    everywhere = [code, archive_digest, draws, sorted(instrument_of.items())]
    tasks: list[KitTask] = []
    for number, ((role, index), sources) in enumerate(zip(kits, drawn, strict=True), start=1):
        played = _played(recipe, role, index, performances)
        of_kit = [role, index, number, [song.name for song in songs[role]], [one.stem for one in played]]
        made_from = [*everywhere, *of_kit, [[source.name, digests[source.name]] for source in sources]]
        tasks.append(
            KitTask(
                recipe=recipe,
                role=role,
                index=index,
                number=number,
                sources=sources,
                banks=tuple(_bank(staging, source, [code, *digests[source.name]]) for source in sources),
                songs=songs[role],
                played=played,
                instrument_of=instrument_of,
                part=staging.entry("rendered", digest_of(made_from), ".zip"),
            )
        )
    return tasks


def _require_splits(recipe: Recipe, performances: list[Performance]) -> None:
    there = {performance.split for performance in performances}
    missing = sorted({split for part in recipe.parts.values() for split in part.minutes} - there)
    if missing:
        raise ConfigError(
            f"no performance is of the split {', '.join(missing)}",
            expected="performances of every split that the recipe has minutes of",
            got=", ".join(sorted(there)) or "no performance at all",
            next_step="take that split out of the recipe, or name another archive with --performances",
        )


def _digests(drawn: Sequence[tuple[Source, ...]], player: str) -> dict[str, list[str]]:
    """Return what is heard of each source that a kit may be made of; the others need not be here."""
    by_name = {source.name: source for sources in drawn for source in sources}
    # The player is heard in what it plays only.
    return {name: [source_digest(one), player if one.soundfont else ""] for name, one in by_name.items()}


def _code_digest() -> str:
    """Return a digest of the code and the libraries that are heard."""
    libraries = [soundfile.__libsndfile_version__, np.__version__, *map(version, ("scipy", "soxr", "mido"))]
    modules = [Path(str(module.__file__)) for module in _HEARD_CODE]
    files = [*sorted(Path(__file__).parent.glob("*.py")), *modules]
    return digest_of([libraries, [[file.name, file_digest(file)] for file in files]])


def _player() -> str:
    """Return the version of the program that plays SoundFonts; nothing if it is missing: playing says so."""
    found = shutil.which(PROGRAM)
    if found is None:
        return ""
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
    return said.partition("\n")[0].strip()


def _songs(staging: Staging, recipe: Recipe, role: str, made_with: list[str]) -> tuple[Path, ...]:
    """Return where the songs of a role are: a song that a model has heard says nothing of how it does in a new one."""
    band = recipe.band
    if band is None or not recipe.recording.backing:
        return ()
    digest = digest_of([made_with, file_digest(located(band.file, band.package)), recipe.seed, role])
    return tuple(staging.entry("songs", digest_of([digest, index]), ".npy") for index in range(band.songs))


def _bank(staging: Staging, source: Source, made_from: list[str]) -> Path | None:
    """Return where the sounds of a source are kept; the synthesizer makes others for every kit."""
    if source.synthesizer is not None:
        return None
    return staging.entry("banks", digest_of(made_from), ".npz")


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


def _played(recipe: Recipe, role: str, index: int, performances: list[Performance]) -> tuple[Performance, ...]:
    """Draw what a kit plays: of each split on its own, so that one does not depend on how long another one is."""
    minutes = recipe.parts[role].minutes
    return tuple(
        performance
        for position, split in enumerate(SPLITS)
        if split in minutes
        for performance in _chosen(
            performances,
            split,
            60 * minutes[split],
            recipe.longest_s,
            generator(recipe.seed, role, index, Purpose.PERFORMANCES, position),
        )
    )


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
