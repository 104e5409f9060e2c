"""What hashing a staged file has shown the last time: a note beside it, so that it need not be asked again.

The note is a convenience. It may be removed; it counts only for as long as size and time of the file are those that
it names, and bytes that have rotted under an unchanged time are found by hashing alone.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Check:
    """The result of hashing a file.

    Args:
        hash: what was found, as a record writes it: `sha256:…`. Where it is not good, what would have been.
        good: whether that is what the record promised then.
        on: the day, in ISO 8601.
        size_bytes: the size of the file that was hashed.
        mtime_ns: its time of modification.
    """

    hash: str
    good: bool
    on: str
    size_bytes: int
    mtime_ns: int


def note_check(final: Path, hash_: str, *, good: bool) -> None:
    """Remember what hashing a staged file has just shown."""
    stat = final.stat()
    today = dt.datetime.now(dt.UTC).date().isoformat()
    note = _note_path(final)
    fresh = note.with_name(f"{note.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    fresh.write_text(json.dumps(asdict(Check(hash_, good, today, stat.st_size, stat.st_mtime_ns))), encoding="utf-8")
    fresh.replace(note)


def first_hash(final: Path) -> str | None:
    """Return what the file was when it arrived: all there is to compare with where a record has no hash."""
    check = _read(final)
    return None if check is None else check.hash


def last_check(final: Path) -> Check | None:
    """Return what hashing this very file has shown; None if it never was, or has been touched since."""
    check = _read(final)
    if check is None or not final.is_file():
        return None
    stat = final.stat()
    return check if (check.size_bytes, check.mtime_ns) == (stat.st_size, stat.st_mtime_ns) else None


def _read(final: Path) -> Check | None:
    try:
        return Check(**json.loads(_note_path(final).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _note_path(final: Path) -> Path:
    return final.with_name(f"{final.name}.checked.part")
