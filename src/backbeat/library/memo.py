"""What was computed of a content, remembered: so that ten new files cost ten files, and a killed run goes on.

One SQLite file in the staging store, `library/memo.sqlite`: (stage, fingerprint, key) -> value. The key is a content
(its hash), or a file as the file system knows it; the fingerprint says by which code and settings. It can be removed
at any time: what it holds is computed again.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from backbeat.errors import LibraryError
from backbeat.storage.staging import disk_errors, open_staging

# What a kill can cost.
COMMIT_EVERY_S = 2.0

# SQLite's own limit of variables in a statement is higher; more would not be faster.
_AT_ONCE = 500


class Memo:
    """The open file; one process writes, and no thread but the one that opened it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._committed_s = time.monotonic()

    def known(self, stage: str, fingerprint: str, keys: Iterable[str]) -> dict[str, bytes]:
        """Return the values of those keys that there are."""
        found: dict[str, bytes] = {}
        wanted = list(keys)
        for start in range(0, len(wanted), _AT_ONCE):
            some = wanted[start : start + _AT_ONCE]
            marks = ",".join("?" * len(some))
            found.update(
                self._connection.execute(
                    f"SELECT key, value FROM memo WHERE stage = ? AND fingerprint = ? AND key IN ({marks})",  # noqa: S608
                    (stage, fingerprint, *some),
                )
            )
        return found

    def remember(self, stage: str, fingerprint: str, key: str, value: bytes) -> None:
        """Keep a value; it is on the disk a few seconds later."""
        self._connection.execute("INSERT OR REPLACE INTO memo VALUES (?, ?, ?, ?)", (stage, fingerprint, key, value))
        if time.monotonic() - self._committed_s > COMMIT_EVERY_S:
            self.commit()

    def commit(self) -> None:
        """Put on the disk what was remembered."""
        self._connection.commit()
        self._committed_s = time.monotonic()

    def forget_others(self, stage: str, fingerprint: str) -> int:
        """Remove what other code or settings computed; return how many values."""
        return self._connection.execute(
            "DELETE FROM memo WHERE stage = ? AND fingerprint != ?", (stage, fingerprint)
        ).rowcount


@contextlib.contextmanager
def open_memo(project: Path) -> Iterator[Memo]:
    """Open the memo of a repository; what was remembered is kept however the work ends.

    Raises:
        StorageError: if the disk is full or read-only.
        LibraryError: if the file is damaged, or another process is writing.
    """
    path = memo_path(project)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        connection = sqlite3.connect(path, timeout=60)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS memo"
                " (stage TEXT, fingerprint TEXT, key TEXT, value BLOB, PRIMARY KEY (stage, fingerprint, key))"
                " WITHOUT ROWID"
            )
            memo = Memo(connection)
            try:
                yield memo
            finally:
                memo.commit()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise LibraryError(
            f"{path} cannot be used",
            expected="the library's notes of what it has computed",
            got=str(error),
            next_step="end the other command, or remove the file: it is made again",
        ) from error


def memo_path(project: Path) -> Path:
    """Return where the memo is."""
    return open_staging(project).root / "library" / "memo.sqlite"
