"""A WAV file as one FLAC file, and the identical WAV file back.

The samples become FLAC at their own depth. Everything else of the WAV file becomes APPLICATION blocks of id `riff`,
laid out as `flac --keep-foreign-metadata` does (`read_from_wave_` in src/flac/foreign_metadata.c of libFLAC's
repository): a block for the 12 bytes of the RIFF header, one for each chunk with its header and padding, and of the
chunk `data` its header alone, in the order of the file. So `flac --decode --keep-foreign-metadata` restores
well-formed files, too. It writes the RIFF header and the format anew, `unpack` the ones that were there. Of what is not
well-formed:

- bytes behind the last chunk that are no chunk are a block of their own;
- an empty block behind that of `data` says that its odd number of bytes is not followed by a zero.

What is not such a file is refused: other than 8, 16 or 24 bit PCM, RF64, more than 8 channels, samples cut off.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import soundfile
from numpy.typing import NDArray

from backbeat.errors import LibraryError

APPLICATION_ID = b"riff"
MAX_CHANNELS = 8

_PCM, _EXTENSIBLE = 1, 0xFFFE
# What follows the format tag in the GUID of an extensible `fmt ` chunk.
_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")

# FLAC's metadata block types, and the largest length that a block header can say.
_STREAMINFO, _APPLICATION, _LAST = 0, 2, 0x80
_MOST_BLOCK_BYTES = 2**24 - 1

_SUBTYPES = {1: "PCM_S8", 2: "PCM_16", 3: "PCM_24"}

# Samples per channel that are converted at once.
_BLOCK_SAMPLES = 2**18


@dataclass(frozen=True)
class _Wave:
    """A WAV file in its parts: what stands before its samples (with the header of `data`), they, and what follows."""

    before: tuple[bytes, ...]
    samples: memoryview
    after: tuple[bytes, ...]
    channels: int
    sample_rate_hz: int
    sample_bytes: int


def pack(wav: bytes) -> bytes:
    """Return a WAV file as a FLAC file from which `unpack` makes the identical bytes.

    Raises:
        LibraryError: if it is not a WAV file, or one that FLAC cannot hold exactly; its `what` is the reason.
    """
    wave = _parsed(wav)
    stream = io.BytesIO()
    try:
        with soundfile.SoundFile(
            stream,
            "w",
            samplerate=wave.sample_rate_hz,
            channels=wave.channels,
            format="FLAC",
            subtype=_SUBTYPES[wave.sample_bytes],
        ) as sound:
            for block in _decoded(wave):
                sound.write(block)
    except soundfile.LibsndfileError as error:
        reason = f"FLAC cannot hold {wave.channels} channels at {wave.sample_rate_hz} Hz: {error.error_string}"
        raise _refused(reason) from error
    flac = stream.getvalue()
    blocks = list(_blocks(flac))
    end = blocks[-1][2] if blocks else 0
    ours = [(_APPLICATION, APPLICATION_ID + content) for content in (*wave.before, *wave.after)]
    if any(len(content) > _MOST_BLOCK_BYTES for _, content in ours):
        raise _refused("a chunk is larger than 16 MB, which is all that a FLAC block can hold")
    kept = [(kind, flac[start:stop]) for kind, start, stop in blocks]
    return b"".join([b"fLaC", *_written([*kept, *ours]), flac[end:]])


def unpack(flac: bytes) -> bytes:
    """Return the WAV file that `pack`, or `flac --keep-foreign-metadata`, made a FLAC file of.

    Raises:
        LibraryError: if it is not such a FLAC file, or damaged.
    """
    ours = [
        flac[start + len(APPLICATION_ID) : stop]
        for kind, start, stop in _blocks(flac)
        if kind == _APPLICATION and flac[start : start + len(APPLICATION_ID)] == APPLICATION_ID
    ]
    at = next((index for index, content in enumerate(ours) if content[:4] == b"data"), None)
    if at is None:
        raise _damaged("no header of a WAV file in it")
    samples = b"".join(_encoded(flac))
    if len(samples) != int.from_bytes(ours[at][4:8], "little"):
        raise _damaged(f"{len(samples):,} bytes of samples, not those that its WAV header says")
    after = ours[at + 1 :]
    padding = b"\0" if len(samples) % 2 and after[:1] != [b""] else b""
    return b"".join([*ours[: at + 1], samples, padding, *after])


def _parsed(wav: bytes) -> _Wave:
    if wav[:4] != b"RIFF" or wav[8:12] != b"WAVE":
        raise _refused("it is an RF64 file" if wav[:4] == b"RF64" else "it is not a WAV file")
    before = [wav[:12]]
    layout: tuple[int, int, int] | None = None
    position = 12
    while position + 8 <= len(wav):
        kind, length = struct.unpack_from("<4sI", wav, position)
        start = position + 8
        if kind == b"data":
            if layout is None:
                raise _refused("its samples come before their format")
            if start + length > len(wav):
                raise _refused("its samples are cut off")
            channels, _, sample_bytes = layout
            if length == 0:
                raise _refused("it has no samples")
            if length % (channels * sample_bytes):
                raise _refused("its last sample is cut off")
            before.append(wav[position:start])
            samples = memoryview(wav)[start : start + length]
            return _Wave(tuple(before), samples, tuple(_after(wav, start + length, length)), *layout)
        if kind == b"fmt ":
            if layout is not None:
                raise _refused("it has two formats")
            layout = _layout(wav[start : start + length])
        position = start + length + (length & 1)
        before.append(wav[start - 8 : position])
    raise _refused("it has no chunk of samples")


def _layout(content: bytes) -> tuple[int, int, int]:
    """Return channels, rate and bytes per sample of a `fmt ` chunk that FLAC can hold."""
    if len(content) < 16:
        raise _refused("its format is cut off")
    tag, channels, sample_rate_hz, _, frame_bytes, bits = struct.unpack_from("<HHIIHH", content)
    if tag == _EXTENSIBLE and len(content) >= 40 and content[26:40] == _GUID_TAIL:
        tag = int.from_bytes(content[24:26], "little")
    if tag != _PCM:
        raise _refused("its samples are floating-point" if tag == 3 else f"its samples have the format {tag:#06x}")
    if bits not in {8, 16, 24}:
        raise _refused(f"its samples have {bits} bits")
    if not 1 <= channels <= MAX_CHANNELS:
        raise _refused(f"it has {channels} channels")
    if frame_bytes != channels * bits // 8:
        raise _refused(f"its samples of {bits} bits are in containers of another size")
    return channels, sample_rate_hz, bits // 8


def _after(wav: bytes, position: int, length: int) -> Iterator[bytes]:
    """Yield the chunks behind the samples; what is no chunk, as it is."""
    if length & 1:
        if wav[position : position + 1] == b"\0":
            position += 1
        else:
            yield b""
    while position < len(wav):
        length = int.from_bytes(wav[position + 4 : position + 8], "little")
        end = position + 8 + length + (length & 1)
        whole = position + 8 + length <= len(wav)
        yield wav[position : end if whole else None]
        position = end if whole else len(wav)


def _decoded(wave: _Wave) -> Iterator[NDArray[np.int16] | NDArray[np.int32]]:
    """Yield the samples as (frames, channels), of which libsndfile takes the upper bits that the depth has."""
    step = _BLOCK_SAMPLES * wave.channels * wave.sample_bytes
    for start in range(0, len(wave.samples), step):
        content = wave.samples[start : start + step]
        block: NDArray[np.int16] | NDArray[np.int32]
        if wave.sample_bytes == 1:
            block = (np.frombuffer(content, np.uint8).astype(np.int16) - 128) << 8
        elif wave.sample_bytes == 2:
            block = np.frombuffer(content, "<i2").astype(np.int16, copy=False)
        else:
            padded = np.zeros((len(content) // 3, 4), np.uint8)
            padded[:, 1:] = np.frombuffer(content, np.uint8).reshape(-1, 3)
            block = padded.view("<i4")[:, 0].astype(np.int32, copy=False)
        yield block.reshape(-1, wave.channels)


def _encoded(flac: bytes) -> Iterator[bytes]:
    """Yield the samples of a FLAC file as a WAV file has them."""
    try:
        with soundfile.SoundFile(io.BytesIO(flac)) as sound:
            sample_bytes = next((size for size, name in _SUBTYPES.items() if name == sound.subtype), None)
            if sample_bytes is None:
                raise _damaged(f"samples of the type {sound.subtype}")
            left = sound.frames
            while left > 0:
                dtype = "int32" if sample_bytes == 3 else "int16"
                block = sound.read(min(left, _BLOCK_SAMPLES), dtype=dtype, always_2d=True)
                if not len(block):
                    raise _damaged(f"{left:,} samples fewer than it says")
                left -= len(block)
                if sample_bytes == 1:
                    yield ((block >> 8) + 128).astype(np.uint8).tobytes()
                elif sample_bytes == 2:
                    yield block.astype("<i2", copy=False).tobytes()
                else:
                    yield block.astype("<i4", copy=False).view(np.uint8).reshape(-1, 4)[:, 1:].tobytes()
    except soundfile.LibsndfileError as error:
        raise _damaged(error.error_string) from error


def _blocks(flac: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the metadata blocks of a FLAC file: type, and where its content begins and ends."""
    if flac[:4] != b"fLaC":
        raise _damaged("no FLAC file")
    position, last = 4, False
    while not last:
        if position + 4 > len(flac):
            raise _damaged("a file that is cut off")
        last = bool(flac[position] & _LAST)
        length = int.from_bytes(flac[position + 1 : position + 4], "big")
        yield flac[position] & ~_LAST, position + 4, position + 4 + length
        position += 4 + length


def _written(blocks: list[tuple[int, bytes]]) -> Iterator[bytes]:
    for index, (kind, content) in enumerate(blocks):
        last = _LAST if index == len(blocks) - 1 else 0
        yield bytes([kind | last]) + len(content).to_bytes(3, "big") + content


def _refused(reason: str) -> LibraryError:
    return LibraryError(reason, expected="a WAV file of 8, 16 or 24 bit PCM", next_step="keep the file as it is")


def _damaged(got: str) -> LibraryError:
    return LibraryError(
        "a FLAC file cannot be made a WAV file",
        expected="FLAC with the header of the WAV file",
        got=got,
        next_step="backbeat library maintain says which files are damaged",
    )
