"""`backbeat verify`: each object that the pointers need, in the cache, the workspace and the bucket; and its repair.

What is damaged is healed from a side that is whole, never from one that was not hashed (`repair`), and only within the
budgets: what will move is known before its first byte does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from backbeat.cloud.bill import Bill, draw_up, require_affordable, speed
from backbeat.cloud.bucket_objects import BucketObjects
from backbeat.cloud.contents import Contents, local_bytes, local_states, read_contents, unique
from backbeat.cloud.pointers import DIR_SUFFIX, Artifact
from backbeat.cloud.prices import CloudConfig, load_cloud_config
from backbeat.cloud.proofs import Proofs, State, open_proofs
from backbeat.cloud.repair import draw_up_repair, heal
from backbeat.cloud.workspace import FileState, file_states, unversioned
from backbeat.datasets.places import RAW_FOLDER
from backbeat.errors import CloudError
from backbeat.remote.bucket import open_bucket
from backbeat.storage.exclusive import exclusive
from backbeat.storage.staging import open_staging


@dataclass(frozen=True)
class Checked:
    """An object, or a file that it is in the workspace, and how it is everywhere.

    Args:
        path: where it belongs in the project.
        oid: its name: the MD5 of its content, with `.dir` if it is a folder's list of files.
        stage: what makes it.
        cache: how it is in DVC's cache.
        workspace: how it is at its path; None for a list of files, which is in the cache alone.
        bucket: how it is in the bucket; None if that was not asked.
    """

    path: str
    oid: str
    stage: str
    cache: State
    workspace: FileState | None
    bucket: State | None

    @property
    def is_right(self) -> bool:
        """Whether it is whole wherever it should be."""
        return self.cache == "ok" and self.workspace in {"ok", None} and self.bucket in {"ok", None}


@dataclass(frozen=True)
class Verified:
    """What was found, after the repair if there was one.

    Args:
        checked: every object, once for every path.
        dangling: links to raw files that are not in the staging store any more.
        repaired: those that were not right before, and are now.
        quarantined: where damaged files went.
        obstacle: what stood in the way of a repair.
        never_made: artifacts of the pipeline that no pointer has a hash of.
        unversioned: files in the folders of artifacts that no list has.
        was_declined: whether somebody did not agree to what would have moved.
    """

    checked: tuple[Checked, ...]
    dangling: tuple[str, ...] = ()
    repaired: tuple[Checked, ...] = ()
    quarantined: tuple[Path, ...] = ()
    obstacle: CloudError | None = None
    never_made: tuple[Artifact, ...] = ()
    unversioned: tuple[str, ...] = ()
    was_declined: bool = False

    @property
    def wrong(self) -> tuple[Checked, ...]:
        """What is not right."""
        return tuple(one for one in self.checked if not one.is_right)


def verify(
    project: Path,
    targets: Sequence[str] = (),
    *,
    remote: bool = False,
    repair: bool = False,
    full: bool = False,
    agree: Callable[[Bill], bool] = lambda _: True,
) -> Verified:
    """Prove every object that the pointers need, and heal what is damaged or missing if so asked.

    Args:
        project: the root of the repository.
        targets: datasets, stages or paths; none means every artifact.
        remote: whether to look into the bucket, too.
        repair: whether to heal; the bucket itself only with `remote`.
        full: whether to hash again what was found whole before, and to read all of the bucket's objects.
        agree: asked before the first byte is read from the bucket by `full`, and before a repair; False ends it.

    Raises:
        CloudError: if a target means nothing, the bucket does not answer, or a budget would be exceeded.
        StorageError: if the disk has no room for a repair.
    """
    bucket = open_bucket(project) if remote or repair else None
    with exclusive(project, "repair") if repair else contextlib.nullcontext(), open_proofs(project) as proofs:
        objects = None if bucket is None else BucketObjects(bucket, proofs)
        asked = objects if remote else None
        contents = read_contents(project, targets, proofs, asked)
        never_made = tuple(one.artifact for one in contents if not one.was_made)
        if asked is not None and full:
            config = load_cloud_config(project)
            if not _agreed([_reading(project, contents, asked, config)], config, agree):
                return Verified((), never_made=never_made, was_declined=True)
        dangling = () if targets else _dangling(project)
        found = Verified(
            _look(project, contents, proofs, asked, full=full),
            dangling,
            never_made=never_made,
            unversioned=unversioned(project, contents),
        )
        if not repair or objects is None or not found.wrong:
            return found
        config = load_cloud_config(project)
        known_bad = {one.oid for one in found.checked if one.bucket == "damaged"}
        bills = draw_up_repair(project, targets, known_bad, proofs, objects, config, heal_bucket=remote)
        if not _agreed(bills, config, agree):
            return replace(found, was_declined=True)
        damaged = {one.oid for one in found.checked if one.cache == "damaged"}
        aside, obstacle = heal(project, targets, damaged, known_bad, proofs, objects, config, heal_bucket=remote)
        contents = read_contents(project, targets, proofs, asked)
        after = _look(project, contents, proofs, asked, full=False)
        right = {(one.path, one.oid) for one in after if one.is_right}
        return replace(
            found,
            checked=after,
            repaired=tuple(one for one in found.wrong if (one.path, one.oid) in right),
            quarantined=aside,
            obstacle=obstacle,
            unversioned=unversioned(project, contents),
        )


def _agreed(bills: Sequence[Bill], config: CloudConfig, agree: Callable[[Bill], bool]) -> bool:
    for bill in bills:
        require_affordable(bill, config, None)
    return all(agree(bill) for bill in bills)


def _reading(project: Path, contents: Sequence[Contents], remote: BucketObjects, config: CloudConfig) -> Bill:
    needed = unique(contents)
    remote.find(needed)
    sizes = {oid: stored.size_bytes for oid in needed if (stored := remote.get(oid)) is not None}
    bandwidth = speed(open_staging(project), "pull", None)
    return draw_up("pull", remote.bucket.settings.url, {}, sizes, remote.stored_bytes, config, bandwidth)


def _look(
    project: Path, contents: Sequence[Contents], proofs: Proofs, remote: BucketObjects | None, *, full: bool
) -> tuple[Checked, ...]:
    needed = unique(contents)
    cache = local_states(project, needed.values(), proofs, anew=full)
    workspace = file_states(project, contents, proofs, anew=full)
    whole_bytes = local_bytes(project, [oid for oid, state in cache.items() if state == "ok"])
    bucket = None if remote is None else remote.states(needed, whole_bytes, read=needed if full else ())
    return tuple(
        Checked(
            path=one.path,
            oid=one.oid,
            stage=content.artifact.stage,
            cache=cache[one.oid],
            workspace=None if one.oid.endswith(DIR_SUFFIX) else workspace[one.path],
            bucket=None if bucket is None else bucket[one.oid],
        )
        for content in contents
        for one in content.needed
    )


def _dangling(project: Path) -> tuple[str, ...]:
    # Raw files are not DVC's cargo: they come from their publisher, who proves them is `backbeat datasets verify`.
    links = (path for path in (project / RAW_FOLDER).rglob("*") if path.is_symlink() and not path.exists())
    return tuple(sorted(path.relative_to(project).as_posix() for path in links))
