"""Loops at a known tempo, tonal ones in a known key: patterns of a style, played on voices of the synthesizer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from backbeat.library.generated.voices import Samples, Voice, play

STEPS_PER_BAR = 16
BEATS_PER_BAR = 4
TONICS = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
_SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
# Degrees of the scale, one chord for each half of a bar or each bar; each begins on the tonic.
_PROGRESSIONS = {
    "major": ((0, 4, 5, 3), (0, 3, 4, 0), (0, 5, 3, 4), (0, 3, 0, 4)),
    "minor": ((0, 5, 2, 6), (0, 3, 4, 0), (0, 5, 3, 4), (0, 6, 5, 4)),
}

# A hit in a step: `X` loud, `x` softer, `.` now and then, `-` none. Sixteen steps are a bar in 4/4.
STYLES: dict[str, tuple[tuple[int, int], dict[str, str]]] = {
    "house": (
        (118, 130),
        {
            "kick": "X---X---X---X---",
            "clap": "----X-------X---",
            "open_hat": "--X---X---X---X-",
            "closed_hat": "x.x.x.x.x.x.x.x.",
        },
    ),
    "techno": (
        (126, 145),
        {
            "kick": "X---X---X---X---",
            "rim": "---.--x----x--.-",
            "closed_hat": "--X---X---X---X-",
            "shaker": "x.xxx.xxx.xxx.xx",
        },
    ),
    "hip hop": (
        (78, 102),
        {
            "kick": "X--.--x-x-X-----",
            "snare": "----X--.----X--.",
            "closed_hat": "x-x-x-x-x-x-x-x-",
            "perc": "-------.------.-",
        },
    ),
    "trap": (
        (130, 160),
        {
            "kick": "X-----x---X--.--",
            "snare": "--------X-------",
            "closed_hat": "x-x-x-xxx-x-xxxx",
            "bass": "X---------x-----",
        },
    ),
    "breaks": (
        (90, 170),
        {
            "kick": "X-X-------XX----",
            "snare": "----X--x-x--X--x",
            "ride": "x-x-x-x-x-x-x-x-",
            "closed_hat": "--.---.---.---.-",
        },
    ),
    "rock": (
        (90, 150),
        {
            "kick": "X-------X-x-----",
            "snare": "----X-------X---",
            "closed_hat": "x-x-x-x-x-x-x-x-",
            "crash": "X---------------",
        },
    ),
    "latin": (
        (90, 128),
        {
            "cowbell": "X---x---X---x-x-",
            "perc": "X--x--X---X-x---",
            "shaker": "x.x.x.x.x.x.x.x.",
            "kick": "X-----X-X-----X-",
        },
    ),
}
# Their pitch is that of the voice, which is not in the key of the loop.
_PITCHED = {"bass", "cowbell", "perc"}
_LEVELS = {"X": 1.0, "x": 0.55, ".": 0.3}


@dataclass(frozen=True)
class Loop:
    """What is drawn of a loop; the same numbers give the same samples.

    Args:
        style: a key of `STYLES`.
        seed: of its pattern, its voices and its notes.
        tempo_bpm: quarter notes a minute.
        bars: of four quarter notes.
        key: `A minor`, or None for drums alone.
        with_drums: whether a tonal loop has drums as well.
        tail_s: what rings on, or is silent, behind the last beat; 0 for a loop that is cut at it.
        kit: of the voices, where it is another one than the seed gives: the same pattern with other samples.
    """

    style: str
    seed: int
    tempo_bpm: float
    bars: int
    key: str | None = None
    with_drums: bool = True
    tail_s: float = 0.0
    kit: int = 0


def play_loop(loop: Loop, sample_rate_hz: int) -> Samples:
    """Return a loop, shape (samples,), at most 1 at its loudest; what rings beyond its end is cut or in the tail."""
    rng = np.random.default_rng((loop.seed, 2))
    step_s = 60 / loop.tempo_bpm * BEATS_PER_BAR / STEPS_PER_BAR
    length = round(loop.bars * STEPS_PER_BAR * step_s * sample_rate_hz)
    out = np.zeros(length + round(loop.tail_s * sample_rate_hz))
    if loop.with_drums:
        _play_drums(out, loop, rng, step_s * sample_rate_hz, sample_rate_hz)
    if loop.key is not None:
        _play_notes(out, loop, np.random.default_rng((loop.seed, 3)), step_s * sample_rate_hz, sample_rate_hz)
    # A cut at the end without a click.
    fade = round(0.002 * sample_rate_hz)
    out[-fade:] *= np.linspace(1, 0, fade)
    return out / max(float(np.abs(out).max()), 1e-9)


def _play_drums(out: Samples, loop: Loop, rng: np.random.Generator, step_samples: float, rate: int) -> None:
    swing = rng.choice([0.0, 0.0, 0.12, 0.2])
    for number, (sound_class, pattern) in enumerate(STYLES[loop.style][1].items()):
        if loop.key is not None and sound_class in _PITCHED:
            continue
        hit, _ = play(Voice(sound_class, loop.seed * 31 + 7 * number + 1_000_003 * loop.kit), rate)
        level = rng.uniform(0.35, 1) if number else 1.0
        for step in range(loop.bars * STEPS_PER_BAR):
            mark = pattern[step % STEPS_PER_BAR]
            # The last bar is often a fill; the soft hits come and go.
            fills = loop.bars > 1 and step >= (loop.bars - 1) * STEPS_PER_BAR + 8 and rng.random() < 0.15
            plays = mark in "Xx" or (mark == "." and rng.random() < 0.4) or fills
            if plays:
                loudness = level * _LEVELS.get(mark, 0.4) * rng.uniform(0.85, 1)
                late = swing * step_samples * (step % 2) + rng.normal(0, 0.012) * step_samples * (step > 0)
                _add(out, hit, round(step * step_samples + max(late, 0)), loudness)


def _play_notes(out: Samples, loop: Loop, rng: np.random.Generator, step_samples: float, rate: int) -> None:
    assert loop.key is not None
    tonic, mode = loop.key.split()
    scale = _SCALES[mode]
    progression = _PROGRESSIONS[mode][rng.integers(4)]
    root = 36 + TONICS.index(tonic)
    kind = rng.choice(["bass", "chords", "melody", "both"])
    changes = 2 * loop.bars if loop.bars <= 2 else loop.bars
    per_chord = loop.bars * STEPS_PER_BAR // changes
    timbre = _Timbre.drawn(rng)
    rhythm = sorted({0, *rng.choice(np.arange(2, per_chord, 2), size=min(2, per_chord // 2 - 1), replace=False)})
    for number in range(changes):
        degree = progression[number % len(progression)]
        begin = number * per_chord
        chord = [root + 12 + _degree(scale, degree + third) for third in (0, 2, 4)]
        if kind in {"bass", "both"}:
            for step in rhythm:
                _add(
                    out,
                    timbre.note(root - 12 * (root > 42) + _degree(scale, degree), 1.6 * step_samples, rate),
                    round((begin + step) * step_samples),
                    0.7,
                )
        if kind in {"chords", "both"}:
            for pitch in chord:
                _add(out, timbre.note(pitch, per_chord * step_samples * 0.9, rate), round(begin * step_samples), 0.35)
        if kind == "melody":
            for step in range(0, per_chord, 2):
                pitch = (
                    chord[rng.integers(3)]
                    if step % 4 == 0 or rng.random() < 0.5
                    else (root + 12 + _degree(scale, degree + int(rng.integers(0, 7))))
                )
                _add(out, timbre.note(pitch + 12, 1.8 * step_samples, rate), round((begin + step) * step_samples), 0.5)
            _add(
                out,
                timbre.note(root + _degree(scale, degree), per_chord * step_samples * 0.9, rate),
                round(begin * step_samples),
                0.4,
            )


@dataclass(frozen=True)
class _Timbre:
    """Of the notes of a loop: how many harmonics, how steep, how they begin and end."""

    harmonics: int
    steepness: float
    attack_s: float
    decay_s: float

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> _Timbre:
        return cls(int(rng.integers(3, 14)), rng.uniform(0.8, 2), rng.uniform(0.002, 0.03), rng.uniform(0.4, 3))

    def note(self, pitch: int, samples: float, rate: int) -> Samples:
        time = np.arange(round(samples)) / rate
        frequency = 440 * 2 ** ((pitch - 69) / 12)
        numbers = np.arange(1, self.harmonics + 1)
        numbers = numbers[numbers * frequency < 0.45 * rate]
        # A geometric series of one complex sine: as cheap as one sine for any number of harmonics.
        turn = np.exp(2j * np.pi * frequency * time)
        tone, power = np.zeros_like(time), np.ones_like(turn)
        for number in numbers:
            power = power * turn
            tone += power.imag * number**-self.steepness
        envelope = np.minimum(time / self.attack_s, 1) * np.exp(-time * 3 / self.decay_s)
        fade = min(len(time), round(0.01 * rate))
        envelope[len(time) - fade :] *= np.linspace(1, 0, fade)
        return np.asarray(tone * envelope)


def _degree(scale: tuple[int, ...], degree: int) -> int:
    return 12 * (degree // 7) + scale[degree % 7]


def _add(out: Samples, sound: Samples, at: int, level: float) -> None:
    count = max(0, min(len(sound), len(out) - at))
    out[at : at + count] += level * sound[:count]
