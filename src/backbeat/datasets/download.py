"""Downloading a dataset: from its record to links in `data/raw/<name>` to proven bytes in the staging store.

The rules:

- A file's place in the staging store is its hash, or, where the record has none or picks members, a digest of the
  record's section about it: what is there under that name is what is wanted, and is never fetched again. Its size is
  compared every time, its hash when asked to; what does not match is dropped and fetched anew.
- Bytes arrive as `.part` beside the final name, on the same disk. Only when their number and their hash are the
  promised ones are they synced to the disk and renamed. No wrong byte is ever under a final name, whenever the
  process dies.
- A killed download goes on where it was (see `backbeat.datasets.transfer` for when that is safe). Bytes with the wrong
  hash are removed, so that the next try starts over instead of failing the same way.
- The addresses of a file are tried in order. A disk without room is no reason to try the next one.
- Room for the whole file is asked for before its first byte.
- Of two processes that want the same file, one fetches and the other waits, then finds it there.
- `data/raw/<name>` changes as a whole, after all of its files are there.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from backbeat.datasets.hashing import hash_file
from backbeat.datasets.patience import Patience
from backbeat.datasets.registry import Record, RecordFile, load_record
from backbeat.datasets.sources import Wanted, fetch
from backbeat.errors import DownloadError
from backbeat.provenance import digest_of
from backbeat.storage.staging import Staging, disk_errors, link_folder, open_staging

KIND = "raw"
RAW_FOLDER = "data/raw"

_log = logging.getLogger(__name__)


def download(project: Path, name: str, *, verify: bool = False, patience: Patience | None = None) -> None:
    """Make `data/raw/<name>` hold a link for each file of the dataset, fetching what is not here yet.

    Args:
        project: the root of the repository.
        name: the name of the record.
        verify: whether to hash files that are here already, too.
        patience: how long to try.

    Raises:
        ConfigError: if there is no such record or it is not valid.
        DownloadError: if a file cannot be had from any of its addresses, or is not what the record promises.
        StorageError: if the disk is or would be full.
    """
    record = load_record(project, name)
    staging = open_staging(project)
    links = {
        file.path: stage_file(project, staging, record, file, verify=verify, patience=patience or Patience())
        for file in record.files
    }
    with disk_errors(project), _alone(staging.root / KIND / name, f"data/raw/{name}"):
        link_folder(project / RAW_FOLDER / name, links)


def stage_file(
    project: Path, staging: Staging, record: Record, file: RecordFile, *, verify: bool, patience: Patience
) -> Path:
    """Return the path of a file in the staging store, after fetching it if it is not there.

    Raises:
        DownloadError: if it cannot be had from any of its addresses, or is not what the record promises.
        StorageError: if the disk is or would be full.
    """
    final = staged_path(staging, file)
    wanted = Wanted(record.name, file, final, project, patience)
    with disk_errors(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        with _alone(final, wanted.label):
            if not _is_here(wanted, verify):
                _remove_leftovers(final)
                _fetch_from_first(wanted)
    return final


def staged_path(staging: Staging, file: RecordFile) -> Path:
    """Return where in the staging store a file is or will be.

    The hash in a record with `members` is that of the whole archive, which is something else.
    """
    digest = file.promise[1] if file.promise is not None else digest_of(file.model_dump(mode="json", exclude={"path"}))
    return staging.entry(KIND, digest, Path(file.path).suffix)


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
    if fault is None:
        return True
    _log.warning("%s: what is in the staging store is damaged (%s); fetching it again", wanted.label, fault)
    final.unlink()
    return False


def _fetch_from_first(wanted: Wanted) -> None:
    failures: list[DownloadError] = []
    for url in wanted.file.urls:
        try:
            return fetch(wanted, url)
        except DownloadError as error:
            failures.append(error)
            if len(failures) < len(wanted.file.urls):
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
def _alone(final: Path, label: str) -> Iterator[None]:
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
