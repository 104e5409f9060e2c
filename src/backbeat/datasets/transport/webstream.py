"""The body of one address as a file that is read once, from its first byte to its last, and is written nowhere.

- A connection that breaks is taken up where it broke, if the server gave something that `If-Range` may carry
  (see `transport.web.strong_validator`). What has been read cannot be taken back: without that, or if the file
  on the server has changed, the stream fails.
- Broken, silent and refused connections are tried again as downloads are; each new byte sets the count back.
- At the end the bytes are compared with the size and the hash of the record.
"""

from __future__ import annotations

import contextlib
import io
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import requests

from backbeat.datasets.registry import RecordFile
from backbeat.datasets.transport.addresses import Address, resolve
from backbeat.datasets.transport.hashing import new_hasher
from backbeat.datasets.transport.hubs import explain_html, explain_status, follow_form
from backbeat.datasets.transport.patience import Patience
from backbeat.datasets.transport.web import (
    BODY_ERRORS,
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

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

PAGE_BYTES = 2**18

T = TypeVar("T")

_log = logging.getLogger(__name__)


class _TryAgainError(Exception):
    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class WebStream(io.RawIOBase):
    """What `url` sends, byte by byte; `begin` asks for it.

    Args:
        label: what to call it in messages.
        file: what is wanted.
        url: where it is, as the record says it.
        patience: how long to try.
    """

    def __init__(self, label: str, file: RecordFile, url: str, patience: Patience) -> None:
        super().__init__()
        self._label, self._file, self._url, self._patience = label, file, url, patience
        self._session = new_session()
        self._held = contextlib.ExitStack()
        self._response: requests.Response | None = None
        self._version: str | None = None
        self._position = 0
        self._hasher = None if file.promise is None else new_hasher(file.promise[0])
        self.size_bytes: int | None = None

    def begin(self) -> WebStream:
        """Ask for the file, until the server answers with it.

        Raises:
            DownloadError: if the server says no, sends something else, or patience has run out.
        """
        self._persist(self._connected)
        return self

    def readable(self) -> bool:
        """Return that it is."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read the next bytes; at the end, compare all of them with the record.

        Raises:
            DownloadError: if they are not what the record promises, or cannot be had.
        """
        view = memoryview(buffer).cast("B")
        chunk = self._persist(lambda: self._next(len(view)))
        view[: len(chunk)] = chunk
        self._position += len(chunk)
        if self._hasher is not None:
            self._hasher.update(chunk)
        if not chunk:
            self._require_promised()
        return len(chunk)

    def close(self) -> None:
        """Hang up."""
        self._held.close()
        self._session.close()
        super().close()

    def _persist(self, work: Callable[[], T]) -> T:
        failures = 0
        while True:
            asked_s = None
            try:
                return work()
            except _TryAgainError as error:
                reason, asked_s = str(error), error.wait_s
            except BODY_ERRORS as error:
                reason = f"the connection broke: {why(error)}"
            self._held.close()
            self._response = None
            failures += 1
            # A host that has sent something does exist.
            if failures >= (self._patience.tries if self._position else self._patience.unreachable_tries):
                raise self._failure(f"{reason} ({failures} times in a row)")
            wait_s = self._patience.wait_s(failures, asked_s)
            _log.warning("%s: %s: %s; next try in %.0f s", self._label, shown(self._url), reason, wait_s)
            time.sleep(wait_s)

    def _next(self, count: int) -> bytes:
        chunk: bytes = self._connected().raw.read1(count, decode_content=False)
        if not chunk and self._position < (self.size_bytes or 0):
            raise _TryAgainError(f"the body ended after {self._position:,} of {self.size_bytes:,} bytes")
        if self.size_bytes is not None and self._position + len(chunk) > self.size_bytes:
            raise self._failure(f"more than {self.size_bytes:,} bytes")
        return chunk

    def _connected(self) -> requests.Response:
        if self._response is None:
            response = self._ask(resolve(self._url))
            if self._position:
                self._require_continuation(response)
            else:
                response = self._require_file(response)
            if complaint := compressed(response, self._file, self.size_bytes):
                raise self._failure(complaint)
            self._response = response
        return self._response

    def _ask(self, address: Address) -> requests.Response:
        headers = dict(address.headers)
        if self._position:
            if self._version is None:
                got = f"a broken connection after {self._position:,} bytes, and nothing to tell versions apart by"
                raise self._failure(got)
            headers |= {"Range": f"bytes={self._position}-", "If-Range": self._version}
        self._held.close()
        self._held.enter_context(host_slot(address.url))
        timeout = timeouts_s(self._patience)
        response = self._session.get(address.url, headers=headers, stream=True, timeout=timeout)
        self._held.enter_context(response)
        if response.status_code in {200, 206}:
            return response
        got = f"HTTP {response.status_code} {response.reason}"
        if response.status_code in TRANSIENT_STATUSES:
            raise _TryAgainError(got, retry_after_s(response))
        raise self._failure(got, explain_status(self._url, response.status_code, response.headers))

    def _require_continuation(self, response: requests.Response) -> None:
        last = (self.size_bytes or 0) - 1
        expected = f"bytes {self._position}-{last}/{self.size_bytes}"
        given = response.headers.get("Content-Range", "")
        same = self._version in {response.headers.get("ETag"), response.headers.get("Last-Modified")}
        if response.status_code != 206 or not same or given != expected:
            got = f"HTTP {response.status_code}, {given or 'no Content-Range'}"
            raise self._failure(f"{got}: the file has changed, or ranges are ignored")

    def _require_file(self, response: requests.Response) -> requests.Response:
        if self._is_html(response):
            response = self._answered(response)
        length, promised = content_length(response), self._file.promised_bytes
        if response.status_code != 200 or (None not in {length, promised} and length != promised):
            raise self._failure(f"HTTP {response.status_code}, {length or 0:,} bytes")
        if length is None and promised is None:
            raise self._failure("a body without Content-Length, for a file without size: a cut could not be seen")
        self.size_bytes = length if promised is None else promised
        self._version = strong_validator(response)
        return response

    def _is_html(self, response: requests.Response) -> bool:
        declared = response.headers.get("Content-Type", "").lower().startswith(("text/html", "application/xhtml"))
        return declared and not self._file.path.lower().endswith((".html", ".htm", ".xhtml"))

    def _answered(self, response: requests.Response) -> requests.Response:
        """Follow the form that Google Drive shows instead of a large file; any other page is a failure."""
        page = response.raw.read(PAGE_BYTES, decode_content=False)
        onward = follow_form(self._url, page)
        if onward is not None:
            response = self._ask(Address(onward))
        if onward is None or self._is_html(response):
            got, step = explain_html(self._url, page) or (f"a page of HTML of {len(page):,} bytes or more", None)
            raise self._failure(got, step)
        return response

    def _require_promised(self) -> None:
        if self._hasher is not None and self._file.promise is not None:
            found = self._hasher.hexdigest()
            if found != self._file.promise[1]:
                raise self._failure(f"{self._file.promise[0]}:{found}", "do not use what has been read")

    def _failure(self, got: str, next_step: str | None = None) -> DownloadError:
        size = self._file.promised_bytes
        step = next_step or "backbeat datasets download can start over where a stream cannot"
        return DownloadError(
            f"{self._label} cannot be streamed from {shown(self._url)}",
            expected="the file" if size is None else f"the file of {size:,} bytes, {self._file.hash}",
            got=got,
            next_step=step,
        )
