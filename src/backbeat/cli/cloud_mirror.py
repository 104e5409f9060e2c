"""`backbeat cloud mirror`, `backup`, `restore`, `mount`: raw archives in the bucket, and everything back from it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from backbeat.cli.dataset_care import on_terminal
from backbeat.cli.printing import AsJson, bytes_text, print_json, print_table
from backbeat.config import find_project

Datasets = Annotated[list[str] | None, typer.Argument(help="Names of datasets; without any, all that there are.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
BandwidthLimit = Annotated[
    float | None, typer.Option(help="MB (10^6 bytes) per second, at most. Default: configs/cloud.yaml.", min=0.01)
]
Full = Annotated[bool, typer.Option("--full", help="Read every file, not a sample.")]
MountPoint = Annotated[
    Path | None, typer.Argument(help="Where. Default: a folder beside the clone, called like it with -mirror.")
]

mirror_app = typer.Typer(no_args_is_help=True, help="Raw archives in the bucket, under their own names.")


def register(app: typer.Typer) -> None:
    """Add the commands of this module to the group `cloud`."""
    app.add_typer(mirror_app, name="mirror")
    app.command("backup")(make_backup)
    app.command("backups")(show_backups)
    app.command("restore")(restore_backup)
    app.command("mount")(mount_mirror)
    app.command("unmount")(unmount_mirror)


@mirror_app.command("push")
def push_mirror(
    datasets: Datasets = None,
    bwlimit: BandwidthLimit = None,
    private: Annotated[
        bool, typer.Option("--private", help="Also what may not be handed on: the bucket is for yourself alone.")
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Send raw archives that are here, proven, and a manifest with their hashes and license."""
    from backbeat.cloud.mirror import plan_push, require_budget
    from backbeat.cloud.mirror_push import push
    from backbeat.cloud.prices import load_cloud_config

    project = find_project()
    plan = plan_push(project, datasets or [], private=private)
    rows = [
        (f"{one.record.name}/{one.file.path}", bytes_text(one.size_bytes), "send" if one.there is None else "there")
        for one in plan.files
    ]
    if not as_json:
        print_table(("file", "size", ""), rows, right=("size",), squeeze="file", err=not dry_run)
        for name, reason in plan.left_out.items():
            typer.echo(f"left out: {name}: {reason}", err=True)
        typer.echo(
            f"to send: {bytes_text(plan.to_send_bytes)}; in the bucket afterwards: {bytes_text(plan.stored_bytes)}, "
            f"${plan.usd_per_month:.2f} a month",
            err=not dry_run,
        )
    require_budget(load_cloud_config(project), plan)
    if not dry_run:
        _ask(f"Send {bytes_text(plan.to_send_bytes)}?", yes or as_json or not plan.to_send)
        manifests = push(project, plan, mb_per_s=bwlimit)
        if not as_json:
            for manifest in manifests:
                files = f"{len(manifest.files)} file{'s' * (len(manifest.files) != 1)}"
                typer.echo(f"{manifest.dataset}: {files}, {bytes_text(manifest.size_bytes)} in the mirror")
    if as_json:
        sent = [{"file": name, "state": state} for name, _, state in rows]
        values = {"files": sent, "left_out": plan.left_out, "to_send_bytes": plan.to_send_bytes}
        print_json({**values, "stored_bytes": plan.stored_bytes, "usd_per_month": plan.usd_per_month})


@mirror_app.command("pull")
def pull_mirror(
    datasets: Datasets = None,
    bwlimit: BandwidthLimit = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Fetch raw archives from the mirror, prove them, and link them into data/raw."""
    from backbeat.cloud.mirror_pull import plan_pull, pull

    project = find_project()
    plan = plan_pull(project, datasets or [])
    rows = [(f"{one.record.name}/{one.file.path}", bytes_text(one.size_bytes), one.state) for one in plan]
    if as_json:
        print_json([{"file": name, "state": one.state} for (name, *_), one in zip(rows, plan, strict=True)])
    else:
        print_table(("file", "size", ""), rows, right=("size",), squeeze="file", err=not dry_run)
    if not dry_run:
        to_fetch_bytes = sum(one.size_bytes for one in plan if one.state == "fetch")
        _ask(f"Fetch {bytes_text(to_fetch_bytes)}?", yes or as_json or not to_fetch_bytes)
        pull(project, plan, mb_per_s=bwlimit)
    not_there = sorted({one.record.name for one in plan if one.state in {"missing", "outdated"}})
    if not_there:
        typer.echo(f"next: backbeat datasets download {' '.join(not_there)}", err=True)
        raise typer.Exit(1)


@mirror_app.command("check")
def check_mirror(datasets: Datasets = None, full: Full = False, as_json: AsJson = False) -> None:
    """Compare the mirror with its manifests and the registry; exits with 1 if something is not right."""
    from backbeat.cloud.manifest import FOLDER, SUFFIX
    from backbeat.cloud.mirror_check import check
    from backbeat.datasets.registry import load_registry

    project = find_project()
    verdicts = check(project, datasets or [], full=full)
    if as_json:
        print_json(verdicts)
    else:
        print_table(
            ("file", "size", "state", "what"),
            [(f"{one.dataset}/{one.path}", bytes_text(one.size_bytes), one.state, one.what) for one in verdicts],
            right=("size",),
            squeeze="file",
        )
    bad = sorted({one.dataset for one in verdicts if one.state != "ok"})
    # What has no record cannot be sent.
    known = [name for name in bad if name in load_registry(project)]
    if known:
        typer.echo(f"next: where the files are: backbeat cloud mirror push {' '.join(known)}", err=True)
    for name in bad:
        if name not in known:
            typer.echo(
                f"next: bring back configs/datasets/{name}.yaml, or delete {FOLDER}{name}{SUFFIX} and what is in "
                f"{FOLDER}{name}/ at the bucket's service, with a key that may",
                err=True,
            )
    if bad:
        raise typer.Exit(1)


def make_backup(dry_run: DryRun = False, full: Full = False, as_json: AsJson = False) -> None:
    """Prove that the bucket has all that HEAD needs and all of the mirror, and write that down with the repository."""
    from backbeat.cloud.backup import backup

    found = backup(find_project(), dry_run=dry_run, full=full)
    if as_json:
        print_json(found)
        return
    for path in found.never_made:
        typer.echo(f"left out: {path} was never made", err=True)
    name = "everything is there" if dry_run else f"backup {found.made_at}"
    typer.echo(f"{name}: commit {found.commit[:12]}, {len(found.files)} files, {bytes_text(found.size_bytes)}")


def show_backups(as_json: AsJson = False) -> None:
    """List the backups in the bucket, the latest last."""
    from backbeat.cloud.backup import list_backups
    from backbeat.remote.bucket import open_bucket

    names = list_backups(open_bucket(find_project()))
    if as_json:
        print_json(names)
    elif not names:
        typer.echo("there is none; next: backbeat cloud backup", err=True)
    else:
        typer.echo("\n".join(names))


def restore_backup(
    to: Annotated[Path, typer.Option("--to", help="An empty folder, or a new one.")],
    name: Annotated[str | None, typer.Argument(metavar="[BACKUP]", help="Which one. Default: the latest.")] = None,
    as_json: AsJson = False,
) -> None:
    """Bring a backup into an empty folder: the repository, and every file where it belongs, hashed."""
    from backbeat.cloud.restore import restore

    restored = restore(find_project(), to, name)
    if as_json:
        print_json(restored)
        return
    size_bytes = sum(one.size_bytes for one in restored)
    typer.echo(f"{len(restored)} files, {bytes_text(size_bytes)}, every one hashed, in {to.resolve()}")


def mount_mirror(path: MountPoint = None) -> None:
    """Mount the mirror, read-only; what is read is kept within a bound on the disk of DVC's cache."""
    from backbeat.cloud.mount import mount

    at = mount(find_project(), path)
    typer.echo(f"the mirror is at {at}; backbeat cloud unmount{'' if path is None else f' {path}'} ends that")


def unmount_mirror(path: MountPoint = None) -> None:
    """Unmount the mirror, also if the process that served it has died."""
    from backbeat.cloud.mount import unmount

    typer.echo(f"unmounted {unmount(find_project(), path)}")


def _ask(question: str, settled: bool) -> None:
    if not settled and on_terminal():
        typer.confirm(question, abort=True, err=True)
