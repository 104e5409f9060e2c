"""What the artifacts consist of, file by file, and how much of it is in the cache."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from backbeat.cloud.bucket_objects import BucketObjects
from backbeat.cloud.pointers import DIR_SUFFIX, Artifact, Needed, artifacts, cache_path, never_made, objects
from backbeat.cloud.proofs import Proofs, State
from backbeat.errors import CloudError
from backbeat.progress import progress

_log = logging.getLogger(__name__)

# Beyond so many, a message says how many more there are.
MOST_NAMED = 6


@dataclass(frozen=True)
class Contents:
    """An artifact and its objects.

    Args:
        artifact: the artifact.
        needed: its objects: of a folder its list first; only that where the list cannot be read; none where it was
            never made.
        fault: why its list cannot be read, or that it was never made.
    """

    artifact: Artifact
    needed: tuple[Needed, ...]
    fault: CloudError | None = None

    @property
    def was_made(self) -> bool:
        """Whether a pointer has its hash."""
        return self.artifact.oid is not None


def read_contents(
    project: Path, targets: Sequence[str], proofs: Proofs, remote: BucketObjects | None, *, whole: bool = False
) -> list[Contents]:
    """Return what the artifacts that these targets mean consist of, or, with `whole`, those that they are a part of.

    Lists of folders are read from the cache if they are whole there, else from the bucket.

    Raises:
        CloudError: if a target means nothing, or the bucket does not answer.
    """
    chosen = artifacts(project, targets)
    if whole:
        chosen = list({one.path: replace(one, only="") for one in chosen}.values())
    if remote is not None:
        lists = [one.oid for one in chosen if one.oid is not None and one.is_folder]
        remote.find(oid for oid in lists if _list_state(project, oid, proofs) != "ok")
    return [_contents(project, one, proofs, remote) for one in chosen]


def require_made(contents: Sequence[Contents], targets: Sequence[str]) -> list[Contents]:
    """Return the contents of those artifacts that were made; the others are said.

    Raises:
        CloudError: if one was never made that these targets mean, or none was made of all that there are.
    """
    made = [one for one in contents if one.was_made]
    for one in contents:
        if one.fault is not None and not one.was_made:
            if targets or not made:
                raise one.fault
            _log.warning("%s was never made: dvc repro %s", one.artifact.path, one.artifact.stage)
    return made


def listing_reader(
    project: Path, artifact: Artifact, proofs: Proofs, remote: BucketObjects | None
) -> Callable[[str], bytes]:
    """Return what reads the list of an artifact's files: from the cache if it is whole there, else from the bucket."""

    def read(oid: str) -> bytes:
        state = _list_state(project, oid, proofs)
        if state == "ok":
            return cache_path(project, oid).read_bytes()
        if remote is None:
            raise CloudError(
                f"the list of files of {artifact.path} is {'damaged' if state == 'damaged' else 'not'} in the cache",
                expected=oid,
                next_step="backbeat verify --repair" if state == "damaged" else "backbeat cloud pull",
            )
        if remote.get(oid) is None:
            raise CloudError(
                f"the list of files of {artifact.path} is not "
                + ("whole in the cache, and not in the bucket" if state == "damaged" else "in the cache or the bucket"),
                expected=oid,
                next_step=_from_elsewhere(artifact.stage),
            )
        return remote.read(oid)

    return read


def unique(contents: Iterable[Contents]) -> dict[str, Needed]:
    """Return every object once, by its name; files before lists, which is the order of sending."""
    every = {one.oid: one for content in contents for one in reversed(content.needed)}
    return dict(sorted(every.items(), key=lambda item: item[0].endswith(DIR_SUFFIX)))


def local_states(project: Path, needed: Iterable[Needed], proofs: Proofs, *, anew: bool = False) -> dict[str, State]:
    """Return of each object whether it is in the cache, and whole.

    Args:
        project: the root of the repository.
        needed: the objects.
        proofs: what was found whole before.
        anew: whether to hash what has not changed since it was found whole, too.
    """
    every = list(needed)
    with progress("check the cache", len(every), unit="objects") as advance:
        found: dict[str, State] = {}
        for one in every:
            found[one.oid] = proofs.state(cache_path(project, one.oid), one.md5_hex, anew=anew)
            advance(1)
    return found


def local_bytes(project: Path, oids: Iterable[str]) -> dict[str, int]:
    """Return the sizes of those of these objects that are in the cache."""
    found = {}
    for oid in oids:
        try:
            found[oid] = cache_path(project, oid).stat().st_size
        except OSError:
            continue
    return found


def named(needed: Iterable[Needed]) -> str:
    """Return the paths of these objects for a message: the first few, and how many more."""
    paths = sorted(one.path + (" (its list of files)" if one.oid.endswith(DIR_SUFFIX) else "") for one in needed)
    more = [f"and {len(paths) - MOST_NAMED:,} more"] if len(paths) > MOST_NAMED else []
    return ", ".join([*paths[:MOST_NAMED], *more])


def stages(contents: Iterable[Contents], oids: Iterable[str]) -> str:
    """Return what makes the artifacts to which these objects belong, for a message."""
    wanted = set(oids)
    return " ".join(
        sorted({one.artifact.stage for one in contents if any(needed.oid in wanted for needed in one.needed)})
    )


def _contents(project: Path, artifact: Artifact, proofs: Proofs, remote: BucketObjects | None) -> Contents:
    if artifact.oid is None:
        return Contents(artifact, (), never_made(artifact))
    read_listing = listing_reader(project, artifact, proofs, remote)
    # Whatever the bucket refuses is said; what it holds and is wrong belongs to this artifact.
    content: bytes | None = None
    if artifact.is_folder:
        try:
            content = read_listing(artifact.oid)
        except CloudError as error:
            if error.__cause__ is not None:
                raise
            return Contents(artifact, (Needed(artifact.oid, artifact.path),), error)
    try:
        return Contents(artifact, tuple(objects(artifact, lambda _: content or b"")))
    except CloudError as error:
        if artifact.only and "damaged" not in error.what:
            raise
        return Contents(artifact, (Needed(artifact.oid, artifact.path),), error)


def _from_elsewhere(stage: str) -> str:
    return f"in a clone that has it: backbeat cloud push; or make it again: dvc repro {stage}"


def _list_state(project: Path, oid: str, proofs: Proofs) -> State:
    # Always anew: a list is small, and what it does not name is taken for nobody's.
    return proofs.state(cache_path(project, oid), oid.removesuffix(DIR_SUFFIX), anew=True)
