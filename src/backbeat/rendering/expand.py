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

import json
import os
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from backbeat.datasets.egmdtable import SPLITS
from backbeat.datasets.listing import file_url
from backbeat.datasets.new import Description, new
from backbeat.datasets.registry import RECORDS_FOLDER
from backbeat.drums.pack import OWN_FOLDER, member
from backbeat.drums.packrecord import record_of, updated_record
from backbeat.errors import ConfigError
from backbeat.executor import run_tasks
from backbeat.progress import progress
from backbeat.provenance import file_digest
from backbeat.rendering.bank import SAMPLE_RATE_HZ
from backbeat.rendering.material import make_banks, make_songs
from backbeat.rendering.performances import read_performances
from backbeat.rendering.plan import KitTask, length_s, plan_kits
from backbeat.rendering.recipe import Band, Recipe, load_recipe
from backbeat.rendering.render import HEARD, render_kit
from backbeat.rendering.sources import SoundLicense, Source
from backbeat.storage.staging import new_file, require_space

_WAV_BYTES_PER_S = 2 * SAMPLE_RATE_HZ


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
        ConfigError: if the recipe, a source or the archive of performances cannot be used, or a name is taken.
        StorageError: if the disk is or would be full.
    """
    recipe = load_recipe(recipe_file)
    name = recipe_file.stem.replace("-", "_")
    archive = (out or project / OWN_FOLDER / f"{name}.zip").absolute()
    path = project / RECORDS_FOLDER / f"{name}.yaml"
    known = record_of(project, path, file_url(project, archive)) if path.exists() else None
    if known is None and os.path.lexists(archive):
        raise ConfigError(
            f"{archive} is there already",
            expected=f"no such file, or {RECORDS_FOLDER}/{name}.yaml, which says that it is this data set",
            got="a file that no record of this name has",
            next_step="name another file with --out, or remove this one if an interrupted run left it",
        )
    tasks = plan_kits(project, recipe, read_performances(performances), file_digest(performances))
    expanded = _summary(archive, path, tasks)
    commercial = _commercial(recipe, expanded.sources)
    if known is not None and known.license.commercial != commercial:
        raise ConfigError(
            f"the record of {name} says another license than its sources do",
            expected=f"license.commercial: {str(commercial).lower()}",
            got=str(known.license.commercial).lower(),
            next_step=f"correct {RECORDS_FOLDER}/{name}.yaml, or leave those sources out",
        )
    if dry_run:
        return expanded
    needed_s = sum(expanded.duration_s.values())
    require_space(archive.parent, round(2 * needed_s * _WAV_BYTES_PER_S), archive.name)
    missing = [task for task in tasks if not task.part.exists()]
    make_banks(missing, workers, cluster)
    make_songs(recipe, missing, workers, cluster)
    with progress(f"rendering {name}", len(tasks), unit="kits") as advance:
        advance(len(tasks) - len(missing))
        for _ in run_tasks(render_kit, missing, workers=workers, cluster=cluster):
            advance(1)
    with new_file(archive) as part:
        _write_archive(part, name, recipe, tasks)
        if known is not None:
            updated = updated_record(path, known, part)
    if known is not None:
        with new_file(path) as record:
            record.write_bytes(updated)
    else:
        new(project, name, str(archive), _description(recipe, expanded.sources))
    for task in tasks:
        task.part.unlink(missing_ok=True)
    return replace(expanded, reused=len(tasks) - len(missing))


def _write_archive(path: Path, name: str, recipe: Recipe, tasks: Sequence[KitTask]) -> None:
    """Put the parts together; rows of the table, and the sources that are heard, are members of the parts."""
    tables: list[str] = []
    heard: set[str] = set()
    with zipfile.ZipFile(path, "w") as target, progress(f"writing {name}", len(tasks), unit="kits") as advance:
        for task in tasks:
            with zipfile.ZipFile(task.part) as part:
                for info in part.infolist():
                    if info.filename.endswith(".csv"):
                        tables.append(part.read(info).decode())
                        continue
                    if info.filename == HEARD:
                        heard |= set(json.loads(part.read(info)))
                        continue
                    header = member(f"{name}/{info.filename}")
                    header.file_size = info.file_size
                    with part.open(info) as source, target.open(header, "w") as stream:
                        shutil.copyfileobj(source, stream, 2**20)
            advance(1)
        if not tables:
            raise ConfigError(
                f"nothing of {name} is heard",
                expected="kits with the pieces that the performances are played on",
                got=f"{len(tasks)} kits without them",
                next_step="give the recipe sources that have a kick, a snare and hats",
            )
        columns = tables[0].splitlines(keepends=True)[0]
        rows = (table.splitlines(keepends=True)[1] for table in tables)
        target.writestr(member(f"{name}/{name}.csv"), columns + "".join(rows))
        band = recipe.band if recipe.recording.backing else None
        sources = [source for source in _candidates(tasks) if source.name in heard]
        target.writestr(member(f"{name}/LICENSE"), "".join(license_lines(sources, band)))


def license_lines(sources: Sequence[Source], band: Band | None) -> Iterator[str]:
    """Yield where performances and sounds are from, a line each.

    Args:
        sources: of the sounds that are heard.
        band: that plays along, or None.
    """
    yield "Performances: Groove MIDI Dataset, Google LLC, CC-BY-4.0, https://magenta.tensorflow.org/datasets/groove\n"
    for source in sources:
        package = f", Debian package {source.package}" if source.package else ""
        yield f"Sounds: {source.name}, {_said(source.license)}{package}\n"
    if band:
        yield f"Songs that play along: {_said(band.license)}, Debian package {band.package}\n"


def _said(said: SoundLicense) -> str:
    """Return whose the sounds are and under which license, with its address if it is one of the web."""
    url = f", {said.url}" if said.url.startswith(("https://", "http://")) else ""
    return f"{said.holder}, {said.id}{url}"


def _candidates(tasks: Sequence[KitTask]) -> tuple[Source, ...]:
    """Return what the kits may be made of; not all of it is heard."""
    by_name = {source.name: source for task in tasks for source in task.sources}
    return tuple(by_name[name] for name in sorted(by_name))


def _summary(archive: Path, record: Path, tasks: Sequence[KitTask]) -> Expanded:
    recordings = dict.fromkeys(SPLITS, 0)
    duration_s = dict.fromkeys(SPLITS, 0.0)
    for task in tasks:
        for performance in task.played:
            recordings[performance.split] += 1
            duration_s[performance.split] += length_s(performance, task.recipe.longest_s)
    return Expanded(archive, record, len(tasks), 0, recordings, duration_s, _candidates(tasks))


def _description(recipe: Recipe, sources: Sequence[Source]) -> Description:
    return Description(
        title=recipe.title,
        license_id="LicenseRef-kits",
        license_url=None,
        commercial=_commercial(recipe, sources),
        redistribute=False,
        license_note="Performances are CC BY 4.0; every source of sounds has its own license, listed in the archive.",
        purpose="drum transcription",
    )


def _commercial(recipe: Recipe, sources: Sequence[Source]) -> bool:
    """Return whether everything that may be heard allows commercial use."""
    band = [recipe.band.license] if recipe.band and recipe.recording.backing else []
    return all(one.commercial for one in [*band, *(source.license for source in sources)])
