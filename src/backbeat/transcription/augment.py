"""Augmentation of spectrograms on the device where training runs: level, tilt, silenced bands.

In decibels a change of level is a sum, and an equalizer is a curve over the bands. Values stay on the 8-bit scale
(0…255), so that floor and ceiling are the same as in a shard.
"""

from __future__ import annotations

import torch

from backbeat.config import TrainParams

HIGHEST_VALUE = 255.0


def augment(values: torch.Tensor, params: TrainParams, step_db: float, generator: torch.Generator) -> torch.Tensor:
    """Return windows with a random level, spectral slope and silenced bands each.

    Args:
        values: (batch, frames, mels) float, on the 8-bit scale.
        params: the widths of the draws.
        step_db: decibels per step of the scale.
        generator: where the draws come from; on the CPU, whatever the device of `values`.

    Returns:
        a new tensor of the same shape.
    """
    batch, _, mels = values.shape
    draws = torch.rand((batch, 4), generator=generator).to(values.device)
    gain = (2 * draws[:, 0] - 1) * params.gain_db
    slope = (2 * draws[:, 1] - 1) * params.tilt_db
    bands = torch.arange(mels, device=values.device)
    curve_db = gain[:, None] + slope[:, None] * (bands / (mels - 1) - 0.5)[None]
    # What was at the floor was silence before, and no equalizer makes silence louder.
    changed = torch.where(values > 0, values + (curve_db / step_db)[:, None, :], values)
    width = (draws[:, 2] * (params.masked_bands + 1)).floor()
    first = (draws[:, 3] * (mels - width)).floor()
    masked = (bands[None] >= first[:, None]) & (bands[None] < (first + width)[:, None])
    return changed.clamp(0, HIGHEST_VALUE).masked_fill(masked[:, None, :], 0.0)
