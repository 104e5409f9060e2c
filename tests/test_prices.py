"""`configs/cloud.yaml`, and the arithmetic of prices and budgets."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from backbeat.cloud.prices import (
    GB,
    TB,
    calls_usd,
    egress_usd,
    free_bytes_left,
    is_outdated,
    load_cloud_config,
    require_within,
    storage_usd_per_month,
)
from backbeat.errors import CloudError, ConfigError

REPOSITORY = Path(__file__).parents[1]
CONFIG = load_cloud_config(REPOSITORY)
PRICES = CONFIG.prices

sizes = st.integers(0, 10**16)
amounts = st.floats(0, 1e9, allow_nan=False)


def test_a_terabyte_beyond_the_free_part_costs_what_the_list_says() -> None:
    assert storage_usd_per_month(PRICES, TB + 10 * GB) == pytest.approx(6.95)


def test_ten_gigabytes_are_free() -> None:
    assert storage_usd_per_month(PRICES, 10 * GB) == 0


def test_a_gigabyte_beyond_three_times_the_stored_volume_costs_a_cent() -> None:
    assert egress_usd(PRICES, 8 * GB, 25 * GB) == pytest.approx(0.01)


@given(sizes, sizes)
def test_more_storage_never_costs_less(one: int, more: int) -> None:
    assert storage_usd_per_month(PRICES, one + more) >= storage_usd_per_month(PRICES, one) >= 0


@given(sizes)
def test_storage_is_free_exactly_within_the_free_part(stored: int) -> None:
    within = stored <= int(PRICES.storage_free_gb * GB)
    assert (storage_usd_per_month(PRICES, stored) == 0) == within


@given(sizes)
def test_what_is_left_of_the_free_part_can_be_stored_for_nothing(stored: int) -> None:
    left = free_bytes_left(PRICES, stored)
    assert left >= 0
    assert left == 0 or storage_usd_per_month(PRICES, stored + left) == 0
    assert storage_usd_per_month(PRICES, stored + left + GB) > 0


@given(sizes, sizes, sizes)
def test_more_egress_costs_more_and_more_storage_frees_egress(stored: int, egress: int, more: int) -> None:
    assert egress_usd(PRICES, stored, egress + more) >= egress_usd(PRICES, stored, egress) >= 0
    assert egress_usd(PRICES, stored + more, egress) <= egress_usd(PRICES, stored, egress)


@given(sizes)
def test_egress_is_free_up_to_the_multiple(stored: int) -> None:
    assert egress_usd(PRICES, stored, int(PRICES.egress_free_multiple) * stored) == 0
    assert egress_usd(PRICES, stored, int(PRICES.egress_free_multiple) * stored + GB) > 0


def test_calls_are_charged_by_their_class() -> None:
    prices = PRICES.model_copy(update={"read_usd_per_10k_calls": 0.004, "list_usd_per_10k_calls": 0.04})
    assert calls_usd(prices, writes=10**6, reads=20_000, lists=5_000) == pytest.approx(0.008 + 0.02)


@given(amounts, amounts)
def test_a_budget_refuses_exactly_what_exceeds_it(allowed: float, planned: float) -> None:
    budgets = CONFIG.budgets.model_copy(update={"push_gb": allowed})
    if planned <= allowed:
        require_within(budgets, "push_gb", planned, "this")
    else:
        with pytest.raises(CloudError):
            require_within(budgets, "push_gb", planned, "this")


@given(amounts)
def test_no_budget_is_no_limit(planned: float) -> None:
    budgets = CONFIG.budgets.model_copy(update={"stored_gb": None})
    require_within(budgets, "stored_gb", planned, "this")


def test_refusal_names_the_line_to_change() -> None:
    with pytest.raises(CloudError) as failure:
        require_within(CONFIG.budgets, "stored_gb", 10.0001, "pushing the mirror")
    line = f"stored_gb: {CONFIG.budgets.stored_gb:g}"
    assert line in str(failure.value)
    assert "configs/cloud.yaml" in str(failure.value)
    assert line in (REPOSITORY / "configs" / "cloud.yaml").read_text()


def test_amount_that_is_refused_never_reads_like_the_allowed_one() -> None:
    with pytest.raises(CloudError) as failure:
        require_within(CONFIG.budgets, "stored_gb", 10.000001, "this")
    assert failure.value.got == "10.001"


@pytest.mark.parametrize(
    ("allowed", "planned", "said"),
    [(0.0001, 0.0003, ("0.0001", "0.0003")), (0.000123, 0.0001230001, ("0.000123", "0.000124")),
     (0.0, 0.0001, ("0", "0.001")), (1e-300, 1.0, ("0", "1")), (12.5, 1234.5, ("12.5", "1,234.5"))],
)  # fmt: skip
def test_small_budget_does_not_read_like_none(allowed: float, planned: float, said: tuple[str, str]) -> None:
    with pytest.raises(CloudError) as failure:
        require_within(CONFIG.budgets.model_copy(update={"pull_gb": allowed}), "pull_gb", planned, "this")
    assert (failure.value.expected, failure.value.got) == (f"at most {said[0]} GB fetched by one command", said[1])


def test_newcomer_who_keeps_to_the_budgets_stores_for_nothing() -> None:
    assert CONFIG.budgets.stored_gb is not None
    assert storage_usd_per_month(PRICES, int(CONFIG.budgets.stored_gb * GB)) == 0


def test_a_price_list_is_outdated_after_a_year() -> None:
    assert not is_outdated(PRICES, PRICES.as_of + dt.timedelta(days=365))
    assert is_outdated(PRICES, PRICES.as_of + dt.timedelta(days=366))


FAULTS = {
    "negative price": (("prices", "egress_usd_per_gb"), -0.01),
    "no number": (("prices", "storage_usd_per_tb_month"), float("nan")),
    "price as text": (("prices", "storage_usd_per_tb_month"), "6.95"),
    "source that is no address": (("prices", "source"), "somebody said so"),
    "date as text": (("prices", "as_of"), "lately"),
    "budget below nothing": (("budgets", "push_gb"), -1),
    "endless budget in place of null": (("budgets", "push_gb"), float("inf")),
    "deadline of nothing": (("limits", "idle_timeout_s"), 0),
    "half an object": (("limits", "sample_objects"), 0.5),
    "yes as text": (("mirror", "tried_first"), "yes"),
    "unknown key": (("budgets", "pushgb"), 3),
}


@pytest.mark.parametrize("case", FAULTS)
def test_fault_is_named_by_its_key(case: str, tmp_path: Path) -> None:
    (section, key), value = FAULTS[case]
    values = yaml.safe_load((REPOSITORY / "configs" / "cloud.yaml").read_text())
    values[section][key] = value
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "cloud.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError, match=rf"{section}\.{key}"):
        load_cloud_config(tmp_path)


@pytest.mark.parametrize("section", ["prices", "budgets", "limits", "mirror"])
def test_every_key_is_needed(section: str, tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    text = (REPOSITORY / "configs" / "cloud.yaml").read_text()
    for key in yaml.safe_load(text)[section]:
        values = yaml.safe_load(text)
        del values[section][key]
        (tmp_path / "configs" / "cloud.yaml").write_text(yaml.safe_dump(values))
        with pytest.raises(ConfigError, match=rf"{section}\.{key}"):
            load_cloud_config(tmp_path)
