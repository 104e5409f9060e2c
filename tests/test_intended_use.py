"""What data may be used for: the stages that make something of it refuse, by the name of the record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from backbeat.datasets.intended_use import require_use
from backbeat.datasets.registry import Record, load_record
from backbeat.drums.preprocess import preprocess
from backbeat.errors import ConfigError
from backbeat.transcription.train import train
from small_project import new_project, processed

REPOSITORY = Path(__file__).parents[1]
SHARE_ALIKE = {"id": "CC-BY-NC-SA-4.0", "url": None, "commercial": False, "redistribute": False, "note": "Of Mandarin."}


def record_of(name: str) -> Record:
    return load_record(REPOSITORY, name)


def license_of(project: Path, **changes: Any) -> None:
    """Change the license of the project's dataset."""
    path = project / "configs/datasets/small.yaml"
    record = yaml.safe_load(path.read_text(encoding="utf-8"))
    record["license"] |= changes
    path.write_text(yaml.safe_dump(record, sort_keys=False))


def intend(project: Path, use: str) -> None:
    path = project / "params.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("intended_use: research", f"intended_use: {use}"))
    assert f"intended_use: {use}" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["egmd", "egmd_mini", "ljspeech", "urmp"])
def test_data_that_may_be_used_commercially_is_accepted_for_that(name: str) -> None:
    require_use(record_of(name), "commercial")


@pytest.mark.parametrize("name", ["m4singer", "fma_small", "mit_rir", "genius", "lakh_midi"])
def test_data_that_is_not_excluded_is_accepted_for_research(name: str) -> None:
    require_use(record_of(name), "research")


REFUSED = {
    "m4singer": "the dataset m4singer may not be used commercially",
    "lakh_midi": "the dataset lakh_midi may not be used commercially",
    "fma_small": "the dataset fma_small has a license for each item",
    "mit_rir": "the dataset mit_rir has no license that speaks of commercial use",
}


@pytest.mark.parametrize("name", REFUSED)
def test_commercial_use_that_no_license_allows_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(ConfigError, match=REFUSED[name]):
        require_use(record_of(name), "commercial")


def test_refusal_says_what_the_license_is_and_what_to_do() -> None:
    with pytest.raises(ConfigError) as refusal:
        require_use(record_of("m4singer"), "commercial")
    assert "CC-BY-NC-SA-4.0: With an indemnity clause" in str(refusal.value.got)
    assert "intended_use to research" in str(refusal.value.next_step)


@pytest.mark.parametrize("use", ["research", "commercial"])
def test_excluded_data_is_refused_for_everything(use: Any) -> None:
    with pytest.raises(ConfigError, match="maestro is excluded") as refusal:
        require_use(record_of("maestro"), use)
    assert "non-commercial" in str(refusal.value.got)


def test_preprocessing_refuses_before_it_makes_anything(tmp_path: Path) -> None:
    project = new_project(tmp_path / "project")
    license_of(project, **SHARE_ALIKE)
    intend(project, "commercial")
    with pytest.raises(ConfigError, match="the dataset small may not be used commercially"):
        preprocess(project, workers=1)
    assert processed(project) == {}


def test_training_refuses_before_it_looks_for_shards(tmp_path: Path) -> None:
    project = new_project(tmp_path / "project")
    license_of(project, **SHARE_ALIKE)
    intend(project, "commercial")
    with pytest.raises(ConfigError, match="the dataset small may not be used commercially"):
        train(project)


def test_preprocessing_for_research_takes_the_same_data(tmp_path: Path) -> None:
    project = new_project(tmp_path / "project")
    license_of(project, **SHARE_ALIKE)
    assert preprocess(project, workers=1).made > 0
