"""Model files: weights as safetensors, with everything in the header that it takes to use and to trace them.

A safetensors file holds numbers and text, never code: loading one from a stranger can disappoint, but not run
anything. The header names the features the model was trained on, its classes and thresholds, and where it came from.
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
from backbeat.transcription.model import DrumCRNN

# Where the stage `train` puts its model, in the project.
MODEL_FILE = "models/transcriber.safetensors"

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
        revision: the commit, with `-dirty` if files differed from it.
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
    """What a model file says of itself."""

    format_version: Literal[1]
    features: FeatureParams
    class_map: str
    classes: Annotated[list[str], Field(min_length=1)]
    notes: list[int]
    thresholds: list[float]
    channels: int
    recurrent_units: int
    provenance: Provenance

    @model_validator(mode="after")
    def _one_of_each_class(self) -> ModelCard:
        if not len(self.classes) == len(self.notes) == len(self.thresholds):
            raise ValueError("classes, notes and thresholds are not equally many")
        return self


def save_model(model: DrumCRNN, card: ModelCard, path: Path) -> None:
    """Write a model file, complete or not at all."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(model.state_dict().items())}
    with new_file(path) as part:
        save_file(tensors, part, metadata={_HEADER_KEY: json.dumps(card.model_dump(), sort_keys=True)})


def load_model(path: Path, device: torch.device) -> tuple[DrumCRNN, ModelCard]:
    """Load a model file for use (in evaluation mode, on `device`).

    Raises:
        ModelError: if the file is missing, damaged, or not such a file.
    """
    if not path.exists():
        step = "train one: dvc repro train, or fetch it: dvc pull models"
        raise ModelError(f"no model at {path}", expected="a .safetensors file", got="none", next_step=step)
    try:
        with safe_open(path, "pt") as file:
            header = (file.metadata() or {}).get(_HEADER_KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        card = validated(ModelCard, json.loads(header or "{}"), str(path))
        model = DrumCRNN(card.features.mels, len(card.classes), card.channels, card.recurrent_units, 0.0)
        model.load_state_dict(tensors)
    except (SafetensorError, OSError, ConfigError, json.JSONDecodeError, RuntimeError) as error:
        step = "train again: dvc repro train"
        raise ModelError(f"{path} is not a whole model file", expected="a Backbeat model, version 1",
                         got=str(error).splitlines()[0], next_step=step) from error  # fmt: skip
    return model.to(device).eval(), card


def check_fits(card: ModelCard, class_map: ClassMap, features: FeatureParams, path: Path) -> None:
    """Check that a model answers in this class map and hears these features.

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
