"""Augmentation of spectrograms on the device where training runs.

In decibels a change of level is a sum, an equalizer is a curve over the bands, and two sounds at once are nearly the
louder of the two in each band. Values stay on the 8-bit scale (0…255), so that floor and ceiling are the same as in a
shard.
"""

from __future__ import annotations

import torch

from backbeat.config import TrainParams
from backbeat.transcription.dataset import Windows

HIGHEST_VALUE = 255.0


def augment(windows: Windows, params: TrainParams, step_db: float, generator: torch.Generator) -> Windows:
    """Return windows with a random level, spectral slope, tuning and silenced bands each, some of them mixed.

    Args:
        windows: as they were read.
        params: the widths of the draws.
        step_db: decibels per step of the scale.
        generator: where the draws come from; on the CPU, whatever the device of the windows.

    Returns:
        windows of the same shapes, their values as floats.
    """
    values = windows.values.float()
    batch, _, mels = values.shape
    draws = torch.rand((batch, 6), generator=generator).to(values.device)
    bands = torch.arange(mels, device=values.device)

    gain = (2 * draws[:, 0] - 1) * params.gain_db
    slope = (2 * draws[:, 1] - 1) * params.tilt_db
    curve_db = gain[:, None] + slope[:, None] * (bands / (mels - 1) - 0.5)
    # What was at the floor was silence before, and no equalizer makes silence louder.
    values = torch.where(values > 0, values + (curve_db / step_db)[:, None, :], values)

    shift = ((2 * draws[:, 2] - 1) * (params.shift_bands + 0.5)).round().long()
    source = (bands - shift[:, None]).clamp(0, mels - 1)
    values = values.gather(2, source[:, None, :].expand_as(values))

    width = (draws[:, 3] * (params.masked_bands + 1)).floor()
    first = (draws[:, 4] * (mels - width)).floor()
    masked = (bands >= first[:, None]) & (bands < (first + width)[:, None])
    values = values.clamp(0, HIGHEST_VALUE).masked_fill(masked[:, None, :], 0.0)
    return _mixed(windows._replace(values=values), draws[:, 5] < params.mix_probability)


def _mixed(windows: Windows, chosen: torch.Tensor) -> Windows:
    """Let the chosen windows sound together with their neighbor in the batch; both are annotated."""
    values, onset, velocity, valid = windows
    other = Windows(*(tensor.roll(1, dims=0) for tensor in windows))
    mask = chosen[:, None, None]
    return Windows(
        torch.where(mask, torch.maximum(values, other.values), values),
        torch.where(mask, torch.maximum(onset, other.onset), onset),
        torch.where(mask & (other.onset > onset), other.velocity, velocity),
        torch.where(chosen[:, None], torch.maximum(valid, other.valid), valid),
    )
