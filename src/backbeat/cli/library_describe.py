"""`backbeat library describe`, `descriptors`, `learn-classes`: what samples are, measured."""

from __future__ import annotations

from typing import Annotated

import typer

from backbeat.cli.printing import AsJson, print_json, print_table
from backbeat.config import find_project

# Of what went wrong, a message names so many.
MOST_NAMED = 5


def register(app: typer.Typer) -> None:
    """Add the commands of this module to the group `library`."""
    app.command("describe")(describe_sounds)
    app.command("descriptors")(show_descriptors)
    app.command("learn-classes")(learn_classes)


def describe_sounds(
    workers: Annotated[int | None, typer.Option(min=1, help="Processes. Default: one per processor.")] = None,
    as_json: AsJson = False,
) -> None:
    """Describe every sound of the scan: one-shot or loop, class, tempo, key, and all descriptors."""
    from backbeat.library.describe import describe

    done = describe(find_project(), workers=workers)
    if as_json:
        print_json(done)
        return
    reused = done.sounds - done.described
    print_table(
        ("sounds", "described now", "re-used", "failed", "one-shots", "loops", "with tempo", "with key"),
        [
            tuple(
                f"{count:,}"
                for count in (
                    *(done.sounds, done.described, reused, done.failed),
                    *(done.sounds - done.failed - done.loops, done.loops, done.with_tempo, done.with_key),
                )
            )
        ],
    )
    print_table(("class", "sounds"), [(name, f"{count:,}") for name, count in done.by_class.items()], right=("sounds",))
    by = ", ".join(f"{count:,} by {source}" for source, count in done.by_source.items())
    if by:
        typer.echo(f"classes: {by}")
    for sample, why in list(done.errors.items())[:MOST_NAMED]:
        typer.echo(f"not described: {sample}: {why}", err=True)
    if len(done.errors) > MOST_NAMED:
        typer.echo(f"and {len(done.errors) - MOST_NAMED:,} more", err=True)


def show_descriptors(as_json: AsJson = False) -> None:
    """Show every descriptor: its unit, its range, what it is, and after whom."""
    from backbeat.audio.descriptors import DESCRIPTORS

    if as_json:
        print_json(list(DESCRIPTORS.values()))
        return
    for entry in DESCRIPTORS.values():
        columns = entry.columns[0] if len(entry.columns) == 1 else f"{entry.columns[0]} … {entry.columns[-1]}"
        typer.echo(f"{columns}  [{entry.unit}; {entry.range}]\n    {entry.definition}\n    {entry.source}")


def learn_classes(as_json: AsJson = False) -> None:
    """Learn a model of drum classes from the sounds whose names, or notes, tell their class."""
    from backbeat.library.class_model import MODEL_FILE
    from backbeat.library.learn import learn_classes as learn

    learned = learn(find_project())
    if as_json:
        print_json(learned)
        return
    print_table(
        ("class", "sounds", "found again"),
        [(name, f"{learned.by_class[name]:,}", f"{share:.0%}") for name, share in learned.recall.items()],
        right=("sounds", "found again"),
    )
    typer.echo(
        f"{MODEL_FILE}: {learned.accuracy:.1%} of {learned.sounds:,} sounds in cross-validation, "
        f"{learned.accuracy_by_rule:.1%} by rule"
    )
    typer.echo("next: backbeat library describe", err=True)
