"""`backbeat library scan` and `duplicates`: what there is, and what of it is there more than once."""

from __future__ import annotations

from typing import Annotated

import typer

from backbeat.cli.printing import AsJson, bytes_text, print_json, print_table
from backbeat.config import find_project

Workers = Annotated[int | None, typer.Option("--workers", min=1, help="Processes. Default: one per processor.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module to the group `library`."""
    app.command("scan")(scan)
    app.command("duplicates")(duplicates)


def scan(
    rehash: Annotated[bool, typer.Option("--rehash", help="Read every file again, changed or not.")] = False,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """List every sample of every source, with its hashes, format, level and faults; read only what is new."""
    from backbeat.library.scan import scan as run

    found = run(find_project(), workers=workers, rehash=rehash)
    if as_json:
        print_json(found)
        return
    print_table(
        ("files", "read now", "unreadable", "archived", "hours", "size"),
        [
            (
                f"{found.files:,}",
                f"{found.read:,}",
                found.unreadable,
                found.archived,
                f"{found.duration_s / 3600:.2f}",
                bytes_text(found.size_bytes),
            )
        ],
        right=("files", "read now", "unreadable", "archived", "hours", "size"),
    )
    if found.unreadable:
        typer.echo("next: backbeat library find --state unreadable, once the catalog is made", err=True)
    if found.vanished:
        typer.echo(f"{found.vanished:,} files were gone before they were read; scan again", err=True)


def duplicates(workers: Workers = None, as_json: AsJson = False) -> None:
    """Group the files that are one sound, and say which of each group is kept; nothing is deleted."""
    from backbeat.library.duplicates import duplicates as run

    found = run(find_project(), workers=workers)
    if as_json:
        print_json(found)
        return
    rows = [(tier, f"{count:,}", bytes_text(found.size_bytes[tier])) for tier, count in found.files.items()]
    print_table(("like the keeper", "files", "size"), rows, right=("files", "size"))
    typer.echo(f"{found.groups:,} groups; {found.pairs:,} pairs of sounds compared")
    if found.groups:
        typer.echo("next: backbeat library find --state duplicate, once the catalog is made", err=True)
