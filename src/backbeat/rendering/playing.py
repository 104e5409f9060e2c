"""Playing: hits and a kit in, the sound before each group's microphone out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from backbeat.drums.midi import Onsets
from backbeat.rendering.bank import SAMPLE_RATE_HZ, Audio
from backbeat.rendering.kits import GROUPS, Kit, Voice, softened

# What is heard after the last hit.
TAIL_S = 1.0

_OPEN_HATS = frozenset({26, 46})
_HATS = frozenset({22, 42, 44, 26, 46})
_ANSWERED = ("kick", "toms")

# No two strokes are alike.
_STROKE_DB = 0.7
_SHOTS_NEAR = 0.12


def play(kit: Kit, onsets: Onsets, rng: np.random.Generator) -> NDArray[np.float32]:
    """Play hits on a kit.

    Args:
        kit: the drum set.
        onsets: the hits; a pitch that the kit lacks is silent.
        rng: which of the like sounds a hit gets, and how evenly it is struck.

    Returns:
        (groups, samples) at 44.1 kHz, in the order of `GROUPS`; a hit begins at the sample nearest to its time.
    """
    samples = round((float(onsets.onset_s[-1]) + TAIL_S) * SAMPLE_RATE_HZ)
    order = list(GROUPS)
    heard = np.zeros((len(order), samples), np.float32)
    starts = np.rint(onsets.onset_s.astype(np.float64) * SAMPLE_RATE_HZ).astype(np.int64)
    wires = kit.voices.get(38)
    for position, (start, pitch, velocity) in enumerate(zip(starts, onsets.pitch, onsets.velocity, strict=True)):
        if not kit.sounds(int(pitch)):
            continue
        voice = kit.voices[int(pitch)]
        strength = float(velocity) / 127
        sound = _stroke(voice, strength, kit.velocity_power, rng)
        if pitch in _OPEN_HATS:
            sound = _choked(sound, starts, onsets.pitch, position, kit.choke_s)
        _add(heard[order.index(voice.group)], sound, int(start))
        if voice.group in _ANSWERED and wires is not None and wires.shots:
            answer = softened(wires.shots[0].samples[:8_820], 0.6) * (kit.wires_gain * strength)
            _add(heard[order.index("snare")], answer.astype(np.float32), int(start))
    return heard


def _stroke(voice: Voice, strength: float, velocity_power: float, rng: np.random.Generator) -> Audio:
    forces = np.array([shot.force for shot in voice.shots])
    distance = np.abs(forces - strength)
    near = np.flatnonzero(distance <= distance.min() + _SHOTS_NEAR)
    shot = voice.shots[int(rng.choice(near))]
    gain = voice.gain * strength**velocity_power * 10 ** (rng.uniform(-_STROKE_DB, _STROKE_DB) / 20)
    return np.asarray(softened(shot.samples, shot.force - strength) * np.float32(gain))


def _choked(
    sound: Audio, starts: NDArray[np.int64], pitches: NDArray[np.uint8], position: int, choke_s: float
) -> Audio:
    """Damp an open hat from the next stroke on the hats."""
    for later in range(position + 1, len(starts)):
        begin = int(starts[later] - starts[position])
        if begin >= len(sound):
            break
        if int(pitches[later]) in _HATS and begin > 0:
            damped = sound.copy()
            fall = np.arange(len(sound) - begin, dtype=np.float32) / (choke_s * SAMPLE_RATE_HZ)
            damped[begin:] *= np.exp(-fall)
            return damped
    return sound


def _add(heard: Audio, sound: Audio, start: int) -> None:
    end = min(len(heard), start + len(sound))
    heard[start:end] += sound[: end - start]
