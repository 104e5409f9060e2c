"""Where something begins in a sound: the rise of its bands from frame to frame, and the peaks of that.

The envelope is that of Böck & Widmer, "Maximum filter vibrato suppression for onset detection", DAFx 2013, on mel bands
in decibels: how much the bands rise over two frames, the mean over all. Peaks are picked as there: higher than what is
around them, and higher by some than the mean of that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from backbeat.audio.spectrum import Spectrum

Floats = NDArray[np.float32]

# The rise is taken over so many frames: a transform spreads a beginning over its length.
LAG_FRAMES = 2

# A peak is the highest of the frames within this on both sides, and stands this far above their mean over the wider.
NARROW_S, WIDE_S = 0.035, 0.12
ABOVE_MEAN_DB = 2.5
# Of the highest peak of the sound; what is lower is a ripple in a tail.
LEAST_SHARE = 0.12

# What is quieter than the loudest frame by more than this begins nothing.
AUDIBLE_BELOW_DB = 36.0


@dataclass(frozen=True)
class Onsets:
    """Where something begins.

    Args:
        envelope: shape (frames,): decibels by which the bands have risen, the mean over them.
        hop_s: from one frame to the next.
        times_s: of the onsets, ascending, shape (onsets,).
        strengths_db: the envelope there.
    """

    envelope: Floats
    hop_s: float
    times_s: NDArray[np.float64]
    strengths_db: Floats


def find_onsets(spectrum: Spectrum) -> Onsets:
    """Return the onsets of a sound; none of silence."""
    levels = spectrum.bands_db
    floor = levels.min()
    # Neighbors in frequency count as the same: a gliding pitch begins nothing.
    before = scipy.ndimage.maximum_filter1d(levels, 3, axis=0, mode="nearest")
    before = np.pad(before, ((0, 0), (LAG_FRAMES, 0)), constant_values=floor)[:, : levels.shape[1]]
    rise = np.maximum(0, levels - before)
    envelope = rise.mean(axis=0)
    if not spectrum.active.any():
        return Onsets(envelope, spectrum.hop_s, np.empty(0), np.empty(0, np.float32))
    narrow, wide = (2 * round(span_s / spectrum.hop_s) + 1 for span_s in (NARROW_S, WIDE_S))
    highest = scipy.ndimage.maximum_filter1d(envelope, narrow, mode="constant")
    mean = scipy.ndimage.uniform_filter1d(envelope.astype(np.float64), wide, mode="nearest")
    loudest = scipy.ndimage.maximum_filter1d(spectrum.power, narrow, mode="nearest")
    audible = loudest > spectrum.power.max() * np.float32(10 ** (-AUDIBLE_BELOW_DB / 10))
    peak = (envelope == highest) & (envelope > mean + ABOVE_MEAN_DB) & audible
    peak &= envelope > LEAST_SHARE * envelope.max()
    frames = np.flatnonzero(peak)
    # Two equal frames side by side are one peak.
    frames = frames[np.diff(frames, prepend=-narrow) > 1]
    return Onsets(envelope, spectrum.hop_s, np.asarray(frames * spectrum.hop_s, np.float64), envelope[frames])
