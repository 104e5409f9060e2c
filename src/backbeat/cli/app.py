"""The program `backbeat`: its groups of commands, and what becomes of an error."""

from __future__ import annotations

import logging
import sys
from typing import Annotated

# Loading takes a moment, in which somebody may change their mind.
try:
    import typer
    from rich.console import Console

    from backbeat.cli import (
        cloud,
        codespace,
        datasets,
        doctor,
        expand,
        experiments,
        init,
        library,
        pipeline,
        pretrained,
        report,
        storage,
        verify,
    )
    from backbeat.errors import BackbeatError
except KeyboardInterrupt:
    raise SystemExit(130) from None

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Declared datasets, versioned spectrograms and a drum transcriber.",
)
app.add_typer(cloud.app, name="cloud")
app.add_typer(codespace.app, name="codespace")
app.add_typer(datasets.app, name="datasets")
app.add_typer(experiments.app, name="experiments")
app.add_typer(library.app, name="library")
app.add_typer(storage.app, name="storage")
doctor.register(app)
expand.register(app)
init.register(app)
pipeline.register(app)
pretrained.register(app)
report.register(app)
verify.register(app)


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,  # noqa: ARG001
) -> None:
    """Transcribe drums, and make what it takes to do so."""
    # `debug` is for `main`, which sees it wherever it stands on the command line; here it is for --help.
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)


def main() -> None:
    """Run the program; a `BackbeatError` is a message and exit code 1, a Ctrl-C is 130."""
    debug = "--debug" in sys.argv
    sys.argv = [word for word in sys.argv if word != "--debug"]
    try:
        app()
    except BackbeatError as error:
        if debug:
            raise
        console = Console(stderr=True, soft_wrap=True, highlight=False)
        first, *others = str(error).split("\n")
        console.print(f"[bold red]error:[/] {_plain(first)}")
        for line in others:
            console.print(_plain(line))
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        typer.echo("interrupted; the same command goes on with what is finished", err=True)
        raise SystemExit(130) from None


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)
