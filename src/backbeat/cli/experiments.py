"""`backbeat experiments`: presets, runs, comparisons and repetitions of experiments."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from backbeat.cli.printing import AsJson, print_json, print_table
from backbeat.config import find_project
from backbeat.errors import ExperimentError

if TYPE_CHECKING:
    from pathlib import Path

    from backbeat.experiments.compare import Comparison
    from backbeat.experiments.results import Result

# Equal seeds give equal scores on one machine; on another one they differ by rounding, which training enlarges.
TOLERANCE = 0.005

app = typer.Typer(no_args_is_help=True, help="Experiments: run them from presets, compare them, repeat them.")


@app.command("list")
def list_experiments(as_json: AsJson = False) -> None:
    """Show the presets, and the experiments of this clone: finished, queued, running, failed."""
    from backbeat.experiments.listing import listed
    from backbeat.experiments.presets import load_presets
    from backbeat.experiments.tables import assigned_text

    project = find_project()
    presets, (found, unreadable) = load_presets(project), listed(project)
    _warn(unreadable)
    if as_json:
        print_json({"presets": presets, "experiments": found})
        return
    print_table(
        ("preset", "what differs", "why"),
        [(preset.name, "\n".join(assigned_text(preset.changes)), preset.reason) for preset in presets],
    )
    typer.echo()
    print_table(
        ("experiment", "of", "state", "test onset F1"),
        [(one.name, (one.baseline or "")[:7], one.state, one.onset_f1) for one in found],
        right=("test onset F1",),
    )
    if not found:
        typer.echo("no experiments yet; next: backbeat experiments run tiny", err=True)


@app.command("run")
def run_experiments(
    presets: Annotated[list[str], typer.Argument(help="Presets: files of configs/experiments/, without .yaml.")],
    given: Annotated[
        list[str] | None,
        typer.Option("--set-param", "-S", metavar="KEY=VALUE", help="Another change, as for dvc exp run; repeatable."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="What to call it. Default: like the preset.")] = None,
    queue: Annotated[
        bool, typer.Option("--queue", help="Only put them into DVC's queue; with --jobs, run it.")
    ] = False,
    jobs: Annotated[int | None, typer.Option(help="How many run at once. Default: 1.", min=1)] = None,
) -> None:
    """Run presets as experiments of DVC: one at once, several one after the other through its queue."""
    from backbeat.experiments.run import enqueue, follow, plan, run

    project = find_project()
    planned = plan(project, presets, given or [], name)
    for one in planned:
        typer.echo(f"{one.name}: {' '.join(one.overrides)}", err=True)
    if not queue and jobs is None and len(planned) == 1:
        run(project, planned[0])
    else:
        queued = enqueue(project, planned)
        if queue and jobs is None:
            typer.echo(f"next: PYTHONPATH=src dvc queue start --jobs {len(queued)}", err=True)
            return
        try:
            follow(project, queued, jobs=jobs or 1, say=lambda line: typer.echo(line, err=True))
        except KeyboardInterrupt:
            typer.echo(
                "\nDVC's queue goes on without this program: dvc queue status and dvc queue logs NAME show how far it "
                "is, dvc queue stop --kill ends it",
                err=True,
            )
            raise typer.Exit(130) from None
    names = " ".join(one.name for one in planned)
    typer.echo(f"next: backbeat experiments compare {names}; dvc exp apply {planned[0].name} takes it over", err=True)


@app.command("compare")
def compare_experiments(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Experiments, Git revisions, or workspace. Default: every experiment of this clone."),
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="What they are compared with. Default: main, or HEAD where there is none.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Every metric, not only the four that are looked at first.")
    ] = False,
    markdown: Annotated[bool, typer.Option("--md", help="Print Markdown, as GitHub shows it.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV: every column, every digit.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compare experiments and revisions: what was changed, the scores, the data, the time and the cost."""
    from backbeat.experiments.compare import compare, headline
    from backbeat.experiments.results import default_base, read_result
    from backbeat.experiments.tables import csv_text
    from backbeat.experiments.tables import markdown as markdown_text

    if markdown + as_csv + as_json > 1:
        raise ExperimentError("--md, --csv and --json are one of three", next_step="choose one of them")
    project = find_project()
    base = read_result(project, against or default_base(project))
    results, left_out = _results(project, names, base)
    comparison = compare(results, base)
    metrics = comparison.metrics if every else headline(comparison)
    if as_json:
        print_json(comparison)
    elif as_csv:
        typer.echo(csv_text(comparison), nl=False)
    elif markdown:
        typer.echo(markdown_text(comparison, metrics), nl=False)
    else:
        _print_scores(comparison, metrics, upright=every)
        _print_circumstances(comparison)
        if results:
            _print_changes(comparison)
    _warn(left_out if markdown or as_json else [*left_out, *comparison.warnings])
    if not results:
        typer.echo(f"nothing to compare with {base.name}; next: backbeat experiments run tiny", err=True)


@app.command("verify")
def verify_experiment(
    name: Annotated[str, typer.Argument(help="An experiment or a Git revision.")],
    tolerance: Annotated[float, typer.Option(help="How far a score may be from the committed one.", min=0)] = TOLERANCE,
    as_json: AsJson = False,
) -> None:
    """Repeat a commit from its inputs in a temporary clone, and compare; exits with 1 if it comes out differently."""
    from backbeat.experiments.verify import verify

    found = verify(find_project(), name, tolerance=tolerance)
    if as_json:
        print_json({**dataclasses.asdict(found), "reproduced": found.reproduced, "verdict": found.verdict})
    else:
        rows = [(one.path, one.outcome, one.note) for one in found.artifacts]
        print_table(("artifact", "repeated", "note"), rows)
        typer.echo(f"\n{name} ({found.revision[:7]}) {found.verdict}")
    for note in found.notes:
        typer.echo(f"note: {note}", err=True)
    if not found.reproduced:
        raise typer.Exit(1)


def _results(project: Path, names: list[str] | None, base: Result) -> tuple[list[Result], list[str]]:
    """Return what is to be compared, without what it is compared with, and a sentence on each that is left out."""
    from backbeat.experiments.results import read_experiments, read_result

    if not names:
        return read_experiments(project)
    found = [read_result(project, name) for name in dict.fromkeys(names)]
    same = [one for one in found if one.revision == base.revision]
    said = [f"{one.name} is {base.name}, which it would be compared with, and has no row of its own" for one in same]
    return [one for one in found if one not in same], said


def _warn(sentences: Iterable[str]) -> None:
    for sentence in sentences:
        typer.echo(f"warning: {sentence}", err=True)


def _print_scores(comparison: Comparison, metrics: tuple[str, ...], *, upright: bool) -> None:
    from backbeat.experiments.tables import difference, legend, score

    against = comparison.against
    columns = [(against.name, [score(against, name) for name in metrics])]
    for row in comparison.rows:
        cells = [f"{score(row.result, name)} {difference(row, name)}".strip() for name in metrics]
        columns.append((row.result.name, cells))
    if upright:
        headers = ["metric", *(name for name, _ in columns)]
        rows = [list(row) for row in zip(metrics, *(cells for _, cells in columns), strict=True)]
    else:
        # The set that was tested above the metric: four columns fit into a narrow terminal.
        headers = ["experiment", *(name.replace(".", "\n", 1) for name in metrics)]
        rows = [[name, *cells] for name, cells in columns]
    print_table(headers, rows, right=headers[1:])
    typer.echo(f"{legend(comparison)}\n")


def _print_circumstances(comparison: Comparison) -> None:
    from backbeat.experiments.tables import CIRCUMSTANCES, circumstances

    results = [comparison.against, *(row.result for row in comparison.rows)]
    rows = [(result.name, *circumstances(result)) for result in results]
    print_table(("experiment", *CIRCUMSTANCES), rows, right=("cost",))


def _print_changes(comparison: Comparison) -> None:
    from backbeat.experiments.tables import changes

    typer.echo()
    rows = [(row.result.name, "\n".join(changes(comparison, row)) or "nothing") for row in comparison.rows]
    print_table(("experiment", f"changed since {comparison.against.name}"), rows)
