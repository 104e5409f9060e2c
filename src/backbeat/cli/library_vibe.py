"""`backbeat library vibe`, `spend`, `discover`: words from a language model and what they cost; new packs."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backbeat.cli.printing import AsJson, bytes_text, print_json, print_table
from backbeat.config import find_project

if TYPE_CHECKING:
    from backbeat.library.discover import Found
    from backbeat.library.vibe import Vibed

# Of what went wrong, a message names so many.
MOST_NAMED = 5


def register(app: typer.Typer) -> None:
    """Add the commands of this module to the group `library`."""
    app.command("vibe")(ask_for_words)
    app.command("spend")(show_spend)
    app.command("discover")(list_packs)


def ask_for_words(
    limit: Annotated[int | None, typer.Option(min=1, help="So many sounds, at most.")] = None,
    budget: Annotated[
        float | None, typer.Option(min=0, metavar="USD", help="What the run may cost. Default: configs/library.yaml.")
    ] = None,
    changed: Annotated[
        bool, typer.Option("--changed", help="Also sounds whose features or model are others than when asked.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say how much it would be, and ask nobody.")] = False,
    as_json: AsJson = False,
) -> None:
    """Ask a language model for words, for the sounds that have none; stops at the budget, and can be repeated."""
    from backbeat.library.catalog import renew_catalog
    from backbeat.library.vibe import plan_vibe, vibe

    project = find_project()
    budget_usd = None if budget is None else Decimal(str(budget))
    if dry_run:
        plan = plan_vibe(project, limit=limit, budget_usd=budget_usd, changed=changed)
        if as_json:
            print_json(plan)
            return
        typer.echo(
            f"{plan.sounds:,} sounds, {plan.requests:,} requests to {plan.model}: about {_usd(plan.estimated_usd)}, "
            f"at most {_usd(plan.worst_usd)}; the budget of a run is {_usd(plan.budget_usd)}"
        )
        return
    done = vibe(project, limit=limit, budget_usd=budget_usd, changed=changed)
    renewed = renew_catalog(project) if done.answered else True
    if as_json:
        print_json(done)
    else:
        _print_done(project, done)
    if not renewed:
        typer.echo("next: dvc repro data/library/dvc.yaml:catalog, so that find and browse know them", err=True)
    if done.failed or done.stopped not in {None, "budget"}:
        raise typer.Exit(1)


def show_spend(as_json: AsJson = False) -> None:
    """Show what language models have cost, by day (UTC) and model."""
    from backbeat.library.spend import read_spend

    rows = read_spend(find_project())
    if as_json:
        print_json(rows)
        return
    counts = ("requests", "no outcome", "tokens in", "tokens out")
    print_table(
        ("day", "model", *counts, "USD"),
        [
            (
                row.day,
                row.model,
                *(f"{count:,}" for count in (row.requests, row.unanswered, row.input_tokens, row.output_tokens)),
                f"{row.usd:.4f}",
            )
            for row in rows
        ],
        right=(*counts, "USD"),
        squeeze="model",
    )
    typer.echo(f"in all: {_usd(sum((row.usd for row in rows), Decimal(0)))}")
    if any(row.unanswered for row in rows):
        typer.echo("a request without a known outcome counts with its worst case", err=True)


def list_packs(
    feed: Annotated[str | None, typer.Option(help="One feed of configs/library.yaml only.")] = None,
    save: Annotated[bool, typer.Option("--save", help="Write a draft record of each; nothing is downloaded.")] = False,
    as_json: AsJson = False,
) -> None:
    """List packs that are new in the feeds, with what they say of license and size."""
    from backbeat.library.discover import discover

    done = discover(find_project(), feed=feed, save=save)
    if as_json:
        print_json(done)
    elif done.found:
        for one in done.found:
            _print_pack(one)
        if any(one.draft for one in done.found):
            typer.echo("next: look at each draft and its page, then move it to configs/datasets/", err=True)
        elif not save:
            typer.echo("next: backbeat library discover --save writes drafts of them", err=True)
    else:
        typer.echo("nothing new")
    for name, why in done.failed.items():
        typer.echo(f"{name} cannot be read: {why}", err=True)
    if done.failed:
        raise typer.Exit(1)


def _print_pack(found: Found) -> None:
    """Print title, hints, and what a terminal may wrap but nobody cuts: the link in a line of its own."""
    pack = found.pack
    licenses = ", ".join(pack.license_hints) or "none found"
    typer.echo(pack.entry.title)
    typer.echo(
        f"  {pack.feed}, {pack.entry.published or 'no day'}; license? {licenses}; size? {bytes_text(pack.size_bytes)}"
    )
    if pack.entry.link:
        typer.echo(f"  {pack.entry.link}")
    if found.draft or found.no_draft:
        typer.echo(f"  draft: {found.draft or f'none, {found.no_draft}'}")


def _print_done(project: Path, done: Vibed) -> None:
    from backbeat.library.settings import load_settings

    if done.model is None:
        variable = load_settings(project).vibe.key_variable
        typer.echo(
            f"no key in {variable}: nobody is asked, and {done.wanted:,} sounds have words by rule, from their "
            "descriptors"
        )
        typer.echo(
            f"next: export {variable}=… or put it into .env; or BACKBEAT_VIBE_URL=http://127.0.0.1:…/v1, a server on "
            "this machine, which needs no key",
            err=True,
        )
        return
    typer.echo(
        f"{done.answered:,} of {done.wanted:,} sounds have words of {done.model} now: {done.requests:,} requests, "
        f"{_usd(done.usd)}"
    )
    if done.unanswered:
        typer.echo(f"{done.unanswered:,} requests have no known outcome: their worst case is counted", err=True)
    for sample, why in list(done.failed.items())[:MOST_NAMED]:
        typer.echo(f"no words: {sample}: {why}", err=True)
    if len(done.failed) > MOST_NAMED:
        typer.echo(f"and {len(done.failed) - MOST_NAMED:,} more without words", err=True)
    if done.stopped is not None:
        typer.echo(f"stopped: {done.stopped}; the same command goes on where it was", err=True)


def _usd(amount: Decimal) -> str:
    return f"${amount:.4f}"
