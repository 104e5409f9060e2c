"""Copies of what cannot be computed again: notes, ledger, bought words, spend, and the rules. The newest few are kept.

Git has them, too, once they are committed. A copy is one zip in the staging store, `library-backups/<time>.zip`, read
back before it counts; where nothing has changed since the newest one, none is made.
"""

from __future__ import annotations

import datetime as dt
import zipfile
from collections.abc import Iterator
from pathlib import Path

from backbeat.errors import LibraryError
from backbeat.library.ledger import LEDGER_FILE
from backbeat.library.settings import LIBRARY_FILE, LIBRARY_FOLDER
from backbeat.storage.staging import new_file, open_staging

BACKUPS_KIND = "library-backups"
STAMP = "%Y-%m-%dT%H%M%SZ"

KEPT_FILES = (
    LEDGER_FILE,
    *(f"{LIBRARY_FOLDER}/{name}" for name in ("notes.yaml", "spend.csv", "words.jsonl")),
    LIBRARY_FILE,
)

# The same content gives the same bytes.
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


def list_copies(project: Path) -> list[Path]:
    """Return the copies, the oldest first."""
    return sorted((open_staging(project).root / BACKUPS_KIND).glob("????-??-??T??????Z.zip"))


def keep_copy(project: Path, *, kept: int, dry_run: bool = False, now: dt.datetime | None = None) -> Path | None:
    """Make a copy, unless the newest one says the same, then remove the oldest beyond `kept`.

    Args:
        project: the root of the repository.
        kept: how many copies there may be.
        dry_run: whether to say only where it would be.
        now: the time in its name; a second after that of the newest copy, if that is later.

    Returns:
        The new copy; None if nothing has changed.

    Raises:
        LibraryError: if what was written does not read back; then nothing is removed.
        StorageError: if the disk is full or read-only.
    """
    contents = {name: (project / name).read_bytes() for name in KEPT_FILES if (project / name).is_file()}
    there = list_copies(project)
    if not contents or (there and _contents(there[-1]) == contents):
        return None
    made_at = now or dt.datetime.now(dt.UTC)
    if there:
        # The newest has the last name, also after one of a clock that was ahead, or of the same second.
        last = dt.datetime.strptime(there[-1].stem, STAMP).replace(tzinfo=dt.UTC)
        made_at = max(made_at, last + dt.timedelta(seconds=1))
    path = open_staging(project).root / BACKUPS_KIND / f"{made_at.strftime(STAMP)}.zip"
    if dry_run:
        return path
    with new_file(path) as part:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as packed:
            for name, content in sorted(contents.items()):
                packed.writestr(zipfile.ZipInfo(name, _ZIP_EPOCH), content, zipfile.ZIP_DEFLATED)
        if _contents(part) != contents:
            raise LibraryError(
                f"{path} does not read back as it was written",
                expected="the same bytes",
                next_step="check the disk: backbeat storage status",
            )
    for old in list_copies(project)[:-kept]:
        old.unlink()
    return path


def copied_ledgers(project: Path) -> Iterator[bytes]:
    """Yield the ledger of each copy that can be read and has one, the newest first."""
    for copy in reversed(list_copies(project)):
        ledger = (_contents(copy) or {}).get(LEDGER_FILE)
        if ledger is not None:
            yield ledger


def _contents(copy: Path) -> dict[str, bytes] | None:
    try:
        with zipfile.ZipFile(copy) as packed:
            return {name: packed.read(name) for name in packed.namelist()}
    except (OSError, zipfile.BadZipFile):
        return None
