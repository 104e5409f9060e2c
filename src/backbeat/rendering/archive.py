"""The archive: the recordings of all kits in one zip of E-GMD's layout, with its table and what its sounds are from."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from backbeat.drums.pack import member
from backbeat.errors import ConfigError, StorageError
from backbeat.progress import progress
from backbeat.rendering.plan import KitTask
from backbeat.rendering.recipe import Band, Recipe
from backbeat.rendering.render import HEARD
from backbeat.rendering.sources import SoundLicense, Source


def write_archive(path: Path, name: str, recipe: Recipe, tasks: Sequence[KitTask]) -> None:
    """Put the parts together, in the order of the kits.

    Args:
        path: the zip to write.
        name: of the dataset, and of the folder in the zip.
        recipe: what the kits are of.
        tasks: whose parts are there.

    Raises:
        ConfigError: if no kit has a piece that is played.
        StorageError: if somebody has removed a part.
    """
    tables: list[str] = []
    heard: set[str] = set()
    with zipfile.ZipFile(path, "w") as target, progress(f"writing {name}", len(tasks), unit="kits") as advance:
        for task in tasks:
            with _opened(task) as part:
                for info in part.infolist():
                    # Rows of the table, and the sources that are heard, are members of the parts.
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
        sources = [source for source in candidates(tasks) if source.name in heard]
        target.writestr(member(f"{name}/LICENSE"), "".join(license_lines(sources, band)))


def _opened(task: KitTask) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(task.part)
    except FileNotFoundError:
        raise StorageError(
            f"the recordings of kit {task.number} are gone",
            expected=f"{task.part}",
            got="no such file: a run in another clone of this cache may have ended and removed it",
            next_step="repeat the command; it renders what is missing",
        ) from None


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


def candidates(tasks: Sequence[KitTask]) -> tuple[Source, ...]:
    """Return what the kits may be made of; not all of it is heard."""
    by_name = {source.name: source for task in tasks for source in task.sources}
    return tuple(by_name[name] for name in sorted(by_name))
