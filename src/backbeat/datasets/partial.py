"""What has arrived of a file so far: the bytes, their running hash, and what they are a part of.

The bytes are in `<final name>.part`, and beside them `<final name>.origin.part` says which version of which address
they came from. The origin is written only when the server gave a strong validator for it, and is removed before
the bytes are touched in any other way than appending: where there is an origin, all bytes are of that origin.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from backbeat.datasets.hashing import Hasher, hash_into, new_hasher


@dataclass(frozen=True)
class Origin:
    """The version of a remote file that bytes were taken from."""

    url: str
    etag: str


class Partial:
    """A file on its way, appended to by one process at a time; a context manager that closes it.

    Args:
        final: the name that the file will have when it is complete.
        algorithm: what to hash the bytes with.
    """

    def __init__(self, final: Path, algorithm: str) -> None:
        self.path = part_path(final)
        self.size_bytes = self.path.stat().st_size if self.path.is_file() else 0
        self._origin_path = final.with_name(f"{final.name}.origin.part")
        self._algorithm = algorithm
        self._hasher: Hasher | None = None
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def origin(self) -> Origin | None:
        """Return what the bytes are a part of; None if there are none or if that cannot be said."""
        try:
            origin = Origin(**json.loads(self._origin_path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        return origin if self.size_bytes else None

    def restart(self, origin: Origin | None) -> None:
        """Drop the bytes, and remember where the next ones come from; None if they can never be resumed."""
        self.remove()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # A new file, not a truncated one: nothing that shares the old one's blocks is touched.
        self._file = self.path.open("xb", buffering=0)
        self._hasher = new_hasher(self._algorithm)
        if origin is not None:
            self._origin_path.write_text(json.dumps(asdict(origin)), encoding="utf-8")

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
        hasher = self._hashed()
        if self._file is None:
            self._file = self.path.open("ab", buffering=0)
        # Without a buffer a write may be short, on a disk that fills up for one.
        rest = memoryview(chunk)
        while rest:
            count = self._file.write(rest)
            hasher.update(rest[:count])
            self.size_bytes += count
            rest = rest[count:]

    def digest(self) -> str:
        """Return the hex digest of all bytes."""
        return self._hashed().hexdigest()

    def close(self) -> None:
        """Close the file; what has been written stays."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def forget_origin(self) -> None:
        """Remove the note about the origin, as the bytes are about to become the final file."""
        self._origin_path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the bytes and what is known about them."""
        self.close()
        self.forget_origin()
        self.path.unlink(missing_ok=True)
        self.size_bytes = 0
        self._hasher = None

    def _hashed(self) -> Hasher:
        self.hash_existing()
        assert self._hasher is not None
        return self._hasher


def part_path(final: Path) -> Path:
    """Return where the bytes of a file are while they arrive."""
    return final.with_name(f"{final.name}.part")
