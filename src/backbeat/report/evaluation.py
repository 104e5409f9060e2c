"""What a page takes out of `reports/evaluation.json`, checked as it is read.

An evaluation may be older than this program: what later ones added is None where it is absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from backbeat.errors import ExperimentError
from backbeat.experiments.results import EVALUATION_FILE, Result, read_file

T = TypeVar("T")


@dataclass(frozen=True)
class Scores:
    """The scores of a set of sequences; a class that does not occur in it has none."""

    sequences: int
    onset_f1: float
    onset_f1_by_class: Mapping[str, float]


@dataclass(frozen=True)
class Place:
    """A test sequence: its name in the dataset, and the number of its kit."""

    sequence: str
    kit: int


@dataclass(frozen=True)
class Trained:
    """How the model was trained: the kits that it never heard."""

    held_out_kits: tuple[int, ...]


@dataclass(frozen=True)
class Tolerances:
    """How close an onset had to be, in seconds."""

    onset_tolerance_s: float


@dataclass(frozen=True)
class Provenance:
    """What was evaluated: names, and digests of content."""

    dataset: str
    license: str
    data: str
    model: str
    train: Trained
    evaluate: Tolerances
    class_map: str
    class_of_pitch: str | None = None
    held_out_kits: tuple[int, ...] | None = None
    test_data: str | None = None
    revision: str | None = None


@dataclass(frozen=True)
class Evaluation:
    """Scores of a model, and what they are of; kits are called by number and name: `04 Warmer Funk`."""

    test: Scores
    by_kit: Mapping[Annotated[str, Field(pattern=r"^\d+ ")], Scores]
    thresholds: Mapping[str, float]
    provenance: Provenance
    seen_kits: Scores | None = None
    held_out_kits: Scores | None = None
    worst_sequences: tuple[Place, ...] | None = None


def read_evaluation(project: Path, result: Result) -> Evaluation | None:
    """Return the evaluation of a result; None where nothing was evaluated.

    Raises:
        ExperimentError: if it cannot be read, or lacks what a page needs.
    """
    return read_json(project, result, EVALUATION_FILE, Evaluation)


def read_json(project: Path, result: Result, path: str, kind: type[T]) -> T | None:
    """Return a JSON file of a result; None where it is not there.

    Raises:
        ExperimentError: if it does not have this type.
    """
    content = read_file(project, result.revision, path)
    if content is None:
        return None
    try:
        return TypeAdapter(kind).validate_json(content)
    except ValidationError as error:
        faults = "; ".join(": ".join(filter(None, (_where(one["loc"]), one["msg"]))) for one in error.errors()[:5])
        step = f"make it again: dvc repro, in a checkout of {result.name}" if result.revision else "dvc repro evaluate"
        raise ExperimentError(f"{path} of {result.name} cannot be read", got=faults, next_step=step) from error


def _where(place: tuple[int | str, ...]) -> str:
    return ".".join(map(str, place))
