"""`backbeat cloud pull`: what the pointers need is in the cache and the workspace afterwards, and proven.

DVC fetches; what arrived is hashed by us before anything of it is checked out. Objects that were here already are
proven, too: DVC believes whatever is read-only. What is damaged goes to quarantine and is fetched again, by us.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from backbeat.cloud.arriving import arriving
from backbeat.cloud.bill import Bill, draw_up, require_affordable, speed
from backbeat.cloud.bucket_objects import BucketObjects, at_once
from backbeat.cloud.contents import Contents, local_bytes, local_states, named, read_contents, require_made, unique
from backbeat.cloud.dvc_errors import explain_dvc
from backbeat.cloud.dvc_program import Connection, run_dvc
from backbeat.cloud.pointers import Needed, cache_path
from backbeat.cloud.prices import CloudConfig, load_cloud_config
from backbeat.cloud.proofs import Proofs, open_proofs
from backbeat.cloud.quarantine import quarantine
from backbeat.cloud.workspace import check_out, files
from backbeat.datasets.bandwidth import note_bandwidth
from backbeat.errors import CloudError
from backbeat.progress import progress
from backbeat.remote.bucket import open_bucket
from backbeat.storage.exclusive import exclusive
from backbeat.storage.staging import cache_dir, new_file, open_staging, require_space

_log = logging.getLogger(__name__)

# DVC makes its objects read-only: links to them are in the workspace.
READ_ONLY = 0o444


@dataclass(frozen=True)
class Pulled:
    """What a pull has done.

    Args:
        bill: what it was said to be.
        fetched: how many objects were fetched.
        by_us: how many of them DVC had not fetched, or not whole.
        checked_out: how many files were put into the workspace.
        quarantined: where damaged files went.
        was_declined: whether somebody did not agree.
        never_made: artifacts that are in the pipeline, and nowhere else.
    """

    bill: Bill
    fetched: int = 0
    by_us: int = 0
    checked_out: int = 0
    quarantined: tuple[Path, ...] = ()
    was_declined: bool = False
    never_made: tuple[str, ...] = ()


def pull(
    project: Path,
    targets: Sequence[str] = (),
    *,
    max_gb: float | None = None,
    mbps: float | None = None,
    full: bool = False,
    dry_run: bool = False,
    agree: Callable[[Bill], bool] = lambda _: True,
) -> Pulled:
    """Fetch what is not here of these artifacts, prove it, and put it into the workspace.

    Args:
        project: the root of the repository.
        targets: datasets, stages or paths; none means every artifact.
        max_gb: the most that may be fetched, in units of 10^9 bytes.
        mbps: the speed of the network in megabits per second, to say how long it will take.
        full: whether what was found whole earlier and has not changed since is hashed again, too.
        dry_run: whether to say what would be fetched, and fetch nothing.
        agree: asked before the first byte is fetched; False ends it.

    Raises:
        CloudError: if the bucket does not have an object, or not whole, or a budget would be exceeded.
        StorageError: if the disk has no room for it.
    """
    config = load_cloud_config(project)
    bucket = open_bucket(project)
    with exclusive(project, "pull"), open_proofs(project) as proofs:
        remote = BucketObjects(bucket, proofs)
        every = read_contents(project, targets, proofs, remote)
        contents = require_made(every, targets)
        never_made = tuple(one.artifact.path for one in every if not one.was_made)
        _require_lists(contents)
        needed = unique(contents)
        before = local_states(project, needed.values(), proofs, anew=full)
        to_fetch = {oid: needed[oid] for oid, state in before.items() if state != "ok"}
        remote.find(to_fetch)
        _require_stored(to_fetch, remote)
        whole = local_bytes(project, [oid for oid in needed if oid not in to_fetch])
        sizes = {oid: stored.size_bytes for oid in to_fetch if (stored := remote.get(oid))}
        bandwidth = speed(open_staging(project), "pull", mbps)
        bill = draw_up("pull", bucket.settings.url, whole, sizes, remote.stored_bytes, config, bandwidth)
        require_affordable(bill, config, max_gb)
        if to_fetch:
            require_space(cache_dir(project), bill.to_move_bytes, "the objects to pull")
        if dry_run:
            return Pulled(bill, never_made=never_made)
        if to_fetch and not agree(bill):
            return Pulled(bill, was_declined=True, never_made=never_made)
        aside = [
            quarantine(project, cache_path(project, oid), files(project, contents, [oid]))
            for oid, state in before.items()
            if state == "damaged"
        ]
        started_s = time.monotonic()
        by_us = _fetch(project, contents, to_fetch, remote, proofs, config, aside) if to_fetch else 0
        note_bandwidth(open_staging(project), bill.to_move_bytes, time.monotonic() - started_s, "pull")
        checked_out = check_out(project, contents, proofs, config.limits.idle_timeout_s)
        return Pulled(bill, len(to_fetch), by_us, checked_out, tuple(aside), never_made=never_made)


def fetch(project: Path, needed: Sequence[Needed], remote: BucketObjects) -> list[Needed]:
    """Fetch objects into the cache; those with another content than their names promise are returned, and not kept.

    Raises:
        CloudError: if the bucket does not answer.
        StorageError: if the disk is full.
    """

    def fetch_one(one: Needed) -> bool:
        final = cache_path(project, one.oid)
        try:
            with new_file(final) as part:
                if remote.bucket.fetch(remote.key(one.oid), part) != one.md5_hex:
                    raise _DamagedError
                part.chmod(READ_ONLY)
        except _DamagedError:
            return False
        finally:
            advance(1)
        return True

    with progress("fetch", len(needed), unit="objects") as advance:
        whole = at_once(fetch_one, needed)
    return [one for one, is_whole in whole.items() if not is_whole]


class _DamagedError(Exception):
    """What came is not what its name promises."""


def _require_lists(contents: Sequence[Contents]) -> None:
    for one in contents:
        if one.fault is not None:
            raise one.fault


def _require_stored(to_fetch: dict[str, Needed], remote: BucketObjects) -> None:
    missing = [one for oid, one in to_fetch.items() if remote.get(oid) is None]
    if missing:
        raise CloudError(
            f"not in the bucket: {named(missing)}",
            expected=f"{len(to_fetch):,} objects in {remote.bucket.settings.url}",
            got=f"{len(missing):,} of them are not there; nothing was fetched",
            next_step="in a clone that has them: backbeat verify --remote --repair; or name other targets",
        )


def _fetch(
    project: Path,
    contents: list[Contents],
    to_fetch: dict[str, Needed],
    remote: BucketObjects,
    proofs: Proofs,
    config: CloudConfig,
    aside: list[Path],
) -> int:
    """Fetch by DVC, and by us what then is missing or damaged; return how many objects these were."""
    chosen = [one.artifact for one in contents if any(needed.oid in to_fetch for needed in one.needed)]
    total_bytes = sum(stored.size_bytes for oid in to_fetch if (stored := remote.get(oid)))
    with arriving("pull", total_bytes, lambda: sum(local_bytes(project, to_fetch).values())) as look:
        ended = run_dvc(
            project,
            ["fetch", *(one.target for one in chosen)],
            connection=Connection(remote.bucket.settings, remote.bucket.credentials),
            # A kill may have left half of what DVC remembers, and the first fetch after it would fail.
            fresh_site_cache=True,
            idle_timeout_s=config.limits.idle_timeout_s,
            look=look,
        )
    if ended.code:
        why = explain_dvc(ended.output, ended.code, remote.bucket.settings, doing="fetch everything").what
        _log.warning("DVC did not finish (%s); going on without it", why)
    states = local_states(project, to_fetch.values(), proofs, anew=True)
    wrong = [to_fetch[oid] for oid, state in states.items() if state != "ok"]
    aside += [quarantine(project, cache_path(project, oid)) for oid, state in states.items() if state == "damaged"]
    damaged = fetch(project, wrong, remote) if wrong else []
    if damaged:
        raise CloudError(
            f"damaged in the bucket: {named(damaged)}",
            expected=f"s3://{remote.bucket.settings.bucket}/{remote.key(damaged[0].oid)} with MD5 {damaged[0].md5_hex}",
            got="another content, twice; nothing of it was kept or checked out",
            next_step="in a clone that has it: backbeat verify --remote --repair; or make it again: dvc repro",
        )
    return len(wrong)
