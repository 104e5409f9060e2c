"""Folders of one-shots, whose names say what they are and, sometimes, how hard they were struck."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backbeat.audio.read import mono_blocks
from backbeat.errors import ConfigError
from backbeat.rendering.bank import SAMPLE_RATE_HZ, OneShot, one_shot

# Where nothing says how hard a sound was struck.
UNKNOWN_FORCE = 0.5

# What is behind this is not heard: banks cut longer sounds, and a library may hold whole songs.
_LONGEST_S = 8.0

_FORCE_OF_WORD = {
    "softest": 0.1, "pp": 0.1, "ghost": 0.1, "soft": 0.3, "light": 0.3, "p": 0.3, "med": 0.5, "medium": 0.5,
    "normal": 0.5, "mf": 0.5, "hard": 0.8, "loud": 0.8, "f": 0.8, "hardest": 1.0, "ff": 1.0,
}  # fmt: skip
# A single letter is a force only where a pattern says so: as a word of a name it is more often a key or a take.
_WORD = re.compile(
    r"(?<![a-z])(" + "|".join(sorted((w for w in _FORCE_OF_WORD if len(w) > 2), key=len, reverse=True)) + r")(?![a-z])"
)
_LAYER = re.compile(r"(?<![a-z0-9])v(?:el)?[ _-]?(\d+)(?![0-9])")


def folder_bank(
    folder: Path, files: Mapping[str, Sequence[str]], velocity: str | None, leave_out: Sequence[str]
) -> dict[str, list[OneShot]]:
    """Return the sounds of a folder by instrument.

    Numbers of one instrument are ranked, so 1 to 8, 0 to 7 and 16 to 127 all say the same; plain numbers are names
    of different sounds unless `velocity` says that they are forces.

    Args:
        folder: where they are.
        files: by instrument, glob patterns of paths in the folder.
        velocity: a regular expression with one group, searched for in the lower-case name without its suffix; empty
            if names say nothing of force.
        leave_out: patterns of file names that are not used.

    Raises:
        ConfigError: if an instrument has no files, or the expression is not one.
        AudioError: if a file cannot be decoded.
    """
    said = _patterns(velocity)
    shots: dict[str, list[OneShot]] = {}
    for instrument, patterns in files.items():
        # A link is a file here: production is made of links.
        found = sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
        kept = [path for path in found if not any(fnmatchcase(path.name, pattern) for pattern in leave_out)]
        if not kept:
            what, step = f"{folder.name} has no {instrument}", f"correct the patterns, or drop {instrument}"
            raise ConfigError(what, expected=" or ".join(patterns), got="no such file", next_step=step)
        for path, force in zip(kept, _forces([path.stem.lower() for path in kept], said), strict=True):
            shot = one_shot(read_mono(path), SAMPLE_RATE_HZ, force)
            if shot is not None:
                shots.setdefault(instrument, []).append(shot)
    return shots


def read_mono(path: Path) -> NDArray[np.float32]:
    """Read the beginning of a sound file, (samples,) at 44.1 kHz, as far as a bank can use it.

    Raises:
        AudioError: if it cannot be decoded.
    """
    blocks: list[NDArray[np.float32]] = []
    for block in mono_blocks(path, path.name, SAMPLE_RATE_HZ):
        blocks.append(block)
        if sum(map(len, blocks)) >= _LONGEST_S * SAMPLE_RATE_HZ:
            break
    return np.concatenate(blocks)


def _forces(names: Sequence[str], said: Sequence[re.Pattern[str]]) -> list[float]:
    """Return the force that each name says; of names that say numbers, by their rank."""
    words = [_said(name, said) for name in names]
    numbers = sorted({int(word) for word in words if word.isdigit()})
    rank = {number: (place + 0.5) / len(numbers) for place, number in enumerate(numbers)}
    return [rank[int(word)] if word.isdigit() else _FORCE_OF_WORD.get(word, UNKNOWN_FORCE) for word in words]


def _said(name: str, patterns: Sequence[re.Pattern[str]]) -> str:
    for pattern in patterns:
        if match := pattern.search(name):
            return str(match.group(1))
    return ""


def _patterns(velocity: str | None) -> list[re.Pattern[str]]:
    if not velocity:
        return [_LAYER, _WORD] if velocity is None else []
    try:
        compiled = re.compile(velocity)
    except re.error as error:
        raise ConfigError(f"velocity is no regular expression: {velocity}", got=str(error)) from error
    if compiled.groups != 1:
        raise ConfigError(
            f"velocity has {compiled.groups} groups: {velocity}", expected="one, around the number or word"
        )
    return [compiled]
