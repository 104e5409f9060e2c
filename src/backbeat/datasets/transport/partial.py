"""What has arrived of a file so far: the bytes, their running hash, and what they are a part of.

The bytes are in `<final name>.part`, and beside them `<final name>.origin.part` says which version of which address
they came from. The origin is written only when the server gave something to recognize that version by, and is
removed before the bytes are touched in any other way than appending: where there is an origin, all bytes are of
that origin.

What a killed process has written is in the system's memory and stays; what a crashed machine had in memory is
gone, and a file may then be long and hold nothing. So every block is forced to the disk while the next one arrives,
and the origin says how far that has come and under which boot. Under another boot only those bytes count: a crash
costs a block or two, a kill nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import threading
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from backbeat.datasets.transport.hashing import Hasher, hash_into, in_background, new_hasher

BLOCK_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Origin:
    """The version of a remote file that bytes were taken from.

    Args:
        url: the address in the record.
        validator: what the server calls this version: a strong ETag or a date.
        boot: identifies the boot of the machine that wrote the bytes; None where there is no such thing.
        synced_bytes: how many of the bytes have been forced to the disk.
    """

    url: str
    validator: str
    boot: str | None = None
    synced_bytes: int = 0


class Partial:
    """A file on its way, appended to by one process at a time; a context manager that closes it.

    Args:
        final: the name that the file will have when it is complete.
        algorithm: what to hash the bytes with.
    """

    def __init__(self, final: Path, algorithm: str) -> None:
        self.path = part_path(final)
        self._origin_path = final.with_name(f"{final.name}.origin.part")
        self._algorithm = algorithm
        self._hasher: Hasher | None = None
        self._file: BinaryIO | None = None
        self._open = contextlib.ExitStack()
        self._waiting: queue.Queue[bytes] | None = None
        self._syncing: threading.Thread | None = None
        self._inode: int | None = None
        self.size_bytes = self.path.stat().st_size if self.path.is_file() else 0
        self._origin = self._read_origin()
        if self._origin is not None and (self._origin.boot is None or self._origin.boot != boot_id()):
            self._keep(self._origin.synced_bytes)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def origin(self) -> Origin | None:
        """Return what the bytes are a part of; None if there are none or if that cannot be said."""
        return self._origin if self.size_bytes else None

    def restart(self, url: str, validator: str | None) -> None:
        """Drop the bytes, and remember where the next ones come from; without a validator they are never resumed."""
        self.remove()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # A new file, not a truncated one: nothing that shares the old one's blocks is touched.
        self.path.touch(exist_ok=False)
        self._hasher = new_hasher(self._algorithm)
        if validator is not None:
            self._note(Origin(url, validator, boot_id()))

    def hash_existing(self) -> None:
        """Take what an earlier process left into the hash, if that has not been done."""
        if self._hasher is None:
            self._hasher = new_hasher(self._algorithm)
            if self.size_bytes:
                hash_into(self._hasher, self.path, f"{self.path.name}: reading what is here already")

    def append(self, chunk: bytes) -> None:
        """Write bytes at the end and take them into the hash.

        Raises:
            OSError: if the disk is full; the bytes that fitted are counted.
        """
        file, waiting = self._opened()
        # Without a buffer a write may be short, on a disk that fills up for one.
        rest = memoryview(chunk)
        while rest:
            count = file.write(rest)
            # Whole chunks are the rule, and are handed on without being copied.
            waiting.put(chunk if count == len(chunk) else bytes(rest[:count]))
            self.size_bytes += count
            rest = rest[count:]
        if self._origin is not None and self.size_bytes - self._origin.synced_bytes >= BLOCK_BYTES:
            self._sync(file)

    def digest(self) -> str:
        """Return the hex digest of all bytes; nothing more can be appended without opening the file again."""
        self.close()
        self.hash_existing()
        assert self._hasher is not None
        return self._hasher.hexdigest()

    def is_what_was_written(self) -> bool:
        """Return whether the file still is the one that was written or found here, and as long."""
        try:
            stat = self.path.stat()
        except OSError:
            return False
        return stat.st_size == self.size_bytes and self._inode in {None, stat.st_ino}

    def close(self) -> None:
        """Close the file once everything is hashed; what has been written stays."""
        self._open.close()
        if self._syncing is not None:
            self._syncing.join()
        if self._file is not None:
            self._file.close()
        self._file = self._waiting = self._syncing = None

    def forget_origin(self) -> None:
        """Remove the note about the origin, as the bytes are about to become the final file."""
        self._origin = None
        self._origin_path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the bytes and what is known about them."""
        self.close()
        self.forget_origin()
        self.path.unlink(missing_ok=True)
        self.size_bytes = 0
        self._hasher = self._inode = None

    def _opened(self) -> tuple[BinaryIO, queue.Queue[bytes]]:
        if self._file is None or self._waiting is None:
            self.hash_existing()
            assert self._hasher is not None
            self._file = self.path.open("ab", buffering=0)
            self._inode = os.fstat(self._file.fileno()).st_ino
            self._waiting = self._open.enter_context(in_background(self._hasher))
        return self._file, self._waiting

    def _sync(self, file: BinaryIO) -> None:
        # One at a time: a disk slower than the network is not asked twice.
        if self._syncing is None or not self._syncing.is_alive():
            self._syncing = threading.Thread(target=self._force, args=(file.fileno(), self.size_bytes), daemon=True)
            self._syncing.start()

    def _force(self, descriptor: int, size_bytes: int) -> None:
        # A disk that fails here will fail the writer, too; until then the mark stays where it was.
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
            if self._origin is not None:
                self._note(replace(self._origin, synced_bytes=size_bytes))

    def _note(self, origin: Origin) -> None:
        fresh = self._origin_path.with_suffix(".new.part")
        fresh.write_text(json.dumps(asdict(origin)), encoding="utf-8")
        fresh.replace(self._origin_path)
        self._origin = origin

    def _read_origin(self) -> Origin | None:
        try:
            return Origin(**json.loads(self._origin_path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def _keep(self, size_bytes: int) -> None:
        if self.size_bytes > size_bytes:
            os.truncate(self.path, size_bytes)
            self.size_bytes = size_bytes


def part_path(final: Path) -> Path:
    """Return where the bytes of a file are while they arrive."""
    return final.with_name(f"{final.name}.part")


def boot_id() -> str | None:
    """Return what tells this boot of this machine from every other one; None where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return None
