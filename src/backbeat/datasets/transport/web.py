"""HTTP as every part of this package speaks it: one kind of session, failures in one vocabulary, a bound per host.

`requests` brings what a network at work needs (proxies and certificates from the environment, and no credentials
carried along to another host); urllib3 below it hands over bytes as they arrive.
"""

from __future__ import annotations

import contextlib
import email.utils
import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError as Urllib3Error
from urllib3.exceptions import MaxRetryError

from backbeat.datasets.registry import RecordFile
from backbeat.datasets.transport.patience import Patience

TRANSIENT_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})

# What a host is asked at the same time. Zenodo slows down and then shuts out who asks for more.
CONNECTIONS_PER_HOST = 4
CONNECTIONS_TO = {"zenodo.org": 2}

# What reading a body can raise, besides what `requests` raises before it begins.
BODY_ERRORS = (Urllib3Error, requests.ConnectionError, OSError)

_slots: dict[str, threading.BoundedSemaphore] = {}
_slots_lock = threading.Lock()


def new_session() -> requests.Session:
    """Return a session that asks for bytes as they are: a compressed body has another length and another hash."""
    session = requests.Session()
    session.headers.update({"Accept-Encoding": "identity", "User-Agent": "backbeat"})
    session.hooks["response"].append(_name_parts)
    return session


def _name_parts(response: requests.Response, **_: object) -> None:
    """Call a part a part: rclone's S3 server sends the range that was asked for, says which it is, and calls it 200."""
    if response.status_code == 200 and "Range" in response.request.headers and "Content-Range" in response.headers:
        response.status_code = 206


def timeouts_s(patience: Patience) -> tuple[float, float]:
    """Return how long to wait for a connection and for a byte, as `requests` takes it."""
    return patience.connect_timeout_s, patience.idle_timeout_s


@contextlib.contextmanager
def host_slot(url: str) -> Iterator[None]:
    """Hold one of the few connections that the host of an address may have from this process at the same time."""
    host = urlsplit(url).hostname or ""
    with _slots_lock:
        if host not in _slots:
            _slots[host] = threading.BoundedSemaphore(CONNECTIONS_TO.get(host, CONNECTIONS_PER_HOST))
        slot = _slots[host]
    with slot:
        yield


def shown(url: str) -> str:
    """Return an address for a message: without a query, which may be a key."""
    return url.partition("?")[0]


def why(error: Exception) -> str:
    """Return what went wrong, for a message: without the query of any address, which may be a key.

    Args:
        error: from `requests`, or from what is below it.
    """
    if isinstance(error, requests.RequestException) and error.args and isinstance(error.args[0], Exception):
        error = error.args[0]
    if isinstance(error, MaxRetryError) and error.reason is not None:
        error = error.reason
    return re.sub(r"\?\S*", "", str(error)) or type(error).__name__


def compressed(response: requests.Response, file: RecordFile | None, size_bytes: int | None) -> str | None:
    """Return what to say about a body that has been compressed on its way; None if it is the file as it is.

    Some servers call a packed file compressed that they send as it is: one that has the promised size, or a promised
    hash to be compared with, is taken.

    Args:
        response: with the status 200 or 206.
        file: what is wanted; None if nothing is promised.
        size_bytes: of the whole file, as the server says it.
    """
    coding = response.headers.get("Content-Encoding", "").strip().lower()
    if coding in {"", "identity"}:
        return None
    if file is not None:
        of_that_size = file.promised_bytes is not None and size_bytes == file.promised_bytes
        if of_that_size or (file.promise is not None and None in {size_bytes, file.promised_bytes}):
            return None
    return f"the server sends it compressed ({coding}), which has another size and hash than the file"


def retry_after_s(response: requests.Response) -> float | None:
    """Return how long the server asks to wait, given in seconds or as a date; None if it does not ask."""
    asked = response.headers.get("Retry-After", "").strip()
    if asked.isdecimal():
        return float(asked)
    try:
        until = email.utils.parsedate_to_datetime(asked)
    except ValueError:
        return None
    return max(0.0, (until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def content_length(response: requests.Response) -> int | None:
    """Return the announced length of the body in bytes; None if there is no usable announcement."""
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def strong_validator(response: requests.Response) -> str | None:
    """Return what `If-Range` may carry for this version of the file (RFC 9110, 8.8 and 13.1.5), or None.

    That is a strong `ETag`; without any, a `Last-Modified` at least a minute older than the answer, since a file
    that has just been written may be written again within the second that the date cannot tell apart.
    """
    etag = response.headers.get("ETag", "")
    if etag:
        return etag if len(etag) > 2 and etag.startswith('"') else None
    try:
        modified = email.utils.parsedate_to_datetime(response.headers["Last-Modified"])
        answered = email.utils.parsedate_to_datetime(response.headers["Date"])
        return response.headers["Last-Modified"] if (answered - modified).total_seconds() >= 60 else None
    except (KeyError, ValueError, TypeError):
        return None
