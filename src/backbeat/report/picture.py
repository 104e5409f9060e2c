"""A spectrogram as a picture: a palette PNG, low bands below, 60 dB from the darkest to the brightest."""

from __future__ import annotations

import io
from functools import cache

import numpy as np
from numpy.typing import NDArray

# What is this much below the loudest is drawn black: less shows no decay, more shows noise.
RANGE_DB = 60.0

# Shades in that range. Two decibels is less than an eye tells apart, and packs twice as well as half a decibel.
SHADES = 32


def spectrogram_png(frames: NDArray[np.uint8], step_db: float) -> bytes:
    """Return a picture of log-mel frames: a pixel per frame and band.

    Args:
        frames: shape (frames, mels), decibels in steps of `step_db`.
        step_db: the step from one value to the next, in decibels.
    """
    from PIL import Image

    below_loudest_db = (float(frames.max(initial=0)) - frames.T[::-1].astype(np.float64)) * step_db
    shades = np.rint((SHADES - 1) * (1 - np.clip(below_loudest_db / RANGE_DB, 0, 1))).astype(np.uint8)
    picture = Image.fromarray(shades)
    picture.putpalette(_palette())
    written = io.BytesIO()
    picture.save(written, "PNG", optimize=True)
    return written.getvalue()


@cache
def _palette() -> bytes:
    from matplotlib import colormaps

    # magma, as in the pictures of the stage `evaluate`: even steps of lightness, also to the color-blind.
    colors = colormaps["magma"](np.linspace(0, 1, SHADES))[:, :3]
    return bytes(np.rint(255 * colors).astype(np.uint8))
