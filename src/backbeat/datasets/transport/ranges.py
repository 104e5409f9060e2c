"""Parts of a file on a server, by HTTP ranges.

- The first answer says how long the file is and which version of it there is. It is asked for the last bytes, where a
  zip has its directory; a server that cannot count from the end is asked for the first byte instead.
- Every later request carries `If-Range` with that version. An answer that is of another one, or starts or ends where
  it was not asked to, is not used: `VersionChangedError`, or another try.
- Several runs of bytes are asked for in one request (`multipart/byteranges`, RFC 9110, 14.6), as Apache and nginx
  send them. Others send all of the file then: that answer is closed unread, and each run is asked for in a request of
  its own, a few at the same time. Hosts that are known to be like that are not asked first.
- Broken connections go on at the byte where they broke; refused and silent ones are tried again, as downloads are.
- A server that knows no ranges is told apart from one that fails, and refused before its body is read.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self, TypeVar
from urllib.parse import urlsplit

import requests

from backbeat.datasets.packed.zipdirectory import TAIL_BYTES
from backbeat.datasets.transport.addresses import Address
from backbeat.datasets.transport.ahead import ahead
from backbeat.datasets.transport.multipart import BrokenBody, read_exactly, read_parts
from backbeat.datasets.transport.patience import Patience
from backbeat.datasets.transport.spans import PIECE_BYTES, Span, in_batches
from backbeat.datasets.transport.traffic import Meter, Traffic
from backbeat.datasets.transport.web import (
    BODY_ERRORS,
    TRANSIENT_STATUSES,
    compressed,
    host_slot,
    new_session,
    retry_after_s,
    shown,
    strong_validator,
    timeouts_s,
    why,
)
from backbeat.errors import DownloadError

# In one request; Apache sends 200 at most.
RANGES_PER_REQUEST = 20
BYTES_PER_REQUEST = 4 * PIECE_BYTES

# Requests at the same time: of several ranges, and of one.
REQUESTS_OF_MANY = 2
REQUESTS_OF_ONE = 4

# They send all of a file to whoever asks for two parts of it.
HOSTS_OF_ONE_RANGE = ("storage.googleapis.com", ".amazonaws.com")

ResultT = TypeVar("ResultT")

_log = logging.getLogger(__name__)


class VersionChangedError(DownloadError):
    """The file on the server is not the one any more that earlier bytes are from."""


class _TryAgain(Exception):  # noqa: N818 - it is a signal between two functions here, no error that anybody sees
    def __init__(self, reason: str, *, unreachable: bool = False, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.unreachable = unreachable
        self.wait_s = wait_s


class _OneByOne(Exception):  # noqa: N818 - as above
    """The server does not send several ranges at once."""


@dataclass(frozen=True)
class _Version:
    size_bytes: int
    validator: str | None
    tail: bytes


class RemoteFile:
    """A file on a server, read in parts; a context manager that closes its connections.

    Args:
        address: where it is.
        patience: how long to try.
        label: what it is called in messages.
    """

    def __init__(self, address: Address, patience: Patience, label: str) -> None:
        self.name = label
        self._address, self._patience = address, patience
        self._session = new_session()
        self._meter, self._lock = Meter(), threading.Lock()
        self._known: _Version | None = None
        host = urlsplit(address.url).hostname or ""
        self._sends_many: bool | None = False if host.endswith(HOSTS_OF_ONE_RANGE) else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._session.close()

    @property
    def size_bytes(self) -> int:
        """The size of the whole file.

        Raises:
            DownloadError: if the server does not say, does not serve parts, or cannot be had.
        """
        return self._version.size_bytes

    @property
    def validator(self) -> str | None:
        """What `If-Range` may carry for this version of the file; None if the server gave nothing of that kind."""
        return self._version.validator

    @property
    def traffic(self) -> Traffic:
        """What has been asked for, and what has come."""
        return self._meter.traffic

    def read_at(self, offset: int, count: int) -> bytes:
        """Return `count` bytes from `offset` on; fewer only at the end.

        Raises:
            DownloadError: if they cannot be had.
            VersionChangedError: if the file has changed.
        """
        version = self._version
        end = min(offset + count, version.size_bytes)
        tail_start = version.size_bytes - len(version.tail)
        head = self._one(Span(offset, min(end, tail_start))) if offset < min(end, tail_start) else b""
        return head + version.tail[max(offset - tail_start, 0) : max(end - tail_start, 0)]

    def read_spans(self, spans: Sequence[Span]) -> Iterator[tuple[Span, bytes]]:
        """Yield runs of bytes in their order, several at a time asked for.

        Args:
            spans: within the file, each small enough for memory (see `backbeat.datasets.transport.spans.in_pieces`).

        Raises:
            DownloadError: if they cannot be had.
            VersionChangedError: if the file has changed.
        """
        tail_start = self._version.size_bytes - len(self._version.tail)
        left = [span for span in spans if span.start < tail_start]
        if self._sends_many is None and len(left) > 1:
            first = next(in_batches(left, RANGES_PER_REQUEST, BYTES_PER_REQUEST))
            if len(first) > 1:
                found = self._many_if_possible(first)
                yield from zip(first, found, strict=False)
                left = left[len(found) :]
        ranges, threads = (RANGES_PER_REQUEST, REQUESTS_OF_MANY) if self._sends_many else (1, REQUESTS_OF_ONE)
        for batch, contents in ahead(self._batch, in_batches(left, ranges, BYTES_PER_REQUEST), threads):
            yield from zip(batch, contents, strict=True)
        for span in spans:
            if span.start >= tail_start:
                yield span, self.read_at(span.start, span.size_bytes)

    @property
    def _version(self) -> _Version:
        with self._lock:
            if self._known is None:
                self._known = self._persist(self._first_answer, lambda: 0)
            return self._known

    def _first_answer(self) -> _Version:
        with host_slot(self._address.url):
            for asked in (f"bytes=-{TAIL_BYTES}", "bytes=0-0"):
                with self._get(asked, 0, None) as response:
                    given = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", response.headers.get("Content-Range", ""))
                    if response.status_code == 206 and given is not None:
                        first, last, total = int(given[1]), int(given[2]), int(given[3])
                        body = self._body(response, last + 1 - first, bytearray())
                        self._meter.asked(0, len(body))
                        tail = body if asked != "bytes=0-0" and last + 1 == total else b""
                        return _Version(total, strong_validator(response), tail)
        raise self._failure(
            f"HTTP {response.status_code}, not a part",
            f"{shown(self._address.url)} does not serve parts; remove members from the record to get the whole file",
        )

    def _batch(self, spans: list[Span]) -> list[bytes]:
        found = self._many_if_possible(spans) if len(spans) > 1 else []
        return found + [self._one(span) for span in spans[len(found) :]]

    def _many_if_possible(self, spans: list[Span]) -> list[bytes]:
        """Return as many of them, from the first on, as came together; all if the server sends many at once."""
        found: list[bytes] = []
        try:
            self._persist(lambda: self._many(spans, found), lambda: len(found))
            self._sends_many = True
        except _OneByOne:
            self._sends_many = bool(found)
        return found

    def _many(self, spans: list[Span], found: list[bytes]) -> None:
        left = spans[len(found) :]
        if len(left) < 2:
            raise _OneByOne
        asked = "bytes=" + ",".join(f"{span.start}-{span.end - 1}" for span in left)
        asked_bytes = sum(span.size_bytes for span in left)
        with host_slot(self._address.url), self._get(asked, asked_bytes, self._version.validator) as response:
            self._require_version(response)
            if response.status_code != 206:
                raise _OneByOne
            try:
                for part in read_parts(response, left, self._version.size_bytes, self._meter.received):
                    if part is None:
                        raise _OneByOne
                    found.append(part)
            except BODY_ERRORS as error:
                raise _TryAgain(f"the connection broke: {why(error)}") from error

    def _one(self, span: Span) -> bytes:
        found = bytearray()
        self._persist(lambda: self._rest(span, found), lambda: len(found))
        return bytes(found)

    def _rest(self, span: Span, found: bytearray) -> None:
        start = span.start + len(found)
        asked = f"bytes={start}-{span.end - 1}"
        with host_slot(self._address.url), self._get(asked, span.end - start, self._version.validator) as response:
            self._require_version(response)
            given = response.headers.get("Content-Range", "nothing")
            if response.status_code != 206 or given != f"bytes {start}-{span.end - 1}/{self._version.size_bytes}":
                raise _TryAgain(f"asked for {asked}, got HTTP {response.status_code}, Content-Range {given}")
            self._body(response, span.end - start, found)

    def _body(self, response: requests.Response, count: int, found: bytearray) -> bytes:
        try:
            read_exactly(response, count, found, self._meter.received)
        except BODY_ERRORS as error:
            raise _TryAgain(f"the connection broke: {why(error)}") from error
        return bytes(found)

    def _get(self, asked: str, asked_bytes: int, if_range: str | None) -> requests.Response:
        self._meter.asked(1, asked_bytes)
        headers = dict(self._address.headers) | {"Range": asked} | ({"If-Range": if_range} if if_range else {})
        try:
            timeout = timeouts_s(self._patience)
            response = self._session.get(self._address.url, headers=headers, stream=True, timeout=timeout)
        except (requests.ConnectionError, requests.Timeout) as error:
            raise _TryAgain(why(error), unreachable=self._known is None) from error
        except requests.RequestException as error:
            raise self._failure(why(error)) from error
        if response.status_code in TRANSIENT_STATUSES:
            response.close()
            raise _TryAgain(f"HTTP {response.status_code} {response.reason}", wait_s=retry_after_s(response))
        complaint = compressed(response, None, None) if response.status_code == 206 else None
        if complaint or response.status_code not in {200, 206, 416}:
            response.close()
            raise self._failure(complaint or f"HTTP {response.status_code} {response.reason}")
        return response

    def _require_version(self, response: requests.Response) -> None:
        validator = self._version.validator
        found = {response.headers.get("ETag"), response.headers.get("Last-Modified")}
        if response.status_code in {200, 206} and validator is not None and validator not in found:
            raise VersionChangedError(
                f"{self.name} has changed on the server",
                expected=f"version {validator}",
                got=" and ".join(str(value) for value in found if value) or "none that could be told",
                next_step="do the same again",
            )

    def _persist(self, attempt: Callable[[], ResultT], gained: Callable[[], int]) -> ResultT:
        failures, most = 0, gained()
        while True:
            try:
                return attempt()
            except (_TryAgain, BrokenBody) as failure:
                failures = 1 if gained() > most else failures + 1
                most = gained()
                unreachable = isinstance(failure, _TryAgain) and failure.unreachable
                if failures >= (self._patience.unreachable_tries if unreachable else self._patience.tries):
                    raise self._failure(f"{failure} ({failures} times in a row)") from failure
                wait_s = self._patience.wait_s(failures, failure.wait_s if isinstance(failure, _TryAgain) else None)
                _log.warning("%s: %s; next try in %.0f s", self.name, failure, wait_s)
                time.sleep(wait_s)

    def _failure(self, got: str, next_step: str | None = None) -> DownloadError:
        return DownloadError(
            f"{self.name}: parts of it did not come from {shown(self._address.url)}",
            expected="the parts that were asked for",
            got=got,
            next_step=next_step or "the same command goes on with what has arrived",
        )
