"""`backbeat datasets stats` and `stream`: what is in a dataset."""

from __future__ import annotations

import importlib.util
import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backbeat.cli.printing import AsJson, bytes_text, print_json, print_table
from backbeat.config import find_project

if TYPE_CHECKING:
    from backbeat.datasets.stats import Durations, Stats

PLOTS_FOLDER = "reports/datasets"

# Of the classes of one kind; the rest is in --json and, in part, in the picture.
SHOWN_CLASSES = 12

Name = Annotated[str, typer.Argument(help="The name of a dataset, as `backbeat datasets list` shows it.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `backbeat datasets`."""
    app.command("stats")(show_stats)
    app.command("stream")(stream_dataset)


def show_stats(
    name: Name,
    as_json: AsJson = False,
    plot: Annotated[
        Path | None, typer.Option(help=f"Draw them, too: a PNG, by default in {PLOTS_FOLDER}.", show_default=False)
    ] = None,
) -> None:
    """Count what a dataset that is here holds: files, hours, rates, lengths, classes; a table and a plot."""
    from backbeat.datasets.stats import stats

    project = find_project()
    found = stats(project, name)
    # The base installation counts; drawing takes matplotlib, and without being asked for it may be left out.
    drawn = plot is not None or importlib.util.find_spec("matplotlib") is not None
    picture = plot or project / PLOTS_FOLDER / f"{name}.png"
    if drawn:
        from backbeat.datasets.stats_plot import draw_stats

        draw_stats(picture, found)
    if as_json:
        print_json(found)
        return
    _print_stats(found)
    if drawn:
        typer.echo(f"plot: {picture}")


def stream_dataset(
    name: Name,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many items.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the items of a dataset without downloading it; with --json one object in each line.

    In Python, `backbeat.datasets.stream.stream` yields them with their bytes.
    """
    from backbeat.datasets.stream import stream

    items = itertools.islice(stream(find_project(), name), limit)
    if as_json:
        for item in items:
            typer.echo(json.dumps({"name": item.name, "size_bytes": item.size_bytes}))
    else:
        rows = [(item.name, bytes_text(item.size_bytes)) for item in items]
        print_table(["name", "size"], rows, right=["size"])


def _print_stats(found: Stats) -> None:
    rows = [(kind, f"{amount.files:,}", bytes_text(amount.size_bytes)) for kind, amount in found.kinds.items()]
    rows.append(("all", f"{found.files:,}", bytes_text(found.size_bytes)))
    print_table(["kind", "files", "size"], rows, right=["files", "size"])
    lengths = {"audio": found.audio, "midi": found.midi}
    length_rows = [_lengths(kind, durations) for kind, durations in lengths.items() if durations is not None]
    if length_rows:
        headers = ["length", "files", "in all", "shortest", "median", "mean", "longest"]
        typer.echo()
        print_table(headers, length_rows, right=headers[1:])
    formats = [
        *(("sample rate", f"{rate:,} Hz", f"{count:,}") for rate, count in found.sample_rates_hz.items()),
        *(("sample type", kind, f"{count:,}") for kind, count in found.sample_types.items()),
        *(("channels", str(number), f"{count:,}") for number, count in found.channels.items()),
        *((f"array {array.name}", f"{array.shape} {array.dtype}", "1") for array in found.arrays),
    ]
    if formats:
        typer.echo()
        print_table(["format", "is", "files"], formats, right=["files"])
    for title, counts in found.classes.items():
        shown = list(counts.items())[:SHOWN_CLASSES]
        rest = list(counts.values())[SHOWN_CLASSES:]
        shown += [(f"({len(rest)} others)", sum(rest))] if rest else []
        typer.echo()
        print_table([title, "count"], [(label, f"{count:,}") for label, count in shown], right=["count"])
    if found.unreadable:
        typer.echo(f"{found.unreadable:,} files cannot be read; the first of them:", err=True)
        for line in found.unreadable_names:
            typer.echo(f"  {line}", err=True)


def _lengths(kind: str, durations: Durations) -> tuple[str, ...]:
    return (
        kind,
        f"{durations.count:,}",
        f"{durations.total_s / 3600:,.2f} h",
        *(f"{value_s:,.2f} s" for value_s in (durations.min_s, durations.median_s, durations.mean_s, durations.max_s)),
    )
