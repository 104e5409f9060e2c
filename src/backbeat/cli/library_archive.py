"""`backbeat library archive`, `restore`: originals as FLAC files that give the identical file back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backbeat.cli.printing import AsJson, bytes_text, print_json
from backbeat.config import find_project

if TYPE_CHECKING:
    from backbeat.library.archive import Archived

# Of what was not done, the output names so many.
MOST_NAMED = 20


def register(app: typer.Typer) -> None:
    """Add the commands of this module to the group `library`."""
    app.command("archive")(archive_samples)
    app.command("restore")(restore_samples)


def archive_samples(
    remove_originals: Annotated[
        bool,
        typer.Option("--remove-originals", help="Remove the WAV files that the archive has; a dry run without --yes."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do remove them: each one is proven again first.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes. Default: one per processor.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make FLAC files of originals and prove each; or, with --remove-originals, let the archive be all there is."""
    project = find_project()
    if remove_originals:
        _remove(project, really=yes, as_json=as_json)
        return
    from backbeat.library.archive import archive

    archived = archive(project, workers=workers)
    if as_json:
        print_json(archived)
    else:
        _print_archived(archived)


def restore_samples(
    samples: Annotated[
        list[str] | None, typer.Argument(help="Names of samples, as in `backbeat library find`.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that only the archive has.")] = False,
    to: Annotated[Path | None, typer.Option(help="A folder to write to instead of their own place.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write originals out of the archive: identical to the byte, in place of no other file."""
    from backbeat.library.restore import restore

    if bool(samples) == everything:
        raise typer.BadParameter("name samples, or say --all")
    done = restore(find_project(), None if everything else samples, to=to)
    refused = [one for one in done if one.action == "refused"]
    if as_json:
        print_json(done)
    else:
        restored = [one for one in done if one.action == "restored"]
        size = bytes_text(sum(one.size_bytes for one in restored))
        typer.echo(
            f"{len(restored):,} restored: {size}; {len(done) - len(restored) - len(refused):,} were there already"
        )
        if unlisted := sum(one.unlisted for one in done):
            typer.echo(f"{unlisted:,} lines taken out of data/library/ledger.csv: commit it", err=True)
        for one in refused[:MOST_NAMED]:
            typer.echo(f"not restored: {one.sample}: {one.reason}", err=True)
        if len(refused) > MOST_NAMED:
            typer.echo(f"and {len(refused) - MOST_NAMED:,} more", err=True)
    if refused:
        raise typer.Exit(1)


def _print_archived(archived: Archived) -> None:
    if not archived.files:
        typer.echo(f"nothing is archived; {archived.kept:,} files stay as they are")
        return
    ratio = archived.flac_bytes / max(1, archived.size_bytes)
    saved = bytes_text(archived.size_bytes - archived.flac_bytes)
    typer.echo(
        f"{archived.files:,} files of {bytes_text(archived.size_bytes)} as FLAC of {bytes_text(archived.flac_bytes)}: "
        f"{saved} saved, a ratio of {ratio:.2f}; {archived.made:,} made now, {archived.kept:,} stay as they are"
    )
    if archived.only:
        typer.echo(f"{archived.only:,} of them are only in the archive")
    typer.echo(f"--remove-originals would free up to {bytes_text(archived.removable_bytes)}")


def _remove(project: Path, *, really: bool, as_json: bool) -> None:
    from backbeat.library.removal import remove_originals

    removals = remove_originals(project, dry_run=not really)
    if as_json:
        print_json(removals)
        return
    kept = [one for one in removals if one.action == "kept"]
    for one in kept[:MOST_NAMED]:
        typer.echo(f"kept: {one.sample}: {one.reason}", err=True)
    if len(kept) > MOST_NAMED:
        typer.echo(f"and {len(kept) - MOST_NAMED:,} more are kept", err=True)
    freed = bytes_text(sum(one.freed_bytes for one in removals))
    count = f"{len(removals) - len(kept):,} originals"
    if really:
        typer.echo(f"{count} removed, {freed} freed")
        typer.echo(
            "next: dvc repro data/library/dvc.yaml, commit data/library/ledger.csv, backbeat cloud push", err=True
        )
    else:
        typer.echo(f"{count} would be removed, {freed} freed: a dry run; --yes removes them, each after it was proven")
