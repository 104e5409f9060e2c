"""The registry's contract: what every record keeps to, what is refused and how that is said."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml

from backbeat.datasets.registry import (
    PER_ITEM,
    PHASES,
    PUBLIC_DOMAIN,
    UNKNOWN,
    UNVERIFIED,
    Record,
    RecordFile,
    load_record,
    load_registry,
    url_scheme,
)
from backbeat.datasets.selection import Wish, select
from backbeat.errors import ConfigError

PROJECT = Path(__file__).parents[1]
EXAMPLES = Path(__file__).parent / "records"
VALID = sorted((EXAMPLES / "valid").glob("*.yaml"))
INVALID = sorted((EXAMPLES / "invalid").glob("*.yaml"))
NAMES = sorted(path.stem for path in (PROJECT / "configs" / "datasets").iterdir())

every_record = pytest.mark.parametrize("name", NAMES)

CREATIVE_COMMONS = {
    "CC-BY-4.0": "https://creativecommons.org/licenses/by/4.0/",
    "CC-BY-NC-SA-4.0": "https://creativecommons.org/licenses/by-nc-sa/4.0/",
    "CC0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
}
IN_PHASE = {
    "minimal": {"nsynth", "ljspeech", "urmp", "fma_small", "egmd"},
    "balanced": {"libritts", "musicnet"},
    "comprehensive": {"fma_large", "lakh_midi"},
}
IN_COLLECTION = {
    ("drums", "required"): {"egmd"},
    ("drums", "optional"): {"egmd_mini", "groove"},
    ("wakeword", "required"): {"acav100m_train", "acav100m_validation", "mit_rir"},
    ("wakeword", "optional"): {"fsd50k"},
}

SHIPPED = {
    *(name for names in (*IN_PHASE.values(), *IN_COLLECTION.values()) for name in names),
    *("m4singer", "moodylyrics", "wasabi", "genius", "maestro", "musdb18"),
}

# Identifier, commercial use of all of it, redistribution.
COMMONLY_WRONG: dict[str, tuple[str, bool | None, bool]] = {
    "fma_small": (PER_ITEM, None, False),  # not CC BY 4.0: that is the metadata
    "fma_large": (PER_ITEM, None, False),
    "urmp": ("CC0-1.0", True, True),  # not for research only
    "acav100m_train": ("CC-BY-NC-SA-4.0", False, True),  # not MIT, Apache-2.0 or CC BY
    "acav100m_validation": ("CC-BY-NC-SA-4.0", False, True),
    "m4singer": ("CC-BY-NC-SA-4.0", False, False),  # not MIT; with a clause of its own
    "fsd50k": (PER_ITEM, None, False),  # not CC BY 4.0: that is the collection
    "ljspeech": (PUBLIC_DOMAIN, True, True),  # not CC BY or CC0
    "lakh_midi": ("CC-BY-4.0", False, False),  # the compilation; the songs are copyrighted
    "musicnet": (PER_ITEM, None, False),  # not CC BY 4.0: those are the labels
    "mit_rir": (UNKNOWN, None, False),  # not MIT: that is the university
    "wasabi": ("CC-BY-NC-SA-4.0", False, True),  # not Apache-2.0: that is the code
    "musdb18": (PER_ITEM, False, False),  # not CC BY-NC-SA: mixed
    "egmd": ("CC-BY-4.0", True, True),
    "libritts": ("CC-BY-4.0", True, True),
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "configs" / "datasets").mkdir(parents=True)
    return tmp_path


def register(project: Path, example: Path, name: str = "example") -> None:
    shutil.copy(example, project / "configs" / "datasets" / f"{name}.yaml")


def values_of(name: str) -> dict[str, Any]:
    """Return a record as it is written."""
    values: dict[str, Any] = yaml.safe_load((PROJECT / "configs" / "datasets" / f"{name}.yaml").read_text("utf-8"))
    return values


# --- One test per record and rule ------------------------------------------------------------------------------------


@every_record
def test_record_is_valid(name: str) -> None:
    assert load_record(PROJECT, name).name == name


@every_record
def test_keys_stand_in_the_fixed_order(name: str) -> None:
    written = list(values_of(name))
    assert written == [field for field in Record.model_fields if field in written]


@every_record
def test_every_key_is_there_but_those_for_special_cases(name: str) -> None:
    assert set(Record.model_fields) - set(values_of(name)) <= {"excluded", "approximate_size"}


@every_record
def test_file_keys_stand_in_the_fixed_order(name: str) -> None:
    for file in values_of(name)["files"]:
        assert list(file) == [field for field in RecordFile.model_fields if field in file]


@every_record
def test_lines_are_no_longer_than_those_of_code(name: str) -> None:
    lines = (PROJECT / "configs" / "datasets" / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if len(line) > 120 and "://" not in line] == []


@every_record
def test_license_forbids_or_has_an_address(name: str) -> None:
    terms = load_record(PROJECT, name).license
    assert terms.url is not None or not terms.redistribute


@every_record
def test_license_that_has_a_text_leads_to_that_text(name: str) -> None:
    terms = load_record(PROJECT, name).license
    assert terms.url == CREATIVE_COMMONS.get(terms.id, terms.url)


@every_record
def test_license_that_is_none_for_all_of_it_is_explained(name: str) -> None:
    terms = load_record(PROJECT, name).license
    assert terms.note is not None or terms.id not in {PER_ITEM, UNKNOWN}


@every_record
def test_what_must_be_credited_has_a_citation(name: str) -> None:
    record = load_record(PROJECT, name)
    assert record.citation is not None or "-BY" not in record.license.id


@every_record
def test_fetched_file_that_nothing_proves_and_anybody_could_exchange_is_announced(name: str) -> None:
    """A file without a hash that comes over plain HTTP may be anything; whoever reads the record has to know."""
    record = load_record(PROJECT, name)
    schemes = {url_scheme(url) for file in record.files if not file.promise for url in file.urls}
    assert "http" not in schemes or "unencrypted" in (record.notes or "")


@every_record
def test_publisher_is_asked_over_https_first_where_there_is_such_an_address(name: str) -> None:
    for file in load_record(PROJECT, name).files:
        schemes = [url_scheme(url) for url in file.urls]
        assert "http" not in schemes or "https" not in schemes or schemes.index("https") < schemes.index("http")


@every_record
def test_addresses_have_neither_a_query_nor_a_fragment(name: str) -> None:
    """Such addresses are those of one visit: they expire, or hold a token."""
    urls = [url for file in load_record(PROJECT, name).files for url in file.urls]
    assert [url for url in urls if "?" in url or "#" in url] == []


@every_record
def test_addresses_of_web_pages_are_encrypted(name: str) -> None:
    record = load_record(PROJECT, name)
    assert all(url is None or url.startswith("https://") for url in (record.homepage, record.license.url))


@every_record
def test_file_keeps_the_name_that_its_publisher_gave_it(name: str) -> None:
    """A file on disk is then the one that a page or a paper speaks of. Some places have no name for it."""
    for file in load_record(PROJECT, name).files:
        named = [url for url in file.urls if url_scheme(url) in {"http", "https", "hf", "zenodo"}]
        assert {unquote(url.rpartition("/")[2]) for url in named} <= {file.path}


@every_record
def test_parts_of_a_split_archive_are_all_there(name: str) -> None:
    """Info-ZIP names the parts of `a.zip` `a.z01`, `a.z02`, …; each of them is needed."""
    paths = [file.path for file in load_record(PROJECT, name).files]
    for stem in {path[:-4] for path in paths if re.search(r"\.z[0-9]{2}$", path)}:
        parts = sorted(path for path in paths if re.fullmatch(rf"{re.escape(stem)}\.z[0-9]{{2}}", path))
        assert parts == [f"{stem}.z{number:02d}" for number in range(1, len(parts) + 1)]
        assert f"{stem}.zip" in paths


def test_no_two_records_promise_different_files_under_one_hash() -> None:
    sizes: dict[str, set[int | None]] = {}
    for record in load_registry(PROJECT).values():
        for file in record.files:
            sizes.setdefault(file.hash, set()).add(file.size)
    assert [hash_ for hash_, found in sizes.items() if hash_ != UNVERIFIED and len(found) > 1] == []


# --- What is in which selection --------------------------------------------------------------------------------------


def shipped(**wanted: Any) -> set[str]:
    """Return the names of the datasets that come with the repository, your own left out, with these values."""
    records = [record for name, record in load_registry(PROJECT).items() if name in SHIPPED]
    return {one.name for one in records if all(getattr(one, key) == value for key, value in wanted.items())}


def test_every_dataset_that_was_promised_is_there() -> None:
    assert shipped() == SHIPPED


@pytest.mark.parametrize("phase", PHASES)
def test_phase_has_these_datasets(phase: str) -> None:
    assert shipped(phase=phase) == IN_PHASE[phase]


@pytest.mark.parametrize(("collection", "state"), IN_COLLECTION)
def test_collection_has_these_datasets(collection: str, state: str) -> None:
    found = {name for name in SHIPPED if load_record(PROJECT, name).collections.get(collection) == state}
    assert found == IN_COLLECTION[collection, state]


def test_excluded_are_these() -> None:
    assert SHIPPED - shipped(excluded=None) == {"maestro", "musdb18"}


@pytest.mark.parametrize("name", COMMONLY_WRONG)
def test_license_that_is_commonly_stated_wrong_is_the_right_one(name: str) -> None:
    terms = load_record(PROJECT, name).license
    assert (terms.id, terms.commercial, terms.redistribute) == COMMONLY_WRONG[name]


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


def test_adding_a_file_is_all_it_takes(tmp_path: Path) -> None:
    """One file more: the dataset is listed, part of its phase, on the page, and has a download stage."""
    card = "src/backbeat/transcription/pretrained/MODEL_CARD.md"
    for name in ("params.yaml", "configs", "data/dvc.yaml", "docs", ".dvc/config", "reports/pretrained.json", card):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (PROJECT / name).is_dir() else shutil.copy
        copy(PROJECT / name, tmp_path / name)
    (tmp_path / "tests").symlink_to(PROJECT / "tests")
    (tmp_path / "README.md").touch()
    register(tmp_path, EXAMPLES / "valid" / "plain.yaml")
    subprocess.run([sys.executable, "docs/refresh.py"], cwd=tmp_path, check=True)
    registry = load_registry(tmp_path)
    assert set(registry) == {*NAMES, "example"}
    assert "example" in select(registry, Wish(phase="minimal")).names
    assert "### example\n" in (tmp_path / "docs/datasets.md").read_text(encoding="utf-8")
    stages = yaml.safe_load((tmp_path / "data/dvc.yaml").read_text(encoding="utf-8"))["stages"]
    assert "example" in stages["download"]["matrix"]["dataset"]


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
