"""Expanding performances by kits: an archive of E-GMD's layout, and its record. `backbeat expand`.

    <name>/drummer1/session1/1_funk_80_beat_4-4_<kit>.midi     what was played
    <name>/drummer1/session1/1_funk_80_beat_4-4_<kit>.wav      how it sounded on this kit, in this room
    <name>/<name>.csv                                          E-GMD's table
    <name>/LICENSE                                             where performances and sounds are from

One task renders all recordings of one kit and puts them into the staging store, under the digest of everything that
they depend on: a run that was killed goes on with the kits that are missing. Then the archive is written in the order
of the kits. Same recipe, same sounds, same versions of the libraries: same bytes, for any number of workers. (Another
kind of processor may round a sample otherwise.)
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from backbeat.datasets.egmdtable import SPLITS
from backbeat.datasets.listing import Listed, file_url
from backbeat.datasets.new import Description, draft, new
from backbeat.datasets.registry import RECORDS_FOLDER, Record
from backbeat.drums.pack import OWN_FOLDER
from backbeat.drums.packrecord import known_record, updated_record
from backbeat.errors import ConfigError
from backbeat.executor import run_tasks
from backbeat.progress import progress
from backbeat.provenance import file_digest
from backbeat.rendering.archive import candidates, write_archive
from backbeat.rendering.backing import LENGTH_S
from backbeat.rendering.bank import SAMPLE_RATE_HZ
from backbeat.rendering.material import make_banks, make_songs
from backbeat.rendering.performances import LEAD_S, read_performances
from backbeat.rendering.plan import KitTask, length_s, plan_kits
from backbeat.rendering.recipe import Recipe, load_recipe
from backbeat.rendering.render import render_kit
from backbeat.rendering.sources import Source
from backbeat.storage.clones import register
from backbeat.storage.disk import same_filesystem
from backbeat.storage.exclusive import exclusive
from backbeat.storage.staging import nearest_existing, new_file, open_staging, require_space

_WAV_BYTES_PER_S = 2 * SAMPLE_RATE_HZ
_SONG_BYTES = round(4 * SAMPLE_RATE_HZ * LENGTH_S)


@dataclass(frozen=True)
class Expanded:
    """What was rendered, or would be: kits, recordings and seconds of each split, and what kits may be made of."""

    archive: Path
    record: Path
    kits: int
    reused: int
    recordings: dict[str, int]
    duration_s: dict[str, float]
    sources: tuple[Source, ...]


@dataclass(frozen=True)
class _Wanted:
    """What is to be written: a dataset of this name, and its record as it is now, if it has one."""

    name: str
    recipe: Recipe
    archive: Path
    record: Path
    known: Record | None


def expand(
    project: Path,
    recipe_file: Path,
    performances: Path,
    *,
    out: Path | None = None,
    workers: int | None = None,
    cluster: str | None = None,
    dry_run: bool = False,
) -> Expanded:
    """Render performances on the kits of a recipe; write the archive and its record, or bring both up to date.

    Args:
        project: the root of the repository.
        recipe_file: `configs/kits/<name>.yaml`; the data set gets its name.
        performances: the Groove MIDI Dataset's archive.
        out: the archive; by default `data/own/<name>.zip`.
        workers: processes; default: one per processor.
        cluster: address of a Dask scheduler to use instead.
        dry_run: whether to say what would be made and make nothing.

    Raises:
        ConfigError: if the recipe, a source or the archive of performances cannot be used, or a name is taken or none.
        StorageError: if the disk is or would be full.
        CloudError: if another rendering, or a transfer, is at work in this clone.
    """
    # Two runs of one recipe would remove each other's parts, and whoever makes room would remove them all.
    with contextlib.nullcontext() if dry_run else exclusive(project, f"render {recipe_file.stem}"):
        wanted = _wanted(project, recipe_file, out)
        tasks = plan_kits(project, wanted.recipe, read_performances(performances), file_digest(performances))
        expanded = _summary(wanted, tasks)
        _require_same_license(wanted, expanded.sources)
        if dry_run:
            return expanded
        # Another clone of the cache that makes room has to know whom to ask.
        register(project.resolve())
        missing = [task for task in tasks if not task.part.exists()]
        _require_room(project, wanted.archive, tasks, missing)
        make_banks(missing, workers, cluster)
        make_songs(wanted.recipe, missing, workers, cluster)
        with progress(f"rendering {wanted.name}", len(tasks), unit="kits") as advance:
            advance(len(tasks) - len(missing))
            for _ in run_tasks(render_kit, missing, workers=workers, cluster=cluster):
                advance(1)
        _write(project, wanted, tasks, expanded.sources)
        for task in tasks:
            task.part.unlink(missing_ok=True)
        return replace(expanded, reused=len(tasks) - len(missing))


def _wanted(project: Path, recipe_file: Path, out: Path | None) -> _Wanted:
    """Load the recipe, and refuse a name that the dataset or its archive cannot have."""
    recipe = load_recipe(recipe_file)
    name = recipe_file.stem.replace("-", "_")
    archive = (out or project / OWN_FOLDER / f"{name}.zip").absolute()
    record = project / RECORDS_FOLDER / f"{name}.yaml"
    is_zip = archive.suffix.lower() == ".zip"
    if not is_zip or not nearest_existing(archive.parent).is_dir():
        raise ConfigError(
            f"the archive cannot be {archive}",
            expected="a name that ends in .zip, in a folder",
            got=archive.name if not is_zip else f"{nearest_existing(archive.parent)}, which is a file",
            next_step="name another file with --out",
        )
    address = file_url(project, archive)
    try:
        draft(name, _description(recipe, recipe.sources), [Listed(archive.name, address)])
    except ConfigError as error:
        raise ConfigError(
            f"{recipe_file.name} makes no valid record",
            expected="a file name of lower-case letters, digits, - and _, and an archive whose name is a path",
            got=error.got,
            next_step="rename the recipe, or name another file with --out",
        ) from error
    return _Wanted(name, recipe, archive, record, known_record(project, record, archive, address))


def _require_same_license(wanted: _Wanted, sources: Sequence[Source]) -> None:
    if wanted.known is None:
        return
    commercial, license_id = _commercial(wanted.recipe, sources), _license_id(wanted.recipe, sources)
    said = wanted.known.license
    if (said.commercial, said.id) != (commercial, license_id):
        raise ConfigError(
            f"the record of {wanted.name} says another license than its sources do",
            expected=f"license.id: {license_id}, license.commercial: {str(commercial).lower()}",
            got=f"{said.id}, {str(said.commercial).lower()}",
            next_step=f"correct {RECORDS_FOLDER}/{wanted.name}.yaml, or leave those sources out",
        )


def _require_room(project: Path, archive: Path, tasks: Sequence[KitTask], missing: Sequence[KitTask]) -> None:
    """Refuse what does not fit: parts and songs where the staging store is, and beside them the archive."""
    staging = open_staging(project).root
    songs = {song for task in missing for song in task.songs if not song.exists()}
    staged_bytes = _recorded_bytes(missing) + _SONG_BYTES * len(songs)
    archive_bytes = _recorded_bytes(tasks)
    if same_filesystem(staging, archive.parent):
        require_space(archive.parent, archive_bytes + staged_bytes, archive.name)
        return
    require_space(archive.parent, archive_bytes, archive.name)
    require_space(staging, staged_bytes, f"the parts of {archive.name}")


def _recorded_bytes(tasks: Sequence[KitTask]) -> int:
    """Return what the recordings of these kits take, at their slowest."""
    seconds = sum(
        (LEAD_S + length_s(performance, task.recipe.longest_s)) / min(1.0, task.recipe.recording.speed.low)
        for task in tasks
        for performance in task.played
    )
    return round(seconds * _WAV_BYTES_PER_S)


def _write(project: Path, wanted: _Wanted, tasks: Sequence[KitTask], sources: Sequence[Source]) -> None:
    """Write the archive, and its record or what has changed in it."""
    with new_file(wanted.archive) as part:
        write_archive(part, wanted.name, wanted.recipe, tasks)
        if wanted.known is not None:
            updated = updated_record(wanted.record, wanted.known, part)
    if wanted.known is not None:
        with new_file(wanted.record) as record:
            record.write_bytes(updated)
    else:
        new(project, wanted.name, str(wanted.archive), _description(wanted.recipe, sources))


def _summary(wanted: _Wanted, tasks: Sequence[KitTask]) -> Expanded:
    recordings = dict.fromkeys(SPLITS, 0)
    duration_s = dict.fromkeys(SPLITS, 0.0)
    for task in tasks:
        for performance in task.played:
            recordings[performance.split] += 1
            duration_s[performance.split] += length_s(performance, task.recipe.longest_s)
    return Expanded(wanted.archive, wanted.record, len(tasks), 0, recordings, duration_s, candidates(tasks))


def _description(recipe: Recipe, sources: Sequence[Source]) -> Description:
    return Description(
        title=recipe.title,
        license_id=_license_id(recipe, sources),
        license_url=None,
        commercial=_commercial(recipe, sources),
        redistribute=False,
        license_note="Performances are CC BY 4.0; every source of sounds has its own license, listed in the archive.",
        purpose="drum transcription",
    )


def _license_id(recipe: Recipe, sources: Sequence[Source]) -> str:
    """Return a name that also tells a model whether what it has heard may be sold."""
    return "LicenseRef-kits" if _commercial(recipe, sources) else "LicenseRef-kits-noncommercial"


def _commercial(recipe: Recipe, sources: Sequence[Source]) -> bool:
    """Return whether everything that may be heard allows commercial use."""
    band = [recipe.band.license] if recipe.band and recipe.recording.backing else []
    return all(one.commercial for one in [*band, *(source.license for source in sources)])
