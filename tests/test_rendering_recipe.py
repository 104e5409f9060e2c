"""Recipes: what they may say, and what they take from each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from backbeat.errors import ConfigError
from backbeat.rendering.recipe import Range, load_recipe
from test_rendering import RECIPE, _values


def written(path: Path, values: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("section", "change", "complaint"),
    [
        ("recording", {"speed": {"low": 1.1, "high": 0.9}}, "recording.speed.*low is above high"),
        ("recording", {"speed": {"low": float("nan"), "high": 1.0}}, "recording.speed.low.*finite"),
        ("recording", {"noise_db": {"low": float("-inf"), "high": 0.0}}, "recording.noise_db.low.*finite"),
        ("recording", {"speed": {"low": 0.0, "high": 1.0}}, "recording.speed.*from 0.25 to 4"),
        ("recording", {"distance_s": {"low": -0.1, "high": 0.0}}, "recording.distance_s.*from 0 to 0.5"),
        ("recording", {"ratio": {"low": 0.0, "high": 2.0}}, "recording.ratio.*from 1 to 100"),
        ("recording", {"decay_s": {"low": 0.0, "high": 1.0}}, "recording.decay_s.*from 0.01"),
        ("recording", {"lossy": -0.1}, "recording.lossy.*greater than or equal to 0"),
        ("kit", {"other_source": 1.5}, "kit.other_source.*less than or equal to 1"),
        ("kit", {"loose_hat": float("nan")}, "kit.loose_hat"),
        ("kit", {"attack_db": {"low": -13.0, "high": 12.0}}, "kit.attack_db.*from -12 to 12"),
        ("kit", {"layer_db": {"low": -60.0, "high": 1.0}}, "kit.layer_db.*from -60 to 0"),
        ("kit", {"choke_s": {"low": 0.0, "high": 0.1}}, "kit.choke_s.*from 0.0001"),
        ("parts", {"train": {"kits": 0, "minutes": {"train": 1.0}}}, "parts.train.kits.*greater than or equal to 1"),
        ("parts", {"train": {"kits": 1, "minutes": {"train": 0.0}}}, "minutes.train.*greater than 0"),
        ("parts", {"train": {"kits": 1, "minutes": {"train": float("inf")}}}, "minutes.train.*less than or equal"),
        ("parts", {"train": {"kits": 1, "minutes": {}}}, "parts.train.minutes.*at least 1"),
        (None, {"parts": {}}, "parts.*at least 1"),
        (None, {"longest_s": float("inf")}, "longest_s.*less than or equal"),
        (None, {"title": ""}, "title.*at least 1"),
    ],
)
def test_what_no_studio_has_is_refused_by_its_key(
    section: str | None, change: dict[str, Any], complaint: str, tmp_path: Path
) -> None:
    values = _values()
    (values[section] if section else values).update(change)
    with pytest.raises(ConfigError, match=f"(?s)expected.*{complaint}.*got.*next"):
        load_recipe(written(tmp_path / "wrong.yaml", values))


def test_a_source_has_a_name_of_one_line(tmp_path: Path) -> None:
    values = _values()
    values["sources"][0]["name"] = "one\ntwo"
    with pytest.raises(ConfigError, match=r"sources\.0\.name"):
        load_recipe(written(tmp_path / "wrong.yaml", values))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"sources": "one origin"}, "in two roles"),
        ({"recording": "a band is wanted"}, "there is no band"),
        ({"parts": "a role without sources"}, "no source has the role"),
    ],
)
def test_a_recipe_that_cannot_be_meant_is_refused(change: dict[str, str], complaint: str, tmp_path: Path) -> None:
    values = _values()
    if "sources" in change:
        for source in values["sources"]:
            source["origin"] = "somebody"
    elif "recording" in change:
        values["recording"]["backing"] = 0.5
    else:
        values["sources"] = values["sources"][:1]
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    with pytest.raises(ConfigError, match=complaint):
        load_recipe(path)


def test_a_recipe_like_another_is_that_but_for_what_it_says() -> None:
    recipe, held_out, in_mix = (
        load_recipe(RECIPE.with_name(f"{name}.yaml")) for name in (RECIPE.stem, "held-out-kits", "held-out-kits-in-mix")
    )
    assert set(held_out.parts) == set(in_mix.parts) == {"test"}
    assert (held_out.recording.backing, in_mix.recording.backing) == (0.0, 1.0)
    as_recorded = {"layered": 0.0, "attack_db": Range(low=0.0, high=0.0)}
    assert held_out.kit == in_mix.kit == recipe.kit.model_copy(update=as_recorded)
    assert recipe.kit != held_out.kit
    assert held_out.seed == in_mix.seed == recipe.seed


def test_the_tracked_recipe_holds_its_kits_out() -> None:
    recipe = load_recipe(RECIPE)
    assert {source.role for source in recipe.sources} == {"train", "validation", "test"}
    assert all(source.license.commercial for source in recipe.sources)


def test_what_a_recipe_names_is_beside_it_and_not_beside_who_is_like_it(tmp_path: Path) -> None:
    values = _values()
    sources = values.pop("sources")
    written(tmp_path / "all/lists/sources.yaml", {"sources": sources})
    written(tmp_path / "all/first.yaml", values | {"sources": "lists/sources.yaml", "title": "first", "seed": 1})
    written(tmp_path / "all/second.yaml", {"like": "first.yaml", "seed": 2, "kit": {"loose_hat": 0.75}})
    third = written(tmp_path / "mine/third.yaml", {"like": "../all/second.yaml", "recording": {"room": 0.125}})
    recipe = load_recipe(third)
    assert [source.name for source in recipe.sources] == [source["name"] for source in sources]
    assert (recipe.title, recipe.seed, recipe.kit.loose_hat, recipe.recording.room) == ("first", 2, 0.75, 0.125)
    assert recipe.kit.tuning_semitones.high == values["kit"]["tuning_semitones"]["high"]
    # Whoever has sources of their own needs no others.
    (tmp_path / "all/lists/sources.yaml").unlink()
    mine = written(tmp_path / "mine/fourth.yaml", {"like": "../all/first.yaml", "sources": sources})
    assert len(load_recipe(mine).sources) == 3
    with pytest.raises(ConfigError, match=r"lists/sources\.yaml is missing"):
        load_recipe(third)


@pytest.mark.parametrize(
    ("first", "second", "complaint"),
    [
        ({"like": "first.yaml"}, {}, "is like itself"),
        ({"like": "second.yaml"}, {"like": "first.yaml"}, "first.yaml is like second.yaml is like first.yaml"),
        ({"like": "third.yaml"}, {}, "first.yaml is like a recipe that is not there"),
        ({"like": ["second.yaml"]}, {}, "is like a recipe that is not there"),
        ({"like": "second.yaml"}, ["no", "keys"], "second.yaml is no recipe"),
        ({"like": "second.yaml", "kit": None}, {"kit": {"loose_hat": 0.5}}, "kit: Input should be"),
        ({"like": "second.yaml", "kit": {"loose_hat": 0.5}}, {}, "kit.other_source: Field required"),
        ({"sources": "second.yaml"}, {"like": "first.yaml"}, "second.yaml is no list of sources"),
    ],
)
def test_a_recipe_that_is_like_nothing_is_refused(
    first: dict[str, Any], second: Any, complaint: str, tmp_path: Path
) -> None:
    written(tmp_path / "second.yaml", second)
    with pytest.raises(ConfigError, match=complaint):
        load_recipe(written(tmp_path / "first.yaml", first))
