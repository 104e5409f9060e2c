"""Playing: hits and a kit in, the sound before each group's microphone out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from backbeat.drums.midi import Onsets
from backbeat.rendering.bank import SAMPLE_RATE_HZ, Audio
from backbeat.rendering.kits import GROUPS, Kit, Voice, softened

# What is heard after the last hit.
TAIL_S = 1.0

# An open hat rings on when it is struck again, as other cymbals do; the foot stops it, and what is struck closed.
_OPEN_HATS = frozenset({26, 46})
_CLOSED_HATS = frozenset({22, 42, 44})
_ANSWERED = ("kick", "toms")

# So long the wires answer, and so long of it they fade.
_WIRES_SAMPLES, _WIRES_FADE_SAMPLES = 8_820, 4_410

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
    wires = _wires(kit)
    for position, (start, pitch, velocity) in enumerate(zip(starts, onsets.pitch, onsets.velocity, strict=True)):
        if not kit.sounds(int(pitch)):
            continue
        voice = kit.voices[int(pitch)]
        strength = float(velocity) / 127
        sound = _stroke(voice, strength, kit.velocity_power, rng)
        if pitch in _OPEN_HATS:
            sound = _choked(sound, starts, onsets.pitch, position, kit.choke_s)
        _add(heard[order.index(voice.group)], sound, int(start))
        if voice.group in _ANSWERED:
            _add(heard[order.index("snare")], wires * np.float32(strength), int(start))
    return heard


def _wires(kit: Kit) -> Audio:
    """Return how the snare's wires answer the hardest stroke on another drum; nothing, if the kit has no snare."""
    voice = kit.voices.get(38)
    if voice is None or not voice.shots:
        return np.zeros(0, np.float32)
    answer = softened(voice.shots[0].samples[:_WIRES_SAMPLES], 0.6) * np.float32(kit.wires_gain)
    fade = min(_WIRES_FADE_SAMPLES, len(answer))
    answer[len(answer) - fade :] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)
    return answer


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
    """Damp an open hat from where it is closed."""
    for later in range(position + 1, len(starts)):
        begin = int(starts[later] - starts[position])
        if begin >= len(sound):
            break
        if int(pitches[later]) in _CLOSED_HATS and begin > 0:
            damped = sound.copy()
            fall = np.arange(len(sound) - begin, dtype=np.float32) / (choke_s * SAMPLE_RATE_HZ)
            damped[begin:] *= np.exp(-fall)
            return damped
    return sound


def _add(heard: Audio, sound: Audio, start: int) -> None:
    end = min(len(heard), start + len(sound))
    heard[start:end] += sound[: end - start]
