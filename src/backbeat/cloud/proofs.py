"""What was found whole: files by inode, size and time of change, objects in the bucket by size and ETag.

A memory beside the cache, and nothing more: whoever deletes it only has everything hashed again.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from backbeat.storage.staging import cache_dir

State = Literal["ok", "missing", "damaged"]

FILE = "proofs.sqlite"

_TABLE = "CREATE TABLE IF NOT EXISTS proven (what TEXT PRIMARY KEY, stamp TEXT) WITHOUT ROWID"

# What a disk says of a file that it can no longer read.
_UNREADABLE = {errno.EIO, errno.EISDIR, errno.ENXIO}


class Proofs:
    """The memory; made by `open_proofs`."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def state(self, file: Path, md5_hex: str, *, anew: bool = False) -> State:
        """Return whether a file is there and has this MD5.

        Args:
            file: where it is or should be.
            md5_hex: what its content should hash to.
            anew: whether to hash it even if it was found whole and has not changed since.
        """
        try:
            found = file.stat()
            what, stamp = str(file), f"{md5_hex} {found.st_ino} {found.st_size} {found.st_mtime_ns}"
            if not anew and self._remembers(what, stamp):
                return "ok"
            actual = md5_of(file)
        except (FileNotFoundError, NotADirectoryError):
            return "missing"
        except OSError as error:
            if error.errno not in _UNREADABLE:
                raise
            return "damaged"
        if actual != md5_hex:
            self._forget(what)
            return "damaged"
        self._remember(what, stamp)
        return "ok"

    def is_proven_remotely(self, url: str, etag: str, size_bytes: int) -> bool:
        """Return whether an object of the bucket was read and found whole when it had this ETag and size."""
        return self._remembers(url, f"{etag} {size_bytes}")

    def note_remote(self, url: str, etag: str, size_bytes: int) -> None:
        """Remember that an object of the bucket was read and found whole."""
        self._remember(url, f"{etag} {size_bytes}")

    def _remembers(self, what: str, stamp: str) -> bool:
        row = self._database.execute("SELECT stamp FROM proven WHERE what = ?", (what,)).fetchone()
        return row is not None and row[0] == stamp

    def _remember(self, what: str, stamp: str) -> None:
        # A disk that is full or read-only is not worth failing for.
        with contextlib.suppress(sqlite3.Error):
            self._database.execute("INSERT OR REPLACE INTO proven VALUES (?, ?)", (what, stamp))

    def _forget(self, what: str) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._database.execute("DELETE FROM proven WHERE what = ?", (what,))


@contextlib.contextmanager
def open_proofs(project: Path) -> Iterator[Proofs]:
    """Open the memory beside DVC's cache."""
    with contextlib.closing(_connected(cache_dir(project) / FILE)) as database:
        yield Proofs(database)


def md5_of(file: Path) -> str:
    """Return the MD5 of a file in hexadecimal."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _connected(file: Path) -> sqlite3.Connection:
    for _ in range(2):
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            # Each statement by itself, since other clones may share the cache; a lost one costs only time.
            database = sqlite3.connect(file, timeout=30, isolation_level=None)
            try:
                database.execute("PRAGMA synchronous = OFF")
                # Reads and writes once, so that a damaged or read-only file is noticed here.
                database.execute("PRAGMA user_version = 1")
                database.execute(_TABLE)
            except sqlite3.Error:
                database.close()
                raise
        except sqlite3.DatabaseError as error:
            if "locked" in str(error) or "readonly" in str(error) or "unable to open" in str(error):
                break
            file.unlink(missing_ok=True)
        except OSError:
            break
        else:
            return database
    database = sqlite3.connect(":memory:", isolation_level=None)
    database.execute(_TABLE)
    return database
