"""Random kits of the built-in synthesizer: drums and cymbals that were never built.

The voices of the synthetic datasets (`datasets.mini.kits`) are the middle; around them everything is drawn, widely:
tuning, modes, decays, noises, sticks. Metal is drawn anew for hats, ride and crashes of every kit: how many lines its
spectrum has and where, or the square waves of a drum machine instead.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from backbeat.datasets.mini.kits import KITS, Kit, Voice
from backbeat.rendering.bank import SAMPLE_RATE_HZ, OneShot, one_shot

Samples = NDArray[np.float64]
Modes = tuple[tuple[float, float], ...]

PADS: dict[str, tuple[int, ...]] = {
    "kick": (36,),
    "cross_stick": (37,),
    "snare": (38,),
    "snare_rim": (40,),
    "tom_low": (43,),
    "tom_mid": (45,),
    "tom_high": (48,),
    "hat_closed": (42, 22),
    "hat_pedal": (44,),
    "hat_open": (46, 26),
    "crash": (49, 57),
    "ride": (51, 59),
    "bell": (53,),
}
"""The pads of the synthetic kits, each struck at every force."""

FORCES = (0.12, 0.3, 0.5, 0.7, 0.85, 1.0)

# A stream of random numbers of our own: the same seed elsewhere draws other things.
_STREAM = 0x6B697473

# The middle of a kit, and how often; acoustic ones are what most recordings have.
_MIDDLES, _MIDDLE_SHARES = (1, 5, 6, 8), (0.55, 0.15, 0.2, 0.1)

_PERIOD_SAMPLES = 2**16
_BAND_HZ = 125.0 * 2.0 ** np.arange(8)
_DECAY = float(np.log(1000.0))

# Limits of how long noise rings, in seconds to -60 dB: an open hat is never as short as a closed one.
_RING_S = {
    42: (0.03, 0.5), 22: (0.05, 0.6), 44: (0.03, 0.4), 46: (0.7, 3.5), 26: (0.8, 4.0), 49: (1.2, 6.0),
    57: (1.0, 6.0), 51: (0.8, 5.0), 59: (0.9, 5.5), 53: (0.4, 3.5),
}  # fmt: skip
_DRUM_RING_S = (0.015, 0.6)

# How long and how high hats, rides and crashes may ring, in octaves around the middle.
_SHIMMER_OCTAVES = {"hat": (-1.0, 1.2), "ride": (-0.7, 1.6), "crash": (-0.7, 1.4)}
_SHIFT_OCTAVES = {"hat": (-1.0, 0.6), "ride": (-1.2, 0.7), "crash": (-2.0, 0.5)}

_SQUARE_SHARE = 0.2


@dataclass(frozen=True)
class _Metal:
    """One period of the noise of something, (bands, samples), each octave band at an RMS of one."""

    bands: Samples


@dataclass(frozen=True)
class _Build:
    """What the pads of one kit have in common: noises, and ratios on what is alike in them."""

    middle: Kit
    noise: _Metal
    metals: dict[str, _Metal]
    tuning: float
    ring: float
    wires: float
    shimmer: dict[str, float]
    shift_octaves: dict[str, float]
    drive: float


def synthetic_bank(seed: int) -> dict[str, list[OneShot]]:
    """Return a random kit by instrument: the same one for the same seed.

    Args:
        seed: of all draws.
    """
    rng = np.random.default_rng([_STREAM, seed])
    build = _drawn_build(rng)
    shots: dict[str, list[OneShot]] = {}
    for instrument, pitches in PADS.items():
        for pitch in pitches:
            voice = _drawn_voice(build.middle.voice(pitch), pitch, build, rng)
            for force in FORCES:
                shot = one_shot(_driven(_stroke(voice, build, force, rng), build.drive), SAMPLE_RATE_HZ, force)
                if shot is not None:
                    shots.setdefault(instrument, []).append(shot)
    return shots


def _octaves(rng: Generator, low: float, high: float) -> float:
    return float(2.0 ** rng.uniform(low, high))


def _drawn_build(rng: Generator) -> _Build:
    middle = KITS[int(rng.choice(_MIDDLES, p=_MIDDLE_SHARES))]
    squares = rng.random() < (0.7 if middle.metal_hz else _SQUARE_SHARE)
    return _Build(
        middle=middle,
        noise=_noise(rng, np.ones(_PERIOD_SAMPLES // 2 + 1)),
        metals={kind: _noise(rng, _squares(rng) if squares else _lines(rng)) for kind in _SHIMMER_OCTAVES},
        tuning=_octaves(rng, -0.45, 0.5),
        ring=_octaves(rng, -1.0, 1.3),
        wires=_octaves(rng, -1.0, 0.8),
        shimmer={kind: _octaves(rng, *_SHIMMER_OCTAVES[kind]) for kind in _SHIMMER_OCTAVES},
        shift_octaves={kind: float(rng.uniform(*_SHIFT_OCTAVES[kind])) for kind in _SHIFT_OCTAVES},
        drive=_octaves(rng, 0.0, 2.5) if rng.random() < 0.5 else 0.0,
    )


def _lines(rng: Generator) -> Samples:
    """Return the spectrum of bronze: inharmonic lines, few or many, high or low, over more or less of a hiss."""
    frequency_hz = np.fft.rfftfreq(_PERIOD_SAMPLES, 1 / SAMPLE_RATE_HZ)
    count = round(np.exp(rng.uniform(np.log(40), np.log(1500))))
    span_octaves, crowding = rng.uniform(4.0, 7.5), rng.uniform(0.6, 2.2)
    at_hz = 18_000 * 2 ** (-span_octaves * rng.random(count) ** crowding)
    lines = np.full(len(frequency_hz), np.exp(rng.uniform(np.log(0.01), np.log(0.4))))
    lines[np.round(at_hz * _PERIOD_SAMPLES / SAMPLE_RATE_HZ).astype(int)] += rng.exponential(1.0, count)
    return lines


def _squares(rng: Generator) -> Samples:
    """Return the spectrum of a drum machine's metal: the harmonics of some square waves."""
    frequency_hz = np.fft.rfftfreq(_PERIOD_SAMPLES, 1 / SAMPLE_RATE_HZ)
    lines = np.full(len(frequency_hz), rng.uniform(0.005, 0.05))
    for base_hz in np.exp(rng.uniform(np.log(160), np.log(1100), int(rng.integers(3, 8)))):
        at_hz = base_hz * np.arange(1, 18_000 / base_hz, 2)
        lines[np.round(at_hz * _PERIOD_SAMPLES / SAMPLE_RATE_HZ).astype(int)] += 1.0
    return lines


def _noise(rng: Generator, lines: Samples) -> _Metal:
    """Return a noise with these lines as octave bands, each a little louder or softer than its neighbors."""
    frequency_hz = np.fft.rfftfreq(_PERIOD_SAMPLES, 1 / SAMPLE_RATE_HZ)
    spectrum = lines * (rng.standard_normal(len(lines)) + 1j * rng.standard_normal(len(lines)))
    octaves = np.log2(np.maximum(frequency_hz, 1.0) / _BAND_HZ[:, np.newaxis])
    bands = np.fft.irfft(spectrum * np.cos(np.clip(octaves, -1, 1) * np.pi / 2))
    bands /= np.sqrt((bands**2).mean(axis=1, keepdims=True)) + 1e-12
    return _Metal(bands * 10 ** (rng.uniform(-4, 4, (len(bands), 1)) / 20))


def _drawn_voice(voice: Voice, pitch: int, build: _Build, rng: Generator) -> Voice:
    """Return a voice around this one."""
    metal = voice.source != "noise"
    ring = build.shimmer[voice.source] if metal else build.ring
    shift = build.shift_octaves[voice.source] if metal else 0.0
    wires = build.wires if pitch in (38, 40) else 1.0
    tuning = _octaves(rng, -0.6, 0.6) if metal else build.tuning * _octaves(rng, -0.12, 0.12)
    low_s, high_s = _RING_S.get(pitch, _DRUM_RING_S)
    return replace(
        voice,
        frequency_hz=voice.frequency_hz * tuning,
        modes=_drawn_modes(voice.modes, 0.12 if metal else 0.06, rng),
        tone_s=voice.tone_s * ring * _octaves(rng, -0.4, 0.4),
        bend=voice.bend * _octaves(rng, -1.3, 0.9),
        noise=voice.noise * wires * _octaves(rng, -1.0, 1.0),
        center_hz=float(np.clip(voice.center_hz * 2 ** (shift + rng.uniform(-0.5, 0.5)), 500, 14_000)),
        width_octaves=voice.width_octaves * _octaves(rng, -0.6, 0.6),
        noise_s=float(np.clip(voice.noise_s * ring**0.7 * _octaves(rng, -0.6, 0.6), low_s, high_s)),
        stick=voice.stick * _octaves(rng, -2.0, 1.3),
    )


def _drawn_modes(modes: Modes, jitter: float, rng: Generator) -> Modes:
    lowest, *higher = modes
    drawn = [(ratio * (1 + rng.uniform(-jitter, jitter)), gain * _octaves(rng, -1.5, 1.0)) for ratio, gain in higher]
    return (lowest, *drawn)


def _stroke(voice: Voice, build: _Build, force: float, rng: Generator) -> Samples:
    """Strike a pad once; a harder stroke is brighter, bends further and has more stick in it."""
    noise_s = voice.noise_s * (0.75 + 0.35 * force)
    length_s = max(voice.tone_s, 1.3 * noise_s + voice.bursts_s[-1], 0.05)
    sound = np.zeros(round(length_s * SAMPLE_RATE_HZ))
    _add_modes(sound, voice, force, rng)
    metal = build.metals[voice.source] if voice.source != "noise" else build.noise
    center_hz = voice.center_hz * 2 ** (1.2 * (force - 0.8) + 0.08 * rng.standard_normal())
    for start_s in voice.bursts_s:
        _add_noise(
            sound[round(start_s * SAMPLE_RATE_HZ) :], metal, voice, center_hz, noise_s, build.middle.attack_s, rng
        )
    _add_click(sound, build, 0.25 * voice.stick * build.middle.stick * force, rng)
    return sound


def _add_modes(sound: Samples, voice: Voice, force: float, rng: Generator) -> None:
    if not voice.tone_s:
        return
    time_s = np.arange(len(sound)) / SAMPLE_RATE_HZ
    bend_s = 0.011 if voice.bend > 0.5 else 0.03
    bent_s = time_s + voice.bend * force * bend_s * (1 - np.exp(-time_s / bend_s))
    frequency_hz = voice.frequency_hz * (1 + 0.008 * rng.standard_normal())
    for order, (ratio, gain) in enumerate(voice.modes):
        if frequency_hz * ratio > 0.4 * SAMPLE_RATE_HZ:
            continue
        amplitude = gain * force ** (0.5 * order) * rng.uniform(0.75, 1.25)
        fall = np.exp(-_DECAY / (voice.tone_s * ratio**-0.8) * time_s)
        sound += amplitude * fall * np.sin(2 * np.pi * frequency_hz * ratio * bent_s)


def _add_noise(
    sound: Samples, metal: _Metal, voice: Voice, center_hz: float, noise_s: float, attack_s: float, rng: Generator
) -> None:
    if not voice.noise:
        return
    octaves = np.log2(_BAND_HZ / center_hz)
    gains = np.exp(-0.5 * (octaves / voice.width_octaves) ** 2)
    gains *= 0.5 * voice.noise / np.sqrt((gains**2).sum())
    decays_s = noise_s * 2.0 ** np.clip(-0.35 * octaves, -0.7, 0.45)
    time_s = np.arange(len(sound)) / SAMPLE_RATE_HZ
    start = int(rng.integers(_PERIOD_SAMPLES))
    at = np.arange(start, start + len(sound)) % _PERIOD_SAMPLES
    noise = np.zeros(len(sound))
    for band, gain, decay_s in zip(metal.bands, gains, decays_s, strict=True):
        if gain > 1e-3 * gains.max():
            noise += gain * np.exp(-_DECAY / decay_s * time_s) * band[at]
    sound += noise * (1 - np.exp(-time_s / attack_s))


def _add_click(sound: Samples, build: _Build, gain: float, rng: Generator) -> None:
    length = min(400, len(sound))
    start = int(rng.integers(_PERIOD_SAMPLES - length))
    click = build.noise.bands[4:7, start : start + length].sum(axis=0)
    sound[:length] += gain * click * np.exp(-np.arange(length) / (0.0012 * SAMPLE_RATE_HZ))


def _driven(sound: Samples, drive: float) -> Samples:
    """Saturate as a tape or an old sampler does; 0 leaves the sound as it is."""
    peak = float(np.abs(sound).max(initial=0.0))
    return np.tanh(drive * sound / peak) if drive and peak else sound
