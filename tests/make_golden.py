"""Writes the stored spectrogram that `test_logmel.py` compares with: `python tests/make_golden.py`.

Only for a change of the front end that is meant: every shard that exists becomes another one.
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backbeat.audio.logmel import LogMel
from backbeat.config import load_params

REPOSITORY = Path(__file__).parents[1]
GOLDEN = Path(__file__).parent / "golden" / "logmel.npy"


def golden_sound() -> NDArray[np.float32]:
    """Return half a second of noise that dies away, with an edge every tenth, from integers that no library rounds."""
    noise = np.frombuffer(random.Random(1).randbytes(2 * 22_050), "<i2")
    fading = noise >> (np.arange(len(noise)) // 1_500).astype(np.int16)
    fading[::4_410] = 32_767
    return (fading / 32_768).astype(np.float32)


def golden_values() -> NDArray[np.uint8]:
    return LogMel(load_params(REPOSITORY).preprocess.features)(golden_sound())


if __name__ == "__main__":
    GOLDEN.parent.mkdir(exist_ok=True)
    np.save(GOLDEN, golden_values())
