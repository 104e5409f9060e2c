"""What the artifacts consist of, file by file, and how much of it is in the cache."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from backbeat.cloud.bucket_objects import BucketObjects
from backbeat.cloud.pointers import DIR_SUFFIX, Artifact, Needed, artifacts, cache_path, objects
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
        needed: its objects: of a folder its list first; only that where the list cannot be read.
        fault: why its list cannot be read.
    """

    artifact: Artifact
    needed: tuple[Needed, ...]
    fault: CloudError | None = None


def read_contents(
    project: Path, targets: Sequence[str], proofs: Proofs, remote: BucketObjects | None, *, whole: bool = False
) -> list[Contents]:
    """Return what the artifacts that these targets mean consist of, or, with `whole`, those that they are a part of.

    Lists of folders are read from the cache if they are whole there, else from the bucket. An artifact that was never
    made is left out, and said, unless it was asked for.

    Raises:
        CloudError: if a target means nothing, was never made, or the bucket does not answer.
    """
    chosen = artifacts(project, targets)
    if whole:
        chosen = list({one.path: replace(one, only="") for one in chosen}.values())
    for one in chosen:
        if one.oid is None and not targets:
            _log.warning("%s was never made: dvc repro %s", one.path, one.stage)
    made = [one for one in chosen if one.oid is not None or targets]
    if remote is not None:
        lists = [one.oid for one in made if one.oid is not None and one.is_folder]
        remote.find(oid for oid in lists if proofs.state(cache_path(project, oid), _md5(oid)) != "ok")
    return [_contents(project, one, proofs, remote) for one in made]


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
    def read_listing(oid: str) -> bytes:
        file = cache_path(project, oid)
        if proofs.state(file, _md5(oid)) == "ok":
            return file.read_bytes()
        if remote is None or remote.get(oid) is None:
            where = "in the cache" if remote is None else "in the cache or the bucket"
            raise CloudError(
                f"the list of files of {artifact.path} is not {where}",
                expected=oid,
                next_step="backbeat cloud pull" if remote is None else _from_elsewhere(artifact.stage),
            )
        return remote.read(oid)

    # The content of such an artifact is in another error's hands: that it was never made.
    if artifact.oid is None:
        return Contents(artifact, tuple(objects(artifact, read_listing)))
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


def _md5(oid: str) -> str:
    return oid.removesuffix(DIR_SUFFIX)
