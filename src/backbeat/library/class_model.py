"""A small model of drum classes, learned from the sounds of this library whose names or people tell their class.

Softmax regression on standardized descriptors, their squares among them, with a penalty on large weights: what
`classes.json` holds is a table of numbers that can be read. Where the file is there, it takes the place of the rules.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.optimize
from numpy.typing import NDArray

from backbeat.errors import LibraryError
from backbeat.library.settings import LIBRARY_FOLDER
from backbeat.storage.staging import new_file

MODEL_FILE = f"{LIBRARY_FOLDER}/classes.json"

Floats = NDArray[np.float64]

# Descriptors that do not depend on how loud a sound is; of times and frequencies the logarithm.
_LINEAR = (
    *("crest_db", "end_level_db", "spectral_flatness", "spectral_contrast_db", "spectral_flux_db"),
    *("harmonic_percussive_db", "low_share", "mid_share", "high_share", "pitch_confidence"),
    *(f"mfcc_{number:02d}" for number in range(13)),
    *(f"mfcc_spread_{number:02d}" for number in range(13)),
)
_LOGARITHMIC = (
    *("attack_s", "decay_s", "decay_60_s", "temporal_centroid_s", "described_s"),
    *("spectral_centroid_hz", "spectral_bandwidth_hz", "spectral_rolloff_hz", "zero_crossing_rate_hz", "pitch_hz"),
)
FEATURES = (*_LINEAR, *_LOGARITHMIC)

# Of the weights; found by cross-validation on generated sounds.
_PENALTY = 3.0

FOLDS = 5
# A class of fewer sounds is left out: it could not be in every fold.
LEAST_OF_CLASS = 8


@dataclass(frozen=True)
class ClassModel:
    """What `classes.json` holds.

    Args:
        features: columns, in the order of the weights.
        classes: what is told apart.
        fill: for each feature, what stands for a value that a sound does not have.
        mean: of each feature.
        spread: the standard deviation of each.
        weights: shape (classes, 2 * features + 1): of the features, their squares, and a constant.
        sounds: how many it was learned from.
        accuracy: of cross-validation, over sounds.
    """

    features: list[str]
    classes: list[str]
    fill: list[float]
    mean: list[float]
    spread: list[float]
    weights: list[list[float]]
    sounds: int
    accuracy: float

    def probabilities(self, facts: Mapping[str, Any]) -> dict[str, float]:
        """Return how likely each class is."""
        inputs = _inputs([facts], self)
        logits = (np.array(self.weights) * inputs[0]).sum(axis=1)
        shares = np.exp(logits - logits.max())
        return dict(zip(self.classes, (shares / shares.sum()).tolist(), strict=True))


def load_model(project: Path) -> ClassModel | None:
    """Return the model of the library; None where there is no file, or an empty object in it.

    Raises:
        LibraryError: if the file is not one of ours.
    """
    path = project / MODEL_FILE
    if not path.exists():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values == {}:
            return None
        model = ClassModel(**values)
        if tuple(model.features) != FEATURES or len(model.weights) != len(model.classes):
            raise ValueError("it was made for other descriptors")
    except (ValueError, TypeError) as error:
        raise LibraryError(
            f"{MODEL_FILE} cannot be used",
            expected="what learn-classes has written",
            got=str(error),
            next_step="backbeat library learn-classes, or remove the file: classes are then told by rule",
        ) from error
    return model


def write_model(project: Path, model: ClassModel) -> Path:
    """Write `classes.json`.

    Raises:
        StorageError: if the disk is full or read-only.
    """
    with new_file(project / MODEL_FILE) as part:
        part.write_text(json.dumps(asdict(model), indent=1) + "\n", encoding="utf-8")
    return project / MODEL_FILE


def learn(facts: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> tuple[ClassModel, dict[str, float]]:
    """Return a model of all sounds, with the accuracy of cross-validation; and the recall of each class.

    Args:
        facts: descriptors, one for each sound.
        labels: the class of each.
    """
    classes = sorted(set(labels))
    truth = np.array([classes.index(label) for label in labels])
    # Every class in every fold: the sounds of each are dealt out in turn.
    fold = np.empty(len(labels), int)
    for number in range(len(classes)):
        members = np.flatnonzero(truth == number)
        fold[members] = np.arange(len(members)) % FOLDS
    right = np.zeros(len(labels), bool)
    for out in range(FOLDS):
        model = _fitted([one for one, at in zip(facts, fold, strict=True) if at != out], truth[fold != out], classes)
        held = [one for one, at in zip(facts, fold, strict=True) if at == out]
        guesses = (_inputs(held, model) @ np.array(model.weights).T).argmax(axis=1)
        right[fold == out] = guesses == truth[fold == out]
    recall = {name: float(right[truth == number].mean()) for number, name in enumerate(classes)}
    fitted = _fitted(facts, truth, classes)
    return ClassModel(**{**asdict(fitted), "accuracy": round(float(right.mean()), 4)}), recall


def _fitted(facts: Sequence[Mapping[str, Any]], truth: NDArray[np.int_], classes: list[str]) -> ClassModel:
    table = _table(facts)
    fill = np.array([np.nanmedian(column) if np.isfinite(column).any() else 0.0 for column in table.T])
    filled = np.where(np.isfinite(table), table, fill)
    mean, spread = filled.mean(axis=0), np.maximum(filled.std(axis=0), 1e-6)
    model = ClassModel(list(FEATURES), classes, _short(fill), _short(mean), _short(spread), [], len(facts), 0.0)
    inputs = _inputs(facts, model)
    wanted = np.eye(len(classes))[truth]

    def loss(flat: Floats) -> tuple[float, Floats]:
        weights = flat.reshape(len(classes), -1)
        logits = inputs @ weights.T
        logits -= logits.max(axis=1, keepdims=True)
        shares = np.exp(logits)
        shares /= shares.sum(axis=1, keepdims=True)
        cost = -float((wanted * np.log(np.maximum(shares, 1e-12))).sum()) + _PENALTY * float((weights**2).sum()) / 2
        return cost, ((shares - wanted).T @ inputs + _PENALTY * weights).ravel()

    start = np.zeros(len(classes) * inputs.shape[1])
    found = scipy.optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 200})
    weights = [_short(row) for row in found.x.reshape(len(classes), -1)]
    return ClassModel(**{**asdict(model), "weights": weights})


def _inputs(facts: Sequence[Mapping[str, Any]], model: ClassModel) -> Floats:
    table = _table(facts)
    scaled = (np.where(np.isfinite(table), table, model.fill) - model.mean) / model.spread
    scaled = np.clip(scaled, -5, 5)
    return np.concatenate([scaled, scaled**2 - 1, np.ones((len(table), 1))], axis=1)


def _table(facts: Sequence[Mapping[str, Any]]) -> Floats:
    linear = [[_number(one.get(name)) for name in _LINEAR] for one in facts]
    logarithmic = [[math.log(max(_number(one.get(name)), 1e-4)) for name in _LOGARITHMIC] for one in facts]
    return np.concatenate([np.array(linear, float), np.array(logarithmic, float)], axis=1)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _short(values: Floats) -> list[float]:
    return [float(f"{value:.6g}") for value in values]
