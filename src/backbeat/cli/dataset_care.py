"""`backbeat datasets refresh`, `adopt`, `new` and `prune`: what upstream says, copies at hand, new records, room."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from backbeat.cli.printing import AsJson, bytes_text, print_json, print_table
from backbeat.config import find_project
from backbeat.errors import ConfigError

Name = Annotated[str, typer.Argument(help="The name of a dataset.")]

Texts = dict[str, str | None]
Permissions = dict[str, bool | None]

_QUESTIONS = {
    "title": "Title",
    "license_id": "License (an SPDX identifier, or public-domain, per-item, unknown)",
    "purpose": "What the data is used for",
    "commercial": "Does the license allow commercial use?",
    "redistribute": "May the data be handed on?",
}


def register(app: typer.Typer) -> None:
    """Add the commands of this module to the group `datasets`."""
    app.command("refresh")(refresh_datasets)
    app.command("adopt")(adopt_copies)
    app.command("new")(new_dataset)
    app.command("prune")(prune_datasets)


def refresh_datasets(
    names: Annotated[list[str] | None, typer.Argument(help="Names of datasets; without any, all of them.")] = None,
    as_json: AsJson = False,
) -> None:
    """Ask the publishers whether anything has changed, without fetching; exits with 1 if something has."""
    from backbeat.datasets.refresh import refresh

    found = refresh(find_project(), names or [])
    if as_json:
        print_json(found)
    else:
        print_table(
            ("dataset", "file", "address", "state", "what"),
            [(one.dataset, one.path, one.url.partition(":")[0], one.state, one.what) for one in found],
        )
        for step in dict.fromkeys(f"{one.dataset}: {one.next_step}" for one in found if one.next_step):
            typer.echo(f"next: {step}", err=True)
    if any(one.state in {"changed", "own copy changed"} for one in found):
        raise typer.Exit(1)


def adopt_copies(
    name: Name,
    path: Annotated[
        Path, typer.Argument(help="A file of the dataset, or a folder with files called as in the record.")
    ],
    as_json: AsJson = False,
) -> None:
    """Take in copies that are on this machine already, after proving them."""
    from backbeat.datasets.adopt import adopt

    adopted = adopt(find_project(), name, path)
    if as_json:
        print_json(adopted)
        return
    print_table(("file", "state", "hash", "copy"), [(one.path, one.state, one.hash, one.source) for one in adopted])
    for one in adopted:
        if one.state == "unverified":
            typer.echo(f"next: the record of {name} has no hash for {one.path}; this is {one.hash}", err=True)


def new_dataset(
    name: Annotated[str, typer.Argument(help="What to call it: lower-case letters, digits and _.")],
    source: Annotated[str, typer.Argument(help="An address as in a record, zenodo://RECORD, or a file or folder.")],
    title: Annotated[str | None, typer.Option(help="Its name for people.")] = None,
    license_id: Annotated[
        str | None, typer.Option("--license", help="SPDX identifier, public-domain, per-item or unknown.")
    ] = None,
    license_url: Annotated[str | None, typer.Option(help="Where the license can be read.")] = None,
    commercial: Annotated[
        bool | None, typer.Option("--commercial/--no-commercial", help="Does the license allow commercial use?")
    ] = None,
    redistribute: Annotated[
        bool | None, typer.Option("--redistribute/--no-redistribute", help="May the data be handed on?")
    ] = None,
    purpose: Annotated[str | None, typer.Option(help="What the data is used for.")] = None,
    homepage: Annotated[str | None, typer.Option(help="Where it is described.")] = None,
    citation: Annotated[str | None, typer.Option(help="How its authors want to be cited.")] = None,
    fetch: Annotated[bool, typer.Option("--fetch/--no-fetch", help="Fetch it now, to know its hash.")] = True,
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing; what is not given is unknown.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the record of a new dataset, from an address or from files of your own."""
    from backbeat.datasets.new import Description, new
    from backbeat.datasets.registry import load_record

    project = find_project()
    texts = {"title": title, "license_id": license_id, "purpose": purpose}
    permissions = {"commercial": commercial, "redistribute": redistribute}
    if not yes and on_terminal():
        texts, permissions = _asked(name, texts, permissions)
    elif not yes and (title is None or license_id is None):
        raise ConfigError(
            "there is nobody to ask",
            expected="--title and --license",
            got="no terminal",
            next_step="give both, or --yes to write what is unknown as unknown",
        )
    description = Description(
        title=texts["title"] or name,
        license_id=texts["license_id"] or "unknown",
        license_url=license_url,
        commercial=permissions["commercial"],
        redistribute=bool(permissions["redistribute"]),
        purpose=texts["purpose"] or Description.purpose,
        homepage=homepage,
        citation=citation,
    )
    path = new(project, name, source, description, fetch=fetch)
    if as_json:
        print_json(load_record(project, name))
        return
    typer.echo(path.relative_to(project))
    typer.echo(f"next: look through it, then: backbeat datasets download {name}", err=True)


def prune_datasets(
    names: Annotated[
        list[str] | None, typer.Argument(help="Datasets to free. Without any: what no record refers to.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go; remove nothing.")] = False,
    only_copies: Annotated[
        bool, typer.Option("--only-copies", help="Also what cannot be had again; needs --certain, too.")
    ] = False,
    certain: Annotated[bool, typer.Option("--certain", help="Say it a second time.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make room: remove what no record refers to, or the bytes of datasets that can be had again."""
    from backbeat.datasets.prune import prune

    found = prune(find_project(), *(names or []), dry_run=dry_run, only_copies=only_copies, certain=certain)
    if as_json:
        print_json(found)
        return
    gone_bytes = sum(one.size_bytes for one in found if one.action == "removed")
    if found:
        rows = [(one.what, bytes_text(one.size_bytes), one.action, one.reason) for one in found]
        print_table(("what", "size", "", "why"), rows, right=("size",), squeeze="what")
    typer.echo(f"{bytes_text(gone_bytes)} {'would be freed' if dry_run else 'freed'}")
    if any(one.action == "kept" and one.reason.startswith("the only copy") for one in found):
        typer.echo("next: --only-copies --certain removes what cannot be had again, too", err=True)


def on_terminal() -> bool:
    """Return whether there is somebody to ask."""
    return sys.stdin.isatty()


def _asked(name: str, texts: Texts, permissions: Permissions) -> tuple[Texts, Permissions]:
    defaults = {"title": name, "license_id": "unknown", "purpose": "own experiments"}
    answers = {
        key: given or typer.prompt(_QUESTIONS[key], default=defaults[key], err=True) for key, given in texts.items()
    }
    # Of these two, nothing is stated or it is not the same for every item.
    if answers["license_id"] in {"unknown", "per-item"}:
        return answers, permissions
    return answers, {
        key: typer.confirm(_QUESTIONS[key], default=False, err=True) if given is None else given
        for key, given in permissions.items()
    }
