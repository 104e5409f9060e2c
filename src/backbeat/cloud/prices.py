"""What bytes in the bucket and on their way out of it cost, and the budgets that no command exceeds.

Prices and budgets are in `configs/cloud.yaml`. Storage is billed for what lies in the bucket beyond the free part;
egress for what leaves it in a month beyond a multiple of the stored volume. Nothing is charged for sending.
"""

from __future__ import annotations

import datetime as dt
import math
from typing import Literal

from backbeat.errors import CloudError
from backbeat.remote.policy import CLOUD_FILE, GB, TB, Budgets, CloudConfig, Prices, load_cloud_config

__all__ = [
    "GB",
    "TB",
    "CloudConfig",
    "Prices",
    "calls_usd",
    "egress_usd",
    "free_bytes_left",
    "is_outdated",
    "load_cloud_config",
    "require_within",
    "storage_usd_per_month",
]

# A list that is older has been changed by its publisher more often than not.
OUTDATED_AFTER = dt.timedelta(days=365)

CALLS_PER_PRICE = 10_000

Budget = Literal["usd_per_month", "stored_gb", "push_gb", "pull_gb"]

_LIMITED: dict[Budget, str] = {
    "usd_per_month": "US dollars a month",
    "stored_gb": "GB in the bucket",
    "push_gb": "GB sent by one command",
    "pull_gb": "GB fetched by one command",
}


def storage_usd_per_month(prices: Prices, stored_bytes: int) -> float:
    """Return what it costs to keep so many bytes for a month."""
    billed_bytes = max(0.0, stored_bytes - prices.storage_free_gb * GB)
    return billed_bytes / TB * prices.storage_usd_per_tb_month


def egress_usd(prices: Prices, stored_bytes: int, egress_bytes: int) -> float:
    """Return what it costs that so many bytes leave the bucket within a month.

    Args:
        prices: the price list.
        stored_bytes: what lies in the bucket, on the average of the month.
        egress_bytes: what is fetched, by everybody together.
    """
    billed_bytes = max(0.0, egress_bytes - prices.egress_free_multiple * stored_bytes)
    return billed_bytes / GB * prices.egress_usd_per_gb


def calls_usd(prices: Prices, *, writes: int = 0, reads: int = 0, lists: int = 0) -> float:
    """Return what so many API calls cost: of the classes A (write), B (read) and C (list)."""
    total = (
        writes * prices.write_usd_per_10k_calls
        + reads * prices.read_usd_per_10k_calls
        + lists * prices.list_usd_per_10k_calls
    )
    return total / CALLS_PER_PRICE


def free_bytes_left(prices: Prices, stored_bytes: int) -> int:
    """Return how many bytes more can be stored before storage is billed."""
    return max(0, int(prices.storage_free_gb * GB) - stored_bytes)


def is_outdated(prices: Prices, today: dt.date) -> bool:
    """Return whether the price list is older than a year."""
    return today - prices.as_of > OUTDATED_AFTER


def require_within(budgets: Budgets, budget: Budget, planned: float, doing: str) -> None:
    """Refuse what would exceed a budget, before it begins.

    Args:
        budgets: the limits of `configs/cloud.yaml`.
        budget: which of them.
        planned: the amount, in the budget's own unit: dollars a month, or GB.
        doing: what is about to be done, as it continues `… would exceed a budget`.

    Raises:
        CloudError: naming the line of `configs/cloud.yaml` to change.
    """
    allowed = getattr(budgets, budget)
    if allowed is None or planned <= allowed:
        return
    # Three decimals, or three digits of a smaller limit, which would read like nothing.
    decimals = min(max(3, 2 - math.floor(math.log10(allowed))), 12) if allowed else 3
    raise CloudError(
        f"{doing} would exceed a budget",
        expected=f"at most {_amount(allowed, decimals)} {_LIMITED[budget]}",
        # Rounded up, so that it never reads like what is allowed.
        got=_amount(math.ceil(planned * 10**decimals) / 10**decimals, decimals),
        next_step=f"move less, or raise `{budget}: {allowed:g}` under `budgets:` in {CLOUD_FILE}; null is no limit",
    )


def _amount(value: float, decimals: int) -> str:
    return f"{value:,.{decimals}f}".rstrip("0").rstrip(".")
