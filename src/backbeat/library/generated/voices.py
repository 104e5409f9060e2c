"""One-shots: a drum synthesizer in which every number of a timbre is drawn, so that two voices are two sounds.

The building blocks are those of drum machines: a sine whose pitch falls, noise through filters, partials that do not
fit together (metal), and saturation. Sounds are arrays of shape (samples,), about 1 at their loudest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import signal

Samples = NDArray[np.float64]

# The modes of a bar and of a circular plate, relative to the lowest: metal, and a skin.
_METAL = np.array([1.0, 1.342, 1.231, 1.654, 1.953, 2.138, 2.712, 3.219, 3.776, 4.407, 5.118, 6.02])
_SKIN = np.array([1.0, 1.593, 2.135, 2.295, 2.653, 2.917])


@dataclass(frozen=True)
class Voice:
    """What is drawn once of an instrument; a hit on it draws only its noise.

    Args:
        sound_class: `kick`, `snare`, …: the key of `VOICES`.
        seed: of everything that makes its timbre.
        semitones: how far its pitch is from what the seed says.
        take: which hit it is: another take has other noise, and is a little higher or lower, longer or shorter.
    """

    sound_class: str
    seed: int
    semitones: float = 0.0
    take: int = 0


@dataclass(frozen=True)
class _Hit:
    timbre: np.random.Generator
    noise: np.random.Generator
    rate: int
    ratio: float
    stretch: float

    def draw(self, low: float, high: float) -> float:
        """Return a number between the two, of the timbre; evenly spread on a scale of ratios."""
        return float(low * (high / low) ** self.timbre.random())

    def time(self, duration_s: float) -> Samples:
        return np.arange(round(duration_s * self.rate)) / self.rate

    def decay(self, time: Samples, decay_s: float) -> Samples:
        """Return an envelope that falls by 60 dB in `decay_s`."""
        return np.asarray(np.exp(time * (-6.908 / (decay_s * self.stretch))))

    def sine(self, frequency_hz: Samples | float, time: Samples, phase: float = 0.0) -> Samples:
        frequency = np.broadcast_to(np.asarray(frequency_hz) * self.ratio, time.shape)
        return np.asarray(np.sin(2 * np.pi * np.cumsum(frequency) / self.rate + phase))

    def hiss(self, count: int, low_hz: float, high_hz: float, order: int = 2) -> Samples:
        """Return band-limited noise, its loudest sample at 1."""
        white = self.noise.standard_normal(count)
        edges = [min(low_hz, 0.4 * self.rate), min(high_hz, 0.45 * self.rate)]
        filtered = signal.sosfilt(signal.butter(order, edges, "bandpass", fs=self.rate, output="sos"), white)
        return _normal(filtered)

    def partials(self, frequencies_hz: Samples, levels: Samples, decays_s: Samples, time: Samples) -> Samples:
        """Return a sum of sines that die away each at its own pace; those above hearing are left out."""
        total = np.zeros_like(time)
        for frequency, level, decay_s in zip(frequencies_hz, levels, decays_s, strict=True):
            if frequency * self.ratio < 0.45 * self.rate:
                phase = self.noise.uniform(0, 2 * np.pi)
                total += level * np.sin(2 * np.pi * frequency * self.ratio * time + phase) * self.decay(time, decay_s)
        return total


def play(voice: Voice, sample_rate_hz: int) -> tuple[Samples, float | None]:
    """Return one hit on a voice, shape (samples,), and its pitch in Hz if it has one."""
    timbre = np.random.default_rng((voice.seed, 0))
    noise = np.random.default_rng((voice.seed, 1, voice.take))
    # No drummer hits twice alike: a take that is not the first is a little higher or lower, longer or shorter.
    swing = noise.choice([-1, 1], 2) * noise.uniform(0.4, 1, 2) if voice.take else np.zeros(2)
    semitones = voice.semitones + 0.8 * swing[0]
    hit = _Hit(timbre, noise, sample_rate_hz, float(2 ** (semitones / 12)), float(1.12 ** swing[1]))
    samples, pitch_hz = VOICES[voice.sound_class](hit)
    fade = round(0.004 * sample_rate_hz)
    samples[-fade:] *= np.linspace(1, 0, fade)
    return _normal(samples), None if pitch_hz is None else pitch_hz * hit.ratio


def _normal(samples: Samples) -> Samples:
    return samples / max(float(np.abs(samples).max(initial=0)), 1e-9)


def _saturated(samples: Samples, drive: float) -> Samples:
    return np.asarray(np.tanh(drive * _normal(samples)) / np.tanh(drive))


def _kick(hit: _Hit) -> tuple[Samples, None]:
    decay_s = hit.draw(0.15, 0.9)
    time = hit.time(decay_s * 1.1)
    low, high, fall_s = hit.draw(38, 75), hit.draw(120, 900), hit.draw(0.006, 0.06)
    sweep = low * (1 - hit.draw(0.01, 0.15) * time / decay_s) + (high - low) * np.exp(-time / fall_s)
    body = hit.sine(sweep, time, hit.draw(0.1, 6)) * hit.decay(time, decay_s)
    click = hit.hiss(len(time), hit.draw(700, 3000), hit.draw(4000, 12000)) * np.exp(-time / hit.draw(0.001, 0.008))
    mixed = body + hit.draw(0.06, 0.6) * click
    return _saturated(mixed, hit.draw(0.5, 5)), None


def _snare(hit: _Hit) -> tuple[Samples, None]:
    decay_s = hit.draw(0.12, 0.6)
    time = hit.time(decay_s * 1.05)
    tone = hit.draw(140, 290)
    skin = hit.partials(
        tone * _SKIN, np.array([1, 0.6, 0.3, 0.3, 0.2, 0.1]), decay_s * hit.draw(0.3, 0.8) / np.sqrt(_SKIN), time
    )
    wires = hit.hiss(len(time), hit.draw(700, 3500), hit.draw(6000, 16000)) * hit.decay(time, decay_s)
    attack = hit.hiss(len(time), 2000, 14000) * np.exp(-time / 0.003)
    return _saturated(_normal(skin) + hit.draw(0.4, 3) * wires + hit.draw(0.1, 0.8) * attack, hit.draw(0.4, 3)), None


def _clap(hit: _Hit) -> tuple[Samples, None]:
    decay_s = hit.draw(0.12, 0.7)
    time = hit.time(decay_s + 0.06)
    noise = hit.hiss(len(time), hit.draw(500, 1500), hit.draw(2500, 9000), 1)
    gap_s, hands = hit.draw(0.006, 0.016), int(hit.draw(2.6, 5.5))
    envelope = np.zeros_like(time)
    for number in range(hands):
        late = time - number * gap_s * hit.draw(0.8, 1.25)
        envelope = np.maximum(envelope, np.where(late >= 0, np.exp(-np.maximum(late, 0) / hit.draw(0.002, 0.006)), 0))
    tail = time - (hands - 1) * gap_s
    envelope = np.maximum(
        envelope, np.where(tail >= 0, hit.draw(0.3, 0.9) * hit.decay(np.maximum(tail, 0), decay_s), 0)
    )
    return noise * envelope, None


def _rim(hit: _Hit) -> tuple[Samples, None]:
    decay_s = hit.draw(0.03, 0.12)
    time = hit.time(decay_s * 1.4)
    base = hit.draw(380, 1100)
    ring = hit.partials(base * np.array([1, 1.52, 2.71, 4.3]), np.array([1, 0.9, 0.6, 0.3]), decay_s * np.ones(4), time)
    click = hit.hiss(len(time), 2000, 12000) * np.exp(-time / hit.draw(0.0006, 0.003))
    return _saturated(_normal(ring) + hit.draw(0.2, 1.2) * click, hit.draw(0.5, 4)), None


def _metal(hit: _Hit, base_hz: float, decay_s: float, time: Samples, hiss: float) -> Samples:
    spread = hit.timbre.uniform(0.94, 1.06, len(_METAL))
    levels = hit.timbre.uniform(0.3, 1, len(_METAL))
    decays = decay_s * hit.timbre.uniform(0.5, 1.1, len(_METAL))
    ring = hit.partials(base_hz * _METAL * spread, levels, decays, time)
    noise = hit.hiss(len(time), hit.draw(4000, 8500), hit.draw(11000, 19000)) * hit.decay(time, decay_s)
    mixed = (1 - hiss) * _normal(ring) + hiss * noise
    highs = signal.butter(2, hit.draw(1500, 7000), "highpass", fs=hit.rate, output="sos")
    return np.asarray(signal.sosfilt(highs, mixed))


def _closed_hat(hit: _Hit) -> tuple[Samples, None]:
    decay_s = hit.draw(0.03, 0.14)
    return _metal(hit, hit.draw(1800, 4200), decay_s, hit.time(decay_s * 1.3), hit.draw(0.3, 0.95)), None


def _open_hat(hit: _Hit) -> tuple[Samples, None]:
    decay_s = hit.draw(0.35, 1.4)
    return _metal(hit, hit.draw(1800, 4200), decay_s, hit.time(decay_s), hit.draw(0.3, 0.95)), None


def _tom(hit: _Hit) -> tuple[Samples, float]:
    decay_s, pitch_hz = hit.draw(0.25, 1.0), hit.draw(75, 260)
    time = hit.time(decay_s)
    bend = 1 + hit.draw(0.05, 0.5) * np.exp(-time / hit.draw(0.01, 0.05))
    body = hit.sine(pitch_hz * bend, time) * hit.decay(time, decay_s)
    skin = hit.partials(pitch_hz * _SKIN[1:], np.array([0.5, 0.3, 0.2, 0.2, 0.1]), decay_s * 0.35 * np.ones(5), time)
    stick = hit.hiss(len(time), 800, 7000) * np.exp(-time / hit.draw(0.002, 0.009))
    return _saturated(body + hit.draw(0.1, 0.9) * skin + hit.draw(0.05, 0.5) * stick, hit.draw(0.4, 3)), pitch_hz


def _crash(hit: _Hit) -> tuple[Samples, None]:
    decay_s = hit.draw(1.6, 3.6)
    time = hit.time(decay_s * 0.8)
    return _metal(hit, hit.draw(500, 1300), decay_s, time, hit.draw(0.5, 0.95)) * (1 - np.exp(-time / 0.002)), None


def _ride(hit: _Hit) -> tuple[Samples, None]:
    decay_s = hit.draw(1.2, 3.0)
    time = hit.time(decay_s * 0.8)
    bell = hit.partials(hit.draw(350, 900) * _METAL, 1 / _METAL, decay_s * np.ones(len(_METAL)), time)
    ping = hit.hiss(len(time), 3000, 12000) * np.exp(-time / 0.006)
    wash = _metal(hit, hit.draw(900, 2400), decay_s, time, hit.draw(0.2, 0.6))
    return _normal(bell) * hit.draw(0.2, 0.8) + 0.5 * _normal(wash) + hit.draw(0.2, 0.7) * ping, None


def _cowbell(hit: _Hit) -> tuple[Samples, float]:
    decay_s, pitch_hz = hit.draw(0.15, 0.6), hit.draw(420, 760)
    time = hit.time(decay_s)
    second = pitch_hz * hit.draw(1.42, 1.56)
    squares = hit.sine(pitch_hz, time) + 0.8 * hit.sine(second, time) + 0.3 * hit.sine(3 * pitch_hz, time)
    stick = hit.hiss(len(time), 1500, hit.draw(5000, 15000)) * np.exp(-time / hit.draw(0.001, 0.008))
    return _saturated(squares, hit.draw(1, 6)) * hit.decay(time, decay_s) + hit.draw(0.1, 0.5) * stick, pitch_hz


def _shaker(hit: _Hit) -> tuple[Samples, None]:
    decay_s, swell_s = hit.draw(0.06, 0.3), hit.draw(0.005, 0.05)
    time = hit.time(decay_s + swell_s)
    grains = hit.hiss(len(time), hit.draw(3000, 7000), hit.draw(9000, 18000))
    return grains * np.minimum(time / swell_s, 1) * hit.decay(np.maximum(time - swell_s, 0), decay_s), None


def _perc(hit: _Hit) -> tuple[Samples, float]:
    decay_s, pitch_hz = hit.draw(0.06, 0.5), hit.draw(180, 1400)
    time = hit.time(decay_s * 1.1)
    modulator = hit.draw(0.3, 6) * np.sin(2 * np.pi * pitch_hz * hit.ratio * hit.draw(1.2, 4.6) * time)
    modulator *= hit.decay(time, decay_s * hit.draw(0.2, 0.8))
    phase = 2 * np.pi * pitch_hz * hit.ratio * time
    stick = hit.hiss(len(time), hit.draw(800, 3000), hit.draw(5000, 15000)) * np.exp(-time / hit.draw(0.001, 0.006))
    return np.sin(phase + modulator) * hit.decay(time, decay_s) + hit.draw(0.05, 0.5) * stick, pitch_hz


def _bass(hit: _Hit) -> tuple[Samples, float]:
    decay_s, pitch_hz = hit.draw(0.6, 2.2), _note(hit, 24, 43)
    time = hit.time(decay_s * 0.9)
    # An oscillator of its own: some cents beside the note, falling a little as it dies away, never a bare sine.
    pitch_hz *= 2 ** (hit.timbre.uniform(-15, 15) / 1200)
    bend = 1 + hit.draw(0.1, 2) * np.exp(-time / hit.draw(0.008, 0.03)) - hit.draw(0.002, 0.012) * time / decay_s
    tone = hit.sine(pitch_hz * bend, time) + hit.draw(0.03, 0.4) * hit.sine(2 * pitch_hz * bend, time, hit.draw(0.1, 6))
    click = hit.hiss(len(time), hit.draw(400, 2500), hit.draw(3000, 9000)) * np.exp(-time / hit.draw(0.002, 0.02))
    mixed = tone * hit.decay(time, decay_s) + hit.draw(0.05, 0.4) * click
    return _saturated(mixed, hit.draw(0.8, 7)), pitch_hz


def _stab(hit: _Hit) -> tuple[Samples, float]:
    decay_s, pitch_hz = hit.draw(0.25, 1.4), _note(hit, 43, 70)
    time = hit.time(decay_s)
    steepness, brightness = hit.draw(0.7, 2), hit.draw(4, 24)
    numbers = np.arange(1, int(brightness) + 1, dtype=np.float64)
    tone = hit.partials(pitch_hz * numbers, numbers**-steepness, decay_s / numbers**0.4, time)
    return tone * (1 - np.exp(-time / hit.draw(0.0008, 0.02))), pitch_hz


def _note(hit: _Hit, low: int, high: int) -> float:
    """Return the frequency of a note drawn between two MIDI numbers, in equal temperament."""
    return float(440 * 2 ** ((hit.timbre.integers(low, high + 1) - 69) / 12))


VOICES: dict[str, Callable[[_Hit], tuple[Samples, float | None]]] = {
    "kick": _kick,
    "snare": _snare,
    "clap": _clap,
    "rim": _rim,
    "closed_hat": _closed_hat,
    "open_hat": _open_hat,
    "tom": _tom,
    "crash": _crash,
    "ride": _ride,
    "cowbell": _cowbell,
    "shaker": _shaker,
    "perc": _perc,
    "bass": _bass,
    "stab": _stab,
}
