"""Attribution: what has to be said of data that is here, and of data that a model was made from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from backbeat.cli.dataset_licenses import register
from backbeat.config import load_params
from backbeat.datasets.download import download
from backbeat.datasets.licenses import licenses
from backbeat.datasets.registry import load_registry
from backbeat.errors import ConfigError
from backbeat.transcription import weights
from backbeat.transcription.answers import Answer
from backbeat.transcription.model import DrumCRNN
from one_dataset import BODY, HASTY, new_project, record_of

REPOSITORY = Path(__file__).parents[1]

app = typer.Typer()
register(app)
app.callback()(lambda: None)


def printed(*words: str) -> str:
    shown = CliRunner().invoke(app, ["licenses", *words], env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.output
    return shown.output


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with one dataset, `lies`, that is not here yet."""
    project = new_project(tmp_path)
    (project / "archive.zip").write_bytes(BODY)
    record_of(project, "file:archive.zip")
    monkeypatch.chdir(project)
    return project


ASKS = {
    "egmd": ("credit",),
    "egmd_mini": (),
    "ljspeech": (),
    "urmp": (),
    "acav100m_train": ("credit", "share alike", "non-commercial"),
    "m4singer": ("credit", "share alike", "non-commercial", "no redistribution"),
    "lakh_midi": ("credit", "non-commercial", "no redistribution"),
    "fma_small": ("credit", "no redistribution", "look at each item"),
    "genius": ("non-commercial", "no redistribution"),
    "mit_rir": ("credit", "non-commercial", "no redistribution"),
}


@pytest.mark.parametrize("name", ASKS)
def test_license_asks_for_this(name: str) -> None:
    (found,) = licenses(REPOSITORY, [name])
    assert found.asks == ASKS[name]


@pytest.mark.parametrize("name", load_registry(REPOSITORY))
def test_text_has_all_that_the_record_says_of_rights(name: str) -> None:
    record = load_registry(REPOSITORY)[name]
    (found,) = licenses(REPOSITORY, [name])
    terms = record.license
    for said in (record.title, record.citation, terms.id, terms.url, terms.note, record.excluded):
        assert said is None or said in found.text


def test_every_demand_is_a_sentence_of_the_text() -> None:
    (found,) = licenses(REPOSITORY, ["m4singer"])
    for sentence in ("Give credit", "under the same license", "Do not use it commercially", "Do not hand on the data"):
        assert sentence in found.text


def test_named_datasets_come_sorted_and_once() -> None:
    assert [found.name for found in licenses(REPOSITORY, ["urmp", "egmd", "urmp"])] == ["egmd", "urmp"]


def test_unknown_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean egmd"):
        licenses(REPOSITORY, ["egdm"])


def test_what_is_not_here_needs_no_attribution(project: Path) -> None:
    assert licenses(project) == []


def test_what_is_here_does(project: Path) -> None:
    download(project, "lies", patience=HASTY)
    assert [found.title for found in licenses(project)] == ["A dataset that is hard to get"]


@pytest.mark.usefixtures("project")
def test_command_says_so_if_nothing_is_here() -> None:
    assert "no dataset is here" in printed()


@pytest.mark.usefixtures("project")
def test_command_prints_the_text_of_a_named_dataset() -> None:
    assert "License: CC0-1.0" in printed("lies")


@pytest.mark.usefixtures("project")
def test_command_prints_json() -> None:
    assert json.loads(printed("lies", "--json"))[0]["asks"] == []


def test_all_is_everything_but_the_excluded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    names = {found["name"] for found in json.loads(printed("--all", "--json"))}
    assert names == set(load_registry(REPOSITORY)) - {"maestro", "musdb18"}


def test_model_leads_to_what_it_was_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    params = load_params(REPOSITORY)
    provenance = weights.Provenance(
        dataset="groove", license="CC-BY-4.0", data="", class_of_pitch="", held_out_kits=[], train={},
        onset_tolerance_s=0.05, revision=None,
    )  # fmt: skip
    answer = Answer(class_map="hits", classes=["hit"], notes=[38], members=[[0]], thresholds=[0.5])
    card = weights.ModelCard(
        format_version=2, features=params.preprocess.features, class_map="hits", classes=["hit"],
        answers={"hits": answer}, default_answer="hits", channels=4, recurrent_units=8, provenance=provenance,
    )  # fmt: skip
    torch.manual_seed(1)
    weights.save_model(DrumCRNN(params.preprocess.features.mels, 1, 4, 8, 0.0), card, tmp_path / "model.safetensors")
    assert "Learning to Groove" in printed("--model", str(tmp_path / "model.safetensors"))


def test_names_and_all_together_are_refused(project: Path) -> None:
    assert CliRunner().invoke(app, ["licenses", "lies", "--all"]).exit_code == 2
