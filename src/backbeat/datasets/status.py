"""How much of each dataset is here, what is known about it, and where it is. Nothing is hashed for that."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from backbeat.datasets.checks import last_check
from backbeat.datasets.places import RAW_FOLDER, staged_path
from backbeat.datasets.registry import Record, load_record, load_registry
from backbeat.datasets.transport.partial import part_path
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
class Status:
    """One line of the table.

    Args:
        dataset: the name of the record.
        size_bytes: of all files, the approximate one where no exact one is known; None if neither is.
        priority: 5 is first.
        license: its identifier.
        state: `excluded`; `absent`, `partial` or `present`; `verified` if every file was hashed and nothing has touched
            it since; `stale` if what is linked in data/raw is not what the record wants now; `corrupt` if a file has
            the wrong size or had the wrong hash.
        here_bytes: what is here, complete or not.
        percent: how much of it that is, where the state is `partial` and the size is known.
        approximate: whether the size is.
        verified_on: the day of the oldest of those checks.
        where: the folder of the staging store that the bytes are in.
    """

    dataset: str
    size_bytes: int | None
    priority: int
    license: str
    state: Literal["excluded", "absent", "partial", "present", "verified", "stale", "corrupt"]
    here_bytes: int
    percent: int | None
    approximate: bool
    verified_on: str | None
    where: Path | None

    @property
    def text(self) -> str:
        """The state in words: `partial 43 %`, `verified on 2026-01-31`."""
        if self.state == "partial" and self.percent is not None:
            return f"partial {self.percent} %"
        return f"verified on {self.verified_on}" if self.state == "verified" else self.state


def status(project: Path, *names: str) -> list[Status]:
    """Return a line for each of these datasets, or for the whole registry, sorted by name.

    Raises:
        ConfigError: if there is no such record or it is not valid.
        StorageError: if `project` has no staging store.
    """
    staging = open_staging(project)
    records = [load_record(project, name) for name in sorted(names)] or list(load_registry(project).values())
    return [_status(project, staging, record) for record in records]


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
    return Presence("present" if all(complete) else state, here_bytes, record.expected_bytes)


def _status(project: Path, staging: Staging, record: Record) -> Status:
    here = presence(project, record)
    state, verified_on = _state(project, staging, record, here)
    size_bytes = record.expected_bytes
    return Status(
        record.name,
        here.here_bytes if size_bytes is None and here.state == "present" else size_bytes,
        record.priority,
        record.license.id,
        state,
        here.here_bytes,
        min(99, 100 * here.here_bytes // size_bytes) if here.state == "partial" and size_bytes else None,
        record.size_bytes is None and size_bytes is not None,
        verified_on,
        staging.root / "raw" if here.here_bytes else None,
    )


_State = Literal["excluded", "absent", "partial", "present", "verified", "stale", "corrupt"]


def _state(project: Path, staging: Staging, record: Record, here: Presence) -> tuple[_State, str | None]:
    if record.excluded is not None:
        return "excluded", None
    finals = [staged_path(staging, file) for file in record.files]
    checks = [last_check(final) for final in finals]
    sizes_wrong = any(
        final.is_file() and file.promised_bytes not in {None, final.stat().st_size}
        for final, file in zip(finals, record.files, strict=True)
    )
    if sizes_wrong or any(check is not None and not check.good for check in checks):
        return "corrupt", None
    if _links_elsewhere(project, record, finals):
        return "stale", None
    if here.state == "present" and all(check is not None for check in checks):
        return "verified", min(check.on for check in checks if check is not None)
    return here.state, None


def _links_elsewhere(project: Path, record: Record, finals: list[Path]) -> bool:
    # What is unpacked has other names there, which are the business of its own folder.
    links = [project / RAW_FOLDER / record.name / file.path for file in record.files]
    return any(
        link.is_symlink() and os.path.realpath(link) != os.path.realpath(final)
        for link, final in zip(links, finals, strict=True)
    )
