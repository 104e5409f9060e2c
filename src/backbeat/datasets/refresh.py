"""Asking publishers whether their files are still the ones of the records, without fetching them.

Each address is compared with the record (its size, its hash where the hub publishes one) and with what was seen when
it was asked about last, which is noted in `upstream.json` in the staging store: it says something about this machine's
bytes, and nothing about the project. Nothing here changes a record: that is for a person who has looked at what the
publisher says.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

from backbeat.datasets.registry import (
    RECORDS_FOLDER,
    UNVERIFIED,
    RecordFile,
    load_record,
    load_registry,
    url_scheme,
)
from backbeat.datasets.transport.addresses import zenodo_file
from backbeat.datasets.transport.hashing import hash_file
from backbeat.datasets.transport.patience import Patience
from backbeat.datasets.transport.sources import local_path
from backbeat.datasets.transport.upstream import SHORT, Upstream, look, zenodo_files
from backbeat.errors import BackbeatError, DownloadError
from backbeat.executor import run_threads
from backbeat.storage.staging import new_file, open_staging

State = Literal["unchanged", "first seen", "changed", "unreachable", "needs a person", "generated", "own copy changed"]

# Together; web.py bounds what one host is asked at the same time.
AT_ONCE = 16


@dataclass(frozen=True)
class Freshness:
    """What became of one file at one of its addresses.

    Args:
        dataset: the name of the record.
        path: the file, as its record calls it.
        url: the address, as its record has it.
        state: `unchanged` since the last time, or `first seen` and as the record says.
        what: what has changed, or why it cannot be said.
        next_step: what to do about it.
    """

    dataset: str
    path: str
    url: str
    state: State
    what: str | None = None
    next_step: str | None = None


Note = dict[str, Any]  # the fields of an `Upstream`, and `on`: the day
Answer = Upstream | dict[str, Upstream]
Answers = Mapping[str, Answer | BackbeatError]


def refresh(project: Path, names: Sequence[str] = (), *, patience: Patience = SHORT) -> list[Freshness]:
    """Ask about every address of these datasets, or of all that are not excluded; in the order of the records.

    Raises:
        ConfigError: if there is no such record or it is not valid.
        StorageError: if `project` has no staging store, or it cannot be written to.
    """
    records = [load_record(project, name) for name in names] or [
        record for record in load_registry(project).values() if record.excluded is None
    ]
    note = open_staging(project).root / "raw" / "upstream.json"
    asked = [(record.name, file, url) for record in records for file in record.files for url in file.urls]
    before = _read_note(note)
    questions = list(dict.fromkeys(question for _, _, url in asked if (question := _question(url)) is not None))
    answers = dict(run_threads(lambda question: _answer(project, question, patience), questions, threads=AT_ONCE))
    found = [_judged(project, name, file, url, answers, before.get(url)) for name, file, url in asked]
    seen = {url: upstream for (_, _, url), (_, upstream) in zip(asked, found, strict=True) if upstream is not None}
    _write_note(note, seen)
    return [freshness for freshness, _ in found]


def _question(url: str) -> str | None:
    scheme = url_scheme(url)
    if scheme in {"generate", "manual"}:
        return None
    # One answer of Zenodo is about all files of its record.
    return f"zenodo://{zenodo_file(url)[0]}/" if scheme == "zenodo" else url


def _answer(project: Path, question: str, patience: Patience) -> Answer:
    match url_scheme(question):
        case "zenodo":
            return zenodo_files(zenodo_file(question)[0], patience)
        case "file":
            return _own_copy(local_path(project, question))
    return look(question, patience)


def _own_copy(path: Path) -> Upstream:
    try:
        facts = path.stat()
    except OSError as error:
        step = "put it there again, or correct urls in the record"
        raise DownloadError(f"{path} is not there", got=error.strerror, next_step=step) from error
    return Upstream(facts.st_size, last_modified=dt.datetime.fromtimestamp(facts.st_mtime, dt.UTC).isoformat())


def _judged(
    project: Path, name: str, file: RecordFile, url: str, answers: Answers, before: Note | None
) -> tuple[Freshness, Upstream | None]:
    def freshness(state: State, what: str | None = None, next_step: str | None = None) -> Freshness:
        return Freshness(name, file.path, url, state, what, next_step)

    scheme, question = url_scheme(url), _question(url)
    if question is None:
        place = unquote(url.removeprefix("manual://"))
        step = f"look at {place}; a newer copy is taken in by backbeat datasets adopt {name} PATH"
        return (freshness("generated") if scheme == "generate" else freshness("needs a person", None, step)), None
    answer = answers[question]
    if isinstance(answer, BackbeatError):
        return freshness("unreachable", answer.got, answer.next_step), None
    upstream = answer if isinstance(answer, Upstream) else answer.get(zenodo_file(url)[1])
    step = (
        f"compare with the publisher's page; if the new bytes are wanted, correct size and hash in "
        f"{RECORDS_FOLDER}/{name}.yaml, then: backbeat datasets download {name}"
    )
    if upstream is None:
        return freshness("changed", "the record on Zenodo does not list it any more", step), None
    if scheme == "file" and before is not None and upstream.last_modified != before.get("last_modified"):
        upstream = _hashed(upstream, file, local_path(project, url))
    faults = _against_record(file, upstream)
    if upstream.hash is None or upstream.hash != file.hash:
        faults += _against_note(before or {}, upstream, {fault.partition(" ")[0] for fault in faults})
    if faults:
        return freshness("own copy changed" if scheme == "file" else "changed", ", ".join(faults), step), upstream
    hint = None
    if file.hash == UNVERIFIED and upstream.hash is not None:
        hint = f"the hub publishes its hash: put {upstream.hash} into {RECORDS_FOLDER}/{name}.yaml"
    return freshness("first seen" if before is None else "unchanged", None, hint), upstream


def _hashed(upstream: Upstream, file: RecordFile, path: Path) -> Upstream:
    algorithm = (file.hash if file.hash != UNVERIFIED else "sha256:").partition(":")[0]
    return replace(upstream, hash=f"{algorithm}:{hash_file(path, algorithm, f'{path.name}: checking')}")


def _against_record(file: RecordFile, upstream: Upstream) -> list[str]:
    faults = []
    if None not in {file.size, upstream.size_bytes} and file.size != upstream.size_bytes:
        faults.append(f"size {file.size:,} -> {upstream.size_bytes:,}")
    comparable = upstream.hash is not None and upstream.hash.partition(":")[0] == file.hash.partition(":")[0]
    if comparable and upstream.hash != file.hash:
        faults.append(f"hash {file.hash} -> {upstream.hash}")
    return faults


def _against_note(before: Note, upstream: Upstream, known: set[str]) -> list[str]:
    named = {"size_bytes": "size", "hash": "hash", "etag": "ETag", "last_modified": "Last-Modified"}
    since = f"since {before.get('on')}"
    pairs = [(label, before.get(key), getattr(upstream, key)) for key, label in named.items() if label not in known]
    return [f"{label} {old} -> {new} {since}" for label, old, new in pairs if None not in {old, new} and old != new]


def _read_note(note: Path) -> dict[str, Note]:
    try:
        kept = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # it can always be made again, at the price of one comparison
        return {}
    return {url: seen for url, seen in kept.items() if isinstance(seen, dict)} if isinstance(kept, dict) else {}


def _write_note(note: Path, seen: dict[str, Upstream]) -> None:
    today = dt.datetime.now(dt.UTC).date().isoformat()
    # Read again: another process may have asked about other datasets in the meantime.
    kept = _read_note(note) | {url: asdict(upstream) | {"on": today} for url, upstream in seen.items()}
    with new_file(note) as part:
        part.write_text(json.dumps(kept, indent=2, sort_keys=True), encoding="utf-8")
