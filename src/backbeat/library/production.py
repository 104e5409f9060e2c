"""A sample as the sampler takes it: 16 bit at its rate, with the chunks `fmt ` and `data` alone.

- A sound that is on the grid of 16 bits at that rate already keeps every bit.
- Any other is resampled (soxr, VHQ), cut with a fade if it is too long, turned down just so far that its true peak
  (ITU-R BS.1770) is below the ceiling, and dithered: triangular noise of two quantization steps (Lipshitz et al.,
  "Quantization and Dither: A Theoretical Survey", JAES 40, 1992), seeded by the sound, so that the same sound gives the
  same bytes.
- Silence at the beginning stays: where a sample begins is the musician's decision.
"""

from __future__ import annotations

import io
import math
import wave
from dataclasses import dataclass

import numpy as np
import soundfile
from numpy.typing import NDArray

from backbeat.audio.loudness import true_peak
from backbeat.errors import LibraryError
from backbeat.library.settings import Device

MAX_CHANNELS = 2

# The largest 16-bit sample, less what dither and rounding can add.
_LARGEST = (2**15 - 1 - 1.5) / 2**15

Channels = NDArray[np.float64]


@dataclass(frozen=True)
class Rendered:
    """A WAV file for the sampler, and by how much it was turned down."""

    wav: bytes
    gain_db: float


def render(original: bytes, sample: str, audio_sha256: str, device: Device) -> Rendered:
    """Return a sample as a WAV file of 16 bits at the rate of the device.

    Args:
        original: the content of its file.
        sample: its name, for messages.
        audio_sha256: of its sound; the seed of the dither.
        device: the rate, the ceiling, and the longest that is not cut.

    Raises:
        LibraryError: if it cannot be decoded, or has more channels than a sampler plays.
    """
    sound, sample_rate_hz, whole = _decoded(original, sample, device)
    steps = sound * 2**15
    if whole and sample_rate_hz == device.sample_rate_hz and _on_grid(steps):
        return Rendered(_wav(steps.astype("<i2"), device.sample_rate_hz), 0.0)
    if sample_rate_hz != device.sample_rate_hz:
        import soxr

        sound = soxr.resample(sound, sample_rate_hz, device.sample_rate_hz, quality="VHQ")
    longest = round(device.longest_s * device.sample_rate_hz)
    if len(sound) > longest:
        fade = min(longest, round(device.fade_s * device.sample_rate_hz))
        sound = sound[:longest].copy()
        sound[longest - fade :] *= np.linspace(1, 0, fade)[:, None]
    noise = _triangular(sound.shape, audio_sha256)
    ceiling = min(10 ** (device.ceiling_db / 20), _LARGEST)
    gain = _needed_gain(sound, device.sample_rate_hz, ceiling)
    while True:
        quantized = np.rint(sound * (gain * 2**15) + noise).astype("<i2")
        more = _needed_gain(quantized / 2**15, device.sample_rate_hz, ceiling)
        if more == 1 or gain == 0:
            break
        gain *= more * (1 - 2**-15)
    return Rendered(_wav(quantized, device.sample_rate_hz), round(20 * math.log10(gain), 3) if gain else 0.0)


def _decoded(original: bytes, sample: str, device: Device) -> tuple[Channels, int, bool]:
    """Return samples, shape (samples, channels), rate, and whether that is all of them; no more than can be used."""
    try:
        with soundfile.SoundFile(io.BytesIO(original)) as file:
            if file.channels > MAX_CHANNELS:
                raise LibraryError(f"{sample} has {file.channels} channels", expected="one or two")
            # A little more than is used: resampling looks ahead.
            wanted = math.ceil((device.longest_s + 0.5) * file.samplerate)
            sound = file.read(min(file.frames, wanted), dtype="float64", always_2d=True)
            whole = file.frames <= device.longest_s * file.samplerate
    except soundfile.LibsndfileError as error:
        raise LibraryError(f"{sample} cannot be decoded", expected="a sound file", got=error.error_string) from error
    return sound, file.samplerate, whole


def _on_grid(steps: Channels) -> bool:
    return bool((np.rint(steps) == steps).all() and steps.min(initial=0) >= -(2**15) and steps.max(initial=0) < 2**15)


def _needed_gain(sound: Channels, sample_rate_hz: int, ceiling: float) -> float:
    peak = true_peak(np.ascontiguousarray(sound.T, dtype=np.float32), sample_rate_hz)
    return min(1.0, ceiling / peak) if peak > 0 else 1.0


def _triangular(shape: tuple[int, ...], seed: str) -> Channels:
    """Return noise from -1 to 1, triangular: raw bits of a generator that no version of NumPy changes."""
    bits = np.random.PCG64(int(seed[:32], 16)).random_raw(2 * math.prod(shape))
    uniform = (bits >> np.uint64(11)) * 2.0**-53
    half = len(uniform) // 2
    return (uniform[:half] - uniform[half:]).reshape(shape)


def _wav(samples: NDArray[np.int16], sample_rate_hz: int) -> bytes:
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(sample_rate_hz)
        file.writeframes(samples.tobytes())
    return stream.getvalue()
