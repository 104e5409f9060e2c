"""`backbeat init`: make the clone one's own."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backbeat.cli.dataset_care import on_terminal
from backbeat.cli.init_name import asked_holder, asked_name, is_new_name, print_renaming, steps_after, summary
from backbeat.cli.printing import AsJson, print_json
from backbeat.config import find_project
from backbeat.errors import ConfigError

if TYPE_CHECKING:
    from backbeat.cloud.choices import Choices
    from backbeat.cloud.init import Change
    from backbeat.storage.setup import Plan
    from backbeat.template.plan import Owner, Renaming
    from backbeat.template.tree import Tracked

_WHERE_KEYS_GO = """\
Keys are written nowhere here. They go into
  the environment    B2_ACCOUNT_ID and B2_APPLICATION_KEY; Git ignores .env, and .env.example says how
  a Codespace, CI    secrets of these names
  this clone alone   dvc remote modify --local {remote} access_key_id …, and secret_access_key …"""


@dataclass(frozen=True)
class _Work:
    """All that is to be done."""

    renaming: Renaming | None
    changes: list[Change]
    texts: Mapping[str, str]
    disk: Plan | None
    forgotten: list[str]

    @property
    def is_any(self) -> bool:
        return bool(self.changes or self.disk or self.forgotten or (self.renaming and self.renaming.files))


def register(app: typer.Typer) -> None:
    """Add the command of this module to the program."""
    app.command("init")(initialize)


def initialize(
    name: Annotated[
        str | None,
        typer.Option(help="The project: program, package and folder in the bucket are called so. Default: as it is."),
    ] = None,
    license_holder: Annotated[
        str | None, typer.Option(help="Who has the rights: a line in LICENSE, above the template's authors.")
    ] = None,
    description: Annotated[str | None, typer.Option(help="A sentence, for pyproject.toml and the README.")] = None,
    bucket: Annotated[str | None, typer.Option(help="The bucket. Default: as it is, or B2_BUCKET_NAME.")] = None,
    region: Annotated[str | None, typer.Option(help="The bucket's region, such as us-west-004.")] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="Another S3 service than Backblaze's: https://HOST, http://127.0.0.1:PORT.")
    ] = None,
    budget_usd: Annotated[float | None, typer.Option(help="US dollars that a month may cost.")] = None,
    disk: Annotated[
        Path | None, typer.Option(help="A folder on the hard disk that is to hold the data, such as /mnt/hdd/backbeat.")
    ] = None,
    forget_experiments: Annotated[
        bool, typer.Option("--forget-experiments", help="Remove the experiments that this clone has (dvc exp list).")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing; what is not given stays as it is.")] = False,
    as_json: AsJson = False,
) -> None:
    """Name the project; write owner, bucket, region and budget into the tracked files. Repeated, it changes nothing."""
    from backbeat.cloud.choices import check, check_budget, choose
    from backbeat.cloud.init import plan, present
    from backbeat.remote.settings import PLACEHOLDER_BUCKET
    from backbeat.template.experiments import experiments
    from backbeat.template.plan import Owner

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
    if asking:
        name = name or asked_name(project)
        license_holder = license_holder or asked_holder(project, name)
    folder = name if now.bucket == PLACEHOLDER_BUCKET or (name and is_new_name(project, name)) else None
    choices = choose(now, name=folder, bucket=bucket, region=region, endpoint_url=endpoint, budget_usd=budget_usd)
    if asking:
        choices, disk = _asked(now, choices, given, disk)
    check_budget(choices.budget_usd)
    owner = Owner(name, license_holder, description)
    # A name and an owner can be had before there is a bucket.
    if owner == Owner() or replace(choices, name=now.name, budget_usd=now.budget_usd) != now:
        check(choices)
    renaming = _renaming(project, owner, choices)
    there = experiments(project)
    work = _Work(renaming, *plan(project, choices), _plan_of(project, disk), there if forget_experiments else [])
    if not as_json:
        _print_work(work)
    _print_notes(project, now, choices)
    if asking and work.is_any:
        typer.confirm("write this?", default=True, abort=True, err=True)
    # Made now: once the package has moved, there is nothing left that could be imported.
    keys = _where_keys_go(project)
    steps = steps_after(renaming, there if not forget_experiments else []) if renaming and renaming.package else None
    is_complete = _do(project, work)
    if as_json:
        print_json({
            "choices": choices, "changes": work.changes, "disk": work.disk, "forgotten": work.forgotten,
            "name": summary(renaming) if renaming else None,
        })  # fmt: skip
    else:
        typer.echo(keys)
        typer.echo(steps or "next: backbeat doctor", err=True)
    if not is_complete:
        typer.echo(f"next: backbeat storage setup --disk {disk}: some files were written to meanwhile", err=True)
        raise typer.Exit(1)


def _renaming(project: Path, owner: Owner, choices: Choices) -> Renaming | None:
    """Return what name and owner change; None if neither is given."""
    from backbeat.cloud.init import BUCKET_FILES, plan
    from backbeat.template import plan as owners

    def edits(files: Mapping[str, Tracked]) -> Mapping[str, str]:
        with tempfile.TemporaryDirectory() as folder:
            for name in BUCKET_FILES:
                (Path(folder) / name).parent.mkdir(exist_ok=True)
                (Path(folder) / name).write_bytes(files[name].content)
            return plan(Path(folder), choices)[1]

    return None if owner == owners.Owner() else owners.plan_owner(project, owner, edits)


def _do(project: Path, work: _Work) -> bool:
    """Do it, first what can be done again and last what cannot be undone; return whether the disk is all set up."""
    from backbeat.cloud.init import write
    from backbeat.template import tree
    from backbeat.template.experiments import forget

    is_complete = True
    if work.disk:
        from backbeat.storage.setup import set_up

        is_complete = not set_up(project, work.disk).left
    renamed = work.renaming.files if work.renaming else {}
    # What a rename writes, it writes whole: a file in a state between would be taken for somebody's own change.
    write(project, {name: text for name, text in work.texts.items() if name not in renamed})
    if work.renaming and renamed:
        tree.write(project, renamed, work.renaming.gone, work.renaming.package)
    if work.forgotten:
        forget(project)
    return is_complete


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
    from backbeat.cloud.choices import choose
    from backbeat.remote.settings import PLACEHOLDER_BUCKET

    def ask(option: str, question: str, chosen: str) -> str:
        if given[option] is not None:
            return chosen
        if chosen == PLACEHOLDER_BUCKET:
            return str(typer.prompt(f"{question} (empty: none yet)", default="", show_default=False, err=True)).strip()
        return str(typer.prompt(question, default=chosen, err=True)).strip()

    bucket = ask("--bucket", "Bucket", choices.bucket)
    region = ask("--region", "Region", choices.region) if bucket else choices.region
    budget = given["--budget-usd"]
    if budget is None:
        budget = typer.prompt("Budget, in US dollars a month", default=choices.budget_usd, type=float, err=True)
    if disk is None:
        answer = typer.prompt("Folder on the disk for the data (empty: as it is)", default="", err=True).strip()
        disk = Path(answer).expanduser() if answer else None
    endpoint = choices.endpoint_url if region == choices.region else None
    answers = choose(
        now, name=choices.name, bucket=bucket, region=region, endpoint_url=endpoint, budget_usd=float(str(budget))
    )
    return answers, disk


def _print_work(work: _Work) -> None:
    if not work.is_any:
        typer.echo("nothing to change: it is so already\n")
        return
    if work.renaming:
        print_renaming(work.renaming)
    file = None
    for change in work.changes:
        if change.file != file:
            file = change.file
            typer.echo(file)
        typer.echo(f"  {change.what}: {change.before or 'nothing'} -> {change.after}")
    if work.disk:
        typer.echo("disk")
        for step in work.disk.steps:
            typer.echo(f"  {step}")
    if work.forgotten:
        typer.echo(f"experiments\n  removed: {', '.join(work.forgotten)}")
    typer.echo("")


def _print_notes(project: Path, now: Choices, choices: Choices) -> None:
    """Print what was pushed and stays where it is, and what is different on this machine."""
    from backbeat.cloud.init import overridden
    from backbeat.remote.settings import PLACEHOLDER_BUCKET

    moved = (now.bucket, now.name) != (choices.bucket, choices.name) and now.bucket != PLACEHOLDER_BUCKET
    if moved:
        typer.echo(f"note: what was pushed to s3://{now.bucket}/{now.name} is still there, and only there", err=True)
    if options := overridden(project):
        typer.echo(f"note: .dvc/config.local says otherwise on this machine: {', '.join(options)}", err=True)


def _where_keys_go(project: Path) -> str:
    """Return where keys belong."""
    from backbeat.remote.settings import dvc_config

    return _WHERE_KEYS_GO.format(remote=dvc_config(project)["core"]["remote"])
