"""Which datasets a wish means, in which order, and what is said of the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backbeat.datasets.registry import Record, load_registry
from backbeat.datasets.selection import Wish, select
from backbeat.errors import ConfigError
from one_dataset import new_project, record_of

REGISTRY: dict[str, dict[str, Any]] = {
    "small": {"phase": "minimal", "priority": 4},
    "first": {"phase": "minimal", "priority": 5},
    "middle": {"phase": "balanced", "priority": 3, "collections": {"wakeword": "required"}},
    "large": {"phase": "comprehensive", "priority": 3, "collections": {"wakeword": "optional"}},
    "closed": {"phase": None, "excluded": "its license", "priority": 5},
    "loose": {"phase": None, "priority": 5, "collections": {"wakeword": "required"}},
}
SIZES = {"small": 100, "first": 600, "middle": 300, "large": 50, "loose": None}


@pytest.fixture
def registry(tmp_path: Path) -> dict[str, Record]:
    project = new_project(tmp_path)
    for name, fields in REGISTRY.items():
        record_of(
            project, f"https://example.org/{name}", name=name, record=fields, size=SIZES.get(name), hash="unverified"
        )
    return load_registry(project)


@pytest.mark.parametrize(
    ("wish", "chosen"),
    [
        pytest.param(Wish(), (), id="nothing asked for"),
        pytest.param(Wish(("large", "small")), ("small", "large"), id="by name, in the order of fetching"),
        pytest.param(Wish(phase="minimal"), ("first", "small"), id="a phase"),
        pytest.param(Wish(phase="balanced"), ("first", "small", "middle"), id="a phase holds those before it"),
        pytest.param(Wish(phase="comprehensive"), ("first", "small", "middle", "large"), id="the last phase"),
        pytest.param(Wish(collection="wakeword"), ("loose", "middle"), id="what a collection requires"),
        pytest.param(
            Wish(collection="wakeword", with_optional=True), ("loose", "middle", "large"), id="all of a collection"
        ),
        pytest.param(Wish(("small",), phase="minimal"), ("first", "small"), id="named twice over, taken once"),
        pytest.param(
            Wish(phase="comprehensive", max_storage_bytes=700), ("first", "small"), id="what fits, by priority"
        ),
        pytest.param(
            Wish(phase="comprehensive", max_storage_bytes=460),
            ("small", "middle", "large"),
            id="whatever still fits",
        ),
    ],
)
def test_wish_means(wish: Wish, chosen: tuple[str, ...], registry: dict[str, Record]) -> None:
    assert select(registry, wish).names == chosen


def test_required_goes_before_optional_of_the_same_priority(registry: dict[str, Record]) -> None:
    wish = Wish(collection="wakeword", with_optional=True, max_storage_bytes=320)
    assert select(registry, wish).names == ("middle",)


@pytest.mark.parametrize(
    ("name", "fragment"),
    [("first", "600 bytes, and 500 are left of the limit"), ("loose", "its size is not known")],
)
def test_what_a_limit_leaves_out_has_a_reason(name: str, fragment: str, registry: dict[str, Record]) -> None:
    left_out = {one.name: one.reason for one in select(registry, Wish((name,), max_storage_bytes=500)).left_out}
    assert fragment in left_out[name]


def test_commercial_use_leaves_out_what_forbids_it_and_what_does_not_say(tmp_path: Path) -> None:
    project = new_project(tmp_path)
    for name, commercial in (("yes", True), ("no", False), ("unsaid", None)):
        terms = {"id": "X", "url": "https://example.org", "commercial": commercial, "redistribute": False, "note": None}
        record_of(project, "https://example.org/a", name=name, record={"license": terms})
    selection = select(load_registry(project), Wish(phase="minimal", commercial_only=True))
    assert (selection.names, [one.name for one in selection.left_out]) == (("yes",), ["no", "unsaid"])


def test_excluded_dataset_asked_for_by_name_is_refused_with_its_reason(registry: dict[str, Record]) -> None:
    with pytest.raises(ConfigError, match="closed is excluded: its license"):
        select(registry, Wish(("closed",)))


def test_unknown_collection_gets_the_list(registry: dict[str, Record]) -> None:
    with pytest.raises(ConfigError, match="expected: one of wakeword"):
        select(registry, Wish(collection="wakewrod"))


def test_misspelled_name_gets_the_nearest_one(registry: dict[str, Record]) -> None:
    with pytest.raises(ConfigError, match=r"unknown dataset smal; did you mean small\?"):
        select(registry, Wish(("smal",)))
