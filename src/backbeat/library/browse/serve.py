"""Serve the catalog to browsers of this machine, until somebody ends it."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvicorn
from datasette.app import Datasette
from datasette.plugins import pm

from backbeat.errors import LibraryError
from backbeat.library.browse.plugin import DATABASE, VIEW, Browse
from backbeat.library.catalog import CATALOG_FILE, read_catalog
from backbeat.library.lookup import vocabulary

ADDRESS = "127.0.0.1"

FACETS = ("class", "kind", "tempo", "key", "quality", "brightness", "source", "tier")
SORTABLE = ("name", "class", "duration_ms", "tempo_bpm", "key", "score", "rating")

_FAULTS = "datasette.handle_exception"

_HERE = Path(__file__).parent
_SETTINGS = {
    "default_page_size": 50,
    "default_facet_size": 12,
    # Eight facets over 50,000 samples, on a machine that has other things to do.
    "facet_time_limit_ms": 3_000,
    "sql_time_limit_ms": 10_000,
    "suggest_facets": False,
    "allow_download": False,
}


def serve(project: Path, *, port: int, announce: Callable[[str], None]) -> None:
    """Serve the catalog at 127.0.0.1 until Ctrl-C.

    Args:
        project: the root of the repository.
        port: where to listen; 0 for any that is free.
        announce: is called with the address once it can be opened.

    Raises:
        LibraryError: if there is no catalog, or the port is taken.
    """
    with read_catalog(project) as db:
        plugin = Browse(project, vocabulary(db))
    application = _datasette(project).app
    with contextlib.closing(_listening(port)) as listening:
        pm.register(plugin)
        # It prints the traceback of every page that is not there, and fails at that where `rich` is installed.
        replaced = pm.unregister(name=_FAULTS)
        try:
            server = uvicorn.Server(uvicorn.Config(application(), log_level="warning", lifespan="on"))
            announce(f"http://{ADDRESS}:{listening.getsockname()[1]}/")
            with contextlib.suppress(KeyboardInterrupt):
                server.run(sockets=[listening])
        finally:
            pm.unregister(plugin)
            pm.register(replaced, _FAULTS)


def _datasette(project: Path) -> Datasette:
    view: dict[str, Any] = {"facets": list(FACETS), "sortable_columns": list(SORTABLE), "sort_desc": "score"}
    return Datasette(
        immutables=[str(project / CATALOG_FILE)],
        metadata={"title": "Sample library", "databases": {DATABASE: {"tables": {VIEW: view}}}},
        template_dir=str(_HERE / "templates"),
        static_mounts=[("library", str(_HERE / "static"))],
        settings=_SETTINGS,
    )


def _listening(port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((ADDRESS, port))
        listening.listen(64)
    except OSError as error:
        listening.close()
        raise LibraryError(
            f"cannot listen at {ADDRESS}:{port}", got=str(error), next_step="name another --port, or 0 for any"
        ) from error
    return listening
