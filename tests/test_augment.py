"""Augmentation: each part does what its name says, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from backbeat.config import TrainParams, find_project, load_params
from backbeat.transcription.augment import augment
from backbeat.transcription.dataset import Windows

STEP_DB = 0.5
_OFF = dict.fromkeys(
    ("gain_db", "tilt_db", "mix_probability", "mix_gain_db", "equalizer_db", "contrast", "reverb_probability",
     "noise_probability", "noise_db", "tempo_jitter"), 0.0,
) | {"shift_bands": 0, "masked_bands": 0}  # fmt: skip


def _params(**on: float) -> TrainParams:
    train = load_params(find_project(Path(__file__).parent)).train
    return TrainParams.model_validate(train.model_dump() | _OFF | on)


def _burst(batch: int = 8) -> Windows:
    """Windows that are silent but for five loud frames at the tenth."""
    values = torch.zeros(batch, 60, 80)
    values[:, 10:15] = 180
    onset = torch.zeros(batch, 60, 2)
    onset[:, 10, 0] = 1.0
    return Windows(values.to(torch.uint8), onset, onset.clone(), torch.ones(batch, 60))


def _augmented(windows: Windows, seed: int = 1, **on: float) -> torch.Tensor:
    return augment(windows, _params(**on), STEP_DB, torch.Generator().manual_seed(seed)).values


def test_everything_off_changes_nothing() -> None:
    windows = _burst()
    changed = augment(windows, _params(), STEP_DB, torch.Generator().manual_seed(1))
    assert torch.equal(changed.values, windows.values.float())
    assert torch.equal(changed.onset, windows.onset)


def test_a_room_rings_after_a_sound_and_never_before_it() -> None:
    changed = _augmented(_burst(), reverb_probability=1.0)
    assert (changed[:, :10] == 0).all()
    tail = changed[:, 15:].mean(dim=2)
    assert (tail[:, 0] > 20).all()
    assert (torch.diff(tail, dim=1) <= 1e-3).all()


def test_noise_lies_below_the_loudest_moment_by_what_was_asked() -> None:
    changed = _augmented(_burst(64), noise_probability=1.0, noise_db=40.0)
    floor_db = (changed[:, 10:15].amax(dim=(1, 2)) - changed[:, 20:].mean(dim=(1, 2))) * STEP_DB
    # 30 to 70 dB; the slope across the bands can lift one end by ten.
    assert 28 < float(floor_db.min()) < 40
    assert 60 < float(floor_db.max()) < 92


def test_contrast_leaves_the_loudest_and_brings_the_rest_nearer_or_further() -> None:
    windows = _burst()
    windows.values[:, 30] = 100
    changed = _augmented(windows, contrast=0.4)
    assert changed[:, 10] == pytest.approx(180.0)
    softer = changed[:, 30, 0].numpy()
    assert np.all((softer >= 180 - 80 * 1.4 - 1e-3) & (softer <= 180 - 80 * 0.6 + 1e-3))
    assert np.ptp(softer) > 10


def test_an_equalizer_bends_all_frames_alike() -> None:
    windows = _burst()
    changed = _augmented(windows, equalizer_db=10.0)
    curve = changed[:, 10] - 180
    assert (changed[:, 12] - 180 == curve).all()
    assert float(curve.abs().max()) <= 10 / STEP_DB + 1e-3
    assert float(curve.std(dim=1).min()) > 1
    assert (changed[:, 30:] == 0).all()


def test_the_second_kit_of_a_mix_is_softer_by_at_most_what_was_asked() -> None:
    windows = _burst(2)
    windows.values[1] = 0
    windows.values[1, 40] = 120
    changed = _augmented(windows, mix_probability=1.0, mix_gain_db=10.0)
    beside = float(changed[0, 40, 0])
    assert 100 <= beside <= 120
    assert float(changed[0, 10, 0]) == 180


def test_a_window_is_tuned_by_whole_bands_at_most_as_far_as_was_asked() -> None:
    windows = _burst(64)
    windows.values[:, 10:15] = torch.arange(80, dtype=torch.uint8) + 100
    changed = _augmented(windows, shift_bands=2)
    shifts = {int(120 - one[10, 20]) for one in changed}
    assert shifts == {-2, -1, 0, 1, 2}
    assert (changed[:, 10] == changed[:, 14]).all()


def test_a_gap_is_silent_and_no_wider_than_was_asked() -> None:
    changed = _augmented(_burst(64), masked_bands=6)
    gaps = (changed[:, 10] == 0).sum(dim=1)
    assert set(gaps.tolist()) == set(range(7))
    assert ((changed[:, 10] == 0) == (changed[:, 12] == 0)).all()


def test_a_compressor_makes_silence_no_louder() -> None:
    assert (_augmented(_burst(), contrast=0.9)[:, 30:] == 0).all()
