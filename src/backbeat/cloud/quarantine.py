"""Where what is damaged goes: renamed aside, with every other name that the same bytes have, never deleted.

The cache object, the staging store's entry and the file in the workspace are one inode where the disk has hard links.
Left under the other names, damaged bytes would come back by the next `dvc repro` or `dvc checkout`.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from backbeat.errors import StorageError
from backbeat.storage.staging import cache_dir, disk_errors, open_staging

FOLDER = "quarantine"


def quarantine(project: Path, file: Path, also: Iterable[Path] = ()) -> Path:
    """Move a damaged file into `<cache.dir>/quarantine`; return where it is now.

    Args:
        project: the root of the repository.
        file: what is damaged.
        also: files of the workspace that may be links to it; those that are go, too.

    Raises:
        StorageError: if the disk is read-only; or `file` is or holds a link, whose bytes would stay where they are, for
            `storage prune` to remove.
    """
    link = link_in(file)
    if link is not None:
        raise StorageError(
            f"{link} is a link: it is not put aside",
            got=f"its bytes are {link.resolve()}",
            next_step=f"to keep them: dvc commit; to give them up: rm {link}",
        )
    folder = cache_dir(project) / FOLDER
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        others = [path for path in [*also, *_staged_links(project, file)] if path != file and _is_same(path, file)]
        for path in others:
            path.unlink()
        aside = folder / f"{file.parent.name}{file.name}.{secrets.token_hex(4)}"
        _move(file, aside)
    return aside


def link_in(file: Path) -> Path | None:
    """Return what would leave its bytes behind if a file or folder were renamed: itself or in it, a symbolic link."""
    return next((path for path in [file, *file.rglob("*")] if path.is_symlink()), None)


def _move(file: Path, aside: Path) -> None:
    try:
        file.replace(aside)
    except OSError:
        # Another disk: what is in the workspace may be a copy.
        shutil.move(file, aside)


def _is_same(path: Path, file: Path) -> bool:
    try:
        return path.samefile(file)
    except OSError:
        return False


def _staged_links(project: Path, file: Path) -> Iterator[Path]:
    """Yield the entries of the staging store that are the same inode."""
    try:
        found = file.stat()
    except OSError:
        return
    if found.st_nlink < 2:
        return
    for folder, _, names in os.walk(open_staging(project).root):
        for name in names:
            path = Path(folder) / name
            if path.stat(follow_symlinks=False).st_ino == found.st_ino:
                yield path
