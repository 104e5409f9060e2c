"""The mirror: raw archives in the bucket under their own names, `mirror/raw/<dataset>/<file>`.

Raw archives are not DVC's cargo: they come back from their publisher. The mirror is for the day when the publisher is
slow, gone, or never let machines in. What a license does not allow to be handed on goes up only for oneself
(`private`), into a bucket that nobody can read without a key.

This module says what a push would do, and what it costs; `mirror_push` does it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import requests

from backbeat.cloud.manifest import FOLDER, MirroredFile, file_key, mirrored_datasets, read_manifest
from backbeat.cloud.prices import GB, CloudConfig, load_cloud_config, require_within, storage_usd_per_month
from backbeat.datasets.checks import last_check
from backbeat.datasets.places import staged_path
from backbeat.datasets.registry import Record, RecordFile, load_record, load_registry, url_scheme
from backbeat.errors import CloudError
from backbeat.remote.bucket import Bucket, StoredObject, open_bucket
from backbeat.remote.settings import RemoteSettings
from backbeat.storage.staging import Staging, open_staging

# How long to wait for the answer to the question whether everybody can read the bucket.
QUESTION_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Sending:
    """One file of a push.

    Args:
        record: its dataset.
        file: what the record promises.
        source: where it is here.
        size_bytes: its size.
        there: what the manifest says of it, if that is in the bucket; None if it is to be sent.
    """

    record: Record
    file: RecordFile
    source: Path
    size_bytes: int
    there: MirroredFile | None

    @property
    def key(self) -> str:
        """Its key in the bucket."""
        return file_key(self.record.name, self.file.path)


@dataclass(frozen=True)
class MirrorPlan:
    """What a push would do.

    Args:
        files: every file that the mirror shall have, in the order of datasets and records.
        left_out: datasets that are not mirrored, each with the reason.
        stored_bytes: what the bucket would hold afterwards.
        usd_per_month: what that would cost.
        private: whether datasets are among them that may not be handed on.
    """

    files: tuple[Sending, ...]
    left_out: dict[str, str]
    stored_bytes: int
    usd_per_month: float
    private: bool

    @property
    def to_send(self) -> tuple[Sending, ...]:
        """Those that are not there yet."""
        return tuple(one for one in self.files if one.there is None)

    @property
    def to_send_bytes(self) -> int:
        """The size of those."""
        return sum(one.size_bytes for one in self.to_send)


def plan_push(project: Path, names: Sequence[str] = (), *, private: bool = False) -> MirrorPlan:
    """Return what a push would send: every file that is here of these datasets, or of all that may be mirrored.

    Args:
        project: the root of the repository.
        names: the names of the records; none means every dataset of which something is here.
        private: whether datasets may go up that must not be handed on: the bucket is for oneself.

    Raises:
        ConfigError: if there is no such record.
        CloudError: if a named dataset may not be mirrored or is not here, the bucket does not answer, or everybody
            can read it and `private` is asked for.
    """
    staging = open_staging(project)
    records = [load_record(project, name) for name in dict.fromkeys(names)] or list(load_registry(project).values())
    chosen: list[Record] = []
    left_out: dict[str, str] = {}
    for record in records:
        here = any(staged_path(staging, file).is_file() for file in record.files)
        reason = _reason_against(record, here, private)
        if reason is None:
            chosen.append(record)
        elif names:
            raise CloudError(f"{record.name} cannot be mirrored", got=reason[0], next_step=reason[1])
        elif here:
            left_out[record.name] = reason[0]
    bucket = open_bucket(project)
    stored = {one.key: one for one in bucket.list()}
    if any(not record.license.redistribute for record in chosen):
        _refuse_public(bucket, min(stored, key=lambda key: (not key.startswith(FOLDER), key), default=None))
    files = tuple(one for record in chosen for one in _of_dataset(staging, bucket, record, stored))
    stored_bytes = sum(one.size_bytes for one in stored.values())
    for one in files:
        if one.there is None:
            stored_bytes += one.size_bytes - (stored[one.key].size_bytes if one.key in stored else 0)
    prices = load_cloud_config(project).prices
    usd = storage_usd_per_month(prices, stored_bytes)
    return MirrorPlan(files, left_out, stored_bytes, usd, private)


def require_budget(config: CloudConfig, plan: MirrorPlan) -> None:
    """Refuse a push that exceeds a budget.

    Raises:
        CloudError: naming the line of `configs/cloud.yaml`.
    """
    if plan.to_send:
        doing = "pushing to the mirror"
        require_within(config.budgets, "push_gb", plan.to_send_bytes / GB, doing)
        require_within(config.budgets, "stored_gb", plan.stored_bytes / GB, doing)
        require_within(config.budgets, "usd_per_month", plan.usd_per_month, doing)


def file_state(wanted: RecordFile | None, file: MirroredFile) -> Literal["ok", "outdated"]:
    """Return whether a file of a manifest is what the record wants today."""
    if wanted is None or wanted.size not in {None, file.size_bytes}:
        return "outdated"
    algorithm, _, digest = wanted.hash.partition(":")
    return "ok" if not digest or file.has_hash((algorithm, digest)) else "outdated"


def _reason_against(record: Record, here: bool, private: bool) -> tuple[str, str] | None:
    """Return why a dataset is not mirrored, and what to do; None if it may be."""
    if record.excluded:
        return f"it is excluded: {record.excluded}", "choose another dataset"
    if not record.license.redistribute and not private:
        return (
            f"its license ({record.license.id}) does not allow to hand it on",
            "add --private if the bucket is for yourself alone; that everybody can read it is then refused",
        )
    if any(file.members is not None for file in record.files):
        return (
            "its record wants a part of an archive, and the mirror holds whole ones",
            "remove members from the record, or mirror nothing: what is made from it is versioned by DVC",
        )
    if any(url_scheme(file.urls[0]) == "generate" for file in record.files):
        return "it is made here, the same every time", "backbeat datasets download makes it wherever it is needed"
    if not here:
        return "nothing of it is here", f"backbeat datasets download {record.name}"
    return None


def _refuse_public(bucket: Bucket, key: str | None) -> None:
    """Refuse a bucket that answers to whoever has no key.

    Three questions, since rights are given one by one: for its listing; for what is not there, which whoever may list
    is told, and all others are forbidden to ask; and for an object that is there, if there is one.
    """
    settings = bucket.settings
    root = f"{settings.endpoint_url or 'https://s3.amazonaws.com'}/{settings.bucket}"
    questions = [f"{root}?list-type=2&max-keys=1", f"{root}/{FOLDER}none"]
    for url in [*questions, *([] if key is None else [f"{root}/{quote(key)}"])]:
        _refuse_answer(settings, url)


def _refuse_answer(settings: RemoteSettings, url: str) -> None:
    try:
        with requests.get(url, timeout=QUESTION_TIMEOUT_S, stream=True) as answer:
            status = answer.status_code
    except requests.RequestException as error:
        raise CloudError(
            "whether everybody can read the bucket is not known",
            expected=f"an answer of {settings.endpoint_url}",
            got=type(error).__name__,
            next_step="check the network, then try again",
        ) from error
    if status < 400 or status == 404:
        raise CloudError(
            f"everybody can read the bucket {settings.bucket}",
            expected="a private one, for data that must not be handed on",
            got=f"HTTP {status} for a request without a key",
            next_step="make the bucket private (its settings at Backblaze: Files in Bucket are: Private)",
        )


def _of_dataset(staging: Staging, bucket: Bucket, record: Record, stored: dict[str, StoredObject]) -> Iterable[Sending]:
    manifest = read_manifest(bucket, record.name) if record.name in mirrored_datasets(stored.values()) else None
    for file in record.files:
        source = staged_path(staging, file)
        if not source.is_file():
            continue
        one = Sending(record, file, source, source.stat().st_size, None)
        known = manifest.file(file.path) if manifest else None
        is_there = known is not None and _is_there(one, known, stored.get(one.key))
        yield Sending(record, file, source, one.size_bytes, known if is_there else None)


def _is_there(one: Sending, known: MirroredFile, stored: StoredObject | None) -> bool:
    """Return whether the bucket has a file that was proven here, as far as listing and manifest can say."""
    check = last_check(one.source)
    proven = check is not None and check.good and known.has_hash(_pair(check.hash))
    promised = one.file.promise is None or known.has_hash(one.file.promise)
    return proven and promised and stored is not None and may_be(stored, known) and known.size_bytes == one.size_bytes


def may_be(stored: StoredObject, known: MirroredFile) -> bool:
    """Return whether a listing does not contradict a manifest: equal sizes, and the MD5 where the ETag is one."""
    return stored.size_bytes == known.size_bytes and ("-" in stored.etag or stored.etag == known.md5)


def _pair(hash_: str) -> tuple[str, str]:
    algorithm, _, digest = hash_.partition(":")
    return algorithm, digest
