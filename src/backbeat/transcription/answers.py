"""Answers of one model in several class maps: its own, the *native* one, and every map that is coarser.

A map is coarser if no class of the native one is torn apart by it: all of its instruments lie in one class there, or
all of them in none, and then what is heard of it is left out. So a model that tells ten classes apart answers in the
five that published numbers are for, without having been trained on them.

A class is there where at least one of its members is; the model hears them as independent of one another:
P(any) = 1 - (1 - p1)(1 - p2)…
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from backbeat.config import Strict
from backbeat.drums.classes import IGNORED, ClassMap, DrumTable, Pitch, class_map

# Until thresholds are chosen.
UNTUNED = 0.5

Activations = NDArray[np.float32]
Members = list[list[int]]


class Answer(Strict):
    """A class map that a model answers in.

    Attributes:
        class_map: its name.
        classes: the names of its classes.
        notes: the MIDI note that each class is written as.
        members: for each class the native classes that it is made of; of none, it is never answered.
        thresholds: for each class the probability from which on an onset is a hit.
    """

    class_map: str
    classes: Annotated[list[str], Field(min_length=1)]
    notes: list[Pitch]
    members: Members
    thresholds: list[Annotated[float, Field(ge=0, le=1)]]

    @model_validator(mode="after")
    def _one_of_each_class(self) -> Answer:
        if not len(self.classes) == len(self.notes) == len(self.members) == len(self.thresholds):
            raise ValueError("classes, notes, members and thresholds are not equally many")
        listed = [index for of in self.members for index in of]
        if len(set(listed)) < len(listed):
            raise ValueError("a native class is a member of two classes")
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("two classes have one name")
        return self


def coarser_maps(table: DrumTable, native: ClassMap) -> list[tuple[ClassMap, Members]]:
    """Return the class maps that a model of the native one can answer in, in the order of the table.

    Returns:
        each map, the native one among them, with the indices of the native classes that each of its classes is made of.
    """
    found = []
    for name in table.class_maps:
        coarse = class_map(table, name)
        lies_in = [
            set(coarse.class_of_pitch[native.class_of_pitch == index].tolist()) for index in range(len(native.classes))
        ]
        if any(len(places) > 1 for places in lies_in) or lies_in == [{IGNORED}] * len(lies_in):
            continue
        members = [
            [index for index, places in enumerate(lies_in) if places == {place}] for place in range(len(coarse.classes))
        ]
        found.append((coarse, members))
    return found


def untuned_answers(table: DrumTable, native: ClassMap) -> list[tuple[ClassMap, Answer]]:
    """Return an answer in each of `coarser_maps`, all thresholds at `UNTUNED`."""
    return [
        (
            coarse,
            Answer(
                class_map=coarse.name,
                classes=list(coarse.classes),
                notes=list(coarse.notes),
                members=members,
                thresholds=[UNTUNED] * len(coarse.classes),
            ),
        )
        for coarse, members in coarser_maps(table, native)
    ]


def pooled(probability: Activations, velocity: Activations, members: Members) -> tuple[Activations, Activations]:
    """Return the activations of coarser classes.

    Args:
        probability: (frames, native classes), between 0 and 1.
        velocity: (frames, native classes), between 0 and 1.
        members: the native classes of each coarser class.

    Returns:
        the probability that any of its members is there, and their mean velocity, weighted by their probabilities;
        both of shape (frames, classes).
    """
    any_of = np.zeros((len(probability), len(members)), np.float32)
    loudness = np.zeros_like(any_of)
    for index, of in enumerate(members):
        if len(of) == 1:
            # As it is: the product would round.
            any_of[:, index], loudness[:, index] = probability[:, of[0]], velocity[:, of[0]]
        elif of:
            chosen = probability[:, of]
            any_of[:, index] = 1 - np.prod(1 - chosen, axis=1)
            weight = np.maximum(chosen.sum(axis=1), np.finfo(np.float32).tiny)
            loudness[:, index] = (chosen * velocity[:, of]).sum(axis=1) / weight
    return any_of, loudness
