"""`backbeat expand`: performances on kits that nobody has built, as a data set that the pipeline reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from backbeat.cli.pipeline import Cluster, Workers, need_training_packages
from backbeat.cli.printing import print_table
from backbeat.config import find_project


def register(app: typer.Typer) -> None:
    """Add the command of this module to the program."""
    app.command()(expand)


def expand(
    recipe: Annotated[Path, typer.Argument(help="A file of configs/kits: sources of sounds, and what is drawn.")],
    performances: Annotated[
        Path | None, typer.Option(help="The Groove MIDI Dataset. Default: where its download is, in data/raw.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The archive to write. Default: data/own/RECIPE.zip.")] = None,
    workers: Workers = None,
    cluster: Cluster = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be rendered, and render nothing.")] = False,
) -> None:
    """Play human performances on random kits, and write an archive of E-GMD's layout with its record."""
    need_training_packages()
    from backbeat.datasets.registry import load_record
    from backbeat.rendering.expand import expand as run
    from backbeat.rendering.recipe import load_recipe

    project = find_project()
    if performances is None:
        record = load_record(project, load_recipe(recipe).performances)
        performances = project / "data" / "raw" / record.name / record.files[0].path
    made = run(project, recipe, performances, out=out, workers=workers, cluster=cluster, dry_run=dry_run)
    print_table(
        ("split", "recordings", "minutes"),
        [(split, f"{count:,}", f"{made.duration_s[split] / 60:.0f}") for split, count in made.recordings.items()],
        right=("recordings", "minutes"),
    )
    again = f", {made.reused} of them from an earlier run" if made.reused else ""
    typer.echo(f"{made.kits} kits of {len(made.sources)} sources{again}")
    if dry_run:
        return
    for path in (made.archive, made.record):
        typer.echo(path.relative_to(project) if path.is_relative_to(project) else path)
    typer.echo(f"next: dataset: {made.record.stem} in params.yaml, then dvc repro", err=True)
