"""Proving again that the bytes that are here are the promised ones.

Files are hashed side by side. A run that is killed notes which files it had done; the next one over the same
datasets goes on with the others, as long as the done ones have not been touched.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from backbeat.datasets.checks import last_check, note_check, read_check
from backbeat.datasets.packed.archives import list_members, read_member
from backbeat.datasets.places import staged_path
from backbeat.datasets.registry import Record, RecordFile, load_record
from backbeat.datasets.transport.hashing import algorithm_of, hash_file
from backbeat.errors import ArchiveError, BackbeatError
from backbeat.executor import default_workers, run_threads
from backbeat.progress import progress
from backbeat.storage.staging import Staging, new_file, open_staging


@dataclass(frozen=True)
class Verdict:
    """What looking at one file of a dataset has shown.

    Args:
        dataset: the name of the record.
        path: the file, as its record calls it.
        state: `unverified` if there is no hash to compare with; `unchecked` if it was only asked to be quick, and
            nobody has hashed this file since it was last touched.
        expected: the hash, or the size if that is already wrong, by the record.
        got: the same of what is in the staging store; None if it is not there or was not read.
    """

    dataset: str
    path: str
    state: Literal["ok", "corrupt", "unverified", "unchecked", "absent"]
    expected: str
    got: str | None

    @property
    def text(self) -> str:
        """The verdict in a few words."""
        match self.state:
            case "corrupt":
                return f"corrupt: expected {self.expected}, got {self.got}"
            case "unverified":
                return f"unverified: the record has no hash; this is {self.got}"
            case "unchecked":
                return "unchecked: not hashed since it was last touched"
            case _:
                return self.state


@dataclass(frozen=True)
class _Task:
    staging: Staging
    record: Record
    file: RecordFile

    @property
    def final(self) -> Path:
        return staged_path(self.staging, self.file)


def verify(project: Path, *names: str, quick: bool = False, jobs: int | None = None) -> list[Verdict]:
    """Hash every file of these datasets that is in the staging store; the order is that of the records.

    Args:
        project: the root of the repository.
        names: the names of the records.
        quick: whether to believe what hashing has shown the last time of a file whose size and time are unchanged,
            and to hash nothing.
        jobs: how many files are hashed at the same time; default one per processor.

    Raises:
        ConfigError: if there is no such record or it is not valid.
    """
    staging = open_staging(project)
    records = [load_record(project, name) for name in names]
    tasks = [_Task(staging, record, file) for record in records for file in record.files]
    if quick:
        return [_quick_verdict(task) for task in tasks]
    note = _Note(staging.root / "verify.part", sorted(str(task.final.name) for task in tasks))
    verdicts: dict[tuple[str, str], Verdict] = {}
    for task, verdict in run_threads(
        lambda task: _quick_verdict(task) if note.holds(task.final) else _verdict(task),
        tasks,
        threads=jobs or default_workers(),
    ):
        if isinstance(verdict, BackbeatError):
            raise verdict
        verdicts[task.record.name, task.file.path] = verdict
        note.add(task.final)
    note.finish()
    return [verdicts[task.record.name, task.file.path] for task in tasks]


class _Note:
    """Which files of a run over certain files are done; gone when all are."""

    def __init__(self, path: Path, wanted: list[str]) -> None:
        self._path = path
        self._wanted = wanted
        self._done: list[str] = []
        try:
            left = json.loads(path.read_text(encoding="utf-8"))
            self._done = left["done"] if left["wanted"] == wanted else []
        except (OSError, ValueError, TypeError, KeyError):
            pass

    def holds(self, final: Path) -> bool:
        return final.name in self._done and last_check(final) is not None

    def add(self, final: Path) -> None:
        self._done.append(final.name)
        with new_file(self._path) as part:
            part.write_text(json.dumps({"wanted": self._wanted, "done": self._done}), encoding="utf-8")

    def finish(self) -> None:
        self._path.unlink(missing_ok=True)


def _quick_verdict(task: _Task) -> Verdict:
    wrong = _absent_or_of_wrong_size(task)
    if wrong is not None:
        return wrong
    check = last_check(task.final)
    if check is None:
        return Verdict(task.record.name, task.file.path, "unchecked", task.file.hash, None)
    name, path = task.record.name, task.file.path
    if not check.good:
        return Verdict(name, path, "corrupt", check.hash, "another hash, when it was last looked at")
    proven = task.file.promise is not None or task.file.members is not None
    return Verdict(name, path, "ok" if proven else "unverified", task.file.hash, check.hash)


def _verdict(task: _Task) -> Verdict:
    wrong = _absent_or_of_wrong_size(task)
    if wrong is not None:
        return wrong
    name, file = task.record.name, task.file
    if file.members is not None:
        return _members_verdict(task)
    algorithm = algorithm_of(file)
    found = f"{algorithm}:{hash_file(task.final, algorithm, f'{name}/{file.path}: checking')}"
    before = read_check(task.final)
    # Without a hash in the record, what there is to compare with is what the file was when it arrived.
    wanted = file.hash if file.promise is not None else found if before is None else before.hash
    note_check(task.final, wanted, good=found == wanted)
    if found != wanted:
        return Verdict(name, file.path, "corrupt", wanted, found)
    return Verdict(name, file.path, "ok" if file.promise is not None else "unverified", file.hash, found)


def _members_verdict(task: _Task) -> Verdict:
    """Return what the CRC-32 of every member says: the hash in the record is that of the whole archive."""
    name, file = task.record.name, task.file
    try:
        members = list_members(task.final)
        with progress(f"{name}/{file.path}: checking", len(members), unit="members") as advance:
            for member in members.values():
                read_member(task.final, member)
                advance(1)
    except ArchiveError as error:
        note_check(task.final, file.hash, good=False)
        return Verdict(name, file.path, "corrupt", error.expected or "whole members", error.got)
    note_check(task.final, file.hash, good=True)
    return Verdict(name, file.path, "ok", file.hash, None)


def _absent_or_of_wrong_size(task: _Task) -> Verdict | None:
    name, file = task.record.name, task.file
    if not task.final.is_file():
        return Verdict(name, file.path, "absent", file.hash, None)
    size_bytes = task.final.stat().st_size
    if size_bytes != (file.promised_bytes or size_bytes):
        return Verdict(name, file.path, "corrupt", f"{file.promised_bytes:,} bytes", f"{size_bytes:,} bytes")
    return None
