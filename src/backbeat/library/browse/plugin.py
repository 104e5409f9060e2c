"""What datasette learns: players in the column `audio`, their sounds, the page of a sample, and the search in words.

A sound is asked for by the number of its sample and nothing else, so that no address leads to a file that is not in
the catalog. The server is for this machine: what asks under another name than that of this machine is a page of
somebody else, whose name was made to point here, and is refused.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import soundfile
from datasette import NotFound, Response, hookimpl
from datasette.app import Datasette
from datasette.filters import FilterArguments
from markupsafe import Markup
from sqlite_utils import Database

from backbeat.errors import BackbeatError
from backbeat.library.browse.sound import Playable, part_of, playable
from backbeat.library.query import Vocabulary, parse
from backbeat.library.show import readable, show
from backbeat.library.sources import read_sample

DATABASE, VIEW = "catalog", "library"

# The sounds that are kept for the next part of them that is asked for; a long one is some ten MB.
_KEPT = 8

_FAULT_OF_OURS = 500
_log = logging.getLogger(__name__)

_HOSTS = {"127.0.0.1", "localhost"}

Scope = dict[str, Any]
Application = Callable[[Scope, Any, Any], Awaitable[None]]


class Browse:
    """The hooks, for one catalog.

    Args:
        project: the root of the repository.
        vocabulary: what the words of this catalog mean.
    """

    def __init__(self, project: Path, vocabulary: Vocabulary) -> None:
        self.__name__ = __name__  # datasette lists its plugins by that of a module
        self._project = project
        self._vocabulary = vocabulary
        self._playable = functools.lru_cache(maxsize=_KEPT)(self._read)

    @hookimpl  # type: ignore[untyped-decorator]
    def render_cell(self, value: Any, column: str, database: str) -> Markup | None:
        """Put a player where a number of a sample is in the column `audio`."""
        if column != "audio" or database != DATABASE or not isinstance(value, int):
            return None
        return player(value)

    @hookimpl  # type: ignore[untyped-decorator]
    def extra_template_vars(self) -> dict[str, Any]:
        """Let templates make players, and put what facets are about into words and order."""
        return {"player": player, "readable": readable, "ordered": ordered}

    @hookimpl  # type: ignore[untyped-decorator]
    def filters_from_request(self, request: Any, database: str, table: str) -> FilterArguments | None:
        """Take `?_q=` as `backbeat library find` takes its text."""
        text = request.args.get("_q", "")
        if (database, table) != (DATABASE, VIEW):
            return None
        query = parse(text, self._vocabulary)
        clauses, values = query.where()
        understood = query.understood if text.strip() else ""
        return FilterArguments(clauses, values, extra_context={"asked": text, "understood": understood})

    @hookimpl  # type: ignore[untyped-decorator]
    def register_routes(self) -> list[tuple[str, Any]]:
        """Serve sounds and pages of samples; the first page is the library."""
        return [
            (r"^/$", self.first_page),
            (r"^/-/sound/(?P<number>\d{1,9})$", self.sound),
            (r"^/-/sample/(?P<number>\d{1,9})$", self.sample),
        ]

    @hookimpl  # type: ignore[untyped-decorator]
    async def handle_exception(self, datasette: Datasette, request: Any, exception: Exception) -> Response:
        """Say what was wrong with a request; what is wrong with the program goes to the log."""
        status = int(getattr(exception, "status", 500))
        message = str(getattr(exception, "message", None) or exception)
        if status >= _FAULT_OF_OURS:
            _log.error("%s", request.path, exc_info=exception)
        if request.path.partition("?")[0].endswith(".json"):
            return Response.json({"ok": False, "error": message, "status": status}, status=status)
        shown = Markup(message) if getattr(exception, "message_is_html", False) else message  # noqa: S704 - datasette's
        page = await datasette.render_template("fault.html", {"status": status, "message": shown}, request=request)
        return Response.html(page, status=status)

    @hookimpl  # type: ignore[untyped-decorator]
    def asgi_wrapper(self) -> Callable[[Application], Application]:
        """Answer to the names of this machine alone."""

        def wrap(application: Application) -> Application:
            async def checked(scope: Scope, receive: Any, send: Any) -> None:
                if scope["type"] == "http":
                    host = dict(scope["headers"]).get(b"host", b"").decode("latin-1").rpartition(":")[0]
                    if host not in _HOSTS:
                        await Response.text("This catalog is for this machine alone.", status=403).asgi_send(send)
                        return
                await application(scope, receive, send)

            return checked

        return wrap

    async def first_page(self, datasette: Datasette) -> Response:
        """Lead to the library."""
        return Response.redirect(datasette.urls.table(DATABASE, VIEW))

    async def sound(self, request: Any, datasette: Datasette) -> Response:
        """Answer with the bytes of a sample."""
        row = await self._row(datasette, int(request.url_vars["number"]))
        try:
            found = await asyncio.to_thread(self._playable, tuple(row.items()))
        except (BackbeatError, soundfile.LibsndfileError, OSError) as error:
            return Response.text(str(error), status=404)
        part = part_of(found.content, request.headers.get("range"))
        return Response(part.content, status=part.status, headers=part.headers, content_type=found.media_type)

    async def sample(self, request: Any, datasette: Datasette) -> Response:
        """Answer with the page of a sample."""
        row = await self._row(datasette, int(request.url_vars["number"]))
        shown = await datasette.get_database(DATABASE).execute_fn(
            lambda connection: show(Database(connection, execute_plugins=False), row["sample"])
        )
        return Response.html(await datasette.render_template("sample.html", {"shown": shown}, request=request))

    async def _row(self, datasette: Datasette, number: int) -> dict[str, Any]:
        result = await datasette.get_database(DATABASE).execute(
            "SELECT sources.name || '/' || samples.path AS sample, sources.name AS source, samples.path, container,"
            " tier, file_sha256 FROM samples JOIN sources ON sources.id = source_id WHERE samples.id = ?",
            (number,),
        )
        row = result.first()
        if row is None:
            raise NotFound(f"There is no sample {number}.")
        return dict(row)

    def _read(self, row: tuple[tuple[str, Any], ...]) -> Playable:
        return playable(read_sample(self._project, dict(row)))


def player(number: int) -> Markup:
    """Return the audio element of a sample."""
    return Markup('<audio controls preload="none" src="/-/sound/{}"></audio>').format(number)


def ordered(facet: str, values: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the values of a facet as people expect them: bands by what they are, the rest by how many there are."""
    if facet not in {"tempo", "quality"}:
        return values
    return sorted(values, key=lambda one: int(str(one["value"]).partition("-")[0]), reverse=facet == "quality")
