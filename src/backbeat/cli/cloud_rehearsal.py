"""`backbeat cloud serve`: a bucket on this machine."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer

from backbeat.config import find_project


def register(app: typer.Typer) -> None:
    """Add the command of this module to the group `cloud`."""
    app.command("serve")(serve_bucket)


def serve_bucket(
    folder: Annotated[
        Path | None, typer.Argument(help="Where the buckets are. Default: `rehearsal` beside DVC's cache.")
    ] = None,
    port: Annotated[int, typer.Option(help="Where to listen, on this machine only.", min=1, max=65535)] = 9000,
) -> None:
    """Serve a real S3 bucket on this machine, to rehearse push, pull and a Codespace's start with no account."""
    from backbeat.cloud.serve import REHEARSAL_KEY_ID, REHEARSAL_SECRET, serve
    from backbeat.remote.settings import read_remote
    from backbeat.storage.staging import cache_dir

    project = find_project()
    settings = read_remote(project)
    # Ended by `kill` it has to take rclone with it, as it does by Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    place = folder or cache_dir(project).with_name("rehearsal")
    with serve(place.resolve(), (settings.bucket,), port=port) as serving:
        typer.echo(f"bucket {settings.bucket} at {serving.endpoint_url}, in {serving.folder}; Ctrl-C ends it")
        typer.echo("in another terminal, in this clone or any other:\n")
        typer.echo(f"  export B2_ACCOUNT_ID={REHEARSAL_KEY_ID} B2_APPLICATION_KEY={REHEARSAL_SECRET}")
        typer.echo(f"  dvc remote modify --local {settings.name} endpointurl {serving.endpoint_url}\n")
        typer.echo(f"and to end the rehearsal: dvc remote modify --local --unset {settings.name} endpointurl")
        serving.process.wait()
