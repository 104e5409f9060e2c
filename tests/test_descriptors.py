"""Descriptors: their definitions, and their values on sounds of which they are known."""

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from backbeat.audio.descriptors import DESCRIPTORS, describe_sound
from backbeat.audio.dynamics import attack_crest_db
from backbeat.audio.pitch import note_name
from backbeat.audio.sound import Sound
from backbeat.audio.timbre import loud_centroid_hz
from backbeat.library.tables import DESCRIPTORS_TABLE

RATE = 48_000
Samples = NDArray[np.float32]


def described(samples: Any, rate: int = RATE) -> dict[str, Any]:
    channels = np.asarray(samples, np.float32)
    return describe_sound(Sound(channels[:, None] if channels.ndim == 1 else channels, rate))


def time_s(seconds: float, rate: int = RATE) -> NDArray[np.float64]:
    return np.arange(round(seconds * rate)) / rate


def tone(hz: float, seconds: float = 1.0, rate: int = RATE) -> NDArray[np.float64]:
    return np.sin(2 * np.pi * hz * time_s(seconds, rate))


def noise(seconds: float = 1.0, seed: int = 1) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE))


def test_every_descriptor_says_its_unit_its_range_and_after_whom_and_has_its_column() -> None:
    assert len(DESCRIPTORS) >= 20
    for entry in DESCRIPTORS.values():
        assert all((entry.definition, entry.unit, entry.range, entry.source)), entry.name
    columns = [column for entry in DESCRIPTORS.values() for column in entry.columns]
    assert set(columns) <= set(DESCRIPTORS_TABLE.names)
    assert set(described(noise(0.1))) == set(columns)


def test_a_tone_has_the_levels_that_are_known_of_it() -> None:
    # A sine of full scale has 3.01 dB of crest; BS.1770 gives one of 997 Hz on one channel -3.01 LUFS.
    values = described(tone(997, 2.0))
    assert values["peak_db"] == pytest.approx(0, abs=0.01)
    assert values["rms_db"] == pytest.approx(-3.01, abs=0.01)
    assert values["crest_db"] == pytest.approx(3.01, abs=0.01)
    assert values["loudness_lufs"] == pytest.approx(-3.01, abs=0.05)
    assert values["loudness_padded"] is False


def test_the_crest_between_two_samples_is_found() -> None:
    # At a quarter of the rate, half way between crests: every sample is 3.01 dB below them.
    values = described(np.sin(np.pi / 2 * np.arange(4800) + np.pi / 4))
    assert values["peak_db"] == pytest.approx(-3.01, abs=0.01)
    assert values["true_peak_db"] == pytest.approx(0, abs=0.25)


def test_a_tone_has_the_frequencies_that_are_known_of_it() -> None:
    values = described(tone(1000))
    assert values["spectral_centroid_hz"] == pytest.approx(1000, rel=0.02)
    assert values["pitch_hz"] == pytest.approx(1000, rel=0.002)
    assert values["pitch_confidence"] > 0.95
    assert values["zero_crossing_rate_hz"] == pytest.approx(2000, rel=0.01)
    assert values["mid_share"] == pytest.approx(1, abs=0.01)
    assert values["spectral_flatness"] < 1e-4


def test_white_noise_is_flat_spread_and_without_pitch() -> None:
    values = described(noise())
    assert values["spectral_centroid_hz"] == pytest.approx(RATE / 4, rel=0.02)
    assert values["spectral_bandwidth_hz"] == pytest.approx(RATE / 2 / math.sqrt(12), rel=0.03)
    assert values["spectral_rolloff_hz"] == pytest.approx(0.85 * RATE / 2, rel=0.02)
    # The geometric over the arithmetic mean of an exponential distribution: exp(-Euler's constant).
    assert values["spectral_flatness"] == pytest.approx(math.exp(-np.euler_gamma), abs=0.02)
    assert values["zero_crossing_rate_hz"] == pytest.approx(RATE / 2, rel=0.02)
    assert values["pitch_hz"] is None


@pytest.mark.parametrize(("hz", "note"), [(55.0, "A1 +0"), (440.0, "A4 +0"), (50.0, "G1 +35"), (261.63, "C4 +0")])
def test_a_low_pitch_is_heard_and_has_its_note(hz: float, note: str) -> None:
    decaying = tone(hz, 0.8) * np.exp(-3 * time_s(0.8)) + 0.3 * tone(2 * hz, 0.8) * np.exp(-6 * time_s(0.8))
    values = described(decaying)
    assert values["pitch_hz"] == pytest.approx(hz, rel=0.004)
    assert note_name(hz) == note


def test_an_envelope_is_timed() -> None:
    # 0.1 s of silence, a straight rise over 0.05 s, an exponential fall by 60 dB in 0.6 s.
    fall = 10 ** (-3 * time_s(1.0) / 0.6)
    shape = np.concatenate([np.zeros(4800), np.linspace(0, 1, 2400), fall])
    values = described(shape * np.where(np.arange(len(shape)) % 2, 1, -1))
    assert values["leading_silence_s"] == pytest.approx(0.1, abs=0.002)
    assert values["attack_s"] == pytest.approx(0.7 * 0.05, abs=0.002)
    assert values["decay_s"] == pytest.approx(0.2, abs=0.003)
    assert values["decay_60_s"] == pytest.approx(0.6, abs=0.003)
    assert values["end_level_db"] == pytest.approx(-100, abs=2)


def test_a_sound_that_is_cut_off_has_no_decay_but_a_loud_end() -> None:
    values = described(tone(200, 0.5))
    assert values["decay_s"] is None
    assert values["decay_60_s"] is None
    assert values["end_level_db"] == pytest.approx(0, abs=0.5)


def test_what_lasts_is_told_from_what_strikes() -> None:
    clicks = np.zeros(RATE)
    clicks[::6000] = 1
    assert described(tone(440))["harmonic_percussive_db"] > 8
    assert described(clicks)["harmonic_percussive_db"] < -8


def test_onsets_are_counted() -> None:
    since = time_s(2.0) % 0.25
    values = described(noise(2.0) * np.exp(-since / 0.02))
    assert values["onset_count"] == 8
    assert values["onset_rate_hz"] == pytest.approx(4)
    assert described(noise(0.5) * np.exp(-time_s(0.5) / 0.05))["onset_count"] == 1


def test_stereo_that_is_none_is_found() -> None:
    one, other = noise(seed=1), noise(seed=2)
    assert described(one)["stereo_width"] is None
    for channels, fake, width in (([one, one], True, 0), ([one, other], False, 0.5), ([one, -one], False, 1)):
        values = described(np.stack(channels, axis=1))
        assert values["fake_stereo"] is fake
        assert values["stereo_width"] == pytest.approx(width, abs=0.02)


def test_a_low_rate_that_was_made_high_is_found() -> None:
    import soxr

    low = np.random.default_rng(1).normal(0, 0.1, 22_050).astype(np.float32)
    assert described(soxr.resample(low, 22_050, 44_100), 44_100)["upsampled"] is True
    assert described(noise())["upsampled"] is False


def test_the_rate_and_the_gain_of_a_file_do_not_change_what_a_sound_is_like() -> None:
    loudness = {"peak_db", "true_peak_db", "rms_db", "loudness_lufs", "noise_floor_db"}
    time = time_s(0.8, 44_100)
    hit = tone(60, 0.8, 44_100) * np.exp(-8 * time) + 0.2 * np.random.default_rng(3).normal(0, 1, len(time)) * np.exp(
        -40 * time
    )
    here, quiet = described(hit * 0.9, 44_100), described(hit * 0.09, 44_100)
    for name, value in here.items():
        if name in loudness:
            assert quiet[name] == pytest.approx(value - 20, abs=0.01)
        elif value is None:
            assert quiet[name] is None, name
        elif name != "bandwidth_limit_hz":
            assert quiet[name] == pytest.approx(value, rel=1e-3, abs=1e-3), name
    import soxr

    resampled = described(soxr.resample(hit * 0.9, 44_100, 48_000))
    for name in ("spectral_centroid_hz", "attack_s", "decay_s", "low_share", "loudness_lufs", "mfcc_00", "pitch_hz"):
        assert resampled[name] == pytest.approx(here[name], rel=0.06, abs=0.02), name


def test_a_quiet_tail_makes_no_hit_bright_and_a_long_one_no_hit_soft() -> None:
    time = time_s(1.0)
    hit = tone(60) * np.exp(-12 * time)
    hissing = Sound((hit + 0.005 * noise())[:, None].astype(np.float32), RATE)
    assert described(hissing.channels[0])["spectral_centroid_hz"] > 2000
    assert (loud_centroid_hz(hissing) or math.inf) < 500
    rings_on = np.concatenate([np.zeros(4800), hit, np.zeros(2 * RATE)])
    crests = [attack_crest_db(Sound(one[:, None].astype(np.float32), RATE)) for one in (hit, rings_on)]
    assert crests[0] == pytest.approx(crests[1], abs=0.1)
    silence = Sound(np.zeros((100, 1), np.float32), RATE)
    assert (loud_centroid_hz(silence), attack_crest_db(silence)) == (None, None)


@pytest.mark.parametrize("rate", [1_000, 8_000, 44_101, 192_000])
@pytest.mark.parametrize(
    "samples",
    [np.zeros((1, 1)), np.zeros((3000, 2)), np.ones((1, 1)), np.ones((7, 2)), np.full((3000, 1), 0.5), np.eye(1, 900).T,
     np.full((400, 6), 1e-8), 1e4 * np.ones((400, 1))],
    ids=["one zero", "silence", "one sample", "seven", "offset", "click", "six faint channels", "beyond full scale"],
)  # fmt: skip
def test_odd_sounds_have_descriptors_that_are_numbers_or_none(samples: Any, rate: int) -> None:
    for name, value in described(samples, rate).items():
        assert value is None or math.isfinite(value), name
