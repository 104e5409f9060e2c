"""`backbeat library curate`: the best samples that differ from each other, as files for a sampler."""

from __future__ import annotations

from typing import Annotated

import typer

from backbeat.cli.printing import AsJson, bytes_text, print_json, print_table
from backbeat.config import find_project


def register(app: typer.Typer) -> None:
    """Add the command of this module to the group `library`."""
    app.command("curate")(curate_samples)


def curate_samples(
    explain: Annotated[
        str | None, typer.Option(metavar="SAMPLE", help="Show what each rule says of one sample, and change nothing.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes. Default: one per processor.")] = None,
    as_json: AsJson = False,
) -> None:
    """Score samples, choose the best that differ from each other, and make files of them for the sampler."""
    if explain is not None:
        _explain(explain, as_json=as_json)
        return
    from backbeat.library.curate import curate

    done = curate(find_project(), workers=workers)
    if as_json:
        print_json(done)
        return
    counts = ("candidates", "chosen", "too low", "too similar", "no room", "rejected", "mean")
    print_table(
        ("class", *counts),
        [
            (
                one.sound_class,
                *(one.candidates, one.chosen, one.below_threshold, one.too_similar, one.over_quota, one.rejected),
                f"{one.mean_score:.1f}",
            )
            for one in done.classes
        ],
        right=counts,
    )
    typer.echo(f"{done.chosen:,} files of {bytes_text(done.size_bytes)} in production, {done.made:,} of them made now")


def _explain(sample: str, *, as_json: bool) -> None:
    from backbeat.library.curate import explain

    rules, row = explain(find_project(), sample)
    if as_json:
        print_json({"score": row["score"], "state": row["state"], "reason": row["reason"], "rules": rules})
        return
    print_table(
        ("rule", "value", "good", "bad", "points", "of"),
        [
            (
                one.rule.name,
                "none" if one.value is None else f"{float(one.value):g}",
                *(f"{value:g}" for value in (one.rule.good, one.rule.bad, one.points, one.rule.points)),
            )
            for one in rules
        ],
        right=("value", "good", "bad", "points", "of"),
    )
    typer.echo(f"{sum(one.points for one in rules):.1f} points; {row['state']}: {row['reason']}")
