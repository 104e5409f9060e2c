"""Kits: eight synthetic drum sets that turn strokes into 44.1 kHz mono audio.

A stroke is synthesized anew every time; there are no samples. It is a sum of damped modes (the head of a drum, the
bell of a cymbal) and of noise in seven octave bands, each with its own decay. The noise is smooth for wires, sticks
and brushes; for hats, rides and crashes it is a thicket of random inharmonic lines, different in every kit; in the
electronic kit `metal_hz` makes it the harmonics of six square waves. Force changes the sound and not just its level:
a harder stroke is brighter, bends further down and has more stick in it, and no two strokes are quite alike.

Everything is float64: machines differ in the last bits of a sine, and rounding to 16 bits hides that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from backbeat.datasets.mini.grooves import SOUND, generator

Audio = NDArray[np.float64]

SAMPLE_RATE_HZ = 44_100
_BAND_HZ = 250.0 * 2.0 ** np.arange(7)
_BANK_SAMPLES = 2**16
_TIME_S = np.arange(10 * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
WIRES = 0  # not a pad: the snare wires, which buzz along with the other drums
_LINES = {"noise": 0, "hat": 500, "ride": 260, "crash": 700}
_CLICK_SAMPLES, _CLICK_S = 400, 0.0012
_T60 = float(np.log(1000.0))

_HEAD = ((1.0, 1.0), (1.59, 0.45), (2.14, 0.3), (2.65, 0.16), (3.16, 0.1))
_RIM = ((1.0, 0.5), (1.59, 0.5), (2.65, 0.5), (4.2, 0.35), (6.1, 0.2))
_WOOD = ((1.0, 1.0), (1.47, 0.6), (2.31, 0.4))
_BELL = ((1.0, 0.6), (1.51, 0.5), (2.41, 1.0), (3.37, 0.5), (4.63, 0.3))
_SINE = ((1.0, 1.0),)


@dataclass(frozen=True)
class Voice:
    """What one pad sounds like at full force. Decays are times to -60 dB.

    Args:
        level: linear gain of the whole.
        frequency_hz: lowest mode; `modes` are its (ratio, gain).
        tone_s: decay of the lowest mode, higher ones are shorter; 0 for no modes.
        bend: how far above its pitch a hard stroke begins, as a fraction of it.
        source: which noise.
        noise: gain of the noise.
        center_hz: where its spectrum peaks; `width_octaves` to either side it is 4 dB down.
        noise_s: decay of the noise at its center.
        stick: gain of the click at the onset.
        room: how much of it reaches the room microphones.
        bursts_s: when the noise starts, again and again for a clap.
    """

    level: float
    frequency_hz: float = 100.0
    modes: tuple[tuple[float, float], ...] = _HEAD
    tone_s: float = 0.0
    bend: float = 0.1
    source: str = "noise"
    noise: float = 0.0
    center_hz: float = 4000.0
    width_octaves: float = 1.2
    noise_s: float = 0.1
    stick: float = 0.2
    room: float = 0.5
    bursts_s: tuple[float, ...] = (0.0,)


_KICK = Voice(1.0, 58, _HEAD[:3], 0.42, 1.3, noise=0.10, center_hz=2500, noise_s=0.05, stick=0.35, room=0.35)
_SNARE = Voice(0.75, 188, _HEAD, 0.26, 0.12, noise=0.55, center_hz=3800, width_octaves=1.5, noise_s=0.26, stick=0.4)
_TOM = Voice(0.8, 100, _HEAD, 0.6, 0.25, noise=0.08, center_hz=1500, noise_s=0.12, stick=0.3)
_HAT = Voice(0.34, source="hat", noise=1.0, center_hz=8500, width_octaves=0.9, noise_s=0.10, stick=0.3, room=0.45)
_RIDE = Voice(0.30, 2900, _BELL[:3], 0.5, 0.0, "ride", 0.55, 5000, 1.3, 1.6, 0.5, 0.6)
_CRASH = Voice(0.42, source="crash", noise=1.0, center_hz=5200, width_octaves=1.4, noise_s=2.0, stick=0.2, room=0.7)

ACOUSTIC: dict[int, Voice] = {
    WIRES: Voice(1.0, noise=1.0, center_hz=3200, width_octaves=1.5, noise_s=0.3, stick=0.0, room=0.5),
    36: _KICK,
    38: _SNARE,
    40: replace(_SNARE, level=0.85, modes=_RIM, tone_s=0.3, noise=0.45, center_hz=4600, stick=1.2),
    37: Voice(0.5, 1020, _WOOD, 0.07, 0.0, noise=0.25, center_hz=2200, noise_s=0.05, stick=0.8),
    48: replace(_TOM, frequency_hz=158),
    50: replace(_TOM, frequency_hz=158, modes=_RIM, noise=0.12, center_hz=2600, stick=0.9),
    45: replace(_TOM, frequency_hz=118, tone_s=0.7),
    47: replace(_TOM, frequency_hz=118, modes=_RIM, tone_s=0.7, noise=0.12, center_hz=2300, stick=0.9),
    43: replace(_TOM, frequency_hz=84, tone_s=0.85),
    58: replace(_TOM, frequency_hz=84, modes=_RIM, tone_s=0.85, noise=0.12, center_hz=2000, stick=0.9),
    42: _HAT,
    22: replace(_HAT, level=0.42, center_hz=6200, width_octaves=1.2, noise_s=0.16, stick=0.5),
    46: replace(_HAT, level=0.36, center_hz=7000, width_octaves=1.1, noise_s=0.9),
    26: replace(_HAT, level=0.42, center_hz=5600, width_octaves=1.3, noise_s=1.2, stick=0.4),
    44: replace(_HAT, level=0.36, center_hz=4800, width_octaves=1.2, noise_s=0.09, stick=0.15),
    49: _CRASH,
    55: replace(_CRASH, level=0.5, center_hz=4300, width_octaves=1.6, noise_s=2.3),
    57: replace(_CRASH, center_hz=4000, noise_s=1.7),
    52: replace(_CRASH, level=0.5, center_hz=3100, width_octaves=1.5, noise_s=1.4),
    51: _RIDE,
    59: replace(_RIDE, level=0.36, tone_s=0.3, noise=0.9, center_hz=4000, width_octaves=1.5, noise_s=2.0),
    53: replace(_RIDE, level=0.36, frequency_hz=860, modes=_BELL, tone_s=1.1, noise=0.3),
    39: Voice(0.6, noise=1.0, center_hz=1400, width_octaves=0.7, noise_s=0.16, stick=0.0, bursts_s=(0.0, 0.011, 0.023)),
    54: replace(_HAT, level=0.4, center_hz=9500, width_octaves=0.6, noise_s=0.14, bursts_s=(0.0, 0.014)),
    56: Voice(0.4, 562, ((1.0, 1.0), (1.504, 0.9), (3.0, 0.3), (4.51, 0.25)), 0.3, 0.0, stick=0.3),
}
"""Roland pitch to voice; every kit starts from these."""

_ANALOG_TOM = replace(_TOM, modes=_SINE, tone_s=0.5, bend=0.35, noise=0.05, stick=0.05)
_ANALOG_SNARE = replace(_SNARE, modes=((1.0, 1.0), (1.83, 0.6)), tone_s=0.16, center_hz=6000, noise_s=0.2, stick=0.1)
_ANALOG_HZ = {48: 165, 50: 175, 45: 122, 47: 130, 43: 82}
_ANALOG: dict[int, Voice] = {
    36: replace(_KICK, frequency_hz=50, modes=_SINE, tone_s=1.1, bend=1.6, noise=0.0, stick=0.15, room=0.1),
    38: _ANALOG_SNARE,
    40: replace(_ANALOG_SNARE, frequency_hz=225, noise=0.75, noise_s=0.28, stick=0.2),
    **{pitch: replace(_ANALOG_TOM, frequency_hz=hz) for pitch, hz in _ANALOG_HZ.items()},
}
_DANCE_SNARE = replace(_SNARE, modes=((1.0, 1.0), (1.5, 0.6)), tone_s=0.18, bend=0.5, noise=0.8, center_hz=5000)
_DANCE_TOM = replace(_TOM, modes=_SINE, tone_s=0.4, bend=0.8, noise=0.2, stick=0.05)
_DANCE_HZ = {48: 190, 50: 205, 45: 145, 47: 155, 43: 105, 58: 112}
_DANCE: dict[int, Voice] = {
    36: replace(_KICK, frequency_hz=54, modes=_SINE, tone_s=0.5, bend=4.0, noise_s=0.02, stick=0.8, room=0.1),
    38: _DANCE_SNARE,
    40: replace(_DANCE_SNARE, frequency_hz=205, noise=1.0, center_hz=6000, noise_s=0.3),
    **{pitch: replace(_DANCE_TOM, frequency_hz=hz) for pitch, hz in _DANCE_HZ.items()},
}
_BRUSHES: dict[int, Voice] = {
    36: replace(_KICK, stick=0.05, noise=0.03, center_hz=900),
    38: replace(_SNARE, tone_s=0.14, level=0.8, noise=0.9, center_hz=3000, width_octaves=1.8, noise_s=0.22, stick=0.02),
    40: replace(_SNARE, tone_s=0.2, level=0.9, noise=0.9, center_hz=4200, width_octaves=1.8, noise_s=0.3, stick=0.1),
}


@dataclass(frozen=True)
class Kit:
    """A drum set, its microphones and its room.

    Args:
        number: E-GMD's kit number, the suffix of the file names.
        name: E-GMD's `kit_name`.
        voices: pads that differ from `ACOUSTIC`.
        pads: canonical pitch to the pitch that this kit plays and writes instead.
        tuning: ratio on the pitch of the drums.
        ring: ratio on the decays of the drums.
        shimmer: ratio on the decays of the cymbals.
        brightness_octaves: shift of every noise spectrum.
        stick: ratio on the clicks.
        dynamics: exponent from force to amplitude.
        attack_s: time in which a noise comes up.
        buzz: how much the snare wires answer to kick and toms.
        metal_hz: square waves that make the cymbals; none for cymbals of bronze.
        room: gain of the room microphones.
        room_s: decay of the room to -60 dB.
        low_pass_hz, high_pass_hz: limits of the recording.
        drive: gain into the saturation.
        squeeze: depth of the compression, as the exponent on gain above the threshold.
        hiss_db: level of the noise floor in dB of full scale.
        tail_s: how long the recording goes on after the last stroke.
    """

    number: int
    name: str
    voices: Mapping[int, Voice] = field(default_factory=dict)
    pads: Mapping[int, int] = field(default_factory=dict)
    tuning: float = 1.0
    ring: float = 1.0
    shimmer: float = 1.0
    brightness_octaves: float = 0.0
    stick: float = 1.0
    dynamics: float = 1.3
    attack_s: float = 0.0005
    buzz: float = 0.05
    metal_hz: tuple[float, ...] = ()
    room: float = 0.2
    room_s: float = 0.35
    low_pass_hz: float = 20_000.0
    high_pass_hz: float = 25.0
    drive: float = 1.0
    squeeze: float = 0.3
    hiss_db: float = -72.0
    tail_s: float = 0.8

    def voice(self, pitch: int) -> Voice:
        """What the pad of a Roland pitch sounds like in this kit."""
        return self.voices.get(pitch, ACOUSTIC[pitch])


_KITS = (
    Kit(1, "Acoustic Tight"),
    Kit(2, "Roomy Rock", tuning=0.88, ring=1.3, shimmer=1.15, brightness_octaves=-0.15, stick=0.8, buzz=0.09, room=0.75,
        room_s=1.1, drive=1.3, squeeze=0.45, hiss_db=-64, tail_s=1.2),
    Kit(3, "Jazz", tuning=1.34, ring=1.6, shimmer=1.4, brightness_octaves=-0.45, stick=0.55, dynamics=1.1, buzz=0.14,
        room=0.4, room_s=0.6, drive=0.8, squeeze=0.1, hiss_db=-66, tail_s=1.0),
    Kit(4, "Speed Metal", tuning=0.8, ring=0.6, shimmer=0.8, brightness_octaves=0.45, stick=2.6, dynamics=0.9,
        buzz=0.03, room=0.15, room_s=0.25, high_pass_hz=45, drive=2.0, squeeze=0.65, tail_s=0.7),
    Kit(5, "808 Style", _ANALOG, {37: 39, 58: 56}, shimmer=0.6, brightness_octaves=0.2, stick=0.3, dynamics=0.6,
        buzz=0.0, metal_hz=(205.3, 304.4, 369.6, 522.7, 540.0, 800.0), room=0.05, room_s=0.2, drive=1.2, squeeze=0.2,
        hiss_db=-80, tail_s=0.9),
    Kit(6, "909 Style", _DANCE, {37: 39}, ring=0.9, shimmer=0.7, brightness_octaves=0.35, stick=1.2, dynamics=0.7,
        buzz=0.0, room=0.25, room_s=0.8, low_pass_hz=15_000, drive=1.8, squeeze=0.5),
    Kit(7, "Cassette (w/ Tambourine HH)", {}, {44: 54}, tuning=0.95, ring=0.75, shimmer=0.8, brightness_octaves=-0.5,
        buzz=0.1, room=0.35, room_s=0.3, low_pass_hz=5200, high_pass_hz=90, drive=2.8, squeeze=0.7, hiss_db=-48,
        tail_s=0.6),
    Kit(8, "Brushes", _BRUSHES, tuning=1.15, ring=1.2, shimmer=1.2, brightness_octaves=-0.25, stick=0.15, dynamics=0.95,
        attack_s=0.005, buzz=0.12, room=0.3, room_s=0.7, drive=0.9, squeeze=0.15, hiss_db=-62, tail_s=0.9),
)  # fmt: skip
KITS: dict[int, Kit] = {kit.number: kit for kit in _KITS}
ALL_KITS = tuple(KITS)


def strike(kit: Kit, pitch: int, velocity: int, rng: Generator) -> Audio:
    """Hit a pad once.

    Args:
        kit: the drum set.
        pitch: Roland pitch as the kit writes it, after its `pads`.
        velocity: 1 to 127.
        rng: what makes this stroke differ from the next.

    Returns:
        (samples,) mono at 44.1 kHz, as the close microphone has it; sample 0 is the onset.
    """
    voice, force = kit.voice(pitch), velocity / 127
    metal = voice.source != "noise"
    tone_s = voice.tone_s * (kit.shimmer if metal else kit.ring)
    noise_s = voice.noise_s * (kit.shimmer if metal else kit.ring**0.5) * (0.75 + 0.35 * force)
    length_s = max(tone_s, 1.4 * noise_s + voice.bursts_s[-1], 0.05)
    sound = np.zeros(round(length_s * SAMPLE_RATE_HZ))
    if tone_s:
        _add_modes(sound, voice, 2**kit.brightness_octaves if metal else kit.tuning, tone_s, force, rng)
    if voice.noise:
        center_hz = voice.center_hz * 2 ** (kit.brightness_octaves + 1.2 * (force - 0.8) + 0.08 * rng.standard_normal())
        for start_s in voice.bursts_s:
            start = round(start_s * SAMPLE_RATE_HZ)
            _add_noise(sound[start:], kit, voice, center_hz, noise_s, rng)
    start = int(rng.integers(_BANK_SAMPLES - _CLICK_SAMPLES))
    click = _bank(kit.number, "noise")[3:6, start : start + _CLICK_SAMPLES].sum(axis=0)
    click *= np.exp(-_TIME_S[:_CLICK_SAMPLES] / _CLICK_S)
    sound[:_CLICK_SAMPLES] += 0.25 * voice.stick * kit.stick * force * click
    return np.asarray(sound * (voice.level * force**kit.dynamics * 10 ** (0.05 * rng.uniform(-1.2, 1.2))))


def _add_modes(sound: Audio, voice: Voice, tuning: float, tone_s: float, force: float, rng: Generator) -> None:
    """Add the damped modes; the harder the stroke, the more of the higher ones, and the further the pitch falls."""
    frequency_hz = voice.frequency_hz * tuning * (1 + 0.008 * rng.standard_normal())
    bend_s = 0.011 if voice.bend > 0.5 else 0.03
    for order, (ratio, gain) in enumerate(voice.modes):
        amplitude = gain * force ** (0.5 * order) * rng.uniform(0.75, 1.25)
        decay = _decay(amplitude, tone_s * ratio**-0.8, len(sound))
        t = _TIME_S[: len(decay)]
        bent = t + voice.bend * force * bend_s * (1 - np.exp(-t / bend_s))
        sound[: len(decay)] += decay * np.sin(2 * np.pi * frequency_hz * ratio * bent)


def _add_noise(sound: Audio, kit: Kit, voice: Voice, center_hz: float, noise_s: float, rng: Generator) -> None:
    """Add the noise bands; high bands decay faster than low ones."""
    octaves = np.log2(_BAND_HZ / center_hz)
    gains = np.exp(-0.5 * (octaves / voice.width_octaves) ** 2)
    gains *= 0.5 * voice.noise / np.sqrt((gains**2).sum())
    decays_s = noise_s * 2.0 ** np.clip(-0.35 * octaves, -0.7, 0.45)
    start = int(rng.integers(_BANK_SAMPLES))
    noise = np.zeros(len(sound))
    for band, gain, decay_s in zip(_bank(kit.number, voice.source), gains, decays_s, strict=True):
        decay = _decay(gain, decay_s, len(sound))
        decay *= band.take(np.arange(start, start + len(decay)), mode="wrap")
        noise[: len(decay)] += decay
    noise *= 1 - np.exp(-_TIME_S[: len(noise)] / kit.attack_s)
    sound += noise


def _decay(amplitude: float, decay_s: float, longest_samples: int) -> Audio:
    """An exponential decay for as long as it stays above -60 dB of full scale."""
    audible_s = decay_s * max(0.0, 1 + np.log(amplitude) / _T60)
    decay = np.exp(-_T60 / decay_s * _TIME_S[: min(longest_samples, round(audible_s * SAMPLE_RATE_HZ))])
    decay *= amplitude
    return decay


@cache
def _bank(kit_number: int, source: str) -> Audio:
    """One period of a noise as (bands, samples), each octave band at an RMS of one."""
    rng = generator(SOUND, kit_number, list(_LINES).index(source))
    frequency_hz = np.fft.rfftfreq(_BANK_SAMPLES, 1 / SAMPLE_RATE_HZ)
    spectrum = rng.standard_normal(len(frequency_hz)) + 1j * rng.standard_normal(len(frequency_hz))
    metal_hz = KITS[kit_number].metal_hz
    if source != "noise":
        if metal_hz:
            lines_hz = np.concatenate([f * np.arange(1, 18_000 / f, 2) for f in metal_hz])
        else:
            lines_hz = 18_000 * 2 ** (-7 * rng.random(_LINES[source]) ** 1.5)
        lines = np.zeros(len(frequency_hz))
        lines[np.round(lines_hz * _BANK_SAMPLES / SAMPLE_RATE_HZ).astype(int)] = 1.0
        spectrum *= lines + (0.02 if metal_hz else 0.08)
    octaves = np.log2(np.maximum(frequency_hz, 1.0) / _BAND_HZ[:, np.newaxis])
    bands = np.fft.irfft(spectrum * np.cos(np.clip(octaves, -1, 1) * np.pi / 2))
    return np.asarray(bands / np.sqrt((bands**2).mean(axis=1, keepdims=True)))
