"""Healing what `backbeat verify` has found: what it will move, and then from a side that is whole, never from another.

The cache is healed from a copy in the workspace or from the bucket, the bucket from the cache, the workspace by
checking it out. Nobody's work is taken away: a file of its own with another content goes to quarantine, and a link to
bytes that no pointer has, such as a stage leaves until DVC commits, stays where it is.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

from backbeat.cloud.bill import Bill, draw_up, speed
from backbeat.cloud.bucket_objects import BucketObjects
from backbeat.cloud.contents import Contents, local_bytes, local_states, read_contents, unique
from backbeat.cloud.pointers import DIR_SUFFIX, Needed, cache_path
from backbeat.cloud.prices import CloudConfig
from backbeat.cloud.proofs import Proofs, md5_of
from backbeat.cloud.pull import READ_ONLY, fetch
from backbeat.cloud.push import send
from backbeat.cloud.quarantine import link_in, quarantine
from backbeat.cloud.workspace import check_out, file_states, files, somebodys_work
from backbeat.errors import CloudError
from backbeat.remote.settings import dvc_config
from backbeat.storage.disk import same_filesystem
from backbeat.storage.relink import replace_links
from backbeat.storage.staging import cache_dir, new_file, open_staging, require_space


def draw_up_repair(
    project: Path,
    targets: Sequence[str],
    known_bad: Collection[str],
    proofs: Proofs,
    remote: BucketObjects,
    config: CloudConfig,
    *,
    heal_bucket: bool,
) -> list[Bill]:
    """Return what a repair will move: a bill for what is fetched and one for what is sent, each only if that is any.

    Args:
        project: the root of the repository.
        targets: datasets, stages or paths; none means every artifact.
        known_bad: what is damaged in the bucket, whatever its listing says.
        proofs: what was found whole before.
        remote: the bucket.
        config: prices.
        heal_bucket: whether the bucket is healed, too.

    Raises:
        CloudError: if the bucket does not answer.
        StorageError: if the disk has no room for what will be fetched or copied.
    """
    contents = read_contents(project, targets, proofs, remote)
    needed = unique(contents)
    cache = local_states(project, needed.values(), proofs)
    here = local_bytes(project, [oid for oid, state in cache.items() if state == "ok"])
    copies = _copies(project, contents, {oid for oid in needed if oid not in here}, proofs)
    there = here | {oid: at.stat().st_size for oid, at in copies.items()}
    absent = [oid for oid in needed if oid not in there]
    remote.find(absent)
    to_fetch = {oid: stored.size_bytes for oid in absent if (stored := remote.get(oid)) is not None}
    to_copy = sum(there[oid] for oid, at in copies.items() if not _may_link(project, at))
    if to_fetch or to_copy:
        require_space(cache_dir(project), sum(to_fetch.values()) + to_copy, "the objects to repair")
    url, staging = remote.bucket.settings.url, open_staging(project)
    bills = []
    if to_fetch:
        bills.append(draw_up("pull", url, there, to_fetch, remote.stored_bytes, config, speed(staging, "pull", None)))
    if heal_bucket:
        states = remote.states(needed, here)
        wrong = {oid for oid, state in states.items() if state != "ok" or oid in known_bad}
        to_send = {oid: there[oid] for oid in needed if oid in wrong and oid in there}
        if to_send:
            # What the bucket costs from then on is a budget, too.
            remote.list_all()
            kept = {oid: stored.size_bytes for oid in needed if oid not in wrong and (stored := remote.get(oid))}
            sending = speed(staging, "push", None)
            bills.append(draw_up("push", url, kept, to_send, remote.stored_bytes, config, sending))
    return bills


def heal(
    project: Path,
    targets: Sequence[str],
    damaged: Collection[str],
    known_bad: Collection[str],
    proofs: Proofs,
    remote: BucketObjects,
    config: CloudConfig,
    *,
    heal_bucket: bool,
) -> tuple[tuple[Path, ...], CloudError | None]:
    """Heal; return where damaged files went, and what stood in the way.

    Args:
        project: the root of the repository.
        targets: datasets, stages or paths; none means every artifact.
        damaged: the objects that are damaged in the cache.
        known_bad: what is damaged in the bucket, whatever its listing says.
        proofs: what was found whole before.
        remote: the bucket.
        config: limits.
        heal_bucket: whether the bucket is healed, too.
    """
    contents = read_contents(project, targets, proofs, remote)
    aside = [quarantine(project, cache_path(project, oid), files(project, contents, [oid])) for oid in sorted(damaged)]
    # Lists first: what a list names is not known before.
    for _ in range(2):
        contents = read_contents(project, targets, proofs, remote)
        _heal_cache(project, contents, proofs, remote)
    needed = unique(contents)
    cache = local_states(project, needed.values(), proofs)
    if heal_bucket:
        sizes = local_bytes(project, [oid for oid, state in cache.items() if state == "ok"])
        states = remote.states(needed, sizes)
        to_send = [needed[oid] for oid, state in states.items() if state != "ok" or oid in known_bad]
        send(project, [one for one in to_send if cache[one.oid] == "ok"], remote)
    whole = [one for one in contents if one.fault is None and all(cache[needed.oid] == "ok" for needed in one.needed)]
    obstacle = _heal_workspace(project, whole, proofs, config.limits.idle_timeout_s, aside)
    return tuple(aside), obstacle


def _heal_workspace(
    project: Path, whole: Sequence[Contents], proofs: Proofs, idle_timeout_s: float, aside: list[Path]
) -> CloudError | None:
    try:
        check_out(project, whole, proofs, idle_timeout_s)
    except CloudError:
        # What is left is nobody's link: it goes where it can be had back from, and makes room.
        held = []
        for path, state in file_states(project, whole, proofs).items():
            if state in {"changed", "damaged"}:
                if link_in(project / path) is None:
                    aside.append(quarantine(project, project / path))
                else:
                    held.append(path)
        free = [one for one in whole if not any(needed.path in held for needed in one.needed)]
        try:
            check_out(project, free, proofs, idle_timeout_s)
        except CloudError as error:
            return error
        if held:
            return somebodys_work(held)
    return None


def _heal_cache(project: Path, contents: Sequence[Contents], proofs: Proofs, remote: BucketObjects) -> None:
    needed = unique(contents)
    absent = {oid for oid, state in local_states(project, needed.values(), proofs).items() if state != "ok"}
    for oid, at in _copies(project, contents, absent, proofs, anew=True).items():
        if _take_in(project, at, needed[oid]):
            absent.discard(oid)
    remote.find(absent)
    fetch(project, [needed[oid] for oid in sorted(absent) if remote.get(oid) is not None], remote)


def _copies(
    project: Path, contents: Sequence[Contents], absent: Collection[str], proofs: Proofs, *, anew: bool = False
) -> dict[str, Path]:
    """Return the files of the workspace that have the content of objects which the cache does not have."""
    found: dict[str, Path] = {}
    for content in contents:
        for one in content.needed:
            if one.oid in absent and one.oid not in found and not one.oid.endswith(DIR_SUFFIX):
                at = project / one.path
                if proofs.state(at, one.md5_hex, anew=anew) == "ok":
                    found[one.oid] = at
    return found


def _take_in(project: Path, at: Path, one: Needed) -> bool:
    """Make a file of the workspace, or the staged one it leads to, an object of the cache: one file if possible."""
    final, kinds = cache_path(project, one.oid), _link_kinds(project)
    is_linked = False
    with new_file(final) as part:
        if _may_link(project, at):
            try:
                os.link(at.resolve(), part)
                is_linked = True
            except OSError:
                # A file system without hard links.
                shutil.copyfile(at, part)
        else:
            shutil.copyfile(at, part)
        part.chmod(READ_ONLY)
    # Somebody may have written while it was taken.
    if md5_of(final) != one.md5_hex:
        final.unlink()
        return False
    if not is_linked and "symlink" in kinds:
        replace_links({at: final})
    return True


def _may_link(project: Path, at: Path) -> bool:
    """Return whether a file may become an object by a hard link: it is ours, and nobody has it under another name.

    A link makes it read-only, as DVC's objects are. Entries of the staging store are meant for that.
    """
    real, cache = at.resolve(), cache_dir(project)
    found = real.stat()
    is_staged = real.is_relative_to(open_staging(project).root.resolve())
    return (
        "hardlink" in _link_kinds(project)
        and found.st_uid == os.geteuid()
        and (is_staged or (not at.is_symlink() and found.st_nlink == 1))
        and same_filesystem(real, cache)
    )


def _link_kinds(project: Path) -> list[str]:
    configured = dvc_config(project).get("cache", {}).get("type") or []
    return [kind.strip() for kind in configured.split(",")] if isinstance(configured, str) else list(configured)
