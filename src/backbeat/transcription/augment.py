"""Augmentation of spectrograms on the device where training runs.

In decibels a change of level is a sum, an equalizer is a curve over the bands, a compressor is a factor; what sounds
at once adds up in power. Values stay on the 8-bit scale (0…255), so that floor and ceiling are the same as in a
shard. The order is that of the world: another kit beside this one, a room, noise, an equalizer, a compressor, another
tuning, a gap in the spectrum.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from backbeat.config import TrainParams
from backbeat.transcription.dataset import Windows

HIGHEST_VALUE = 255.0

# The equalizer's curve is drawn at so many places and interpolated between them.
EQUALIZER_PLACES = 8

# The loudest noise is this far below the loudest moment.
NOISE_BELOW_DB = 30.0

# A room's tail, in frames to -60 dB; doubling the reach so many times sees all but nothing of the longest.
SHORTEST_TAIL_FRAMES, LONGEST_TAIL_FRAMES, TAIL_DOUBLINGS = 10, 120, 7


def augment(windows: Windows, params: TrainParams, step_db: float, generator: torch.Generator) -> Windows:
    """Return windows that sound otherwise: every one with draws of its own, some of them mixed.

    Args:
        windows: as they were read.
        params: the widths of the draws.
        step_db: decibels per step of the scale.
        generator: where the draws come from; on the CPU, whatever the device of the windows.

    Returns:
        windows of the same shapes, their values as floats.
    """
    draw = _Draws(len(windows.values), generator, windows.values.device)
    windows = _mixed(windows._replace(values=windows.values.float()), draw, params, step_db)
    values = windows.values
    silent = values <= 0
    if params.reverb_probability:
        values = _in_room(values, draw, params, step_db)
    if params.noise_probability:
        values = _noisy(values, draw, params, step_db, generator)
    curve_db = _equalizer(values, draw, params, generator)
    # What was at the floor was silence before; no equalizer and no compressor makes silence louder.
    values = torch.where(silent & (values <= 0), values, values + (curve_db / step_db)[:, None, :])
    if params.contrast:
        loudest = values.amax(dim=(1, 2), keepdim=True)
        pressed = loudest + (values - loudest) * (1 + params.contrast * draw.signed())[:, None, None]
        values = torch.where(values <= 0, values, pressed)
    values = _tuned(values, draw, params).clamp(0, HIGHEST_VALUE)
    return windows._replace(values=_masked(values, draw, params))


class _Draws:
    """Numbers for each window of a batch, one after another from one generator."""

    def __init__(self, batch: int, generator: torch.Generator, device: torch.device) -> None:
        self._batch = batch
        self._generator = generator
        self._device = device

    def uniform(self) -> torch.Tensor:
        """Return a number from 0 to 1 for each window, shape (batch,)."""
        return torch.rand(self._batch, generator=self._generator).to(self._device)

    def signed(self) -> torch.Tensor:
        """Return a number from -1 to 1 for each window, shape (batch,)."""
        return 2 * self.uniform() - 1


def _mixed(windows: Windows, draw: _Draws, params: TrainParams, step_db: float) -> Windows:
    """Let the chosen windows sound together with their neighbor in the batch; both are annotated."""
    values, onset, velocity, valid = windows
    chosen = draw.uniform() < params.mix_probability
    softer = draw.uniform() * params.mix_gain_db / step_db
    other = Windows(*(tensor.roll(1, dims=0) for tensor in windows))
    mask = chosen[:, None, None]
    beside = (other.values - softer[:, None, None]).clamp(min=0)
    return Windows(
        torch.where(mask, _sum_of_powers(values, beside, step_db), values),
        torch.where(mask, torch.maximum(onset, other.onset), onset),
        torch.where(mask & (other.onset > onset), other.velocity, velocity),
        torch.where(chosen[:, None], torch.maximum(valid, other.valid), valid),
    )


def _in_room(values: torch.Tensor, draw: _Draws, params: TrainParams, step_db: float) -> torch.Tensor:
    """Add a tail that decays exponentially: shorter and softer in the treble, as air and walls have it."""
    chosen = draw.uniform() < params.reverb_probability
    frames = SHORTEST_TAIL_FRAMES * (LONGEST_TAIL_FRAMES / SHORTEST_TAIL_FRAMES) ** draw.uniform()
    treble = 0.3 + 0.7 * draw.uniform()
    level_db = -35 + 27 * draw.uniform()  # of the tail's first frame
    bands = torch.linspace(0, 1, values.shape[2], device=values.device)
    tail_frames = frames[:, None] * (1 - bands + treble[:, None] * bands)
    kept = 10 ** (-6 / tail_frames)[:, None, :]  # of the power, from a frame to the next
    power = _power(values, step_db)
    tail = functional.pad(power, (0, 0, 1, 0))[:, :-1] * kept
    reach = 1
    for _ in range(TAIL_DOUBLINGS):
        tail = tail + functional.pad(tail, (0, 0, reach, 0))[:, : values.shape[1]] * kept**reach
        reach *= 2
    wet = power + tail * 10 ** (level_db / 10)[:, None, None]
    return torch.where(chosen[:, None, None], _value(wet, step_db), values)


def _noisy(
    values: torch.Tensor, draw: _Draws, params: TrainParams, step_db: float, generator: torch.Generator
) -> torch.Tensor:
    """Add a floor of noise with a slope, as a room, a tape or an amplifier has it."""
    chosen = draw.uniform() < params.noise_probability
    below_db = params.noise_db * draw.uniform()
    slope_db = 20 * draw.signed()
    bands = torch.linspace(-0.5, 0.5, values.shape[2], device=values.device)
    loudest = values.amax(dim=(1, 2))
    level = loudest[:, None] - (NOISE_BELOW_DB + below_db[:, None] - slope_db[:, None] * bands) / step_db
    # Bins of noise vary by 5.6 dB, a band of several bins by less.
    grain = torch.randn(values.shape, generator=generator).to(values.device) * (2.5 / step_db)
    noise = (level[:, None, :] + grain).clamp(min=0)
    return torch.where(chosen[:, None, None], _sum_of_powers(values, noise, step_db), values)


def _equalizer(values: torch.Tensor, draw: _Draws, params: TrainParams, generator: torch.Generator) -> torch.Tensor:
    """Return a curve in decibels for each window: level, slope, and bends in between. Shape (batch, mels)."""
    batch, _, mels = values.shape
    bands = torch.arange(mels, device=values.device)
    gain, slope = draw.signed() * params.gain_db, draw.signed() * params.tilt_db
    curve_db = gain[:, None] + slope[:, None] * (bands / (mels - 1) - 0.5)
    if params.equalizer_db:
        places = (2 * torch.rand((batch, 1, EQUALIZER_PLACES), generator=generator) - 1).to(values.device)
        bends = functional.interpolate(places, size=mels, mode="linear", align_corners=True)
        curve_db = curve_db + params.equalizer_db * bends[:, 0]
    return curve_db


def _tuned(values: torch.Tensor, draw: _Draws, params: TrainParams) -> torch.Tensor:
    mels = values.shape[2]
    shift = (draw.signed() * (params.shift_bands + 0.5)).round().long()
    source = (torch.arange(mels, device=values.device) - shift[:, None]).clamp(0, mels - 1)
    return values.gather(2, source[:, None, :].expand_as(values))


def _masked(values: torch.Tensor, draw: _Draws, params: TrainParams) -> torch.Tensor:
    mels = values.shape[2]
    bands = torch.arange(mels, device=values.device)
    width = (draw.uniform() * (params.masked_bands + 1)).floor()
    first = (draw.uniform() * (mels - width)).floor()
    masked = (bands >= first[:, None]) & (bands < (first + width)[:, None])
    return values.masked_fill(masked[:, None, :], 0.0)


def _power(values: torch.Tensor, step_db: float) -> torch.Tensor:
    # Above the floor's, so that silence has none.
    return torch.expm1(values * (step_db * math.log(10) / 10))


def _value(power: torch.Tensor, step_db: float) -> torch.Tensor:
    return torch.log1p(power) * (10 / (step_db * math.log(10)))


def _sum_of_powers(one: torch.Tensor, other: torch.Tensor, step_db: float) -> torch.Tensor:
    scale = step_db * math.log(10) / 10
    both = torch.logaddexp(one * scale, other * scale) / scale
    # The floor is silence: two silences are silent.
    return torch.where((one <= 0) | (other <= 0), torch.maximum(one, other), both)
