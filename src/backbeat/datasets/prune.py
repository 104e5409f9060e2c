"""Making room in the staging store of raw data, without losing what nobody else has.

- Without names: what no record refers to goes (other versions, other selections of members, what a download left
  behind), as long as no process is at work on it.
- With names: the bytes of these datasets go, if they can be had again. Their publisher is asked first; what it does
  not answer for, what a person had to fetch, and a copy of one's own that has no other name any more, is the only
  copy and is kept, unless that is said twice: `only_copies` and `certain`.
- What another dataset that is here uses, too, stays.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from backbeat.datasets.packed.extraction import KIND as UNPACKED
from backbeat.datasets.packed.extraction import unpacked_folder
from backbeat.datasets.places import KIND, RAW_FOLDER, staged_path
from backbeat.datasets.refresh import Freshness, refresh
from backbeat.datasets.registry import Record, RecordFile, load_record, load_registry
from backbeat.storage.staging import Staging, open_staging

# Kept beside the bytes for as long as these are there.
_NOTE_SUFFIXES = (".checked.part", ".lock.part", ".origin.part", ".members.part", ".part")

# What an address says that still has the bytes.
_STILL_THERE = frozenset({"unchanged", "first seen", "generated"})


@dataclass(frozen=True)
class Pruned:
    """What became of one entry of the staging store.

    Args:
        what: the dataset and the file, or the name of an entry that belongs to none.
        size_bytes: what it takes.
        action: whether it was removed.
        reason: why, or why not.
    """

    what: str
    size_bytes: int
    action: Literal["removed", "kept"]
    reason: str


def prune(
    project: Path, *names: str, dry_run: bool = False, only_copies: bool = False, certain: bool = False
) -> list[Pruned]:
    """Free what nothing refers to, or the bytes of these datasets.

    Args:
        project: the root of the repository.
        names: datasets to free; none means everything that no record refers to.
        dry_run: whether to say what would go and remove nothing.
        only_copies: whether what cannot be had again may go, too; counts only with `certain`.
        certain: said a second time.

    Raises:
        ConfigError: if there is no such record or one is not valid.
    """
    staging = open_staging(project)
    if not names:
        return [pruned for entry in _unreferenced(project, staging) for pruned in _free(entry, dry_run)]
    others = [record for name, record in load_registry(project).items() if name not in names]
    shared = {staged_path(staging, file): record.name for record in others for file in record.files}
    found = []
    for name in names:
        record = load_record(project, name)
        reasons = _reasons_to_keep(project, record)
        rows = [
            _free_file(staging, record, file, shared, None if only_copies and certain else reasons[file.path], dry_run)
            for file in record.files
        ]
        found += [row for row in rows if row is not None]
        if not dry_run and any(row is not None and row.action == "removed" for row in rows):
            shutil.rmtree(project / RAW_FOLDER / name, ignore_errors=True)
    return found


def _unreferenced(project: Path, staging: Staging) -> Iterator[Path]:
    wanted = set()
    for record in load_registry(project).values():
        for file in record.files:
            archive = staged_path(staging, file)
            wanted |= {archive.name, unpacked_folder(staging, file, archive).name}
    for kind in (KIND, UNPACKED):
        yield from (entry for entry in sorted((staging.root / kind).glob("??/*")) if _owner(entry) not in wanted)


def _owner(entry: Path) -> str:
    """Return the final name that an entry of the store is, or is beside."""
    for suffix in _NOTE_SUFFIXES:
        if entry.name.endswith(suffix):
            return entry.name.removesuffix(suffix)
    return entry.name


def _free(entry: Path, dry_run: bool) -> Iterator[Pruned]:
    size_bytes = _size(entry)
    lock = FileLock(entry.with_name(f"{_owner(entry)}.lock.part"))
    try:
        with lock.acquire(timeout=0):
            if not dry_run:
                _remove(entry)
    except Timeout:
        yield Pruned(entry.name, size_bytes, "kept", "a process is at work on it")
        return
    if size_bytes:
        yield Pruned(entry.name, size_bytes, "removed", "no record refers to it")


def _free_file(
    staging: Staging,
    record: Record,
    file: RecordFile,
    shared: dict[Path, str],
    reason_to_keep: str | None,
    dry_run: bool,
) -> Pruned | None:
    final = staged_path(staging, file)
    beside = [path for path in sorted(final.parent.glob(f"{final.name}*")) if path.suffix == ".part"]
    taken = [final, *beside, *([unpacked_folder(staging, file, final)] if file.unpack is not None else [])]
    size_bytes = sum(map(_size, taken))
    what = f"{record.name}/{file.path}"
    if size_bytes == 0:
        return None
    if final in shared and final.is_file():
        return Pruned(what, size_bytes, "kept", f"{shared[final]} is the same file")
    if reason_to_keep is not None and final.is_file():
        return Pruned(what, size_bytes, "kept", reason_to_keep)
    if not dry_run:
        for path in taken:
            _remove(path)
    return Pruned(what, size_bytes, "removed", "it can be had again" if reason_to_keep is None else "incomplete")


def _size(entry: Path) -> int:
    files = entry.rglob("*") if entry.is_dir() else [entry]
    return sum(file.stat().st_size for file in files if file.is_file())


def _remove(entry: Path) -> None:
    if entry.is_dir():
        shutil.rmtree(entry)
    else:
        entry.unlink(missing_ok=True)


def _reasons_to_keep(project: Path, record: Record) -> dict[str, str | None]:
    """Return for each file why it may not go; None if one of its addresses still has it."""
    answers: dict[str, list[Freshness]] = {file.path: [] for file in record.files}
    for answer in refresh(project, [record.name]):
        answers[answer.path].append(answer)
    reasons: dict[str, str | None] = {}
    for path, heard in answers.items():
        again = any(answer.state in _STILL_THERE for answer in heard)
        said = "; ".join(f"{answer.state}{f' ({answer.what})' if answer.what else ''}" for answer in heard)
        reasons[path] = None if again else f"the only copy: {said or 'no address'}"
    return reasons
