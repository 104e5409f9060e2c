"""Making the links of the working tree lead into the new cache instead of the old one.

Symbolic links that lead into the old cache are made anew; so are further names of its files (hard links) where the new
cache is on another file system, because they would otherwise keep the old bytes on the old disk. Each link is replaced
by a rename: at any moment there is the old one or the new one.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from backbeat.storage.contents import inode_of
from backbeat.storage.staging import disk_errors

# Folders of the working tree that hold none of DVC's links.
NOT_WALKED = frozenset({".git", ".dvc", ".venv"})


def working_tree(project: Path, *others: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield every file and symbolic link of the working tree with its own state, sorted.

    Args:
        project: the root of the repository.
        others: folders that are left out, too: a cache or a disk within the tree.
    """
    left_out = {str(other) for other in others}
    for folder, names, files in os.walk(project):
        here = Path(folder)
        at_root = here == project
        linked = [name for name in names if (here / name).is_symlink()]
        names[:] = sorted(
            name
            for name in names
            if not (at_root and name in NOT_WALKED) and str(here / name) not in left_out and name not in linked
        )
        for name in sorted([*files, *linked]):
            with contextlib.suppress(FileNotFoundError):
                yield here / name, (here / name).lstat()


def stale_links(project: Path, old: Path, new: Path, names: Mapping[tuple[int, int], str]) -> dict[Path, Path]:
    """Return the links of the working tree that lead into `old`, and where in `new` they should lead.

    Args:
        project: the root of the repository.
        old: the cache that was.
        new: the cache that is, on any file system.
        names: the files of the old cache that are others in the new one: device and inode -> first name.
    """
    found: dict[Path, Path] = {}
    for path, state in working_tree(project, new, new.parent, old):
        if stat.S_ISLNK(state.st_mode):
            inside = _inside(path, old)
            if inside is not None:
                found[path] = new / inside
        elif state.st_nlink > 1 and inode_of(state) in names:
            found[path] = new / names[inode_of(state)]
    return found


def replace_links(links: Mapping[Path, Path]) -> int:
    """Replace files and links by symbolic links to these targets; returns how many there were."""
    for path, target in links.items():
        fresh = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
        with disk_errors(path):
            try:
                fresh.symlink_to(target)
                fresh.replace(path)
            finally:
                fresh.unlink(missing_ok=True)
    return len(links)


def _inside(link: Path, old: Path) -> Path | None:
    """Return what of the old cache a link leads to, whether or not that is still there; None if it leads elsewhere."""
    says = Path(os.path.normpath(link.parent / link.readlink()))
    for leads_to in (says, Path(os.path.realpath(says))):
        if leads_to.is_relative_to(old) and leads_to != old:
            return leads_to.relative_to(old)
    return None
