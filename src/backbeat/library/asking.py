"""One run of questions to a language model: threads that share a budget, a pace, and the reason to stop."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Literal

from backbeat.errors import BackbeatError, LibraryError
from backbeat.library.budget import Budget, Reservation, billed, price_usd
from backbeat.library.endpoint import BusyError, Endpoint, Pace, Reply, UnknownOutcomeError, ask
from backbeat.library.questions import MalformedAnswerError, Question, Said, body_of, parse_answer, worst_case
from backbeat.library.settings import LIBRARY_FILE, ModelPrice, VibeSettings
from backbeat.library.spend import append_durably
from backbeat.library.words import WORDS_FILE, BoughtLine

# An answer that is not what was asked for is asked for once more.
TRIES_OF_AN_ANSWER = 2

Stop = Literal["budget", "costlier than its worst case"]


class Run:
    """What the threads of a run share."""

    def __init__(
        self, project: Path, settings: VibeSettings, price: ModelPrice, endpoint: Endpoint, budget_usd: Decimal
    ) -> None:
        self.project, self.settings, self.price, self.endpoint = project, settings, price, endpoint
        self.budget = Budget(project, settings.model, budget_usd, settings.usd_per_day, utc_day)
        self.pace = Pace(settings.requests_per_minute, settings.longest_wait_s)
        self.ended = threading.Event()
        self.stopped: Stop | None = None
        self.error: BackbeatError | None = None
        self._lock = threading.Lock()
        self._lost_in_a_row = 0

    def stop(self, why: Stop | BackbeatError) -> None:
        """Let no further request begin; the first reason is the one that is told."""
        with self._lock:
            if not self.ended.is_set():
                if isinstance(why, BackbeatError):
                    self.error = why
                else:
                    self.stopped = why
                self.ended.set()

    def note_outcome(self, lost: UnknownOutcomeError | None) -> None:
        """End the run where one request after the other is lost: each costs its worst case."""
        self._lost_in_a_row = 0 if lost is None else self._lost_in_a_row + 1
        if self._lost_in_a_row >= self.settings.tries:
            self.stop(
                LibraryError(
                    f"{self._lost_in_a_row} requests in a row have no known outcome; their worst case is booked",
                    expected="answers",
                    got=str(lost),
                    next_step=f"look at the endpoint; vibe.timeout_s in {LIBRARY_FILE} is {self.settings.timeout_s:g}",
                )
            )

    def save(self, batch: Sequence[Question], said: Sequence[Said]) -> None:
        """Put an answer on the disk."""
        lines = [
            BoughtLine(
                audio_sha256=question.audio_sha256,
                question=question.digest,
                model=self.settings.model,
                text=one.text,
                tags=one.tags,
            ).model_dump_json()
            for question, one in zip(batch, said, strict=True)
        ]
        with self._lock:
            append_durably(self.project / WORDS_FILE, "".join(f"{line}\n" for line in lines))


def answer(run: Run, batch: tuple[Question, ...]) -> str | None:
    """Ask about some sounds until they have words; return why they have none, empty if they were not asked."""
    complaint: str | None = None
    try:
        for _ in range(TRIES_OF_AN_ANSWER):
            complaint = _one_answer(run, batch, complaint)
            if complaint is None:
                return None
    except _NotAskedError:
        return complaint or ""
    except UnknownOutcomeError as lost:
        run.note_outcome(lost)
        return f"{lost}; the worst case of the request is counted as spent"
    return f"the answer was refused twice: {complaint}"


def _one_answer(run: Run, batch: tuple[Question, ...], complaint: str | None) -> str | None:
    """Pay for one answer and keep it; return what is wrong with it."""
    body = body_of(run.settings, batch, complaint)
    reservation = None
    if not run.ended.is_set():
        reservation = run.budget.reserve(price_usd(run.price, worst_case(run.settings, body, len(batch))))
        if reservation is None:
            run.stop("budget")
    if reservation is None:
        raise _NotAskedError
    with reservation:
        reply = _ask_patiently(run, body, reservation)
        run.note_outcome(None)
        # First the words, then what they leave of their worst case: a kill in between costs money, and no words.
        wrong = _accept(run, batch, reply)
        cost = billed(run.price, reply.usage)
        if cost is not None:
            reservation.settle(*cost)
            if cost[0] > reservation.usd:
                run.stop("costlier than its worst case")
        return wrong


def _ask_patiently(run: Run, body: bytes, reservation: Reservation) -> Reply:
    """Send a request in its turn, again where it was refused for now."""
    for failures in range(1, run.settings.tries + 1):
        if not run.pace.wait(run.ended):
            reservation.give_back()
            raise _NotAskedError
        try:
            return ask(run.endpoint, body)
        except LibraryError:
            reservation.give_back()
            raise
        except BusyError as busy:
            reason, asked_s = str(busy), busy.wait_s
        if asked_s is not None and asked_s > run.settings.longest_wait_s:
            reason += f", and asks to wait {asked_s:,.0f} s"
            break
        run.pace.hold(failures, asked_s)
    reservation.give_back()
    raise LibraryError(
        f"the endpoint did not take a request in {failures} tries",
        expected="an answer",
        got=reason,
        next_step=f"repeat the command later; with vibe.requests_per_minute in {LIBRARY_FILE} lower if it was too fast",
    )


def _accept(run: Run, batch: tuple[Question, ...], reply: Reply) -> str | None:
    if reply.content is None:
        return "there is no text in it"
    try:
        said = parse_answer(reply.content, len(batch))
    except MalformedAnswerError as error:
        return str(error)
    run.save(batch, said)
    return None


class _NotAskedError(Exception):
    """The run has ended before a request could be sent."""


def utc_day() -> dt.date:
    """Return the day by which spend is counted."""
    return dt.datetime.now(dt.UTC).date()
