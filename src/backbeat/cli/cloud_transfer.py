"""`backbeat cloud push`, `pull` and `status`: what the pointers need, to the bucket and from it, proven."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from backbeat.cli.dataset_care import on_terminal
from backbeat.cli.printing import AsJson, bytes_text, print_json, print_table
from backbeat.config import find_project

if TYPE_CHECKING:
    from collections.abc import Callable

    from backbeat.cloud.bill import Bill
    from backbeat.cloud.pull import Pulled

Targets = Annotated[
    list[str] | None, typer.Argument(help="Datasets, stages or paths; without any, everything that is versioned.")
]
MaxGb = Annotated[float | None, typer.Option("--max-gb", help="Refuse to move more, in GB (10^9 bytes).", min=0)]
Mbps = Annotated[float | None, typer.Option(help="Speed of the network, megabits per second.", min=0.01)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would move; move nothing.")]
Yes = Annotated[bool, typer.Option("--yes", help="Ask nothing.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module to the group `cloud`."""
    app.command("push")(push_artifacts)
    app.command("pull")(pull_artifacts)
    app.command("status")(show_status)


def push_artifacts(
    targets: Targets = None,
    max_gb: MaxGb = None,
    mbps: Mbps = None,
    full: Annotated[bool, typer.Option("--full", help="Read back everything, not a sample.")] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Send what the bucket lacks, and prove that it is there; exits with 0 only if it is."""
    from backbeat.cloud.pointers import as_targets
    from backbeat.cloud.push import push

    project = find_project()
    done = push(
        project,
        as_targets(project, targets),
        max_gb=max_gb,
        mbps=mbps,
        full=full,
        dry_run=dry_run,
        agree=agreement(as_json=as_json, yes=yes),
    )
    if as_json:
        print_json(done)
    elif dry_run or not done.bill.to_move:
        _print_bill(done.bill)
    elif done.sent:
        ours = f", {done.by_us:,} of them because DVC had not" if done.by_us else ""
        typer.echo(f"sent {done.sent:,} objects{ours}; listed, compared, and {done.read_back:,} read back")
    if not as_json and done.was_declined:
        typer.echo("nothing was sent", err=True)
        raise typer.Exit(1)
    # Each was said when it was found.
    if done.never_made:
        raise typer.Exit(1)


def pull_artifacts(
    targets: Targets = None,
    max_gb: MaxGb = None,
    mbps: Mbps = None,
    full: Annotated[bool, typer.Option("--full", help="Hash what is here already, too, though unchanged.")] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Fetch what is not here, prove it, and put it into the workspace; exits with 0 only if all of it is right."""
    from backbeat.cloud.pointers import as_targets
    from backbeat.cloud.pull import pull

    project = find_project()
    done = pull(
        project,
        as_targets(project, targets),
        max_gb=max_gb,
        mbps=mbps,
        full=full,
        dry_run=dry_run,
        agree=agreement(as_json=as_json, yes=yes),
    )
    if as_json:
        print_json(done)
    else:
        _print_pulled(done, dry_run=dry_run)
    # Each was said when it was found.
    if (done.was_declined and not as_json) or done.never_made:
        raise typer.Exit(1)


def show_status(targets: Targets = None, as_json: AsJson = False) -> None:
    """Show of each artifact how much is here and how much is in the bucket."""
    from backbeat.cloud.pointers import as_targets
    from backbeat.cloud.status import status

    project = find_project()
    found = status(project, as_targets(project, targets))
    if as_json:
        print_json([{**dataclasses.asdict(one), "here": one.here, "pushed": one.pushed} for one in found])
        return
    print_table(
        ("artifact", "size", "objects", "here", "pushed"),
        [
            (
                one.path,
                "" if one.size_bytes is None else bytes_text(one.size_bytes),
                f"{one.objects:,}",
                _share(one.here, one.here_objects, one.here_bytes),
                _share(one.pushed, one.pushed_objects, one.pushed_bytes),
            )
            for one in found
        ],
        right=("size", "objects"),
        squeeze="artifact",
    )
    here_bytes, pushed_bytes = sum(one.here_bytes for one in found), sum(one.pushed_bytes for one in found)
    typer.echo(f"{bytes_text(here_bytes)} here, {bytes_text(pushed_bytes)} in the bucket")


def _print_pulled(done: Pulled, *, dry_run: bool) -> None:
    for path in done.quarantined:
        typer.echo(f"damaged, put aside: {path}", err=True)
    if dry_run or not done.bill.to_move:
        _print_bill(done.bill)
    if done.was_declined:
        typer.echo("nothing was fetched", err=True)
    if done.fetched:
        ours = f", {done.by_us:,} of them because DVC had not" if done.by_us else ""
        typer.echo(f"fetched {done.fetched:,} objects{ours}; all of them hashed")
    if done.checked_out:
        typer.echo(f"{done.checked_out:,} files put into the workspace")


def _share(share: str, objects: int, size_bytes: int) -> str:
    return f"{objects:,} ({bytes_text(size_bytes)})" if share == "part" else "no" if share == "none" else share


def agreement(*, as_json: bool, yes: bool) -> Callable[[Bill], bool]:
    """Return what shows a bill and, on a terminal, asks."""

    def agree(bill: Bill) -> bool:
        if not as_json:
            _print_bill(bill)
        # Without a terminal there is nobody to ask: the budgets of configs/cloud.yaml are the guard.
        return yes or as_json or not on_terminal() or typer.confirm("go on?", err=True)

    return agree


def _print_bill(bill: Bill) -> None:
    verb = "to send" if bill.direction == "push" else "to fetch"
    place = "in the bucket" if bill.direction == "push" else "here"
    typer.echo(
        f"{verb}: {bill.to_move:,} of {bill.objects:,} objects, {bytes_text(bill.to_move_bytes)}; "
        f"{bytes_text(bill.bytes_there)} {place} already"
    )
    if bill.to_move and bill.duration_s is not None:
        typer.echo(f"about {_duration(bill.duration_s)} at {bill.mbps:.0f} Mbit/s")
    if bill.usd_per_month is not None and bill.free_bytes is not None:
        typer.echo(
            f"costs: ${bill.usd_now:.2f} now, then ${bill.usd_per_month:.2f} a month; "
            f"{bytes_text(bill.free_bytes)} of the free storage left"
        )
    elif bill.to_move:
        typer.echo(f"costs: ${bill.usd_now:.2f}")


def _duration(duration_s: float) -> str:
    return f"{duration_s:.0f} s" if duration_s < 90 else f"{duration_s / 60:.0f} min"
