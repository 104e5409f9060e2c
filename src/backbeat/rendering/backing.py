"""Backing: a band without a drummer, so that drums can be heard inside a song.

Bass, chords and a tune over four chords, made up at random and played by the melodic programs of a SoundFont. It is no
music that anybody would want; its onsets, basses and sustained notes are what a drum transcriber must not mistake.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import mido
import numpy as np
import soundfile
from numpy.random import Generator

from backbeat.rendering.bank import SAMPLE_RATE_HZ, Audio
from backbeat.rendering.soundfonts import play_midi

LENGTH_S = 40.0

_TICKS_PER_BEAT = 480
_BEATS_PER_BAR = 4
_BASS = range(32, 40)
_CHORDS = (*range(8), *range(16, 20), *range(24, 32), *range(48, 52), *range(88, 92))
_TUNE = (*range(11, 14), *range(40, 42), *range(56, 60), *range(64, 69), 73, *range(80, 84))
# Degrees of the scale that a bar stands on; the commonest loops of popular songs and the blues.
_PROGRESSIONS = ((0, 4, 5, 3), (5, 3, 0, 4), (0, 5, 3, 4), (0, 3, 0, 4), (1, 4, 0, 0), (0, 0, 3, 0))
_SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10))


def make_backing(font: Path, rng: Generator) -> Audio:
    """Return about 40 seconds of backing, mono at 44.1 kHz, of peak 1.

    Args:
        font: a SoundFont with the programs of General MIDI.
        rng: where everything is drawn from.

    Raises:
        ConfigError: if FluidSynth is missing.
        AudioError: if it fails.
    """
    tempo_bpm = float(rng.uniform(65, 170))
    beats = int(LENGTH_S * tempo_bpm / 60) // _BEATS_PER_BAR * _BEATS_PER_BAR
    song = mido.MidiFile(ticks_per_beat=_TICKS_PER_BEAT)
    song.tracks.append(mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=round(60e6 / tempo_bpm))]))
    root = int(rng.integers(36, 48))
    scale = _SCALES[int(rng.integers(2))]
    roots = _PROGRESSIONS[int(rng.integers(len(_PROGRESSIONS)))]
    for channel, (programs, part) in enumerate(((_BASS, _bass), (_CHORDS, _chords), (_TUNE, _tune))):
        notes = part(beats, roots, rng)
        program = int(rng.choice(np.array(programs)))
        volume = int(rng.integers(50, 120))
        song.tracks.append(_track(channel, program, volume, notes, root, scale))
    with tempfile.TemporaryDirectory(prefix="backbeat-") as folder:
        midi, recording = Path(folder) / "song.mid", Path(folder) / "song.wav"
        song.save(str(midi))
        play_midi(font, midi, recording)
        samples, _ = soundfile.read(recording, dtype="float32", always_2d=True)
    mono = samples.mean(axis=1)[: round(LENGTH_S * SAMPLE_RATE_HZ)]
    return np.asarray(mono / max(float(np.abs(mono).max()), 1e-6), np.float32)


# A note: beat, length in beats, degree of the scale above the root, velocity.
_Note = tuple[float, float, int, int]


def _bass(beats: int, roots: tuple[int, ...], rng: Generator) -> list[_Note]:
    step = float(rng.choice([0.5, 1.0, 2.0]))
    notes: list[_Note] = []
    for beat in np.arange(0, beats, step):
        if rng.random() < 0.85:
            degree = roots[int(beat) // _BEATS_PER_BAR % len(roots)] + int(rng.choice([0, 0, 0, 4, 7]))
            notes.append((float(beat), step * 0.9, degree, int(rng.integers(70, 120))))
    return notes


def _chords(beats: int, roots: tuple[int, ...], rng: Generator) -> list[_Note]:
    step = float(rng.choice([0.5, 1.0, 2.0, 4.0]))
    notes: list[_Note] = []
    for beat in np.arange(0, beats, step):
        if step == 4.0 or rng.random() < 0.7:
            on = roots[int(beat) // _BEATS_PER_BAR % len(roots)] + 7
            velocity = int(rng.integers(50, 110))
            notes += [(float(beat), step * 0.95, on + third, velocity) for third in (0, 2, 4)]
    return notes


def _tune(beats: int, roots: tuple[int, ...], rng: Generator) -> list[_Note]:
    notes: list[_Note] = []
    beat, degree = 0.0, 14
    while beat < beats:
        length = float(rng.choice([0.25, 0.5, 0.5, 1.0, 1.5, 2.0]))
        if rng.random() < 0.7:
            degree = int(np.clip(degree + rng.integers(-3, 4), 10, 22))
            notes.append((beat, length * 0.9, degree + roots[0], int(rng.integers(50, 115))))
        beat += length
    return notes


def _track(
    channel: int, program: int, volume: int, notes: list[_Note], root: int, scale: tuple[int, ...]
) -> mido.MidiTrack:
    events = []
    for beat, length, degree, velocity in notes:
        pitch = min(108, root + 12 * (degree // len(scale)) + scale[degree % len(scale)])
        begin, end = round(beat * _TICKS_PER_BEAT), round((beat + length) * _TICKS_PER_BEAT)
        events += [(begin, 1, pitch, velocity), (end, 0, pitch, 0)]
    track = mido.MidiTrack(
        [
            mido.Message("program_change", channel=channel, program=program),
            mido.Message("control_change", channel=channel, control=7, value=volume),
        ]
    )
    now = 0
    for tick, is_on, pitch, velocity in sorted(events):
        kind = "note_on" if is_on else "note_off"
        track.append(mido.Message(kind, channel=channel, note=pitch, velocity=velocity, time=tick - now))
        now = tick
    return track
