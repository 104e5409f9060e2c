"""An endpoint that speaks OpenAI's chat completions: OpenRouter, or a server on this machine.

Of each request it matters whether it can have cost something. Refused (429, 503, a bad key) or never sent: nothing.
Answered: what the answer says. Everything else, such as a connection lost after sending, a time-out, or an error of the
server, has an unknown outcome.

The key goes into one header of requests to this endpoint and is in no message: what a server says is shown without it.
A connection serves one request, since one that was kept open may turn out to be closed only when something was sent.
"""

from __future__ import annotations

import ipaddress
import json
import os
import random
import threading
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, NewConnectionError

from backbeat.datasets.transport.web import BODY_ERRORS, retry_after_s, why
from backbeat.errors import ConfigError, LibraryError
from backbeat.library.settings import LIBRARY_FILE, VibeSettings

URL_VARIABLE = "BACKBEAT_VIBE_URL"

CONNECT_TIMEOUT_S = 20.0

# What an answer about a hundred sounds has, many times over.
MOST_ANSWER_BYTES = 4 * 2**20

# The last is what some services say where others say 503.
_BUSY_STATUSES = frozenset({429, 503, 529})
_READ_BYTES = 2**16
_MOST_SAID_LETTERS = 200

_FIRST_WAIT_S = 1.0


class BusyError(Exception):
    """The endpoint refuses for now, or cannot be reached: nothing was done and nothing is owed."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class UnknownOutcomeError(Exception):
    """The request may have been answered and billed, and nobody here can tell."""


@dataclass(frozen=True)
class Endpoint:
    """Where to ask, and with which key."""

    url: str
    key: str | None = field(repr=False)
    timeout_s: float


@dataclass(frozen=True)
class Reply:
    """What came back: the text of the answer, if there is one, and what the endpoint reports as usage."""

    content: str | None
    usage: dict[str, Any] | None


def open_endpoint(settings: VibeSettings) -> Endpoint | None:
    """Return the endpoint of the configuration or the environment; None if it takes a key and there is none.

    Raises:
        ConfigError: if a key would go over an unencrypted connection to another machine, or cannot be one.
    """
    base = (os.environ.get(URL_VARIABLE) or settings.base_url).rstrip("/")
    parts = urlsplit(base)
    key = os.environ.get(settings.key_variable, "").strip() or None
    here = _is_this_machine(parts.hostname or "")
    if key is None and not here:
        return None
    if parts.scheme not in {"http", "https"} or "@" in parts.netloc or (parts.scheme == "http" and not here):
        raise ConfigError(
            f"{parts.hostname or base} cannot be asked for words",
            expected="https://…, or http://… of a server on this machine; no user name or password in it",
            got=f"{parts.scheme}://{parts.hostname}",
            next_step=f"correct vibe.base_url in {LIBRARY_FILE}, or {URL_VARIABLE} in the environment",
        )
    if key is not None and not (key.isascii() and key.isprintable()):
        raise ConfigError(
            f"{settings.key_variable} is no key", expected="one line of letters, digits and signs", got="other letters"
        )
    return Endpoint(f"{base}/chat/completions", key, settings.timeout_s)


def ask(endpoint: Endpoint, body: bytes) -> Reply:
    """Send one request and return the answer.

    Raises:
        BusyError: if it was refused for now, or never sent.
        UnknownOutcomeError: if it may have been answered.
        LibraryError: if it was refused for good.
    """
    deadline_s = time.monotonic() + endpoint.timeout_s
    headers = {"Content-Type": "application/json", "Accept-Encoding": "identity", "User-Agent": "backbeat"}
    try:
        with (
            requests.Session() as session,
            session.post(
                endpoint.url,
                data=body,
                headers=headers,
                auth=_bearer(endpoint.key),
                timeout=(min(CONNECT_TIMEOUT_S, endpoint.timeout_s), endpoint.timeout_s),
                stream=True,
                allow_redirects=False,
            ) as response,
        ):
            return _reply(endpoint, response, _read(response, deadline_s))
    except (requests.RequestException, *BODY_ERRORS) as error:
        if _never_sent(error):
            raise BusyError(f"it cannot be reached: {_said(why(error), endpoint.key)}") from error
        raise UnknownOutcomeError(f"the connection was lost: {_said(why(error), endpoint.key)}") from error


class Pace:
    """Requests at equal distances, and none before the time that the endpoint has asked for; shared by threads.

    Args:
        requests_per_minute: at most.
        longest_wait_s: of a wait that nobody has asked for.
    """

    def __init__(self, requests_per_minute: float, longest_wait_s: float) -> None:
        self._interval_s = 60 / requests_per_minute
        self._longest_wait_s = longest_wait_s
        self._lock = threading.Lock()
        self._next_s = time.monotonic()

    def wait(self, stopped: threading.Event) -> bool:
        """Wait for the turn of one request; False if the run was stopped in the meantime."""
        while not stopped.is_set():
            with self._lock:
                left_s = self._next_s - time.monotonic()
                if left_s <= 0:
                    self._next_s = time.monotonic() + self._interval_s
                    return True
            stopped.wait(left_s)
        return False

    def hold(self, failures: int, asked_s: float | None) -> None:
        """Let nobody ask for as long as the endpoint says, or a time that doubles with each failure, with jitter."""
        doubling_s = min(_FIRST_WAIT_S * 2.0 ** (failures - 1), self._longest_wait_s)
        wait_s = doubling_s * random.uniform(0.5, 1.0) if asked_s is None else asked_s  # noqa: S311 - not for secrets
        with self._lock:
            self._next_s = max(self._next_s, time.monotonic() + wait_s)


def _reply(endpoint: Endpoint, response: requests.Response, body: bytes) -> Reply:
    status = response.status_code
    try:
        values = json.loads(body)
    except (ValueError, RecursionError):
        values = None
    values = values if isinstance(values, dict) else {}
    if status != 200:
        _refuse(endpoint, response, values)
    usage = values.get("usage")
    return Reply(_content(values), usage if isinstance(usage, dict) else None)


def _refuse(endpoint: Endpoint, response: requests.Response, values: dict[str, Any]) -> None:
    error = values.get("error")
    told = error.get("message") if isinstance(error, dict) else error
    said = _said(f"HTTP {response.status_code} {response.reason}" + (f": {told}" if told else ""), endpoint.key)
    if response.status_code in _BUSY_STATUSES:
        raise BusyError(said, retry_after_s(response))
    if response.status_code >= 500 or response.status_code == 408:
        raise UnknownOutcomeError(said)
    raise LibraryError(
        f"{urlsplit(endpoint.url).hostname} refuses to answer",
        expected="a chat completion",
        got=said,
        next_step=f"look at key, credit and model: the section vibe of {LIBRARY_FILE}",
    )


def _content(values: dict[str, Any]) -> str | None:
    try:
        content = values["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        return None
    return content if isinstance(content, str) else None


def _read(response: requests.Response, deadline_s: float) -> bytes:
    body = b""
    # One read at a time: a server that sends a letter now and then would keep a longer one from ever coming back.
    while chunk := response.raw.read1(_READ_BYTES, decode_content=True):
        body += chunk
        if len(body) > MOST_ANSWER_BYTES:
            raise UnknownOutcomeError(f"the answer has more than {MOST_ANSWER_BYTES:,} bytes")
        if time.monotonic() > deadline_s:
            raise UnknownOutcomeError("no answer in time")
    return body


def _bearer(key: str | None) -> Any:
    # Given as `auth`, since requests would else put a password of ~/.netrc in its place.
    def authorize(request: requests.PreparedRequest) -> requests.PreparedRequest:
        if key is not None:
            request.headers["Authorization"] = f"Bearer {key}"
        return request

    return authorize


def _never_sent(error: Exception) -> bool:
    cause = error.args[0] if error.args else None
    if isinstance(cause, MaxRetryError):
        cause = cause.reason
    return isinstance(cause, NewConnectionError | ConnectTimeoutError)


def _said(text: str, key: str | None) -> str:
    shown = text.replace(key, "(the key)") if key else text
    return "".join(letter if letter.isprintable() else " " for letter in shown)[:_MOST_SAID_LETTERS]


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
