"""Downloading a dataset: from its record to links in `data/raw/<name>` to proven bytes in the staging store.

The rules:

- A file's place in the staging store is its hash, or, where the record has none or picks members, a digest of the
  record's section about it: what is there under that name is what is wanted, and is never fetched again. Its size is
  compared every time, its hash when asked to; what does not match is dropped and fetched anew.
- Bytes arrive as `.part` beside the final name, on the same disk. Only when their number and their hash are the
  promised ones are they synced to the disk and renamed. No wrong byte is ever under a final name, whenever the
  process dies.
- A killed download goes on where it was (see `transport.transfer` for when that is safe). Bytes with the wrong
  hash are removed, so that the next try starts over instead of failing the same way.
- The addresses of a file are tried in order, the project's own mirror first where there is one (see
  `transport.mirrored`). A disk without room is no reason to try the next one.
- Room for the whole file is asked for before its first byte.
- Of two processes that want the same file, one fetches and the other waits, then finds it there.
- `data/raw/<name>` changes as a whole, after all of its files are there.
- Files are fetched side by side, a few from each host, and independently of each other.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from backbeat.datasets.bandwidth import note_bandwidth
from backbeat.datasets.checks import entry_with, note_check, read_check
from backbeat.datasets.packed.containers import grouped
from backbeat.datasets.packed.extraction import unpacked
from backbeat.datasets.places import KIND, RAW_FOLDER, own_files, staged_path
from backbeat.datasets.registry import Record, RecordFile, load_record, url_scheme
from backbeat.datasets.selection import refuse_excluded
from backbeat.datasets.transport.addresses import resolve
from backbeat.datasets.transport.hashing import hash_file
from backbeat.datasets.transport.mirrored import Mirror
from backbeat.datasets.transport.partial import part_path
from backbeat.datasets.transport.patience import Patience
from backbeat.datasets.transport.sources import Wanted, fetch, take_local
from backbeat.errors import BackbeatError, DownloadError, StorageError
from backbeat.executor import run_threads
from backbeat.storage.staging import Staging, disk_errors, link_folder, open_staging, require_space

# Files at the same time, from all hosts together.
DEFAULT_JOBS = 6

# Addresses of bytes that do not come over a network. What they take on the disk is asked when it is known: a copy
# of one's own is linked where it can be.
OWN_SCHEMES = frozenset({"file", "generate", "manual"})

_log = logging.getLogger(__name__)


def download(
    project: Path, *names: str, jobs: int = DEFAULT_JOBS, verify: bool = False, patience: Patience | None = None
) -> None:
    """Make `data/raw/<name>` hold a link for each file of each dataset, fetching what is not here yet.

    A file that cannot be had does not keep the others from being fetched, nor a dataset that is complete from being
    linked.

    Args:
        project: the root of the repository.
        names: the names of the records.
        jobs: how many files are fetched at the same time; no host is asked for more than a few of them.
        verify: whether to hash files that are here already, too.
        patience: how long to try.

    Raises:
        ConfigError: if there is no such record, it is not valid, or its dataset is excluded.
        DownloadError: if a file cannot be had from any of its addresses, or is not what the record promises.
        StorageError: if the disk is or would be full; nothing is fetched if that is known before.
    """
    records = [load_record(project, name) for name in names]
    for record in records:
        refuse_excluded(record)
        _refuse_own_files(project / RAW_FOLDER / record.name, record.name)
    staging = open_staging(project)
    wanted = [(record, file) for record in records for file in record.files]
    missing_bytes = _missing_bytes(staging, wanted)
    if missing_bytes:
        require_space(staging.root, missing_bytes, "all that is missing")
    started_s = time.monotonic()
    mirror = Mirror(project)

    def stage(task: tuple[Record, RecordFile]) -> Path:
        return stage_file(project, staging, *task, verify=verify, patience=patience or Patience(), mirror=mirror)

    staged: dict[tuple[str, str], Path] = {}
    failures: list[BackbeatError] = []
    for (record, file), result in run_threads(stage, wanted, threads=jobs):
        if isinstance(result, BackbeatError):
            failures.append(result)
        else:
            staged[record.name, file.path] = result
    for record in records:
        if all((record.name, file.path) in staged for file in record.files):
            _link(project, staging, record, [staged[record.name, file.path] for file in record.files])
    _raise_all(failures, len(wanted))
    note_bandwidth(staging, missing_bytes, time.monotonic() - started_s)


def _refuse_own_files(folder: Path, name: str) -> None:
    if found := own_files(folder):
        raise StorageError(
            f"{folder} holds files that no download made, and its content is about to be replaced",
            expected="links into the staging store",
            got=", ".join(str(path.relative_to(folder)) for path in found[:5]) + (", …" if found[5:] else ""),
            next_step=f"move them; a copy of the dataset is taken in by backbeat datasets adopt {name} PATH",
        )


def stage_file(
    project: Path,
    staging: Staging,
    record: Record,
    file: RecordFile,
    *,
    verify: bool,
    patience: Patience,
    mirror: Mirror | None = None,
) -> Path:
    """Return the path of a file in the staging store, after fetching it if it is not there.

    Raises:
        DownloadError: if it cannot be had from any of its addresses, or is not what the record promises.
        StorageError: if the disk is or would be full.
    """
    final = staged_path(staging, file)
    wanted = Wanted(record.name, file, final, project, patience, mirror.resolve if mirror else resolve)
    with disk_errors(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        with alone(final, wanted.label):
            if not _is_here(wanted, verify):
                _remove_leftovers(final)
                if not _is_under_another_name(staging, wanted):
                    mirrored = mirror.address_of(record.name, file, final) if mirror else None
                    _fetch_from_first(wanted, [*([mirrored] if mirrored else []), *file.urls])
    return final


def _is_here(wanted: Wanted, verify: bool) -> bool:
    final, file = wanted.final, wanted.file
    if not final.is_file():
        return False
    size_bytes = final.stat().st_size
    fault = None
    if size_bytes != (file.promised_bytes or size_bytes):
        fault = f"{size_bytes:,} bytes, not {file.promised_bytes:,}"
    elif verify and file.promise is not None:
        digest = hash_file(final, file.promise[0], f"{wanted.label}: checking")
        fault = None if digest == file.promise[1] else f"{file.promise[0]}:{digest}, not {file.hash}"
        note_check(final, file.hash, good=fault is None)
    if fault is None:
        return True
    _log.warning("%s: what is in the staging store is damaged (%s); fetching it again", wanted.label, fault)
    final.unlink()
    return False


def _missing_bytes(staging: Staging, wanted: list[tuple[Record, RecordFile]]) -> int:
    """Return what has to come over the network, as far as sizes are known."""
    missing_bytes = 0
    for _, file in wanted:
        final, part = staged_path(staging, file), part_path(staged_path(staging, file))
        if file.promised_bytes is not None and not final.is_file() and url_scheme(file.urls[0]) not in OWN_SCHEMES:
            missing_bytes += file.promised_bytes - (part.stat().st_size if part.is_file() else 0)
    return missing_bytes


def _link(project: Path, staging: Staging, record: Record, places: list[Path]) -> None:
    place_of = {file.path: place for file, place in zip(record.files, places, strict=True)}
    links: dict[str, Path] = {}
    # The parts of a zip in parts are one archive, which its last part stands for.
    for *earlier, last in grouped(record.files):
        if last.unpack is None:
            links |= {file.path: place_of[file.path] for file in (*earlier, last)}
        else:
            parts = [place_of[file.path] for file in earlier]
            links |= unpacked(staging, record, last, place_of[last.path], parts)
    with disk_errors(project), alone(staging.root / KIND / record.name, f"data/raw/{record.name}"):
        link_folder(project / RAW_FOLDER / record.name, links)


def _raise_all(failures: list[BackbeatError], wanted: int) -> None:
    if len(failures) == 1:
        raise failures[0]
    if failures:
        raise DownloadError(
            f"{len(failures)} of {wanted} files are not here",
            expected="all of them",
            got="\n".join(f"- {failure.what}: {failure.got}" for failure in failures),
            next_step="type the same again: what has arrived is kept, and goes on where it was",
        )


def _is_under_another_name(staging: Staging, wanted: Wanted) -> bool:
    """Give bytes that are in the store under another name this one, too: a hash has been put into the record, say."""
    found = entry_with(staging.root / KIND, wanted.file.hash) if wanted.file.promise is not None else None
    if found is None:
        return False
    take_local(wanted, found)
    check = read_check(found)
    assert check is not None
    note_check(wanted.final, check.hash, good=True, source=check.source, source_bytes=check.source_bytes)
    return True


def _fetch_from_first(wanted: Wanted, urls: Sequence[str]) -> None:
    failures: list[DownloadError] = []
    for url in urls:
        try:
            return fetch(wanted, url)
        except DownloadError as error:
            failures.append(error)
            if len(failures) < len(urls):
                _log.warning("%s\ntrying the next address", error)
    if len(failures) == 1:
        raise failures[0]
    raise DownloadError(
        f"{wanted.dataset}: {wanted.file.path} could not be had from any of its {len(failures)} addresses",
        expected=failures[-1].expected,
        got="; ".join(f"{failure.what}: {failure.got}" for failure in failures),
        next_step=failures[-1].next_step,
    )


def _remove_leftovers(final: Path) -> None:
    # A killed process cannot remove the file it was writing, and the number in that name never comes back.
    for leftover in final.parent.glob(f"{final.name}.[0-9]*.part"):
        leftover.unlink(missing_ok=True)


@contextlib.contextmanager
def alone(final: Path, label: str) -> Iterator[None]:
    """Hold the lock on one entry of the staging store, after waiting for the process that has it."""
    final.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(final.with_name(f"{final.name}.lock.part"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        _log.warning("%s: another process is fetching it; waiting for that to end", label)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
