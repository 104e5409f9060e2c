"""What the hubs do differently from a plain server: the cache of one, the forms and the refusals of all.

- A file that `huggingface_hub` has in its cache (`HF_HUB_CACHE`, else `HF_HOME`) at the revision of the record need not
  be fetched. It is proven like any other.
- Google Drive asks, in a page of HTML, whether a file that it could not scan for viruses shall be sent anyway. The
  answer is the address of the form in that page. Another page of it says that a file was fetched too often.
- A refusal has a reason that only the hub knows: terms not accepted, a token missing, a file withdrawn.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlencode, urljoin, urlsplit

from backbeat.datasets.registry import url_scheme
from backbeat.datasets.transport.addresses import GOOGLE_DRIVE, HubFile, hub_endpoint, hub_file, resolve, zenodo_file

_ADOPT = "or fetch it in a browser and hand it over with backbeat datasets adopt"
_ONLY_BROWSERS = "open the homepage of the dataset in a browser, fetch the file there, then: backbeat datasets adopt"

# What the pages say that come instead of a file, what that means, and what to do. Any host may send the last one.
_DRIVE_PAGES: tuple[tuple[tuple[bytes, ...], str, str], ...] = (
    (
        (b"quota exceeded", b"too many users have viewed or downloaded"),
        "Google Drive's quota page: too many people have fetched this file lately",
        f"wait a day and try again; or copy it to your own Drive and put its gdrive:// address first; {_ADOPT}",
    ),
    (
        (b"accounts.google.com/servicelogin", b"accounts.google.com/v3/signin", b"you need access"),
        "Google's sign-in page: the file is not shared with everybody",
        f"ask its owner to share it with everybody who has the link, {_ADOPT}",
    ),
)
_BROWSER_CHECKS = (b"<title>just a moment...", b"making sure you&#39;re not a bot", b"/.within.website/x/cmd/anubis")


def cached_file(url: str) -> Path | None:
    """Return the file of an `hf:` address in the Hugging Face cache of this machine; None if it is not in there."""
    if url_scheme(url) != "hf":
        return None
    from huggingface_hub import try_to_load_from_cache

    file = hub_file(url)
    try:
        found = try_to_load_from_cache(
            file.repo, file.name, repo_type="dataset", revision=file.revision, cache_dir=_cache_folder()
        )
    except (OSError, ValueError):  # a cache that cannot be read is as good as none
        return None
    # The snapshot holds links; what they point to is the file.
    return Path(found).resolve() if isinstance(found, str) else None


def follow_form(url: str, page: bytes) -> str | None:
    """Return where the form leads that Google Drive shows instead of a file; None if the page has no such form.

    Args:
        url: the address in the record.
        page: the HTML that was sent.
    """
    if not _is_drive(url):
        return None
    form = _Form()
    form.feed(page.decode("utf-8", errors="replace"))
    if form.action is None or "id" not in form.fields:
        return None
    asked = resolve(url).url
    onward = urljoin(asked, form.action)
    # The page is data from outside: it may not send anybody to another host.
    if urlsplit(onward)[:2] != urlsplit(asked)[:2]:
        return None
    return f"{onward.partition('?')[0]}?{urlencode(form.fields)}"


def explain_html(url: str, page: bytes) -> tuple[str, str] | None:
    """Return what a page of HTML is that came instead of a file, and what to do; None if it is not a known one.

    Args:
        url: the address in the record.
        page: the HTML that was sent, or its beginning.
    """
    text = page.lower()
    if _is_drive(url):
        for marks, got, next_step in _DRIVE_PAGES:
            if any(mark in text for mark in marks):
                return got, next_step
    if any(mark in text for mark in _BROWSER_CHECKS):
        return "a page that lets only browsers pass", _ONLY_BROWSERS
    return None


def explain_status(url: str, status: int, headers: Mapping[str, str]) -> str | None:
    """Return what to do about a status that a hub refuses with; None if it has nothing to do with the hub.

    Args:
        url: the address in the record.
        status: the HTTP status.
        headers: of the answer; in them the Hugging Face hub says what is wrong (`X-Error-Code`).
    """
    match url_scheme(url):
        case "hf":
            return _of_hugging_face(hub_file(url), status, headers.get("X-Error-Code", ""))
        case "zenodo" if status in {401, 403, 404, 410}:
            page = resolve(url).url.partition("/files/")[0]
            return f"look at {page}: record {zenodo_file(url)[0]} may be restricted, withdrawn or have other files"
        case "gdrive" if status in {401, 403, 404}:
            return f"ask its owner whether the file is still there and shared with everybody who has the link, {_ADOPT}"
    return None


def _of_hugging_face(file: HubFile, status: int, code: str) -> str | None:
    page = f"{hub_endpoint()}/datasets/{file.repo}"
    if code == "RevisionNotFound":
        return f"compare with {page}/commits/main: there is no revision {file.revision}"
    if code == "EntryNotFound":
        return f"compare with {page}/tree/{file.revision}: there is no {file.name}"
    if code == "GatedRepo" or status == 403:
        return f"log in, accept the terms at {page}, then set HF_TOKEN to a token that may read it"
    # The hub tells nobody whether a repository that they may not see exists.
    if status in {401, 404}:
        return f"look at {page}: if it is private or asks for terms, set HF_TOKEN to a token that may read it"
    return None


def _is_drive(url: str) -> bool:
    return url_scheme(url) == "gdrive" or urlsplit(url)[:2] == urlsplit(GOOGLE_DRIVE)[:2]


def _cache_folder() -> str | None:
    """Return where the environment says that the cache is now; the library remembers what it said at first."""
    home = os.environ.get("HF_HOME")
    return os.environ.get("HF_HUB_CACHE") or (str(Path(home, "hub")) if home else None)


class _Form(HTMLParser):
    """The first form of a page that has hidden fields, or an `id` in its address."""

    def __init__(self) -> None:
        super().__init__()
        self.action: str | None = None
        self.fields: dict[str, str] = {}
        self._open = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form" and self.action is None:
            self.action, self._open = values.get("action", ""), True
        elif tag == "input" and self._open and values.get("name") and values.get("type", "").lower() == "hidden":
            self.fields[values["name"]] = values.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._open = False
