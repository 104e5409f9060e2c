"""Model files: whole, loadable, and refused where they do not fit."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from backbeat.config import load_params
from backbeat.drums.classes import class_map, load_drums
from backbeat.errors import ModelError
from backbeat.transcription.answers import untuned_answers
from backbeat.transcription.model import DrumCRNN
from backbeat.transcription.weights import ModelCard, Provenance, check_fits, load_model, save_model

PROJECT = Path(__file__).parents[1]
CPU = torch.device("cpu")


def small_card(name: str = "adtof5") -> ModelCard:
    table = load_drums(PROJECT)
    classes = class_map(table, name)
    return ModelCard(
        format_version=2,
        features=load_params(PROJECT).preprocess.features,
        class_map=classes.name,
        classes=list(classes.classes),
        answers={answer.class_map: answer for _, answer in untuned_answers(table, classes)},
        default_answer=name,
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


HITS3 = small_card().answers["hits3"].model_dump()
ADTOF5 = small_card().answers["adtof5"].model_dump()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"format_version": 1}, "got: version 1"),
        ({"provenance": {}}, "provenance.dataset: Field required"),
        ({"answers": {"hits3": HITS3}}, "no answer in the class map that the model was trained on"),
        ({"answers": {"adtof5": ADTOF5 | {"members": [[1], [0], [2], [3], [4]]}}}, "its own and only member"),
        ({"answers": {"adtof5": ADTOF5, "hits3": ADTOF5}}, "the answer hits3 is one in adtof5"),
        ({"answers": {"adtof5": ADTOF5, "hits3": HITS3 | {"members": [[0], [1], [9]]}}}, "no classes of the model"),
        ({"default_answer": "drums7"}, "the default answer is none of the answers"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_card_that_contradicts_itself_is_refused(saved: Path, change: dict[str, object], why: str) -> None:
    tensors = load_file(saved)
    content = small_card().model_dump() | change
    save_file(tensors, saved, metadata={"backbeat": json.dumps(content)})
    with pytest.raises(ModelError, match=f"not a whole model file(.|\n)*{why}"):
        load_model(saved, CPU)


def test_an_answer_that_the_model_has_not_got_names_those_it_has() -> None:
    card = small_card()
    assert card.answer() == card.answer("adtof5")
    assert card.answer("hits3").classes == ["kick", "snare", "hi_hat"]
    with pytest.raises(ModelError, match=r"does not answer in the class map drums7(.|\n)*expected: hits3, adtof5"):
        card.answer("drums7")


def test_half_the_bytes_answer_the_same(saved: Path, tmp_path: Path) -> None:
    card = small_card().model_copy(update={"channels": 16, "recurrent_units": 16})
    for name, half in (("whole", False), ("half", True), ("again", True)):
        save_model(small_model(card), card, tmp_path / name, half=half)
    whole, half = (load_model(tmp_path / name, CPU)[0] for name in ("whole", "half"))
    assert {tensor.dtype for tensor in half.parameters()} == {torch.float32}
    values = torch.randint(0, 255, (1, 50, card.features.mels))
    with torch.inference_mode():
        for one, other in zip(whole(values), half(values), strict=True):
            torch.testing.assert_close(one, other, atol=0.01, rtol=0.01)
    weights_bytes = {name: sum(t.nbytes for t in load_file(tmp_path / name).values()) for name in ("whole", "half")}
    assert weights_bytes["half"] < 0.53 * weights_bytes["whole"]
    assert (tmp_path / "half").read_bytes() == (tmp_path / "again").read_bytes()


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
