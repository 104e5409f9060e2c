"""Excerpts of test sequences: the worst of an evaluation and a typical one, transcribed anew and drawn.

Shards and model have to be the ones that were evaluated. Importing this module imports PyTorch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from backbeat.config import FeatureParams
from backbeat.drums.classes import ClassMap, class_map, load_drums
from backbeat.errors import ExperimentError
from backbeat.progress import progress
from backbeat.provenance import digest_of, file_digest
from backbeat.report.evaluation import Evaluation
from backbeat.report.hits import LONGEST_S, Excerpt, Hit, f1_of, match_hits, worst_stretch
from backbeat.report.picture import spectrogram_png
from backbeat.transcription.dataset import (
    SequenceRef,
    data_digest,
    open_shards,
    reference_by_class,
    sequences_of,
    unheard_kits,
)
from backbeat.transcription.decode import all_peaks
from backbeat.transcription.weights import MODEL_FILE, ModelCard, load_model

# The typical sequence is the median of so many, evenly spread over the test split: a score of every sequence is not
# kept, and to run the model on all of them again is what the stage `evaluate` is for.
TYPICAL_OF = 24


@dataclass(frozen=True)
class _Listener:
    """The model with what it takes to run it on a sequence of the test split and to draw the result."""

    model: nn.Module
    card: ModelCard
    held_out_kits: frozenset[int]
    classes: ClassMap
    features: FeatureParams
    tolerance_s: float

    def excerpt(self, sequence: SequenceRef, why: str) -> Excerpt:
        """Transcribe a whole sequence, and return what of it is shown."""
        frames, rate_hz = sequence.frames(), self.features.frame_rate_hz
        reference = reference_by_class(sequence.onsets(), self.classes, rate_hz)
        # Not on a GPU, so that a page is the same on every machine.
        peaks = all_peaks(self.model, frames, rate_hz, torch.device("cpu"))
        hits = match_hits(reference, peaks.above(np.array(self.card.thresholds)), self.tolerance_s)
        duration_s = len(frames) / rate_hz
        start_s, length_s = worst_stretch(hits, duration_s, LONGEST_S)
        first, count = round(start_s * rate_hz), round(length_s * rate_hz)
        names, inside = _within(hits, self.classes.classes, start_s, length_s)
        return Excerpt(
            id=sequence.id,
            why=why,
            kit=sequence.kit,
            kit_name=sequence.kit_name,
            held_out=sequence.kit in self.held_out_kits,
            style=sequence.style,
            onset_f1=f1_of(hits),
            duration_s=duration_s,
            start_s=start_s,
            length_s=length_s,
            classes=names,
            hits=inside,
            wav_crc32=sequence.recording[0],
            png=spectrogram_png(frames[first : first + count], self.features.step_db),
        )


def transcribed_excerpts(project: Path, evaluation: Evaluation) -> tuple[Excerpt, ...]:
    """Return a typical test sequence and the worst ones, without sound.

    Args:
        project: root of the repository, with shards and model as they are in the workspace.
        evaluation: what was evaluated, with its `worst_sequences`.

    Raises:
        BackbeatError: if shards, model or class map are absent, damaged, or not those that were evaluated.
    """
    said = evaluation.provenance
    shards = open_shards(project / "data" / "processed" / said.dataset)
    _check_evaluated("the shards here", data_digest(shards), said.data)
    model, card = load_model(project / MODEL_FILE, torch.device("cpu"))
    _check_evaluated("the model here", file_digest(project / MODEL_FILE), said.model)
    classes = class_map(load_drums(project), card.class_map)
    # What is older names its class map only; its model, which is the one that was evaluated, knows the map's content.
    evaluated_map = said.class_of_pitch or card.provenance.class_of_pitch
    _check_evaluated("the class map here", digest_of(classes.class_of_pitch.tolist()), evaluated_map)
    listener = _Listener(
        model,
        card,
        unheard_kits(shards, card.provenance.held_out_kits),
        classes,
        FeatureParams.model_validate(shards[0].attributes["features"]),
        said.evaluate.onset_tolerance_s,
    )
    by_place = {(one.id, one.kit): one for one in sequences_of(shards, "test")}
    worst = [(row.sequence, row.kit) for row in evaluation.worst_sequences or ()]
    unknown = [name for name, kit in worst if (name, kit) not in by_place]
    if unknown:
        raise ExperimentError(f"the shards here have no test sequence {unknown[0]}", next_step="dvc repro evaluate")
    others = sorted(by_place.keys() - set(worst)) or sorted(by_place)
    sample = others[:: -(-len(others) // TYPICAL_OF)]
    wanted = [(place, f"worst {number}") for number, place in enumerate(worst, start=1)]
    wanted += [(place, "typical") for place in sample]
    made = []
    with progress("transcribe", len(wanted), unit="sequences") as advance:
        for place, why in wanted:
            made.append(listener.excerpt(by_place[place], why))
            advance(1)
    return (_typical(made[len(worst) :]), *made[: len(worst)])


def _check_evaluated(what: str, here: str, evaluated: str) -> None:
    if here != evaluated:
        raise ExperimentError(
            f"{what} and what was evaluated are not the same",
            expected=evaluated[:8],
            got=here[:8],
            next_step="dvc checkout, or dvc repro; for another revision in a checkout of it",
        )


def _typical(candidates: Sequence[Excerpt]) -> Excerpt:
    """Return the one of median score among the busier half: neither a showpiece nor a flop, and not nearly empty."""
    busy = sorted(candidates, key=lambda one: (-len(one.hits), one.id))[: max(1, len(candidates) // 2)]
    ranked = sorted(busy, key=lambda one: (one.onset_f1, one.id))
    return ranked[len(ranked) // 2]


def _within(
    hits: Sequence[Hit], names: tuple[str, ...], start_s: float, length_s: float
) -> tuple[tuple[str, ...], tuple[Hit, ...]]:
    """Return the classes that occur in a stretch, and its hits, timed from its beginning and indexing them."""
    inside = [hit for hit in hits if start_s <= hit.at_s < start_s + length_s]
    present = sorted({hit.class_index for hit in inside})
    moved = (replace(hit, at_s=hit.at_s - start_s, class_index=present.index(hit.class_index)) for hit in inside)
    return tuple(names[index] for index in present), tuple(moved)
