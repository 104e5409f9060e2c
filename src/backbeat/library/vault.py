"""Where the archive's FLAC files are, and originals out of them: never a byte that was not proven.

An entry of the staging store, kind `archive`, named by the SHA-256 of the original file: a file that is there twice is
archived once. DVC's cache has the same file under its MD5, and the bucket has it from there.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from backbeat.errors import LibraryError
from backbeat.library.flac import unpack
from backbeat.library.ledger import Entry
from backbeat.storage.staging import cache_dir, new_file, open_staging

# `storage.prune` removes no entry of this kind: what is in it may be all that there is of an original.
ARCHIVE_KIND = "archive"


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
        LibraryError: if the FLAC file is neither in the staging store nor in DVC's cache, or is damaged in both.
    """
    fault = "it is not here"
    for path in _places(project, entry):
        try:
            original = unpack(path.read_bytes())
        except FileNotFoundError:
            continue
        except (LibraryError, OSError) as error:
            fault = str(error)
            continue
        if sha256(original) == entry.file_sha256:
            return original
        fault = f"{path} gives another file"
    raise LibraryError(
        f"{entry.sample} is in the archive, and cannot be had out of it",
        expected=f"{vault_path(project, entry.file_sha256)}, or the object {entry.flac_md5} of DVC's cache",
        got=fault,
        next_step="dvc pull data/library/dvc.yaml:archive",
    )


def recovered_path(project: Path, entry: Entry) -> Path:
    """Return the FLAC file of an entry of the ledger in the staging store; put it there out of DVC's cache if need be.

    Raises:
        LibraryError: as `restored_bytes`.
        StorageError: if the disk is full or read-only.
    """
    path, cached = _places(project, entry)
    if path.is_file() and path.stat().st_size:
        return path
    restored_bytes(project, entry)
    return store(project, entry.file_sha256, cached.read_bytes())


def sha256(content: bytes) -> str:
    """Return the SHA-256 of a content, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def md5(content: bytes) -> str:
    """Return the MD5 of a content, which is its name in DVC's cache."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _places(project: Path, entry: Entry) -> Iterator[Path]:
    yield vault_path(project, entry.file_sha256)
    yield cache_dir(project) / "files" / "md5" / entry.flac_md5[:2] / entry.flac_md5[2:]
