"""`backbeat storage`: the disk where the bytes are."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backbeat.cli.dataset_care import on_terminal
from backbeat.cli.printing import AsJson, bytes_text, print_json, print_table
from backbeat.config import find_project
from backbeat.errors import BackbeatError, ConfigError

if TYPE_CHECKING:
    from backbeat.remote.bucket import StoredObject
    from backbeat.storage.setup import Done, Plan
    from backbeat.storage.status import Status

# What is there twice, in a table for people.
MOST_SHOWN = 5
# Of the tiers: the working tree and the cache.
ALWAYS_SHOWN = 2

app = typer.Typer(no_args_is_help=True, help="The disk where the bytes are: set up, look, make room.")

Yes = Annotated[bool, typer.Option("--yes", help="Ask nothing.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would go; remove nothing.")]


@app.command("setup")
def set_up_disk(
    disk: Annotated[Path, typer.Option("--disk", help="A folder on the disk, such as /mnt/hdd/backbeat.")],
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Put DVC's cache and the staging store on a disk, and move there what is elsewhere. Killed, it can be repeated."""
    from backbeat.storage.setup import plan, set_up

    project = find_project()
    planned = plan(project, disk)
    if not planned.steps:
        if as_json:
            print_json({"plan": planned, "done": None})
        else:
            typer.echo(f"it is so already: the cache is {planned.cache}")
        return
    if not as_json:
        _print_plan(planned, project)
    if not yes:
        if not on_terminal():
            raise ConfigError(
                "there is nobody to ask", expected="--yes", got="no terminal", next_step="repeat it with --yes"
            )
        typer.confirm("go on?", abort=True, err=True)
    done = set_up(project, planned)
    if as_json:
        print_json({"plan": planned, "done": done})
    else:
        _print_done(done)
    if done.left:
        raise typer.Exit(1)


def _print_done(done: Done) -> None:
    before = f", {bytes_text(done.there_before_bytes)} were there" if done.there_before_bytes else ""
    typer.echo(f"copied {bytes_text(done.copied_bytes)}{before}; {done.links:,} links re-pointed")
    for gone in done.removed:
        typer.echo(f"removed {gone}")
    typer.echo(f"the cache is {done.cache}")
    for stuck, why in done.stuck:
        typer.echo(f"note: {stuck} cannot be removed ({why}); nothing in it is needed any more", err=True)
    for left in done.left:
        typer.echo(f"next: repeat it: {left} was written to meanwhile", err=True)
    typer.echo(f"next: . ./{done.environment_file}    (other programs' caches go to this disk, too)", err=True)


def _print_plan(planned: Plan, project: Path) -> None:
    place = planned.disk.place
    speed = planned.disk.read_bytes_per_s
    reading = (
        planned.disk.note
        if speed is None
        else f"{bytes_text(speed)}/s{f' ({planned.disk.note})' if planned.disk.note else ''}"
    )
    rows = [
        ("disk", f"{place.mount_point} ({place.filesystem}, {place.device})"),
        ("free", f"{bytes_text(place.free_bytes)} of {bytes_text(place.total_bytes)}"),
        ("links", "hard links and symbolic links work"),
        ("read, measured", reading),
        ("to be copied", bytes_text(planned.missing_bytes)),
    ]
    for name, value in rows:
        typer.echo(f"{name:<16}{value}")
    if not planned.disk.other_than_project:
        typer.echo("note: this is the file system of the working tree. Is the disk mounted?", err=True)
    for source in planned.sources:
        if not Path(source).is_relative_to(project.resolve()):
            typer.echo(f"note: {source} is removed afterwards. Does another clone use it?", err=True)
    for step in planned.steps:
        typer.echo(f"- {step}")


@app.command("status")
def show_status(
    remote: Annotated[bool, typer.Option("--remote/--no-remote", help="Ask the bucket, too.")] = True,
    as_json: AsJson = False,
) -> None:
    """Show what is where, what is there twice, and which artifacts are safe in the remote."""
    from backbeat.cloud.whereabouts import listing_of, whereabouts
    from backbeat.remote.bucket import open_bucket
    from backbeat.storage.status import status

    project = find_project()
    bucket, listing, why, where = None, None, "not asked", None
    if remote:
        try:
            bucket = open_bucket(project, tries=2)
            where = bucket.settings.url
            listing = listing_of(bucket)
        except BackbeatError as error:
            why = f"{error.what}{f' ({error.got})' if error.got else ''}"
    here = status(project)
    artifacts = whereabouts(project, listing, why, bucket)
    stored = None if listing is None else {"url": where, "objects": len(listing), "size_bytes": _total(listing)}
    if as_json:
        print_json({"local": here, "remote": stored, "why_unknown": None if stored else why, "artifacts": artifacts})
        return
    _print_tiers(here, stored)
    typer.echo("")
    rows = [(one.path, bytes_text(one.size_bytes), one.here, one.safety) for one in artifacts]
    print_table(("artifact", "size", "here", "remote"), rows, right=("size",), squeeze="artifact")
    if listing is None:
        typer.echo(f"remote unknown: {why}", err=True)
    for one in artifacts:
        if one.why and listing is not None:
            typer.echo(f"{one.path}: {one.why}", err=True)
    if any(one.safety == "only copy" for one in artifacts):
        typer.echo("next: backbeat cloud push", err=True)


@app.command("prune")
def prune_disk(dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Make room: remove staged files that nothing refers to, litter of killed runs, and old checkpoints."""
    from backbeat.storage.prune import prune

    found = prune(find_project(), dry_run=dry_run)
    would = {"removed": "would be removed"} if dry_run else {}
    if as_json:
        print_json([{**dataclasses.asdict(one), "action": would.get(one.action, one.action)} for one in found])
        return
    if found:
        rows = [(one.what, bytes_text(one.size_bytes), would.get(one.action, one.action), one.reason) for one in found]
        print_table(("what", "size", "", "why"), rows, right=("size",), squeeze="what")
    gone_bytes = sum(one.size_bytes for one in found if one.action == "removed")
    typer.echo(f"{bytes_text(gone_bytes)} {'would be freed' if dry_run else 'freed'}")
    typer.echo("raw archives: backbeat datasets prune", err=True)


@app.command("evict")
def evict_artifacts(
    targets: Annotated[
        list[str] | None, typer.Argument(help="Artifacts, stages or datasets. Without any: every artifact.")
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Remove local copies of artifacts that are proven to be in the remote; `dvc pull` brings them back."""
    from backbeat.cloud.evict import evict
    from backbeat.cloud.pointers import as_targets
    from backbeat.remote.bucket import open_bucket

    project = find_project()
    chosen = as_targets(project, targets)
    if not (chosen or dry_run or yes or as_json) and on_terminal():
        typer.confirm("remove the local copies of every artifact that the remote has?", abort=True, err=True)
    found = evict(project, open_bucket(project), chosen, dry_run=dry_run)
    if as_json:
        print_json(found)
    else:
        rows = [(one.path, bytes_text(one.freed_bytes), one.action, one.reason) for one in found]
        print_table(("artifact", "freed", "", "why"), rows, right=("freed",))
        freed_bytes = sum(one.freed_bytes for one in found)
        typer.echo(f"{bytes_text(freed_bytes)} {'would be freed' if dry_run else 'freed'}")
    if any(one.reason.startswith("the only copy") for one in found):
        typer.echo("next: backbeat cloud push, then repeat", err=True)
    if any(one.refused for one in found):
        raise typer.Exit(1)


@app.command("check")
def check_rules(as_json: AsJson = False) -> None:
    """Find outputs and settings that DVC would refuse only after the work, or that store bytes twice."""
    from backbeat.storage.pipeline_rules import check

    found = check(find_project())
    if as_json:
        print_json(found)
    for one in found if not as_json else ():
        about = ", ".join(text for text in (one.stage, one.output) if text)
        typer.echo(f"{one.file}: {f'{about}: ' if about else ''}{one.why}")
        typer.echo(f"  next: {one.next_step}")
    if found:
        raise typer.Exit(1)
    if not as_json:
        typer.echo("pipelines and settings keep the rules")


def _print_tiers(here: Status, stored: Mapping[str, object] | None) -> None:
    rows = [
        (
            tier.name,
            f"{tier.files:,}",
            bytes_text(tier.size_bytes),
            bytes_text(tier.linked_bytes) if tier.linked_bytes else None,
            bytes_text(tier.twice_bytes) if tier.twice_bytes else None,
            f"{tier.place.mount_point} ({tier.place.filesystem})",
        )
        for number, tier in enumerate(here.tiers)
        if tier.files or number < ALWAYS_SHOWN
    ]
    rows.append(("all of it, once", "", bytes_text(here.once_bytes), None, None, ""))
    if stored:
        rows.append(("remote", f"{stored['objects']:,}", bytes_text(int(str(stored["size_bytes"]))), None, None,
                     str(stored["url"])))  # fmt: skip
    print_table(
        ("tier", "files", "size", "linked", "twice", "disk"),
        rows,
        right=("files", "size", "linked", "twice"),
        squeeze="disk",
    )
    disks = {tier.place.mount_point: tier.place for tier in here.tiers}
    for place in disks.values():
        typer.echo(f"{place.mount_point}: {bytes_text(place.free_bytes)} of {bytes_text(place.total_bytes)} free")
    for twice in here.twice[:MOST_SHOWN]:
        typer.echo(f"twice, {bytes_text(twice.size_bytes)}: {' = '.join(twice.paths)}")
    if len(here.twice) > MOST_SHOWN:
        typer.echo(f"and {len(here.twice) - MOST_SHOWN:,} more that are there twice (--json lists them)")


def _total(listing: Mapping[str, StoredObject]) -> int:
    return sum(stored.size_bytes for stored in listing.values())
