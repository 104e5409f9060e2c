"""What a publisher says about a file without sending it: its size, its version, and its hash where a hub knows it.

A file is asked about with HEAD. Where that is refused or says too little, its first byte is asked for instead, and the
connection closed at once. The Hugging Face hub says size and SHA-256 of a large file before it redirects to where the
file is; Zenodo lists size and MD5 of all files of a record in one answer.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from email.message import Message
from typing import Any, TypeVar

import requests

from backbeat.datasets.registry import HASH_PATTERN
from backbeat.datasets.transport import addresses
from backbeat.datasets.transport.addresses import resolve
from backbeat.datasets.transport.hubs import explain_html, explain_status
from backbeat.datasets.transport.patience import Patience
from backbeat.datasets.transport.web import (
    BODY_ERRORS,
    TRANSIENT_STATUSES,
    content_length,
    host_slot,
    new_session,
    retry_after_s,
    shown,
    timeouts_s,
    why,
)
from backbeat.errors import DownloadError

# A question about many files must not wait for the slowest host for minutes.
SHORT = Patience(
    tries=3, unreachable_tries=1, first_wait_s=1, longest_wait_s=10, connect_timeout_s=10, idle_timeout_s=20
)

# A listing of a record with a thousand files has some 500 kB; a page that came instead is told from its beginning.
LISTING_BYTES = 16 * 2**20
PAGE_BYTES = 64 * 2**10

_AnswerT = TypeVar("_AnswerT")


@dataclass(frozen=True)
class Upstream:
    """What is known of a file at its publisher; None where nothing is said.

    Args:
        size_bytes: its size.
        etag: its version, as the server calls it.
        last_modified: when it was written, as the server says.
        hash: as in a record: `sha256:…` or `md5:…`.
        revision: the commit it was found at, on the Hugging Face hub.
        name: what the server calls it when it hands it over.
    """

    size_bytes: int | None = None
    etag: str | None = None
    last_modified: str | None = None
    hash: str | None = None
    revision: str | None = None
    name: str | None = None


class _Busy(Exception):  # noqa: N818 - it is a signal between two functions here, no error that anybody sees
    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


def look(url: str, patience: Patience = SHORT) -> Upstream:
    """Return what the publisher says about the file at an `http:`, `https:`, `hf:`, `gdrive:` or `zenodo:` address.

    Raises:
        DownloadError: if it cannot be had there, with the reason.
    """
    address = resolve(url)

    def ask(session: requests.Session) -> Upstream:
        timeouts, headers = timeouts_s(patience), dict(address.headers)
        head = session.head(address.url, headers=headers, timeout=timeouts, allow_redirects=True)
        # The place that the hub redirects to need not answer to HEAD: its links are signed for GET.
        told = _told_by_hub([*head.history, head])
        if told is not None:
            return told
        if head.status_code == 200 and content_length(head) is not None and not _is_page(url, head):
            return _told(head, content_length(head))
        headers["Range"] = "bytes=0-0"
        with session.get(address.url, headers=headers, timeout=timeouts, stream=True) as first:
            return _told_with_first_byte(url, first)

    return _patiently(url, address.url, patience, ask)


def zenodo_files(record: str, patience: Patience = SHORT) -> dict[str, Upstream]:
    """Return all files of a Zenodo record, by name.

    Raises:
        DownloadError: if there is no such record, or what comes is not a listing.
    """
    url = f"{addresses.ZENODO}/api/records/{record}"

    def ask(session: requests.Session) -> dict[str, Upstream]:
        with session.get(url, timeout=timeouts_s(patience), stream=True) as response:
            _require_ok(f"zenodo://{record}/", response)
            text = response.raw.read(LISTING_BYTES, decode_content=True)
        try:
            return {str(entry["key"]): _zenodo_file(entry) for entry in json.loads(text)["files"]}
        except (ValueError, KeyError, TypeError) as error:
            got = f"{type(error).__name__}: {error}"
            raise _failure(url, got, f"look at {addresses.ZENODO}/records/{record}: is it restricted?") from error

    return _patiently(url, url, patience, ask)


def _zenodo_file(entry: dict[str, Any]) -> Upstream:
    checksum = str(entry.get("checksum", ""))
    return Upstream(size_bytes=int(entry["size"]), hash=checksum if re.fullmatch(HASH_PATTERN, checksum) else None)


def _patiently(url: str, asked: str, patience: Patience, ask: Callable[[requests.Session], _AnswerT]) -> _AnswerT:
    for failures in range(1, patience.tries + 1):
        try:
            with host_slot(asked), new_session() as session:
                return ask(session)
        except _Busy as failure:
            reason, wait_s = str(failure), failure.wait_s
        except requests.RequestException as error:
            reason, wait_s = f"no answer: {why(error)}", None
            if isinstance(error, requests.ConnectionError) and failures >= patience.unreachable_tries:
                break
        except BODY_ERRORS as error:
            reason, wait_s = f"the connection broke: {why(error)}", None
        if failures < patience.tries:
            time.sleep(patience.wait_s(failures, wait_s))
    raise _failure(url, reason, "try again later, or look at the publisher's page")


def _told_by_hub(answers: Iterable[requests.Response]) -> Upstream | None:
    for answer in answers:
        size, etag = answer.headers.get("X-Linked-Size", ""), answer.headers.get("X-Linked-Etag", "").strip('"')
        if answer.ok and size.isdecimal() and etag:
            promise = f"sha256:{etag}"
            known = promise if re.fullmatch(HASH_PATTERN, promise) else None
            return Upstream(int(size), etag, hash=known, revision=answer.headers.get("X-Repo-Commit"))
    return None


def _told_with_first_byte(url: str, first: requests.Response) -> Upstream:
    total = re.fullmatch(r"bytes (?:0-0|\*)/(\d+)", first.headers.get("Content-Range", ""))
    if first.status_code in {206, 416} and total is not None:
        return _told(first, int(total[1]))
    _require_ok(url, first)
    if _is_page(url, first):
        page = first.raw.read(PAGE_BYTES, decode_content=True)
        got, next_step = explain_html(url, page) or ("a page of HTML", f"look at {shown(url)} in a browser")
        raise _failure(url, got, next_step)
    return _told(first, content_length(first))


def _told(answer: requests.Response, size_bytes: int | None) -> Upstream:
    headers = answer.headers
    # Files of the hub that are not large are in Git: the commit is known, the hash is Git's own.
    return Upstream(
        size_bytes=None if headers.get("Content-Encoding", "identity") != "identity" else size_bytes,
        etag=headers.get("ETag"),
        last_modified=headers.get("Last-Modified"),
        revision=headers.get("X-Repo-Commit"),
        name=_file_name(headers.get("Content-Disposition")),
    )


def _file_name(disposition: str | None) -> str | None:
    parsed = Message()
    parsed["Content-Disposition"] = disposition or ""
    # A name from outside: without folders, whichever way they are written.
    return (parsed.get_filename() or "").replace("\\", "/").rpartition("/")[2] or None


def _require_ok(url: str, answer: requests.Response) -> None:
    status = f"HTTP {answer.status_code} {answer.reason}"
    if answer.status_code in TRANSIENT_STATUSES:
        raise _Busy(status, retry_after_s(answer))
    if answer.status_code != 200:
        step = explain_status(url, answer.status_code, answer.headers)
        raise _failure(url, status, step or "look at the publisher's page: has the file moved?")


def _is_page(url: str, answer: requests.Response) -> bool:
    kind = answer.headers.get("Content-Type", "").lower()
    return kind.startswith(("text/html", "application/xhtml")) and not shown(url).lower().endswith((".html", ".htm"))


def _failure(url: str, got: str, next_step: str) -> DownloadError:
    return DownloadError(
        f"nothing can be learned about {shown(url)}", expected="an answer", got=got, next_step=next_step
    )
