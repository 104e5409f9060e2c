"""Annotations: the hits that somebody says are in a recording, and what they are in the terms of a class map.

A label of an annotation stands for the instruments of `configs/drums.yaml` that it can be. Where a class map tells them
apart, the label cannot say which of its classes was played, and none of these is scored in that map: `HH` where open
and closed hi-hats are two classes, say. Nor is a class that no label can be: what the annotators had no word for they
did not write down, and estimates of it are neither right nor wrong. All other classes are scored, and what is estimated
in them beyond the annotation is wrong.

How annotations are read: `backbeat.transcription.annotation_formats`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backbeat.drums.classes import IGNORED, MIDI_NOTES, ClassRow, DrumTable
from backbeat.drums.midi import Onsets
from backbeat.errors import BackbeatError

Reference = list[tuple[NDArray[np.float64], NDArray[np.float64]]]

# A frame of 10 ms.
PADS_APART_S = 0.01


class AnnotationError(BackbeatError):
    """Annotations that cannot be read, or do not fit their recordings."""


@dataclass(frozen=True)
class Annotation:
    """The hits of one recording, sorted by time. Arrays have shape (hits,).

    Attributes:
        labels: the instruments that each label can be; none: something that is ignored.
        onset_s: seconds from the beginning.
        label: index into `labels`.
        velocity: on the MIDI scale; None if the annotation has none.
        apart_s: hits of one class that are closer than this are one sound.
    """

    labels: tuple[frozenset[str], ...]
    onset_s: NDArray[np.float64]
    label: NDArray[np.int64]
    velocity: NDArray[np.float64] | None
    apart_s: float


def annotation_of_onsets(onsets: Onsets, drums: DrumTable) -> Annotation:
    """Return the notes of a MIDI file as an annotation; those that are no drums are left out."""
    instruments = tuple(dict.fromkeys(drums.pitches.values()))
    label_of_pitch = np.full(MIDI_NOTES, IGNORED, np.int64)
    for pitch, instrument in drums.pitches.items():
        label_of_pitch[pitch] = instruments.index(instrument)
    label = label_of_pitch[onsets.pitch]
    known = label != IGNORED
    onset_s, velocity = (array[known].astype(np.float64) for array in (onsets.onset_s, onsets.velocity))
    return Annotation(tuple(frozenset({one}) for one in instruments), onset_s, label[known], velocity, PADS_APART_S)


def told_apart(labels: Iterable[frozenset[str]], classes: Mapping[str, ClassRow]) -> NDArray[np.bool_]:
    """Return which classes of a map these labels tell from all others, shape (classes,): those that are scored.

    Args:
        labels: the instruments that each label can be.
        classes: a class map of `configs/drums.yaml`.
    """
    told, ambiguous = set(), set()
    for meant in (_meant(label, classes) for label in labels):
        if len(meant) == 1:
            told |= meant
        else:
            ambiguous |= meant
    return np.array([index in told - ambiguous for index in range(len(classes))], np.bool_)


def reference_by_class(annotation: Annotation, classes: Mapping[str, ClassRow], scored: NDArray[np.bool_]) -> Reference:
    """Return what was played in the terms of a class map.

    Args:
        annotation: the hits.
        classes: a class map of `configs/drums.yaml`.
        scored: `told_apart`, of this annotation or of all of a set.

    Returns:
        (onset_s, velocity) of each class, sorted by time; nothing for a class that is not scored.
    """
    meanings = [_meant(label, classes) for label in annotation.labels]
    velocity = np.ones(len(annotation.onset_s)) if annotation.velocity is None else annotation.velocity
    reference = []
    for index in range(len(classes)):
        here = np.array([scored[index] and meant == {index} for meant in meanings], np.bool_)[annotation.label]
        gap_s = np.diff(annotation.onset_s[here], prepend=-np.inf)
        starts = np.flatnonzero((gap_s > 0) & (gap_s >= annotation.apart_s))
        loudest = np.maximum.reduceat(velocity[here], starts) if len(starts) else velocity[here]
        reference.append((annotation.onset_s[here][starts], loudest))
    return reference


def _meant(instruments: frozenset[str], classes: Mapping[str, ClassRow]) -> set[int]:
    """Return the classes that a label can be, by index, with `IGNORED` if it can be what the map leaves out."""
    index_of = {instrument: index for index, row in enumerate(classes.values()) for instrument in row.instruments}
    return {index_of.get(instrument, IGNORED) for instrument in instruments}
