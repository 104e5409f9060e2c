"""`configs/cloud.yaml` as typed values: prices with their date, budgets, limits, and whether the mirror is used.

GB is 10^9 bytes and TB is 10^12, as in price lists; a month is 30 days.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated

from pydantic import Field

from backbeat.config import Strict, load_yaml, validated

CLOUD_FILE = "configs/cloud.yaml"

GB = 10**9
TB = 10**12

# What a YAML file calls .inf or .nan is no amount.
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Prices(Strict):
    """A price list; the units are in the names."""

    as_of: dt.date
    source: Annotated[str, Field(pattern=r"^https://\S+$")]
    storage_usd_per_tb_month: Amount
    storage_free_gb: Amount
    egress_free_multiple: Amount
    egress_usd_per_gb: Amount
    write_usd_per_10k_calls: Amount
    read_usd_per_10k_calls: Amount
    list_usd_per_10k_calls: Amount


class Budgets(Strict):
    """What is not exceeded; None is no limit."""

    usd_per_month: Amount | None
    stored_gb: Amount | None
    push_gb: Amount | None
    pull_gb: Amount | None


class Limits(Strict):
    """How long commands wait, how much they check, and how much room and bandwidth they take."""

    idle_timeout_s: Positive
    sample_objects: Annotated[int, Field(ge=0)]
    mirror_mb_per_s: Positive | None
    mount_cache_gb: Positive
    mount_spare_gb: Amount


class MirrorPolicy(Strict):
    """What the mirror is used for."""

    tried_first: bool


class ComputePrices(Strict):
    """What renting processors costs; None is not known."""

    as_of: dt.date
    source: Annotated[str, Field(pattern=r"^https://\S+$")]
    cpu_usd_per_core_hour: Amount | None
    gpu_usd_per_hour: Amount | None


class CloudConfig(Strict):
    """The whole of `configs/cloud.yaml`."""

    prices: Prices
    budgets: Budgets
    limits: Limits
    mirror: MirrorPolicy
    compute: ComputePrices


def load_cloud_config(project: Path) -> CloudConfig:
    """Load and check `configs/cloud.yaml`.

    Raises:
        ConfigError: if it is missing, not YAML, or has a wrong key, type or unit.
    """
    return validated(CloudConfig, load_yaml(project / CLOUD_FILE), CLOUD_FILE)
