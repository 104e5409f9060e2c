"""What a sound file is, found in one pass over it: hashes of file and sound, type, level, faults.

The hash of a sound is that of its rate, its channels and its samples, whatever they are stored as: a 16-bit WAV, its
FLAC, and the same samples stored with 24 or 32 bits or as floats have one hash. Where every sample is a multiple of
2^-31, as all but floating-point audio is, it is over 32-bit integers with full scale at 2^31; else over 64-bit floats.
Both are little-endian, channels interleaved.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from backbeat.audio.read import BLOCK_SAMPLES, AudioInfo, read_info
from backbeat.errors import AudioError
from backbeat.library.settings import ScanSettings

# Sample types of integers; of the others libsndfile makes floats.
_BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
_FLOAT_BITS = {"FLOAT": 32, "DOUBLE": 64}

_FULL = 2.0**31

# A sample of 16 bits at full scale; nothing finer is called clipped below it.
_AT_FULL_SCALE = 1 - 2**-15

Block = NDArray[np.int32] | NDArray[np.float64]


class AudioDigest:
    """The hash of a sound that comes in blocks."""

    def __init__(self, sample_rate_hz: int, channels: int) -> None:
        head = f"{sample_rate_hz}:{channels}:".encode()
        self._floats = hashlib.sha256(head + b"float64:")
        # Ended by the first sample that is none.
        self._integers: Any = hashlib.sha256(head + b"int32:")

    def update(self, block: Block) -> None:
        """Take the next samples, shape (samples, channels): integers with full scale at 2^31, or floats with it at 1.

        All blocks are of one type.
        """
        if block.dtype == np.int32:
            self._integers.update(np.ascontiguousarray(block, "<i4").data)
            return
        # Adding zero makes a zero of a negative one.
        self._floats.update(np.ascontiguousarray(block + 0.0, "<f8").data)
        if self._integers is not None:
            scaled = block * _FULL
            if np.array_equal(scaled, np.floor(scaled)) and scaled.min() >= -_FULL and scaled.max() < _FULL:
                self._integers.update(np.ascontiguousarray(scaled, "<i4").data)
            else:
                self._integers = None

    def hexdigest(self) -> str:
        """Return the hash of what has come."""
        return str((self._floats if self._integers is None else self._integers).hexdigest())


def audio_digest(sample_rate_hz: int, channels: int, samples: Block) -> str:
    """Return the hash of a sound.

    Args:
        sample_rate_hz: its rate.
        channels: how many.
        samples: shape (samples, channels); int32 with full scale at 2^31, or float64 with it at 1.
    """
    digest = AudioDigest(sample_rate_hz, channels)
    digest.update(samples)
    return digest.hexdigest()


def sound_facts(content: bytes | Path, name: str, settings: ScanSettings) -> dict[str, Any]:
    """Return the columns of `tables.SCAN` that tell of a sound, from `audio_sha256` on.

    Args:
        content: the file, or where it is: then it is decoded in blocks.
        name: what to call it in messages.
        settings: what counts as clipped and silent.

    Raises:
        AudioError: if it cannot be decoded to its end into finite samples.
    """
    info = read_info(content, name)
    bits = _BITS.get(info.subtype)
    measured = _Measured(info, min(_AT_FULL_SCALE, 1 - 2 ** (1 - bits)) if bits else _AT_FULL_SCALE)
    try:
        with soundfile.SoundFile(io.BytesIO(content) if isinstance(content, bytes) else content) as sound:
            kind = sound.format
            while measured.frames < info.samples:
                block = sound.read(BLOCK_SAMPLES, dtype="int32" if bits else "float64", always_2d=True)
                if not len(block):
                    got = f"{measured.frames:,} of them"
                    raise AudioError(f"{name} ends early", expected=f"{info.samples:,} samples", got=got)
                measured.add(block, name)
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{name} cannot be decoded", expected="a sound file", got=error.error_string) from error
    return {
        "audio_sha256": measured.digest.hexdigest(),
        "format": "WAV" if kind == "WAVEX" else kind,
        "subtype": info.subtype,
        "bit_depth": bits or _FLOAT_BITS.get(info.subtype),
        "is_float": info.subtype in _FLOAT_BITS,
        "used_bits": measured.used_bits if bits else _FLOAT_BITS.get(info.subtype),
        "sample_rate_hz": info.sample_rate_hz,
        "channels": info.channels,
        "frames": info.samples,
        "duration_s": info.duration_s,
        "peak_db": measured.peak_db,
        "clipped_samples": measured.clipped(settings.clip_run_samples),
        "silent": measured.peak_db is None or measured.peak_db < settings.silent_below_db,
        "dc_offset": measured.dc_offset,
    }


class _Measured:
    """What is gathered block by block."""

    def __init__(self, info: AudioInfo, full_scale: float) -> None:
        self.digest = AudioDigest(info.sample_rate_hz, info.channels)
        self.frames = 0
        self._full_scale = full_scale
        self._peak = 0.0
        self._sums = np.zeros(info.channels)
        self._bits = 0
        # The runs of samples at full scale: their lengths, and how long the one is that each channel ends in.
        self._runs: list[int] = []
        self._open = [0] * info.channels

    def add(self, block: Block, name: str) -> None:
        self.digest.update(block)
        scale = _FULL if block.dtype == np.int32 else 1.0
        with np.errstate(over="ignore", invalid="ignore"):  # what comes of it is noticed in the next line
            sums = block.sum(axis=0, dtype=np.float64) / scale
        if not np.isfinite(sums).all():
            raise AudioError(f"{name} has samples that are not finite", expected="numbers", got="NaN or infinity")
        self._sums += sums
        low, high = float(block.min()) / scale, float(block.max()) / scale
        self._peak = max(self._peak, -low, high)
        if block.dtype == np.int32:
            self._bits |= int(np.bitwise_or.reduce(block, axis=None))
        if max(-low, high) >= self._full_scale or any(self._open):
            self._add_runs(np.abs(block.astype(np.float64)) >= self._full_scale * scale)
        self.frames += len(block)

    def _add_runs(self, full: NDArray[np.bool_]) -> None:
        for channel in range(full.shape[1]):
            edges = np.flatnonzero(np.diff(np.concatenate([[False], full[:, channel], [False]])))
            lengths = np.diff(edges)[::2].tolist()
            if full[0, channel]:
                lengths[0] += self._open[channel]
            elif self._open[channel]:
                self._runs.append(self._open[channel])
            self._open[channel] = lengths.pop() if full[-1, channel] else 0
            self._runs += lengths

    def clipped(self, least_run: int) -> int:
        """Return how many samples are in runs at full scale of at least this length."""
        return sum(run for run in [*self._runs, *self._open] if run >= least_run)

    @property
    def peak_db(self) -> float | None:
        return None if self._peak == 0 else float(20 * np.log10(self._peak))

    @property
    def dc_offset(self) -> float:
        """The mean of the channel where it is largest."""
        means = self._sums / self.frames
        return float(means[np.argmax(np.abs(means))])

    @property
    def used_bits(self) -> int:
        """How many bits the samples need: 16 of a 16-bit file stored with 24; 0 for digital silence."""
        bits = self._bits & 0xFFFFFFFF
        return 0 if bits == 0 else 32 - ((bits & -bits).bit_length() - 1)
