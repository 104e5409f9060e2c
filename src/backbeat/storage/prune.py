"""Making room on the disk of the cache: what nothing refers to, what killed runs left behind, old checkpoints.

- Shards, slices, models and production samples of the staging store go when no object of DVC's cache and no link of the
  working tree is the same file, except where a pointer of any Git revision needs the very bytes and the cache does not
  have them: then the entry is the only copy here, stays, and is named. That is asked of every clone that shares the
  cache and is known. What the sample library has archived always stays: its originals may be gone.
- Recordings, sounds and songs of `backbeat expand` go: the archive is elsewhere, and they can be made again. No DVC has
  them in its cache, so no revision is asked; a clone that cannot be asked may be at work on them, and they stay.
- Unfinished files (`*.part`, and DVC's own `.tmp`) go when the process in their name is gone, nobody has them open,
  and nobody has touched them for an hour: so long, because a process on another machine cannot be seen.
- Of the checkpoints of runs that did not end, the newest run's stay, and those of the last seven days.
- Raw archives are not looked at: `backbeat datasets prune` knows where they can be had again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from backbeat.progress import progress
from backbeat.storage.clones import other_clones, register
from backbeat.storage.contents import inode_of
from backbeat.storage.exclusive import exclusive
from backbeat.storage.relink import NOT_WALKED, working_tree
from backbeat.storage.revisions import needed_objects
from backbeat.storage.staging import cache_dir, open_staging
from backbeat.storage.work import PART_NAME, dvc_at_rest, last_touched_s, open_files, writer_of

# What stages make and can make again; the other kinds have owners of their own.
MADE_KINDS = ("models", "production", "shards", "slices")
# What renderings leave in the store: recordings only if they did not end, sounds and songs for the next one.
RENDERED_KINDS = {
    "banks": "sounds that backbeat expand can read again",
    "rendered": "recordings of a rendering that did not end",
    "songs": "songs that backbeat expand can make again",
}
# The sample library's: of these kinds only what is unfinished goes. Of what is in the archive originals may be gone.
ARCHIVE = "archive"
LIBRARY = "library"
CHECKPOINTS = "training"

CHECKPOINT_DAYS = 7
_DAY_S = 86_400

# `tmp_fname` of dvc-objects: 16 random bytes in base64, before or instead of the name.
_DVC_LITTER = re.compile(r"\.[A-Za-z0-9_-]{22}\.tmp$")


@dataclass(frozen=True)
class Pruned:
    """What became of something that nothing refers to.

    Args:
        what: its name, relative to the cache or to the project.
        size_bytes: what removing it frees.
        action: whether it was removed.
        reason: why, or why not.
    """

    what: str
    size_bytes: int
    action: Literal["removed", "kept"]
    reason: str


def prune(project: Path, *, dry_run: bool = False) -> list[Pruned]:
    """Remove what nothing refers to.

    Args:
        project: the root of the repository.
        dry_run: whether to say what would go and remove nothing.

    Raises:
        StorageError: if a dvc command or a stage that it started is running, in this clone or another one of the cache.
        CloudError: if a transfer is at work in one of them.
    """
    project = project.resolve()
    others, unseen = other_clones(project)
    with contextlib.ExitStack() as locks:
        # What a stage has staged has no other name until the stage ends.
        for clone in () if dry_run else (project, *others):
            try:
                locks.enter_context(exclusive(clone, "prune"))
                locks.enter_context(dvc_at_rest(clone))
            except OSError:  # somebody else's, or on a disk that is read-only
                if clone == project:
                    raise
                unseen.append(clone)
        if not dry_run:
            register(project)
        return list(_found(project, others, unseen, dry_run=dry_run))


def _found(project: Path, others: list[Path], unseen: list[Path], *, dry_run: bool) -> Iterator[Pruned]:
    cache, staging = cache_dir(project), open_staging(project).root
    opened = {**open_files(cache), **open_files(staging), **open_files(project)}
    verdicts = [
        *_unreferenced([project, *others], unseen, cache, staging),
        *_of_renderings(staging, unseen),
        *((path, None, why) for path, why in _litter(project, cache, staging)),
        *_old_checkpoints(staging),
    ]
    for path, needed, why in verdicts:
        size_bytes = _size(path)
        keep = needed or writer_of(path, opened)
        if keep is None and not dry_run:
            _remove(path)
        yield Pruned(_name(path, project, cache), size_bytes, "removed" if keep is None else "kept", keep or why)


Verdict = tuple[Path, str | None, str]


def _unreferenced(clones: list[Path], unseen: list[Path], cache: Path, staging: Path) -> list[Verdict]:
    """Return entries of the staging store that are the same file as nothing else: path, why to keep it, why not to."""
    linked = set().union(*(_linked(clone, cache, staging) for clone in clones))
    entries = [path for kind in MADE_KINDS for path in _entries(staging, kind)]
    alone = [path for path in entries if path.stat().st_nlink == 1 and inode_of(path.stat()) not in linked]
    if not alone:
        return []
    needed = {name: why for clone in reversed(clones) for name, why in needed_objects(clone, cache).items()}
    found: list[Verdict] = []
    with progress("hashing", sum(path.stat().st_size for path in alone), unit="bytes") as advance:
        for path in alone:
            digest = _md5(path)
            advance(path.stat().st_size)
            cached = (cache / "files" / "md5" / digest[:2] / digest[2:]).is_file()
            keep = f"the only copy here; {needed[digest]} needs it" if digest in needed and not cached else None
            keep = keep or _whoever(unseen)
            why = "the cache has the same bytes" if cached else "nothing refers to it"
            found.append((path, keep, why))
    return found


def _of_renderings(staging: Path, unseen: list[Path]) -> list[Verdict]:
    keep = _whoever(unseen)
    return [(path, keep, why) for kind, why in RENDERED_KINDS.items() for path in _entries(staging, kind)]


def _entries(staging: Path, kind: str) -> list[Path]:
    """Return the complete entries of a kind."""
    found = sorted((staging / kind).glob("??/*"))
    return [path for path in found if path.is_file() and not path.name.endswith(".part")]


def _whoever(unseen: list[Path]) -> str | None:
    """Return why nothing of the store may go: who else may need it."""
    return f"the clone {unseen[0]} shares the cache, and cannot be asked" if unseen else None


def _linked(project: Path, *stores: Path) -> set[tuple[int, int]]:
    """Return the files that links of the working tree lead to, and its own."""
    found = set()
    for path, _ in working_tree(project, *stores):
        with contextlib.suppress(OSError):  # leads nowhere
            found.add(inode_of(path.stat()))
    return found


def _litter(project: Path, cache: Path, staging: Path) -> Iterator[tuple[Path, str]]:
    """Yield unfinished files and folders; those of downloads, which can go on, are not among them."""
    for kind in (*MADE_KINDS, *RENDERED_KINDS, ARCHIVE, LIBRARY, CHECKPOINTS):
        for path in sorted((staging / kind).rglob("*.part")):
            yield path, "left by a killed run"
    for path in _named(cache, skip={staging}):
        yield path, "left by a killed dvc" if path.suffix == ".tmp" else "left by a killed run"
    for path in _named(project, skip={cache, staging, *(project / name for name in NOT_WALKED)}):
        yield path, "left by a killed run"


def _named(root: Path, skip: set[Path]) -> Iterator[Path]:
    for folder, names, files in os.walk(root):
        here = Path(folder)
        inner = [name for name in names if here / name not in skip]
        for name in sorted([*inner, *files]):
            if PART_NAME.search(name) or _DVC_LITTER.search(name):
                yield here / name
        names[:] = sorted(name for name in inner if not PART_NAME.search(name))


def _old_checkpoints(staging: Path) -> list[Verdict]:
    runs = sorted((path for path in (staging / CHECKPOINTS).glob("??/*") if path.is_dir()), key=last_touched_s)
    found: list[Verdict] = []
    for run in runs:
        age_days = (time.time() - last_touched_s(run)) / _DAY_S
        keep = "the newest run: training goes on from it" if run == runs[-1] else None
        if keep is None and age_days < CHECKPOINT_DAYS:
            keep = f"of the last {CHECKPOINT_DAYS} days"
        found.append((run, keep, f"checkpoints of a run that ended {age_days:.0f} days ago"))
    return found


def _name(path: Path, project: Path, cache: Path) -> str:
    root = cache if path.is_relative_to(cache) else project
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _size(path: Path) -> int:
    """Return what removing a file or folder frees."""
    files = path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]
    states = [file.lstat() for file in files]
    return sum(state.st_size for state in states if stat.S_ISREG(state.st_mode) and state.st_nlink == 1)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
        return
    path.unlink(missing_ok=True)
    if len(path.parent.name) == 2:  # of the staging store
        with contextlib.suppress(OSError):  # something else is in it
            path.parent.rmdir()


def _md5(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
