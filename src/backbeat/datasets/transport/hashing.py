"""Proof that bytes are the promised ones: their number and their hash."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from backbeat.datasets.registry import UNVERIFIED, RecordFile, url_scheme
from backbeat.errors import DownloadError
from backbeat.progress import progress

# What a file is hashed with while it arrives when its record has no hash: the result can be put into the record.
DEFAULT_ALGORITHM = "sha256"
CHUNK_BYTES = 2**20

# Of addresses in the project's own bucket.
MIRROR_SCHEME = "mirror"

# How many chunks may wait to be hashed: enough to bridge a pause of either side, and no more memory than that.
WAITING_CHUNKS = 16

_log = logging.getLogger(__name__)


class Hasher(Protocol):
    """A running hash."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Take more bytes in."""

    def hexdigest(self) -> str:
        """Return the hash of what has been taken in so far."""


def algorithm_of(file: RecordFile) -> str:
    """Return the algorithm that the record's hash of `file` is in, or the default one if it has none."""
    return file.promise[0] if file.promise else DEFAULT_ALGORITHM


def new_hasher(algorithm: str) -> Hasher:
    """Return a running hash; md5 and sha1 are here because publishers use them, not against attackers."""
    return hashlib.new(algorithm, usedforsecurity=False)


@contextlib.contextmanager
def in_background(hasher: Hasher) -> Iterator[queue.Queue[bytes]]:
    """Yield a queue of chunks that a thread takes into `hasher`; on leaving, all of them have been taken in.

    Hashing is what a fast download waits for, and it lets go of the interpreter: beside the receiving thread it
    costs nothing where there is a second processor.
    """
    chunks: queue.Queue[bytes] = queue.Queue(WAITING_CHUNKS)
    failures: list[BaseException] = []

    def take() -> None:
        while chunk := chunks.get():
            # After a failure chunks are still taken, or who puts them would wait forever.
            if not failures:
                try:
                    hasher.update(chunk)
                except BaseException as error:  # noqa: BLE001 - it is raised where the hash is wanted
                    failures.append(error)

    thread = threading.Thread(target=take, name="hashing", daemon=True)
    thread.start()
    try:
        yield chunks
    finally:
        chunks.put(b"")
        thread.join()
    if failures:
        raise failures[0]


def hash_into(hasher: Hasher, path: Path, label: str, *, copy_to: BinaryIO | None = None) -> None:
    """Take the whole of a file into a running hash, with progress, in constant memory, and copy it if asked to."""
    buffer = memoryview(bytearray(CHUNK_BYTES))
    with path.open("rb", buffering=0) as file, progress(label, path.stat().st_size, unit="bytes") as advance:
        while count := file.readinto(buffer):
            hasher.update(buffer[:count])
            if copy_to is not None:
                copy_to.write(buffer[:count])
            advance(count)


def hash_file(path: Path, algorithm: str, label: str, *, copy_to: BinaryIO | None = None) -> str:
    """Return the hex digest of a file, which is copied on the way if asked to."""
    hasher = new_hasher(algorithm)
    hash_into(hasher, path, label, copy_to=copy_to)
    return hasher.hexdigest()


def mirror_step(dataset: str) -> str:
    """Return what to do if the mirror has other bytes than the record promises: its copy is doubted, not the record."""
    return (
        f"backbeat cloud mirror check --full {dataset} says what is damaged in the mirror; backbeat cloud mirror push "
        f"{dataset}, in a clone that has the file whole, sends it anew"
    )


def require_promised(file: RecordFile, dataset: str, size_bytes: int, digest: str, url: str = "") -> None:
    """Refuse bytes that are not the ones that the record promises; where it promises no hash, say what it is.

    Args:
        file: the promise.
        dataset: the name of the record, for the message.
        size_bytes: how many bytes there are.
        digest: their hex digest, by `algorithm_of(file)`.
        url: where they are from, if that is an address of a record or of the mirror.

    Raises:
        DownloadError: with what was promised and what there is.
    """
    mirrored = f" in the mirror ({url})" if url_scheme(url) == MIRROR_SCHEME else ""
    what = f"{dataset}: {file.path}{mirrored} is not the file that the record promises"
    next_step = (
        mirror_step(dataset)
        if mirrored
        else (
            f"backbeat datasets download {dataset} starts over; if it comes out the same again, the publisher has "
            f"changed the file: compare with their page, then correct size and hash in configs/datasets/{dataset}.yaml"
        )
    )
    if size_bytes != (file.promised_bytes or size_bytes) or size_bytes == 0:
        expected = "at least one byte" if file.promised_bytes is None else f"{file.promised_bytes:,} bytes"
        raise DownloadError(what, expected=expected, got=f"{size_bytes:,} bytes", next_step=next_step)
    found = f"{algorithm_of(file)}:{digest}"
    if file.hash == UNVERIFIED:
        _log.warning("%s: %s has no hash in its record; what arrived is %s", dataset, file.path, found)
    elif file.promise is not None and file.hash != found:
        raise DownloadError(what, expected=file.hash, got=found, next_step=next_step)
