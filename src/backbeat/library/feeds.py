"""Feeds that announce packs: RSS and Atom (feedparser), and JSON Feed 1.1 (https://www.jsonfeed.org/version/1.1/).

What is in a feed was written by strangers: text comes out of here without markup and control characters, and links are
`http` or `https` without a password, or they are left out. A feed that declares entities is refused: a few bytes of it
can stand for more than any memory holds.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import json
import time
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests

from backbeat.datasets.transport.web import BODY_ERRORS, new_session, retry_after_s, why
from backbeat.errors import LibraryError
from backbeat.library.settings import DiscoverSettings, Feed

# Some services turn away who does not say what it is.
USER_AGENT = "backbeat-discover/1 (sample library; reads this feed now and then)"

ACCEPT = "application/feed+json, application/rss+xml, application/atom+xml, */*;q=0.5"

MB = 1_000_000
MOST_ENTRIES = 500
MOST_TEXT_LETTERS = 20_000
MOST_TITLE_LETTERS = 160

_READ_BYTES = 2**16


@dataclass(frozen=True)
class Entry:
    """One announcement.

    Args:
        id: what tells it from the others of its feed.
        title: in one line.
        link: where it is read.
        published: the day, in UTC.
        text: what it says, without markup.
        links: every address in it, without those that are no web addresses.
    """

    id: str
    title: str
    link: str | None
    published: str | None
    text: str
    links: tuple[str, ...]


@dataclass(frozen=True)
class Fetched:
    """An answer: its entries, or None if nothing has changed, and how to ask next time."""

    entries: tuple[Entry, ...] | None
    validators: dict[str, str]


def fetch_feed(feed: Feed, validators: Mapping[str, str], settings: DiscoverSettings) -> Fetched:
    """Ask for a feed, conditionally.

    Args:
        feed: its address is of the configuration, and may be on this machine.
        validators: headers to ask with, of the last `Fetched`.
        settings: bounds of size and time.

    Raises:
        LibraryError: if there is no answer, or it is no feed.
    """
    deadline_s = time.monotonic() + settings.timeout_s
    headers = {"User-Agent": USER_AGENT, "Accept": ACCEPT, **validators}
    try:
        with (
            new_session() as session,
            session.get(feed.url, headers=headers, timeout=settings.timeout_s, stream=True) as response,
        ):
            if response.status_code == 304:
                return Fetched(None, dict(validators))
            _require_ok(feed, response)
            content = _read(feed, response, int(settings.largest_feed_mb * MB), deadline_s)
    except (requests.RequestException, *BODY_ERRORS) as error:
        raise _failure(feed, why(error)) from error
    given = {"If-None-Match": response.headers.get("ETag"), "If-Modified-Since": response.headers.get("Last-Modified")}
    entries = parse_feed(feed, content, response.headers.get("Content-Type", ""))
    return Fetched(entries, {name: value for name, value in given.items() if value})


def parse_feed(feed: Feed, content: bytes, content_type: str = "") -> tuple[Entry, ...]:
    """Return the entries of a feed, as they stand in it.

    Raises:
        LibraryError: if it is none.
    """
    entries = _of_json(feed, content) if content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{" else None
    if entries is None:
        entries = _of_xml(feed, content, content_type)
    return tuple({entry.id: entry for entry in entries if entry.title}.values())[:MOST_ENTRIES]


def plain(text: object, most_letters: int = MOST_TEXT_LETTERS) -> str:
    """Return text of strangers in one line, without markup and without what terminals and bidirectional text obey."""
    return _printable(" ".join(_read_page(str(text or "")[: 10 * most_letters]).said))[:most_letters]


class _Page(HTMLParser):
    """What a page says, and where its links lead; what is in scripts is not said."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self.links: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._silent += tag in {"script", "style"}
        self.links += [value for name, value in attrs if name == "href" and value]

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in {"script", "style"} and self._silent > 0

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.said.append(data)


def _read_page(text: str) -> _Page:
    page = _Page()
    # The parser gives up on some declarations that are none.
    with contextlib.suppress(AssertionError):
        page.feed(text)
        page.close()
    return page


def _of_json(feed: Feed, content: bytes) -> list[Entry] | None:
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _failure(feed, f"neither XML nor JSON: {error}") from error
    if not isinstance(values, dict) or "jsonfeed.org" not in str(values.get("version")):
        raise _failure(feed, "JSON that is no JSON Feed")
    items = values.get("items")
    found = []
    for item in items if isinstance(items, list) else []:
        if not isinstance(item, dict):
            continue
        attached = item.get("attachments")
        given = [item.get("url"), item.get("external_url")]
        given += [one.get("url") for one in attached if isinstance(one, dict)] if isinstance(attached, list) else []
        html = [str(item.get(name) or "") for name in ("content_html", "content_text", "summary")]
        title = item.get("title") or item.get("summary") or item.get("content_text")
        found.append(_entry(feed, item.get("id"), title, given, html, str(item.get("date_published") or "")[:10]))
    return found


def _of_xml(feed: Feed, content: bytes, content_type: str) -> list[Entry]:
    import feedparser

    # Without zeros, UTF-16 reads like ASCII.
    if b"<!entity" in content.replace(b"\0", b"").lower():
        raise _failure(feed, "it declares entities")
    # From a stream: a text could be taken for an address or a file name.
    parsed = feedparser.parse(
        io.BytesIO(content), response_headers={"content-type": content_type, "content-location": feed.url}
    )
    if not parsed.version:
        raise _failure(feed, "neither RSS nor Atom nor JSON Feed")
    found = []
    for item in parsed.entries:
        given = [item.get("link"), *(link.get("href") for link in item.get("links", []))]
        html = [str(item.get("summary") or ""), *(str(one.get("value") or "") for one in item.get("content", []))]
        moment = item.get("published_parsed") or item.get("updated_parsed")
        day = dt.date(*moment[:3]).isoformat() if moment else ""
        found.append(_entry(feed, item.get("id"), item.get("title"), given, html, day))
    return found


def _entry(feed: Feed, given_id: Any, title: Any, given: list[Any], html: list[str], day: str) -> Entry:
    page = _read_page(" ".join(dict.fromkeys(html))[: 10 * MOST_TEXT_LETTERS])
    link = next(_web(feed, given[:1]), None)
    return Entry(
        id=_printable(str(given_id or link or title or ""))[:MOST_TITLE_LETTERS],
        title=plain(title, MOST_TITLE_LETTERS),
        link=link,
        published=day if _is_day(day) else None,
        text=_printable(" ".join(page.said))[:MOST_TEXT_LETTERS],
        links=tuple(dict.fromkeys(_web(feed, [*given, *page.links]))),
    )


def _web(feed: Feed, given: Iterable[Any]) -> Iterator[str]:
    for one in given:
        try:
            address = urljoin(feed.url, str(one or "").strip())
            parts = urlsplit(address)
        except ValueError:
            continue
        is_web = parts.scheme in {"http", "https"} and parts.hostname and "@" not in parts.netloc
        if one and is_web and _printable(address) == address:
            yield address


def _printable(text: str) -> str:
    kept = "".join(" " if unicodedata.category(letter)[0] in "CZ" else letter for letter in text)
    return " ".join(kept.split())


def _is_day(day: str) -> bool:
    try:
        return bool(dt.date.fromisoformat(day))
    except ValueError:
        return False


def _read(feed: Feed, response: requests.Response, most_bytes: int, deadline_s: float) -> bytes:
    body = b""
    while chunk := response.raw.read1(_READ_BYTES, decode_content=True):
        body += chunk
        if len(body) > most_bytes:
            raise _failure(feed, f"more than {most_bytes:,} bytes")
        if time.monotonic() > deadline_s:
            raise _failure(feed, "no end of it in time")
    return body


def _require_ok(feed: Feed, response: requests.Response) -> None:
    if response.status_code != 200:
        wait_s = retry_after_s(response)
        later = "" if wait_s is None else f", try again in {wait_s:,.0f} s"
        raise _failure(feed, f"HTTP {response.status_code} {_printable(response.reason or '')}{later}")


def _failure(feed: Feed, got: str) -> LibraryError:
    return LibraryError(
        f"the feed {feed.name} cannot be read",
        expected=f"RSS, Atom or JSON Feed at {feed.url}",
        got=got,
        next_step="look at it in a browser; repeat the command later, or correct discover.feeds",
    )
