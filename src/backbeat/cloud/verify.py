"""`backbeat verify`: each object that the pointers need, in the cache, the workspace and the bucket; and its repair.

What is damaged is healed from a side that is whole, never from one that was not hashed: the cache from the bucket or
from a copy in the workspace, the bucket from the cache, the workspace by checking it out.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from backbeat.cloud.bucket_objects import BucketObjects
from backbeat.cloud.contents import Contents, local_bytes, local_states, read_contents, unique
from backbeat.cloud.exclusive import exclusive
from backbeat.cloud.pointers import DIR_SUFFIX, cache_path
from backbeat.cloud.prices import load_cloud_config
from backbeat.cloud.proofs import Proofs, State, open_proofs
from backbeat.cloud.pull import READ_ONLY, fetch
from backbeat.cloud.push import send
from backbeat.cloud.quarantine import quarantine
from backbeat.cloud.workspace import FileState, check_out, file_states, files
from backbeat.datasets.places import RAW_FOLDER
from backbeat.errors import CloudError
from backbeat.remote.bucket import open_bucket
from backbeat.storage.staging import new_file


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
    """

    checked: tuple[Checked, ...]
    dangling: tuple[str, ...] = ()
    repaired: tuple[Checked, ...] = ()
    quarantined: tuple[Path, ...] = ()
    obstacle: CloudError | None = None

    @property
    def wrong(self) -> tuple[Checked, ...]:
        """What is not right."""
        return tuple(one for one in self.checked if not one.is_right)


def verify(
    project: Path, targets: Sequence[str] = (), *, remote: bool = False, repair: bool = False, full: bool = False
) -> Verified:
    """Prove every object that the pointers need, and heal what is damaged or missing if so asked.

    Args:
        project: the root of the repository.
        targets: datasets, stages or paths; none means every artifact.
        remote: whether to look into the bucket, too.
        repair: whether to heal; the bucket itself only with `remote`.
        full: whether to hash again what was found whole before, and to read all of the bucket's objects.

    Raises:
        CloudError: if a target means nothing, or the bucket does not answer.
    """
    bucket = open_bucket(project) if remote or repair else None
    with exclusive(project, "repair") if repair else contextlib.nullcontext(), open_proofs(project) as proofs:
        objects = None if bucket is None else BucketObjects(bucket, proofs)
        asked = objects if remote else None
        contents = read_contents(project, targets, proofs, asked)
        dangling = () if targets else _dangling(project)
        found = _look(project, contents, proofs, asked, full=full)
        if not repair or objects is None or all(one.is_right for one in found):
            return Verified(found, dangling)
        aside, obstacle = _heal(project, targets, found, proofs, objects, heal_bucket=remote)
        contents = read_contents(project, targets, proofs, asked)
        after = _look(project, contents, proofs, asked, full=False)
        right = {(one.path, one.oid) for one in after if one.is_right}
        repaired = tuple(one for one in found if not one.is_right and (one.path, one.oid) in right)
        return Verified(after, dangling, repaired, aside, obstacle)


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


def _heal(
    project: Path,
    targets: Sequence[str],
    found: Sequence[Checked],
    proofs: Proofs,
    remote: BucketObjects,
    *,
    heal_bucket: bool,
) -> tuple[tuple[Path, ...], CloudError | None]:
    contents = read_contents(project, targets, proofs, remote)
    aside = [
        quarantine(project, cache_path(project, oid), files(project, contents, [oid]))
        for oid in sorted({one.oid for one in found if one.cache == "damaged"})
    ]
    # Lists first: what a list names is not known before.
    for _ in range(2):
        contents = read_contents(project, targets, proofs, remote)
        _heal_cache(project, contents, proofs, remote)
    needed = unique(contents)
    cache = local_states(project, needed.values(), proofs)
    if heal_bucket:
        sizes = local_bytes(project, [oid for oid, state in cache.items() if state == "ok"])
        states = remote.states(needed, sizes)
        known_bad = {one.oid for one in found if one.bucket == "damaged"}
        to_send = [needed[oid] for oid, state in states.items() if state != "ok" or oid in known_bad]
        send(project, [one for one in to_send if cache[one.oid] == "ok"], remote)
    whole = [one for one in contents if one.fault is None and all(cache[needed.oid] == "ok" for needed in one.needed)]
    limits = load_cloud_config(project).limits
    try:
        check_out(project, whole, proofs, limits.idle_timeout_s)
    except CloudError:
        # What is left is nobody's link: it goes where it can be had back from, and makes room.
        for path, state in file_states(project, whole, proofs).items():
            if state in {"changed", "damaged"}:
                aside.append(quarantine(project, project / path))
        try:
            check_out(project, whole, proofs, limits.idle_timeout_s)
        except CloudError as error:
            return tuple(aside), error
    return tuple(aside), None


def _heal_cache(project: Path, contents: Sequence[Contents], proofs: Proofs, remote: BucketObjects) -> None:
    needed = unique(contents)
    absent = {oid for oid, state in local_states(project, needed.values(), proofs).items() if state != "ok"}
    for content in contents:
        for one in content.needed:
            if one.oid not in absent or one.oid.endswith(DIR_SUFFIX):
                continue
            at = project / one.path
            if proofs.state(at, one.md5_hex, anew=True) == "ok":
                with new_file(cache_path(project, one.oid)) as part:
                    shutil.copyfile(at, part)
                    part.chmod(READ_ONLY)
                absent.discard(one.oid)
    remote.find(absent)
    fetch(project, [needed[oid] for oid in sorted(absent) if remote.get(oid) is not None], remote)
