"""Configuration: what cannot be meant is refused, by the name of its key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from backbeat.config import PARAMS_FILE, FeatureParams, find_project, load_params, load_yaml
from backbeat.errors import ConfigError

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture
def values() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((REPOSITORY / PARAMS_FILE).read_text(encoding="utf-8"))
    return loaded


def refusal_of(project: Path, values: dict[str, Any]) -> ConfigError:
    (project / PARAMS_FILE).write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError) as refusal:
        load_params(project)
    return refusal.value


def test_params_of_the_repository_are_valid() -> None:
    assert load_params(REPOSITORY).preprocess.features.frame_rate_hz == 100


# Section, key, value, and what the message has to say.
WRONG: dict[str, tuple[tuple[str, ...], str, Any, str]] = {
    "unknown key": (("train",), "learnig_rate", 0.1, "train.learnig_rate: Extra inputs are not permitted"),
    "text for a number": (("train",), "steps", "600", "train.steps: Input should be a valid integer"),
    "number for a text": (("train",), "classes", 7, "train.classes: Input should be a valid string"),
    "truth value for a number": (("train",), "seed", True, "train.seed: Input should be a valid integer"),
    "seconds for samples": (("preprocess", "features"), "hop_samples", 0.01, "preprocess.features.hop_samples"),
    "kilohertz for hertz": (("preprocess", "features"), "sample_rate_hz", 44, "preprocess.features.sample_rate_hz"),
    "milliseconds for seconds": (("evaluate",), "onset_tolerance_s", 50.0, "evaluate.onset_tolerance_s"),
    "percent for a probability": (("train",), "dropout", 20.0, "train.dropout"),
    "infinity": (("train",), "learning_rate", float("inf"), "train.learning_rate"),
    "not a number": (("train",), "weight_decay", float("nan"), "train.weight_decay"),
    "null": ((), "dataset", None, "dataset: Input should be a valid string"),
    "list for a section": ((), "train", [], "train: "),
    "use that is none": ((), "intended_use", "private", "intended_use: Input should be 'research' or 'commercial'"),
    "path for a dataset": ((), "dataset", "../egmd", "dataset: String should match pattern"),
    "odd transform": (("preprocess", "features"), "fft_samples", 2047, "preprocess.features.fft_samples"),
    "band above half of the rate": (("preprocess", "features"), "high_hz", 30_000.0, "high_hz is above half of"),
    "hop that leaves gaps": (("preprocess", "features"), "hop_samples", 4_096, "hop_samples is larger than"),
    "unknown precision": (("train",), "precision", "fp16", "train.precision"),
    "kit of zero": (("train",), "held_out_kits", [0], "train.held_out_kits.0"),
    "negative tolerance": (("preprocess",), "bad_members_allowed", -1, "preprocess.bad_members_allowed"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_value_is_refused_by_its_key(case: str, values: dict[str, Any], tmp_path: Path) -> None:
    path, key, value, fragment = WRONG[case]
    section = values
    for name in path:
        section = section[name]
    section[key] = value
    assert fragment in str(refusal_of(tmp_path, values))


def test_missing_key_is_named(values: dict[str, Any], tmp_path: Path) -> None:
    del values["preprocess"]["features"]["mels"]
    assert "preprocess.features.mels: Field required" in str(refusal_of(tmp_path, values))


def test_all_faults_are_in_one_message(values: dict[str, Any], tmp_path: Path) -> None:
    values["train"] |= {"steps": 0, "seed": -1}
    message = str(refusal_of(tmp_path, values))
    assert ("train.steps" in message, "train.seed" in message) == (True, True)


def test_bands_need_room_between_them() -> None:
    features = load_params(REPOSITORY).preprocess.features.model_dump()
    with pytest.raises(ValueError, match="low_hz is not below high_hz"):
        FeatureParams(**features | {"low_hz": 1_000.0, "high_hz": 1_000.0})


def test_params_cannot_be_changed() -> None:
    params: Any = load_params(REPOSITORY)
    with pytest.raises(ValueError, match="frozen"):
        params.train.seed = 2


# --- YAML ------------------------------------------------------------------------------------------------------------

NOT_STRICT = {
    "the same key twice": ("a: 1\nb: 2\na: 3\n", "the key 'a' is there twice"),
    "the same key twice, deep down": ("a:\n  b: 1\n  c: {d: 1, d: 2}\n", "the key 'd' is there twice"),
    "equal keys in two spellings": ("1: a\n0x1: b\n", "the key 1 is there twice"),
    "alias": ("a: &x [1]\nb: *x\n", "aliases are not allowed"),
    "merged alias": ("a: &x {b: 1}\nc: {<<: *x}\n", "aliases are not allowed"),
    "list as a key": ("? [a]\n: 1\n", "a key is a list or mapping"),
    "tab for indentation": ("a:\n\tb: 1\n", "found character"),
    "two documents": ("a: 1\n---\na: 2\n", "expected a single document"),
    "Python object": ("a: !!python/object/apply:os.getcwd []\n", "could not determine a constructor"),
    "day that no calendar has": ("a: 2024-02-30\n", "day is out of range"),
    "nested without end": ("[" * 100_000, "recursion"),
}


@pytest.mark.parametrize("case", NOT_STRICT)
def test_yaml_that_is_not_strict_is_refused(case: str, tmp_path: Path) -> None:
    text, fragment = NOT_STRICT[case]
    (tmp_path / "some.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"some\.yaml is not valid YAML") as refusal:
        load_yaml(tmp_path / "some.yaml")
    assert fragment in str(refusal.value)


def test_refusal_of_yaml_has_the_line(tmp_path: Path) -> None:
    (tmp_path / "some.yaml").write_text("a: 1\nb: 2\na: 3\n")
    with pytest.raises(ConfigError, match="line 3"):
        load_yaml(tmp_path / "some.yaml")


def test_text_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "some.yaml").write_bytes(b"a: \xff\xfe\n")
    with pytest.raises(ConfigError, match="is not valid YAML"):
        load_yaml(tmp_path / "some.yaml")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"params\.yaml is missing"):
        load_params(tmp_path)


def test_folder_in_place_of_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / PARAMS_FILE).mkdir()
    with pytest.raises(ConfigError, match=r"params\.yaml cannot be read"):
        load_params(tmp_path)


# --- Where the project is --------------------------------------------------------------------------------------------


def test_project_is_found_from_a_folder_inside(tmp_path: Path) -> None:
    (tmp_path / PARAMS_FILE).touch()
    (tmp_path / "data" / "raw").mkdir(parents=True)
    assert find_project(tmp_path / "data" / "raw") == tmp_path


def test_nearest_project_is_the_one(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    for folder in (tmp_path, inner):
        (folder / PARAMS_FILE).touch()
    assert find_project(inner) == inner


def test_without_a_project_the_next_step_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="run the command inside the clone"):
        find_project(tmp_path)


@pytest.mark.parametrize("text", ["1e-05", "1E-05", "0.00001", "1.0e-5", "+1e-5"])
def test_a_small_number_is_a_number_however_it_is_written(text: str, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(f"weight_decay: {text}\nname: 1e-05x\n")
    assert load_yaml(tmp_path / "params.yaml") == {"weight_decay": 0.00001, "name": "1e-05x"}
