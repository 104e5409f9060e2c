"""One file over HTTP, resumed where that is safe and started over where it is not.

The rules, after RFC 9110 (13.1.5, 14.4, 15.3.7, 15.5.17):

- Bytes are resumed only if the server gave a strong `ETag` for them. The request then carries `Range` and
  `If-Range`, so that a server whose file has changed sends the whole new one. No `ETag`, or a weak one: start over.
- A 206 must start where it was asked to, have the same total, and carry the same `ETag`; if not, what is here is
  dropped and the file is asked for from its first byte.
- A 200 is the whole file, whatever was asked for: start over with its bytes.
- A 416 whose total is what is here means that nothing is missing; any other 416 means to start over.
- A body may be of any length until it ends, but it must end at the promised or announced size. If neither the
  record nor the server says when the file is complete, it is refused: a cut would look like an end.
- A page of HTML where data was expected is never written.
- Refused (408, 425, 429, 5xx), broken and silent connections are tried again with doubling waits, or after the wait
  that the server asks for, up to a limit; each new byte sets the count of failures back. Other answers are final.
"""

from __future__ import annotations

import email.utils
import logging
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

import httpx

from backbeat.datasets.partial import Origin, Partial
from backbeat.datasets.patience import Patience
from backbeat.datasets.registry import RecordFile
from backbeat.errors import DownloadError
from backbeat.progress import progress
from backbeat.storage.staging import disk_errors, require_space

TRANSIENT_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
HTML_TYPES = ("text/html", "application/xhtml")

_log = logging.getLogger(__name__)


class _TryAgain(Exception):  # noqa: N818 - it is a signal between two functions here, no error that anybody sees
    def __init__(self, reason: str, *, tries: int, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.tries = tries
        self.wait_s = wait_s


@dataclass(frozen=True)
class Transfer:
    """One file on its way from one address.

    Args:
        dataset: the name of the record, for messages.
        file: what is wanted.
        url: where it is fetched from.
        part: where its bytes go.
        patience: how long to try.
    """

    dataset: str
    file: RecordFile
    url: str
    part: Partial
    patience: Patience

    def run(self) -> None:
        """Fetch until all bytes are in the partial file; their hash is for the caller to check.

        Raises:
            DownloadError: if the server says no, sends something else, or patience has run out.
            StorageError: if the disk is or would be full; nothing is asked for if that is known before.
        """
        if self.file.promised_bytes is not None:
            if self.part.size_bytes == self.file.promised_bytes:
                return
            self._require_space(self.file.promised_bytes)
        if self._known_etag() is not None:
            self.part.hash_existing()
        timeout = httpx.Timeout(self.patience.idle_timeout_s, connect=self.patience.connect_timeout_s)
        with httpx.Client(timeout=timeout, follow_redirects=True) as client:
            self._persist(client)

    def _persist(self, client: httpx.Client) -> None:
        failures = 0
        most_bytes = self.part.size_bytes
        while True:
            try:
                return self._attempt(client)
            except _TryAgain as failure:
                failures = 1 if self.part.size_bytes > most_bytes else failures + 1
                most_bytes = max(most_bytes, self.part.size_bytes)
                if failures >= failure.tries:
                    raise self._failure(f"{failure} ({failures} times in a row)") from failure
                wait_s = self.patience.wait_s(failures, failure.wait_s)
                _log.warning("%s: %s: %s; next try in %.0f s", self.dataset, shown(self.url), failure, wait_s)
                time.sleep(wait_s)

    def _attempt(self, client: httpx.Client) -> None:
        etag = self._known_etag()
        headers = {"Accept-Encoding": "identity"}
        if etag is not None:
            headers |= {"Range": f"bytes={self.part.size_bytes}-", "If-Range": etag}
        try:
            with client.stream("GET", self.url, headers=headers) as response:
                self._take(response, etag)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            reason = f"{urlsplit(self.url).netloc.rpartition('@')[2]} cannot be reached: {error or 'no answer'}"
            # A host that has sent something does exist: it is the network that is down, which takes longer to mend.
            tries = self.patience.tries if self.part.size_bytes else self.patience.unreachable_tries
            raise _TryAgain(reason, tries=tries) from error
        except httpx.TimeoutException as error:
            reason = f"no byte for {self.patience.idle_timeout_s:g} s"
            raise _TryAgain(reason, tries=self.patience.tries) from error
        except (httpx.NetworkError, httpx.RemoteProtocolError) as error:
            raise _TryAgain(f"the connection broke: {error}", tries=self.patience.tries) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._failure(str(error)) from error

    def _take(self, response: httpx.Response, etag: str | None) -> None:
        if response.status_code == 206 and etag is not None:
            self._check_range(response, etag)
            self._receive(response, response.iter_raw())
        elif response.status_code == 416 and etag is not None:
            self._check_complete(response)
        elif response.status_code == 200:
            self._start_over(response)
        elif response.status_code in TRANSIENT_STATUSES:
            reason = f"HTTP {response.status_code} {response.reason_phrase}"
            raise _TryAgain(reason, tries=self.patience.tries, wait_s=retry_after_s(response))
        else:
            raise self._failure(f"HTTP {response.status_code} {response.reason_phrase}")

    def _check_range(self, response: httpx.Response, etag: str) -> None:
        given = response.headers.get("Content-Range", "nothing")
        found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", given)
        have, size = self.part.size_bytes, self.file.promised_bytes
        fits = found is not None and int(found[1]) == have and int(found[2]) == int(found[3]) - 1
        if not fits or (size is not None and found is not None and int(found[3]) != size):
            self._distrust(f"asked for bytes {have}- of {size or 'all'}, got Content-Range {given}")
        if response.headers.get("ETag") != etag:
            self._distrust("the file has another ETag now")

    def _check_complete(self, response: httpx.Response) -> None:
        total = re.fullmatch(r"bytes \*/(\d+)", response.headers.get("Content-Range", ""))
        if (
            total is None
            or int(total[1]) != self.part.size_bytes
            or self.file.promised_bytes not in {None, int(total[1])}
        ):
            self._distrust("HTTP 416: the server has fewer bytes than are here")

    def _distrust(self, reason: str) -> None:
        self.part.remove()
        raise _TryAgain(f"{reason}; starting over", tries=self.patience.tries)

    def _start_over(self, response: httpx.Response) -> None:
        length = _content_length(response)
        body = response.iter_raw()
        first = next(body, b"")
        if self._is_html(response, first):
            got = f"{response.headers.get('Content-Type', 'an unnamed type')}, a page of HTML of {_amount(length)}"
            raise self._failure(got, next_step=f"look at {shown(self.url)} in a browser: is it a login, a notice?")
        if self.file.promised_bytes is not None and length not in {None, self.file.promised_bytes}:
            raise self._failure(
                _amount(length),
                next_step="the publisher has changed the file; compare with their page and correct the record",
            )
        if self.file.promised_bytes is None and length is not None:
            self._require_space(length)
        self._require_an_end(response, length)
        etag = response.headers.get("ETag", "")
        strong = len(etag) > 2 and etag.startswith('"')
        with disk_errors(self.part.path):
            self.part.restart(Origin(self.url, etag) if strong else None)
        self._receive(response, body, first)

    def _is_html(self, response: httpx.Response, first: bytes) -> bool:
        if self.file.path.lower().endswith((".html", ".htm", ".xhtml")):
            return False
        opening = first.lstrip()[:9].lower()
        declared = response.headers.get("Content-Type", "").lower().startswith(HTML_TYPES)
        return declared or opening == b"<!doctype" or opening.startswith(b"<html")

    def _require_an_end(self, response: httpx.Response, length: int | None) -> None:
        chunked = "chunked" in response.headers.get("Transfer-Encoding", "").lower()
        if length is None and not chunked and self.file.promised_bytes is None and self.file.promise is None:
            raise self._failure(
                "a body without Content-Length, for a file without size and hash: a cut could not be seen",
                next_step=f"put size or hash into configs/datasets/{self.dataset}.yaml",
            )

    def _receive(self, response: httpx.Response, body: Iterator[bytes], first: bytes = b"") -> None:
        have, length = self.part.size_bytes, _content_length(response)
        total = self.file.promised_bytes or (have + length if length is not None else None)
        label = f"{self.dataset}/{self.file.path}"
        with disk_errors(self.part.path), progress(label, total or 0, unit="bytes", done=have) as advance:
            for chunk in _chained(first, body):
                if total is not None and self.part.size_bytes + len(chunk) > total:
                    self.part.remove()
                    raise self._failure(f"more than {total:,} bytes")
                self.part.append(chunk)
                advance(len(chunk))
        if total is not None and self.part.size_bytes < total:
            reason = f"the body ended after {self.part.size_bytes:,} of {total:,} bytes"
            raise _TryAgain(reason, tries=self.patience.tries)

    def _known_etag(self) -> str | None:
        origin = self.part.origin()
        return origin.etag if origin is not None and origin.url == self.url else None

    def _require_space(self, total_bytes: int) -> None:
        require_space(self.part.path.parent, total_bytes - self.part.size_bytes, f"{self.dataset}/{self.file.path}")

    def _failure(self, got: str, next_step: str | None = None) -> DownloadError:
        return DownloadError(
            f"{self.dataset}: {self.file.path} did not come from {shown(self.url)}",
            expected="the file"
            if self.file.promised_bytes is None
            else f"the file of {self.file.promised_bytes:,} bytes",
            got=got,
            next_step=next_step or f"backbeat datasets download {self.dataset} goes on with what has arrived",
        )


def shown(url: str) -> str:
    """Return an address for a message: without a query, which may be a key."""
    return url.partition("?")[0]


def retry_after_s(response: httpx.Response) -> float | None:
    """Return how long the server asks to wait, given in seconds or as a date; None if it does not ask."""
    asked = response.headers.get("Retry-After", "").strip()
    if asked.isdecimal():
        return float(asked)
    try:
        until = email.utils.parsedate_to_datetime(asked)
    except ValueError:
        return None
    return max(0.0, (until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _content_length(response: httpx.Response) -> int | None:
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def _amount(length: int | None) -> str:
    return "unknown size" if length is None else f"{length:,} bytes"


def _chained(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from rest
