"""What happens to a sample on its way through hard disks: the copies of one sound, of every kind that is told apart.

Each function takes and returns samples of shape (samples, channels), and draws how much from a generator.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import soundfile
import soxr
from scipy import signal

from backbeat.library.generated.wavfile import Samples

# In the order in which they are planted. `exact` and `same_audio` change the file, not the samples.
KINDS = ("exact", "same_audio", "gained", "trimmed", "resampled", "requantized", "near")


def gained(samples: Samples, rng: np.random.Generator) -> Samples:
    """Return the same, softer or normalized: never clipped."""
    peak = max(float(np.abs(samples).max()), 1e-9)
    if peak < 0.7 and rng.random() < 0.4:
        return samples * (0.99 / peak)
    return samples * 10 ** (rng.uniform(-12, -1.5) / 20)


def trimmed(samples: Samples, sample_rate_hz: int, rng: np.random.Generator) -> Samples:
    """Return it with up to 30 % of the tail cut off and a fade, with silence in front, or both."""
    way = int(rng.integers(3))
    if way != 1:
        count = round(len(samples) * rng.uniform(0.7, 0.92))
        fade = min(count, round(rng.uniform(0.005, 0.03) * sample_rate_hz))
        samples = samples[:count].copy()
        samples[count - fade :] *= np.linspace(1, 0, fade)[:, None]
    if way != 0:
        lead = round(rng.uniform(0.003, 0.25) * sample_rate_hz)
        samples = np.concatenate([np.zeros((lead, samples.shape[1])), samples])
    return samples


def resampled(samples: Samples, sample_rate_hz: int, wanted_hz: int) -> Samples:
    """Return it at another rate."""
    return np.asarray(soxr.resample(samples, sample_rate_hz, wanted_hz, quality="HQ"))


def near(samples: Samples, sample_rate_hz: int, rng: np.random.Generator) -> tuple[str, Samples]:
    """Return which of the ways it went, and what came of it: another master of the same recording."""
    name = ("tilt", "vorbis", "saturation", "reverb")[rng.integers(4)]
    changed = _WAYS[name](samples, sample_rate_hz, rng)
    peak = float(np.abs(changed).max())
    return name, changed * (min(1.0, 0.97 / max(peak, 1e-9)))


def _tilt(samples: Samples, sample_rate_hz: int, rng: np.random.Generator) -> Samples:
    """A first-order shelf below and one above a corner, of up to 3 dB each."""
    gain = 10 ** (rng.choice([-1, 1]) * rng.uniform(1, 3) / 20)
    corner = np.tan(np.pi * rng.uniform(500, 3000) / sample_rate_hz)
    high, low = np.sqrt(gain), 1 / np.sqrt(gain)
    b = np.array([high + low * corner, low * corner - high]) / (1 + corner)
    return np.asarray(signal.lfilter(b, [1, (corner - 1) / (corner + 1)], samples, axis=0))


def _vorbis(samples: Samples, sample_rate_hz: int, _rng: np.random.Generator) -> Samples:
    stream = io.BytesIO()
    with soundfile.SoundFile(stream, "w", sample_rate_hz, samples.shape[1], "VORBIS", format="OGG") as sound:
        # libsndfile encodes what it is given at once on the stack.
        for start in range(0, len(samples), 2**14):
            sound.write(samples[start : start + 2**14])
    stream.seek(0)
    return np.asarray(soundfile.read(stream, always_2d=True)[0])


def _saturation(samples: Samples, _sample_rate_hz: int, rng: np.random.Generator) -> Samples:
    drive = rng.uniform(0.6, 1.4)
    return np.asarray(np.tanh(drive * samples / max(float(np.abs(samples).max()), 1e-9)) / np.tanh(drive))


def _reverb(samples: Samples, sample_rate_hz: int, rng: np.random.Generator) -> Samples:
    """A small room 14 to 20 dB below the sound."""
    count = round(rng.uniform(0.08, 0.3) * sample_rate_hz)
    room = rng.standard_normal(count) * np.exp(-6.9 * np.arange(count) / count)
    room *= 10 ** (rng.uniform(-20, -14) / 20) / np.sqrt(np.sum(room**2))
    delay = round(0.004 * sample_rate_hz)
    wet = signal.fftconvolve(samples, room[:, None], axes=0)
    out = np.concatenate([samples, np.zeros((count + delay, samples.shape[1]))])
    out[delay : delay + len(wet)] += wet[: len(out) - delay]
    return out


_WAYS: dict[str, Callable[[Samples, int, np.random.Generator], Samples]] = {
    "tilt": _tilt,
    "vorbis": _vorbis,
    "saturation": _saturation,
    "reverb": _reverb,
}
