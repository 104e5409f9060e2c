"""The list of download stages: it follows the registry, and nothing else in the file changes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from backbeat.datasets.stages import STAGES_FILE, stage_address, sync_stages
from backbeat.errors import ConfigError

REPOSITORY = Path(__file__).parents[1]
VALID = Path(__file__).parent / "records" / "valid"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with the repository's stages and a registry of one dataset, `example`."""
    (tmp_path / "configs" / "datasets").mkdir(parents=True)
    (tmp_path / "data").mkdir()
    shutil.copy(REPOSITORY / STAGES_FILE, tmp_path / STAGES_FILE)
    add(tmp_path, "example")
    return tmp_path


def add(project: Path, name: str, example: str = "plain") -> None:
    text = (VALID / f"{example}.yaml").read_text(encoding="utf-8")
    (project / "configs" / "datasets" / f"{name}.yaml").write_text(text.replace("name: example", f"name: {name}", 1))


def text_of(project: Path) -> str:
    return (project / STAGES_FILE).read_text(encoding="utf-8")


def listed(project: Path) -> object:
    return yaml.safe_load(text_of(project))["stages"]["download"]["matrix"]["dataset"]


def replace(project: Path, before: str, after: str) -> None:
    assert text_of(project).count(before) == 1
    (project / STAGES_FILE).write_text(text_of(project).replace(before, after))


def test_list_of_the_repository_is_up_to_date(tmp_path: Path) -> None:
    for folder in ("data", "configs"):
        (tmp_path / folder).mkdir()
    shutil.copy(REPOSITORY / STAGES_FILE, tmp_path / STAGES_FILE)
    shutil.copytree(REPOSITORY / "configs" / "datasets", tmp_path / "configs" / "datasets")
    assert not sync_stages(tmp_path)


def test_list_becomes_the_registry_in_order(project: Path) -> None:
    add(project, "another")
    assert sync_stages(project)
    assert listed(project) == ["another", "example"]


def test_nothing_but_the_list_changes(project: Path) -> None:
    def others() -> list[str]:
        return [line for line in text_of(project).splitlines() if not line.startswith("        - ")]

    before = others()
    sync_stages(project)
    assert others() == before


def test_what_is_up_to_date_is_not_written(project: Path) -> None:
    sync_stages(project)
    before = (project / STAGES_FILE).stat()
    assert not sync_stages(project)
    assert (project / STAGES_FILE).stat().st_ino == before.st_ino


def test_record_that_is_gone_loses_its_stage(project: Path) -> None:
    add(project, "another")
    sync_stages(project)
    (project / "configs/datasets/another.yaml").unlink()
    assert sync_stages(project)
    assert listed(project) == ["example"]


def test_excluded_dataset_has_no_stage(project: Path) -> None:
    add(project, "forbidden", "excluded")
    sync_stages(project)
    assert listed(project) == ["example"]


def test_comment_beside_a_name_is_kept(project: Path) -> None:
    sync_stages(project)
    replace(project, "        - example\n", "        - example  # ours\n")
    add(project, "another")
    sync_stages(project)
    assert "        - another\n        - example  # ours\n" in text_of(project)


def test_list_that_is_not_indented_is_written_all_the_same(project: Path) -> None:
    sync_stages(project)
    replace(project, "        - example\n", "      - example\n")
    add(project, "another")
    sync_stages(project)
    assert listed(project) == ["another", "example"]


def test_empty_list_is_filled(project: Path) -> None:
    sync_stages(project)
    replace(project, "        - example\n", "")
    sync_stages(project)
    assert listed(project) == ["example"]


NOT_WRITABLE = {
    "comment between the names": ("        - example\n", "        - old\n        # and\n        - older\n"),
    "list in brackets": ("dataset:\n        - example\n", "dataset: [old]\n"),
    "no matrix": ("    matrix:\n      dataset:\n        - example\n", ""),
}


@pytest.mark.parametrize("case", NOT_WRITABLE)
def test_list_that_cannot_be_written_is_left_alone_and_the_names_are_told(case: str, project: Path) -> None:
    sync_stages(project)
    replace(project, *NOT_WRITABLE[case])
    before = text_of(project)
    with pytest.raises(ConfigError, match=r"list of datasets in data/dvc\.yaml .*(?s:.*)by hand: example"):
        sync_stages(project)
    assert text_of(project) == before


def test_missing_file_is_named(project: Path) -> None:
    (project / STAGES_FILE).unlink()
    with pytest.raises(ConfigError, match=r"data/dvc\.yaml is missing"):
        sync_stages(project)


def test_faulty_record_changes_nothing(project: Path) -> None:
    before = text_of(project)
    add(project, "another")
    (project / "configs/datasets/another.yaml").write_text("name: [")
    with pytest.raises(ConfigError, match=r"another\.yaml is not valid YAML"):
        sync_stages(project)
    assert text_of(project) == before


def test_address_is_the_one_that_dvc_knows() -> None:
    assert stage_address("egmd") == "data/dvc.yaml:download@egmd"
