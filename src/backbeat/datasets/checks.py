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

_SUFFIX = ".checked.part"


@dataclass(frozen=True)
class Check:
    """The result of hashing a file.

    Args:
        hash: what was found, as a record writes it: `sha256:…`. Where it is not good, what would have been.
        good: whether that is what the record promised then.
        on: the day, in ISO 8601.
        size_bytes: the size of the file that was hashed.
        mtime_ns: its time of modification.
        source: the address that it came from; None if that was never noted.
        source_bytes: how large the file at that address was; None if that was not known.
    """

    hash: str
    good: bool
    on: str
    size_bytes: int
    mtime_ns: int
    source: str | None = None
    source_bytes: int | None = None


def note_check(
    final: Path, hash_: str, *, good: bool, source: str | None = None, source_bytes: int | None = None
) -> None:
    """Remember what hashing a staged file has just shown, and where it came from if that is said or was before."""
    stat = final.stat()
    before = read_check(final)
    if source is None and before is not None:
        source, source_bytes = before.source, before.source_bytes
    today = dt.datetime.now(dt.UTC).date().isoformat()
    note = _note_path(final)
    fresh = note.with_name(f"{note.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    check = Check(hash_, good, today, stat.st_size, stat.st_mtime_ns, source, source_bytes)
    fresh.write_text(json.dumps(asdict(check)), encoding="utf-8")
    fresh.replace(note)


def last_check(final: Path) -> Check | None:
    """Return what hashing this very file has shown; None if it never was, or has been touched since."""
    check = read_check(final)
    if check is None or not final.is_file():
        return None
    stat = final.stat()
    return check if (check.size_bytes, check.mtime_ns) == (stat.st_size, stat.st_mtime_ns) else None


def read_check(final: Path) -> Check | None:
    """Return the last note about a file, whatever has happened to the file since; None if there is none."""
    try:
        return Check(**json.loads(_note_path(final).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def entry_with(folder: Path, hash_: str) -> Path | None:
    """Return an untouched entry of the store that was found to have this hash; None if there is none.

    An entry has another name under a record that has no hash yet, or picks something else.
    """
    for note in sorted(folder.glob(f"??/*{_SUFFIX}")):
        entry = note.with_name(note.name.removesuffix(_SUFFIX))
        check = last_check(entry)
        if check is not None and check.good and check.hash == hash_:
            return entry
    return None


def _note_path(final: Path) -> Path:
    return final.with_name(f"{final.name}{_SUFFIX}")
