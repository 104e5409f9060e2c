"""What is in a cache of DVC's, the staging store included: files under all of their names, links, folders."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

# `<2 hex>/<30 hex>`, and the listing of a folder the same with `.dir`: how DVC 3 names what it holds, by MD5.
OBJECT = re.compile(r"^files/md5/(?P<head>[0-9a-f]{2})/(?P<rest>[0-9a-f]{30})(?:\.dir)?$")

# What a move is writing.
PART_SUFFIX = ".move.part"


@dataclass(frozen=True)
class StoredFile:
    """One file of a cache, under all of its names.

    Args:
        names: relative to the cache, those of DVC's objects first.
        size_bytes: how large it is.
        mtime_ns: when it was last written.
        mode: its permissions.
        inode: the device of its file system, and its number there. Other file systems may be mounted in a cache.
    """

    names: tuple[str, ...]
    size_bytes: int
    mtime_ns: int
    mode: int
    inode: tuple[int, int]


@dataclass(frozen=True)
class Contents:
    """What is in a cache: its files, its symbolic links (name -> what it says), its folders."""

    files: tuple[StoredFile, ...]
    links: tuple[tuple[str, str], ...]
    folders: tuple[str, ...]

    @property
    def size_bytes(self) -> int:
        """What the files take, each once."""
        return sum(file.size_bytes for file in self.files)


def contents_of(root: Path) -> Contents:
    """Return what is in a cache; nothing if it is not there."""
    by_inode: dict[tuple[int, int], tuple[os.stat_result, list[str]]] = {}
    links: list[tuple[str, str]] = []
    folders: list[str] = []
    for folder, names, files in os.walk(root):
        here = Path(folder)
        for name in [*names, *files]:
            path = here / name
            relative = path.relative_to(root).as_posix()
            state = path.lstat()
            if stat.S_ISLNK(state.st_mode):
                links.append((relative, str(path.readlink())))
            elif stat.S_ISDIR(state.st_mode):
                folders.append(relative)
            elif stat.S_ISREG(state.st_mode) and not name.endswith(PART_SUFFIX):
                by_inode.setdefault(inode_of(state), (state, []))[1].append(relative)
    stored = [
        StoredFile(
            tuple(sorted(found, key=lambda name: (OBJECT.match(name) is None, name))),
            state.st_size,
            state.st_mtime_ns,
            stat.S_IMODE(state.st_mode),
            inode_of(state),
        )
        for state, found in by_inode.values()
    ]
    return Contents(tuple(sorted(stored, key=lambda one: one.names)), tuple(sorted(links)), tuple(sorted(folders)))


def inode_of(state: os.stat_result) -> tuple[int, int]:
    """Return what tells a file from every other: the number alone is that of one file on each file system."""
    return state.st_dev, state.st_ino
