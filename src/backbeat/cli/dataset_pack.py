"""`backbeat datasets pack`: own recordings with their notes, as a dataset that the pipeline reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from backbeat.cli.printing import AsJson, print_json, print_table
from backbeat.config import find_project


def register(app: typer.Typer) -> None:
    """Add the command of this module to the group `datasets`."""
    app.command("pack")(pack_takes)


def pack_takes(
    folder: Annotated[Path, typer.Argument(help="Recordings (WAV, FLAC), each with MIDI or CSV of the same name.")],
    name: Annotated[str, typer.Option(help="What to call the dataset: lower-case letters, digits and _.")],
    license_id: Annotated[
        str, typer.Option("--license", help="SPDX identifier, public-domain, per-item or unknown.")
    ] = "unknown",
    title: Annotated[str | None, typer.Option(help="Its name for people.")] = None,
    commercial: Annotated[
        bool | None, typer.Option("--commercial/--no-commercial", help="Does the license allow commercial use?")
    ] = None,
    redistribute: Annotated[
        bool, typer.Option("--redistribute/--no-redistribute", help="May the data be handed on?")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="The archive to write. Default: data/own/NAME.zip.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and write nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Pack a folder of drum recordings with their notes into one archive of E-GMD's layout, and write its record."""
    from backbeat.datasets.new import Description
    from backbeat.drums.pack import pack

    project = find_project()
    description = Description(title or name, license_id, commercial=commercial, redistribute=redistribute)
    packed = pack(project, name, folder, description, out=out, dry_run=dry_run)
    if as_json:
        print_json(packed)
        return
    print_table(
        ("split", "performances", "takes", "kits", "minutes", "hits"),
        [
            (
                one.split,
                one.performances,
                one.takes,
                _numbers(one.kits),
                f"{one.duration_s / 60:.1f}",
                f"{one.onsets:,}",
            )
            for one in packed.splits
        ],
        right=("performances", "takes", "minutes", "hits"),
        squeeze="kits",
    )
    if dry_run:
        return
    in_project = packed.archive.is_relative_to(project)
    archive = packed.archive.relative_to(project) if in_project else packed.archive
    typer.echo(f"{archive}\n{packed.record.relative_to(project)}")
    keep = [f"dvc add {archive}"] if in_project else []
    for step in (*keep, f"dataset: {name} in params.yaml, then dvc repro"):
        typer.echo(f"next: {step}", err=True)


def _numbers(kits: tuple[int, ...]) -> str:
    return ", ".join(map(str, kits))
