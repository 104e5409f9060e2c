"""Resemblance: a copy is known by its waveform whatever was done to it, and another hit on the same drum is not one."""

from __future__ import annotations

import zipfile
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from backbeat.audio.correlation import UNLIKE, Likeness, compare, waveform
from backbeat.audio.resemblance import DIMENSIONS, embedding, from_bytes, onset, to_bytes
from backbeat.library.generated import copies
from backbeat.library.generated.loops import Loop, play_loop
from backbeat.library.generated.voices import Voice, play
from backbeat.library.generated.wavfile import quantized

REPOSITORY = Path(__file__).parents[1]
REAL = REPOSITORY.parent / "shared" / "data" / "samples-cc0.zip"

RATE = 44_100
CLASSES = ("kick", "snare", "closed_hat", "crash", "bass", "stab")

Samples = NDArray[np.float64]


@cache
def voice(sound_class: str, take: int = 0, semitones: float = 0.0, seed: int = 5) -> Samples:
    return quantized(play(Voice(sound_class, seed, semitones, take), RATE)[0][:, None] * 0.8, 24)


def copied(samples: Samples, kind: str) -> tuple[Samples, int]:
    """A copy as `generated` makes it, and its rate."""
    rng = np.random.default_rng(1)
    if kind == "resampled":
        return quantized(copies.resampled(samples, RATE, 48_000), 24), 48_000
    if kind == "requantized":
        return quantized(samples, 16, rng), RATE
    if kind == "gained":
        return quantized(copies.gained(samples, rng), 16), RATE
    if kind == "trimmed":
        return quantized(copies.trimmed(samples, RATE, rng), 24), RATE
    return quantized(copies._WAYS[kind](samples, RATE, rng) * 0.8, 24), RATE


def likeness(one: Samples, other: Samples, rate: int = RATE) -> Likeness:
    return compare(waveform(mono(one), RATE), waveform(mono(other), rate))


def mono(samples: Samples) -> NDArray[np.float32]:
    return samples.mean(axis=1, dtype=np.float32)


def is_same(found: Likeness) -> bool:
    return found.correlation >= 0.998 and found.detail >= 0.98 and found.tilt_db <= 0.2 and found.common >= 0.6


# --- Neighbors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sound_class", CLASSES)
@pytest.mark.parametrize("kind", ["gained", "trimmed", "resampled", "requantized", "tilt", "vorbis", "saturation"])
def test_a_copy_is_a_neighbor(kind: str, sound_class: str) -> None:
    other, rate = copied(voice(sound_class), kind)
    similarity = embedding(mono(voice(sound_class)), RATE) @ embedding(mono(other), rate)
    assert similarity > 0.97


def test_other_classes_are_no_neighbors() -> None:
    vectors = np.stack([embedding(mono(voice(sound_class)), RATE) for sound_class in CLASSES])
    assert (vectors @ vectors.T)[np.triu_indices(len(CLASSES), 1)].max() < 0.93


def test_a_vector_has_length_one_and_survives_being_stored_as_bytes() -> None:
    vector = embedding(mono(voice("snare")), RATE)
    assert vector.shape == (DIMENSIONS,)
    assert vector.dtype == np.float32
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    assert len(to_bytes(vector)) == DIMENSIONS
    assert from_bytes(to_bytes(vector)) @ vector > 0.9998


@pytest.mark.parametrize("count", [0, 1, 7, 5_000])
def test_silence_resembles_nothing(count: int) -> None:
    silence = np.zeros(count, np.float32)
    assert onset(silence) is None
    assert not embedding(silence, RATE).any()
    assert not from_bytes(to_bytes(embedding(silence, RATE))).any()
    assert len(waveform(silence, RATE)) == 0


@pytest.mark.parametrize("count", [1, 2, 100, 1_000])
def test_the_shortest_sounds_can_be_compared(count: int) -> None:
    short = np.random.default_rng(0).uniform(-1, 1, count).astype(np.float32)
    assert np.isfinite(embedding(short, RATE)).all()
    found = compare(waveform(short, RATE), waveform(short, RATE))
    assert found == UNLIKE or found.correlation == pytest.approx(1)


# --- Proof -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sound_class", CLASSES)
@pytest.mark.parametrize("kind", ["gained", "trimmed", "resampled", "requantized"])
def test_a_copy_is_the_same_sound(kind: str, sound_class: str) -> None:
    assert is_same(likeness(voice(sound_class), *copied(voice(sound_class), kind)))


@pytest.mark.parametrize("sound_class", ["kick", "snare", "closed_hat", "stab"])
@pytest.mark.parametrize("kind", ["tilt", "vorbis", "saturation", "reverb"])
def test_a_sound_that_was_worked_upon_is_near(kind: str, sound_class: str) -> None:
    assert likeness(voice(sound_class), *copied(voice(sound_class), kind)).detail >= 0.94


@pytest.mark.parametrize("kind", ["tilt", "vorbis", "saturation", "reverb"])
def test_and_not_the_same(kind: str) -> None:
    assert not is_same(likeness(voice("snare"), *copied(voice("snare"), kind)))


@pytest.mark.parametrize("sound_class", CLASSES)
@pytest.mark.parametrize("changed", [{"take": 1}, {"semitones": 1.0, "take": 2}, {"seed": 6}], ids=str)
def test_another_hit_another_pitch_and_another_drum_are_other_sounds(changed: dict[str, int], sound_class: str) -> None:
    assert likeness(voice(sound_class), voice(sound_class, **changed)).detail < 0.94


def test_polarity_and_half_a_sample_make_no_difference() -> None:
    hat = voice("closed_hat")
    assert is_same(likeness(hat, -hat))
    spectrum = np.fft.rfft(np.concatenate([np.zeros((500, 1)), hat, np.zeros((500, 1))]), axis=0)
    later = np.fft.irfft(
        spectrum * np.exp(-1j * np.pi * np.fft.rfftfreq(len(hat) + 1_000))[:, None], len(hat) + 1_000, axis=0
    )
    assert is_same(likeness(hat, later))


def test_one_tone_struck_by_two_sticks_is_two_sounds_however_soft_the_sticks() -> None:
    time_s = np.arange(RATE // 2) / RATE
    tone = np.sin(2 * np.pi * 55 * time_s) * np.exp(-8 * time_s)
    sticks = [np.random.default_rng(seed).uniform(-0.2, 0.2, len(time_s)) * np.exp(-200 * time_s) for seed in (1, 2)]
    one, other = ((tone + stick)[:, None] for stick in sticks)
    found = likeness(one, other)
    assert found.correlation > 0.97
    assert found.detail < 0.94


def test_the_fade_of_a_cut_is_no_difference() -> None:
    steady = np.random.default_rng(1).uniform(-0.5, 0.5, (RATE // 4, 1))
    cut = steady[: RATE // 5].copy()
    cut[-1_300:] *= np.linspace(1, 0, 1_300)[:, None]
    assert is_same(likeness(steady, cut))


def test_the_first_bar_is_no_copy_of_the_loop() -> None:
    loop = play_loop(Loop("house", 3, 124, 2), RATE)[:, None]
    found = likeness(loop, loop[: len(loop) // 2])
    assert found.correlation > 0.99
    assert found.common < 0.6


def test_the_same_pattern_with_other_samples_is_another_loop() -> None:
    one, other = (play_loop(Loop("house", 3, 124, 1, kit=kit), RATE)[:, None] for kit in (0, 1))
    assert likeness(one, other).detail < 0.5


@pytest.mark.skipif(not REAL.exists(), reason="the real samples are not beside this repository")
def test_real_sounds_are_told_from_their_neighbors_and_known_by_their_copies() -> None:
    names = [f"tabla_tun{number}" for number in (1, 2, 3)]
    names += [f"drum_{name}" for name in ("tom_lo_hard", "tom_lo_soft", "snare_hard", "bass_hard", "bass_soft")]
    sounds = {}
    with zipfile.ZipFile(REAL) as archive:
        members = {Path(name).stem: name for name in archive.namelist()}
        for name in names:
            samples, rate = soundfile.read(BytesIO(archive.read(members[name])), always_2d=True)
            assert rate == RATE
            sounds[name] = quantized(samples * 0.8, 24)
    near: list[bool] = []
    for name, samples in sounds.items():
        for kind in ("gained", "trimmed", "resampled", "requantized"):
            assert is_same(likeness(samples, *copied(samples, kind))), (name, kind)
        near += [likeness(samples, *copied(samples, kind)).detail >= 0.94 for kind in ("tilt", "saturation")]
        for other in names[: names.index(name)]:
            assert likeness(samples, sounds[other]).detail < 0.94, (name, other)
    assert np.mean(near) >= 0.9
