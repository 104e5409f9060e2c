"""The values of `params.yaml`, checked: an unknown key or a wrong unit is one clear error before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from pydantic import Field

from backbeat.config import PARAMS_FILE, FeatureParams, IntendedUse, Strict, load_yaml, validated
from backbeat.errors import BackbeatError

FEATURES_FOLDER = Path("data/features")
MODEL_FILE = Path("models/recognizer.safetensors")


class TrainParams(Strict):
    """How the network is built and trained."""

    seed: Annotated[int, Field(ge=0)]
    channels: Annotated[int, Field(ge=1, le=512)]
    epochs: Annotated[int, Field(ge=1)]
    batch_sounds: Annotated[int, Field(ge=1)]
    learning_rate: Annotated[float, Field(gt=0, le=1)]


class Params(Strict):
    """The whole of `params.yaml`."""

    dataset: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
    intended_use: IntendedUse
    features: FeatureParams
    train: TrainParams


def load() -> Params:
    """Load `params.yaml` of the current folder, where DVC runs a stage.

    Raises:
        ConfigError: if it is missing, not YAML, or has a wrong key, type or unit.
    """
    return validated(Params, load_yaml(Path(PARAMS_FILE)), PARAMS_FILE)


def run(stage: Callable[[], None]) -> None:
    """Run a stage as a program: a failure that has a message for people is that message, and exit code 1."""
    try:
        stage()
    except BackbeatError as error:
        raise SystemExit(f"error: {error}") from None
