"""What is measured of one sound, in a worker: its descriptors, and what a tempo and a key can be. Names play no part.

The facts are what JSON can hold, rounded, so that they are the same whoever computes them. They are a function of the
bytes of a file and of the settings; what follows from names, rules and models is decided later, from them
(`backbeat.library.labels`), so that a rule can change without a sound being decoded again.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import signal
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from backbeat.audio.descriptors import describe_sound, rounded
from backbeat.audio.dynamics import attack_crest_db
from backbeat.audio.key import find_key
from backbeat.audio.read import AudioInfo, read_info
from backbeat.audio.resemblance import embedding, to_bytes
from backbeat.audio.sound import Sound
from backbeat.audio.tempo import find_tempo
from backbeat.audio.timbre import loud_centroid_hz
from backbeat.errors import AudioError
from backbeat.library.settings import DescribeSettings

Facts = dict[str, Any]

# What is shorter has no tempo and no key that anybody could name.
LEAST_LOOP_S = 0.5

_ACID_BYTES = 24


class TookTooLongError(Exception):
    """One sound was not described in its time."""


def measure(source: bytes | Path, name: str, settings: DescribeSettings) -> tuple[Facts, bytes]:
    """Return the facts of a sound file, and its embedding as int8.

    Args:
        source: the content of the file, or where it is.
        name: what to call it in messages.
        settings: how much of it is described.

    Raises:
        AudioError: if it cannot be decoded into finite samples.
    """
    channels, info = _decoded(source, name, settings.longest_s)
    facts, vector = _facts(channels, info.sample_rate_hz)
    head = source[:4096] if isinstance(source, bytes) else b""
    chunk_bpm = _acid_tempo(source if isinstance(source, bytes) else head)
    return {**facts, "described_s": rounded(len(channels) / info.sample_rate_hz), "chunk_bpm": chunk_bpm}, vector


@contextlib.contextmanager
def at_most(timeout_s: float) -> Iterator[None]:
    """Raise `TookTooLongError` in the block when its time is over; only the main thread of a process can be told.

    The time is that of the processor, so that a sound is not to blame for what else the machine does.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise TookTooLongError

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, timeout_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def fingerprint(settings: DescribeSettings) -> str:
    """Return a digest of what the code makes of fixed sounds with these settings, 64 bits in hex.

    It stands beside every remembered fact: when the code or a library under it computes something else, those of before
    are not mistaken for those of now.
    """
    digest = hashlib.sha256(settings.model_dump_json().encode())
    for channels, sample_rate_hz in _fixed_sounds():
        facts, vector = _facts(channels, sample_rate_hz)
        digest.update(json.dumps(facts, sort_keys=True).encode() + vector)
    return digest.hexdigest()[:16]


def _facts(channels: NDArray[np.float32], sample_rate_hz: int) -> tuple[Facts, bytes]:
    sound = Sound(channels, sample_rate_hz)
    facts: Facts = dict(describe_sound(sound))
    for name, value in (("loud_centroid_hz", loud_centroid_hz(sound)), ("attack_crest_db", attack_crest_db(sound))):
        facts[name] = None if value is None else rounded(value)
    long_enough = sound.duration_s >= LEAST_LOOP_S and sound.peak > 0
    tempo = find_tempo(sound.onsets, sound.duration_s) if long_enough else None
    key = find_key(*sound.low) if long_enough else None
    facts["tempo"] = tempo and {
        "bpm": rounded(tempo.bpm),
        "confidence": rounded(tempo.confidence),
        "candidates": [[rounded(one.bpm), rounded(one.score)] for one in tempo.candidates],
    }
    facts["key"] = key and {
        "name": key.name,
        "confidence": rounded(key.confidence),
        "tonality": rounded(key.tonality),
    }
    return facts, to_bytes(embedding(sound.mono, sample_rate_hz))


def _decoded(source: bytes | Path, name: str, longest_s: float) -> tuple[NDArray[np.float32], AudioInfo]:
    info = read_info(source, name)
    frames = min(info.samples, max(1, round(longest_s * info.sample_rate_hz)))
    stream = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        channels, _ = soundfile.read(stream, frames, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{name} cannot be decoded", expected="a sound file", got=error.error_string) from error
    if len(channels) < frames:
        raise AudioError(f"{name} ends early", expected=f"{frames:,} samples", got=f"{len(channels):,} of them")
    # Finite as numbers is not enough: their squares are added up.
    if not np.abs(channels).max() < 1e9:
        raise AudioError(f"{name} has samples that are not finite", expected="numbers", got="others")
    return channels, info


def _acid_tempo(content: bytes) -> float | None:
    """Return the tempo in the `acid` chunk of a WAV; None where there is none, or it is marked a one-shot."""
    if content[:4] not in {b"RIFF", b"RF64"}:
        return None
    position = 12
    while position + 8 <= len(content):
        kind, length = struct.unpack("<4sI", content[position : position + 8])
        if kind == b"acid" and length >= _ACID_BYTES and position + 8 + _ACID_BYTES <= len(content):
            flags, bpm = struct.unpack("<I16xf", content[position + 8 : position + 8 + _ACID_BYTES])
            return rounded(bpm) if not flags & 1 and 20 < bpm < 400 else None
        position += 8 + length + (length & 1)
    return None


def _fixed_sounds() -> Iterator[tuple[NDArray[np.float32], int]]:
    """Yield a loop of two channels and a one-shot, from arithmetic that no library can change."""
    for sample_rate_hz, duration_s, hits in ((44_100, 2.0, 4), (48_000, 0.6, 1)):
        time_s = np.arange(round(duration_s * sample_rate_hz)) / sample_rate_hz
        since_s = time_s % (duration_s / hits)
        # A multiplicative congruential generator (Park & Miller 1988).
        noise = np.array([pow(16_807, i, 2**31 - 1) for i in range(1, 1025)]) / 2**30 - 1
        tone = np.sin(2 * np.pi * 55 * since_s * (1 + np.exp(-30 * since_s))) * np.exp(-4 * since_s)
        hiss = np.resize(noise, len(time_s)) * np.exp(-25 * since_s)
        channels = [0.6 * tone + 0.3 * hiss, 0.5 * tone + 0.2 * np.sin(2 * np.pi * 261.6 * time_s)]
        yield np.stack(channels[: 1 + (hits > 1)], axis=1).astype(np.float32), sample_rate_hz
