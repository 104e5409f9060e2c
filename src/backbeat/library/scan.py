"""The stage `scan`: one row for each file of every source, and nothing read twice.

A file whose size, times and number are those of the last scan is not opened: a second run costs a glance at each. What
is new is read once, by all processors; its hash, the hash of its sound and what else there is to know of it come out
of that one pass. What was read is remembered as it comes, so that a killed scan goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import soundfile

from backbeat.audio import read
from backbeat.datasets.packed.containers import is_tar
from backbeat.errors import AudioError, BackbeatError
from backbeat.executor import run_tasks
from backbeat.library import facts
from backbeat.library.ledger import read_ledger
from backbeat.library.memo import Memo, open_memo
from backbeat.library.places import one_line
from backbeat.library.settings import LibrarySettings, ScanSettings, load_settings
from backbeat.library.sources import Found, list_samples, read_found, read_samples, stamp_of
from backbeat.library.tables import SCAN, write_table
from backbeat.progress import progress
from backbeat.provenance import digest_of, file_digest

# So many files are one task: about a second, so that workers are fed and little is lost by a kill.
FILES_AT_ONCE = 64

# A larger file is not taken into memory, but decoded in blocks.
LARGE_BYTES = 2**26

# The clocks of file systems tick every 10 ms at worst; a file that was written since the last tick could change
# without its time showing it.
TICK_S = 0.02

# A file that is being written is tried so often.
TRIES = 3

# In the memo: the content of a file as the file system knows it, and what is known of a content.
_FILES, _CONTENTS = "files", "scan"
_FILES_VERSION = "1"


@dataclass(frozen=True)
class Scanned:
    """What a scan found.

    Args:
        files: rows of the table.
        read: how many of them were read by this run.
        unreadable: how many could not be, ever.
        archived: how many are only in the archive.
        vanished: how many were listed and gone before they were read; they are in no row.
        duration_s: of all that can be read.
        size_bytes: of all files.
    """

    files: int
    read: int
    unreadable: int
    archived: int
    vanished: int
    duration_s: float
    size_bytes: int


@dataclass(frozen=True)
class _Task:
    project: Path
    found: tuple[Found, ...]
    settings: ScanSettings


@dataclass(frozen=True)
class _Content:
    """What was read of one sample: of the file, and of its sound; whether to remember it by its content and stamp."""

    file: dict[str, Any]
    facts: dict[str, Any]
    keep: bool = True


def scan(project: Path, *, workers: int | None = None, rehash: bool = False) -> Scanned:
    """Write `data/library/scan.parquet`.

    Args:
        project: the root of the repository.
        workers: processes. Default: one per processor.
        rehash: read every file again, whatever the file system says of it.

    Raises:
        LibraryError: if a source is not there.
        StorageError: if the disk is full or read-only.
    """
    settings = load_settings(project)
    fingerprint = _fingerprint(settings)
    with open_memo(project) as memo:
        found = list(list_samples(project, settings, memo))
        contents = {} if rehash else _known(memo, fingerprint, found, project)
        todo = [one for one in found if one.sample not in contents]
        vanished = 0
        with progress("scan", len(found), unit="files", done=len(contents)) as advance:
            tasks = list(_tasks(project, todo, settings.scan))
            for task, results in run_tasks(_read, tasks, workers=workers):
                for one, result in zip(task.found, results, strict=True):
                    if result is None:
                        vanished += 1
                        continue
                    contents[one.sample] = result
                    _remember(memo, fingerprint, one, result)
                advance(len(task.found))
        memo.forget_others(_CONTENTS, fingerprint)
    rows = [_row(settings, one, contents[one.sample]) for one in found if one.sample in contents]
    write_table(project, "scan", SCAN, rows)
    return Scanned(
        files=len(rows),
        read=len(todo) - vanished,
        unreadable=sum(row.get("error") is not None for row in rows),
        archived=sum(row["tier"] == "archive" for row in rows),
        vanished=vanished,
        duration_s=sum(row.get("duration_s") or 0.0 for row in rows),
        size_bytes=sum(row["size_bytes"] or 0 for row in rows),
    )


def _fingerprint(settings: LibrarySettings) -> str:
    """Return a digest of the code and the settings that facts come from."""
    code = [Path(str(module.__file__)).read_text(encoding="utf-8") for module in (facts, read)]
    return digest_of([code, soundfile.__libsndfile_version__, settings.scan.model_dump()])


def _known(memo: Memo, fingerprint: str, found: list[Found], project: Path) -> dict[str, _Content]:
    """Return what is remembered of samples, by their names."""
    keys = {_key(one): one for one in found if one.error is None}
    files = {keys[key].sample: json.loads(value) for key, value in memo.known(_FILES, _FILES_VERSION, keys).items()}
    ledger = read_ledger(project)
    for one in found:
        if one.tier == "archive":
            entry = ledger[one.sample]
            files[one.sample] = {"file_sha256": entry.file_sha256, "size_bytes": entry.size_bytes}
    of_contents = memo.known(_CONTENTS, fingerprint, {file["file_sha256"] for file in files.values()})
    return {
        sample: _Content(file, json.loads(of_contents[file["file_sha256"]]))
        for sample, file in files.items()
        if file["file_sha256"] in of_contents
    }


def _remember(memo: Memo, fingerprint: str, one: Found, content: _Content) -> None:
    if not content.keep:
        return
    if one.tier == "original":
        memo.remember(_FILES, _FILES_VERSION, _key(one), json.dumps(content.file).encode())
    memo.remember(_CONTENTS, fingerprint, content.file["file_sha256"], json.dumps(content.facts).encode())


def _key(one: Found) -> str:
    return f"{one.sample}|{one.stamp}"


def _row(settings: LibrarySettings, one: Found, content: _Content) -> dict[str, Any]:
    source = next((source for source in settings.sources if source.name == one.source), None)
    return {
        "sample": one.sample,
        "source": one.source,
        "path": one.path,
        "container": one.container,
        "source_url": source and source.url,
        "license": source and source.license,
        "tier": one.tier,
        **content.file,
        **content.facts,
    }


def _tasks(project: Path, todo: list[Found], settings: ScanSettings) -> Iterator[_Task]:
    """Yield pieces of the work: files of folders, members of one archive; of a tar all, since it is read once."""
    in_folders = [one for one in todo if one.member is None]
    groups: dict[Path, list[Found]] = {}
    for one in todo:
        if one.member is not None and one.place is not None:
            groups.setdefault(one.place, []).append(one)
    # The longest tasks first, so that no worker is left with one in the end.
    for place, members in groups.items():
        yield from _pieces(project, members, settings, len(members) if is_tar(place.name) else FILES_AT_ONCE)
    yield from _pieces(project, in_folders, settings, FILES_AT_ONCE)


def _pieces(project: Path, found: list[Found], settings: ScanSettings, size: int) -> Iterator[_Task]:
    for start in range(0, len(found), size):
        yield _Task(project, tuple(found[start : start + size]), settings)


def _read(task: _Task) -> list[_Content | None]:
    """Read the samples of a task; None for one that is not there any more."""
    if task.found[0].member is None:
        return [_read_file(task, one) for one in task.found]
    contents = {one.sample: _content(content, task.settings) for one, content in read_found(task.found)}
    # An archive that was written meanwhile is read again by the next scan.
    place = task.found[0].place
    same = place is not None and place.exists() and stamp_of(place) == task.found[0].stamp
    return [replace(contents[one.sample], keep=contents[one.sample].keep and same) for one in task.found]


def _read_file(task: _Task, one: Found) -> _Content | None:
    if one.tier == "archive":
        return _read_archived(task, one)
    assert one.place is not None
    try:
        status = one.place.stat()
        if one.error is not None:
            # Of a bad name or archive; the same content may be right elsewhere. Of a member nothing was read.
            whole = one.container is None and one.place.is_file()
            file = _file(file_digest(one.place), status.st_size) if whole else _file(None, None)
            return _Content(file, {"error": one.error}, keep=False)
        for _ in range(TRIES):
            stamp = stamp_of(one.place)
            time.sleep(min(max(0.0, status.st_ctime + TICK_S - time.time()), TICK_S))
            large = status.st_size > LARGE_BYTES
            content = _content(one.place if large else one.place.read_bytes(), task.settings)
            if stamp_of(one.place) == stamp:
                return replace(content, keep=stamp == one.stamp)
        error = "it is being written: scan again when that is over"
    except FileNotFoundError:
        return None
    except OSError as failure:
        error = f"it cannot be opened: {failure.strerror}"
    return _Content(_file(None, None), {"error": error}, keep=False)


def _read_archived(task: _Task, one: Found) -> _Content:
    row = {"sample": one.sample, "source": one.source, "path": one.path, "container": None, "tier": "archive"}
    [(_, content)] = read_samples(task.project, [row])
    if isinstance(content, BackbeatError):
        entry = read_ledger(task.project)[one.sample]
        return replace(_content(content, task.settings), file=_file(entry.file_sha256, entry.size_bytes))
    return _content(content, task.settings)


def _content(source: bytes | Path | BackbeatError, settings: ScanSettings) -> _Content:
    if isinstance(source, BackbeatError):
        return _Content(_file(None, None), {"error": one_line(source)}, keep=False)
    if isinstance(source, Path):
        file = _file(file_digest(source), source.stat().st_size)
    else:
        file = _file(hashlib.sha256(source).hexdigest(), len(source))
    try:
        return _Content(file, facts.sound_facts(source, "the file", settings))
    except AudioError as error:
        return _Content(file, {"error": one_line(error)})


def _file(digest: str | None, size_bytes: int | None) -> dict[str, Any]:
    return {"file_sha256": digest, "size_bytes": size_bytes}
