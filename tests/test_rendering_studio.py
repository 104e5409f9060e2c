"""What is between a hit and the file: nothing is heard before it, and nothing begins or ends with a step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import fft

from backbeat.config import find_project
from backbeat.drums.midi import Onsets
from backbeat.rendering.bank import SAMPLE_RATE_HZ, OneShot, one_shot
from backbeat.rendering.equalizer import frequencies_hz, impulse_response, minimum_phase
from backbeat.rendering.kits import GROUPS, Kit, Voice, _Change
from backbeat.rendering.playing import play
from backbeat.rendering.recipe import load_recipe
from backbeat.rendering.studio import produce

ROOT = find_project(Path(__file__).parent)
SIZE = 16_384
HIT = 22_050


def wall_db(size: int, end_hz: float) -> NDArray[np.float64]:
    """A bass cut of 24 dB per octave below 40 Hz, and a wall of 360 dB per octave."""
    octaves = np.log2(np.maximum(frequencies_hz(size), 10.0))
    curve_db = -24 * np.maximum(0, np.log2(40.0) - octaves) - 360 * np.maximum(0, octaves - np.log2(end_hz))
    return np.asarray(curve_db)


def kit(**voices: tuple[str, OneShot]) -> Kit:
    """A kit of pads `p<note>`: their groups and sounds."""
    return Kit(
        name="one",
        voices={int(name[1:]): Voice((shot,), 1.0, group) for name, (group, shot) in voices.items()},
        velocity_power=1.0,
        choke_s=0.01,
        wires_gain=0.1,
        sources=("one",),
    )


def hits(*given: tuple[float, int]) -> Onsets:
    onset_s, pitch = zip(*given, strict=True)
    velocity = np.full(len(pitch), 127, np.uint8)
    return Onsets(np.array(onset_s, np.float32), np.array(pitch, np.uint8), velocity)


def flat(length: int, level: float = 1.0) -> OneShot:
    return OneShot(np.full(length, level, np.float32), 1.0)


def test_minimum_phase_has_the_magnitude_and_its_energy_early() -> None:
    curve_db = wall_db(SIZE, 6_000.0)
    response = minimum_phase(curve_db)
    wanted_db = np.maximum(curve_db, curve_db.max() - 100)
    assert 20 * np.log10(np.abs(response)) == pytest.approx(wanted_db, abs=1e-6)
    # A delay alone is no loss of magnitude, but it is not of minimum phase.
    taps = impulse_response(curve_db)
    assert int(np.argmax(np.abs(taps))) < 20
    # Between the bins the curve is followed, too, so little wraps around.
    fine_db = 20 * np.log10(np.abs(fft.rfft(taps, 8 * SIZE)) + 1e-9)
    heard = frequencies_hz(8 * SIZE) > 20
    loud = wall_db(8 * SIZE, 6_000.0) > -40
    assert fine_db[heard & loud] == pytest.approx(wall_db(8 * SIZE, 6_000.0)[heard & loud], abs=0.5)


def test_a_filter_of_first_order_is_found() -> None:
    # Known in closed form: 1 - 0.9 z^-1 has its zero inside of the unit circle, so it is its own minimum phase.
    taps = np.zeros(SIZE)
    taps[:2] = 1.0, -0.9
    curve_db = 20 * np.log10(np.abs(fft.rfft(taps)))
    assert impulse_response(curve_db) == pytest.approx(taps, abs=1e-5)


def test_nothing_is_heard_before_a_hit() -> None:
    recipe = load_recipe(ROOT / "configs" / "kits" / "rendered-kits.yaml")
    quiet = {"low": -140.0, "high": -140.0}
    steep = {"room": 1.0, "lossy": 0.0, "low_pass": 1.0, "backing": 0.0, "noise_db": quiet}
    draws = type(recipe.recording).model_validate(recipe.recording.model_dump() | steep)
    heard = np.zeros((len(GROUPS), 2 * HIT), np.float32)
    heard[:, HIT] = 1.0
    for seed in range(4):
        samples = produce(heard, None, draws, np.random.default_rng(seed)).astype(float)
        peak = np.abs(samples).max()
        # Half a step of 16 bits is where it ends.
        assert np.abs(samples[:HIT]).max() <= max(1.0, peak * 10 ** (-70 / 20))
        assert int(np.argmax(np.abs(samples) >= peak * 10 ** (-30 / 20))) - HIT <= 20


def test_a_kit_does_not_move_the_beginning_of_a_sound() -> None:
    click = np.zeros(HIT, np.float32)
    click[4_410] = 1.0
    for tilt_db, bell_octave in ((6.0, 0.0), (-6.0, 0.0), (6.0, 8.0), (-6.0, 4.0)):
        sound = np.abs(_Change(1.0, 1.0, tilt_db, 6.0, bell_octave).applied(OneShot(click, 1.0)).samples)
        assert sound[:4_410].max() < 10 ** (-70 / 20)
        assert sound[4_410] > 0.3


@pytest.mark.parametrize("length", [1, 3_000, 8_820, 44_100])
def test_the_wires_fade_out_however_long_the_snare_is(length: int) -> None:
    drums = kit(p36=("kick", flat(1)), p38=("snare", flat(length)))
    snare = play(drums, hits((0.1, 36)), np.random.default_rng(0))[list(GROUPS).index("snare")]
    answer = snare[4_410 : 4_410 + 8_820]
    assert not snare[4_410 + 8_820 :].any()
    assert np.abs(answer).max() > 0.0
    if length >= 3_000:
        assert np.abs(np.diff(snare[4_410 + 1_000 :])).max() < 1e-3 * np.abs(answer).max()


def test_a_kit_without_a_snare_has_no_wires() -> None:
    assert not play(kit(p36=("kick", flat(100))), hits((0.1, 36)), np.random.default_rng(0))[1].any()


def test_cymbals_ring_on_when_they_are_struck_again_and_an_open_hat_until_it_is_closed() -> None:
    drums = kit(
        p49=("crashes", flat(44_100)), p46=("hats", flat(44_100)), p42=("hats", flat(10)), p38=("snare", flat(10))
    )
    groups = list(GROUPS)
    for pitch, group in ((49, "crashes"), (46, "hats")):
        twice = play(drums, hits((0.0, pitch), (0.5, pitch)), np.random.default_rng(0))[groups.index(group)]
        assert twice[33_075] > 1.8 * 10 ** (-0.7 / 20)
    closed = play(drums, hits((0.0, 46), (0.25, 38), (0.5, 42)), np.random.default_rng(0))[groups.index("hats")]
    assert closed[20_000] > 0.9
    assert closed[33_075] < 0.01


def test_a_sound_begins_without_a_step_at_its_attack_and_not_at_what_is_before_it() -> None:
    rng = np.random.default_rng(0)
    attack = np.exp(-np.arange(20_000) / 3_000) * rng.choice([-1.0, 1.0], 20_000)
    # A foot on its way: noise 28 dB below the hit, from 20 ms before it.
    sound = np.concatenate([np.zeros(4_000), 0.04 * rng.uniform(-1, 1, 882), attack])
    shot = one_shot(sound, SAMPLE_RATE_HZ, 0.5)
    assert shot is not None
    begin = int(np.argmax(np.abs(shot.samples) >= 0.1))
    assert begin <= 0.003 * SAMPLE_RATE_HZ
    # The attack itself is as it was.
    assert shot.samples[begin : begin + 1_000] == pytest.approx(attack[:1_000], abs=1e-6)
    assert shot.samples[0] == 0.0
    assert np.abs(shot.samples[:4]).max() < 0.006
