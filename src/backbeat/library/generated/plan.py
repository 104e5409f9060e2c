"""What a generated library holds, drawn before anything is played: sounds, their files, faults and copies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from backbeat.library.generated.copies import KINDS
from backbeat.library.generated.loops import STYLES, TONICS, Loop
from backbeat.library.generated.naming import copied_path, loop_path, one_shot_path
from backbeat.library.generated.voices import Voice

COPIES_SHARE = 0.12
LOOPS_SHARE = 0.14
TONAL_SHARE = 0.5
# Another hit on the same instrument, the same one at another pitch, the same pattern with another kit: not copies.
VARIATIONS_SHARE = 0.12

# Of a library's one-shots.
_CLASS_SHARES = {
    "kick": 16, "snare": 14, "clap": 7, "rim": 5, "closed_hat": 11, "open_hat": 6, "tom": 7, "crash": 3, "ride": 3,
    "cowbell": 3, "shaker": 4, "perc": 8, "bass": 8, "stab": 5,
}  # fmt: skip
_FAULTS = {"clipped": 0.012, "dc": 0.008, "silent": 0.004, "tiny": 0.003, "chunks": 0.06}
UNREADABLE_SHARE = 0.003
UNREADABLE = ("empty", "cut off", "a web page", "noise without a header")


@dataclass(frozen=True)
class File:
    """One file: how a sound is written.

    Args:
        path: relative to the library.
        seed: of whatever is drawn while it is written.
        copy: the kind of copy that it is (`copies.KINDS`); None for the original.
    """

    path: str
    seed: int
    copy: str | None = None


@dataclass(frozen=True)
class Family:
    """A sound, its original file and the copies of it; or a file that is no sound.

    Args:
        sound: what is played; None for a file that cannot be read.
        original: the first file.
        copies: the others.
        sample_rate_hz: of the original.
        bit_depth: of the original; 32 is float.
        channels: 1 or 2.
        fault: what is wrong with it: a key of `_FAULTS`, or one of `UNREADABLE`.
        variation_of: the path of another sound that is like this one, without being it.
    """

    sound: Voice | Loop | None
    original: File
    sample_rate_hz: int = 44_100
    bit_depth: int = 16
    channels: int = 1
    fault: str | None = None
    variation_of: str | None = None
    copies: tuple[File, ...] = field(default=())


def plan_library(count: int, seed: int) -> list[Family]:
    """Return the families whose files are `count` in number."""
    unreadable = min(max(round(count * UNREADABLE_SHARE), 3 if count >= 20 else 0), count)
    copies = round(count * COPIES_SHARE)
    families: list[Family] = []
    for number in range(count - copies - unreadable):
        families.append(_drawn(np.random.default_rng((seed, 10, number)), number, families))
    families = _with_copies(families, copies, np.random.default_rng((seed, 11)))
    rng = np.random.default_rng((seed, 12))
    for number in range(unreadable):
        path = one_shot_path(rng, count + number, "kick")
        families.append(Family(None, File(path, int(rng.integers(2**31))), fault=UNREADABLE[number % len(UNREADABLE)]))
    return families


def _drawn(rng: np.random.Generator, number: int, others: list[Family]) -> Family:
    sound, like = _sound(rng, others)
    if isinstance(sound, Voice):
        path = one_shot_path(rng, number, sound.sound_class)
    else:
        path = loop_path(rng, number, sound.style, sound.tempo_bpm, sound.key)
    fault = str(rng.choice([*_FAULTS, ""], p=[*_FAULTS.values(), 1 - sum(_FAULTS.values())])) or None
    if fault in {"silent", "tiny"} and isinstance(sound, Loop):
        fault = None
    return Family(
        sound,
        File(path, int(rng.integers(2**31))),
        sample_rate_hz=int(rng.choice([44_100, 48_000], p=[0.7, 0.3])),
        bit_depth=int(rng.choice([16, 24, 32], p=[0.6, 0.392, 0.008])),
        channels=int(rng.choice([1, 2])),
        fault=fault,
        variation_of=None if like is None else like.original.path,
    )


def _sound(rng: np.random.Generator, others: list[Family]) -> tuple[Voice | Loop, Family | None]:
    if len(others) > 10 and rng.random() < VARIATIONS_SHARE:
        like = others[rng.integers(len(others))]
        # Variations of one sound, not of each other: two steps back and forth would be a copy.
        if like.variation_of is None:
            return _variation(rng, like), like
    seed = int(rng.integers(2**31))
    if rng.random() >= LOOPS_SHARE:
        shares = np.array(list(_CLASS_SHARES.values()), float)
        return Voice(str(rng.choice(list(_CLASS_SHARES), p=shares / shares.sum())), seed), None
    style = str(rng.choice(list(STYLES)))
    low, high = STYLES[style][0] if rng.random() < 0.8 else (70, 180)
    tonal = rng.random() < TONAL_SHARE
    key = f"{TONICS[rng.integers(12)]} {('major', 'minor')[rng.integers(2)]}" if tonal else None
    bars = int(rng.choice([1, 2, 4], p=[0.3, 0.45, 0.25]))
    tail_s = 0.0 if rng.random() < 0.85 else float(rng.uniform(0.05, 0.8))
    return Loop(
        style, seed, float(rng.integers(low, high + 1)), bars, key, not tonal or rng.random() < 0.5, tail_s
    ), None


def _variation(rng: np.random.Generator, like: Family) -> Voice | Loop:
    sound = like.sound
    if isinstance(sound, Voice):
        # Every hit is another take; a third of them at another pitch as well.
        semitones = float(rng.choice([-2, -1, 1, 2])) if rng.random() < 0.35 else 0.0
        return replace(sound, semitones=sound.semitones + semitones, take=int(rng.integers(1, 1_000_000)))
    assert isinstance(sound, Loop)
    if sound.with_drums and sound.key is None:
        return replace(sound, kit=int(rng.integers(1, 1000)))
    # The same notes, somewhat faster or slower.
    return replace(sound, tempo_bpm=sound.tempo_bpm + float(rng.choice([-1, 1]) * rng.integers(3, 13)))


def _with_copies(families: list[Family], count: int, rng: np.random.Generator) -> list[Family]:
    able = [at for at, family in enumerate(families) if family.fault not in {"silent", "tiny"}]
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        at = able[rng.integers(len(able))]
        family = families[at]
        if kind == "requantized" and family.bit_depth != 24:
            family = replace(family, bit_depth=24)
        suffix = ".flac" if kind == "same_audio" and family.bit_depth < 32 and rng.random() < 0.4 else ".wav"
        copy = File(copied_path(rng, family.original.path, number, suffix), int(rng.integers(2**31)), kind)
        families[at] = replace(family, copies=(*family.copies, copy))
    return families


def batches(families: list[Family], size: int) -> Iterator[list[Family]]:
    """Yield the families in tasks of so many."""
    for start in range(0, len(families), size):
        yield families[start : start + size]
