"""Backups: a dated statement of everything that the bucket holds of one commit, proven when it is made.

A backup is `backups/<date and time>.json`: every object that the pointers of HEAD need and every file of the mirror,
with its size and hash, and where it belongs in a clone. Beside it is a Git bundle, so that a restore needs the bucket
alone. The objects themselves are not copied: they are in the bucket under names that are their content, where a key
without the right to delete cannot lose them.

What cannot be proven is no backup: nothing is written unless every object is there and whole.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import itertools
import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from backbeat.cloud.bucket_objects import BucketObjects
from backbeat.cloud.contents import listing_reader
from backbeat.cloud.cost import BACKUPS
from backbeat.cloud.manifest import (
    FOLDER,
    Md5,
    SafePath,
    Sha256,
    Size,
    file_key,
    mirrored_datasets,
    put_json,
    read_manifest,
)
from backbeat.cloud.mirror_check import check
from backbeat.cloud.pointers import Artifact, artifacts, objects
from backbeat.cloud.proofs import open_proofs
from backbeat.config import Strict, validated
from backbeat.errors import CloudError
from backbeat.progress import progress
from backbeat.remote.bucket import Bucket, open_bucket

STAMP = "%Y-%m-%dT%H%M%SZ"

# What says what the data are and how they were made, as Git calls it: a commit has to know all of it.
PIPELINE = (":(glob)**/dvc.yaml", ":(glob)**/dvc.lock", ":(glob)**/*.dvc", ":(glob)**/params.yaml", "configs")

# Of what is missing, a message names so many.
MOST_NAMED = 8


class BackupFile(Strict):
    """One file of a backup.

    Args:
        path: where it belongs in a clone.
        key: where it is in the bucket.
        size_bytes: its size.
        md5: its MD5.
        sha256: its SHA-256, where that is known.
    """

    path: SafePath
    key: SafePath
    size_bytes: Size
    md5: Md5
    sha256: Sha256 | None = None


class Backup(Strict):
    """The statement; `listings` are DVC's lists of folders, which a clone that pulls needs as well.

    `made_at` is its name, too: with a number behind it if there was one of that second already.
    """

    format: Literal[1] = 1
    made_at: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d{6}Z(-\d+)?$")]
    commit: Annotated[str, Field(pattern=r"^[0-9a-f]{40,64}$")]
    repository: BackupFile | None
    files: Annotated[tuple[BackupFile, ...], Field(strict=False)]
    listings: Annotated[tuple[BackupFile, ...], Field(strict=False)]
    never_made: Annotated[tuple[str, ...], Field(strict=False)]

    @property
    def size_bytes(self) -> int:
        """What a restore fetches, without the repository."""
        return sum(file.size_bytes for file in self.files)


def backup(project: Path, *, dry_run: bool = False, full: bool = False, now: dt.datetime | None = None) -> Backup:
    """Prove that the bucket has all that HEAD needs and all of the mirror, and write that down.

    Args:
        project: the root of the repository.
        dry_run: whether to prove only, and to write nothing.
        full: whether to read every file of the mirror, not only those of which nothing else shows that they are whole.
        now: the time to be noted.

    Raises:
        CloudError: if pointers are not committed, something is missing or damaged, or the bucket refuses.
    """
    commit = _committed(project)
    bucket = open_bucket(project)
    made = artifacts(project)
    files, listings = _of_dvc(project, bucket, [one for one in made if one.oid is not None])
    found = Backup(
        made_at=(now or dt.datetime.now(dt.UTC)).strftime(STAMP),
        commit=commit,
        repository=None,
        files=tuple(sorted([*files, *_of_mirror(project, bucket, full)], key=lambda one: one.path)),
        listings=tuple(listings),
        never_made=tuple(one.path for one in made if one.oid is None),
    )
    if dry_run:
        return found
    found = found.model_copy(update={"made_at": _free_name(bucket, found.made_at)})
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder, "repository.bundle")
        git(project, "bundle", "create", str(bundle), "HEAD")
        with bundle.open("rb") as content:
            digest = hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        key = bundle_key(found.made_at)
        bucket.put(key, bundle, digest)
        repository = BackupFile(path=bundle.name, key=key, size_bytes=bundle.stat().st_size, md5=digest)
    found = found.model_copy(update={"repository": repository})
    put_json(bucket, statement_key(found.made_at), found)
    if bucket.md5(repository.key) != repository.md5 or read_backup(bucket, found.made_at) != found:
        raise CloudError(
            f"the backup {found.made_at} does not read back as it was written",
            expected="what was sent",
            got="something else",
            next_step="backbeat cloud backup makes another",
        )
    return found


def list_backups(bucket: Bucket) -> list[str]:
    """Return the names of all backups, the oldest first.

    Raises:
        CloudError: if the bucket does not answer.
    """
    names = (Path(one.key) for one in bucket.list(f"{BACKUPS}/"))
    return sorted(name.stem for name in names if name.suffix == ".json")


def read_backup(bucket: Bucket, name: str | None) -> Backup:
    """Return a backup, by default the latest.

    Raises:
        CloudError: if there is none of that name.
        ConfigError: if it is damaged.
    """
    there = list_backups(bucket)
    if not there or (name is not None and name not in there):
        raise CloudError(
            f"there is no backup {name}" if name else "there is no backup",
            expected=f"one of {', '.join(there)}" if there else f"something in s3://{bucket.settings.bucket}/{BACKUPS}",
            next_step="backbeat cloud backups" if there else "backbeat cloud backup",
        )
    key = statement_key(name or there[-1])
    try:
        values = json.loads(bucket.read(key))
    except ValueError as error:
        raise CloudError(
            f"{key} is damaged", got=str(error), next_step="take another: backbeat cloud backups"
        ) from error
    return validated(Backup, values, f"s3://{bucket.settings.bucket}/{key}")


def statement_key(name: str) -> str:
    """Return the key of a backup."""
    return f"{BACKUPS}/{name}.json"


def bundle_key(name: str) -> str:
    """Return the key of the repository of a backup."""
    return f"{BACKUPS}/{name}.bundle"


def git(folder: Path, *arguments: str) -> str:
    """Run Git in a folder and return what it prints.

    Raises:
        CloudError: if it fails, with what it says.
    """
    # Hooks set these, and with them Git would work somewhere else.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(["git", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CloudError(
            f"git {arguments[0]} failed in {folder}", got=done.stderr.strip()[-500:], next_step="git status"
        )
    return done.stdout


def _free_name(bucket: Bucket, stamp: str) -> str:
    """Return a name that no backup has, nor the bundle of one that was broken off: nothing is written over."""
    taken = {one.key for one in bucket.list(f"{BACKUPS}/{stamp}")}
    names = itertools.chain([stamp], (f"{stamp}-{number}" for number in itertools.count(2)))
    return next(name for name in names if taken.isdisjoint({statement_key(name), bundle_key(name)}))


def _committed(project: Path) -> str:
    """Return the commit of HEAD, after making sure that it says what the working tree says."""
    changed = git(project, "status", "--porcelain", "--untracked-files=all", "--", *PIPELINE)
    if changed.strip():
        raise CloudError(
            "the pipeline has changes that are not committed",
            expected="a commit that names what is backed up",
            got=", ".join(line[3:] for line in changed.splitlines()[:MOST_NAMED]),
            next_step="git commit them, then: backbeat cloud backup",
        )
    if git(project, "rev-parse", "--is-shallow-repository").strip() == "true":
        raise CloudError(
            "this clone has a part of the history only, of which no repository can be restored",
            expected="all of it",
            got="a shallow clone",
            next_step="git fetch --unshallow",
        )
    return git(project, "rev-parse", "HEAD").strip()


def _of_dvc(project: Path, bucket: Bucket, made: Sequence[Artifact]) -> tuple[list[BackupFile], list[BackupFile]]:
    with open_proofs(project) as proofs:
        stored = BucketObjects(bucket, proofs)
        stored.list_all()
        roots = [one.oid for one in made if one.oid is not None]
        _require_whole({one.path: state for one, state in zip(made, _states(stored, roots), strict=True)})
        needed = [need for one in made for need in objects(one, listing_reader(project, one, proofs, stored))]
        _require_whole(
            {need.path: state for need, state in zip(needed, _states(stored, [n.oid for n in needed]), strict=True)}
        )
        files: list[BackupFile] = []
        listings: list[BackupFile] = []
        for need in sorted(set(needed), key=lambda one: (one.path, one.oid)):
            there = stored.get(need.oid)
            assert there is not None
            one = BackupFile(path=need.path, key=there.key, size_bytes=there.size_bytes, md5=need.md5_hex)
            (listings if need.oid != need.md5_hex else files).append(one)
    return files, listings


def _states(stored: BucketObjects, oids: Sequence[str]) -> list[str]:
    states = stored.states(sorted(set(oids)))
    return [states[oid] for oid in oids]


def _of_mirror(project: Path, bucket: Bucket, full: bool) -> list[BackupFile]:
    datasets = mirrored_datasets(bucket.list(FOLDER))
    if not datasets:
        return []
    verdicts = check(project, full=full, every=True)
    _require_whole({f"mirror/{one.dataset}/{one.path}": one.state for one in verdicts}, "backbeat cloud mirror push")
    files = []
    with progress("mirror", len(datasets), unit="datasets") as advance:
        for name in datasets:
            manifest = read_manifest(bucket, name)
            assert manifest is not None
            files += [
                BackupFile(
                    path=f"data/raw/{name}/{file.path}",
                    key=file_key(name, file.path),
                    size_bytes=file.size_bytes,
                    md5=file.md5,
                    sha256=file.sha256,
                )
                for file in manifest.files
            ]
            advance(1)
    return files


def _require_whole(states: dict[str, str], next_step: str = "backbeat cloud push where it is, then try again") -> None:
    bad = [f"{path} is {state}" for path, state in states.items() if state in {"missing", "damaged"}]
    if bad:
        more = f" and {len(bad) - MOST_NAMED} more" if bad[MOST_NAMED:] else ""
        raise CloudError(
            "this is no backup: the bucket does not have everything whole",
            expected=f"all of {len(states)} objects",
            got="; ".join(bad[:MOST_NAMED]) + more,
            next_step=next_step,
        )
