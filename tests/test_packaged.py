"""The model in the box: how one gets there, what is kept out of it, and that it is what is taken by default."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

from backbeat.cli.app import app
from backbeat.drums.classes import class_map
from backbeat.errors import BackbeatError, ModelError
from backbeat.provenance import digest_of
from backbeat.transcription import packaged
from backbeat.transcription.packaged import package_model, packaged_model
from backbeat.transcription.weights import load_model, save_model
from test_weights import PROJECT, small_card, small_model

CPU = torch.device("cpu")


def trained(folder: Path, **provenance: Any) -> Path:
    """Write a model of the miniature data set, but for what is said otherwise."""
    card = small_card("drums10")
    said = card.provenance.model_copy(update={"dataset": "egmd_mini", **provenance})
    save_model(small_model(card), card.model_copy(update={"provenance": said}), folder / "trained.safetensors")
    return folder / "trained.safetensors"


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(packaged, "PACKAGED", tmp_path / "pretrained" / "drums.safetensors")
    return packaged.PACKAGED


def test_a_packaged_model_is_small_and_loads_and_answers_by_default_as_it_was_told(tmp_path: Path, box: Path) -> None:
    assert package_model(PROJECT, trained(tmp_path), "adtof5")[1].default_answer == "adtof5"
    model, card = load_model(packaged_model(), CPU)
    assert card.answer().class_map == "adtof5"
    assert card.class_map == "drums10"
    assert next(model.parameters()).dtype == torch.float32
    assert box.with_name("drums.yaml").read_bytes() == (PROJECT / "configs/drums.yaml").read_bytes()
    assert box.stat().st_size < 0.8 * (tmp_path / "trained.safetensors").stat().st_size


def test_the_same_model_is_packaged_as_the_same_bytes(tmp_path: Path, box: Path) -> None:
    package_model(PROJECT, trained(tmp_path))
    package_model(PROJECT, trained(tmp_path), "drums10", tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == box.read_bytes()


def test_no_model_is_one_clear_error(box: Path) -> None:
    with pytest.raises(ModelError, match="no model in this installation") as missing:
        packaged_model()
    assert missing.value.next_step


@pytest.mark.parametrize(
    ("provenance", "why"),
    [
        ({"dataset": "maestro", "license": "CC-BY-NC-SA-4.0"}, r"trained on maestro(.|\n)*CC-BY-NC-SA-4.0"),
        ({"dataset": "egmd_mini", "license": "CC-BY-NC-4.0"}, "CC-BY-NC-4.0 in the model, CC0-1.0 in"),
        ({"dataset": "lakh_midi", "license": "CC-BY-4.0"}, "trained on lakh_midi"),
        ({"dataset": "nobody_knows"}, "nobody_knows"),
    ],
    ids=["excluded", "the license was another one", "not for commercial use", "no such record"],
)
def test_a_model_of_data_that_not_everybody_may_use_is_kept_out(
    tmp_path: Path, box: Path, provenance: dict[str, str], why: str
) -> None:
    with pytest.raises(BackbeatError, match=why):
        package_model(PROJECT, trained(tmp_path, **provenance))
    assert not box.exists()


def test_the_table_of_drums_is_that_of_the_project_or_else_the_one_in_the_box(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, card = load_model(packaged.PACKAGED, CPU)
    monkeypatch.chdir(tmp_path)
    in_box = packaged.drums_here()
    assert set(card.answers) <= set(in_box.class_maps)
    assert digest_of(class_map(in_box, card.class_map).class_of_pitch.tolist()) == card.provenance.class_of_pitch
    (tmp_path / "params.yaml").touch()
    assert packaged.drums_here() == in_box
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/drums.yaml").write_text(
        "pitches: {36: kick}\nclass_maps: {one: {kick: {note: 36, instruments: [kick]}}}\n"
    )
    assert list(packaged.drums_here().class_maps) == ["one"]


def test_a_large_model_is_kept_out_and_leaves_the_one_before_it(
    tmp_path: Path, box: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package_model(PROJECT, trained(tmp_path))
    before = box.read_bytes()
    monkeypatch.setattr(packaged, "MOST_BYTES", 5_000)
    with pytest.raises(ModelError, match="too large"):
        package_model(PROJECT, trained(tmp_path), "adtof5")
    assert box.read_bytes() == before
    assert {path.name for path in box.parent.iterdir()} == {box.name, "drums.yaml"}


def test_what_is_packaged_transcribes_anywhere_unless_another_model_is_named(
    tmp_path: Path, box: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also beside a model of a project."""
    monkeypatch.chdir(PROJECT)
    model = trained(tmp_path, revision="0123-dirty")
    shown = CliRunner().invoke(app, ["package-model", str(model), "--answer", "adtof5"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.output
    assert "answers in adtof5 by default" in shown.output
    assert "code or settings that no commit has" in shown.output
    here = tmp_path / "elsewhere"
    (here / "models").mkdir(parents=True)
    (here / "models/transcriber.safetensors").write_bytes(b"not asked for")
    soundfile.write(here / "song.wav", np.zeros((48_000, 2)) + 0.01, 48_000)
    monkeypatch.chdir(here)
    shown = CliRunner().invoke(app, ["transcribe", "song.wav"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.output
    assert "model drums.safetensors, trained on egmd_mini" in shown.output
    assert "classes kick, snare, toms, hi_hat, cymbals (adtof5)" in shown.output
    assert (here / "transcriptions/song.mid").exists()
    (here / "song.csv").write_text("onset_s,class\n0.5,kick\n")
    # Which is no annotation of it.
    (here / "transcriptions/song.mid").unlink()
    before = set(here.rglob("*"))
    shown = CliRunner().invoke(app, ["evaluate-model", "."], env={"COLUMNS": "80"})
    assert shown.exit_code == 0, shown.output
    assert "elsewhere: annotations of CSV; 1 recording, 0.0 min" in shown.output
    assert set(here.rglob("*")) == before
    shown = CliRunner().invoke(app, ["transcribe", "song.wav", "--model", str(model)], env={"COLUMNS": "200"})
    assert "model trained.safetensors" in shown.output
    assert "(drums10)" in shown.output
