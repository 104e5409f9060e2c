"""Which hits of a sequence were found, missed or made up, and which stretch of it is worth a listener's time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from backbeat.transcription.decode import Peaks
    from backbeat.transcription.metrics import Reference

Kind = Literal["found", "missed", "extra"]

# So much of a long sequence is shown and heard: eight bars at 96 bpm.
LONGEST_S = 20.0

# What comes before the first error of an excerpt: time to get into the rhythm.
LEAD_IN_S = 1.0


@dataclass(frozen=True, order=True)
class Hit:
    """One hit: seconds from the beginning, index of its class, and what became of it.

    A hit that was found stands where the reference has it; the estimate is within the tolerance.
    """

    at_s: float
    class_index: int
    kind: Kind


@dataclass(frozen=True)
class Excerpt:
    """A sequence as it is shown.

    Args:
        id: of the sequence, in the dataset.
        why: why it is shown: `typical`, or `worst 1` and so on.
        kit: number of the kit.
        kit_name: its name.
        held_out: whether training did not hear the kit.
        style: what is played.
        onset_f1: of the whole sequence.
        duration_s: of the whole sequence.
        start_s: where in it the excerpt begins.
        length_s: how long the excerpt is.
        classes: the classes that occur in it.
        hits: those within the excerpt, with times from its beginning and indices into `classes`.
        wav_crc32: CRC-32 of the recording that was evaluated.
        png: its spectrogram.
        mp3: its sound; None where there is none.
    """

    id: str
    why: str
    kit: int
    kit_name: str
    held_out: bool
    style: str
    onset_f1: float
    duration_s: float
    start_s: float
    length_s: float
    classes: tuple[str, ...]
    hits: tuple[Hit, ...]
    wav_crc32: int
    png: bytes
    mp3: bytes | None = None

    def count(self, kind: str, class_index: int | None = None) -> int:
        """Return how many hits of a kind the excerpt has, of all classes or of one."""
        return sum(hit.kind == kind and class_index in {None, hit.class_index} for hit in self.hits)


def match_hits(reference: Reference, estimate: Peaks, tolerance_s: float) -> tuple[Hit, ...]:
    """Match the onsets of each class as `metrics.count_onsets` does, and say of every hit what became of it."""
    from mir_eval.util import match_events

    hits = []
    for index, (onset_s, _) in enumerate(reference):
        estimated_s = estimate.of_class(index).onset_s
        pairs = match_events(onset_s, estimated_s, tolerance_s) if len(onset_s) and len(estimated_s) else []
        found, used = {int(pair[0]) for pair in pairs}, {int(pair[1]) for pair in pairs}
        hits += [Hit(float(at), index, "found" if place in found else "missed") for place, at in enumerate(onset_s)]
        hits += [Hit(float(at), index, "extra") for place, at in enumerate(estimated_s) if place not in used]
    return tuple(sorted(hits))


def worst_stretch(hits: Sequence[Hit], duration_s: float, longest_s: float) -> tuple[float, float]:
    """Return (start, length) in seconds of what to show: all of it, or the stretch with the most errors.

    Of stretches with equally many errors it is the first.
    """
    if duration_s <= longest_s:
        return 0.0, duration_s
    errors_s = [hit.at_s for hit in hits if hit.kind != "found"]
    last_start_s = duration_s - longest_s
    starts_s = [min(max(0.0, at_s - LEAD_IN_S), last_start_s) for at_s in errors_s] or [0.0]
    most = max(starts_s, key=lambda start_s: (sum(start_s <= at < start_s + longest_s for at in errors_s), -start_s))
    return most, longest_s


def f1_of(hits: Sequence[Hit]) -> float:
    """Return the F1 of hits of all classes together."""
    found = sum(hit.kind == "found" for hit in hits)
    return 2 * found / max(1, found + len(hits))
