"""`backbeat init`: make the clone one's own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backbeat.cli.dataset_care import on_terminal
from backbeat.cli.printing import AsJson, print_json
from backbeat.config import find_project
from backbeat.errors import ConfigError

if TYPE_CHECKING:
    from backbeat.cloud.init import Change, Choices
    from backbeat.storage.setup import Plan

_WHERE_KEYS_GO = """\
Keys are written nowhere here. They go into
  the environment    B2_ACCOUNT_ID and B2_APPLICATION_KEY; Git ignores .env, and .env.example says how
  a Codespace, CI    secrets of these names
  this clone alone   dvc remote modify --local {remote} access_key_id …, and secret_access_key …"""


def register(app: typer.Typer) -> None:
    """Add the command of this module to the program."""
    app.command("init")(initialize)


def initialize(
    name: Annotated[
        str | None, typer.Option(help="The project, which is its folder in the bucket. Default: as it is.")
    ] = None,
    bucket: Annotated[str | None, typer.Option(help="The bucket. Default: as it is, or B2_BUCKET_NAME.")] = None,
    region: Annotated[str | None, typer.Option(help="The bucket's region, such as us-west-004.")] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="Another S3 service than Backblaze's: https://HOST, http://127.0.0.1:PORT.")
    ] = None,
    budget_usd: Annotated[float | None, typer.Option(help="US dollars that a month may cost.")] = None,
    disk: Annotated[
        Path | None, typer.Option(help="A folder on the hard disk that is to hold the data, such as /mnt/hdd/backbeat.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing; what is not given stays as it is.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write bucket, region, project and budget into the tracked files. Repeated, it changes nothing."""
    from backbeat.cloud.init import check, choose, plan, present, write
    from backbeat.remote.settings import PLACEHOLDER_BUCKET

    project = find_project()
    now = present(project)
    given = {"--name": name, "--bucket": bucket, "--region": region or endpoint, "--budget-usd": budget_usd}
    asking = not yes and None in given.values()
    if asking and (as_json or not on_terminal()):
        raise ConfigError(
            "there is nobody to ask",
            expected=", ".join(option for option, value in given.items() if value is None),
            got="no terminal" if not as_json else "--json",
            next_step="give these, or --yes to leave what is not given as it is",
        )
    if now.bucket == PLACEHOLDER_BUCKET:
        # As everywhere: the variable stands in for the template's bucket, never for one that was chosen.
        bucket = bucket or os.environ.get("B2_BUCKET_NAME")
    choices = choose(now, name=name, bucket=bucket, region=region, endpoint_url=endpoint, budget_usd=budget_usd)
    if asking:
        choices, disk = _asked(now, choices, given, disk)
    check(choices)
    changes, texts = plan(project, choices)
    disk_plan = _plan_of(project, disk)
    if not as_json:
        _print_changes(changes, disk_plan)
    if asking and (changes or disk_plan):
        typer.confirm("write this?", default=True, abort=True, err=True)
    write(project, texts)
    is_complete = True
    if disk_plan:
        from backbeat.storage.setup import set_up

        is_complete = not set_up(project, disk_plan).left
    if as_json:
        print_json({"choices": choices, "changes": changes, "disk": disk_plan})
    else:
        _print_next(project, now, choices)
    if not is_complete:
        typer.echo(f"next: backbeat storage setup --disk {disk}: some files were written to meanwhile", err=True)
        raise typer.Exit(1)


def _plan_of(project: Path, disk: Path | None) -> Plan | None:
    """Return what there is to do about the disk; what is wrong with it is found out now, before anything is written."""
    if disk is None:
        return None
    from backbeat.storage.setup import plan

    planned = plan(project, disk, measure=False)
    return planned if planned.steps else None


def _asked(
    now: Choices, choices: Choices, given: Mapping[str, object], disk: Path | None
) -> tuple[Choices, Path | None]:
    from backbeat.cloud.init import choose
    from backbeat.remote.settings import PLACEHOLDER_BUCKET

    def ask(option: str, question: str, chosen: str) -> str:
        if given[option] is not None:
            return chosen
        default = None if chosen == PLACEHOLDER_BUCKET else chosen
        return str(typer.prompt(question, default=default, err=True)).strip()

    name = ask("--name", "Project, which is its folder in the bucket", choices.name)
    bucket = ask("--bucket", "Bucket", choices.bucket)
    region = ask("--region", "Region", choices.region)
    budget = given["--budget-usd"]
    if budget is None:
        budget = typer.prompt("Budget, in US dollars a month", default=choices.budget_usd, type=float, err=True)
    if disk is None:
        answer = typer.prompt("Folder on the disk for the data (empty: as it is)", default="", err=True).strip()
        disk = Path(answer).expanduser() if answer else None
    endpoint = choices.endpoint_url if region == choices.region else None
    answers = choose(now, name=name, bucket=bucket, region=region, endpoint_url=endpoint, budget_usd=float(str(budget)))
    return answers, disk


def _print_changes(changes: list[Change], disk_plan: Plan | None) -> None:
    if not changes and not disk_plan:
        typer.echo("nothing to change: it is so already\n")
        return
    file = None
    for change in changes:
        if change.file != file:
            file = change.file
            typer.echo(file)
        typer.echo(f"  {change.what}: {change.before or 'nothing'} -> {change.after}")
    if disk_plan:
        typer.echo("disk")
        for step in disk_plan.steps:
            typer.echo(f"  {step}")
    typer.echo("")


def _print_next(project: Path, now: Choices, choices: Choices) -> None:
    from backbeat.cloud.init import overridden
    from backbeat.remote.settings import PLACEHOLDER_BUCKET, dvc_config

    moved = (now.bucket, now.name) != (choices.bucket, choices.name) and now.bucket != PLACEHOLDER_BUCKET
    if moved:
        typer.echo(f"note: what was pushed to s3://{now.bucket}/{now.name} is still there, and only there", err=True)
    if options := overridden(project):
        typer.echo(f"note: .dvc/config.local says otherwise on this machine: {', '.join(options)}", err=True)
    typer.echo(_WHERE_KEYS_GO.format(remote=dvc_config(project)["core"]["remote"]))
    typer.echo("next: backbeat doctor", err=True)
