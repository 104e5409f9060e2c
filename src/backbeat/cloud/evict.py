"""Where artifacts are, and making room by removing local copies of what is verifiably in the remote.

An object is proven to be in the remote when it is listed there with the size of the local one, and its content has the
MD5 that is its name: by its ETag, which for an object of a single PUT is that MD5, else by reading it whole. Only then
the local copy goes, under all of its names: DVC's object, the entry of the staging store, the link in the workspace.
`dvc pull` brings the same bytes back. What another artifact, which stays, needs as well, is not removed.
"""

from __future__ import annotations

import contextlib
import shutil
import stat
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from backbeat.cloud.bucket_objects import proven_in_remote
from backbeat.cloud.exclusive import exclusive
from backbeat.cloud.pointers import Artifact, Needed, artifacts, cache_path, objects
from backbeat.cloud.proofs import md5_of
from backbeat.errors import BackbeatError, CloudError
from backbeat.remote.bucket import Bucket, StoredObject
from backbeat.storage.staging import cache_dir, open_staging
from backbeat.storage.work import dvc_at_rest, require_nobody

_NEVER_MADE = "it was never made"
_NOT_HERE = "it is not here"

Here = Literal["linked", "copied", "in the cache", "incomplete", "not here"]
Safety = Literal["safe in the remote", "only copy", "not here, in the remote", "lost", "unknown", "never made"]


@dataclass(frozen=True)
class Whereabouts:
    """Where an artifact is.

    Args:
        path: where it is in the project.
        size_bytes: its size, as its pointer says.
        here: whether its files are links to the cache, copies, or only in the cache.
        safety: whether the remote has it, too, by name and size. `evict` proves the content as well.
        why: what is missing, or why it is not known; None if there is nothing to say.
    """

    path: str
    size_bytes: int | None
    here: Here
    safety: Safety
    why: str | None = None


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
    action: Literal["removed", "kept"]
    freed_bytes: int
    reason: str
    refused: bool = False


def listing_of(bucket: Bucket) -> dict[str, StoredObject]:
    """Return DVC's objects in the remote, by their path below its folder: `files/md5/…`.

    Raises:
        CloudError: if it cannot be listed.
    """
    prefix = bucket.settings.key("files/md5/")
    start = len(bucket.settings.key("files/md5/")) - len("files/md5/")
    return {stored.key[start:]: stored for stored in bucket.list(prefix)}


def whereabouts(project: Path, remote: Mapping[str, StoredObject] | None, why_unknown: str | None) -> list[Whereabouts]:
    """Return where every artifact is.

    Args:
        project: the root of the repository.
        remote: what `listing_of` has returned; None if that is not known.
        why_unknown: the reason for that.

    Raises:
        CloudError: if DVC cannot read the pipeline.
    """
    return [_whereabouts(project, one, remote, why_unknown) for one in artifacts(project)]


def _whereabouts(
    project: Path, artifact: Artifact, remote: Mapping[str, StoredObject] | None, why_unknown: str | None
) -> Whereabouts:
    answer = Whereabouts(artifact.path, artifact.size_bytes, "not here", "never made")
    if artifact.oid is None:
        return answer
    needed = _local_objects(project, artifact)
    if needed is None:
        # The list of its files is not here, so neither is it as a whole.
        top = Needed(artifact.oid, artifact.path).name
        if remote is None:
            return replace(answer, safety="unknown", why=why_unknown)
        return replace(answer, safety="not here, in the remote" if top in remote else "lost")
    cached = [cache_path(project, one.oid).is_file() for one in needed]
    here: Here = "not here" if not any(cached) else "incomplete" if not all(cached) else _form(project, needed)
    if remote is None:
        return replace(answer, here=here, safety="unknown", why=why_unknown)
    missing = [one for one in needed if not _listed(project, one, remote)]
    why = f"{len(missing)} of {len(needed)} objects are not in the remote" if missing else None
    if here in {"not here", "incomplete"}:
        return replace(answer, here=here, safety="lost" if missing else "not here, in the remote", why=why)
    return replace(answer, here=here, safety="only copy" if missing else "safe in the remote", why=why)


def evict(project: Path, bucket: Bucket, targets: Sequence[str] = (), *, dry_run: bool = False) -> list[Evicted]:
    """Remove the local copies of artifacts that are verifiably in the remote.

    Args:
        project: the root of the repository.
        bucket: the remote.
        targets: artifacts, stages or datasets; none means all.
        dry_run: whether to prove and say what would go, and to remove nothing.

    Raises:
        CloudError: if there is no such artifact, or the remote cannot be asked.
        StorageError: if somebody is at work on the data.
    """
    project = project.resolve()
    every = artifacts(project)
    chosen = artifacts(project, targets)
    parts = [one.path for one in chosen if one.only]
    if parts:
        raise CloudError(
            "a part of an artifact cannot be evicted",
            expected="whole artifacts: " + ", ".join(one.path for one in every),
            got=", ".join(f"{one.path}/{one.only}" for one in chosen if one.only),
        )
    with exclusive(project, "evict"):
        remote = listing_of(bucket)
        refusals = {one.path: _refusal(project, one, bucket, remote) for one in chosen}
        going = {one.path for one in chosen if refusals[one.path] is None}
        # What any other artifact needs stays, whether or not that one is whole.
        others = [one for one in every if one.path not in going]
        staying = {needed.oid for one in others for needed in _local_objects(project, one) or []}
        with contextlib.nullcontext() if dry_run else dvc_at_rest(project):
            return [
                _evicted(project, one, refusals[one.path], staying, bucket.settings.url, dry_run=dry_run)
                for one in chosen
            ]


def _evicted(
    project: Path, artifact: Artifact, refusal: str | None, staying: set[str], url: str, *, dry_run: bool
) -> Evicted:
    if refusal is not None:
        return Evicted(artifact.path, "kept", 0, refusal, refused=refusal not in {_NEVER_MADE, _NOT_HERE})
    freed = _remove(project, artifact, staying, dry_run=dry_run)
    return Evicted(artifact.path, "removed", freed, f"proven to be in {url}")


def _refusal(project: Path, artifact: Artifact, bucket: Bucket, remote: Mapping[str, StoredObject]) -> str | None:
    """Return why the local copies of an artifact may not go; None if they may."""
    if artifact.oid is None:
        return _NEVER_MADE
    needed = _local_objects(project, artifact)
    if needed is None or not any(cache_path(project, one.oid).is_file() for one in needed):
        return _NOT_HERE
    changed = _changed(project, artifact, needed)
    if changed is not None:
        return changed
    missing = [one for one in needed if not _listed(project, one, remote)]
    if missing:
        first = missing[0]
        stored = remote.get(first.name)
        why = "is not there" if stored is None else f"is there with {stored.size_bytes:,} bytes"
        return f"the only copy: {len(missing)} of {len(needed)} objects are not in the remote ({first.path} {why})"
    proven = proven_in_remote(project, (one.oid for one in needed), bucket)
    wrong = [one.path for one in needed if one.oid not in proven]
    return f"the only copy: {wrong[0]} has other bytes in the remote" if wrong else None


def _changed(project: Path, artifact: Artifact, needed: Sequence[Needed]) -> str | None:
    """Return what in the workspace is not in the cache, and would be lost with its place: a file of somebody's own."""
    place = project / artifact.path
    if not place.exists():
        return None
    expected = {project / one.path for one in needed if not one.oid.endswith(".dir")}
    by_path = {project / one.path: one for one in needed if not one.oid.endswith(".dir")}
    found = [path for path in place.rglob("*") if not path.is_dir() or path.is_symlink()] if place.is_dir() else [place]
    for path in sorted(found):
        if path not in expected:
            return f"{path.relative_to(project)} is not part of it: remove it, or dvc commit"
        cached = cache_path(project, by_path[path].oid)
        same = path.exists() and cached.exists() and path.samefile(cached)
        if not same and path.is_file() and md5_of(path) != by_path[path].md5_hex:
            return f"{path.relative_to(project)} has changed since it was recorded: dvc commit it, or dvc checkout"
    return None


def _remove(project: Path, artifact: Artifact, staying: set[str], *, dry_run: bool) -> int:
    """Remove objects, their further names and the place in the workspace; returns how many bytes that frees."""
    needed = [one for one in _local_objects(project, artifact) or [] if one.oid not in staying]
    cached = {path: path.stat() for one in needed if (path := cache_path(project, one.oid)).is_file()}
    inodes = {(state.st_dev, state.st_ino) for state in cached.values()}
    staged = [path for path in open_staging(project).root.rglob("*") if _inode(path) in inodes]
    place = project / artifact.path
    in_place = [path for path in ([place] if place.is_file() else place.rglob("*")) if _inode(path) is not None]
    freed = _freed([*cached, *staged, *in_place])
    if dry_run:
        return freed
    require_nobody(cache_dir(project), open_staging(project).root, project, inodes=inodes)
    # The workspace first: a link never leads nowhere for longer than the removal takes.
    _remove_place(place)
    for path in [*staged, *cached]:
        path.unlink(missing_ok=True)
    return freed


def _remove_place(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


def _local_objects(project: Path, artifact: Artifact) -> list[Needed] | None:
    """Return the objects of an artifact; None if the list of its files is not in the cache, or damaged."""
    try:
        return objects(artifact, lambda oid: cache_path(project, oid).read_bytes())
    except (BackbeatError, OSError):
        return None


def _listed(project: Path, needed: Needed, remote: Mapping[str, StoredObject]) -> bool:
    """Return whether the remote lists an object, with the size of the local one where that is here."""
    stored = remote.get(needed.name)
    local = cache_path(project, needed.oid)
    return stored is not None and (not local.is_file() or stored.size_bytes == local.stat().st_size)


def _form(project: Path, needed: Sequence[Needed]) -> Here:
    files = [one for one in needed if not one.oid.endswith(".dir")]
    places = [(project / one.path, cache_path(project, one.oid)) for one in files]
    if not all(path.exists() for path, _ in places):
        return "in the cache"
    return "linked" if all(path.samefile(cached) for path, cached in places) else "copied"


def _freed(paths: Sequence[Path]) -> int:
    """Return how many bytes removing these files frees: none where another name of a file stays."""
    names = Counter(_inode(path) for path in paths)
    sizes = {_inode(path): path.stat() for path in paths}
    return sum(state.st_size for inode, state in sizes.items() if names[inode] >= state.st_nlink)


def _inode(path: Path) -> tuple[int, int] | None:
    state = path.lstat()
    return (state.st_dev, state.st_ino) if stat.S_ISREG(state.st_mode) else None
