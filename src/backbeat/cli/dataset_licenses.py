"""`backbeat datasets licenses`: what to say, and to keep to, about the data that is here or in a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from backbeat.cli.printing import AsJson, print_json
from backbeat.config import find_project

Names = Annotated[list[str] | None, typer.Argument(help="Names of datasets. Default: every one that is here.")]
Model = Annotated[Path | None, typer.Option(help="Everything that this model was trained on.", dir_okay=False)]
Every = Annotated[bool, typer.Option("--all", help="Every dataset of the registry that is not excluded.")]


def register(app: typer.Typer) -> None:
    """Add the command of this module to a group."""
    app.command("licenses")(print_licenses)


def print_licenses(names: Names = None, model: Model = None, every: Every = False, as_json: AsJson = False) -> None:
    """Print the attribution of datasets: title, citation, license and what it asks."""
    from backbeat.datasets.licenses import licenses

    if sum(map(bool, (names, model, every))) > 1:
        raise typer.BadParameter("name datasets, or a model, or --all: one of them")
    project = find_project()
    found = licenses(project, _wanted(project, names, model, every))
    if as_json:
        print_json(found)
    elif found:
        typer.echo("\n\n".join(attribution.text for attribution in found))
    else:
        typer.echo("no dataset is here; name one, or --all", err=True)


def _wanted(project: Path, names: list[str] | None, model: Path | None, every: bool) -> list[str] | None:
    if model is not None:
        from backbeat.cli.pipeline import need_training_packages

        need_training_packages()
        import torch

        from backbeat.transcription.weights import load_model

        return [load_model(model, torch.device("cpu"))[1].provenance.dataset]
    if every:
        from backbeat.datasets.registry import load_registry

        return [record.name for record in load_registry(project).values() if not record.excluded]
    return names or None
