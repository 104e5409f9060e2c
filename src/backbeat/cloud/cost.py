"""What the bucket costs: as it is, by one listing, and as it would be, by arithmetic.

Both are upper bounds of what is billed. Storage is billed by the hour, a listing is of this moment; egress is not seen
in a listing at all, so that it is a part of the plan alone.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from backbeat.cloud.pointers import artifacts
from backbeat.cloud.prices import (
    GB,
    Prices,
    calls_usd,
    egress_usd,
    free_bytes_left,
    is_outdated,
    load_cloud_config,
    storage_usd_per_month,
)
from backbeat.datasets.transport.mirrored import ROOT
from backbeat.errors import CloudError
from backbeat.remote.bucket import Bucket, open_bucket

BACKUPS = "backups"

# Objects that this project makes are no larger, which bounds the number of calls from below.
OBJECT_BYTES = 48 * 2**20
LISTED_PER_CALL = 1000

# A class each, as price lists have them.
HIDDEN = "hidden versions"
OTHER = "other"


@dataclass(frozen=True)
class Stored:
    """A part of the bucket.

    Args:
        what: `DVC`, `mirror`, `backups`, `other` or `hidden versions`.
        objects: how many there are.
        size_bytes: what they take.
    """

    what: str
    objects: int
    size_bytes: int


@dataclass(frozen=True)
class Present:
    """The bucket as it is.

    Args:
        bucket: its name.
        parts: what is in it, the largest first.
        hidden_seen: whether versions that were overwritten or hidden, which are billed, are among the parts.
        usd_per_month: what storing all of it costs.
        free_left_bytes: what can be added before storage is billed.
    """

    bucket: str
    parts: tuple[Stored, ...]
    hidden_seen: bool
    usd_per_month: float
    free_left_bytes: int

    @property
    def size_bytes(self) -> int:
        """All parts together."""
        return sum(part.size_bytes for part in self.parts)


@dataclass(frozen=True)
class Wish:
    """A month to be priced.

    Args:
        stored_gb: what lies in the bucket; None means what does now, and no less than DVC's pointers need.
        codespaces: how many machines pull.
        pulls_per_month: how often each of them does.
        pull_gb: how much each time; None means everything that DVC's pointers need.
    """

    stored_gb: float | None = None
    codespaces: int = 1
    pulls_per_month: float = 4
    pull_gb: float | None = None


@dataclass(frozen=True)
class Planned:
    """What such a month costs.

    Args:
        stored_bytes: what lies in the bucket.
        egress_bytes: what leaves it.
        reads: calls that read an object.
        lists: calls that list.
        storage_usd: for what is stored.
        egress_usd: for what leaves.
        calls_usd: for the calls.
    """

    stored_bytes: int
    egress_bytes: int
    reads: int
    lists: int
    storage_usd: float
    egress_usd: float
    calls_usd: float

    @property
    def usd_per_month(self) -> float:
        """All of it."""
        return self.storage_usd + self.egress_usd + self.calls_usd


@dataclass(frozen=True)
class Cost:
    """The present and the plan.

    Args:
        as_of: the date of the price list.
        source: where it was read.
        outdated: whether it is older than a year.
        present: the bucket as it is; None if it cannot be seen.
        unseen: why it cannot be seen.
        planned: the month that was asked for.
    """

    as_of: dt.date
    source: str
    outdated: bool
    present: Present | None
    unseen: str | None
    planned: Planned


def cost(project: Path, wish: Wish, *, today: dt.date | None = None) -> Cost:
    """Price the bucket as it is, and a month as it might be.

    Without a bucket, or without keys, the plan is priced all the same.

    Raises:
        ConfigError: if `configs/cloud.yaml` is not valid.
    """
    prices = load_cloud_config(project).prices
    present, unseen = None, None
    try:
        present = look(prices, open_bucket(project))
    except CloudError as error:
        unseen = f"{error.what}: {error.got}" if error.got else error.what
    needed_bytes = sum(one.size_bytes or 0 for one in artifacts(project))
    today = today or dt.datetime.now(dt.UTC).date()
    # What the pointers need will be there after the next push.
    stored_bytes = max(present.size_bytes, needed_bytes) if present else needed_bytes
    return Cost(
        as_of=prices.as_of,
        source=prices.source,
        outdated=is_outdated(prices, today),
        present=present,
        unseen=unseen,
        planned=plan(prices, wish, stored_bytes, needed_bytes),
    )


def look(prices: Prices, bucket: Bucket) -> Present:
    """Return what is in a bucket, with the versions that are hidden if the key may list them.

    Raises:
        CloudError: if the bucket cannot be listed.
    """
    hidden_seen = True
    try:
        sizes = list(_versions(bucket))
    # The right is often missing, and services of other makers know no versions.
    except (ClientError, BotoCoreError):
        hidden_seen = False
        sizes = [(one.key, one.size_bytes, True) for one in bucket.list()]
    parts = _parts(sizes, bucket.settings.prefix)
    total_bytes = sum(part.size_bytes for part in parts)
    return Present(
        bucket=bucket.settings.bucket,
        parts=tuple(parts),
        hidden_seen=hidden_seen,
        usd_per_month=storage_usd_per_month(prices, total_bytes),
        free_left_bytes=free_bytes_left(prices, total_bytes),
    )


def plan(prices: Prices, wish: Wish, stored_bytes: int, needed_bytes: int) -> Planned:
    """Return what a month costs.

    Args:
        prices: the price list.
        wish: the month.
        stored_bytes: what lies in the bucket, where the wish does not say it.
        needed_bytes: what a pull fetches, where the wish does not say it.
    """
    stored = round(wish.stored_gb * GB) if wish.stored_gb is not None else stored_bytes
    pull_bytes = round(wish.pull_gb * GB) if wish.pull_gb is not None else needed_bytes
    pulls = wish.codespaces * wish.pulls_per_month
    objects = math.ceil(pull_bytes / OBJECT_BYTES)
    egress_bytes = round(pulls * pull_bytes)
    reads = math.ceil(pulls * objects)
    lists = math.ceil(pulls * math.ceil(objects / LISTED_PER_CALL))
    return Planned(
        stored_bytes=stored,
        egress_bytes=egress_bytes,
        reads=reads,
        lists=lists,
        storage_usd=storage_usd_per_month(prices, stored),
        egress_usd=egress_usd(prices, stored, egress_bytes),
        calls_usd=calls_usd(prices, reads=reads, lists=lists),
    )


def _versions(bucket: Bucket) -> Iterable[tuple[str, int, bool]]:
    """Yield key, size and whether it is the present version, of all versions."""
    pages = bucket.client.get_paginator("list_object_versions").paginate(Bucket=bucket.settings.bucket)
    for page in pages:
        for version in page.get("Versions", ()):
            yield version["Key"], int(version["Size"]), bool(version.get("IsLatest", True))


def _parts(sizes: Sequence[tuple[str, int, bool]], prefix: str) -> list[Stored]:
    counts: dict[str, tuple[int, int]] = {}
    for key, size_bytes, is_present in sizes:
        what = _part(key, prefix) if is_present else HIDDEN
        objects, total_bytes = counts.get(what, (0, 0))
        counts[what] = (objects + 1, total_bytes + size_bytes)
    parts = [Stored(what, *count) for what, count in counts.items()]
    return sorted(parts, key=lambda part: (-part.size_bytes, part.what))


def _part(key: str, prefix: str) -> str:
    for name in (ROOT, BACKUPS):
        if key.startswith(f"{name}/"):
            return name
    return "DVC" if not prefix or key.startswith(f"{prefix}/") else OTHER
