"""`backbeat datasets`: look at the registry, fetch what it names, and prove what is here."""

from __future__ import annotations

import json
from typing import Annotated

import typer
import yaml
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from backbeat.config import find_project
from backbeat.datasets import download as downloads
from backbeat.datasets import status
from backbeat.datasets.registry import Record, load_record, load_registry

app = typer.Typer(no_args_is_help=True, help="Datasets: list, fetch and verify them.")

Names = Annotated[list[str], typer.Argument(help="Names of datasets, as `backbeat datasets list` shows them.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for other programs.")]


@app.command("list")
def list_datasets(as_json: AsJson = False) -> None:
    """List every dataset of the registry, and how much of it is here."""
    project = find_project()
    rows = [(record, status.presence(project, record)) for record in load_registry(project).values()]
    if as_json:
        typer.echo(json.dumps([_summary(record, presence) for record, presence in rows], indent=2))
        return
    table = Table("name", "title", "size", "license", "phase", "state")
    for record, presence in rows:
        size = "unknown" if record.size_bytes is None else decimal(record.size_bytes)
        table.add_row(record.name, record.title, size, record.license.id, record.phase, str(presence))
    Console().print(table)


@app.command("show")
def show_dataset(name: Annotated[str, typer.Argument(help="The name of a dataset.")], as_json: AsJson = False) -> None:
    """Show the record of one dataset, and how much of it is here."""
    project = find_project()
    record = load_record(project, name)
    presence = status.presence(project, record)
    values = {**record.model_dump(mode="json", exclude_none=not as_json), "state": presence.state}
    if as_json:
        typer.echo(json.dumps(values | {"here_bytes": presence.here_bytes}, indent=2))
    else:
        typer.echo(yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100), nl=False)


@app.command("download")
def download_datasets(
    names: Names,
    verify: Annotated[bool, typer.Option("--verify", help="Hash what is here already, too.")] = False,
) -> None:
    """Fetch datasets, prove them, and link them into data/raw; what is here already is not fetched again."""
    project = find_project()
    for name in names:
        downloads.download(project, name, verify=verify)


@app.command("verify")
def verify_datasets(names: Names) -> None:
    """Hash the files that are here and compare with the records; exits with 1 if one is corrupt."""
    project = find_project()
    corrupt: list[str] = []
    for name in names:
        for verdict in status.verify(project, name):
            typer.echo(f"{name}/{verdict.path}: {_sentence(verdict)}")
            if verdict.state == "corrupt" and name not in corrupt:
                corrupt.append(name)
    if corrupt:
        typer.echo(f"next: backbeat datasets download --verify {' '.join(corrupt)}", err=True)
        raise typer.Exit(1)


def _sentence(verdict: status.Verdict) -> str:
    match verdict.state:
        case "corrupt":
            return f"corrupt: expected {verdict.expected}, got {verdict.got}"
        case "unverified":
            return f"unverified: the record has no hash; this is {verdict.got}"
        case "absent":
            return "absent"
        case "ok":
            return "ok"


def _summary(record: Record, presence: status.Presence) -> dict[str, object]:
    return {
        "name": record.name,
        "title": record.title,
        "size_bytes": record.size_bytes,
        "license": record.license.id,
        "phase": record.phase,
        "state": presence.state,
        "here_bytes": presence.here_bytes,
    }
