"""Making room by removing local copies of what is verifiably in the remote.

An object is proven to be in the remote when it is listed there with the size of the local one, and its content has the
MD5 that is its name: by its ETag, which for an object of a single PUT is that MD5, else by reading it whole. Only then
the local copy goes, under all of its names: DVC's object, the entry of the staging store, the link in the workspace.
`dvc pull` brings the same bytes back. What another artifact, which stays, needs as well, is not removed.

Only names go whose content was proven, one by one, and only if they are what they were when that was done; folders go
when they are empty. What appears meanwhile is somebody's own.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from backbeat.cloud.bucket_objects import BucketObjects
from backbeat.cloud.contents import MOST_NAMED, Contents, local_bytes, read_contents
from backbeat.cloud.pointers import DIR_SUFFIX, Artifact, Needed, artifacts, cache_path
from backbeat.cloud.proofs import Proofs, open_proofs
from backbeat.errors import CloudError
from backbeat.remote.bucket import Bucket
from backbeat.storage.exclusive import exclusive
from backbeat.storage.staging import cache_dir, disk_errors, open_staging
from backbeat.storage.work import dvc_at_rest, require_nobody

_NEVER_MADE = "it was never made"
_NOT_HERE = "it is not here"

_NOTHING_THERE = frozenset({_NEVER_MADE, _NOT_HERE})


@dataclass(frozen=True)
class Evicted:
    """What became of the local copies of an artifact.

    Args:
        path: where it is in the project.
        action: whether they were removed.
        freed_bytes: what that has freed.
        reason: why, or why not.
        refused: whether something here would have been lost; nothing here is no refusal.
    """

    path: str
    action: Literal["removed", "would be removed", "kept"]
    freed_bytes: int
    reason: str
    refused: bool = False


@dataclass(frozen=True)
class _Proven:
    """A name whose content is in the remote, and what the name was when that was proven."""

    path: Path
    state: os.stat_result

    @property
    def is_unchanged(self) -> bool:
        """Whether it still is the same file, and was not written to."""
        try:
            return _stamp(self.path.lstat()) == _stamp(self.state)
        except FileNotFoundError:
            return True

    @property
    def inode(self) -> tuple[int, int] | None:
        """What file it is; None for a link to one."""
        return (self.state.st_dev, self.state.st_ino) if stat.S_ISREG(self.state.st_mode) else None


@dataclass(frozen=True)
class _Going:
    """What goes of an artifact: objects of the cache, then their names in the staging store, then the workspace's."""

    content: Contents
    cached: tuple[_Proven, ...]
    in_place: tuple[_Proven, ...]


class _RefusedError(Exception):
    """Why an artifact stays."""


def evict(project: Path, bucket: Bucket, targets: Sequence[str] = (), *, dry_run: bool = False) -> list[Evicted]:
    """Remove the local copies of artifacts that are verifiably in the remote.

    Args:
        project: the root of the repository.
        bucket: the remote.
        targets: artifacts, stages or datasets; none means all.
        dry_run: whether to prove and say what would go, and to remove nothing.

    Raises:
        CloudError: if there is no such artifact, or the remote cannot be asked.
        StorageError: if somebody is at work on the data, or the disk is read-only.
    """
    project = project.resolve()
    with (
        exclusive(project, "evict"),
        contextlib.nullcontext() if dry_run else dvc_at_rest(project),
        open_proofs(project) as proofs,
    ):
        chosen = artifacts(project, targets)
        remote = BucketObjects(bucket, proofs)
        every = read_contents(project, (), proofs, remote)
        parts = [one for one in chosen if one.only]
        if parts:
            raise CloudError(
                "a part of an artifact cannot be evicted",
                expected="whole artifacts: " + ", ".join(one.artifact.path for one in every),
                got=", ".join(one.target for one in parts),
            )
        paths = {one.path for one in chosen}
        found = {
            one.artifact.path: _examined(project, one, remote, proofs) for one in every if one.artifact.path in paths
        }
        # What any other artifact needs stays, whether or not that one is whole, if there is anything of it here.
        others = [
            one
            for one in every
            if not isinstance(found.get(one.artifact.path), _Going) and _is_here(project, one.artifact)
        ]
        unknown = [one for one in others if one.fault is not None]
        if unknown:
            found = {path: _kept_for(one, unknown[0]) for path, one in found.items()}
        staying = {needed.oid for one in others for needed in one.needed}
        going = [one for one in found.values() if isinstance(one, _Going)]
        names = {one.content.artifact.path: list(_names(project, one, staying)) for one in going}
        if going and not dry_run:
            inodes = {inode for every_name in names.values() for one in every_name if (inode := one.inode) is not None}
            require_nobody(cache_dir(project), open_staging(project).root, project, inodes=inodes)
        return [
            one
            if isinstance(one, Evicted)
            else _evicted(project, one, names[path], bucket.settings.url, dry_run=dry_run)
            for path, one in found.items()
        ]


def _examined(project: Path, content: Contents, remote: BucketObjects, proofs: Proofs) -> _Going | Evicted:
    path = content.artifact.path
    try:
        return _proven(project, content, remote, proofs)
    except _RefusedError as error:
        reason = str(error)
        return Evicted(path, "kept", 0, reason, refused=reason not in _NOTHING_THERE)


def _is_here(project: Path, artifact: Artifact) -> bool:
    if artifact.oid is None:
        return False
    # A folder's files may be in the cache for another artifact; its list is there for itself.
    return cache_path(project, artifact.oid).exists() or any(True for _ in _files(project / artifact.path))


def _kept_for(one: _Going | Evicted, unknown: Contents) -> Evicted:
    if isinstance(one, Evicted):
        return one
    reason = f"what {unknown.artifact.path} shares with it is not known: {_text(unknown.fault)}"
    return Evicted(one.content.artifact.path, "kept", 0, reason, refused=True)


def _proven(project: Path, content: Contents, remote: BucketObjects, proofs: Proofs) -> _Going:
    """Return the names that may go, everything behind them proven to be in the remote."""
    if not content.was_made:
        raise _RefusedError(_NEVER_MADE)
    place = project / content.artifact.path
    found = list(_files(place))
    cached = [one for one in content.needed if cache_path(project, one.oid).is_file()]
    if not found and not cached:
        raise _RefusedError(_NOT_HERE)
    if content.fault is not None:
        raise _RefusedError(_text(content.fault))
    states = {one.oid: cache_path(project, one.oid).lstat() for one in cached}
    # A list that is damaged here was read from the remote, which has it whole.
    files = [one for one in cached if not one.oid.endswith(DIR_SUFFIX)]
    damaged = {one.oid for one in files if proofs.state(cache_path(project, one.oid), one.md5_hex) != "ok"}
    in_place = _proven_in_place(project, content.needed, found, damaged, proofs)
    if damaged:
        names = ", ".join(sorted({one.path for one in files if one.oid in damaged})[:MOST_NAMED])
        raise _RefusedError(f"damaged in the cache, or changed through a link: {names}: backbeat verify")
    _require_stored(project, content.needed, remote)
    return _Going(
        content,
        # Lists last: without them a removal that was broken off would be harder to go on with.
        tuple(_Proven(cache_path(project, oid), state) for oid, state in reversed(states.items())),
        in_place,
    )


def _proven_in_place(
    project: Path, needed: Iterable[Needed], found: Iterable[Path], damaged: set[str], proofs: Proofs
) -> tuple[_Proven, ...]:
    """Return what is in the workspace, all of which is what the pointer says."""
    expected = {project / one.path: one for one in needed if not one.oid.endswith(DIR_SUFFIX)}
    proven = []
    for path in found:
        one = expected.get(path)
        if one is None:
            raise _RefusedError(f"{path.relative_to(project)} is not part of it: remove it, or dvc commit")
        state = path.lstat()
        # A link to nothing has nothing to lose: a removal that was broken off leaves such.
        leads_nowhere = path.is_symlink() and not path.exists()
        if one.oid not in damaged and not leads_nowhere and proofs.state(path, one.md5_hex) != "ok":
            raise _RefusedError(
                f"{path.relative_to(project)} has changed since it was recorded: dvc commit it, or dvc checkout"
            )
        proven.append(_Proven(path, state))
    return tuple(proven)


def _require_stored(project: Path, needed: Sequence[Needed], remote: BucketObjects) -> None:
    files = [one.oid for one in needed if not one.oid.endswith(DIR_SUFFIX)]
    sizes = local_bytes(project, files)
    remote.find(one.oid for one in needed)
    missing = []
    for one in needed:
        stored = remote.known(one.oid)
        if stored is None:
            missing.append((one.path, "is not there"))
        elif stored.size_bytes != sizes.get(one.oid, stored.size_bytes):
            missing.append((one.path, f"is there with {stored.size_bytes:,} bytes"))
    if missing:
        path, why = missing[0]
        raise _RefusedError(
            f"the only copy: {len(missing)} of {len(needed)} objects are not in the remote ({path} {why})"
        )
    states = remote.states(sorted({one.oid for one in needed}), sizes)
    wrong = [one.path for one in needed if states[one.oid] != "ok"]
    if wrong:
        raise _RefusedError(f"the only copy: {wrong[0]} has other bytes in the remote")


def _names(project: Path, going: _Going, staying: set[str]) -> Iterator[_Proven]:
    """Yield every name that goes; the workspace's last, so that a cache that cannot be written leaves it whole."""
    kept = {cache_path(project, oid) for oid in staying}
    cached = [one for one in going.cached if one.path not in kept]
    inodes = {one.inode: one.state for one in cached}
    for folder, _, names in os.walk(open_staging(project).root):
        for name in names:
            path = Path(folder, name)
            entry = _Proven(path, path.lstat())
            if entry.inode is not None and entry.inode in inodes:
                # What was proven is the file, as it was before it was hashed.
                yield _Proven(path, inodes[entry.inode])
    yield from cached
    yield from going.in_place


def _evicted(project: Path, going: _Going, names: Sequence[_Proven], url: str, *, dry_run: bool) -> Evicted:
    path = going.content.artifact.path
    freed_bytes = _freed_bytes(names)
    reason = f"proven to be in {url}"
    if dry_run:
        return Evicted(path, "would be removed", freed_bytes, reason)
    gone, left = [], []
    place = project / path
    with disk_errors(cache_dir(project)):
        for one in names:
            if one.is_unchanged:
                one.path.unlink(missing_ok=True)
                gone.append(one)
            else:
                left.append(one.path)
        _remove_empty(place)
    left += [found for found in _files(place) if found not in left]
    if not left:
        return Evicted(path, "removed", freed_bytes, reason)
    named = ", ".join(os.path.relpath(one, project) for one in left[:MOST_NAMED])
    more = f" and {len(left) - MOST_NAMED:,} more" if left[MOST_NAMED:] else ""
    return Evicted(path, "removed", _freed_bytes(gone), f"{reason}; written meanwhile, and kept: {named}{more}", True)


def _remove_empty(place: Path) -> None:
    """Remove folders that nothing is in."""
    if not place.is_dir() or place.is_symlink():
        return
    for folder, _, _ in os.walk(place, topdown=False):
        with contextlib.suppress(OSError):
            Path(folder).rmdir()


def _files(place: Path) -> Iterator[Path]:
    """Yield what is at a place, and in it: all that is no folder; a link to a folder is a link."""
    if place.is_symlink() or place.is_file():
        yield place
    for folder, folders, names in os.walk(place) if not place.is_symlink() else ():
        folders.sort()
        links = [name for name in folders if Path(folder, name).is_symlink()]
        yield from (Path(folder, name) for name in sorted([*names, *links]))


def _freed_bytes(names: Sequence[_Proven]) -> int:
    """Return how many bytes removing these names frees: none where another name of a file stays."""
    counts = Counter(one.inode for one in names)
    states = {one.inode: one.state for one in names if one.inode is not None}
    return sum(state.st_size for inode, state in states.items() if counts[inode] >= state.st_nlink)


def _stamp(state: os.stat_result) -> tuple[int, ...]:
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns


def _text(error: CloudError | None) -> str:
    return "" if error is None else error.what if error.next_step is None else f"{error.what}: {error.next_step}"
