"""`backbeat datasets plan` and `download`: say what would be fetched, fetch it, and have DVC record it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from backbeat.cli.printing import AsJson, bytes_text, print_json, print_table
from backbeat.config import find_project
from backbeat.datasets.registry import PHASES, load_registry
from backbeat.datasets.selection import Wish, select
from backbeat.errors import BackbeatError, ConfigError, DownloadError

if TYPE_CHECKING:
    from backbeat.datasets.plan import FilePlan, Plan

PHASE_VARIABLE = "BACKBEAT_DATASET_PHASE"
AUTO_VARIABLE = "BACKBEAT_AUTO_DOWNLOAD"

Names = Annotated[list[str] | None, typer.Argument(help="Names of datasets, as `backbeat datasets list` shows them.")]
InPhase = Annotated[str | None, typer.Option("--phase", help=f"{', '.join(PHASES)}: this phase and those before it.")]
InCollection = Annotated[str | None, typer.Option("--collection", help="A named collection, such as wakeword.")]
RequiredOnly = Annotated[bool, typer.Option("--required-only", help="Of a collection, what it requires (the default).")]
WithOptional = Annotated[bool, typer.Option("--all", help="Of a collection, its optional members, too.")]
MaxStorage = Annotated[
    float | None, typer.Option("--max-storage-gb", help="Take what fits into so many GB, by priority.", min=0)
]
CommercialOnly = Annotated[
    bool, typer.Option("--commercial-only", help="Only what may be used commercially, all of it.")
]
Mbps = Annotated[
    float | None, typer.Option(help="Speed of the line in Mbit/s. Default: that of the last download.", min=0.001)
]
Jobs = Annotated[int, typer.Option(help="Files at the same time.", min=1, max=64)]


def register(app: typer.Typer) -> None:
    """Add the commands of this module to a group."""
    app.command("plan")(plan_datasets)
    app.command("download")(download_datasets)


def plan_datasets(
    names: Names = None,
    phase: InPhase = None,
    collection: InCollection = None,
    required_only: RequiredOnly = False,
    with_optional: WithOptional = False,
    max_storage_gb: MaxStorage = None,
    commercial_only: CommercialOnly = False,
    mbps: Mbps = None,
    as_json: AsJson = False,
) -> None:
    """Say what a download would do: files, bytes, time, space, licenses, and what needs a person."""
    from backbeat.datasets.plan import plan

    wish = _wish(names, phase, collection, required_only, with_optional, max_storage_gb, commercial_only)
    planned = plan(find_project(), wish, mbps=mbps)
    if as_json:
        print_json(_plan_values(planned))
    else:
        _print_plan(planned)


def download_datasets(
    names: Names = None,
    phase: InPhase = None,
    collection: InCollection = None,
    required_only: RequiredOnly = False,
    with_optional: WithOptional = False,
    max_storage_gb: MaxStorage = None,
    commercial_only: CommercialOnly = False,
    jobs: Jobs = 6,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, as `plan` does.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Hash what is here already, too.")] = False,
    auto: Annotated[
        bool, typer.Option("--auto", help=f"Do nothing unless {AUTO_VARIABLE} is 1: for containers that start.")
    ] = False,
    as_stage: Annotated[
        bool, typer.Option("--as-stage", help="Only bytes and links, without DVC: what the download stages run.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Fetch datasets, prove them, link them into data/raw and lock them in data/dvc.lock.

    What is here already is not fetched again. Everything comes over the network first, side by side; then one run of
    DVC's download stages records it.
    """
    from backbeat.datasets.download import download
    from backbeat.datasets.plan import plan
    from backbeat.datasets.status import status

    if auto and os.environ.get(AUTO_VARIABLE, "").lower() not in {"1", "true", "yes"}:
        typer.echo(f"{AUTO_VARIABLE} is not set: nothing is fetched", err=True)
        return
    project = find_project()
    wish = _wish(names, phase, collection, required_only, with_optional, max_storage_gb, commercial_only)
    if as_stage:
        chosen = wish.names if wish == Wish(wish.names) else select(load_registry(project), wish).names
        download(project, *chosen, jobs=jobs, verify=verify)
        return
    planned = plan(project, wish)
    if dry_run or not as_json:
        print_json(_plan_values(planned)) if as_json else _print_plan(planned, err=not dry_run)
    if dry_run:
        return
    chosen = tuple(dict.fromkeys(file.dataset for file in planned.files))
    failure: BackbeatError | None = None
    try:
        download(project, *chosen, jobs=jobs, verify=verify)
    except BackbeatError as error:
        failure = error
    # What has come is recorded even if something else has not.
    _lock(project, [line.dataset for line in status(project, *chosen) if line.state in {"present", "verified"}])
    if failure is not None:
        raise failure
    if as_json:
        print_json(status(project, *chosen) if chosen else [])


def _wish(
    names: Sequence[str] | None,
    phase: str | None,
    collection: str | None,
    required_only: bool,
    with_optional: bool,
    max_storage_gb: float | None,
    commercial_only: bool,
) -> Wish:
    if required_only and with_optional:
        raise typer.BadParameter("--required-only and --all contradict each other")
    if not names and phase is None and collection is None:
        phase = os.environ.get(PHASE_VARIABLE)
        if not phase:
            raise ConfigError(
                "no dataset is asked for",
                expected=f"names, --phase, --collection, or the phase in {PHASE_VARIABLE}",
                next_step="backbeat datasets list shows what there is",
            )
    if phase is not None and phase not in PHASES:
        raise ConfigError(f"there is no phase {phase}", expected=f"one of {', '.join(PHASES)}")
    limit_bytes = None if max_storage_gb is None else int(max_storage_gb * 1e9)
    return Wish(tuple(names or ()), phase, collection, with_optional, limit_bytes, commercial_only)


def _lock(project: Path, names: Sequence[str]) -> None:
    """Let DVC's download stages record what is here; they find every byte in place, so its lock is held shortly."""
    from backbeat.datasets.stages import stage_address, sync_stages

    if not names:
        return
    sync_stages(project)
    # The stages start `backbeat` by name, and this may not be the environment that is active.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    command = [sys.executable, "-m", "dvc", "repro", "--quiet", *map(stage_address, names)]
    done = subprocess.run(command, cwd=project, env={**os.environ, "PATH": path}, check=False)
    if done.returncode:
        raise DownloadError(
            "the bytes are here, but DVC has not recorded them",
            expected="data/dvc.lock with their hashes",
            got=f"dvc repro ended with {done.returncode}; what it said is above",
            next_step=f"dvc repro {' '.join(map(stage_address, names))}",
        )


def _plan_values(plan: Plan) -> dict[str, object]:
    return {
        "files": plan.files,
        "left_out": plan.left_out,
        "to_fetch_bytes": plan.to_fetch_bytes,
        "approximate": plan.approximate,
        "unknown": plan.unknown,
        "free_bytes": plan.free_bytes,
        "free_after_bytes": plan.free_after_bytes,
        "mbps": None if plan.bandwidth is None else plan.bandwidth.mbps,
        "duration_s": plan.duration_s,
        "cautions": plan.cautions,
        "by_hand": plan.by_hand,
    }


def _print_plan(plan: Plan, *, err: bool = False) -> None:
    print_table(
        ("file", "", "size", "to fetch", "from"),
        [
            (f"{file.dataset}/{file.path}", file.action, bytes_text(file.total_bytes), _left(file), _from(file))
            for file in plan.files
        ],
        right=("size", "to fetch"),
        squeeze="file",
        err=err,
    )
    console = Console(highlight=False, stderr=err, soft_wrap=True)
    for line in _plan_lines(plan):
        console.print(line, markup=False)


def _left(file: FilePlan) -> str:
    return "" if file.to_fetch_bytes == 0 else bytes_text(file.to_fetch_bytes)


def _place(source: str) -> str:
    """Return what a person can click on, where the place is an address."""
    place = source.removeprefix("manual://")
    return f"https://{place}" if "." in place.partition("/")[0] else place


def _from(file: FilePlan) -> str:
    return {"have": "", "make": "made here", "person": "by hand", "copy": "your own copy"}.get(file.action, file.source)


def _plan_lines(plan: Plan) -> list[str]:
    about = "about " if plan.approximate else ""
    fetch = f"to fetch: {about}{bytes_text(plan.to_fetch_bytes)}"
    if plan.unknown:
        fetch += f", and {len(plan.unknown)} file{'s' if plan.unknown[1:] else ''} of unknown size"
    if plan.bandwidth is not None and plan.duration_s is not None:
        fetch += f", {_duration(plan.duration_s)} at {plan.bandwidth.mbps:.0f} Mbit/s"
    elif plan.to_fetch_bytes:
        fetch += " (--mbps says how long that takes)"
    room = (
        f"disk: {bytes_text(plan.free_bytes)} free now, {about}{bytes_text(max(0, plan.free_after_bytes))} afterwards"
    )
    lines = [fetch, room if plan.free_after_bytes >= 0 else f"{room}: it does not fit"]
    lines += [f"members: {file.dataset}/{file.path}: {file.members}" for file in plan.files if file.members is not None]
    lines += [f"license: {name}: {'; '.join(texts)}" for name, texts in plan.cautions.items()]
    lines += [
        f"by hand: {file.dataset}/{file.path}: {_place(file.source)}; then backbeat datasets adopt {file.dataset} PATH"
        for file in plan.by_hand
    ]
    return [*lines, *(f"left out: {one.name}: {one.reason}" for one in plan.left_out)]


def _duration(duration_s: float) -> str:
    minutes = round(duration_s / 60)
    if minutes == 0:
        return f"{duration_s:.0f} s"
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
