"""What one item of a dataset says of itself, as cheaply as it can be had."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from pathlib import PurePosixPath

import mido

from backbeat.audio.read import MAX_CHANNELS, MAX_SAMPLE_RATE_HZ, AudioInfo, read_info
from backbeat.datasets.packed.items import Item
from backbeat.errors import ArchiveError, MidiError

KINDS = {
    "audio": {".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".aifc"},
    "midi": {".mid", ".midi"},
    "array": {".npy"},
    "table": {".csv", ".tsv", ".json", ".jsonl", ".parquet", ".xlsx", ".xls"},
    "text": {".txt", ".md", ".lab", ".textgrid", ".xml", ".html", ".pdf", ""},
}

# Enough for the chunks that stand in front of the samples in almost every WAV file.
HEAD_BYTES = 4096

# The header of an array of plain numbers; numpy itself refuses to parse more than 10,000 characters.
ARRAY_HEAD_BYTES = 12_000

# Where a file sets no tempo: 120 beats a minute.
DEFAULT_TEMPO_US = 500_000

# Beyond a day it is the file that is wrong, not the performer.
MAX_MIDI_S = 86_400.0

_WAV_SUBTYPES = {(1, 8): "PCM_U8", (1, 16): "PCM_16", (1, 24): "PCM_24", (1, 32): "PCM_32"} | {
    (3, 32): "FLOAT",
    (3, 64): "DOUBLE",
}


@dataclass(frozen=True)
class ArrayShape:
    """A numpy file: what its header says."""

    name: str
    shape: tuple[int, ...]
    dtype: str


def kind_of(name: str) -> str:
    """Return what a file of this name holds: audio, midi, array, table, text or other."""
    path = PurePosixPath(name)
    # macOS leaves a `._x.wav` beside each x.wav: its attributes, no sound.
    if path.name.startswith("."):
        return "other"
    return next((kind for kind, suffixes in KINDS.items() if path.suffix.lower() in suffixes), "other")


def audio_info(item: Item) -> AudioInfo:
    """Return rate, channels, length and sample type of a recording, from its header alone if that tells all of it.

    Raises:
        AudioError: if it is not sound, or not whole.
        ArchiveError: if it cannot be read.
    """
    found = _plain_wav_info(item.head(HEAD_BYTES), item.size_bytes)
    return found or read_info(item.read(), item.name)


def midi_length_s(item: Item) -> float:
    """Return how long a MIDI file plays, in seconds.

    Raises:
        MidiError: if it cannot be parsed or keeps no usable time.
        ArchiveError: if it cannot be read.
    """
    content = item.read()
    try:
        song = mido.MidiFile(file=io.BytesIO(content))
        length_s = _length_s(song)
    # mido raises whatever its parser stumbles over, from EOFError to KeySignatureError.
    except Exception as error:
        got = f"{type(error).__name__}: {error}"
        raise MidiError(f"{item.name} is not a MIDI file", expected="a standard MIDI file", got=got) from error
    promised = int.from_bytes(content[10:12], "big")
    if (
        promised != len(song.tracks)
        or song.type == 2
        or not 0 < song.ticks_per_beat < 0x8000
        or not 0 <= length_s <= MAX_MIDI_S
    ):
        got = f"{len(song.tracks)} tracks, {length_s:.3g} s, division {song.ticks_per_beat}"
        raise MidiError(f"{item.name} cannot be true", expected=f"{promised} tracks within a day", got=got)
    return length_s


def _length_s(song: mido.MidiFile) -> float:
    # mido's own `length` merges and sorts all tracks: it takes longer than reading them.
    changes, last_tick = [], 0
    for track in song.tracks:
        tick = 0
        for message in track:
            tick += message.time
            if message.type == "set_tempo":
                changes.append((tick, message.tempo))
        last_tick = max(last_tick, tick)
    length_us, since_tick, tempo_us = 0.0, 0, DEFAULT_TEMPO_US
    for tick, next_tempo_us in sorted(changes):
        length_us += (tick - since_tick) * tempo_us
        since_tick, tempo_us = tick, next_tempo_us
    return float(length_us + (last_tick - since_tick) * tempo_us) / float(song.ticks_per_beat) / 1e6


def array_shape(item: Item) -> ArrayShape:
    """Return shape and type of a numpy file, by its header, compared with its size.

    Raises:
        ArchiveError: if it cannot be read, is not an array of plain numbers, or is cut off.
    """
    from numpy.lib import format as npy

    stream = io.BytesIO(item.head(ARRAY_HEAD_BYTES))
    try:
        read_header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[npy.read_magic(stream)]
        shape, _, dtype = read_header(stream)
    except (ValueError, KeyError) as error:
        raise ArchiveError(f"{item.name} is not a numpy file", expected="a numpy header", got=str(error)) from error
    values = 1
    for length in shape:
        values *= length
    if dtype.hasobject or stream.tell() + values * dtype.itemsize != item.size_bytes:
        got = f"{item.size_bytes:,} bytes for {shape} of {dtype}"
        raise ArchiveError(f"{item.name} does not hold its array", expected="plain numbers, all there", got=got)
    return ArrayShape(item.name, tuple(shape), str(dtype))


def _plain_wav_info(head: bytes, size_bytes: int) -> AudioInfo | None:
    """Return what a WAV header says if it is of the plain kind and agrees with the file's size; None otherwise."""
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        return None
    position, form = 12, b""
    while position + 8 <= len(head):
        kind, length = struct.unpack_from("<4sI", head, position)
        position += 8
        if kind == b"fmt ":
            form = head[position : position + 16]
        elif kind == b"data":
            return _wav_info(form, length) if 0 < length <= size_bytes - position else None
        position += length + (length & 1)
    return None


def _wav_info(form: bytes, data_bytes: int) -> AudioInfo | None:
    if len(form) < 16:
        return None
    tag, channels, rate_hz, _, frame_bytes, bits = struct.unpack("<2H2L2H", form)
    subtype = _WAV_SUBTYPES.get((tag, bits))
    if subtype is None or not 0 < channels <= MAX_CHANNELS or not 0 < rate_hz <= MAX_SAMPLE_RATE_HZ:
        return None
    if frame_bytes != channels * bits // 8 or data_bytes < frame_bytes:
        return None
    return AudioInfo(rate_hz, channels, data_bytes // frame_bytes, subtype)
