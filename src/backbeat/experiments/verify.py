"""Repeat a commit, and compare what comes out with what it says: shards by their bytes, scores within a tolerance."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from backbeat.errors import ExperimentError
from backbeat.experiments.repetition import ending_on_sigterm, repeat, temporary_clone
from backbeat.experiments.results import LOCK_FILE, METRICS_FILE, TRAINING_FILE, flat, read_file, read_result, resolve

REQUIREMENTS = "requirements.lock"

Outcome = Literal["same bytes", "within tolerance", "differs", "not repeated", "not compared"]

# What decides: equal shards and equal scores. Weights, curves and pictures may differ in bits where scores do not.
DECIDING = ("shards", "scores")


@dataclass(frozen=True)
class Artifact:
    """One output of the pipeline, as it was and as it came out.

    Args:
        path: where it is.
        kind: shards, scores, or other.
        outcome: what the comparison has shown.
        note: how large the difference is, or why there is no comparison.
    """

    path: str
    kind: Literal["shards", "scores", "other"]
    outcome: Outcome
    note: str = ""


@dataclass(frozen=True)
class Verification:
    """What a repetition has shown.

    Args:
        name: as it was asked for.
        revision: the commit.
        artifacts: one for each output.
        notes: what is different here, and may explain a difference.
    """

    name: str
    revision: str
    artifacts: tuple[Artifact, ...]
    notes: tuple[str, ...]

    @property
    def reproduced(self) -> bool:
        """Whether neither shards nor scores differ, as far as they were repeated."""
        return not any(one.outcome == "differs" for one in self.artifacts if one.kind in DECIDING)

    @property
    def verdict(self) -> str:
        """What came of it, in words; shards that were not made again are not said to be reproduced."""
        if not self.reproduced:
            return "was not reproduced"
        if any(one.outcome == "not repeated" for one in self.artifacts if one.kind == "shards"):
            return "has the same scores again; its shards were not repeated"
        return "was reproduced"


def verify(project: Path, name: str, *, tolerance: float) -> Verification:
    """Repeat a commit in a temporary clone, and compare.

    Args:
        project: the root of the repository.
        name: an experiment or a Git revision.
        tolerance: how far a score may be from the one that the commit says.

    Raises:
        ExperimentError: if there is no such commit, it holds no results, or a stage fails.
        StorageError: if the disk is full.
    """
    revision = resolve(project, name)
    if revision is None:
        raise ExperimentError("the workspace is no commit", next_step="commit it, then verify HEAD")
    before = _lock(read_file(project, revision, LOCK_FILE))
    result = read_result(project, revision)
    if not before or not result.metrics:
        raise ExperimentError(
            f"{name} has nothing to be compared with",
            expected=f"{LOCK_FILE} and {METRICS_FILE} in that commit",
            next_step="dvc repro there, and commit both",
        )
    with ending_on_sigterm(), temporary_clone(project, revision) as clone:
        repeated = repeat(project, clone, result.dataset)
        after = _lock((clone / LOCK_FILE).read_bytes())
        scores = json.loads((clone / METRICS_FILE).read_bytes())
    artifacts = compared(
        before, after, repeated=repeated, off=largest_difference(result.metrics, scores), tolerance=tolerance
    )
    return Verification(name, revision, artifacts, _notes(project, revision))


def compared(
    before: Mapping[str, str],
    after: Mapping[str, str],
    *,
    repeated: bool,
    off: tuple[float, str],
    tolerance: float,
) -> tuple[Artifact, ...]:
    """Compare outputs by their hashes, scores by their largest difference.

    Args:
        before: path and DVC's hash of each output, as committed.
        after: the same, as it came out.
        repeated: whether the shards were made again.
        off: the largest difference of a score, and which one has it.
        tolerance: how large that may be.
    """
    return tuple(_artifact(path, before.get(path), after.get(path), repeated, off, tolerance) for path in before)


def _artifact(
    path: str, was: str | None, now: str | None, repeated: bool, off: tuple[float, str], tolerance: float
) -> Artifact:
    shards = path.startswith("data/processed/")
    kind: Literal["shards", "scores", "other"] = "shards" if shards else "scores" if path == METRICS_FILE else "other"
    if path == TRAINING_FILE:
        return Artifact(path, kind, "not compared", "it says how long training took, and on what")
    if not repeated and (shards or path == "reports/preprocess.json"):
        return Artifact(path, kind, "not repeated", "the raw data is not here: backbeat datasets download")
    if was == now:
        return Artifact(path, kind, "same bytes")
    if kind != "scores":
        return Artifact(
            path,
            kind,
            "differs",
            "" if shards else "may name the revision that made it; the scores decide",
        )
    outcome: Outcome = "within tolerance" if off[0] <= tolerance else "differs"
    return Artifact(path, kind, outcome, f"at most {off[0]:.4f}, in {off[1]}; allowed are {tolerance:g}")


def largest_difference(before: Mapping[str, float], scores: Mapping[str, Any]) -> tuple[float, str]:
    """Return the largest difference of a metric, and its name; what is missing or no number is infinitely far."""
    after = dict(flat(scores))
    differences = [(_far(before.get(name), after.get(name)), name) for name in sorted({*before, *after})]
    return max(differences, default=(0.0, ""))


def _far(was: object, now: object) -> float:
    # NaN is neither more nor less than a tolerance.
    if not isinstance(was, int | float) or not isinstance(now, int | float) or not math.isfinite(was - now):
        return math.inf
    return abs(was - now)


def _lock(content: bytes | None) -> dict[str, str]:
    """Return the outputs in a `dvc.lock` and their hashes, in the order of the stages."""
    stages = (yaml.safe_load(content) or {}).get("stages", {}) if content else {}
    return {str(out["path"]): str(out["md5"]) for stage in stages.values() for out in stage.get("outs", [])}


def _notes(project: Path, revision: str) -> tuple[str, ...]:
    here, there = (read_file(project, at, REQUIREMENTS) for at in (None, revision))
    if here == there:
        return ()
    return (f"{REQUIREMENTS} is another one in that commit: libraries of other versions have repeated it",)
