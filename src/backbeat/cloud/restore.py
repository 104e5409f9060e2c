"""Restoring a backup into an empty folder: the repository at its commit, and every file where it belongs, hashed.

It needs the bucket alone: what comes out is a clone as a pull leaves it, with DVC's objects in its cache and linked to
their places, and raw archives as plain files under their own names.
A restore that is broken off goes on where it was when it is repeated, and until it is complete the folder says so.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from backbeat.cloud.backup import Backup, BackupFile, git, read_backup
from backbeat.cloud.pointers import DIR_SUFFIX, Needed, cache_path
from backbeat.cloud.prices import GB, load_cloud_config, require_within
from backbeat.cloud.pull import READ_ONLY
from backbeat.datasets.registry import RecordFile
from backbeat.datasets.transport.addresses import Address
from backbeat.datasets.transport.hashing import algorithm_of, hash_file, require_promised
from backbeat.datasets.transport.mirrored import VALID_S
from backbeat.datasets.transport.partial import Partial
from backbeat.datasets.transport.patience import Patience
from backbeat.datasets.transport.transfer import Transfer
from backbeat.errors import BackbeatError, CloudError, DownloadError
from backbeat.executor import run_threads
from backbeat.remote.bucket import Bucket, open_bucket
from backbeat.storage.staging import disk_errors, new_file, publish, require_space

# What is in a folder while it is being restored, and only then.
MARK = ".backbeat-restore"

FILES_AT_ONCE = 4


@dataclass(frozen=True)
class Restored:
    """What became of one file.

    Args:
        path: where it is in the folder.
        state: `here` if an earlier run had brought it.
        size_bytes: its size.
        hash: the hash that it was found to have.
    """

    path: str
    state: Literal["restored", "here"]
    size_bytes: int
    hash: str


def restore(project: Path, to: Path, name: str | None = None, *, patience: Patience | None = None) -> list[Restored]:
    """Bring everything of a backup into a folder, and hash every file of it.

    Args:
        project: the root of a repository whose remote is the bucket.
        to: a folder that is empty, is not there, or is what an earlier run has left.
        name: the backup; default the latest.
        patience: how long to try.

    Returns:
        What became of each file, sorted by path.

    Raises:
        CloudError: if there is no such backup, the folder is in use, or files are missing or damaged; the others are
            restored then, and the folder stays marked.
        StorageError: if the disk is or would be full.
    """
    bucket = open_bucket(project)
    to = to.resolve()
    mark = to / MARK
    found = read_backup(bucket, name or _begun(to))
    _require_room(project, to, found)
    with disk_errors(to):
        mark.mkdir(parents=True, exist_ok=True)
        (mark / "backup").write_text(found.made_at, encoding="utf-8")
        patience = patience or Patience()
        _repository(bucket, found, to, patience)
        failures = list(_lists(bucket, found, to))
        restored = []
        for file, result in run_threads(
            lambda file: _restored(bucket, file, to, patience), found.files, threads=FILES_AT_ONCE
        ):
            if isinstance(result, BackbeatError):
                failures.append(f"{file.path}: {result.got or result.what}")
            else:
                restored.append(result)
        if failures:
            raise _incomplete(found, to, failures)
        for path in mark.iterdir():
            path.unlink()
        mark.rmdir()
    return sorted(restored, key=lambda one: one.path)


def _begun(to: Path) -> str | None:
    """Return the backup that a broken-off restore was bringing; None if there was none."""
    try:
        return (to / MARK / "backup").read_text(encoding="utf-8") or None
    except OSError:
        return None


def _require_room(project: Path, to: Path, found: Backup) -> None:
    begun = _begun(to)
    if begun not in {None, found.made_at} or (begun is None and to.exists() and not _is_empty(to)):
        raise CloudError(
            f"{to} is not empty",
            expected="an empty folder, a new one, or one with a restore that was broken off",
            got="files" if begun is None else f"a part of the backup {begun}",
            next_step="name another folder with --to",
        )
    require_within(load_cloud_config(project).budgets, "pull_gb", found.size_bytes / GB, "restoring")
    here_bytes = sum(
        path.stat().st_size for file in found.files if (path := to / file.path).is_file() and not path.is_symlink()
    )
    require_space(to, found.size_bytes - here_bytes, "the backup")


def _is_empty(to: Path) -> bool:
    return to.is_dir() and not to.is_symlink() and next(to.iterdir(), None) is None


def _repository(bucket: Bucket, found: Backup, to: Path, patience: Patience) -> None:
    """Make the folder a repository whose one branch is at the commit of the backup."""
    if found.repository is None:
        raise CloudError(f"the backup {found.made_at} has no repository", next_step="take another")
    bundle = to / MARK / "repository.bundle"
    _fetch(bucket, found.repository, bundle, patience)
    git(to, "init", "--quiet", "--initial-branch", "main")
    git(to, "fetch", "--quiet", str(bundle), "HEAD")
    git(to, "checkout", "--quiet", "--force", "-B", "main", found.commit)


def _lists(bucket: Bucket, found: Backup, to: Path) -> Iterator[str]:
    """Put DVC's lists of folders into the cache; yield what is wrong with those that cannot be had."""
    for one in found.listings:
        cached = cache_path(to, f"{one.md5}{DIR_SUFFIX}")
        if cached.is_file() and hash_file(cached, "md5", f"{one.path}: checking") == one.md5:
            continue
        try:
            bucket.fetch(one.key, cached, one.md5)
        except CloudError as error:
            yield f"the list of {one.path}: {error.got or error.what}"
        else:
            cached.chmod(READ_ONLY)


def _into_cache(file: BackupFile, to: Path) -> None:
    """Have the cache hold a proven file of DVC's as DVC does: one file under two names, which nobody writes to."""
    final = to / file.path
    object_ = Needed(file.md5, file.path)
    if not file.key.endswith(f"/{object_.name}"):
        return
    cached = cache_path(to, object_.oid)
    if cached.is_file() and cached.samefile(final):
        return
    # Of two places with one content, the first has brought it.
    if not (cached.is_file() and hash_file(cached, "md5", f"{file.path}: checking") == file.md5):
        with new_file(cached) as part:
            _link_or_copy(final, part)
            part.chmod(READ_ONLY)
    else:
        with new_file(final) as part:
            _link_or_copy(cached, part)
            part.chmod(READ_ONLY)


def _link_or_copy(source: Path, to: Path) -> None:
    try:
        os.link(source, to)
    except OSError:
        # The cache is on another disk, or file systems here have no hard links.
        shutil.copyfile(source, to)


def _restored(bucket: Bucket, file: BackupFile, to: Path, patience: Patience) -> Restored:
    final = to / file.path
    _refuse_way_out(to, file)
    state: Literal["restored", "here"] = "here"
    wanted = _promise(file, file.key)
    if not final.is_file() or not _is_whole(final, wanted):
        final.parent.mkdir(parents=True, exist_ok=True)
        final.unlink(missing_ok=True)
        _fetch(bucket, file, final, patience)
        state = "restored"
        # What was written is read once more: a restore is believed by what is on the disk.
        if not _is_whole(final, wanted):
            final.unlink()
            raise CloudError(f"{file.path} is damaged on this disk", got="another hash than what was received")
    _into_cache(file, to)
    return Restored(file.path, state, file.size_bytes, wanted.hash)


def _refuse_way_out(to: Path, file: BackupFile) -> None:
    """Refuse a path through a link, or into what Git and DVC keep for themselves."""
    first = PurePosixPath(file.path).parts[0]
    way = next(parent for parent in (to / file.path).parents if parent.exists())
    if first.lower() in {".git", ".dvc", MARK} or not way.resolve().is_relative_to(to.resolve()):
        raise CloudError(f"{file.path} is no place for data", got="a path that leads elsewhere")


def _promise(file: BackupFile, shown: str) -> RecordFile:
    hash_ = f"sha256:{file.sha256}" if file.sha256 else f"md5:{file.md5}"
    # The transfer knows files of records; here the backup makes the promise.
    return RecordFile.model_construct(path=file.path, urls=(shown,), size=file.size_bytes, hash=hash_)


def _is_whole(final: Path, wanted: RecordFile) -> bool:
    if final.is_symlink() or final.stat().st_size != wanted.size:
        return False
    algorithm = algorithm_of(wanted)
    return wanted.hash == f"{algorithm}:{hash_file(final, algorithm, f'{wanted.path}: checking')}"


def _fetch(bucket: Bucket, file: BackupFile, final: Path, patience: Patience) -> None:
    if file.size_bytes == 0:
        final.touch()
        return
    url = f"s3://{bucket.settings.bucket}/{file.key}"
    wanted = _promise(file, url)
    with Partial(final, algorithm_of(wanted)) as part:
        transfer = Transfer(
            "backup", wanted, url, part, patience, lambda _: Address(bucket.presigned_url(file.key, VALID_S))
        )
        try:
            transfer.run()
            try:
                require_promised(wanted, "backup", part.size_bytes, part.digest())
            except DownloadError:
                part.remove()
                raise
        except DownloadError as error:
            raise CloudError(
                f"{url} cannot be restored", expected=error.expected, got=error.got, next_step="try again"
            ) from error
        publish(part.path, final)
        part.forget_origin()


def _incomplete(found: Backup, to: Path, failures: Sequence[str]) -> CloudError:
    return CloudError(
        f"{len(failures)} of {len(found.files)} files of the backup {found.made_at} are not restored",
        expected="all of them, whole",
        got="; ".join(sorted(failures)[:8]) + (f" and {len(failures) - 8} more" if failures[8:] else ""),
        next_step=f"backbeat cloud restore {found.made_at} --to {shlex.quote(str(to))} goes on; what is damaged in the "
        "bucket is healed from a clone that has it: backbeat verify --remote --repair",
    )
