"""`backbeat verify`: every object that the pointers need, here and in the bucket."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from backbeat.cli.cloud_transfer import agreement
from backbeat.cli.printing import AsJson, print_json, print_table
from backbeat.config import find_project

if TYPE_CHECKING:
    from backbeat.cloud.verify import Verified

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
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Prove what is in DVC's cache, the workspace and the bucket; exits with 0 only if all of it is right."""
    from backbeat.cloud.pointers import as_targets
    from backbeat.cloud.verify import verify

    project = find_project()
    found = verify(
        project,
        as_targets(project, targets),
        remote=remote,
        repair=repair,
        full=full,
        agree=agreement(as_json=as_json, yes=yes),
    )
    if as_json:
        rows = [{**dataclasses.asdict(one), "is_right": one.is_right} for one in found.checked]
        print_json(
            {
                "checked": rows,
                "never_made": found.never_made,
                "unversioned": found.unversioned,
                "dangling": found.dangling,
                "repaired": [one.path for one in found.repaired],
                "quarantined": found.quarantined,
                "obstacle": None if found.obstacle is None else str(found.obstacle),
                "was_declined": found.was_declined,
            }
        )
    else:
        _print(found)
    for step in _next_steps(found, repair=repair):
        typer.echo(f"next: {step}", err=True)
    if found.wrong or found.dangling or found.never_made or found.was_declined:
        raise typer.Exit(1)


def _print(found: Verified) -> None:
    for path in found.quarantined:
        typer.echo(f"put aside: {path}", err=True)
    rows: list[tuple[str | None, ...]] = [(one.path, one.cache, one.workspace, one.bucket) for one in found.wrong]
    rows += [(one.path, "never made", None, None) for one in found.never_made]
    if rows:
        print_table(("path", "cache", "workspace", "bucket"), rows[:MOST_ROWS], squeeze="path")
        _print_rest(rows)
    for link in found.dangling:
        typer.echo(f"{link}: a link to nothing")
    for extra in found.unversioned[:MOST_ROWS]:
        typer.echo(f"not versioned: {extra}", err=True)
    _print_rest(found.unversioned)
    if found.was_declined:
        typer.echo("nothing was moved", err=True)
        if not found.checked:
            return
    counts = Counter("right" if one.is_right else "wrong" for one in found.checked)
    repaired = f", {len(found.repaired):,} of them repaired" if found.repaired else ""
    never_made = f"; {len(found.never_made):,} never made" if found.never_made else ""
    typer.echo(f"{counts['right']:,} right{repaired}; {counts['wrong']:,} wrong{never_made}")
    if found.obstacle is not None:
        typer.echo(str(found.obstacle), err=True)


def _print_rest(lines: Sequence[object]) -> None:
    if len(lines) > MOST_ROWS:
        typer.echo(f"and {len(lines) - MOST_ROWS:,} more", err=True)


def _next_steps(found: Verified, *, repair: bool) -> Iterator[str]:
    # Only the workspace: the bytes are nowhere else, and repairing is not what somebody's work needs.
    changed = [
        one for one in found.wrong if one.workspace == "changed" and one.cache == "ok" and one.bucket in {"ok", None}
    ]
    others = [one for one in found.wrong if one not in changed]
    if changed and found.obstacle is None:
        yield f"to keep what was changed: dvc commit; to give it up: dvc checkout --force {changed[0].path}"
    if others:
        stages = " ".join(dict.fromkeys(one.stage for one in others))
        yield f"what no side has whole: dvc repro {stages}" if repair else "backbeat verify --remote --repair"
    if found.never_made:
        yield f"dvc repro {' '.join(dict.fromkeys(one.stage for one in found.never_made))}"
    if found.dangling:
        yield "backbeat datasets download"
