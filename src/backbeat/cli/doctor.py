"""`backbeat doctor`: one table over everything."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer

from backbeat.cli.printing import AsJson, print_json, print_table
from backbeat.config import find_project


def register(app: typer.Typer) -> None:
    """Add the command of this module to the program."""
    app.command("doctor")(examine_everything)


def examine_everything(
    offline: Annotated[bool, typer.Option("--offline", help="Ask nothing of the network.")] = False,
    as_json: AsJson = False,
) -> None:
    """Look at machine, disk, data, keys and bucket; exits with 1 if something fails. Each line has its next step."""
    from backbeat.cloud.doctor import examine

    lines = examine(find_project(), offline=offline)
    if as_json:
        print_json(lines)
    else:
        rows = [
            (line.name, line.state, f"{line.found}\nnext: {line.next_step}" if line.next_step else line.found)
            for line in lines
        ]
        print_table(("", "state", "found"), rows)
        states = Counter(line.state for line in lines)
        typer.echo(f"\n{states['ok']} ok, {states['warning']} to be looked at, {states['fails']} failing")
    if any(line.state == "fails" for line in lines):
        raise typer.Exit(1)
