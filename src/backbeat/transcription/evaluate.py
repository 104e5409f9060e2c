"""The stage `evaluate`: a model and the test split in, `reports/metrics.json` and plots out.

The test split is scored as it is (`test`), and by whether the kit was heard in training (`seen_kits`,
`held_out_kits`): the official split has every kit in every part, so only the kits that training left out say how the
model does on a new drum set. Thresholds come with the model; they were chosen on validation.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from backbeat.config import EvaluateParams, FeatureParams, load_params
from backbeat.datasets.registry import load_record
from backbeat.drums.classes import ClassMap, class_map, load_drums
from backbeat.errors import ShardError
from backbeat.progress import progress
from backbeat.provenance import digest_of, file_digest, git_revision
from backbeat.storage.staging import new_file
from backbeat.transcription import plots, weights
from backbeat.transcription.dataset import (
    SequenceRef,
    data_digest,
    open_shards,
    recordings_digest,
    reference_by_class,
    sequences_of,
    unheard_kits,
)
from backbeat.transcription.decode import Peaks, all_peaks
from backbeat.transcription.metrics import (
    Reference,
    SequenceScore,
    count_onsets,
    count_velocities,
    summarize,
    summarize_by,
    threshold_curve,
)

# So many sequences are named as the worst ones: as many as somebody listens to.
WORST_SEQUENCES = 10

METRICS_FILE = "reports/metrics.json"
EVALUATION_FILE = "reports/evaluation.json"
PLOTS_FOLDER = "reports/plots"


@dataclass(frozen=True)
class Scored:
    """One test sequence with its reference, estimate and score."""

    sequence: SequenceRef
    reference: Reference
    peaks: Peaks
    hits: Peaks
    score: SequenceScore


def evaluate(project: Path) -> dict[str, Any]:
    """Score the model on the test split, write metrics and plots, and return the whole evaluation.

    Raises:
        BackbeatError: if the model does not fit the class map or the features, or data is missing or damaged.
    """
    params = load_params(project)
    load_record(project, params.dataset)
    shards = open_shards(project / "data" / "processed" / params.dataset)
    features = FeatureParams.model_validate(shards[0].attributes["features"])
    classes = class_map(load_drums(project), params.train.classes)
    path = project / weights.MODEL_FILE
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, card = weights.load_model(path, device)
    weights.check_fits(card, classes, features, path)
    thresholds = np.array(card.thresholds)

    sequences = sequences_of(shards, "test")
    if not sequences:
        raise ShardError("no test sequences", expected="a test split", got="none")
    scored = []
    with progress("evaluate", len(sequences), unit="sequences") as advance:
        for sequence in sequences:
            peaks = all_peaks(model, sequence.frames(), features.frame_rate_hz, device)
            scored.append(_score(sequence, peaks, thresholds, classes, features, params.evaluate))
            advance(1)

    held_out = unheard_kits(shards, card.provenance.held_out_kits)
    result = _result([one.score for one in scored], classes, held_out)
    result["worst_sequences"] = [
        {
            "sequence": one.sequence.id,
            "kit": one.sequence.kit,
            "kit_name": one.sequence.kit_name,
            "style": one.sequence.style,
            "onsets": int((one.score.onset.found + one.score.onset.missed).sum()),
            "onset_f1": round(one.score.onset.micro, 4),
        }
        for one in sorted(scored, key=lambda one: (one.score.onset.micro, one.sequence.id, one.sequence.kit))
    ][:WORST_SEQUENCES]
    result["thresholds"] = dict(zip(classes.classes, card.thresholds, strict=True))
    result["provenance"] = {
        "dataset": shards[0].attributes["dataset"],
        "license": shards[0].attributes["license"],
        "data": data_digest(shards),
        "test_data": recordings_digest(sequences),
        "model": file_digest(path),
        "train": card.provenance.train,
        "held_out_kits": sorted(held_out),
        "evaluate": params.evaluate.model_dump(),
        "class_map": classes.name,
        "class_of_pitch": digest_of(classes.class_of_pitch.tolist()),
        "revision": git_revision(project),
    }
    _write(project, result, scored, classes, features, params.evaluate)
    return result


def _score(
    sequence: SequenceRef,
    peaks: Peaks,
    thresholds: np.ndarray[Any, np.dtype[np.float64]],
    classes: ClassMap,
    features: FeatureParams,
    params: EvaluateParams,
) -> Scored:
    reference = reference_by_class(sequence.onsets(), classes, features.frame_rate_hz)
    hits = peaks.above(thresholds)
    onset = count_onsets(reference, hits, params.onset_tolerance_s)
    velocity = count_velocities(reference, hits, params)
    score = SequenceScore(sequence.id, sequence.kit, sequence.kit_name, sequence.style, onset, velocity)
    return Scored(sequence, reference, peaks, hits, score)


def _result(scores: list[SequenceScore], classes: ClassMap, held_out: frozenset[int]) -> dict[str, Any]:
    names = classes.classes
    result: dict[str, Any] = {"test": summarize(scores, names)}
    groups = {
        "seen_kits": [score for score in scores if score.kit not in held_out],
        "held_out_kits": [score for score in scores if score.kit in held_out],
    }
    result |= {name: summarize(group, names) for name, group in groups.items() if group}
    result["by_kit"] = summarize_by(scores, names, lambda score: f"{score.kit:02d} {score.kit_name}")
    result["by_style"] = summarize_by(scores, names, lambda score: score.style)
    return result


def _write(
    project: Path,
    result: dict[str, Any],
    scored: list[Scored],
    classes: ClassMap,
    features: FeatureParams,
    params: EvaluateParams,
) -> None:
    metrics: dict[str, Any] = {"onset_tolerance_s": params.onset_tolerance_s}
    metrics |= {name: result[name] for name in ("test", "seen_kits", "held_out_kits") if name in result}
    for path, content in ((METRICS_FILE, metrics), (EVALUATION_FILE, result)):
        with new_file(project / path) as part:
            part.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    pairs = [(one.reference, one.peaks) for one in scored]
    curve = threshold_curve(pairs, len(classes.classes), params.onset_tolerance_s)
    folder = project / PLOTS_FOLDER
    plots.write_f1_by_class(folder / "f1_by_class.json", metrics["test"]["onset_f1_by_class"])
    plots.write_precision_recall(folder / "precision_recall.json", curve)
    plots.draw_f1_by_kit(folder / "f1_by_kit.png", result["by_kit"], result["test"])
    shown = _typical(scored)
    plots.draw_transcription(
        folder / "transcription.png",
        shown.sequence,
        shown.reference,
        shown.hits,
        shown.score,
        classes,
        features,
        params,
    )


def _typical(scored: list[Scored]) -> Scored:
    """Return the sequence to look at: of median score among those with many hits, so neither a showpiece nor a flop."""
    busy = sorted(scored, key=lambda one: -int((one.score.onset.found + one.score.onset.missed).sum()))
    candidates = sorted(busy[: max(1, len(busy) // 2)], key=lambda one: (one.score.onset.micro, one.sequence.id))
    return candidates[len(candidates) // 2]
