"""`backbeat library learn-classes`: a model of classes from what names and people say of the sounds of this library."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backbeat.errors import LibraryError
from backbeat.library.class_model import LEAST_OF_CLASS, learn, write_model
from backbeat.library.describe import described_facts
from backbeat.library.names import read_names
from backbeat.library.notes import load_notes, match_notes
from backbeat.library.sound_class import RULES, kind_of, one_shot_class

# A name that says it with less than this is not taken for the truth: abbreviations, folders above the nearest.
LEAST_WEIGHT = 0.75
LEAST_CLASSES = 2

_NO_NAMES = read_names(())


@dataclass(frozen=True)
class Learned:
    """What was learned, from what.

    Args:
        sounds: one-shots whose class is known.
        by_class: how many of each.
        accuracy: the share of them that models of the others give the right class.
        accuracy_by_rule: the share that the rules do.
        recall: the accuracy within each class.
    """

    sounds: int
    by_class: dict[str, int]
    accuracy: float
    accuracy_by_rule: float
    recall: dict[str, float]


def learn_classes(project: Path) -> Learned:
    """Write `data/library/classes.json`.

    Raises:
        LibraryError: if sounds have not been described, or too few of them are called what they are.
        ConfigError: if notes.yaml is not valid.
    """
    facts, labels = _known(project)
    enough = {name for name, count in Counter(labels).items() if count >= LEAST_OF_CLASS}
    kept = [at for at, label in enumerate(labels) if label in enough]
    if len(enough) < LEAST_CLASSES:
        raise LibraryError(
            "there are too few sounds to learn classes from",
            expected=f"{LEAST_CLASSES} classes of {LEAST_OF_CLASS} described one-shots that are called what they are",
            got=", ".join(f"{count} {name}" for name, count in Counter(labels).most_common(6)) or "none",
            next_step="backbeat library describe; or note the class of some: backbeat library note",
        )
    facts, labels = [facts[at] for at in kept], [labels[at] for at in kept]
    model, recall = learn(facts, labels)
    write_model(project, model)
    right = sum(one_shot_class(one, _NO_NAMES).name == label for one, label in zip(facts, labels, strict=True))
    return Learned(len(facts), dict(sorted(Counter(labels).items())), model.accuracy, right / len(facts), recall)


def _known(project: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the facts of one-shots whose class is told, and the classes."""
    noted = _noted(project)
    facts, labels = [], []
    for rows, one in described_facts(project):
        hints = read_names(row["path"] for row in rows)
        said = next((noted[row["sample"]] for row in rows if row["sample"] in noted), None)
        hint = hints.sound_class
        if said is None and hint is not None and len(hint.classes) == 1 and hint.weight >= LEAST_WEIGHT:
            said = hint.classes[0]
        if said in RULES and one["spectral_centroid_hz"] is not None and kind_of(one, hints) == "one-shot":
            facts.append(one)
            labels.append(said)
    return facts, labels


def _noted(project: Path) -> dict[str, str]:
    """Return the classes that people have noted, by sample."""
    notes = load_notes(project)
    if not notes:
        return {}
    sounds = {row["sample"]: row["audio_sha256"] for rows, _ in described_facts(project) for row in rows}
    keys = match_notes(notes, sounds).keys
    return {sample: noted for sample, name in keys.items() if (noted := notes[name].sound_class) is not None}
