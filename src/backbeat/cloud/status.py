"""`backbeat cloud status`: of each artifact how much is here, and how much is in the bucket; nothing is hashed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from backbeat.cloud.bucket_objects import BucketObjects
from backbeat.cloud.contents import local_bytes, read_contents
from backbeat.cloud.proofs import open_proofs
from backbeat.remote.bucket import open_bucket

Share = Literal["all", "part", "none", "never made"]


@dataclass(frozen=True)
class ArtifactStatus:
    """How much of an artifact is where.

    Args:
        path: the artifact.
        stage: what makes it.
        size_bytes: its size, as the pointer says; None if it was never made.
        objects: of how many objects it consists; 0 if that is known neither here nor in the bucket.
        here_objects: how many of them are in the cache.
        here_bytes: their size.
        pushed_objects: how many are in the bucket, as its listing shows them whole.
        pushed_bytes: their size.
    """

    path: str
    stage: str
    size_bytes: int | None
    objects: int
    here_objects: int
    here_bytes: int
    pushed_objects: int
    pushed_bytes: int

    @property
    def here(self) -> Share:
        """How much of it is in the cache."""
        return self._share(self.here_objects)

    @property
    def pushed(self) -> Share:
        """How much of it is in the bucket."""
        return self._share(self.pushed_objects)

    def _share(self, objects: int) -> Share:
        if self.size_bytes is None and not self.objects:
            return "never made"
        return "none" if not objects else "all" if objects == self.objects else "part"


def status(project: Path, targets: Sequence[str] = ()) -> list[ArtifactStatus]:
    """Return how much of each artifact is in the cache and in the bucket, by one listing.

    Raises:
        CloudError: if a target means nothing, or the bucket does not answer.
    """
    bucket = open_bucket(project)
    with open_proofs(project) as proofs:
        remote = BucketObjects(bucket, proofs)
        contents = read_contents(project, targets, proofs, remote)
        found = []
        remote.find(one.oid for content in contents for one in content.needed)
        for content in contents:
            one = content.artifact
            if not content.was_made:
                found.append(ArtifactStatus(one.target, one.stage, None, 0, 0, 0, 0, 0))
                continue
            oids = {needed.oid for needed in content.needed}
            here = local_bytes(project, oids)
            there = {
                oid: stored.size_bytes for oid in oids if remote.is_listed_whole(oid) and (stored := remote.get(oid))
            }
            found.append(
                ArtifactStatus(
                    path=one.target,
                    stage=one.stage,
                    size_bytes=sum({**there, **here}.values()) if one.only else one.size_bytes,
                    # Of a folder whose list is nowhere it is not known what it consists of.
                    objects=len(oids) if content.fault is None else len(oids) + 1,
                    here_objects=len(here),
                    here_bytes=sum(here.values()),
                    pushed_objects=len(there),
                    pushed_bytes=sum(there.values()),
                )
            )
    return found
