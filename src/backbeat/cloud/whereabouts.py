"""Where artifacts are: linked or copied in the workspace, only in the cache, in the remote, or nowhere any more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from backbeat.cloud.bucket_objects import BucketObjects
from backbeat.cloud.contents import Contents, read_contents
from backbeat.cloud.pointers import DIR_SUFFIX, Needed, cache_path
from backbeat.cloud.proofs import Proofs, open_proofs
from backbeat.errors import CloudError
from backbeat.remote.bucket import Bucket, StoredObject

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


def listing_of(bucket: Bucket) -> dict[str, StoredObject]:
    """Return DVC's objects in the remote, by their path below its folder: `files/md5/…`.

    Raises:
        CloudError: if it cannot be listed.
    """
    prefix = bucket.settings.key("files/md5/")
    start = len(prefix) - len("files/md5/")
    return {stored.key[start:]: stored for stored in bucket.list(prefix)}


def whereabouts(
    project: Path, remote: Mapping[str, StoredObject] | None, why_unknown: str | None, bucket: Bucket | None = None
) -> list[Whereabouts]:
    """Return where every artifact is.

    Args:
        project: the root of the repository.
        remote: what `listing_of` has returned; None if that is not known.
        why_unknown: the reason for that.
        bucket: where lists of files are read from that are not whole here; None means nowhere.

    Raises:
        CloudError: if DVC cannot read the pipeline.
    """
    with open_proofs(project) as proofs:
        listed = None if remote is None or bucket is None else BucketObjects(bucket, proofs, remote.values())
        try:
            contents = read_contents(project, (), proofs, listed)
        except CloudError:
            # It was listed, and may not be read: what the lists here say is known.
            contents = read_contents(project, (), proofs, None)
        return [_whereabouts(project, one, proofs, remote, why_unknown) for one in contents]


def _whereabouts(
    project: Path, content: Contents, proofs: Proofs, remote: Mapping[str, StoredObject] | None, why_unknown: str | None
) -> Whereabouts:
    answer = Whereabouts(content.artifact.path, content.artifact.size_bytes, "not here", "never made")
    if not content.was_made:
        return answer
    here: Here
    if content.fault is not None:
        # Without its list nobody knows what is here of it, or in the remote: that there is something can be seen.
        listing = content.needed[0]
        is_damaged = proofs.state(cache_path(project, listing.oid), listing.md5_hex) == "damaged"
        here = "incomplete" if is_damaged or _has_files(project / content.artifact.path) else "not here"
        why = content.fault.what if here == "incomplete" else None
        if remote is None:
            return replace(answer, here=here, safety="unknown", why=why or why_unknown)
        return replace(
            answer, here=here, safety="not here, in the remote" if listing.name in remote else "lost", why=why
        )
    cached = [cache_path(project, one.oid).is_file() for one in content.needed]
    here = "not here" if not any(cached) else "incomplete" if not all(cached) else _form(project, content.needed)
    if remote is None:
        return replace(answer, here=here, safety="unknown", why=why_unknown)
    missing = [one for one in content.needed if not _listed(project, one, remote)]
    why = f"{len(missing)} of {len(content.needed)} objects are not in the remote" if missing else None
    if here in {"not here", "incomplete"}:
        return replace(answer, here=here, safety="lost" if missing else "not here, in the remote", why=why)
    damaged = [one for one in content.needed if one.oid.endswith(DIR_SUFFIX) and not _is_whole(project, one, proofs)]
    if damaged:
        why = f"{why}; " if why else ""
        why += "the list of its files is damaged here: backbeat verify --repair"
    return replace(answer, here=here, safety="only copy" if missing else "safe in the remote", why=why)


def _is_whole(project: Path, needed: Needed, proofs: Proofs) -> bool:
    return proofs.state(cache_path(project, needed.oid), needed.md5_hex, anew=True) == "ok"


def _has_files(place: Path) -> bool:
    return place.is_symlink() or any(not path.is_dir() for path in ([place] if place.is_file() else place.rglob("*")))


def _listed(project: Path, needed: Needed, remote: Mapping[str, StoredObject]) -> bool:
    """Return whether the remote lists an object, with the size of the local one where that is here."""
    stored = remote.get(needed.name)
    local = cache_path(project, needed.oid)
    if stored is None or not local.is_file():
        return stored is not None
    # The size of a list that was read from the remote says nothing about the one here.
    return needed.oid.endswith(DIR_SUFFIX) or stored.size_bytes == local.stat().st_size


def _form(project: Path, needed: Sequence[Needed]) -> Here:
    files = [one for one in needed if not one.oid.endswith(DIR_SUFFIX)]
    places = [(project / one.path, cache_path(project, one.oid)) for one in files]
    if not all(path.exists() for path, _ in places):
        return "in the cache"
    return "linked" if all(path.samefile(cached) for path, cached in places) else "copied"
