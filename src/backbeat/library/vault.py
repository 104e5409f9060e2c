"""Where the archive's FLAC files are, and originals out of them: never a byte that was not proven.

An entry of the staging store, kind `archive`, named by the SHA-256 of the original file: a file that is there twice is
archived once. DVC's cache has the same file under its MD5, and the bucket has it from there. Another version of
libFLAC may make other bytes of the same original; what counts is that a FLAC file gives the original.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from backbeat.errors import LibraryError
from backbeat.library.flac import unpack
from backbeat.library.ledger import LEDGER_FILE, Entry
from backbeat.library.memo import open_memo
from backbeat.library.settings import LIBRARY_FOLDER
from backbeat.storage.staging import cache_dir, new_file, open_staging

# `storage.prune` removes no entry of this kind: what is in it may be all that there is of an original.
ARCHIVE_KIND = "archive"

# Links to those that are archived, under the names of their samples; DVC versions them.
ARCHIVE_FOLDER = f"{LIBRARY_FOLDER}/archive"

# In the memo, as one value: what only the archive has. The ledger cannot show that a line has gone from it.
_NOTED, _NOTED_VERSION, _NOTED_KEY = "archive-only", "1", "samples"

# Of many samples, a message names so many.
_MOST_NAMED = 5


def vault_path(project: Path, file_sha256: str) -> Path:
    """Return where the FLAC file of an original is or will be."""
    return open_staging(project).entry(ARCHIVE_KIND, file_sha256, ".flac")


def store(project: Path, file_sha256: str, flac: bytes) -> Path:
    """Put a FLAC file that is proven to give the original into the vault; what is on the disk is read and compared.

    Raises:
        LibraryError: if the disk does not hold what was written; then nothing is in the vault.
        StorageError: if the disk is full or read-only.
    """
    path = vault_path(project, file_sha256)
    with new_file(path) as part:
        part.write_bytes(flac)
        if read_from_disk(part) != flac:
            raise LibraryError(
                f"{path} does not hold what was written to it", expected="the same bytes", next_step="check the disk"
            )
    return path


def read_from_disk(path: Path) -> bytes:
    """Return the content of a file as the disk has it, after it was made to have it, where the system can do that."""
    with path.open("rb", buffering=0) as stream:
        os.fsync(stream.fileno())
        if hasattr(os, "posix_fadvise"):  # so that it is not what was just written to memory
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return stream.readall()


def restored_bytes(project: Path, entry: Entry) -> bytes:
    """Return an original out of its FLAC file: the very bytes, proven by their hash.

    Raises:
        LibraryError: if no FLAC file in the staging store, DVC's cache or `data/library/archive` gives it.
    """
    return _proven(project, entry)[2]


def recovered(project: Path, entry: Entry) -> bytes:
    """Return the FLAC file of an entry of the ledger; the staging store has it then, in place of a damaged one.

    It is the one that the ledger names, and only where that is nowhere another one that gives the original.

    Raises:
        LibraryError: as `restored_bytes`.
        StorageError: if the disk is full or read-only.
    """
    place, flac = _named(project, entry) or _proven(project, entry)[:2]
    if place != vault_path(project, entry.file_sha256):
        store(project, entry.file_sha256, flac)
    return flac


def _named(project: Path, entry: Entry) -> tuple[Path, bytes] | None:
    """Return the FLAC file that the ledger names, and where it is."""
    for place in _places(project, entry):
        try:
            flac = place.read_bytes()
        except OSError:
            continue
        if sha256(flac) == entry.flac_sha256:
            return place, flac
    return None


def _proven(project: Path, entry: Entry) -> tuple[Path, bytes, bytes]:
    """Return where a FLAC file is that gives the original of an entry, its content, and the original."""
    fault = "it is not here"
    for place in _places(project, entry):
        try:
            flac = place.read_bytes()
            original = unpack(flac)
        except FileNotFoundError:
            continue
        except (LibraryError, OSError) as error:
            fault = str(error)
            continue
        if sha256(original) == entry.file_sha256:
            return place, flac, original
        fault = f"{place} gives another file"
    raise LibraryError(
        f"{entry.sample} is in the archive, and cannot be had out of it",
        expected=f"{vault_path(project, entry.file_sha256)}, or the object {entry.flac_md5} of DVC's cache",
        got=fault,
        next_step="dvc pull data/library/dvc.yaml:archive, then: backbeat library archive",
    )


def read_noted(project: Path) -> dict[str, str]:
    """Return what only the archive had when this clone last looked: samples, with the SHA-256 of their files."""
    with open_memo(project) as memo:
        noted = memo.known(_NOTED, _NOTED_VERSION, [_NOTED_KEY])
    return dict(json.loads(noted[_NOTED_KEY])) if noted else {}


def write_noted(project: Path, noted: Mapping[str, str]) -> None:
    """Keep what `read_noted` returns."""
    with open_memo(project) as memo:
        memo.remember(_NOTED, _NOTED_VERSION, _NOTED_KEY, json.dumps(noted).encode())


def require_none_forgotten(project: Path, known: set[str]) -> None:
    """Make sure that no line of the ledger was lost whose original is not back.

    Args:
        project: the root of the repository.
        known: the SHA-256 of each file that is there, or in the ledger.

    Raises:
        LibraryError: if only the archive has another one.
    """
    forgotten = sorted(sample for sample, digest in read_noted(project).items() if digest not in known)
    if forgotten:
        more = f" and {len(forgotten) - _MOST_NAMED:,} more" if forgotten[_MOST_NAMED:] else ""
        raise LibraryError(
            f"{len(forgotten):,} originals that only the archive has are not in {LEDGER_FILE} any more",
            expected="their lines, or their files",
            got=", ".join(forgotten[:_MOST_NAMED]) + more,
            next_step=f"put the lines back: git log -p {LEDGER_FILE}; to let go of one after that, restore it and "
            "delete its file",
        )


def gives(flac: Path, file_sha256: str) -> bool:
    """Return whether a FLAC file gives the original of that hash."""
    try:
        return sha256(unpack(flac.read_bytes())) == file_sha256
    except (LibraryError, OSError):
        return False


def sha256(content: bytes) -> str:
    """Return the SHA-256 of a content, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def md5(content: bytes) -> str:
    """Return the MD5 of a content, which is its name in DVC's cache."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _places(project: Path, entry: Entry) -> Iterator[Path]:
    yield vault_path(project, entry.file_sha256)
    yield cache_dir(project) / "files" / "md5" / entry.flac_md5[:2] / entry.flac_md5[2:]
    yield project / ARCHIVE_FOLDER / f"{entry.sample}.flac"
