"""A language model on this machine: an endpoint of chat completions that answers about sounds, or spoils an answer."""

from __future__ import annotations

import contextlib
import email.utils
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler
from typing import Any, Literal

from local_server import local_server

# What the fake's own bill is made of; the configuration of the tests says the same.
INPUT_USD, OUTPUT_USD = Decimal("2.5"), Decimal(10)

Fault = Literal[
    "429 in seconds",
    "429 at a date",
    "503",
    "not JSON",
    "in a fence",
    "one too few",
    "markup",
    "dropped",
    "cut off",
    "slow",
    "costly",
    "no usage",
    "hangs",
    "401",
    "500",
]


class FakeModel:
    """What it was asked, what it will spoil, and what it would send a bill for."""

    def __init__(self) -> None:
        self.script: list[Fault] = []
        self.always: Fault | None = None
        self.lock = threading.Lock()
        self.asked: Counter[str] = Counter()  # by the name of the sound: how often
        self.authorizations: set[str | None] = set()
        self.bodies: list[dict[str, Any]] = []
        self.times_s: list[float] = []
        self.billed_usd = Decimal(0)
        self.at_once = self.most_at_once = 0
        self.hanging = threading.Event()
        self.go_on = threading.Event()
        self.url = ""


@contextlib.contextmanager
def fake_model() -> Iterator[FakeModel]:
    model = FakeModel()
    with local_server(_Handler, model, at_end=model.go_on.set) as http:
        model.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
        yield model


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None: ...

    def do_POST(self) -> None:
        model: FakeModel = self.server.state  # type: ignore[attr-defined]
        content = self.rfile.read(int(self.headers["Content-Length"]))
        body = json.loads(content)
        sounds = json.loads(body["messages"][1]["content"])["sounds"]
        with model.lock:
            fault = model.script.pop(0) if model.script else model.always
            model.times_s.append(time.monotonic())
            model.authorizations.add(self.headers.get("Authorization"))
            model.bodies.append(body)
            model.at_once += 1
            model.most_at_once = max(model.most_at_once, model.at_once)
        try:
            self._answer(model, sounds, len(content), fault)
        finally:
            with model.lock:
                model.at_once -= 1

    def _answer(self, model: FakeModel, sounds: list[dict[str, Any]], size_bytes: int, fault: Fault | None) -> None:
        if fault in {"429 in seconds", "429 at a date", "503"}:
            later = {"429 in seconds": "1", "429 at a date": email.utils.formatdate(time.time() + 2, usegmt=True)}
            self._send(503 if fault == "503" else 429, {"error": {"message": "busy"}}, later.get(str(fault)))
        elif fault in {"401", "500"}:
            said = f"wrong key: {self.headers.get('Authorization')}\x1b[31m"
            self._send(int(fault), {"error": {"message": said}})
        else:
            answer = _completion(model, sounds, size_bytes, fault)
            if fault == "dropped":
                self.close_connection = True
            else:
                self._send(200, answer, cut=fault == "cut off")

    def _send(self, status: int, values: dict[str, Any], retry_after: str | None = None, *, cut: bool = False) -> None:
        content = json.dumps(values).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if retry_after:
            self.send_header("Retry-After", retry_after)
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:
            self.close_connection = True


def _completion(model: FakeModel, sounds: list[dict[str, Any]], size_bytes: int, fault: Fault | None) -> dict[str, Any]:
    usage = {"prompt_tokens": size_bytes // 4, "completion_tokens": 30 * len(sounds)}
    if fault == "costly":
        usage["prompt_tokens"] = 1_000_000
    with model.lock:
        model.asked.update(sound["name"] for sound in sounds)
        tokens = usage["prompt_tokens"] * INPUT_USD + usage["completion_tokens"] * OUTPUT_USD
        model.billed_usd += tokens / 1_000_000
    if fault == "slow":
        time.sleep(0.05)
    if fault == "hangs":
        model.hanging.set()
        model.go_on.wait(30)
    message = {"role": "assistant", "content": _text(sounds, fault)}
    return {"choices": [{"message": message}]} | ({} if fault == "no usage" else {"usage": usage})


def _text(sounds: list[dict[str, Any]], fault: Fault | None) -> str:
    if fault == "not JSON":
        return "Sure! Here are your sounds:"
    said = [
        {"id": sound["id"], "text": f"a {sound.get('brightness', 'plain')} hit", "tags": ["Warm", "lo-fi"]}
        for sound in sounds
    ]
    if fault == "markup":
        said[0]["text"] = "<b>bold</b> claim"
    if fault == "one too few":
        said.pop()
    text = json.dumps({"sounds": said})
    return f"```json\n{text}\n```" if fault == "in a fence" else text
