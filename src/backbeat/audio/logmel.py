"""Log-mel spectrograms as 8-bit decibels: torchaudio's definition, without a logarithm.

Definition. `torchaudio.transforms.MelSpectrogram(sample_rate, n_fft, hop_length=…, f_min=…, f_max=…, n_mels=…)`
with its defaults (periodic Hann window, centered frames, reflected edges, power 2, HTK mel scale, no filter norm),
then decibels of that power, then `value = round((decibels - floor_db) / step_db)` clipped to 0…255. Frame `i` is
centered on sample `i * hop_samples`; a recording of `n` samples has `1 + n // hop_samples` frames. A recording too
short to be reflected is first extended with zeros to `fft_samples // 2 + 1` samples.

The tests hold this against torchaudio to within half a step and 0.01 dB, down to 100 dB below the loudest band of a
frame, where the precision of 32-bit floats ends, torchaudio's as well.

Why not call torchaudio: this is the inner loop of 444 hours, and the usual whole-file call spends most of its time
moving memory. Here frames go through in blocks that fit the cache, one after the other in the same memory; real and
imaginary parts are squared in place and added only after the mel sum, which is a sparse product because a mel matrix
is banded; and the logarithm is a table over the leading bits of the float. Two thirds of the time is then the
transform. None of these steps uses instructions that differ between processors of one architecture, which is what
makes the bytes the same everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import scipy.fft
import scipy.sparse
from numpy.typing import NDArray

from backbeat.config import FeatureParams
from backbeat.errors import ConfigError

Samples = NDArray[np.float32]
Values = NDArray[np.uint8]

# Frames per block. Large enough to amortize calls, small enough for the second-level cache, and no power of two:
# the transform walks columns, and a power-of-two stride maps them all onto the same few cache lines.
BLOCK_FRAMES = 100

# Samples of a whole recording that are worked on at once: 6 s at 44.1 kHz. Longer copies leave the cache.
BLOCK_SAMPLES = 2**18

# Bits of the mantissa that index the decibel table: 2048 entries an octave, 0.003 dB apart.
TABLE_BITS = 11
_MANTISSA_BITS = 23


def hz_to_mel(frequency_hz: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Convert hertz to mel by the HTK formula, 2595 log10(1 + f / 700)."""
    return np.asarray(2595.0 * np.log10(1.0 + np.asarray(frequency_hz) / 700.0))


def mel_to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert mel to hertz by the HTK formula."""
    return np.asarray(700.0 * (10.0 ** (mel / 2595.0) - 1.0))


def mel_filters(params: FeatureParams) -> NDArray[np.float32]:
    """Return the triangular filters, shape (mels, fft_samples // 2 + 1), each with a peak of one."""
    bins_hz = np.linspace(0, params.sample_rate_hz // 2, params.fft_samples // 2 + 1)
    mels = np.linspace(hz_to_mel(params.low_hz), hz_to_mel(params.high_hz), params.mels + 2)
    corners_hz = mel_to_hz(mels)[:, None]
    rising = (bins_hz - corners_hz[:-2]) / (corners_hz[1:-1] - corners_hz[:-2])
    falling = (corners_hz[2:] - bins_hz) / (corners_hz[2:] - corners_hz[1:-1])
    return np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)


class LogMel:
    """Computes the spectrogram that `params` describe; holds the window, the filters and the decibel table.

    It also holds the memory it works in, so each thread needs its own.
    """

    def __init__(self, params: FeatureParams) -> None:
        self.params = params
        phase = 2 * np.pi * np.arange(params.fft_samples) / params.fft_samples
        self._window = (0.5 - 0.5 * np.cos(phase)).astype(np.float32)
        # Kept: memory that is given back and asked for again is empty pages to the system, and filling those takes
        # as long as the transform.
        self._block = np.empty((BLOCK_FRAMES, params.fft_samples), np.float32)
        filters = mel_filters(params)
        if not filters.any(axis=1).all():
            step = "take fewer mels or more fft_samples, or raise low_hz"
            got = f"{int((~filters.any(axis=1)).sum())} without any"
            raise ConfigError("mel bands are narrower than the transform resolves", expected="a bin in every band",
                              got=got, next_step=step)  # fmt: skip
        self._bins = int(np.flatnonzero(filters.any(axis=0))[-1]) + 1
        self._filters = scipy.sparse.csr_array(filters[:, : self._bins])
        self._table, self._table_start = _decibel_table(params.floor_db, params.step_db)

    def frame_count(self, samples: int) -> int:
        """Return the number of frames of a recording of `samples` samples."""
        return 1 + max(samples, self.params.fft_samples // 2 + 1) // self.params.hop_samples

    def __call__(self, samples: Samples) -> Values:
        """Return the spectrogram of a whole recording.

        Args:
            samples: shape (samples,), finite, at the sample rate of `params`.

        Returns:
            shape (frames, mels).
        """
        return self.all_frames(
            samples[start : start + BLOCK_SAMPLES] for start in range(0, max(len(samples), 1), BLOCK_SAMPLES)
        )

    def all_frames(self, blocks: Iterable[Samples]) -> Values:
        """Return the spectrogram of a recording that comes in blocks, shape (frames, mels)."""
        return np.concatenate(list(self.stream(blocks)))

    def stream(self, blocks: Iterable[Samples]) -> Iterator[Values]:
        """Yield the spectrogram of a recording that comes in blocks, in pieces of any number of frames.

        The pieces put together are the same bytes as the spectrogram of the whole recording.

        Args:
            blocks: arrays of shape (samples,), of any lengths.
        """
        half, hop, fft = self.params.fft_samples // 2, self.params.hop_samples, self.params.fft_samples
        pending = np.empty(0, np.float32)
        started = False
        for block in blocks:
            fresh = block.astype(np.float32, copy=False)
            pending = np.concatenate([pending, fresh]) if len(pending) else fresh
            if not started and len(pending) > half:
                pending = np.concatenate([pending[half:0:-1], pending])
                started = True
            # A tail of half a window stays behind: the end of the recording is its mirror image.
            if started and len(pending) >= fft + half + 1:
                complete = 1 + (len(pending) - half - 1 - fft) // hop
                yield self._frames(pending, complete)
                pending = pending[complete * hop :]
        if not started:
            pending = np.pad(pending, (0, max(0, half + 1 - len(pending))))
            pending = np.concatenate([pending[half:0:-1], pending])
        mirrored = np.concatenate([pending, pending[-2 : -half - 2 : -1]])
        yield self._frames(mirrored, 1 + (len(mirrored) - fft) // hop)

    def decibels(self, values: Values) -> NDArray[np.float32]:
        """Return the decibels that 8-bit values stand for, of the same shape."""
        return np.float32(self.params.floor_db) + values.astype(np.float32) * np.float32(self.params.step_db)

    def _frames(self, samples: Samples, count: int) -> Values:
        """Return the first `count` frames of padded samples, shape (count, mels)."""
        item = samples.itemsize
        frames = np.lib.stride_tricks.as_strided(
            samples, (count, self.params.fft_samples), (item * self.params.hop_samples, item), writeable=False
        )
        values = np.empty((count, self.params.mels), np.uint8)
        for start in range(0, count, BLOCK_FRAMES):
            chosen = frames[start : start + BLOCK_FRAMES]
            block = self._block[: len(chosen)]
            np.copyto(block, chosen)  # and then multiplied: faster than reading overlapping frames and multiplying
            block *= self._window
            spectrum = scipy.fft.rfft(block.T, axis=0)[: self._bins]
            squares = spectrum.view(np.float32)
            squares *= squares
            # Columns alternate between real and imaginary parts, so the sum of a pair of columns is the power.
            mels = self._filters @ squares
            values[start : start + BLOCK_FRAMES] = self._quantize(mels[:, ::2] + mels[:, 1::2]).T
        return values

    def _quantize(self, power: NDArray[np.float32]) -> Values:
        leading_bits = power.view(np.int32) >> (_MANTISSA_BITS - TABLE_BITS)
        leading_bits -= self._table_start
        return self._table.take(leading_bits, mode="clip")


def _decibel_table(floor_db: float, step_db: float) -> tuple[Values, int]:
    """Return the 8-bit value for each run of leading float bits, and the bits that the table starts at."""
    shift = _MANTISSA_BITS - TABLE_BITS
    lowest = np.float32(10 ** (floor_db / 10))
    highest = np.float32(10 ** ((floor_db + 256 * step_db) / 10))
    first, last = (int(bound.view(np.int32)) >> shift for bound in (lowest, highest))
    bits = np.arange(first, last + 1, dtype=np.int32)
    middle_of_run = ((bits << shift) + (1 << (shift - 1))).view(np.float32).astype(np.float64)
    steps = np.rint((10 * np.log10(middle_of_run) - floor_db) / step_db)
    table = np.clip(steps, 0, 255).astype(np.uint8)
    return table, first
