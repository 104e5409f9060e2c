"""`backbeat codespace start`: what a new container needs before somebody works in it."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from backbeat.cli.printing import AsJson, print_json

app = typer.Typer(no_args_is_help=True, help="A container, such as a GitHub Codespace: get it ready to train.")

_STYLES = {"done": "green", "as it was": "green", "missing": "yellow", "failed": "red"}


@app.callback()
def _group() -> None:
    """Get a container ready to train."""


@app.command("start")
def start_codespace(
    pull: Annotated[
        list[str] | None,
        typer.Option(
            help="What to pull: a dataset, stage or path, once for each. Default: BACKBEAT_CODESPACE_PULL, or else "
            "the synthetic dataset and the model."
        ),
    ] = None,
    mount: Annotated[bool, typer.Option("--mount", help="Mount the mirror of the raw archives instead.")] = False,
    nothing: Annotated[bool, typer.Option("--nothing", help="Bring no data.")] = False,
    as_json: AsJson = False,
) -> None:
    """Place the cache, set the bucket, pull a small set; say what is missing. The exit code is 0 in any case."""
    from backbeat.cloud.codespace import Step, start
    from backbeat.config import find_project
    from backbeat.errors import BackbeatError

    try:
        steps = start(find_project(), how="mount" if mount else "nothing" if nothing else "pull", targets=pull or [])
    except BackbeatError as error:
        # Not in a project: a sentence, and the container starts.
        steps = [Step("project", "failed", error.what, error.next_step)]
    if as_json:
        print_json(steps)
        return
    console = Console(highlight=False, soft_wrap=True)
    for step in steps:
        console.print(f"[{_STYLES[step.state]}]{step.name}:[/] ", end="")
        console.print(step.text, markup=False)
    for line in dict.fromkeys(f"next: {step.next_step}" for step in steps if step.next_step):
        console.print(line, markup=False)
