"""Pieces of the stage `describe`, and what a worker does with one: read sounds, measure them, say what it is at.

While a process is at a sound, a file of its number holds the hash of that: when the process is no more and the file is
still there, it is known what it died of, or was killed at.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from backbeat.errors import BackbeatError
from backbeat.library.measure import TookTooLongError, at_most, measure
from backbeat.library.settings import DescribeSettings, load_settings
from backbeat.library.sources import has_changed, read_samples
from backbeat.provenance import file_digest

# So many sounds are one task: a second or less, so that little is lost by a kill. Of an archive more, since one that
# cannot be entered at any place is read from its beginning for each task.
SOUNDS_AT_ONCE = 24
MEMBERS_AT_ONCE = 400

# A larger file is not taken into memory: of a long one only the beginning is described.
LARGE_BYTES = 2**26

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Task:
    """Some sounds, each by the row of one sample that holds it; `marks` is where a worker says what it is at."""

    project: Path
    rows: tuple[dict[str, Any], ...]
    settings: DescribeSettings
    marks: Path


# Facts as JSON, a line break, the embedding; and whether to remember it.
Result = tuple[bytes, bool]


def tasks_of(project: Path, rows: list[dict[str, Any]], settings: DescribeSettings, marks: Path) -> Iterator[Task]:
    """Yield pieces of the work, those with the largest files first, so that no worker is left with one in the end."""
    contained: dict[tuple[str, str], list[dict[str, Any]]] = {}
    loose = []
    for row in rows:
        if row["container"] is None or row["tier"] == "archive":
            loose.append(row)
        else:
            contained.setdefault((row["source"], row["container"]), []).append(row)
    for members in contained.values():
        for start in range(0, len(members), MEMBERS_AT_ONCE):
            yield Task(project, tuple(members[start : start + MEMBERS_AT_ONCE]), settings, marks)
    loose.sort(key=lambda row: (-row["size_bytes"], row["sample"]))
    for start in range(0, len(loose), SOUNDS_AT_ONCE):
        yield Task(project, tuple(loose[start : start + SOUNDS_AT_ONCE]), settings, marks)


def describe_task(task: Task) -> list[Result]:
    """Describe the sounds of a task, in its order; what fails is an error in place of facts."""
    results: dict[str, Result] = {}
    mark = task.marks / str(os.getpid())
    large = [row for row in task.rows if row["size_bytes"] > LARGE_BYTES and row["container"] is None]
    for one in large:
        place = _place(task.project, one)
        if place is not None:
            mark.write_text(one["file_sha256"])
            results[one["sample"]] = _facts_of_large(one, place, task.settings)
    rest = [row for row in task.rows if row["sample"] not in results]
    for row, content in read_samples(task.project, rest):
        mark.write_text(row["file_sha256"])
        results[row["sample"]] = _facts_of(row, content, task.settings)
    mark.unlink(missing_ok=True)
    return [results[row["sample"]] for row in task.rows]


def _facts_of(row: Row, source: bytes | Path | BackbeatError, settings: DescribeSettings) -> Result:
    if isinstance(source, BackbeatError):
        # Of the disk or of the moment, not of the sound.
        return value_of({"error": _one_line(source)}), False
    try:
        with at_most(settings.timeout_s):
            facts, vector = measure(source, row["sample"], settings)
    except TookTooLongError:
        # Another machine, or this one on another day, may be faster.
        message = f"it took longer than {settings.timeout_s:g} s of processor time (describe.timeout_s)"
        return value_of({"error": message}), False
    except BackbeatError as error:
        return value_of({"error": _one_line(error)}), True
    except MemoryError:
        return value_of({"error": "there was not enough memory for it"}), False
    return value_of(facts, vector), True


def _facts_of_large(row: Row, place: Path, settings: DescribeSettings) -> Result:
    """Describe a file where it is; its hash is taken afterwards, so that no change during the work goes unseen."""
    result = _facts_of(row, place, settings)
    try:
        same = file_digest(place) == row["file_sha256"]
    except OSError:
        same = False
    return result if same else _facts_of(row, has_changed(row), settings)


def _place(project: Path, row: Row) -> Path | None:
    """Return where a large file is, None where it is not on the disk any more."""
    source = next((one for one in load_settings(project).sources if one.name == row["source"]), None)
    if source is None:
        return None
    place = source.place(project) / row["path"]
    return place if place.is_file() else None


def left_marks(marks: Path) -> list[str]:
    """Return what processes were at that are no more, of this run or of one before, and forget it."""
    found = []
    for mark in sorted(marks.iterdir()):
        if not psutil.pid_exists(int(mark.name)):
            found.append(mark.read_text())
            mark.unlink()
    return found


def value_of(facts: Mapping[str, Any], vector: bytes = b"") -> bytes:
    """Return facts and an embedding as they are remembered."""
    return json.dumps(facts, sort_keys=True).encode() + b"\n" + vector


def parsed(value: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the facts and the embedding that `value_of` wrote."""
    facts, _, vector = value.partition(b"\n")
    return json.loads(facts), vector


def _one_line(error: BackbeatError) -> str:
    return " ".join(str(error).split())
