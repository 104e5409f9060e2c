"""What a transfer is, before a byte moves: objects, bytes, minutes, dollars; and the budgets that stop it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from backbeat.cloud.prices import (
    GB,
    CloudConfig,
    egress_usd,
    free_bytes_left,
    require_within,
    storage_usd_per_month,
)
from backbeat.datasets.bandwidth import Bandwidth, last_bandwidth
from backbeat.errors import CloudError
from backbeat.storage.staging import Staging

Direction = Literal["push", "pull"]


@dataclass(frozen=True)
class Bill:
    """A transfer before it begins.

    Args:
        direction: whether bytes go to the bucket or come from it.
        url: the remote.
        objects: how many objects the pointers need.
        objects_there: how many of them are there already.
        bytes_there: their size.
        to_move: how many objects are not there.
        to_move_bytes: their size.
        mbps: the speed that `duration_s` is for, in megabits per second; None if none was given or ever measured.
        duration_s: how long it will take.
        stored_bytes: all that is in the bucket now; None if only some of it was listed.
        usd_now: what the transfer itself costs.
        usd_per_month: what the bucket costs from then on; None if it is not known what is in it.
        free_bytes: how much more can then be stored for nothing; None likewise.
    """

    direction: Direction
    url: str
    objects: int
    objects_there: int
    bytes_there: int
    to_move: int
    to_move_bytes: int
    mbps: float | None
    duration_s: float | None
    stored_bytes: int | None
    usd_now: float
    usd_per_month: float | None
    free_bytes: int | None


def draw_up(
    direction: Direction,
    url: str,
    there: Mapping[str, int],
    to_move: Mapping[str, int],
    stored_bytes: int | None,
    config: CloudConfig,
    bandwidth: Bandwidth | None,
) -> Bill:
    """Return the bill of a transfer.

    Args:
        direction: whether bytes go to the bucket or come from it.
        url: the remote.
        there: the sizes of the objects that are there already.
        to_move: the sizes of those that are not.
        stored_bytes: all that is in the bucket now, if that is known.
        config: prices.
        bandwidth: the speed of the network, if it is known.
    """
    moved_bytes = sum(to_move.values())
    stored_then = None if stored_bytes is None else stored_bytes + (moved_bytes if direction == "push" else 0)
    # What is fetched is stored, whatever else is.
    fetched_usd = egress_usd(config.prices, moved_bytes if stored_then is None else stored_then, moved_bytes)
    return Bill(
        direction=direction,
        url=url,
        objects=len(there) + len(to_move),
        objects_there=len(there),
        bytes_there=sum(there.values()),
        to_move=len(to_move),
        to_move_bytes=moved_bytes,
        mbps=None if bandwidth is None else bandwidth.mbps,
        duration_s=None if bandwidth is None else moved_bytes / bandwidth.bytes_per_s,
        stored_bytes=stored_bytes,
        usd_now=fetched_usd if direction == "pull" else 0.0,
        usd_per_month=None if stored_then is None else storage_usd_per_month(config.prices, stored_then),
        free_bytes=None if stored_then is None else free_bytes_left(config.prices, stored_then),
    )


def speed(staging: Staging, direction: Direction, mbps: float | None) -> Bandwidth | None:
    """Return the given speed of the network, or the one that the last such transfer had."""
    return Bandwidth(mbps * 1e6 / 8) if mbps is not None else last_bandwidth(staging, direction)


def require_affordable(bill: Bill, config: CloudConfig, max_gb: float | None) -> None:
    """Refuse a transfer that would exceed a budget, or what was given as the most.

    Raises:
        CloudError: naming the budget or the option.
    """
    moved_gb = bill.to_move_bytes / GB
    doing = f"to {bill.direction} {bill.to_move:,} objects"
    if max_gb is not None and moved_gb > max_gb:
        raise CloudError(
            f"{doing} would move more than was allowed",
            expected=f"at most {max_gb:g} GB (--max-gb)",
            got=f"{moved_gb:.3g} GB",
            next_step="name fewer targets, or a larger --max-gb",
        )
    # What moves nothing is never refused: the bucket is as it is.
    if not bill.to_move:
        return
    require_within(config.budgets, "push_gb" if bill.direction == "push" else "pull_gb", moved_gb, doing)
    if bill.direction == "push" and bill.stored_bytes is not None:
        require_within(config.budgets, "stored_gb", (bill.stored_bytes + bill.to_move_bytes) / GB, doing)
        require_within(config.budgets, "usd_per_month", bill.usd_per_month or 0.0, doing)
    if bill.direction == "pull":
        require_within(config.budgets, "usd_per_month", bill.usd_now + (bill.usd_per_month or 0.0), doing)
