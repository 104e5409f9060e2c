"""Which samples go into production: good enough, one of each group, different from each other, not too many of a class.

The user's word comes first: a rating of 5 or the tag `keep` forces a sample in, the tag `reject` keeps it out. Then, in
each class, the best comes first (by score, then by name), and each one after it is taken if it does not resemble one
that was taken (greedy, as Gonzalez 1985 for k-center, with the order given by quality) and there is room for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from backbeat.audio.resemblance import from_bytes
from backbeat.library.settings import CurateSettings

State = Literal[
    "chosen",
    "unreadable",
    "silent",
    "not described",
    "not for the device",
    "rejected",
    "duplicate",
    "below threshold",
    "too similar",
    "over quota",
]


@dataclass(frozen=True)
class Candidate:
    """A sample that can be chosen.

    Args:
        sample: its name.
        sound_class: whose quota it is of.
        score: 0 to 100.
        embedding: of its sound; None if it has none.
        forced: whether the user wants it.
    """

    sample: str
    sound_class: str
    score: float
    embedding: bytes | None
    forced: bool


@dataclass(frozen=True)
class Verdict:
    """What becomes of a sample, and why."""

    state: State
    reason: str


def choose(candidates: Iterable[Candidate], settings: CurateSettings) -> dict[str, Verdict]:
    """Return what becomes of each candidate, by its name."""
    classes: dict[str, list[Candidate]] = {}
    for one in candidates:
        classes.setdefault(one.sound_class, []).append(one)
    verdicts: dict[str, Verdict] = {}
    for sound_class, members in sorted(classes.items()):
        quota = settings.quota.get(sound_class, settings.quota["default"])
        ordered = sorted(members, key=lambda one: (not one.forced, -one.score, one.sample))
        verdicts.update(_choose_of_class(ordered, quota, settings))
    return verdicts


def _choose_of_class(members: Sequence[Candidate], quota: int, settings: CurateSettings) -> Mapping[str, Verdict]:
    vectors = _vectors(members)
    similarity = np.full(len(members), -1.0, np.float32)  # with the chosen one that is most like it
    nearest = np.zeros(len(members), np.intp)
    verdicts: dict[str, Verdict] = {}
    chosen = 0
    for at, one in enumerate(members):
        if one.forced:
            verdict = Verdict("chosen", "the user wants it")
        elif one.score < settings.threshold:
            verdict = Verdict("below threshold", f"a score of {one.score:.1f}, of {settings.threshold:g} needed")
        elif 1 - similarity[at] < settings.least_distance:
            other, distance = members[nearest[at]].sample, 1 - float(similarity[at])
            verdict = Verdict("too similar", f"at a distance of {max(0.0, distance):.3f} from {other}")
        elif chosen >= quota:
            verdict = Verdict("over quota", f"{quota} of its class are better")
        else:
            verdict = Verdict("chosen", f"a score of {one.score:.1f}")
        verdicts[one.sample] = verdict
        if verdict.state == "chosen":
            chosen += 1
            to_it = vectors @ vectors[at]
            closer = to_it > similarity
            similarity[closer], nearest[closer] = to_it[closer], at
    return verdicts


def _vectors(members: Sequence[Candidate]) -> NDArray[np.float32]:
    """Return the vectors of some samples, shape (samples, dimensions); zeros, which resemble nothing, for none."""
    known = [None if one.embedding is None else from_bytes(one.embedding) for one in members]
    dimensions = max((len(vector) for vector in known if vector is not None), default=1)
    vectors = np.zeros((len(members), dimensions), np.float32)
    for row, vector in zip(vectors, known, strict=True):
        if vector is not None:
            row[:] = vector
    return vectors
