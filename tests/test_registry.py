"""The registry's contract: what every record keeps to, what is refused and how that is said."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from backbeat.datasets.registry import Record, RecordFile, load_record, load_registry, url_scheme
from backbeat.errors import ConfigError

PROJECT = Path(__file__).parents[1]
EXAMPLES = Path(__file__).parent / "records"
VALID = sorted((EXAMPLES / "valid").glob("*.yaml"))
INVALID = sorted((EXAMPLES / "invalid").glob("*.yaml"))
NAMES = sorted(path.stem for path in (PROJECT / "configs" / "datasets").iterdir())

every_record = pytest.mark.parametrize("name", NAMES)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "configs" / "datasets").mkdir(parents=True)
    return tmp_path


def register(project: Path, example: Path, name: str = "example") -> None:
    shutil.copy(example, project / "configs" / "datasets" / f"{name}.yaml")


# --- One test per record and rule ------------------------------------------------------------------------------------


@every_record
def test_record_is_valid(name: str) -> None:
    assert load_record(PROJECT, name).name == name


@every_record
def test_keys_stand_in_the_fixed_order(name: str) -> None:
    text = (PROJECT / "configs" / "datasets" / f"{name}.yaml").read_text(encoding="utf-8")
    assert list(yaml.safe_load(text)) == list(Record.model_fields)


@every_record
def test_file_keys_stand_in_the_fixed_order(name: str) -> None:
    text = (PROJECT / "configs" / "datasets" / f"{name}.yaml").read_text(encoding="utf-8")
    fields = list(RecordFile.model_fields)
    assert [list(file) for file in yaml.safe_load(text)["files"]] == [
        [field for field in fields if field in file] for file in yaml.safe_load(text)["files"]
    ]


@every_record
def test_license_forbids_or_has_an_address(name: str) -> None:
    terms = load_record(PROJECT, name).license
    assert terms.url is not None or not terms.redistribute


@every_record
def test_what_must_be_credited_has_a_citation(name: str) -> None:
    record = load_record(PROJECT, name)
    assert record.citation is not None or "-BY" not in record.license.id


@every_record
def test_verified_record_has_a_hash_for_every_file(name: str) -> None:
    record = load_record(PROJECT, name)
    assert record.verified_on is None or all(file.promise for file in record.files)


@every_record
def test_fetched_file_has_a_hash_if_it_comes_unencrypted(name: str) -> None:
    files = load_record(PROJECT, name).files
    assert all(file.promise or not any(url_scheme(url) == "http" for url in file.urls) for file in files)


def test_download_matrix_is_the_registry() -> None:
    stages = yaml.safe_load((PROJECT / "data" / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    assert stages["download"]["matrix"]["dataset"] == NAMES


# --- Examples, whose names say what they show ------------------------------------------------------------------------


@pytest.mark.parametrize("example", VALID, ids=lambda example: example.stem)
def test_valid_example_is_accepted(example: Path, project: Path) -> None:
    register(project, example)
    assert load_record(project, "example").name == "example"


@pytest.mark.parametrize("example", INVALID, ids=lambda example: example.stem)
def test_invalid_example_is_refused_by_name(example: Path, project: Path) -> None:
    register(project, example)
    fragment = example.read_text(encoding="utf-8").splitlines()[0].removeprefix("# refused: ")
    with pytest.raises(ConfigError) as refusal:
        load_record(project, "example")
    assert fragment in str(refusal.value)


@pytest.mark.parametrize("example", INVALID, ids=lambda example: example.stem)
def test_invalid_example_is_refused_with_its_file_and_a_next_step(example: Path, project: Path) -> None:
    register(project, example)
    with pytest.raises(ConfigError) as refusal:
        load_record(project, "example")
    assert ("configs/datasets/example.yaml" in refusal.value.what, bool(refusal.value.next_step)) == (True, True)


# --- Loading ---------------------------------------------------------------------------------------------------------


def test_adding_a_file_registers_the_dataset(project: Path) -> None:
    register(project, EXAMPLES / "valid" / "plain.yaml")
    assert list(load_registry(project)) == ["example"]


def test_registry_is_sorted_by_name() -> None:
    assert list(load_registry(PROJECT)) == NAMES


def test_record_without_yaml_suffix_is_not_silently_left_out(project: Path) -> None:
    (project / "configs" / "datasets" / "example.yml").touch()
    with pytest.raises(ConfigError, match=r"example\.yml would not be read"):
        load_registry(project)


def test_misspelled_name_gets_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match=r"unknown dataset egdm; did you mean egmd\?"):
        load_record(PROJECT, "egdm")


def test_unknown_name_without_a_near_one_gets_the_list() -> None:
    with pytest.raises(ConfigError, match=r"expected: one of .*egmd"):
        load_record(PROJECT, "xxxxxxxx")


def test_size_is_unknown_if_that_of_one_file_is(project: Path) -> None:
    register(project, EXAMPLES / "valid" / "unverified_without_size.yaml")
    assert load_record(project, "example").size_bytes is None


def test_size_is_that_of_all_files(project: Path) -> None:
    register(project, EXAMPLES / "valid" / "two_files_in_folders.yaml")
    assert load_record(project, "example").size_bytes == 2_000


def test_importing_the_registry_loads_neither_a_client_nor_numpy() -> None:
    code = "import backbeat.datasets.registry, sys; print({'httpx', 'numpy'} & set(sys.modules))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == "set()"


def test_record_cannot_be_changed() -> None:
    record: Any = load_record(PROJECT, "egmd")
    with pytest.raises(ValueError, match="frozen"):
        record.title = "Another"
