"""`backbeat cloud cost`: what the bucket costs, and would cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from backbeat.cli.printing import AsJson, bytes_text, print_json, print_table
from backbeat.config import find_project

if TYPE_CHECKING:
    from backbeat.cloud.cost import Cost, Planned, Present


def register(app: typer.Typer) -> None:
    """Add the command of this module to the group `cloud`."""
    app.command("cost")(show_cost)


def show_cost(
    stored_gb: Annotated[
        float | None, typer.Option("--stored-gb", help="GB in the bucket. Default: what is in it now.", min=0)
    ] = None,
    codespaces: Annotated[int, typer.Option(help="Machines that pull.", min=0)] = 1,
    pulls_per_month: Annotated[float, typer.Option(help="How often each of them pulls in a month.", min=0)] = 4,
    pull_gb: Annotated[
        float | None, typer.Option("--pull-gb", help="GB in each pull. Default: all that DVC's pointers need.", min=0)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Price the bucket as it is, and a month as it might be."""
    from backbeat.cloud.cost import Wish, cost

    found = cost(find_project(), Wish(stored_gb, codespaces, pulls_per_month, pull_gb))
    if as_json:
        print_json(_values(found))
        return
    if found.present is None:
        typer.echo(f"the bucket is not seen: {found.unseen}", err=True)
    else:
        _print_present(found.present)
    _print_plan(found.planned, codespaces, pulls_per_month)
    typer.echo(f"\nprices of {found.as_of.isoformat()}, {found.source}")
    if found.outdated:
        typer.echo("next: that is more than a year ago; compare, and correct prices: in configs/cloud.yaml", err=True)


def _print_present(present: Present) -> None:
    print_table(
        (f"in {present.bucket} now", "objects", "size"),
        [(part.what, f"{part.objects:,}", bytes_text(part.size_bytes)) for part in present.parts],
        right=("objects", "size"),
    )
    typer.echo(
        f"{bytes_text(present.size_bytes)}, {_usd(present.usd_per_month)} a month; "
        f"{bytes_text(present.free_left_bytes)} more are free"
    )
    if not present.hidden_seen:
        typer.echo("versions that were overwritten are billed too, and this key may not list them", err=True)
    typer.echo("")


def _print_plan(planned: Planned, codespaces: int, pulls_per_month: float) -> None:
    machines = f"{codespaces} machine{'s' * (codespaces != 1)}, {pulls_per_month:g} pulls each"
    print_table(
        ("a month", "", "USD"),
        [
            ("storage", bytes_text(planned.stored_bytes), f"{planned.storage_usd:.2f}"),
            ("egress", f"{bytes_text(planned.egress_bytes)} ({machines})", f"{planned.egress_usd:.2f}"),
            ("API calls", f"{planned.reads + planned.lists:,}", f"{planned.calls_usd:.2f}"),
            ("together", "", f"{planned.usd_per_month:.2f}"),
        ],
        right=("USD",),
    )


def _usd(amount: float) -> str:
    return f"${amount:.2f}"


def _values(found: Cost) -> dict[str, object]:
    return {
        "as_of": found.as_of,
        "source": found.source,
        "outdated": found.outdated,
        "present": found.present,
        "unseen": found.unseen,
        "planned": found.planned,
        "planned_usd_per_month": found.planned.usd_per_month,
    }
