"""Kits of SoundFonts, struck once with the program FluidSynth: every pad at several velocities, one after another.

FluidSynth knows what a SoundFont means (layers, filters, envelopes); so it is asked for a recording of everything, and
the recording is cut.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from backbeat.errors import AudioError, ConfigError
from backbeat.rendering.bank import SAMPLE_RATE_HZ, OneShot, one_shot

PROGRAM = "fluidsynth"

NOTES: dict[str, tuple[int, ...]] = {
    "kick": (35, 36),
    "cross_stick": (37,),
    "snare": (38,),
    "snare_rim": (40,),
    "tom_low": (41, 43),
    "tom_mid": (45, 47),
    "tom_high": (48, 50),
    "hat_closed": (42,),
    "hat_pedal": (44,),
    "hat_open": (46,),
    "crash": (49, 57, 55, 52),
    "ride": (51, 59),
    "bell": (53,),
}
"""The notes of General MIDI for each instrument, which are not those of Roland's pads."""

# One in each fifth of the range, where many kits have layers, and two more where most strokes are.
VELOCITIES = (13, 38, 58, 76, 92, 110, 127)

# How long a stroke is left alone; a recording of everything takes the sum of them.
_RING_S = {"crash": 6.2, "ride": 5.2, "bell": 4.2, "hat_open": 3.2, "tom_low": 2.6, "tom_mid": 2.2, "tom_high": 2.0}
_OTHER_RING_S = 1.6

# Between the end of what is kept of a stroke and the next one, all sound is stopped.
_STOP_S = 0.06
_LEAD_S = 0.02

_TICKS_PER_BEAT = 480
_TICKS_PER_S = 2 * _TICKS_PER_BEAT  # at 120 beats a minute, which is what a MIDI file has that does not say

_DRUM_CHANNEL = 9
_BANK_SELECT, _ALL_SOUND_OFF = 0, 120

# What FluidSynth says of a file that it cannot use; other errors of it are of sound cards that are not there.
_REFUSALS = ("Failed to load", "not a SoundFont")

# Strokes at two velocities are one sound if they correlate so well, at a shift of so many samples or less.
_SAME = 0.9995
_SHIFT_SAMPLES = 4
_COMPARED_SAMPLES = 8192


@dataclass(frozen=True)
class _Stroke:
    """A note of the recording: when it begins, and how long it is left alone."""

    note: int
    velocity: int
    start_s: float
    ring_s: float


def soundfont_bank(
    font: Path, program: int, bank: int | None, notes: Mapping[str, Sequence[int]]
) -> dict[str, list[OneShot]]:
    """Return the sounds of a SoundFont's kit by instrument.

    Args:
        font: the file.
        program: of the kit.
        bank: of the kit, or None for one of the drum channel.
        notes: of each instrument that is wanted.

    Raises:
        ConfigError: if FluidSynth is missing, or the SoundFont has no such kit.
        AudioError: if FluidSynth fails.
    """
    strokes = _strokes(notes)
    with tempfile.TemporaryDirectory(prefix="backbeat-") as folder:
        midi, recording = Path(folder) / "strokes.mid", Path(folder) / "strokes.wav"
        _write_midi(midi, strokes, program, bank)
        play_midi(font, midi, recording)
        sounds = _cut(recording, strokes)
    by_note = {note: _distinct(of_note) for note, of_note in sounds.items()}
    shots = {instrument: [shot for note in of for shot in by_note.get(note, ())] for instrument, of in notes.items()}
    return {instrument: of for instrument, of in shots.items() if of}


def _strokes(wanted: Mapping[str, Sequence[int]]) -> list[_Stroke]:
    ring_s: dict[int, float] = {}
    for instrument, notes in wanted.items():
        for note in notes:
            ring_s[note] = max(ring_s.get(note, 0.0), _RING_S.get(instrument, _OTHER_RING_S))
    strokes, now_s = [], 0.1
    for note in sorted(ring_s):
        for velocity in VELOCITIES:
            strokes.append(_Stroke(note, velocity, now_s, ring_s[note]))
            now_s += ring_s[note] + 2 * _STOP_S
    return strokes


def _write_midi(path: Path, strokes: Sequence[_Stroke], program: int, bank: int | None) -> None:
    import mido

    channel = _DRUM_CHANNEL if bank is None else 0
    bank_select = [mido.Message("control_change", channel=channel, control=_BANK_SELECT, value=bank)] if bank else []
    select = [*bank_select, mido.Message("program_change", channel=channel, program=program)]
    timed = [(0.0, message) for message in select]
    stop = mido.Message("control_change", channel=channel, control=_ALL_SOUND_OFF, value=0)
    for stroke in strokes:
        note = mido.Message("note_on", channel=channel, note=stroke.note, velocity=stroke.velocity)
        # Looped samples end with their note; so it is held for as long as it may ring.
        end_s = stroke.start_s + stroke.ring_s
        timed += [(stroke.start_s, note), (end_s, note.copy(velocity=0)), (end_s + _STOP_S, stop)]
    track, last = mido.MidiTrack(), 0
    for time_s, message in timed:
        tick = round(time_s * _TICKS_PER_S)
        track.append(message.copy(time=tick - last))
        last = tick
    mido.MidiFile(ticks_per_beat=_TICKS_PER_BEAT, tracks=[track]).save(str(path))


def play_midi(font: Path, midi: Path, recording: Path) -> None:
    """Play a MIDI file into a WAV file: dry, as floats, so that nothing clips.

    Args:
        font: the SoundFont.
        midi: what is played.
        recording: the WAV file to write.

    Raises:
        ConfigError: if FluidSynth is missing, or the SoundFont lacks a program that the MIDI file wants.
        AudioError: if FluidSynth fails.
    """
    found = shutil.which(PROGRAM)
    if found is None:
        raise ConfigError(
            f"the program {PROGRAM} is not installed",
            expected=f"it, to play {font.name}",
            next_step="apt-get install fluidsynth",
        )
    _check_font(font)
    # Nobody's own settings: they would be heard.
    options = [
        "-f",
        os.devnull,
        "-ni",
        "-q",
        "-g",
        "0.2",
        "-R",
        "0",
        "-C",
        "0",
        "-r",
        str(SAMPLE_RATE_HZ),
        "-O",
        "float",
        "-T",
        "wav",
    ]
    done = subprocess.run(
        [found, *options, "-F", str(recording), str(font), str(midi)], capture_output=True, text=True, check=False
    )
    said = f"{done.stdout}{done.stderr}".strip()
    # FluidSynth plays another kit where one is missing, and silence where it cannot load the file; both with success.
    if "not found on channel" in said:
        raise ConfigError(f"{font.name} lacks a program", expected="one that it has", got=said[-300:])
    if done.returncode or any(words in said for words in _REFUSALS) or not recording.is_file():
        raise AudioError(f"{PROGRAM} cannot play {font.name}", expected="a recording", got=said[-300:] or "nothing")


def _check_font(font: Path) -> None:
    """Refuse what is no SoundFont: FluidSynth would say so, and then play the system's default one."""
    try:
        with font.open("rb") as file:
            head = file.read(12)
    except OSError as error:
        raise AudioError(f"{font} cannot be read", expected="a SoundFont", got=str(error)) from error
    if head[:4] != b"RIFF" or head[8:] != b"sfbk":
        raise AudioError(f"{PROGRAM} cannot play {font.name}", expected="a SoundFont", got=f"a file of {head!r}")


def _cut(recording: Path, strokes: Sequence[_Stroke]) -> dict[int, list[OneShot]]:
    """Cut the recording; strokes that are not heard are left out."""
    sounds: dict[int, list[OneShot]] = {}
    with soundfile.SoundFile(recording) as file:
        for stroke in strokes:
            begin = round((stroke.start_s - _LEAD_S) * SAMPLE_RATE_HZ)
            length = round((stroke.ring_s + _LEAD_S) * SAMPLE_RATE_HZ)
            if begin + length > file.frames:
                what = f"{PROGRAM} stopped early"
                raise AudioError(what, expected=f"{begin + length:,} samples", got=f"{file.frames:,}")
            file.seek(begin)
            shot = one_shot(file.read(length, dtype="float32"), SAMPLE_RATE_HZ, stroke.velocity / 127)
            if shot is not None:
                sounds.setdefault(stroke.note, []).append(shot)
    return sounds


def _distinct(shots: Sequence[OneShot]) -> list[OneShot]:
    """Put together neighbors in force that are the same sound at another level; its force is the middle of theirs."""
    runs: list[list[OneShot]] = []
    for shot in shots:
        if runs and _same(runs[-1][0], shot):
            runs[-1].append(shot)
        else:
            runs.append([shot])
    return [OneShot(run[-1].samples, (run[0].force + run[-1].force) / 2) for run in runs]


def _same(one: OneShot, other: OneShot) -> bool:
    # The first tenths of a second tell; a softer stroke may be cut a sample or two earlier or later.
    length = min(len(one.samples), len(other.samples), _COMPARED_SAMPLES)
    first, second = one.samples[:length].astype(np.float64), other.samples[:length].astype(np.float64)
    middle = first[_SHIFT_SAMPLES : length - _SHIFT_SAMPLES]
    shifts = (second[shift : shift + len(middle)] for shift in range(2 * _SHIFT_SAMPLES + 1))
    norms = np.linalg.norm(middle)
    return any(middle @ shifted > _SAME * norms * np.linalg.norm(shifted) for shifted in shifts)
