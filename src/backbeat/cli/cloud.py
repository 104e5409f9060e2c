"""`backbeat cloud`: the bucket; each kind of command has a module of its own."""

from __future__ import annotations

import typer

from backbeat.cli import cloud_cost, cloud_mirror, cloud_rehearsal, cloud_transfer

app = typer.Typer(no_args_is_help=True, help="The bucket: push, pull, status, cost, mirror, backup, and a rehearsal.")

for module in (cloud_transfer, cloud_rehearsal, cloud_cost, cloud_mirror):
    module.register(app)
