"""The content-addressed staging store: `<cache.dir>/staging/<kind>/<2 hex>/<digest><suffix>`.

Stages never write into their output folders. They write here, on the disk where DVC's cache is, under the digest
of everything that went into the file, and put symbolic links at the output path. DVC then hard-links the staged
file into its cache and turns the link in the workspace into a link to the cache object: no byte is copied, and
what was made once is never made again. `cache.dir` is therefore the only setting that says which disk is used.

Rules of the store:

- An entry exists under its final name only when it is complete: it is written beside it as `.part`, fsynced,
  renamed, and the folder is fsynced.
- An entry never changes. A different content has a different digest.
- Anything named `*.part` may be removed when no process is running.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dvc.config import Config

from backbeat.errors import StorageError

# What a file system needs beside the bytes themselves; a disk filled to the last block makes everything fail.
SPARE_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Staging:
    """The staging store under one root folder."""

    root: Path

    def entry(self, kind: str, digest: str, suffix: str) -> Path:
        """Return the path where the entry of this kind (`raw`, `shards`, …) and digest is or will be."""
        return self.root / kind / digest[:2] / f"{digest}{suffix}"


def cache_dir(project: Path) -> Path:
    """Return the folder that DVC caches into, as configured for `project` (all levels, the local file first).

    Raises:
        StorageError: if `project` is not the root of a DVC repository, or DVC's configuration cannot be read.
    """
    dvc_dir = project / ".dvc"
    if not dvc_dir.is_dir():
        raise StorageError(
            f"{project} is not the root of a DVC repository",
            expected="a folder .dvc",
            got="none",
            next_step="run the command in the root of the clone, or `dvc init` first",
        )
    # Asked for every object of a cache; DVC takes ten milliseconds to read its configuration.
    return _configured_cache(dvc_dir, tuple(map(_changed_at, (dvc_dir / "config", dvc_dir / "config.local"))))


@functools.lru_cache(maxsize=16)
def _configured_cache(dvc_dir: Path, _changed: tuple[int | None, ...]) -> Path:
    try:
        configured = Config(dvc_dir=str(dvc_dir), validate=False)["cache"].get("dir")
    # DVC's own error, and those of the parser below it, which have nothing in common.
    except Exception as error:
        raise StorageError(
            f"the configuration in {dvc_dir} cannot be read",
            got=str(error),
            next_step="correct .dvc/config or .dvc/config.local",
        ) from error
    # DVC resolves a relative `cache.dir` against the folder of the config file, which is always .dvc here.
    return (dvc_dir / (configured or "cache")).resolve()


def _changed_at(file: Path) -> int | None:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return None


def open_staging(project: Path) -> Staging:
    """Return the staging store of `project`: in `BACKBEAT_DATA_DIR` if that is set, else on the disk of DVC's cache.

    With `BACKBEAT_DATA_DIR` on another disk than the cache, DVC has to copy what it caches: it is meant for
    containers that fetch and read, and have a volume for it.
    """
    elsewhere = os.environ.get("BACKBEAT_DATA_DIR")
    return Staging((Path(elsewhere).absolute() if elsewhere else cache_dir(project)) / "staging")


def publish(part: Path, final: Path) -> None:
    """Give a complete file its final name so that a crash at any moment leaves either all of it or nothing.

    Write, fsync the file, rename, fsync the folder: Pillai et al., "All File Systems Are Not Created Equal",
    OSDI 2014.
    """
    with part.open("rb") as written:
        os.fsync(written.fileno())
    part.replace(final)
    folder = os.open(final.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextlib.contextmanager
def new_file(final: Path) -> Iterator[Path]:
    """Yield a path beside `final` to write to; on success it becomes `final`, on failure it is removed.

    Raises:
        StorageError: if the disk is full or read-only.
    """
    with disk_errors(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        # On a cluster, processes of several machines write here: a number alone may be that of two of them.
        part = final.with_name(f"{final.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
        try:
            yield part
            publish(part, final)
        finally:
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's complaints about the disk under `path` into a `StorageError`."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.EEXIST, errno.ENOTDIR, errno.EACCES, errno.EPERM}:
            got = f"{os.strerror(error.errno)}: {error.filename}"
            step = "name another folder, or make it writable"
            raise StorageError(
                f"cannot write {path}", expected="a folder to write to", got=got, next_step=step
            ) from error
        if error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}:
            raise
        existing = nearest_existing(path)
        free_bytes = shutil.disk_usage(existing).free
        raise StorageError(
            f"cannot write {path}",
            expected="a writable disk with room for it",
            got=f"{os.strerror(error.errno)} ({free_bytes:,} bytes free in {existing})",
            next_step=_elsewhere(),
        ) from error


def require_space(folder: Path, needed_bytes: int, what: str) -> None:
    """Refuse work that cannot fit on the disk of `folder`, before its first byte is written.

    Raises:
        StorageError: if fewer than `needed_bytes` and a small reserve are free.
    """
    existing = nearest_existing(folder)
    free_bytes = shutil.disk_usage(existing).free
    if free_bytes < needed_bytes + SPARE_BYTES:
        raise StorageError(
            f"not enough space for {what} in {existing}",
            expected=f"{needed_bytes + SPARE_BYTES:,} bytes free",
            got=f"{free_bytes:,} bytes free",
            next_step=_elsewhere(),
        )


def link_folder(folder: Path, links: Mapping[str, Path]) -> None:
    """Make `folder` hold exactly these symbolic links (relative name -> staged file).

    Links are made in a new folder that then takes the place of the old one: a reader sees the old ones, for a moment
    none, or the new ones, and never a mixture.

    Raises:
        StorageError: if the disk is full or read-only.
    """
    fresh = folder.with_name(f"{folder.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    with disk_errors(folder):
        try:
            fresh.mkdir(parents=True)
            for name, target in sorted(links.items()):
                at = fresh / name
                at.parent.mkdir(parents=True, exist_ok=True)
                at.symlink_to(target.resolve())
            if folder.is_symlink():
                folder.unlink()
            elif folder.is_dir():
                shutil.rmtree(folder)
            fresh.replace(folder)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)


def _elsewhere() -> str:
    if "BACKBEAT_DATA_DIR" in os.environ:
        return "free some space, or set BACKBEAT_DATA_DIR to a folder on another disk"
    return "free some space, or move DVC's cache: backbeat storage setup --disk /another/disk"


def nearest_existing(path: Path) -> Path:
    """Return `path` or the nearest folder above it that exists, to ask about its disk before anything is there."""
    return next(parent for parent in [path, *path.absolute().parents] if parent.exists())
