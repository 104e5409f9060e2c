"""Short texts and tags from a language model: optional, bounded in price, and bought once.

A question is the features of a sound, several sounds to a request. An answer is in `words.jsonl`, and its cost in
`spend.csv`, before the next question of that thread. So a run that is killed goes on where it was: asked again are only
the sounds whose answer was under way, and its worst case stays booked. One run at a time in each clone.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from backbeat.errors import BackbeatError, ConfigError, LibraryError
from backbeat.executor import run_threads
from backbeat.library.asking import Run, Stop, answer
from backbeat.library.budget import Tokens, price_usd
from backbeat.library.endpoint import open_endpoint
from backbeat.library.notes import load_notes, match_notes
from backbeat.library.questions import (
    TOKENS_OF_ENVELOPE,
    Question,
    body_of,
    features_of,
    question_digest,
    worst_case,
)
from backbeat.library.settings import LIBRARY_FILE, ModelPrice, VibeSettings, load_settings
from backbeat.library.spend import append_durably, tidy_spend
from backbeat.library.tables import read_table
from backbeat.library.words import WORDS_FILE, bought_lines
from backbeat.progress import progress

# For an estimate: what JSON with numbers has by experience, and what is said of a sound.
_BYTES_PER_TOKEN = 3
_TOKENS_SAID = 40


@dataclass(frozen=True)
class Plan:
    """What a run would ask, and what that costs in US dollars if nothing stops it."""

    model: str
    sounds: int
    requests: int
    estimated_usd: Decimal
    worst_usd: Decimal
    budget_usd: Decimal


@dataclass(frozen=True)
class Vibed:
    """What a run did.

    Args:
        model: who was asked; None if nobody: there is no key.
        wanted: sounds without words before the run.
        answered: sounds that have words now.
        failed: why sounds have none, by one of their files.
        stopped: why the rest was not asked.
        usd: what the run cost, with the worst case of requests that have no known outcome.
        requests: how many were sent and not refused.
        unanswered: how many of them have no known outcome.
    """

    model: str | None
    wanted: int
    answered: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    stopped: Stop | None = None
    usd: Decimal = Decimal(0)
    requests: int = 0
    unanswered: int = 0


def vibe(project: Path, *, limit: int | None = None, budget_usd: Decimal | None = None, changed: bool = False) -> Vibed:
    """Ask for words for the sounds that have none.

    Args:
        project: the root of the repository.
        limit: how many sounds, at most.
        budget_usd: what the run may cost instead of `vibe.usd_per_run`; that of the day holds all the same.
        changed: whether sounds are asked again whose features, model or instructions are others than when they were.

    Raises:
        ConfigError: if the model has no price, or the endpoint cannot be asked.
        LibraryError: if another run is at work, descriptors are missing, or the endpoint refuses or is not there.
        StorageError: if the disk is full or read-only.
    """
    settings = load_settings(project).vibe
    price = _price(settings)
    endpoint = open_endpoint(settings)
    if endpoint is None:
        return Vibed(None, len(_questions(project, settings.model, changed=changed)))
    with _alone(project):
        _drop_torn_line(project)
        tidy_spend(project)
        wanted = _questions(project, settings.model, changed=changed)
        run = Run(project, settings, price, endpoint, settings.usd_per_run if budget_usd is None else budget_usd)
        done = _ask_all(run, wanted[:limit], len(wanted))
        tidy_spend(project)
    if run.error is not None:
        raise run.error
    return done


def plan_vibe(
    project: Path, *, limit: int | None = None, budget_usd: Decimal | None = None, changed: bool = False
) -> Plan:
    """Return what `vibe` would ask and what that would cost; nothing is sent, and no key is needed.

    Raises:
        ConfigError: if the model has no price.
        LibraryError: if descriptors are missing.
    """
    settings = load_settings(project).vibe
    price = _price(settings)
    asked = _batches(_questions(project, settings.model, changed=changed)[:limit], settings.sounds_per_request)
    likely = [
        Tokens(len(body_of(settings, batch)) // _BYTES_PER_TOKEN, TOKENS_OF_ENVELOPE + _TOKENS_SAID * len(batch))
        for batch in asked
    ]
    worst = [worst_case(settings, body_of(settings, batch), len(batch)) for batch in asked]
    return Plan(
        settings.model,
        sum(map(len, asked)),
        len(asked),
        sum((price_usd(price, tokens) for tokens in likely), Decimal(0)),
        sum((price_usd(price, tokens) for tokens in worst), Decimal(0)),
        settings.usd_per_run if budget_usd is None else budget_usd,
    )


def _ask_all(run: Run, asked: Sequence[Question], wanted: int) -> Vibed:
    failed: dict[str, str] = {}
    answered = 0
    batches = _batches(asked, run.settings.sounds_per_request)
    with progress("words", len(asked), unit="sounds") as advance:
        for batch, outcome in run_threads(lambda batch: answer(run, batch), batches, threads=run.settings.parallel):
            if isinstance(outcome, BackbeatError):
                run.stop(outcome)
            elif outcome is None:
                answered += len(batch)
                advance(len(batch))
            elif outcome:
                failed |= {question.sample: outcome for question in batch}
    spent = run.budget.spent
    return Vibed(run.settings.model, wanted, answered, failed, run.stopped, spent.usd, spent.requests, spent.unanswered)


def _questions(project: Path, model: str, *, changed: bool) -> list[Question]:
    """Return what has no words yet, by sample."""
    kept = list(bought_lines(project))
    sounds, digests = {line.audio_sha256 for line in kept}, {line.question for line in kept}
    files: dict[str, dict[str, Any]] = {}
    classes = _corrected(project)
    for file in read_table(project, "scan", ["sample", "audio_sha256", "duration_s"]).to_pylist():
        files.setdefault(file["audio_sha256"], file)
    found = []
    for row in read_table(project, "descriptors").to_pylist():
        sound = row["audio_sha256"]
        if sound not in files or row.get("error") or (sound in sounds and not changed):
            continue
        sample = files[sound]["sample"]
        row |= {"sound_class": classes.get(sound, row["sound_class"])}
        features = features_of({**files[sound], **row}, sample)
        question = Question(sample, sound, features, question_digest(sound, features, model))
        if question.digest not in digests:
            found.append(question)
    return sorted(found, key=lambda question: question.sample)


def _corrected(project: Path) -> dict[str, str]:
    """Return the classes that the user has given to sounds, where the program is wrong."""
    scan = read_table(project, "scan", ["sample", "audio_sha256"]).to_pydict()
    sounds = dict(zip(scan["sample"], scan["audio_sha256"], strict=True))
    notes = load_notes(project)
    named = ((sounds[sample], notes[key].sound_class) for sample, key in match_notes(notes, sounds).keys.items())
    # Of several samples of one sound, the class that the catalog takes, too.
    return dict(sorted(((sound, said) for sound, said in named if said), reverse=True))


def _batches(questions: Sequence[Question], size: int) -> list[tuple[Question, ...]]:
    return [tuple(questions[start : start + size]) for start in range(0, len(questions), size)]


def _price(settings: VibeSettings) -> ModelPrice:
    if settings.model not in settings.prices.models:
        raise ConfigError(
            f"the model {settings.model} has no price in {LIBRARY_FILE}, and without one there is no budget",
            expected=f"one of {', '.join(settings.prices.models)}",
            got=settings.model,
            next_step=f"add it to vibe.prices.models, as {settings.prices.source} has it",
        )
    return settings.prices.models[settings.model]


def _drop_torn_line(project: Path) -> None:
    """Cut off what a kill has left of a last line, and end a whole one."""
    path = project / WORDS_FILE
    content = path.read_bytes() if path.exists() else b""
    end = content.rfind(b"\n") + 1
    if end == len(content):
        return
    try:
        json.loads(content[end:])
    except ValueError:
        with path.open("rb+") as stream:
            stream.truncate(end)
    else:
        append_durably(path, "\n")


@contextlib.contextmanager
def _alone(project: Path) -> Iterator[None]:
    folder = project / ".dvc" / "tmp"
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "backbeat-vibe.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise LibraryError(
            "another run of backbeat library vibe is at work in this clone",
            expected="one at a time, so that no sound is paid for twice",
            got="two",
            next_step="wait for it, or end it",
        ) from None
    try:
        yield
    finally:
        lock.release()
