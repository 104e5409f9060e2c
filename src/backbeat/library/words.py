"""A sound in a few words: by rule from its descriptors, or bought from a language model and kept.

What was bought is in `data/library/words.jsonl`, tracked by Git: one JSON object per line, the newest of a sound at
the end. It cannot be computed again for nothing, so it is read leniently: a last line that a kill has torn is left
out, and so is nothing else.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from backbeat.config import Strict
from backbeat.errors import LibraryError
from backbeat.library.settings import LIBRARY_FOLDER

WORDS_FILE = f"{LIBRARY_FOLDER}/words.jsonl"

# Where no model was asked.
BY_RULE = "rule"

# From the shortest: a hit below this length is called so. What is between is as long as such hits are, and is not said.
SHORT_S, LONG_S = 0.35, 1.5
_SLOW_ATTACK_S = 0.04
_LONG_DECAY_S = 1.0

# What descriptors say of a sound that is neither here nor there.
_UNREMARKABLE = frozenset({"", "medium", "neutral", "other", "unknown"})
# A hit of which the class is not known.
_NAMELESS = "sound"

_NOTES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
_A4_HZ, _A4_MIDI = 440.0, 69


@dataclass(frozen=True)
class Words:
    """What a sound is called.

    Args:
        text: a phrase, such as `short dark kick, heavy, punchy, G1`.
        tags: single words or short phrases, in lower case.
        source: `rule`, or the model that was asked.
    """

    text: str
    tags: tuple[str, ...]
    source: str


class BoughtLine(Strict):
    """One line of `words.jsonl`.

    Args:
        audio_sha256: the sound.
        question: the digest of what was asked: features, prompt and model (`backbeat.library.questions`).
        model: who has answered.
        text: as in `Words`.
        tags: as in `Words`.
    """

    audio_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    question: Annotated[str, Field(pattern=r"^[0-9a-f]{16,64}$")]
    model: Annotated[str, Field(min_length=1)]
    text: Annotated[str, Field(min_length=1)]
    tags: Annotated[tuple[str, ...], Field(strict=False)]

    @property
    def words(self) -> Words:
        """What it says."""
        return Words(self.text, self.tags, self.model)


def rule_words(row: Mapping[str, Any]) -> Words:
    """Return words for one row of the descriptors; what is null or missing is not said.

    Args:
        row: `kind`, `sound_class`, `duration_s`, `brightness`, `weight`, `punch`, `attack_s`, `decay_s`,
            `tempo_bpm`, `key`, `note`, `pitch_hz`.
    """
    is_loop = row.get("kind") == "loop"
    length = None if is_loop else _length(row.get("duration_s"))
    brightness, weight, punch = (_remarkable(row.get(name)) for name in ("brightness", "weight", "punch"))
    what = _remarkable(row.get("sound_class")) or (None if is_loop else _NAMELESS)
    head = [length, brightness, what, "loop" if is_loop else None]
    manner = [weight, punch, _slow(row, is_loop), _tempo(row.get("tempo_bpm")), row.get("key") or None]
    if not row.get("key") and not is_loop:
        # Of a note with the cents from it, `A1 +12`, the note.
        manner.append((row.get("note") or "").partition(" ")[0] or note_name(row.get("pitch_hz")))
    text = ", ".join([" ".join(filter(None, head)), *filter(None, manner)])
    kind = "loop" if is_loop else "one-shot" if row.get("kind") else None
    tags = [what if what != _NAMELESS else None, kind, length, brightness, weight, punch]
    return Words(text, tuple(dict.fromkeys(tag.lower() for tag in tags if tag)), BY_RULE)


def read_bought(project: Path) -> dict[str, Words]:
    """Return the words that were bought, by the digest of the sound; the newest where there are several.

    Raises:
        LibraryError: if a line is not one of ours, other than a torn last one.
    """
    return {line.audio_sha256: line.words for line in bought_lines(project)}


def bought_lines(project: Path) -> Iterator[BoughtLine]:
    """Yield the lines of `words.jsonl`.

    Raises:
        LibraryError: if a line is not one of ours, other than a torn last one.
    """
    try:
        content = (project / WORDS_FILE).read_bytes()
    except FileNotFoundError:
        return
    *whole, last = content.split(b"\n")
    for number, line in enumerate([*whole, last], 1):
        if not line.strip():
            continue
        try:
            yield BoughtLine.model_validate(json.loads(line))
        except (ValueError, ValidationError) as error:
            if number > len(whole):  # the write was cut
                return
            raise LibraryError(
                f"line {number} of {WORDS_FILE} cannot be read",
                expected="a JSON object with audio_sha256, question, model, text and tags",
                got=str(error).splitlines()[0],
                next_step=f"correct or remove that line; git diff {WORDS_FILE}",
            ) from error


def note_name(pitch_hz: float | None) -> str | None:
    """Return the nearest note of the tempered scale at A4 = 440 Hz, such as `G1` for 49 Hz; None without a pitch."""
    if pitch_hz is None or not math.isfinite(pitch_hz) or pitch_hz <= 0:
        return None
    midi = round(_A4_MIDI + 12 * math.log2(pitch_hz / _A4_HZ))
    return f"{_NOTES[midi % 12]}{midi // 12 - 1}"


def _length(duration_s: float | None) -> str | None:
    if duration_s is None:
        return None
    return "short" if duration_s < SHORT_S else "long" if duration_s >= LONG_S else None


def _slow(row: Mapping[str, Any], is_loop: bool) -> str | None:
    if is_loop:
        return None
    attack_s, decay_s = row.get("attack_s"), row.get("decay_s")
    if attack_s is not None and attack_s >= _SLOW_ATTACK_S:
        return "slow attack"
    return "long decay" if decay_s is not None and decay_s >= _LONG_DECAY_S else None


def _tempo(tempo_bpm: float | None) -> str | None:
    return None if tempo_bpm is None or not math.isfinite(tempo_bpm) else f"{tempo_bpm:.0f} BPM"


def _remarkable(word: str | None) -> str | None:
    return None if word is None or word.lower() in _UNREMARKABLE else word.replace("_", " ")
