"""Contracts of the pipeline files: what a stage says it depends on is what it depends on."""

from pathlib import Path
from typing import Any

import grimp
import pytest
import yaml

PROJECT = Path(__file__).parents[1]
LIBRARY = "data/library/dvc.yaml"
STAGES = {
    "preprocess": "backbeat.drums.preprocess",
    "train": "backbeat.transcription.train",
    "evaluate": "backbeat.transcription.evaluate",
}
LIBRARY_STAGES = {
    name: f"backbeat.library.{name}" for name in ("scan", "describe", "duplicates", "curate", "archive", "catalog")
}
SOURCE = "src/backbeat/"


def stages(file: str = "dvc.yaml") -> dict[str, Any]:
    return yaml.safe_load((PROJECT / file).read_text())["stages"]


def import_closure(module: str) -> set[str]:
    """Return the files that a module is made of: itself and all it imports, without the docstring-only packages."""
    graph = grimp.build_graph("backbeat", cache_dir=None)
    names = {module, *graph.find_upstream_modules(module)}
    files = {name: PROJECT / "src" / (name.replace(".", "/") + ".py") for name in names}
    packages = {name: PROJECT / "src" / name.replace(".", "/") / "__init__.py" for name in names}
    found = {file for file in files.values() if file.exists()}
    found |= {file for file in packages.values() if file.exists() and "import" in file.read_text()}
    return {str(file.relative_to(PROJECT)) for file in found}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_exactly_the_code_it_imports(stage: str) -> None:
    declared = {dep for dep in stages()[stage]["deps"] if dep.startswith(SOURCE)}
    assert declared == import_closure(STAGES[stage])


@pytest.mark.parametrize("stage", LIBRARY_STAGES)
def test_so_does_a_stage_of_the_library(stage: str) -> None:
    declared = {dep for dep in stages(LIBRARY)[stage]["deps"] if dep.startswith(SOURCE)}
    assert declared == import_closure(LIBRARY_STAGES[stage])


@pytest.mark.parametrize("stage", STAGES)
def test_stage_module_and_command_have_one_name(stage: str) -> None:
    assert stages()[stage]["cmd"] == f"backbeat {stage}"
    assert STAGES[stage].rpartition(".")[2] == stage


def test_stages_of_the_library_are_commands_that_run_in_the_root() -> None:
    assert {name: stage["cmd"] for name, stage in stages(LIBRARY).items()} == {
        name: f"backbeat library {name}" for name in LIBRARY_STAGES
    }
    assert {stage["wdir"] for stage in stages(LIBRARY).values()} == {"../.."}
    assert all(stage["desc"].endswith(".") for stage in stages(LIBRARY).values())


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_says_in_a_sentence_what_it_does(stage: str) -> None:
    assert stages()[stage]["desc"].endswith(".")


def test_a_license_or_a_note_is_no_dependency_of_a_download() -> None:
    (tracked,) = stages("data/dvc.yaml")["download"]["params"]
    assert list(tracked.values()) == [["files"]]


@pytest.mark.parametrize("stage", ["preprocess", "train"])
def test_what_is_made_from_data_depends_on_what_its_license_allows_and_on_no_other_word_of_it(stage: str) -> None:
    (tracked,) = (
        names
        for params in stages()[stage]["params"]
        if isinstance(params, dict)
        for file, names in params.items()
        if file == "configs/datasets/${dataset}.yaml"
    )
    assert tracked == ["license.commercial"]
    assert "intended_use" in stages()[stage]["params"]


def test_no_output_is_absolute_or_copied() -> None:
    config = (PROJECT / ".dvc/config").read_text()
    assert 'type = "hardlink,symlink"' in config
    for stage in stages().values():
        for output in [*stage.get("outs", []), *stage.get("metrics", [])]:
            path = output if isinstance(output, str) else next(iter(output))
            assert not path.startswith("/")


def test_every_section_of_the_parameters_is_tracked_by_the_stage_of_its_name() -> None:
    sections = set(yaml.safe_load((PROJECT / "params.yaml").read_text())) - {"dataset", "intended_use"}
    assert sections == set(STAGES)
    for name in sections:
        assert name in stages()[name]["params"]
