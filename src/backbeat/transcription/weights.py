"""Model files: weights as safetensors, with everything in the header that it takes to use and to trace them.

A safetensors file holds numbers and text, never code: loading one from a stranger can disappoint, but not run
anything. The header names the features the model was trained on, its classes, the class maps it answers in with their
thresholds, and where it came from.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from backbeat.config import FeatureParams, Strict, validated
from backbeat.drums.classes import ClassMap
from backbeat.errors import ConfigError, ModelError
from backbeat.storage.staging import new_file
from backbeat.transcription.answers import Answer
from backbeat.transcription.model import DrumCRNN

# Where the stage `train` puts its model, in the project.
MODEL_FILE = "models/transcriber.safetensors"

# Version 1 answered in one class map.
FORMAT_VERSION = 2

_HEADER_KEY = "backbeat"


class Provenance(Strict):
    """What a model came from.

    Attributes:
        dataset: name of the record.
        license: SPDX identifier of its license.
        data: digest of what the shards held.
        class_of_pitch: digest of the class map as a table.
        held_out_kits: kits it never heard.
        train: the `train` section of `params.yaml`.
        onset_tolerance_s: how close an onset had to be for epochs and thresholds to be chosen.
        revision: the commit, with `-dirty` if code or settings differed from it.
    """

    dataset: str
    license: str
    data: str
    class_of_pitch: str
    held_out_kits: list[int]
    train: dict[str, Any]
    onset_tolerance_s: float
    revision: str | None


class ModelCard(Strict):
    """What a model file says of itself.

    Attributes:
        features: the spectrogram it hears.
        class_map: the native class map: the one that it was trained on.
        classes: the classes of that.
        answers: by name, the class maps that it answers in, the native one among them.
        default_answer: the one of them that is given if none is asked for.
        channels: width of its convolutions.
        recurrent_units: width of each direction of its recurrent layer.
        provenance: what it came from.
    """

    format_version: Literal[2]
    features: FeatureParams
    class_map: str
    classes: Annotated[list[str], Field(min_length=1)]
    answers: dict[str, Answer]
    default_answer: str
    channels: Annotated[int, Field(ge=1, le=4_096)]
    recurrent_units: Annotated[int, Field(ge=1, le=4_096)]
    provenance: Provenance

    @model_validator(mode="after")
    def _answers_are_of_its_classes(self) -> ModelCard:
        native = self.answers.get(self.class_map)
        if native is None or native.classes != self.classes:
            raise ValueError("there is no answer in the class map that the model was trained on")
        if native.members != [[index] for index in range(len(self.classes))]:
            raise ValueError("a class of the model is not its own and only member")
        if self.default_answer not in self.answers:
            raise ValueError("the default answer is none of the answers")
        for name, answer in self.answers.items():
            if answer.class_map != name:
                raise ValueError(f"the answer {name} is one in {answer.class_map}")
            if not {index for of in answer.members for index in of} <= set(range(len(self.classes))):
                raise ValueError(f"the answer {name} has members that are no classes of the model")
        return self

    @property
    def thresholds(self) -> list[float]:
        """The thresholds of the native classes."""
        return self.answers[self.class_map].thresholds

    def answer(self, name: str | None = None) -> Answer:
        """Return the answer in a class map; without a name the default one.

        Raises:
            ModelError: if the model does not answer in that map.
        """
        found = self.answers.get(name or self.default_answer)
        if found is None:
            raise ModelError(
                f"the model does not answer in the class map {name}",
                expected=", ".join(self.answers),
                got=name,
                next_step="ask for one of these, or train a model on that map: train.classes in params.yaml",
            )
        return found


def save_model(model: DrumCRNN, card: ModelCard, path: Path, *, half: bool = False) -> None:
    """Write a model file, complete or not at all.

    Args:
        model: what is saved.
        card: what is said of it.
        path: the file.
        half: whether weights are written as 16-bit floats, in half the space; `load_model` widens them again. Biases
            and statistics stay as they are: there are few, and a variance can be too small for 16 bits.

    Raises:
        ModelError: if a weight is no number, or too large for 16 bits.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(model.state_dict().items())}
    if half:
        tensors = {name: tensor.half() if tensor.dim() > 1 else tensor for name, tensor in tensors.items()}
    broken = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if broken:
        step = "train again, with a smaller train.learning_rate"
        raise ModelError("a model with such weights hears nothing", expected="numbers",
                         got=f"inf or nan in {', '.join(broken)}", next_step=step)  # fmt: skip
    with new_file(path) as part:
        save_file(tensors, part, metadata={_HEADER_KEY: json.dumps(card.model_dump(), sort_keys=True)})
        # safetensors writes for its user alone; a model is to be read by whoever shares the staging store.
        part.chmod(0o644)


def load_model(path: Path, device: torch.device) -> tuple[DrumCRNN, ModelCard]:
    """Load a model file for use: in evaluation mode, on `device`, in 32-bit floats.

    Raises:
        ModelError: if the file is missing, damaged, or not such a file.
    """
    if not path.exists():
        step = "train one: dvc repro train; fetch it: dvc pull models; or leave --model out, for the one in the box"
        raise ModelError(f"no model at {path}", expected="a .safetensors file", got="none", next_step=step)
    try:
        with safe_open(path, "pt") as file:
            header = (file.metadata() or {}).get(_HEADER_KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        said = json.loads(header or "{}")
        if said.get("format_version", FORMAT_VERSION) != FORMAT_VERSION:
            raise ConfigError("another version", got=f"version {said['format_version']}")
        card = validated(ModelCard, said, str(path))
        model = DrumCRNN(card.features.mels, len(card.classes), card.channels, card.recurrent_units, 0.0)
        model.load_state_dict(tensors)
    except (SafetensorError, OSError, ConfigError, RuntimeError, ValueError) as error:
        step = "train again: dvc repro train; or leave --model out, for the one in the box"
        got = error.got if isinstance(error, ConfigError) and error.got else str(error).splitlines()[0]
        raise ModelError(f"{path} is not a whole model file", expected=f"a Backbeat model, version {FORMAT_VERSION}",
                         got=got, next_step=step) from error  # fmt: skip
    return model.to(device).eval(), card


def check_fits(card: ModelCard, class_map: ClassMap, features: FeatureParams, path: Path) -> None:
    """Check that a model was trained on this class map and hears these features.

    Raises:
        ModelError: if it was trained on another map or other features.
    """
    if (card.class_map, card.classes) != (class_map.name, list(class_map.classes)):
        raise ModelError(
            f"{path} was trained on another class map",
            expected=f"{class_map.name}: {', '.join(class_map.classes)}",
            got=f"{card.class_map}: {', '.join(card.classes)}",
            next_step="train again: dvc repro train, or set train.classes back",
        )
    if card.features != features:
        differing = [
            f"{name} {getattr(card.features, name)}"
            for name in FeatureParams.model_fields
            if getattr(card.features, name) != getattr(features, name)
        ]
        raise ModelError(
            f"{path} was trained on other features",
            expected="the features of the shards",
            got=", ".join(differing),
            next_step="train again: dvc repro train",
        )
