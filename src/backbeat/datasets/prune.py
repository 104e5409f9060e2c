"""Making room in the staging store of raw data, without losing what nobody else has.

- Without names: what no record refers to goes (other versions, other selections of members, what a download left
  behind). With names: the bytes of these datasets go.
- Either way only what can be had again goes: the address that it came from is asked, and has to have a file of the
  same size, and of the same hash where the hub publishes one; a copy of one's own has to be there still, with the same
  bytes. Everything else is the only copy and is kept, unless that is said twice: `only_copies` and `certain`.
- What another dataset uses, and what a process is at work on, stays. Locks are never removed: two processes would
  each have one of their own.
- In `data/raw` only links are removed.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from backbeat.datasets.checks import Check, read_check
from backbeat.datasets.packed.extraction import KIND as UNPACKED
from backbeat.datasets.packed.extraction import unpacked_folder
from backbeat.datasets.places import KIND, RAW_FOLDER, own_files, staged_path
from backbeat.datasets.registry import Record, RecordFile, load_record, load_registry, url_scheme
from backbeat.datasets.transport.hashing import hash_file
from backbeat.datasets.transport.sources import local_path
from backbeat.datasets.transport.upstream import look
from backbeat.errors import DownloadError
from backbeat.storage.staging import Staging, open_staging

_LOCK = ".lock.part"
# What stands beside an entry and goes with it.
_BESIDE = (".checked.part", ".origin.part", ".origin.new.part", ".part")


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


@dataclass(frozen=True)
class _Entry:
    """Something in the store: a file, or what came out of an archive, with what stands beside it."""

    what: str
    final: Path
    addresses: tuple[tuple[str, int | None], ...]  # and how many bytes it should have there

    @property
    def paths(self) -> list[Path]:
        beside = [self.final.with_name(f"{self.final.name}{suffix}") for suffix in _BESIDE]
        members = sorted(self.final.parent.glob(f"{self.final.name}.*.part"))
        found = dict.fromkeys([self.final, *beside, *members])
        return [path for path in found if path.exists() and not path.name.endswith(_LOCK)]


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
    all_of_it = only_copies and certain
    if not names:
        return [row for entry in _unreferenced(project, staging) for row in _free(project, entry, dry_run, all_of_it)]
    others = [record for name, record in load_registry(project).items() if name not in names]
    shared = {staged_path(staging, file): record.name for record in others for file in record.files}
    found: list[Pruned] = []
    for name in names:
        rows = [
            row
            for entry in _of_dataset(staging, load_record(project, name))
            for row in _free(project, entry, dry_run, all_of_it, shared.get(entry.final))
        ]
        links = project / RAW_FOLDER / name
        if not dry_run and any(row.action == "removed" for row in rows) and not own_files(links):
            shutil.rmtree(links, ignore_errors=True)
        found += rows
    return found


def _of_dataset(staging: Staging, record: Record) -> Iterator[_Entry]:
    for file in record.files:
        final = staged_path(staging, file)
        what = f"{record.name}/{file.path}"
        if file.unpack is not None:
            yield _Entry(f"{what}, unpacked", unpacked_folder(staging, file, final), (("unpacked:", None),))
        yield _Entry(what, final, tuple((url, _bytes_there(file, final)) for url in file.urls))


def _bytes_there(file: RecordFile, final: Path) -> int | None:
    """Return how large a file the addresses of a record have to have, to be as good as what is here."""
    return file.size if file.members is not None or not final.is_file() else final.stat().st_size


def _unreferenced(project: Path, staging: Staging) -> Iterator[_Entry]:
    wanted: set[str] = set()
    for record in load_registry(project).values():
        for file in record.files:
            archive = staged_path(staging, file)
            wanted |= {archive.name, unpacked_folder(staging, file, archive).name}
    for kind in (KIND, UNPACKED):
        finals = {_final(path) for path in (staging.root / kind).glob("??/*") if not path.name.endswith(_LOCK)}
        for final in sorted(finals):
            if final.name not in wanted:
                yield _Entry(final.name, final, (("unpacked:", None),) if kind == UNPACKED else _origin(final))


def _final(path: Path) -> Path:
    """Return the entry that a path is, or stands beside."""
    return path.with_name(path.name.partition(".part")[0].partition(".checked")[0].partition(".origin")[0])


def _origin(final: Path) -> tuple[tuple[str, int | None], ...]:
    note = read_check(final)
    return () if note is None or note.source is None else ((note.source, note.source_bytes),)


def _free(
    project: Path, entry: _Entry, dry_run: bool, all_of_it: bool, shared_with: str | None = None
) -> Iterator[Pruned]:
    size_bytes = sum(map(_size, entry.paths))
    if size_bytes == 0:
        return
    lock = FileLock(entry.final.with_name(f"{entry.final.name}{_LOCK}"))
    try:
        with lock.acquire(timeout=0):
            keep = None
            if entry.final.exists():
                keep = f"{shared_with} is the same file" if shared_with else _only_copy(project, entry, all_of_it)
            if keep is None and not dry_run:
                for path in entry.paths:
                    _remove(path)
    except Timeout:
        keep = "a process is at work on it"
    yield Pruned(entry.what, size_bytes, "removed" if keep is None else "kept", keep or "it can be had again")


def _only_copy(project: Path, entry: _Entry, all_of_it: bool) -> str | None:
    """Return why an entry may not go; None if it may."""
    reasons = []
    for url, size_bytes in entry.addresses:
        reason = _missing_at(project, url, size_bytes, entry.final)
        if reason is None:
            return None
        reasons.append(reason)
    return None if all_of_it else f"the only copy: {'; '.join(reasons) or 'where it came from is not known'}"


def _missing_at(project: Path, url: str, size_bytes: int | None, final: Path) -> str | None:
    """Return why an address is no second copy of an entry; None if it is one."""
    match url_scheme(url):
        case "generate" | "unpacked":
            return None
        case "manual":
            return "a person fetched it"
        case "mirror":
            return "it came from the mirror"
        case "file":
            return _differs_from(local_path(project, url), final)
    try:
        there = look(url)
    except DownloadError as error:
        return f"unreachable ({error.got})"
    if there.size_bytes is None or there.size_bytes != size_bytes:
        return f"{there.size_bytes or 'unknown'} bytes there, {size_bytes or 'unknown'} expected"
    note: Check | None = read_check(final)
    comparable = note is not None and there.hash is not None and _algorithm(there.hash) == _algorithm(note.hash)
    return "another hash there" if comparable and note is not None and there.hash != note.hash else None


def _differs_from(source: Path, final: Path) -> str | None:
    if not source.is_file():
        return f"{source} is not there any more"
    if source.samefile(final):
        return None
    same_size = source.stat().st_size == final.stat().st_size
    pair = [hash_file(path, "sha256", f"{path.name}: comparing") for path in (source, final)] if same_size else [0, 1]
    return None if pair[0] == pair[1] else f"{source} has other bytes now"


def _algorithm(hash_: str) -> str:
    return hash_.partition(":")[0]


def _size(entry: Path) -> int:
    files = entry.rglob("*") if entry.is_dir() else [entry]
    return sum(file.stat().st_size for file in files if file.is_file())


def _remove(entry: Path) -> None:
    if entry.is_dir():
        shutil.rmtree(entry)
    else:
        entry.unlink(missing_ok=True)
