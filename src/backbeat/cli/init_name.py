"""`backbeat init`: the part of it that is about the project's name and owner."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from backbeat.template.plan import Renaming


# How many experiments a note names.
MOST_NAMED = 5


def asked_name(project: Path) -> str:
    """Ask what the project is to be called."""
    from backbeat.template.plan import present

    return str(typer.prompt("Project", default=present(project).program, err=True)).strip()


def is_new_name(project: Path, name: str) -> bool:
    """Return whether a project is not called so, or not wholly."""
    from backbeat.template.plan import present
    from backbeat.template.tree import is_interrupted

    return name != present(project).program or is_interrupted(project)


def asked_holder(project: Path, name: str) -> str | None:
    """Ask who has the rights, of somebody who is renaming the project."""
    from backbeat.template.plan import present

    if name == present(project).program:
        return None
    return typer.prompt("License holder (empty: as it is)", default="", err=True).strip() or None


def summary(renaming: Renaming) -> Mapping[str, Any]:
    """Return for programs what a renaming does."""
    return {
        "before": renaming.before.program, "after": renaming.after.program, "places": renaming.places,
        "files": sorted(renaming.files), "moved": len(renaming.gone), "changes": renaming.said,
    }  # fmt: skip


def print_renaming(renaming: Renaming) -> None:
    """Print what a renaming does."""
    before, after = renaming.before, renaming.after
    if renaming.package:
        typer.echo("name")
        typer.echo(f"  program: {before.program} -> {after.program}")
        typer.echo(f"  package: {' -> '.join(renaming.package)}")
        typer.echo(f"  variables: {before.variable}_… -> {after.variable}_…")
        typer.echo(f"  in prose: {before.title} -> {after.title}")
        files, moved = len(renaming.files), len(renaming.gone)
        typer.echo(f"  {renaming.places:,} places in {files} files, {moved} of which have another path afterwards")
    for line in renaming.said:
        file, _, what = line.partition(": ")
        typer.echo(f"{file}\n  {what}")


def steps_after(renaming: Renaming, experiments: list[str]) -> str:
    """Return what is left to do after a rename, as commands in their order."""
    old, new = renaming.before, renaming.after
    steps = {
        "git add --all && git diff --cached --find-renames --stat": "git reset --hard takes back what Git knows",
        f'git commit --message "Call it {new.program}"': "",
        "make setup": f"installs the program {new.program}",
        f".venv/bin/python -m pip uninstall --yes {old.program}": "what is left of the old name",
        "make check test": "",
        f".venv/bin/{new.program} doctor": "",
    }
    width = max(map(len, steps))
    lines = [f"  {step:{width}}  {f'# {why}' if why else ''}".rstrip() for step, why in steps.items()]
    text = "next, in this order:\n" + "\n".join(lines)
    text += f"\nnote: variables of .env, of a Codespace or of CI begin with {new.variable}_ now, not {old.variable}_"
    if experiments:
        named = ", ".join(experiments[:MOST_NAMED]) + ", …" * (len(experiments) > MOST_NAMED)
        text += f"\nnote: experiments of before are still in this clone ({named}): dvc exp remove --all-commits"
    return text
