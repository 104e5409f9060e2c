"""How much is where: the working tree, DVC's cache, the staging store, other programs' caches; and what is there twice.

A file with several names is counted once in each tier that has a name of it; `linked_bytes` says how much of a tier
that is. What is there twice is the same content in two files, such as copies that somebody took out of the cache: only
that could be freed without losing anything. Content is compared, names and times are not believed.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from backbeat.errors import StorageError
from backbeat.progress import progress
from backbeat.provenance import file_digest
from backbeat.storage.clones import register
from backbeat.storage.disk import Place, place_of
from backbeat.storage.environment import cache_folders
from backbeat.storage.relink import working_tree
from backbeat.storage.staging import cache_dir, open_staging

# Smaller files that are there twice are not worth reading.
DUPLICATE_BYTES = 64 * 2**10
_HEAD_BYTES = 64 * 2**10

# Where these programs keep their caches when nobody says otherwise.
_DEFAULTS: Mapping[str, str] = {
    "HF_HOME": "~/.cache/huggingface",
    "TORCH_HOME": "~/.cache/torch",
    "RCLONE_CACHE_DIR": "~/.cache/rclone",
}

Inode = tuple[int, int]


@dataclass(frozen=True)
class Tier:
    """One place where bytes are.

    Args:
        name: what it is: `working tree`, `DVC cache`, `staging shards`, `HF_HOME`, …
        where: its folder.
        place: the file system that it is on.
        files: how many files it has; of the working tree, those that are not links.
        size_bytes: what they take, each file once; of the working tree, what is its own.
        linked_bytes: how much of the cache and the staging store has a name here, too, or of these, in each other.
        twice_bytes: what is the same, byte for byte, as another file of a tier.
    """

    name: str
    where: str
    place: Place
    files: int
    size_bytes: int
    linked_bytes: int
    twice_bytes: int


@dataclass(frozen=True)
class Twice:
    """The same content in several files."""

    size_bytes: int
    paths: tuple[str, ...]


@dataclass(frozen=True)
class Status:
    """All tiers on this machine; `once_bytes` is what they take together, each file once."""

    tiers: tuple[Tier, ...]
    twice: tuple[Twice, ...]
    once_bytes: int


@dataclass
class _Census:
    """The files of one tier: inode -> size and a path; and the inodes that its links lead to."""

    name: str
    where: Path
    files: dict[Inode, tuple[int, Path]]
    links_to: set[Inode]


def status(project: Path) -> Status:
    """Return what is where on this machine. Asks nothing of any network.

    Raises:
        StorageError: if `project` is not the root of a DVC repository.
    """
    project = project.resolve()
    with contextlib.suppress(StorageError, OSError):  # a disk that is full or read-only
        register(project)
    tiers = [_tree(project), *_stores(project), *_other_caches(project)]
    stored = {inode for tier in tiers[1:] for inode in tier.files}
    duplicates = _twice(tiers)
    redundant = {inode for group in duplicates.values() for inode in group[1:]}
    sizes = {inode: size for tier in tiers for inode, (size, _) in tier.files.items()}
    paths = {inode: path for tier in reversed(tiers) for inode, (_, path) in tier.files.items()}
    return Status(
        tuple(_tier(one, tiers, stored, redundant) for one in tiers),
        tuple(
            Twice(sizes[group[0]], tuple(str(paths[inode]) for inode in group))
            for group in sorted(duplicates.values(), key=lambda group: -sizes[group[0]])
        ),
        sum(sizes.values()),
    )


def other_caches(project: Path) -> dict[str, Path]:
    """Return the folders that other programs cache into: by variable, by `.env.storage`, or by their own default."""
    generated = cache_folders(cache_dir(project).parent)
    found: dict[str, Path] = {}
    for variable, folder in generated.items():
        said = os.environ.get(variable)
        default = _DEFAULTS.get(variable)
        if said:
            found[variable] = Path(said)
        elif folder.is_dir():
            found[variable] = folder
        elif default:
            found[variable] = Path(default).expanduser()
    return {variable: folder for variable, folder in found.items() if folder.is_dir()}


def _tree(project: Path) -> _Census:
    census = _Census("working tree", project, {}, set())
    cache = cache_dir(project)
    for path, state in working_tree(project, cache, cache.parent, open_staging(project).root):
        if stat.S_ISLNK(state.st_mode):
            with contextlib.suppress(OSError):  # leads nowhere
                leads_to = path.stat()
                inner = path.rglob("*") if stat.S_ISDIR(leads_to.st_mode) else [path]
                census.links_to |= {_inode(file.stat()) for file in inner if file.is_file()}
        elif stat.S_ISREG(state.st_mode):
            census.files[_inode(state)] = (state.st_size, path)
    return census


def _stores(project: Path) -> list[_Census]:
    cache, staging = cache_dir(project), open_staging(project).root
    kinds = sorted(path for path in staging.glob("*") if path.is_dir())
    return [
        _folder("DVC cache", cache, staging),
        *(_folder(f"staging {kind.name}", kind) for kind in kinds),
    ]


def _other_caches(project: Path) -> list[_Census]:
    folders = other_caches(project)
    return [
        _folder(name, folder, *(other for other in folders.values() if other != folder))
        for name, folder in folders.items()
    ]


def _folder(name: str, root: Path, *without: Path) -> _Census:
    census = _Census(name, root, {}, set())
    left_out = set(map(str, without))
    for folder, names, files in os.walk(root):
        names[:] = sorted(inner for inner in names if str(Path(folder) / inner) not in left_out)
        for file in sorted(files):
            path = Path(folder) / file
            with contextlib.suppress(OSError):  # gone in the meantime
                state = path.lstat()
                if stat.S_ISREG(state.st_mode):
                    census.files[_inode(state)] = (state.st_size, path)
    return census


def _tier(one: _Census, all_: list[_Census], stored: set[Inode], redundant: set[Inode]) -> Tier:
    if one is all_[0]:
        own = {inode: size for inode, (size, _) in one.files.items() if inode not in stored}
        linked = (set(one.files) | one.links_to) & stored
    else:
        own = {inode: size for inode, (size, _) in one.files.items()}
        others = {inode for other in all_[1:] if other is not one for inode in other.files}
        linked = set(own) & others
    sizes = {inode: size for tier in all_ for inode, (size, _) in tier.files.items()}
    return Tier(
        one.name,
        str(one.where),
        place_of(one.where),
        len(own),
        sum(own.values()),
        sum(sizes[inode] for inode in linked),
        sum(size for inode, size in own.items() if inode in redundant and _first_with(inode, all_) is one),
    )


def _first_with(inode: Inode, tiers: Iterable[_Census]) -> _Census:
    return next(tier for tier in tiers if inode in tier.files)


def _twice(tiers: list[_Census]) -> dict[str, list[Inode]]:
    """Return files of equal content by its digest; first the one to keep: the cache's rather than a copy of it."""
    files: dict[Inode, tuple[int, Path]] = {}
    for tier in [*tiers[1:], tiers[0]]:
        for inode, held in tier.files.items():
            files.setdefault(inode, held)
    same_head: dict[tuple[int, bytes], list[Inode]] = defaultdict(list)
    by_size: dict[int, list[Inode]] = defaultdict(list)
    for inode, (size, _) in files.items():
        if size >= DUPLICATE_BYTES:
            by_size[size].append(inode)
    for size, inodes in by_size.items():
        for inode in inodes if len(inodes) > 1 else []:
            with contextlib.suppress(OSError), files[inode][1].open("rb") as stream:
                same_head[size, stream.read(_HEAD_BYTES)].append(inode)
    alike = [(size, inodes) for (size, _), inodes in same_head.items() if len(inodes) > 1]
    found: dict[str, list[Inode]] = defaultdict(list)
    if alike:
        with progress("comparing", sum(size * len(inodes) for size, inodes in alike), unit="bytes") as advance:
            for size, inodes in alike:
                for inode in inodes:
                    with contextlib.suppress(OSError):
                        found[file_digest(files[inode][1])].append(inode)
                    advance(size)
    return {digest: inodes for digest, inodes in found.items() if len(inodes) > 1}


def _inode(state: os.stat_result) -> Inode:
    return state.st_dev, state.st_ino
