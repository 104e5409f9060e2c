"""`backbeat verify`: every object that the pointers need, here and in the bucket."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Annotated

import typer

from backbeat.cli.printing import AsJson, print_json, print_table
from backbeat.config import find_project

# Beyond so many rows a table is not read.
MOST_ROWS = 40


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("verify")(verify_objects)


def verify_objects(
    targets: Annotated[
        list[str] | None, typer.Argument(help="Datasets, stages or paths; without any, everything that is versioned.")
    ] = None,
    remote: Annotated[bool, typer.Option("--remote", help="Look into the bucket, too.")] = False,
    repair: Annotated[bool, typer.Option("--repair", help="Heal what is wrong from a side that is whole.")] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Hash what is unchanged since it was proven; read all of the bucket.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Prove what is in DVC's cache, the workspace and the bucket; exits with 0 only if all of it is right."""
    from backbeat.cloud.verify import verify

    found = verify(find_project(), targets or (), remote=remote, repair=repair, full=full)
    if as_json:
        rows = [{**dataclasses.asdict(one), "is_right": one.is_right} for one in found.checked]
        print_json(
            {
                "checked": rows,
                "dangling": found.dangling,
                "repaired": [one.path for one in found.repaired],
                "quarantined": found.quarantined,
                "obstacle": None if found.obstacle is None else str(found.obstacle),
            }
        )
    else:
        for path in found.quarantined:
            typer.echo(f"put aside: {path}", err=True)
        if found.wrong:
            print_table(
                ("path", "cache", "workspace", "bucket"),
                [(one.path, one.cache, one.workspace, one.bucket) for one in found.wrong[:MOST_ROWS]],
                squeeze="path",
            )
            if len(found.wrong) > MOST_ROWS:
                typer.echo(f"and {len(found.wrong) - MOST_ROWS:,} more")
        for link in found.dangling:
            typer.echo(f"{link}: a link to nothing")
        counts = Counter("right" if one.is_right else "wrong" for one in found.checked)
        repaired = f", {len(found.repaired):,} of them repaired" if found.repaired else ""
        typer.echo(f"{counts['right']:,} right{repaired}; {counts['wrong']:,} wrong")
    if found.wrong:
        if found.obstacle is not None and not as_json:
            typer.echo(str(found.obstacle), err=True)
        stages = " ".join(dict.fromkeys(one.stage for one in found.wrong))
        step = f"what no side has whole: dvc repro {stages}" if repair else "backbeat verify --remote --repair"
        typer.echo(f"next: {step}", err=True)
    if found.dangling:
        typer.echo("next: backbeat datasets download", err=True)
    if found.wrong or found.dangling:
        raise typer.Exit(1)
