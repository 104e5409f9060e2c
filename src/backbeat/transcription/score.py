"""A model scored on sets of recordings with annotations, in every class map that it answers in.

A recording goes through the model once; the probabilities are pooled into each map and become hits by that map's own
thresholds. Onsets match as in `backbeat.transcription.metrics`, class by class, within 50 ms, as is usual, and within
25 ms, which tells sloppy onsets from exact ones; velocities as mir_eval compares them, where the annotations have some.
Hits are counted over all recordings of a set, so that a long one weighs more than a short one ("sum F" of Zehren et
al.). Nothing depends on `params.yaml`: whoever scores the same model on the same set has the same numbers.

Which classes of a map are scored depends on what the annotations tell apart (`backbeat.transcription.annotations`). In
`adtof5` on MDB Drums these are kick, snare with side stick, toms, hi-hat and cymbals, without the tambourine:
ADTOF's classes. Its published numbers are of full mixes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from backbeat.audio.logmel import LogMel
from backbeat.audio.read import mono_blocks
from backbeat.config import DRUMS_FILE, EvaluateParams
from backbeat.drums.classes import ClassMap, ClassRow, DrumTable, class_map
from backbeat.errors import ModelError
from backbeat.progress import progress
from backbeat.provenance import file_digest
from backbeat.storage.staging import new_file
from backbeat.transcription.annotated import AnnotatedSet, Recording
from backbeat.transcription.annotations import reference_by_class, told_apart
from backbeat.transcription.answers import Answer, Members, coarser_maps
from backbeat.transcription.decode import Peaks, peaks_by_map
from backbeat.transcription.metrics import Counts, Reference, count_onsets, count_velocities
from backbeat.transcription.weights import ModelCard, Provenance, load_model

# mir_eval's own for onsets and velocities; half of it for the stricter score.
AS_PUBLISHED = EvaluateParams(onset_tolerance_s=0.05, velocity_tolerance=0.1)
STRICT_TOLERANCE_S = 0.025

# As many as somebody listens to.
WORST_RECORDINGS = 10


@dataclass(frozen=True)
class Scorer:
    """A model, ready to be scored."""

    model: nn.Module
    card: ModelCard
    device: torch.device
    file: Path
    drums: DrumTable


@dataclass(frozen=True)
class Scores:
    """The counts of one recording, or of many, in one class map; `velocity` is None where there are none to compare."""

    onset: Counts
    strict: Counts
    velocity: Counts | None

    def __add__(self, other: Scores) -> Scores:
        velocity = self.velocity + other.velocity if self.velocity and other.velocity else None
        return Scores(self.onset + other.onset, self.strict + other.strict, velocity)

    def of_class(self, index: int) -> Scores:
        """Return the counts of one class."""
        velocity = self.velocity and self.velocity.of_class(index)
        return Scores(self.onset.of_class(index), self.strict.of_class(index), velocity)


@dataclass(frozen=True)
class _Map:
    """A class map that the model answers in; `told`, shape (classes,), are those of its classes that are scored."""

    answer: Answer
    rows: dict[str, ClassRow]
    told: NDArray[np.bool_]

    @property
    def classes_to_score(self) -> int:
        """How many classes are scored that the model has an answer for."""
        return sum(bool(of) and told for of, told in zip(self.answer.members, self.told.tolist(), strict=True))


@dataclass(frozen=True)
class _Scored:
    recording: Recording
    by_map: tuple[Scores, ...]


def open_model(file: Path, drums: DrumTable) -> Scorer:
    """Load a model for scoring.

    Raises:
        ModelError: if it is no model file, or its class maps are not those of `configs/drums.yaml`.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, card = load_model(file, device)
    by_name = {coarse.name: (list(coarse.classes), members) for coarse, members in _maps_here(card, drums)}
    for answer in card.answers.values():
        if by_name.get(answer.class_map) != (answer.classes, answer.members):
            raise ModelError(
                f"the class map {answer.class_map} of {DRUMS_FILE} is not that of {file.name}",
                expected=", ".join(answer.classes),
                got=", ".join(drums.class_maps.get(answer.class_map, ())) or "no such map",
                next_step=f"restore it, or the instruments in it: git checkout {DRUMS_FILE}; "
                "a model of another project is scored in the folder of that",
            )
    return Scorer(model, card, device, file, drums)


def _maps_here(card: ModelCard, drums: DrumTable) -> list[tuple[ClassMap, Members]]:
    """Return what a model of this map would answer in by the table that is here."""
    return coarser_maps(drums, class_map(drums, card.class_map)) if card.class_map in drums.class_maps else []


def score_set(scorer: Scorer, chosen: AnnotatedSet) -> dict[str, Any]:
    """Score a model on a set.

    Returns:
        what `reports/pretrained.json` has of the set: its size, the scores in each class map, and those of each kit and
        recording in the map in which most classes are scored, the finest of these.

    Raises:
        BackbeatError: if a recording or its annotation is damaged.
    """
    maps = _maps(scorer, chosen)
    logmel = LogMel(scorer.card.features)
    scored = []
    with progress(chosen.name, len(chosen.recordings), unit="recordings") as advance:
        for recording in chosen.recordings:
            by_map = _score(scorer, maps, recording, logmel, with_velocity=chosen.has_velocity)
            scored.append(_Scored(recording, by_map))
            advance(1)
    shown = max(range(len(maps)), key=lambda index: (maps[index].classes_to_score, -index))
    return {
        "name": chosen.name,
        "content": chosen.content,
        **({} if chosen.archive_bytes is None else {"archive_bytes": chosen.archive_bytes}),
        "recordings": len(scored),
        "recordings_without_annotation": chosen.passed_over,
        "annotations_without_recording": list(chosen.unheard),
        "duration_s": round(sum(recording.duration_s for recording in chosen.recordings), 1),
        "shown": maps[shown].answer.class_map,
        "class_maps": {one.answer.class_map: _of_map(one, _sum(scored, index)) for index, one in enumerate(maps)},
        **_by_kit(scored, shown, scorer.card.provenance, chosen),
        **_by_recording(scored, shown),
    }


def write_scores(path: Path, scorer: Scorer, sets: list[dict[str, Any]], absent: list[str]) -> None:
    """Write the scores of a model as JSON: the same for the same model and the same sets, wherever they lie."""
    content = {
        "model": {
            "file": scorer.file.name,
            "sha256": file_digest(scorer.file),
            "class_map": scorer.card.class_map,
            "trained_on": scorer.card.provenance.dataset,
        },
        "onset_tolerance_s": AS_PUBLISHED.onset_tolerance_s,
        "strict_onset_tolerance_s": STRICT_TOLERANCE_S,
        "velocity_tolerance": AS_PUBLISHED.velocity_tolerance,
        "sets": sets,
        "absent": absent,
    }
    with new_file(path) as part:
        part.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def summary(scores: Scores) -> dict[str, Any]:
    """Return F1 by all measures, precision, recall and the number of hits; None where there is nothing to score."""
    onset = scores.onset
    found, wrong, missed = (int(counts.sum()) for counts in (onset.found, onset.wrong, onset.missed))
    anything = found + wrong + missed > 0
    return {
        "onsets": found + missed,
        "estimated": found + wrong,
        "onset_f1": round(onset.micro, 4) if anything else None,
        "strict_onset_f1": round(scores.strict.micro, 4) if anything else None,
        "onset_velocity_f1": round(scores.velocity.micro, 4) if anything and scores.velocity else None,
        "onset_precision": round(onset.precision, 4) if found + wrong else None,
        "onset_recall": round(onset.recall, 4) if found + missed else None,
    }


def _maps(scorer: Scorer, chosen: AnnotatedSet) -> list[_Map]:
    """Return the model's own class map, then the others from the finest to the coarsest."""
    own = scorer.card.class_map

    def order(one: Answer) -> tuple[bool, int]:
        return one.class_map != own, -sum(map(bool, one.members))

    answers = sorted(scorer.card.answers.values(), key=order)
    rows = [scorer.drums.class_maps[answer.class_map] for answer in answers]
    return [
        _Map(answer, classes, told_apart(chosen.labels, classes)) for answer, classes in zip(answers, rows, strict=True)
    ]


def _score(
    scorer: Scorer, maps: list[_Map], recording: Recording, logmel: LogMel, *, with_velocity: bool
) -> tuple[Scores, ...]:
    sound, annotation = recording.load()
    features = scorer.card.features
    pieces = logmel.stream(mono_blocks(sound, recording.name, features.sample_rate_hz))
    answers = [one.answer for one in maps]
    peaks = peaks_by_map(scorer.model, pieces, features.frame_rate_hz, scorer.device, answers)
    scores = []
    for one, candidates in zip(maps, peaks, strict=True):
        reference = reference_by_class(annotation, one.rows, one.told)
        hits = candidates.above(np.array(one.answer.thresholds))
        scores.append(count(reference, hits.where(one.told[hits.class_index]), with_velocity=with_velocity))
    return tuple(scores)


def count(reference: Reference, hits: Peaks, *, with_velocity: bool) -> Scores:
    """Match the hits of one recording by all measures."""
    return Scores(
        onset=count_onsets(reference, hits, AS_PUBLISHED.onset_tolerance_s),
        strict=count_onsets(reference, hits, STRICT_TOLERANCE_S),
        velocity=count_velocities(reference, hits, AS_PUBLISHED) if with_velocity else None,
    )


def _sum(scored: list[_Scored], index: int) -> Scores:
    first, *others = (one.by_map[index] for one in scored)
    return sum(others, first)


def _of_map(one: _Map, scores: Scores) -> dict[str, Any]:
    classes = one.answer.classes
    return {
        "classes": len(classes),
        "not_scored": [name for name, is_told in zip(classes, one.told, strict=True) if not is_told],
        **summary(scores),
        "onset_f1_macro": round(scores.onset.macro, 4),
        "strict_onset_f1_macro": round(scores.strict.macro, 4),
        "onset_velocity_f1_macro": round(scores.velocity.macro, 4) if scores.velocity else None,
        "by_class": {name: summary(scores.of_class(index)) for index, name in enumerate(classes) if one.told[index]},
    }


def _by_recording(scored: list[_Scored], index: int) -> dict[str, Any]:
    """Return the scores of each recording of a folder; of an archive, which may have thousands, those of the worst."""
    by_name = {one.recording.name: summary(one.by_map[index]) for one in scored}
    if scored[0].recording.kit is None:
        return {"by_recording": by_name}

    def order(name: str) -> tuple[float, str]:
        f1 = by_name[name]["onset_f1"]
        # Nothing to find, and nothing found.
        return (math.inf if f1 is None else f1, name)

    return {"worst_recordings": {name: by_name[name] for name in sorted(by_name, key=order)[:WORST_RECORDINGS]}}


def _by_kit(scored: list[_Scored], index: int, learned: Provenance, chosen: AnnotatedSet) -> dict[str, Any]:
    """Return the scores of each kit and, if the model is of this data set, of kits that it has heard and of others."""
    kits = sorted({one.recording.kit for one in scored if one.recording.kit})
    if not kits:
        return {}

    def of(some: Collection[tuple[int, str]]) -> dict[str, Any] | None:
        those = [one for one in scored if one.recording.kit in some]
        return summary(_sum(those, index)) if those else None

    by_kit = {"by_kit": {f"{number:02d} {name}": of([(number, name)]) for number, name in kits}}
    if learned.dataset not in chosen.datasets:
        return by_kit
    heard = chosen.trained_kits - set(learned.held_out_kits)
    return {
        "kits_heard": of([kit for kit in kits if kit[0] in heard]),
        "kits_held_out": of([kit for kit in kits if kit[0] not in heard]),
        **by_kit,
    }
