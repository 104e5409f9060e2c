"""The stage `describe`: one row for each distinct sound, and no sound described twice.

A sound is decoded once, by any of the workers, and what was measured of it is remembered under the hash of the file
that it was read from; rules, names and models then make rows of that, which costs next to nothing and is done by every
run. A sound that takes too long is a row with an error. A process that dies (of memory, of a decoder's fault) takes
nothing with it: what it was at is described once more, alone, by this run or the next, and is a row with an error if
that dies as well.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from backbeat.errors import BackbeatError
from backbeat.executor import run_tasks
from backbeat.library.class_model import load_model
from backbeat.library.describe_tasks import Result, Task, describe_task, left_marks, parsed, tasks_of, value_of
from backbeat.library.labels import row_of
from backbeat.library.measure import fingerprint
from backbeat.library.memo import memo_path, open_memo
from backbeat.library.settings import DescribeSettings, load_settings
from backbeat.library.tables import DESCRIPTORS_TABLE, EMBEDDINGS, read_table, write_table
from backbeat.progress import Advance, progress
from backbeat.storage.staging import disk_errors

_STAGE = "describe"
# Threads of linear algebra in each of several workers wait for each other, and turn in place while they do.
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Described:
    """What there is now.

    Args:
        sounds: rows of the table.
        described: how many of them this run has decoded.
        failed: how many have an error in place of descriptors.
        loops: how many are loops; the others are one-shots.
        by_class: how many there are of each class, one-shots and loops.
        by_source: how many classes were given by name, rule or model.
        with_tempo: loops with a tempo.
        with_key: loops with a key.
        errors: a sample of each sound that failed -> why.
    """

    sounds: int
    described: int
    failed: int
    loops: int
    by_class: dict[str, int]
    by_source: dict[str, int]
    with_tempo: int
    with_key: int
    errors: dict[str, str] = field(default_factory=dict)


def describe(project: Path, *, workers: int | None = None) -> Described:
    """Write `data/library/descriptors.parquet` and `data/library/embeddings.parquet`.

    Args:
        project: the root of the repository.
        workers: processes. Default: one per processor.

    Raises:
        LibraryError: if the scan's table is not there, or classes.json cannot be used.
        StorageError: if the disk is full or read-only.
        BackbeatError: if workers die before they begin.
    """
    settings, model = load_settings(project), load_model(project)
    samples = _by_sound(project)
    # The first sample of a sound stands for it; the table is sorted by name.
    chosen = {rows[0]["file_sha256"]: rows[0] for rows in samples.values()}
    mark = fingerprint(settings.describe)
    with open_memo(project) as memo:
        known = memo.known(_STAGE, mark, chosen)
        todo = [row for digest, row in chosen.items() if digest not in known]
        with progress("describe", len(chosen), unit="sounds", done=len(known)) as advance:
            for digest, (value, keep) in _measured(project, todo, settings.describe, workers, advance):
                known[digest] = value
                if keep:
                    memo.remember(_STAGE, mark, digest, value)
        memo.forget_others(_STAGE, mark)
    rows, vectors, errors = [], [], {}
    for sound, members in sorted(samples.items()):
        facts, vector = parsed(known[members[0]["file_sha256"]])
        modeled = model.probabilities(facts) if model is not None and not facts.get("error") else None
        row = row_of(facts, [member["path"] for member in members], settings.words, modeled)
        rows.append({"audio_sha256": sound, **row})
        if row.get("error"):
            errors[members[0]["sample"]] = row["error"]
        else:
            vectors.append({"audio_sha256": sound, "embedding": vector})
    write_table(project, "descriptors", DESCRIPTORS_TABLE, rows)
    write_table(project, "embeddings", EMBEDDINGS, vectors)
    return _summary(rows, len(todo), errors)


def described_facts(project: Path) -> Iterator[tuple[list[dict[str, Any]], dict[str, Any]]]:
    """Yield the samples of each sound, and its facts, for those that have been described.

    Raises:
        LibraryError: if the scan's table is not there.
    """
    samples = _by_sound(project)
    mark = fingerprint(load_settings(project).describe)
    with open_memo(project) as memo:
        known = memo.known(_STAGE, mark, {rows[0]["file_sha256"] for rows in samples.values()})
    for _, rows in sorted(samples.items()):
        if rows[0]["file_sha256"] in known:
            facts, _ = parsed(known[rows[0]["file_sha256"]])
            if not facts.get("error"):
                yield rows, facts


def _by_sound(project: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the samples that could be scanned, by their sound, in the order of their names."""
    columns = ["sample", "source", "path", "container", "tier", "file_sha256", "size_bytes", "audio_sha256", "error"]
    sounds: dict[str, list[dict[str, Any]]] = {}
    for row in read_table(project, "scan", columns).to_pylist():
        if row["error"] is None and row["audio_sha256"] is not None:
            sounds.setdefault(row["audio_sha256"], []).append(row)
    return sounds


def _measured(
    project: Path, rows: list[dict[str, Any]], settings: DescribeSettings, workers: int | None, advance: Advance
) -> Iterator[tuple[str, Result]]:
    """Yield for each row the hash of its file and what came of it."""
    waiting = {row["file_sha256"]: row for row in rows}
    marks = memo_path(project).parent / "describing"
    with disk_errors(marks), _one_thread_each():
        marks.mkdir(exist_ok=True)
        suspects = left_marks(marks)
        while waiting:
            for digest in filter(waiting.__contains__, suspects):
                yield digest, _alone(Task(project, (waiting.pop(digest),), settings, marks))
                advance(1)
            try:
                tasks = list(tasks_of(project, list(waiting.values()), settings, marks))
                for task, results in run_tasks(describe_task, tasks, workers=workers):
                    for row, result in zip(task.rows, results, strict=True):
                        del waiting[row["file_sha256"]]
                        yield row["file_sha256"], result
                    advance(len(task.rows))
            except BackbeatError as error:
                suspects = left_marks(marks)
                if not _is_death(error) or not any(digest in waiting for digest in suspects):
                    raise


def _alone(task: Task) -> Result:
    """Describe one sound in a process that may die of it."""
    try:
        # Beside an empty task: a single one would be done by this process.
        empty = replace(task, rows=())
        [result] = [results[0] for _, results in run_tasks(describe_task, [task, empty], workers=2) if results]
    except BackbeatError as error:
        if not _is_death(error):
            raise
        left_marks(task.marks)
        return value_of({"error": "the process that described it died"}), False
    return result


def _is_death(error: BackbeatError) -> bool:
    """Return whether it says that a worker died: of all errors of the executor, only that one is of no kind."""
    return type(error) is BackbeatError


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """Have the processes that are started in the block use one thread each; this one is not changed."""
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update({name: value for name, value in _ONE_THREAD.items() if before[name] is None})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)


def _summary(rows: list[dict[str, Any]], described: int, errors: dict[str, str]) -> Described:
    good = [row for row in rows if not row.get("error")]
    return Described(
        sounds=len(rows),
        described=described,
        failed=len(errors),
        loops=sum(row["kind"] == "loop" for row in good),
        by_class=dict(Counter(row["sound_class"] or "silence" for row in good).most_common()),
        by_source=dict(sorted(Counter(row["class_source"] for row in good if row["class_source"]).items())),
        with_tempo=sum(row["tempo_bpm"] is not None for row in good),
        with_key=sum(row["key"] is not None for row in good),
        errors=errors,
    )
