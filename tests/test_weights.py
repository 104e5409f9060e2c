"""Model files: whole, loadable, and refused where they do not fit."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from backbeat.config import load_params
from backbeat.drums.classes import class_map, load_drums
from backbeat.errors import ModelError
from backbeat.transcription.model import DrumCRNN
from backbeat.transcription.weights import ModelCard, Provenance, check_fits, load_model, save_model

PROJECT = Path(__file__).parents[1]
CPU = torch.device("cpu")


def small_card(name: str = "adtof5") -> ModelCard:
    classes = class_map(load_drums(PROJECT), name)
    return ModelCard(
        format_version=1,
        features=load_params(PROJECT).preprocess.features,
        class_map=classes.name,
        classes=list(classes.classes),
        notes=list(classes.notes),
        thresholds=[0.5] * len(classes.classes),
        channels=4,
        recurrent_units=4,
        provenance=Provenance(
            dataset="tiny",
            license="CC0-1.0",
            data="",
            class_of_pitch="",
            held_out_kits=[],
            train={},
            onset_tolerance_s=0.05,
            revision=None,
        ),
    )


def small_model(card: ModelCard) -> DrumCRNN:
    torch.manual_seed(0)
    return DrumCRNN(card.features.mels, len(card.classes), card.channels, card.recurrent_units, 0.0)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    card = small_card()
    save_model(small_model(card), card, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def test_a_loaded_model_answers_as_the_saved_one(saved: Path) -> None:
    model, card = load_model(saved, CPU)
    values = torch.randint(0, 255, (1, 50, card.features.mels))
    with torch.inference_mode():
        expected, got = small_model(card).eval()(values), model(values)
    for one, other in zip(expected, got, strict=True):
        torch.testing.assert_close(one, other)
    assert card == small_card()


def test_the_same_model_has_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    save_model(small_model(small_card()), small_card(), tmp_path / "again.safetensors")
    assert saved.read_bytes() == (tmp_path / "again.safetensors").read_bytes()


def test_outputs_have_the_shape_of_the_input() -> None:
    card = small_card()
    logits, velocity = small_model(card)(torch.zeros(2, 37, card.features.mels))
    assert logits.shape == velocity.shape == (2, 37, 5)
    assert velocity.min() >= 0
    assert velocity.max() <= 1


@pytest.mark.parametrize("damage", ["truncated", "empty", "not a model", "a pickle"])
def test_a_damaged_model_is_one_clear_error(saved: Path, damage: str) -> None:
    content = saved.read_bytes()
    if damage == "a pickle":
        torch.save({"weights": torch.zeros(1)}, saved)
    else:
        saved.write_bytes({"truncated": content[: len(content) // 2], "empty": b"", "not a model": b"\0" * 100}[damage])
    with pytest.raises(ModelError, match=r"model\.safetensors is not a whole model file"):
        load_model(saved, CPU)


@pytest.mark.parametrize("change", [{"format_version": 2}, {"thresholds": [0.5]}, {"provenance": {}}], ids=str)
def test_a_card_that_contradicts_itself_is_refused(saved: Path, change: dict[str, object]) -> None:
    tensors = load_file(saved)
    content = small_card().model_dump() | change
    save_file(tensors, saved, metadata={"backbeat": json.dumps(content)})
    with pytest.raises(ModelError, match="not a whole model file"):
        load_model(saved, CPU)


def test_a_missing_model_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="dvc repro train"):
        load_model(tmp_path / "none.safetensors", CPU)


def test_a_model_of_another_class_map_is_refused() -> None:
    card = small_card("adtof5")
    with pytest.raises(ModelError, match="another class map") as refused:
        check_fits(card, class_map(load_drums(PROJECT), "drums7"), card.features, Path("model"))
    assert "crash" in str(refused.value)


def test_a_model_of_other_features_is_refused() -> None:
    card = small_card()
    other = card.features.model_copy(update={"hop_samples": 512})
    with pytest.raises(ModelError, match="hop_samples 441"):
        check_fits(card, class_map(load_drums(PROJECT), "adtof5"), other, Path("model"))
