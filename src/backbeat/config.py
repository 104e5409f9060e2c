"""Configuration: strict YAML, `params.yaml` as typed values, and where the project is.

YAML is loaded with duplicate keys and aliases refused: plain `yaml.safe_load` keeps the last of two equal keys in
silence, and an alias can stand for more nodes than any memory holds. What is loaded is then checked against a
model that knows every key, its type and its unit.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from backbeat.errors import ConfigError

PARAMS_FILE = "params.yaml"
DRUMS_FILE = "configs/drums.yaml"

# How many faults of one file a message lists; beyond that they are all of one kind.
MOST_FAULTS = 6

ModelT = TypeVar("ModelT", bound=BaseModel)

IntendedUse = Literal["research", "commercial"]


class Strict(BaseModel):
    """A frozen model that refuses unknown keys and converts nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class FeatureParams(Strict):
    """How a recording becomes a log-mel spectrogram; the units are in the names."""

    sample_rate_hz: Annotated[int, Field(ge=8_000, le=192_000)]
    fft_samples: Annotated[int, Field(ge=256, le=16_384, multiple_of=2)]
    hop_samples: Annotated[int, Field(ge=32, le=8_192)]
    mels: Annotated[int, Field(ge=16, le=512)]
    low_hz: Annotated[float, Field(ge=0, le=1_000)]
    high_hz: Annotated[float, Field(ge=1_000, le=96_000)]
    floor_db: Annotated[float, Field(ge=-200, le=0)]
    step_db: Annotated[float, Field(ge=0.1, le=3)]

    @model_validator(mode="after")
    def _fits_together(self) -> FeatureParams:
        if self.high_hz > self.sample_rate_hz / 2:
            raise ValueError(f"high_hz is above half of sample_rate_hz ({self.sample_rate_hz / 2:g} Hz)")
        if self.low_hz >= self.high_hz:
            raise ValueError("low_hz is not below high_hz: there are no bands between them")
        if self.hop_samples > self.fft_samples:
            raise ValueError("hop_samples is larger than fft_samples: parts of the sound would not be seen")
        return self

    @property
    def frame_rate_hz(self) -> float:
        """Frames per second."""
        return self.sample_rate_hz / self.hop_samples


class PreprocessParams(Strict):
    """How an archive becomes shards."""

    features: FeatureParams
    bad_members_allowed: Annotated[int, Field(ge=0)]


class TrainParams(Strict):
    """How a model is built and trained."""

    seed: Annotated[int, Field(ge=0)]
    classes: Annotated[str, Field(min_length=1)]
    held_out_kits: tuple[Annotated[int, Field(ge=1)], ...]
    window_frames: Annotated[int, Field(ge=50, le=6_000)]
    label_frames: Annotated[int, Field(ge=0, le=5)]
    channels: Annotated[int, Field(ge=4, le=512)]
    recurrent_units: Annotated[int, Field(ge=4, le=1_024)]
    dropout: Annotated[float, Field(ge=0, lt=1)]
    batch_windows: Annotated[int, Field(ge=1, le=4_096)]
    learning_rate: Annotated[float, Field(gt=0, le=1)]
    weight_decay: Annotated[float, Field(ge=0, le=1)]
    velocity_weight: Annotated[float, Field(ge=0, le=100)]
    gain_db: Annotated[float, Field(ge=0, le=40)]
    tilt_db: Annotated[float, Field(ge=0, le=40)]
    shift_bands: Annotated[int, Field(ge=0, le=16)]
    masked_bands: Annotated[int, Field(ge=0, le=256)]
    mix_probability: Annotated[float, Field(ge=0, le=1)]
    mix_gain_db: Annotated[float, Field(ge=0, le=60)]
    equalizer_db: Annotated[float, Field(ge=0, le=40)]
    contrast: Annotated[float, Field(ge=0, lt=1)]
    reverb_probability: Annotated[float, Field(ge=0, le=1)]
    noise_probability: Annotated[float, Field(ge=0, le=1)]
    noise_db: Annotated[float, Field(ge=0, le=100)]
    tempo_jitter: Annotated[float, Field(ge=0, le=0.3)]
    steps: Annotated[int, Field(ge=1)]
    steps_per_epoch: Annotated[int, Field(ge=1)]
    patience_epochs: Annotated[int, Field(ge=1)]
    validation_sequences: Annotated[int, Field(ge=1)]
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"]

    @model_validator(mode="after")
    def _whole_epochs(self) -> TrainParams:
        if self.steps % self.steps_per_epoch:
            raise ValueError("steps is not a multiple of steps_per_epoch: the last ones would never be validated")
        return self

    # Lists are what YAML has; a tuple is what cannot change.
    @model_validator(mode="before")
    @classmethod
    def _lists_are_tuples(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("held_out_kits"), list):
            return {**values, "held_out_kits": tuple(values["held_out_kits"])}
        return values


class EvaluateParams(Strict):
    """How estimates are matched with references."""

    onset_tolerance_s: Annotated[float, Field(gt=0, le=0.5)]
    velocity_tolerance: Annotated[float, Field(gt=0, le=1)]


class Params(Strict):
    """The whole of `params.yaml`."""

    dataset: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
    intended_use: IntendedUse
    preprocess: PreprocessParams
    train: TrainParams
    evaluate: EvaluateParams


class _StrictLoader(yaml.SafeLoader):
    """`SafeLoader` without aliases and without duplicate keys, and with the numbers of YAML 1.2."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.constructor.ConstructorError(None, None, "aliases are not allowed", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(None, None, "a key is a list or mapping", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is there twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


# YAML 1.1 takes 1e-05 for a word, and that is how `dvc exp run -S` writes a small number into params.yaml. What is
# written by us has to know it, too: a text that reads like a number is quoted.
FLOAT_WITHOUT_POINT = (
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)
_StrictLoader.add_implicit_resolver(*FLOAT_WITHOUT_POINT)


def load_yaml(path: Path) -> Any:
    """Load a YAML file with duplicate keys and aliases refused.

    Raises:
        ConfigError: if the file is missing or is not such YAML; the message has the line.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"{path} is missing", next_step="run the command in the root of the clone") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read", expected="a file", got=str(error)) from error
    return parse_yaml(content, str(path))


def parse_yaml(content: bytes, where: str) -> Any:
    """Return the values of a YAML text, with duplicate keys and aliases refused.

    Args:
        content: the text, in UTF-8.
        where: what to call it in a message.

    Raises:
        ConfigError: if it is not such YAML; the message has the line.
    """
    try:
        return yaml.load(content.decode(), Loader=_StrictLoader)  # noqa: S506 - a SafeLoader with fewer features
    # PyYAML raises a ValueError for dates that no calendar has, Python for text that is not UTF-8.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{where} is not valid YAML", got=str(error), next_step="correct that line") from error


def validated(model: type[ModelT], values: Any, where: str) -> ModelT:
    """Build `model` from loaded values, with every fault of them in one message.

    Raises:
        ConfigError: naming each faulty key, what it should be and what it is.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        faults = [
            f"{'.'.join(str(part) for part in fault['loc']) or '(top)'}: {fault['msg']}, got {_short(fault['input'])}"
            for fault in error.errors()
        ]
        if len(faults) > MOST_FAULTS:
            faults = [*faults[:MOST_FAULTS], f"and {len(faults) - MOST_FAULTS} more"]
        raise ConfigError(
            f"{where} is not valid",
            expected=f"the keys and types of {model.__name__}",
            got="; ".join(faults),
            next_step=f"correct {where}; the comments in it say what each value means",
        ) from error


def load_params(project: Path) -> Params:
    """Load and check `params.yaml`.

    Raises:
        ConfigError: if it is missing, not YAML, or has a wrong key, type or unit.
    """
    return validated(Params, load_yaml(project / PARAMS_FILE), PARAMS_FILE)


def find_project(start: Path | None = None) -> Path:
    """Return the nearest folder at or above `start` (default: the current one) that holds `params.yaml`.

    Raises:
        ConfigError: if there is none.
    """
    here = (start or Path.cwd()).absolute()
    for folder in [here, *here.parents]:
        if (folder / PARAMS_FILE).is_file():
            return folder
    raise ConfigError(
        f"no Backbeat project at or above {here}",
        expected=f"a folder with {PARAMS_FILE}",
        next_step="run the command inside the clone",
    )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
