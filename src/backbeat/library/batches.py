"""Rows of the scan's table as tasks: files of folders a few at a time, those of an archive together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Enough that handing them over costs nothing, few enough that a kill costs little.
BATCH_FILES = 16


@dataclass(frozen=True)
class Batch:
    """Some samples of one repository, to be read by one process."""

    project: Path
    rows: tuple[Mapping[str, Any], ...]


def batches(project: Path, rows: Iterable[Mapping[str, Any]]) -> Iterator[Batch]:
    """Yield all rows in batches; an archive is read from its beginning, so what is in one goes to one process."""
    containers: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    loose: list[Mapping[str, Any]] = []
    for row in rows:
        if row["container"] is None:
            loose.append(row)
        else:
            containers.setdefault((row["source"], row["container"]), []).append(row)
    for inside in containers.values():
        yield Batch(project, tuple(inside))
    for start in range(0, len(loose), BATCH_FILES):
        yield Batch(project, tuple(loose[start : start + BATCH_FILES]))
