"""`backbeat library`: drum samples described, free of duplicates, curated, archived, found again."""

from __future__ import annotations

import typer

from backbeat.cli import (
    library_archive,
    library_care,
    library_catalog,
    library_curate,
    library_describe,
    library_scan,
    library_vibe,
)

app = typer.Typer(no_args_is_help=True, help="Samples: describe, de-duplicate, curate, archive, find.")

# In the order in which they are listed.
for _group in (
    library_scan,
    library_describe,
    library_curate,
    library_archive,
    library_catalog,
    library_vibe,
    library_care,
):
    _group.register(app)
