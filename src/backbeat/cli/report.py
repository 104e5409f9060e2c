"""`backbeat report`: one HTML page about results, to look at and to listen to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from backbeat.cli.printing import AsJson, bytes_text, print_json
from backbeat.config import find_project

Names = Annotated[
    list[str] | None,
    typer.Argument(help="Revisions, experiments or `workspace`; the first is shown in detail. Default: workspace."),
]
Against = Annotated[
    str | None, typer.Option(help="What they are compared with. Default: main, or HEAD where there is none.")
]
Every = Annotated[bool, typer.Option("--experiments", help="Compare every experiment of this clone, too.")]
Output = Annotated[
    Path | None, typer.Option("-o", "--output", help="The file to write. Default: reports/report.html.", dir_okay=False)
]
Restricted = Annotated[
    bool,
    typer.Option("--embed-restricted", help="Also put data into the page that its license forbids to hand on."),
]


def register(app: typer.Typer) -> None:
    """Add the command of this module to the program."""
    app.command("report")(report)


def report(
    names: Names = None,
    against: Against = None,
    experiments: Every = False,
    output: Output = None,
    embed_restricted: Restricted = False,
    as_json: AsJson = False,
) -> None:
    """Write one HTML page: comparison, curves, scores, and the worst sequences with their sound."""
    from backbeat.experiments.results import default_base
    from backbeat.report.make import make_report

    project = find_project()
    page = make_report(
        project,
        names or (),
        against=against or default_base(project),
        every_experiment=experiments,
        output=output,
        embed_restricted=embed_restricted,
    )
    if as_json:
        print_json(page)
        return
    typer.echo(f"{page.path}  {bytes_text(page.size_bytes)}, {page.sequences} sequences")
    for warning in page.warnings:
        typer.echo(f"warning: {warning}", err=True)
    for one in page.absent:
        typer.echo(f"no {one.part}: {one.reason}" + (f" next: {one.next_step}" if one.next_step else ""), err=True)
