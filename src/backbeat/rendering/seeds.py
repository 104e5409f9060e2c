"""Random numbers by what they are for: of a recipe's seed, a role, a purpose and what is counted for it.

What is drawn for one purpose depends on nothing that is drawn for another, and no two of them share their numbers.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

ROLES = ("train", "validation", "test")


class Purpose(IntEnum):
    """What numbers are drawn for, and what index and position count there.

    Attributes:
        SOURCES: what a kit may be made of; by kit.
        PERFORMANCES: what a kit plays; by kit and split.
        KIT: its sounds; by kit.
        SYNTHESIZER: the seed of its synthesizer; by kit.
        RECORDING: excerpt, playing and studio; by kit and recording.
        BACKING: whether a band plays along, and which song; by kit and recording.
        SONG: a song of the band; by song.
    """

    SOURCES = 0
    PERFORMANCES = 1
    KIT = 2
    SYNTHESIZER = 3
    RECORDING = 4
    BACKING = 5
    SONG = 6


def generator(seed: int, role: str, index: int, purpose: Purpose, position: int = 0) -> np.random.Generator:
    """Return where draws come from.

    Args:
        seed: of the recipe.
        role: of the kit, or of the kits that hear a song.
        index: of the kit, or of the song, within its role.
        purpose: what is drawn.
        position: of a recording, or of a split, within its kit.
    """
    # A key apart from the seed: numbers of a plain list run into each other where a seed takes two words.
    key = (ROLES.index(role), index, int(purpose), position)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
