"""`backbeat cloud push`: what the pointers need is in the bucket afterwards, and whole, or the command fails.

DVC's exit code is not trusted: a push that was killed while it collected makes every later one send nothing and say
that all is in sync. So the bucket is listed before and after. What is sent is hashed before it is sent; what DVC did
not send, and what is damaged in the bucket, is sent by us, lists of folders last. Nothing is ever deleted.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from backbeat.cloud.arriving import arriving
from backbeat.cloud.bill import Bill, draw_up, require_affordable, speed
from backbeat.cloud.bucket_objects import BucketObjects, at_once, sample
from backbeat.cloud.contents import (
    Contents,
    local_bytes,
    local_states,
    named,
    read_contents,
    require_made,
    stages,
    unique,
)
from backbeat.cloud.dvc_errors import explain_dvc
from backbeat.cloud.dvc_program import Connection, run_dvc
from backbeat.cloud.pointers import DIR_SUFFIX, Needed, cache_path
from backbeat.cloud.prices import CloudConfig, load_cloud_config
from backbeat.cloud.proofs import Proofs, open_proofs
from backbeat.datasets.bandwidth import note_bandwidth
from backbeat.errors import CloudError
from backbeat.progress import progress
from backbeat.remote.bucket import open_bucket
from backbeat.storage.exclusive import exclusive
from backbeat.storage.staging import open_staging

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pushed:
    """What a push has done.

    Args:
        bill: what it was said to be.
        sent: how many objects were sent.
        by_us: how many of them DVC had not sent, or not whole.
        read_back: how many were read back and hashed.
        was_declined: whether somebody did not agree.
        never_made: artifacts that are in the pipeline, and nowhere else.
    """

    bill: Bill
    sent: int = 0
    by_us: int = 0
    read_back: int = 0
    was_declined: bool = False
    never_made: tuple[str, ...] = ()


def push(
    project: Path,
    targets: Sequence[str] = (),
    *,
    max_gb: float | None = None,
    mbps: float | None = None,
    full: bool = False,
    dry_run: bool = False,
    agree: Callable[[Bill], bool] = lambda _: True,
) -> Pushed:
    """Send what the bucket lacks of these artifacts, and prove that it is there.

    Args:
        project: the root of the repository.
        targets: datasets, stages or paths; none means every artifact, and a part of a folder means all of it.
        max_gb: the most that may be sent, in units of 10^9 bytes.
        mbps: the speed of the network in megabits per second, to say how long it will take.
        full: whether every object that is needed is read back and hashed, not a sample of what was sent.
        dry_run: whether to say what would be sent, and send nothing.
        agree: asked before the first byte is sent; False ends it.

    Raises:
        CloudError: if an object is neither in the cache nor in the bucket, one that would be sent is damaged, a budget
            would be exceeded, or the bucket does not hold everything afterwards.
    """
    config = load_cloud_config(project)
    bucket = open_bucket(project)
    with exclusive(project, "push"), open_proofs(project) as proofs:
        remote = BucketObjects(bucket, proofs)
        remote.list_all()
        # The list of a folder in the bucket says to everybody that all of its files are there, too.
        every = read_contents(project, targets, proofs, remote, whole=True)
        contents = require_made(every, targets)
        never_made = tuple(one.artifact.path for one in every if not one.was_made)
        needed = unique(contents)
        sizes = local_bytes(project, needed)
        before = remote.states(needed, sizes, read=needed if full else ())
        to_send = [oid for oid, state in before.items() if state != "ok"]
        _require_whole(project, contents, {oid: needed[oid] for oid in to_send}, proofs)
        there = {oid: stored.size_bytes for oid in needed if oid not in to_send and (stored := remote.get(oid))}
        bill = draw_up(
            "push",
            bucket.settings.url,
            there,
            {oid: sizes[oid] for oid in to_send},
            remote.stored_bytes,
            config,
            speed(open_staging(project), "push", mbps),
        )
        require_affordable(bill, config, max_gb)
        if dry_run or not to_send:
            return Pushed(bill, read_back=len(needed) if full else 0, never_made=never_made)
        if not agree(bill):
            return Pushed(bill, was_declined=True, never_made=never_made)
        started_s = time.monotonic()
        missing = {oid for oid in to_send if before[oid] == "missing"}
        _push_by_dvc(project, contents, missing, remote, config)
        by_us, read_back = _prove(project, needed, to_send, sizes, remote, config, full=full)
        note_bandwidth(open_staging(project), bill.to_move_bytes, time.monotonic() - started_s, "push")
        return Pushed(bill, len(to_send), by_us, read_back, never_made=never_made)


def send(project: Path, needed: Sequence[Needed], remote: BucketObjects) -> None:
    """Send objects that are whole in the cache: files first, so that nobody sees a list whose files are not there.

    Raises:
        CloudError: if the bucket refuses one; it also refuses what does not arrive as it is called.
    """
    for are_lists in (False, True):
        chosen = [one for one in needed if one.oid.endswith(DIR_SUFFIX) is are_lists]
        if chosen:
            with progress("send", len(chosen), unit="objects") as advance:

                def put(one: Needed, advance: Callable[[int], None] = advance) -> None:
                    remote.bucket.put(remote.key(one.oid), cache_path(project, one.oid), one.md5_hex)
                    advance(1)

                at_once(put, chosen)
    remote.forget()


def _require_whole(project: Path, contents: list[Contents], to_send: dict[str, Needed], proofs: Proofs) -> None:
    states = local_states(project, to_send.values(), proofs, anew=True)
    missing = [to_send[oid] for oid, state in states.items() if state == "missing"]
    damaged = [to_send[oid] for oid, state in states.items() if state == "damaged"]
    if damaged:
        raise CloudError(
            f"damaged in the cache, and not whole in the bucket: {named(damaged)}",
            expected=f"{cache_path(project, damaged[0].oid)} with MD5 {damaged[0].md5_hex}",
            got="another content; nothing was sent",
            next_step="backbeat verify --repair puts it aside, then dvc repro "
            f"{stages(contents, [one.oid for one in damaged])} makes it again; or push from a clone that has it",
        )
    # Of a list that cannot be read nobody knows what is needed.
    for content in contents:
        if content.fault is not None:
            raise content.fault
    if missing:
        raise CloudError(
            f"neither in the cache nor whole in the bucket: {named(missing)}",
            expected=f"{len(missing):,} objects in {cache_path(project, missing[0].oid).parents[3]}",
            got="nothing; nothing was sent",
            next_step=f"dvc repro {stages(contents, [one.oid for one in missing])}, or push from a clone that has it",
        )


def _push_by_dvc(
    project: Path, contents: list[Contents], missing: set[str], remote: BucketObjects, config: CloudConfig
) -> None:
    # DVC takes a folder whose list is in the bucket for complete: of that it would send nothing.
    chosen = [one.artifact for one in contents if one.artifact.oid in missing]
    if not chosen:
        return
    total_bytes = sum(local_bytes(project, missing).values())
    with arriving("push", total_bytes, lambda: _arrived_bytes(remote, missing)) as look:
        ended = run_dvc(
            project,
            ["push", *(one.target for one in chosen)],
            connection=Connection(remote.bucket.settings, remote.bucket.credentials),
            # What a killed push has left there makes DVC believe that objects are in the bucket.
            fresh_site_cache=True,
            idle_timeout_s=config.limits.idle_timeout_s,
            look=look,
        )
    if ended.code:
        why = explain_dvc(ended.output, ended.code, remote.bucket.settings, doing="send everything").what
        _log.warning("DVC did not finish (%s); going on without it", why)


def _arrived_bytes(remote: BucketObjects, oids: set[str]) -> int:
    remote.forget()
    # That it cannot be said now is no reason to end what DVC does.
    with contextlib.suppress(CloudError):
        remote.list_all()
    return sum(stored.size_bytes for oid in oids if (stored := remote.known(oid)))


def _prove(
    project: Path,
    needed: dict[str, Needed],
    sent: list[str],
    sizes: dict[str, int],
    remote: BucketObjects,
    config: CloudConfig,
    *,
    full: bool,
) -> tuple[int, int]:
    """Compare the bucket with the cache, and send what is wrong; return how many were, and were read back."""
    by_us: set[str] = set()
    read_back: set[str] = set()
    read = sent if full else sample(sent, config.limits.sample_objects)
    for is_last in (False, False, True):
        remote.forget()
        states = remote.states(needed, sizes, read=read)
        read_back |= {oid for oid in read if states[oid] != "missing"}
        wrong = [oid for oid, state in states.items() if state != "ok"]
        if not wrong:
            return len(by_us), len(read_back)
        if is_last:
            break
        _log.warning("%d objects are missing or damaged in the bucket; sending them", len(wrong))
        send(project, [needed[oid] for oid in wrong], remote)
        by_us |= set(wrong)
        # What was damaged may have a listing that is right.
        damaged = [oid for oid in wrong if states[oid] == "damaged"]
        read = wrong if full else sorted({*damaged, *sample(wrong, config.limits.sample_objects)})
    raise CloudError(
        f"not whole in the bucket: {named([needed[oid] for oid in wrong])}",
        expected="what was sent",
        got=f"{len(wrong):,} objects missing or damaged after they were sent twice",
        next_step="repeat the command; backbeat doctor",
    )
