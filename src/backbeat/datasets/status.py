"""What is here of a dataset, and whether it is still what its record promises."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from backbeat.datasets.download import staged_path
from backbeat.datasets.hashing import algorithm_of, hash_file
from backbeat.datasets.partial import part_path
from backbeat.datasets.registry import Record, RecordFile, load_record
from backbeat.storage.staging import Staging, open_staging


@dataclass(frozen=True)
class Presence:
    """How much of a dataset is in the staging store.

    Args:
        state: whether there is nothing, something or everything.
        here_bytes: what is there, complete or not.
        total_bytes: the size of the dataset; None if the record does not know it.
    """

    state: Literal["absent", "partial", "present"]
    here_bytes: int
    total_bytes: int | None

    def __str__(self) -> str:
        if self.state != "partial" or not self.total_bytes:
            return self.state
        return f"partial {100 * self.here_bytes // self.total_bytes} %"


@dataclass(frozen=True)
class Verdict:
    """What hashing one file of a dataset has shown.

    Args:
        path: the file, as its record calls it.
        state: `unverified` if there is no hash to compare with.
        expected: the hash, or the size if that is already wrong, by the record.
        got: the same of what is in the staging store; None if it is not there.
    """

    path: str
    state: Literal["ok", "corrupt", "unverified", "absent"]
    expected: str
    got: str | None


def presence(project: Path, record: Record) -> Presence:
    """Return how much of a dataset is in the staging store, by sizes alone.

    Raises:
        StorageError: if `project` has no staging store.
    """
    staging = open_staging(project)
    finals = [staged_path(staging, file) for file in record.files]
    complete = [final.is_file() for final in finals]
    here = [final if there else part_path(final) for final, there in zip(finals, complete, strict=True)]
    here_bytes = sum(path.stat().st_size for path in here if path.is_file())
    state: Literal["absent", "partial", "present"] = "partial" if here_bytes else "absent"
    return Presence("present" if all(complete) else state, here_bytes, record.size_bytes)


def verify(project: Path, name: str) -> list[Verdict]:
    """Hash every file of a dataset that is in the staging store; the order is that of the record.

    Raises:
        ConfigError: if there is no such record or it is not valid.
    """
    record = load_record(project, name)
    staging = open_staging(project)
    return [_verdict(staging, name, file) for file in record.files]


def _verdict(staging: Staging, name: str, file: RecordFile) -> Verdict:
    final = staged_path(staging, file)
    if not final.is_file():
        return Verdict(file.path, "absent", file.hash, None)
    size_bytes = final.stat().st_size
    if size_bytes != (file.promised_bytes or size_bytes):
        return Verdict(file.path, "corrupt", f"{file.promised_bytes:,} bytes", f"{size_bytes:,} bytes")
    algorithm = algorithm_of(file)
    found = f"{algorithm}:{hash_file(final, algorithm, f'{name}/{file.path}: checking')}"
    if file.promise is None:
        return Verdict(file.path, "unverified", file.hash, found)
    return Verdict(file.path, "ok" if found == file.hash else "corrupt", file.hash, found)
