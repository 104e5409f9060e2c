"""Random numbers by what they are for: of a recipe's seed, a kit, and a purpose, whatever else is rendered."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

ROLES = ("train", "validation", "test")


class Purpose(IntEnum):
    """What numbers are drawn for; those of one purpose do not depend on how many another one took."""

    PLAN = 0
    KIT = 1
    RECORDING = 2
    SONG = 3


def generator(seed: int, role: str, index: int, purpose: Purpose, position: int = 0) -> np.random.Generator:
    """Return where draws come from.

    Args:
        seed: of the recipe.
        role: of the kit.
        index: of the kit within its role.
        purpose: what is drawn.
        position: of a recording within its kit.
    """
    return np.random.default_rng([seed, ROLES.index(role), index, int(purpose), position])
