"""One file over HTTP, resumed where that is safe and started over where it is not.

The rules, after RFC 9110 (13.1.5, 14.4, 15.3.7, 15.5.17):

- Bytes are resumed only if the server gave something that `If-Range` may carry for them: a strong `ETag`, or an old
  enough `Last-Modified`. The request then carries `Range` and `If-Range`, so that a server whose file has changed
  sends the whole new one. Without, or with a weak `ETag`: start over.
- A 206 must start where it was asked to, have the same total, and be of the same version; if not, what is here is
  dropped and the file is asked for from its first byte.
- A 200 is the whole file, whatever was asked for: start over with its bytes.
- A 416 whose total is what is here means that nothing is missing; any other 416 means to start over.
- A body may be of any length until it ends, but it must end at the promised or announced size. If neither the
  record nor the server says when the file is complete, it is refused: a cut would look like an end.
- A page of HTML where data was expected is never written. The one that asks whether an unscanned file is really
  wanted is answered.
- Refused (408, 425, 429, 5xx), broken and silent connections are tried again with doubling waits, or after the wait
  that the server asks for, up to a limit; each new byte sets the count of failures back. Other answers are final.
- Every attempt asks for the address in the record, and so gets a fresh one where that leads to a signed address
  that expires.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, NewConnectionError, ReadTimeoutError
from urllib3.exceptions import HTTPError as BodyError

from backbeat.datasets.registry import RecordFile, url_scheme
from backbeat.datasets.transport.addresses import Address, resolve
from backbeat.datasets.transport.hashing import MIRROR_SCHEME, mirror_step
from backbeat.datasets.transport.hubs import explain_html, explain_status, follow_form
from backbeat.datasets.transport.partial import Partial
from backbeat.datasets.transport.patience import Patience
from backbeat.datasets.transport.web import (
    TRANSIENT_STATUSES,
    compressed,
    content_length,
    host_slot,
    new_session,
    retry_after_s,
    shown,
    strong_validator,
    timeouts_s,
    why,
)
from backbeat.errors import DownloadError
from backbeat.progress import progress
from backbeat.storage.staging import disk_errors, require_space

HTML_TYPES = ("text/html", "application/xhtml")

# The most that is read at a time, if as much has arrived; and of a page that came instead of data.
CHUNK_BYTES = 2**20
PAGE_BYTES = 2**18

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
        url: where it is fetched from, as the record says it.
        part: where its bytes go.
        patience: how long to try.
        address_of: says what to ask for to get the bytes of that address; asked anew for each attempt.
        bytes_per_s: how fast they may come at most; None for as fast as they do.
    """

    dataset: str
    file: RecordFile
    url: str
    part: Partial
    patience: Patience
    address_of: Callable[[str], Address] = resolve
    bytes_per_s: float | None = None

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
        if self._known_version() is not None:
            self.part.hash_existing()
        with new_session() as session:
            self._persist(session)

    def _persist(self, session: requests.Session) -> None:
        failures = 0
        most_bytes = self.part.size_bytes
        while True:
            try:
                onward = self._attempt(session, self.address_of(self.url))
                if onward is not None and self._attempt(session, onward) is not None:
                    raise self._failure("one form after the other instead of the file")
                return
            except _TryAgain as failure:
                failures = 1 if self.part.size_bytes > most_bytes else failures + 1
                most_bytes = max(most_bytes, self.part.size_bytes)
                if failures >= failure.tries:
                    raise self._failure(f"{failure} ({failures} times in a row)") from failure
                wait_s = self.patience.wait_s(failures, failure.wait_s)
                _log.warning("%s: %s: %s; next try in %.0f s", self.dataset, shown(self.url), failure, wait_s)
                time.sleep(wait_s)

    def _attempt(self, session: requests.Session, address: Address) -> Address | None:
        """Ask once; returns None when all bytes are here, or where the server wants the question to go instead."""
        version = self._known_version()
        headers = dict(address.headers)
        if version is not None:
            headers |= {"Range": f"bytes={self.part.size_bytes}-", "If-Range": version}
        with host_slot(address.url):
            try:
                response = session.get(address.url, headers=headers, stream=True, timeout=timeouts_s(self.patience))
            except requests.RequestException as error:
                raise self._unanswered(error, address.url) from error
            with response:
                return self._take(response, version)

    def _unanswered(self, error: requests.RequestException, url: str) -> Exception:
        cause = error.args[0] if error.args else None
        reason = cause.reason if isinstance(cause, MaxRetryError) else cause
        if isinstance(reason, NewConnectionError | ConnectTimeoutError):
            # A host that has sent something does exist: it is the network that is down, which takes longer to mend.
            tries = self.patience.tries if self.part.size_bytes else self.patience.unreachable_tries
            return _TryAgain(f"{urlsplit(url).netloc} cannot be reached: {why(reason)}", tries=tries)
        if isinstance(error, requests.Timeout):
            return _TryAgain(f"no byte for {self.patience.idle_timeout_s:g} s", tries=self.patience.tries)
        if isinstance(error, requests.ConnectionError):
            return _TryAgain(f"the connection broke: {why(error)}", tries=self.patience.tries)
        return self._failure(why(error))

    def _take(self, response: requests.Response, version: str | None) -> Address | None:
        if response.status_code == 206 and version is not None:
            self._check_range(response, version)
            self._receive(response, self._body(response))
        elif response.status_code == 416 and version is not None:
            self._check_complete(response)
        elif response.status_code == 200:
            return self._start_over(response)
        else:
            got = f"HTTP {response.status_code} {response.reason}"
            if response.status_code in TRANSIENT_STATUSES:
                raise _TryAgain(got, tries=self.patience.tries, wait_s=retry_after_s(response))
            raise self._failure(got, explain_status(self.url, response.status_code, response.headers))
        return None

    def _check_range(self, response: requests.Response, version: str) -> None:
        given = response.headers.get("Content-Range", "nothing")
        found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", given)
        have, size = self.part.size_bytes, self.file.promised_bytes
        fits = found is not None and int(found[1]) == have and int(found[2]) == int(found[3]) - 1
        if not fits or (size is not None and found is not None and int(found[3]) != size):
            self._distrust(f"asked for bytes {have}- of {size or 'all'}, got Content-Range {given}")
        if version not in {response.headers.get("ETag"), response.headers.get("Last-Modified")}:
            self._distrust("the server has another version of the file now")
        if complaint := compressed(response, self.file, None if found is None else int(found[3])):
            raise self._failure(complaint)

    def _check_complete(self, response: requests.Response) -> None:
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

    def _start_over(self, response: requests.Response) -> Address | None:
        length = content_length(response)
        body = self._body(response)
        first = next(body, b"")
        if self._is_html(response, first):
            return self._answered(response, first, body)
        if complaint := compressed(response, self.file, length):
            raise self._failure(complaint)
        if self.file.promised_bytes is not None and length not in {None, self.file.promised_bytes}:
            raise self._failure(
                _amount(length),
                mirror_step(self.dataset)
                if url_scheme(self.url) == MIRROR_SCHEME
                else "the publisher has changed the file; compare with their page and correct the record",
            )
        if self.file.promised_bytes is None and length is not None:
            self._require_space(length)
        self._require_an_end(response, length)
        with disk_errors(self.part.path):
            self.part.restart(self.url, strong_validator(response))
        self._receive(response, chain([first] if first else [], body))
        return None

    def _is_html(self, response: requests.Response, first: bytes) -> bool:
        if self.file.path.lower().endswith((".html", ".htm", ".xhtml")):
            return False
        opening = first.lstrip()[:9].lower()
        declared = response.headers.get("Content-Type", "").lower().startswith(HTML_TYPES)
        return declared or opening == b"<!doctype" or opening.startswith(b"<html")

    def _answered(self, response: requests.Response, first: bytes, body: Iterator[bytes]) -> Address:
        page = first
        while len(page) < PAGE_BYTES and (more := next(body, b"")):
            page += more
        if onward := follow_form(self.url, page):
            return Address(onward)
        kind = response.headers.get("Content-Type", "an unnamed type")
        got = f"{kind}, a page of HTML of {_amount(content_length(response))}"
        step = f"look at {shown(self.url)} in a browser: is it a login, a notice?"
        raise self._failure(*(explain_html(self.url, page) or (got, step)))

    def _require_an_end(self, response: requests.Response, length: int | None) -> None:
        chunked = "chunked" in response.headers.get("Transfer-Encoding", "").lower()
        if length is None and not chunked and self.file.promised_bytes is None and self.file.promise is None:
            raise self._failure(
                "a body without Content-Length, for a file without size and hash: a cut could not be seen",
                f"put size or hash into configs/datasets/{self.dataset}.yaml",
            )

    def _receive(self, response: requests.Response, body: Iterator[bytes]) -> None:
        have, length = self.part.size_bytes, content_length(response)
        total = self.file.promised_bytes or (have + length if length is not None else None)
        label = f"{self.dataset}/{self.file.path}"
        with disk_errors(self.part.path), progress(label, total or 0, unit="bytes", done=have) as advance:
            for chunk in body:
                if total is not None and self.part.size_bytes + len(chunk) > total:
                    self.part.remove()
                    raise self._failure(f"more than {total:,} bytes")
                self.part.append(chunk)
                advance(len(chunk))
                if self.bytes_per_s is not None:
                    # What is not read is not sent: TCP hands the wait on to the server.
                    time.sleep(len(chunk) / self.bytes_per_s)
        if total is not None and self.part.size_bytes < total:
            reason = f"the body ended after {self.part.size_bytes:,} of {total:,} bytes"
            raise _TryAgain(reason, tries=self.patience.tries)

    def _body(self, response: requests.Response) -> Iterator[bytes]:
        """Yield the body as it arrives: what a kill loses is what has not been read yet, not a filled-up buffer."""
        while True:
            try:
                chunk = response.raw.read1(CHUNK_BYTES, decode_content=False)
            except ReadTimeoutError as error:
                reason = f"no byte for {self.patience.idle_timeout_s:g} s"
                raise _TryAgain(reason, tries=self.patience.tries) from error
            except BodyError as error:
                raise _TryAgain(f"the connection broke: {why(error)}", tries=self.patience.tries) from error
            if not chunk:
                return
            yield chunk

    def _known_version(self) -> str | None:
        origin = self.part.origin()
        return origin.validator if origin is not None and origin.url == self.url else None

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


def _amount(length: int | None) -> str:
    return "unknown size" if length is None else f"{length:,} bytes"
