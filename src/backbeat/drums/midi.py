"""Drum onsets from and to MIDI files.

Only the beginnings of notes matter: drums have no length that a listener could tell. So a note-on that is never
followed by a note-off is a hit like any other (a reader that pairs them would drop it in silence). What mido lets
pass is refused here: a header that promises tracks that are not there, patterns that do not follow one clock (type 2),
time in SMPTE frames, a division or tempo of zero, lengths that no performance has, and a file without a single note.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import mido
import numpy as np
from numpy.typing import NDArray

from backbeat.errors import MidiError

DRUM_CHANNEL = 9
DEFAULT_TEMPO_US = 500_000
TICKS_PER_BEAT = 480

# E-GMD's longest performance has 23 minutes; beyond a day it is the file that is wrong, not the drummer.
MAX_ONSET_S = 86_400.0

# A hit is written as a note of this length, as drum machines do.
NOTE_S = 0.05


@dataclass(frozen=True)
class Onsets:
    """Hits sorted by time, then pitch. All arrays have shape (onsets,)."""

    onset_s: NDArray[np.float32]
    pitch: NDArray[np.uint8]
    velocity: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.onset_s)

    def where(self, kept: NDArray[np.bool_]) -> Onsets:
        """Return the hits that a mask of shape (onsets,) keeps."""
        return Onsets(self.onset_s[kept], self.pitch[kept], self.velocity[kept])


def read_onsets(content: bytes, name: str = "MIDI file") -> Onsets:
    """Return the notes of a MIDI file as onsets, of all tracks and channels.

    Args:
        content: the bytes of the file.
        name: what to call it in messages.

    Raises:
        MidiError: if it cannot be parsed, keeps no usable time, or has no notes.
    """
    try:
        return _onsets(content)
    except MidiError as error:
        what = f"{name} {error.what}"
        raise MidiError(what, expected=error.expected, got=error.got, next_step=error.next_step) from error


# In an archive the kits of a performance stand side by side, mostly with the same MIDI file under other names; parsing
# it takes longer than the spectrogram of its recording.
@lru_cache(maxsize=64)
def _onsets(content: bytes) -> Onsets:
    song = _parsed(content)
    try:
        tempo_map = _tempo_map(song)
        rows = sorted(row for track in song.tracks for row in _note_rows(track, tempo_map))
    except OverflowError as error:  # a delta time may have any number of bits
        raise MidiError("keeps an impossible time", expected="onsets within a day", got=str(error)) from error
    if not rows:
        raise MidiError("has no notes", expected="at least one note", got="none")
    if not rows[-1][0] <= MAX_ONSET_S:
        raise MidiError("keeps an impossible time", expected="onsets within a day", got=f"{rows[-1][0]:.3g} s")
    onset_s, pitch, velocity = zip(*rows, strict=True)
    return Onsets(np.array(onset_s, np.float32), np.array(pitch, np.uint8), np.array(velocity, np.uint8))


def write_onsets(onsets: Onsets, path: Path) -> None:
    """Write onsets as a type-0 MIDI file of drum notes on channel 10, at 120 beats a minute.

    The tempo only fixes what a tick is (1/960 s); it says nothing about the music.
    """
    ticks_per_s = TICKS_PER_BEAT * 1_000_000 / DEFAULT_TEMPO_US
    length = round(NOTE_S * ticks_per_s)
    events = []
    for onset_s, pitch, velocity in zip(onsets.onset_s, onsets.pitch, onsets.velocity, strict=True):
        tick = round(float(onset_s) * ticks_per_s)
        events += [(tick, 1, int(pitch), int(velocity)), (tick + length, 0, int(pitch), 0)]
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=DEFAULT_TEMPO_US)])
    now = 0
    for tick, is_on, pitch, velocity in sorted(events):
        kind = "note_on" if is_on else "note_off"
        track.append(mido.Message(kind, channel=DRUM_CHANNEL, note=pitch, velocity=velocity, time=tick - now))
        now = tick
    mido.MidiFile(type=0, ticks_per_beat=TICKS_PER_BEAT, tracks=[track]).save(str(path))


def _parsed(content: bytes) -> mido.MidiFile:
    step = "export the file again from the program that made it"
    try:
        song = mido.MidiFile(file=io.BytesIO(content))
    # mido raises whatever its parser stumbles over, from EOFError to KeySignatureError.
    except Exception as error:
        got = f"{type(error).__name__}: {error}"
        raise MidiError("is not a MIDI file", expected="a standard MIDI file", got=got, next_step=step) from error
    promised = int.from_bytes(content[10:12], "big")
    if promised != len(song.tracks):
        got = f"{len(song.tracks)}"
        raise MidiError("is cut off", expected=f"{promised} tracks", got=got, next_step=step)
    if not 0 < song.ticks_per_beat < 0x8000:
        got = f"division {song.ticks_per_beat:#06x}"
        raise MidiError("does not count in beats", expected="ticks per beat", got=got, next_step=step)
    if song.type == 2:
        got = "patterns that each have their own"
        raise MidiError("does not follow one clock", expected="tracks of one song", got=got, next_step=step)
    return song


def _tempo_map(song: mido.MidiFile) -> list[tuple[int, float, float]]:
    """Return (tick, seconds at that tick, seconds per tick) for each tempo, of all tracks together."""
    changes = []
    for track in song.tracks:
        tick = 0
        for message in track:
            tick += message.time
            if message.type == "set_tempo":
                if message.tempo == 0:
                    raise MidiError("has a tempo of zero", expected="microseconds per beat", got="0")
                changes.append((tick, message.tempo))
    tempo_map = [(0, 0.0, DEFAULT_TEMPO_US / 1e6 / song.ticks_per_beat)]
    for tick, tempo_us in sorted(changes):
        last_tick, last_s, s_per_tick = tempo_map[-1]
        tempo_map.append((tick, last_s + (tick - last_tick) * s_per_tick, tempo_us / 1e6 / song.ticks_per_beat))
    return tempo_map


def _note_rows(track: mido.MidiTrack, tempo_map: list[tuple[int, float, float]]) -> list[tuple[float, int, int]]:
    rows = []
    tick = position = 0
    for message in track:
        tick += message.time
        if message.type == "note_on" and message.velocity > 0:
            while position + 1 < len(tempo_map) and tempo_map[position + 1][0] <= tick:
                position += 1
            start_tick, start_s, s_per_tick = tempo_map[position]
            rows.append((start_s + (tick - start_tick) * s_per_tick, message.note, message.velocity))
    return rows
