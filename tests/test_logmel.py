"""The log-mel front end: torchaudio's numbers, the same bytes however the sound comes in."""

from __future__ import annotations

import io
import itertools
import platform
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torchaudio
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from backbeat.audio import logmel
from backbeat.audio.logmel import LogMel, mel_filters
from backbeat.config import FeatureParams, load_params
from make_golden import GOLDEN, golden_sound, golden_values

REPOSITORY = Path(__file__).parents[1]
EXCERPT = REPOSITORY.parent / "shared" / "data" / "e-gmd-excerpt.zip"

PARAMS = load_params(REPOSITORY).preprocess.features
RATE = PARAMS.sample_rate_hz

# Rounding to a step costs half of one; the decibel table, whose entries are 0.003 dB apart, may cost a little more.
TABLE_ERROR_DB = 0.01

# So far below the loudest band of a frame, a transform in single precision is exact enough for that.
PRECISION_DB = 100

Samples = NDArray[np.float32]


def params(**changes: float) -> FeatureParams:
    return FeatureParams(**PARAMS.model_dump() | changes)


def reference_db(samples: Samples, features: FeatureParams) -> NDArray[np.float64]:
    """Return what torchaudio makes of it, in double precision, shape (frames, mels)."""
    transform = torchaudio.transforms.MelSpectrogram(
        features.sample_rate_hz,
        n_fft=features.fft_samples,
        hop_length=features.hop_samples,
        f_min=features.low_hz,
        f_max=features.high_hz,
        n_mels=features.mels,
    ).double()
    padded = np.pad(samples, (0, max(0, features.fft_samples // 2 + 1 - len(samples))))
    power = transform(torch.from_numpy(padded.astype(np.float64)))
    return np.asarray(10 * torch.log10(power).T)


def worst_error_db(samples: Samples, features: FeatureParams = PARAMS, depth_db: float = PRECISION_DB) -> float:
    """Return the largest distance from torchaudio's decibels, of bands at most this far below the loudest."""
    expected_db = reference_db(samples, features)
    deep = expected_db < expected_db.max(axis=1, keepdims=True) - depth_db
    top_db = features.floor_db + 255 * features.step_db
    front_end = LogMel(features)
    found_db = front_end.decibels(front_end(samples))
    errors_db = np.abs(found_db - np.clip(expected_db, features.floor_db, top_db))
    return float(np.where(deep, 0, errors_db).max())


def noise(count: int, seed: int = 0) -> Samples:
    return np.random.default_rng(seed).uniform(-1, 1, count).astype(np.float32)


def sine(frequency_hz: float, count: int = 30_000) -> Samples:
    return (0.9 * np.sin(2 * np.pi * frequency_hz * np.arange(count) / RATE)).astype(np.float32)


def click(count: int = 30_000) -> Samples:
    samples = np.zeros(count, np.float32)
    samples[count // 3] = 1
    return samples


SOUNDS = {
    "noise": noise(30_000),
    "quiet noise": noise(30_000) / 1_000,
    "noise that dies away": noise(60_000) * np.exp(-np.arange(60_000) / 3_000).astype(np.float32),
    "low sine": sine(50),
    "sine": sine(1_000),
    "sine between two bands": sine(3_333.3),
    "high sine": sine(15_000),
    "click": click(),
    "constant": np.full(30_000, 0.5, np.float32),
    "full-scale square": np.sign(sine(441)),
}

FEATURES = {
    "of params.yaml": PARAMS,
    "short window": params(fft_samples=512, hop_samples=256, mels=40),
    "hop as long as the window": params(fft_samples=1_024, hop_samples=1_024),
    "window of no power of two": params(fft_samples=1_500, hop_samples=147),
    "low rate": params(sample_rate_hz=22_050, fft_samples=1_024, high_hz=11_025.0),
    "odd rate": params(sample_rate_hz=11_025, fft_samples=1_024, high_hz=5_000.0),
    "from zero on": params(low_hz=0.0),
    "many bands": params(fft_samples=4_096, mels=128),
    "other steps": params(floor_db=-60.0, step_db=0.3),
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Keep thousands of small transforms from waiting for threads that another program has pushed aside."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# --- torchaudio's numbers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sound", SOUNDS)
def test_sound_is_within_half_a_step_of_torchaudio(sound: str) -> None:
    assert worst_error_db(SOUNDS[sound]) <= PARAMS.step_db / 2 + TABLE_ERROR_DB


@pytest.mark.parametrize("sound", SOUNDS)
def test_end_of_single_precision_costs_at_most_another_half_step(sound: str) -> None:
    assert worst_error_db(SOUNDS[sound], depth_db=np.inf) <= PARAMS.step_db + 2 * TABLE_ERROR_DB


@pytest.mark.parametrize("case", FEATURES)
def test_parameters_mean_what_they_mean_to_torchaudio(case: str) -> None:
    assert worst_error_db(SOUNDS["noise"], FEATURES[case]) <= FEATURES[case].step_db / 2 + TABLE_ERROR_DB


@pytest.mark.skipif(not EXCERPT.is_file(), reason="the excerpt of E-GMD is not beside this checkout")
@pytest.mark.parametrize("kit", [1, 2, 3, 4, 5])
def test_recording_is_within_half_a_step_of_torchaudio(kit: int) -> None:
    with zipfile.ZipFile(EXCERPT) as archive:
        name = next(name for name in archive.namelist() if name.endswith(f"_{kit}.wav"))
        samples, _ = soundfile.read(io.BytesIO(archive.read(name)), dtype="float32")
    assert worst_error_db(samples) <= PARAMS.step_db / 2 + TABLE_ERROR_DB


def test_filters_are_those_of_torchaudio() -> None:
    expected = torchaudio.functional.melscale_fbanks(
        PARAMS.fft_samples // 2 + 1, PARAMS.low_hz, PARAMS.high_hz, PARAMS.mels, RATE
    )
    np.testing.assert_allclose(mel_filters(PARAMS), expected.T, atol=1e-4)


# --- Frames ----------------------------------------------------------------------------------------------------------


def test_every_length_has_as_many_frames_as_torchaudio_makes() -> None:
    features = params(fft_samples=512, hop_samples=147, mels=16)
    front_end = LogMel(features)
    for count in range(1, 5_001):
        samples = np.zeros(count, np.float32)
        padded = torch.zeros(max(count, features.fft_samples // 2 + 1))
        expected = torch.stft(padded, 512, 147, window=torch.ones(512), return_complex=True).shape[1]
        assert (len(front_end(samples)), front_end.frame_count(count)) == (expected, expected), count


@pytest.mark.parametrize("count", [1, 2, 1_024, 1_025, 1_026, 2_047, 2_048, 2_049, 3_071, 3_072, 3_073, 3_074, 5_000])
def test_short_sound_is_reflected_as_torchaudio_does(count: int) -> None:
    assert worst_error_db(noise(count)) <= PARAMS.step_db / 2 + TABLE_ERROR_DB


def test_frame_is_centered_on_its_sample() -> None:
    samples = np.zeros(44_100, np.float32)
    samples[20 * PARAMS.hop_samples] = 1
    # A shorter window makes it plain: only frames that see the click are not silent, and 20 is the loudest.
    values = LogMel(params(fft_samples=512, mels=40))(samples).sum(axis=1, dtype=int)
    assert (np.flatnonzero(values).tolist(), int(values.argmax())) == ([20], 20)


def test_nothing_at_all_is_as_long_as_the_shortest_sound() -> None:
    assert len(LogMel(PARAMS).all_frames([])) == LogMel(PARAMS).frame_count(0)


# --- The same bytes --------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(count=st.integers(1, 20_000), data=st.data())
def test_blocks_of_any_sizes_give_the_same_bytes(count: int, data: st.DataObject) -> None:
    front_end = LogMel(PARAMS)
    samples = noise(count)
    cuts = sorted(data.draw(st.lists(st.integers(0, count), max_size=12), label="cuts"))
    blocks = np.split(samples, cuts)
    np.testing.assert_array_equal(front_end.all_frames(blocks), front_end(samples))


def test_blocks_of_one_sample_give_the_same_bytes() -> None:
    front_end = LogMel(params(fft_samples=256, hop_samples=64, mels=16))
    samples = noise(3_000)
    np.testing.assert_array_equal(front_end.all_frames(samples[:, None]), front_end(samples))


@pytest.mark.parametrize("frames", [1, 7, 64, 10_000])
def test_frames_computed_together_have_no_say_in_the_bytes(frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = LogMel(PARAMS)(noise(100_000))
    monkeypatch.setattr(logmel, "BLOCK_FRAMES", frames)
    np.testing.assert_array_equal(LogMel(PARAMS)(noise(100_000)), expected)


def test_samples_are_left_as_they_were() -> None:
    samples = noise(10_000)
    LogMel(PARAMS)(samples)
    np.testing.assert_array_equal(samples, noise(10_000))


def test_golden_spectrogram_is_at_most_one_step_away_on_any_machine() -> None:
    golden = np.load(GOLDEN)
    assert np.abs(golden_values().astype(int) - golden).max() <= 1


@pytest.mark.skipif(platform.machine() not in {"x86_64", "AMD64"}, reason="its bytes were made on x86-64")
def test_golden_spectrogram_has_the_same_bytes_on_its_architecture() -> None:
    np.testing.assert_array_equal(golden_values(), np.load(GOLDEN))


def test_golden_sound_uses_the_whole_range() -> None:
    values = np.load(GOLDEN)
    assert (np.unique(values).size > 100, len(golden_sound()) > 20_000) == (True, True)


# --- Eight bits ------------------------------------------------------------------------------------------------------


def test_silence_is_zero() -> None:
    assert not LogMel(PARAMS)(np.zeros(10_000, np.float32)).any()


@pytest.mark.parametrize("sound", ["noise", "sine", "full-scale square"])
def test_what_gets_louder_does_not_wrap_around(sound: str) -> None:
    front_end = LogMel(PARAMS)
    levels = [front_end(SOUNDS[sound] * np.float32(10) ** power).astype(int) for power in range(-6, 15)]
    assert min((louder - softer).min() for softer, louder in itertools.pairwise(levels)) >= 0


def test_far_too_loud_is_the_highest_value() -> None:
    assert (LogMel(PARAMS)(SOUNDS["noise"] * np.float32(1e9)) == 255).all()


def test_ten_decibels_are_twenty_steps() -> None:
    front_end = LogMel(PARAMS)
    loud, soft = (front_end(SOUNDS["noise"] * np.float32(gain)).astype(int) for gain in (1, 10**-0.5))
    assert np.abs(loud - soft - 20).max() <= 1


def test_values_and_decibels_are_a_line() -> None:
    decibels = LogMel(PARAMS).decibels(np.array([0, 1, 160, 255], np.uint8))
    assert decibels.tolist() == [-80, -79.5, 0, 47.5]
