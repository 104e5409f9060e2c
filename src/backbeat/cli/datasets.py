"""`backbeat datasets`: look at the registry, and prove what is here; the other commands have modules of their own."""

from __future__ import annotations

from typing import Annotated, Any

import typer
import yaml

from backbeat.cli import dataset_care, dataset_content, dataset_downloads, dataset_licenses, dataset_pack
from backbeat.cli.printing import AsJson, bytes_text, print_json, print_table
from backbeat.config import find_project
from backbeat.datasets.registry import Record

app = typer.Typer(no_args_is_help=True, help="Datasets: list, plan, fetch, verify and describe them.")

Name = Annotated[str, typer.Argument(help="The name of a dataset.")]
Names = Annotated[list[str] | None, typer.Argument(help="Names of datasets, as `backbeat datasets list` shows them.")]


@app.command("list")
def list_datasets(as_json: AsJson = False) -> None:
    """List every dataset of the registry, and how much of it is here."""
    from backbeat.datasets.registry import load_registry
    from backbeat.datasets.status import status

    project = find_project()
    registry = load_registry(project)
    rows = [(registry[line.dataset], line) for line in status(project)]
    if as_json:
        print_json([{**_summary(record), "state": line.state, "here_bytes": line.here_bytes} for record, line in rows])
        return
    print_table(
        ("name", "size", "license", "selected by", "state", "title"),
        [
            (record.name, _size(record), record.license.id, _selected_by(record), line.state, record.title)
            for record, line in rows
        ],
        right=("size",),
        squeeze="title",
    )


@app.command("show")
def show_dataset(name: Name, as_json: AsJson = False) -> None:
    """Show the record of one dataset, and how much of it is here."""
    from backbeat.datasets.registry import load_record
    from backbeat.datasets.status import status

    project = find_project()
    record = load_record(project, name)
    (line,) = status(project, name)
    values: dict[str, Any] = record.model_dump(mode="json", exclude_none=not as_json)
    if as_json:
        print_json({**values, "state": line.state, "here_bytes": line.here_bytes})
    else:
        typer.echo(yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100), nl=False)
        typer.echo(f"state: {line.text}")


@app.command("status")
def show_status(names: Names = None, as_json: AsJson = False) -> None:
    """Show for each dataset whether it is absent, partial, present, verified, stale or corrupt, and where it is."""
    from backbeat.datasets.status import status

    found = status(find_project(), *(names or ()))
    if as_json:
        print_json(found)
        return
    print_table(
        ("dataset", "size", "priority", "license", "state"),
        [
            (line.dataset, "~" * line.approximate + bytes_text(line.size_bytes), line.priority, line.license, line.text)
            for line in found
        ],
        right=("size", "priority"),
        squeeze="license",
    )
    here_bytes = sum(line.here_bytes for line in found)
    for where in sorted({str(line.where) for line in found if line.where is not None}):
        typer.echo(f"{bytes_text(here_bytes)} in {where}")


@app.command("verify")
def verify_datasets(
    names: Names = None,
    quick: Annotated[bool, typer.Option("--quick", help="Compare sizes and times only; hash nothing.")] = False,
    jobs: Annotated[int | None, typer.Option(help="Files at the same time. Default: one per processor.", min=1)] = None,
    as_json: AsJson = False,
) -> None:
    """Hash the files that are here and compare with the records; exits with 1 if one is corrupt."""
    from backbeat.datasets.status import status
    from backbeat.datasets.verify import verify

    project = find_project()
    here = [line.dataset for line in status(project) if line.here_bytes]
    verdicts = verify(project, *(names or here), quick=quick, jobs=jobs)
    if as_json:
        print_json(verdicts)
    elif not verdicts:
        typer.echo("nothing is here to be verified", err=True)
    else:
        for verdict in verdicts:
            typer.echo(f"{verdict.dataset}/{verdict.path}: {verdict.text}")
    corrupt = dict.fromkeys(verdict.dataset for verdict in verdicts if verdict.state == "corrupt")
    if corrupt:
        typer.echo(f"next: backbeat datasets download --verify {' '.join(corrupt)}", err=True)
        raise typer.Exit(1)


for module in (dataset_downloads, dataset_care, dataset_content, dataset_licenses, dataset_pack):
    module.register(app)


def _summary(record: Record) -> dict[str, object]:
    return {
        "name": record.name,
        "title": record.title,
        "size_bytes": record.expected_bytes,
        "license": record.license.id,
        "phase": record.phase,
        "collections": record.collections,
        "excluded": record.excluded,
    }


def _size(record: Record) -> str:
    about = "~" if record.size_bytes is None and record.approximate_size is not None else ""
    return about + bytes_text(record.expected_bytes)


def _selected_by(record: Record) -> str:
    return ", ".join([*([record.phase] if record.phase else []), *record.collections])
