"""Reading sound: any rate, depth and channel count in, finite mono samples at one rate out, in bounded memory.

libsndfile decodes (through soundfile) and soxr resamples. In front of them stand the checks that they do not make:

- a format is accepted by its first bytes and its sample type, before libsndfile opens it: its ADPCM readers decode
  the first block on opening;
- the size that a WAV or AIFF header declares is compared with the bytes that are there, because libsndfile reads a
  file cut in half, or one whose length field is zero, without a complaint;
- an MP3 file without a frame count is refused, because libsndfile then guesses its length and may stop early;
- samples that are not finite are refused.

What cannot be seen is an Ogg file that was cut between two of its pages: it is a shorter one.
"""

from __future__ import annotations

import contextlib
import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import soundfile
from numpy.typing import NDArray

from backbeat.errors import AudioError

# Samples per channel that are decoded at once: 6 s at 44.1 kHz.
BLOCK_SAMPLES = 2**18

# Beyond these a header is lying: no microphone array or converter in use exceeds them.
MAX_CHANNELS = 64
MAX_SAMPLE_RATE_HZ = 768_000

MAGIC = {
    b"RIFF": "WAV",
    b"RF64": "WAV",
    b"FORM": "AIFF",
    b"fLaC": "FLAC",
    b"OggS": "OGG",
    b"ID3": "MP3",
    b"\xff\xfb": "MP3",
    b"\xff\xf3": "MP3",
    b"\xff\xf2": "MP3",
    b"\xff\xfa": "MP3",
}
# What libsndfile may decode: plain samples and the maintained codecs. Its ADPCM and other legacy decoders have a
# record of memory errors (CVE-2026-37555).
SUBTYPES = {
    *("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"),
    *("VORBIS", "OPUS", "MPEG_LAYER_III"),
}
# The same in a WAV's `fmt ` chunk (PCM, float) and in an AIFF-C's `COMM` chunk (either byte order, integer or float).
WAV_TYPES = {1, 3}
WAV_EXTENSIBLE = 0xFFFE
AIFC_TYPES = {
    *(b"NONE", b"twos", b"sowt", b"raw ", b"in24", b"42ni", b"in32", b"23ni"),
    *(b"fl32", b"FL32", b"fl64", b"FL64"),
}

# The length in a chunk header of a file that is longer than the header can say (RF64), or was when it was begun.
_UNKNOWN_LENGTH = 0xFFFFFFFF


@dataclass(frozen=True)
class AudioInfo:
    """What a sound file says of itself, checked."""

    sample_rate_hz: int
    channels: int
    samples: int
    subtype: str

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.samples / self.sample_rate_hz


def read_info(source: bytes | Path, name: str) -> AudioInfo:
    """Return rate, channels, length and sample type of a sound file.

    Args:
        source: the content of the file, or where it is.
        name: what to call it in messages.

    Raises:
        AudioError: if it is not sound, is of a type that is not accepted, is empty, or is shorter than it says.
    """
    with _opened(source, name) as stream:
        head = stream.read(4096)
        _check_magic(head, name)
        if head[:4] in {b"RIFF", b"RF64", b"FORM"}:
            _check_chunks(stream, head, name)
        elif any(head.startswith(magic) for magic, kind in MAGIC.items() if kind == "MP3"):
            _check_mp3_length(stream, head, name)
        stream.seek(0)
        with _decoder(stream, name) as sound:
            info = AudioInfo(sound.samplerate, sound.channels, sound.frames, sound.subtype)
    if info.subtype not in SUBTYPES:
        raise _unsupported(name, info.subtype)
    if not 0 < info.channels <= MAX_CHANNELS or not 0 < info.sample_rate_hz <= MAX_SAMPLE_RATE_HZ:
        got = f"{info.channels} channels at {info.sample_rate_hz} Hz"
        raise AudioError(f"{name} has a header that cannot be true", expected="1 to 64 channels", got=got)
    if info.samples <= 0:
        raise AudioError(f"{name} has no samples", expected="at least one", got="0")
    return info


def mono_blocks(source: bytes | Path, name: str, sample_rate_hz: int) -> Iterator[NDArray[np.float32]]:
    """Yield a recording as mono samples at `sample_rate_hz`, block by block: channels averaged, finite.

    Args:
        source: the content of the file, or where it is.
        name: what to call it in messages.
        sample_rate_hz: the rate of what is yielded; soxr at high quality where the file has another.

    Yields:
        arrays of shape (samples,).

    Raises:
        AudioError: as `read_info`, and if the file ends early or a sample is not finite.
    """
    info = read_info(source, name)
    blocks = _checked_blocks(source, name, info)
    yield from blocks if info.sample_rate_hz == sample_rate_hz else _resampled(blocks, info, sample_rate_hz)


def _checked_blocks(source: bytes | Path, name: str, info: AudioInfo) -> Iterator[NDArray[np.float32]]:
    done = 0
    with _opened(source, name) as stream, _decoder(stream, name) as sound:
        while done < info.samples:
            block = sound.read(BLOCK_SAMPLES, dtype="float32", always_2d=True)
            if not len(block):
                got = f"{done:,} of them"
                raise AudioError(f"{name} ends early", expected=f"{info.samples:,} samples", got=got)
            with np.errstate(over="ignore", invalid="ignore"):  # what comes of it is noticed in the next line
                mono = block[:, 0] if info.channels == 1 else block.mean(axis=1)
            if not np.isfinite(mono).all():
                at = done + int(np.flatnonzero(~np.isfinite(mono))[0])
                raise AudioError(f"{name} has samples that are not finite", expected="numbers", got=f"at sample {at:,}")
            done += len(block)
            yield mono


def _resampled(
    blocks: Iterator[NDArray[np.float32]], info: AudioInfo, sample_rate_hz: int
) -> Iterator[NDArray[np.float32]]:
    import soxr

    resampler = soxr.ResampleStream(info.sample_rate_hz, sample_rate_hz, 1, dtype="float32", quality="HQ")
    for block in blocks:
        yield resampler.resample_chunk(np.ascontiguousarray(block))
    yield resampler.resample_chunk(np.empty(0, np.float32), last=True)


def _opened(source: bytes | Path, name: str) -> IO[bytes]:
    try:
        return io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
    except OSError as error:
        raise AudioError(f"{name} cannot be opened", expected="a sound file", got=str(error)) from error


@contextlib.contextmanager
def _decoder(stream: IO[bytes], name: str) -> Iterator[soundfile.SoundFile]:
    """Open a sound file; libsndfile's complaints, then or while it is read, become an `AudioError`."""
    try:
        with soundfile.SoundFile(stream) as sound:
            yield sound
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{name} cannot be decoded", expected="a sound file", got=error.error_string) from error


def _check_magic(head: bytes, name: str) -> None:
    if not head:
        raise AudioError(f"{name} is empty", expected="a sound file", got="0 bytes")
    if any(head.startswith(magic) for magic in MAGIC):
        return
    start = head.lstrip()[:64].lower()
    if start.startswith(b"version https://git-lfs"):
        got, step = "a Git LFS pointer", "fetch the content: git lfs pull"
    elif start.startswith((b"<!doctype", b"<html", b"<?xml")):
        got, step = "a web page", "fetch the file again; the server sent a page instead of it"
    else:
        got, step = f"a file that starts with {head[:8]!r}", "convert it to WAV or FLAC"
    raise AudioError(f"{name} is not sound", expected="WAV, AIFF, FLAC, Ogg or MP3", got=got, next_step=step)


def _check_chunks(stream: IO[bytes], head: bytes, name: str) -> None:
    """Check the sample type and the length that the chunks of a WAV or AIFF file declare."""
    size = stream.seek(0, io.SEEK_END)
    header = ">4sI" if head.startswith(b"FORM") else "<4sI"
    long_length = _UNKNOWN_LENGTH
    position = 12
    while position + 8 <= size:
        stream.seek(position)
        kind, length = struct.unpack(header, stream.read(8))
        position += 8
        if kind == b"ds64":
            long_length = int.from_bytes(stream.read(16)[8:], "little")
        elif kind in {b"fmt ", b"COMM"}:
            _check_sample_type(kind, stream.read(min(length, 26)), name)
        elif kind in {b"data", b"SSND"}:
            _check_length(long_length if length == _UNKNOWN_LENGTH else length, size - position, name)
            return
        position += length + (length & 1)


def _check_mp3_length(stream: IO[bytes], head: bytes, name: str) -> None:
    """Refuse an MP3 file that does not say how many frames it has: libsndfile guesses, and may stop early."""
    tag_bytes = 0
    if head.startswith(b"ID3"):
        tag_bytes = 10 + sum(byte << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=False))
    stream.seek(tag_bytes)
    if not any(mark in stream.read(4096) for mark in (b"Xing", b"Info", b"VBRI")):
        step = "convert it to FLAC or WAV, with a program that reads it to its end"
        raise AudioError(
            f"{name} does not say how long it is", expected="a Xing, Info or VBRI header", got="none", next_step=step
        )


def _check_sample_type(kind: bytes, content: bytes, name: str) -> None:
    if kind == b"fmt ":
        tag = int.from_bytes(content[:2], "little")
        tag = int.from_bytes(content[24:26], "little") if tag == WAV_EXTENSIBLE else tag
        if tag not in WAV_TYPES:
            raise _unsupported(name, f"format tag {tag:#06x}")
    # A plain AIFF has nothing there; an AIFF-C says how it is compressed.
    elif len(content) >= 22 and content[18:22] not in AIFC_TYPES:
        raise _unsupported(name, f"compression {content[18:22]!r}")


def _check_length(declared: int, present: int, name: str) -> None:
    if declared == _UNKNOWN_LENGTH or (declared == 0 and present > 1):
        got = f"{declared:,}, with {present:,} bytes behind it"
        step = "convert it to FLAC or WAV: whatever wrote it did not come back to fill in its length"
        raise AudioError(
            f"{name} does not say how long it is", expected="the length of its samples", got=got, next_step=step
        )
    if declared > present:
        got = f"{present:,}"
        raise AudioError(f"{name} is cut off", expected=f"{declared:,} bytes of samples", got=got)


def _unsupported(name: str, got: str) -> AudioError:
    step = "convert it to WAV or FLAC"
    return AudioError(f"{name} has samples of an unsupported type", expected="PCM or float", got=got, next_step=step)
