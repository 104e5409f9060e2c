"""How much one sound is like another: a short vector to find neighbors by.

It begins at the onset and does not know how loud a sound is, so that silence at the head and a gain make no difference.
It is a coarse picture of the first second in mel bands, and says who may be alike among tens of thousands at once.
Whether two sounds are the same recording only their waveforms say (`backbeat.audio.correlation`).
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

# The beginning that the vector is a picture of: what tells one-shots apart is over by then.
SPAN_S = 1.0
# Steps of time grow with the distance from the onset: 2 of 10 ms, … (`_step_edges`).
FRAME_S = 0.01
STEPS = 20
BANDS = 32
LOW_HZ, HIGH_HZ = 30.0, 16_000.0
DIMENSIONS = STEPS * BANDS

# The onset is the first sample above this share of the loudest one.
ONSET_SHARE = 0.05

# Power to this exponent: between amplitude, which hears the loudest band alone, and decibels, which hear the noise
# floor and the last millisecond of a tail as much as the sound.
_EXPONENT = 0.3


def embedding(mono: NDArray[np.float32], sample_rate_hz: int) -> NDArray[np.float32]:
    """Return the vector of a sound: similar sounds have a large scalar product.

    Args:
        mono: the samples, shape (samples,).
        sample_rate_hz: their rate.

    Returns:
        shape (DIMENSIONS,), of length 1; zeros for silence.
    """
    frame, size = round(FRAME_S * sample_rate_hz), _fft_size(sample_rate_hz)
    begin = onset(mono)
    if begin is None:
        return np.zeros(DIMENSIONS, np.float32)
    # A frame before the onset, so that the attack is in the middle of the first window.
    count = round(SPAN_S / FRAME_S)
    span = np.zeros(count * frame + 2 * frame, np.float32)
    lead = min(begin, frame // 2)
    part = mono[begin - lead : begin - lead + len(span) - (frame // 2 - lead)]
    span[frame // 2 - lead : frame // 2 - lead + len(part)] = part
    windows = np.lib.stride_tricks.sliding_window_view(span, 2 * frame)[::frame][:count] * _window(2 * frame)
    power = np.square(np.abs(np.fft.rfft(windows, size, axis=1)), dtype=np.float32) @ _bands(sample_rate_hz)
    picture = np.add.reduceat(power, _step_edges(), axis=0) / _step_lengths()[:, None]
    vector = np.power(picture, _EXPONENT).ravel()
    vector -= vector.mean()
    return (vector / max(float(np.linalg.norm(vector)), 1e-12)).astype(np.float32)


def to_bytes(vector: NDArray[np.float32]) -> bytes:
    """Return a vector as one signed byte for each dimension, relative to the largest."""
    largest = float(np.abs(vector).max()) or 1.0
    return np.round(vector * (127 / largest)).astype(np.int8).tobytes()


def from_bytes(content: bytes) -> NDArray[np.float32]:
    """Return the vector that `to_bytes` wrote, of length 1, or zeros."""
    vector = np.frombuffer(content, np.int8).astype(np.float32)
    return vector / max(float(np.linalg.norm(vector)), 1.0)


def onset(mono: NDArray[np.float32]) -> int | None:
    """Return the first sample that is loud; None for silence."""
    loudness = np.abs(mono)
    peak = float(loudness.max(initial=0))
    return int(np.argmax(loudness > ONSET_SHARE * peak)) if peak > 0 else None


def _fft_size(sample_rate_hz: int) -> int:
    return int(2 ** np.ceil(np.log2(2 * FRAME_S * sample_rate_hz)))


@functools.cache
def _window(samples: int) -> NDArray[np.float32]:
    return np.hanning(samples + 2)[1:-1].astype(np.float32)


@functools.cache
def _step_edges() -> NDArray[np.intp]:
    """Return the first frame of each step: the first ones are single frames, the last ones tens of them."""
    count = round(SPAN_S / FRAME_S)
    edges = np.geomspace(2, count + 2, STEPS + 1) - 2
    for at in range(1, STEPS + 1):
        edges[at] = max(round(edges[at]), edges[at - 1] + 1)
    return edges[:-1].astype(np.intp)


@functools.cache
def _step_lengths() -> NDArray[np.float32]:
    return np.diff(np.append(_step_edges(), round(SPAN_S / FRAME_S))).astype(np.float32)


@functools.cache
def _bands(sample_rate_hz: int) -> NDArray[np.float32]:
    """Return triangular mel bands, shape (frequencies, BANDS): of equal area, whatever the rate."""
    size = _fft_size(sample_rate_hz)
    mel = np.linspace(_mel(LOW_HZ), _mel(HIGH_HZ), BANDS + 2)
    corners = 700 * (np.exp(mel / 1127) - 1)
    frequencies = np.fft.rfftfreq(size, 1 / sample_rate_hz)[:, None]
    # A band narrower than a bin of the transform would be empty.
    bin_hz = sample_rate_hz / size
    low = np.minimum(corners[:-2], corners[1:-1] - bin_hz)
    high = np.maximum(corners[2:], corners[1:-1] + bin_hz)
    up = (frequencies - low) / (corners[1:-1] - low)
    down = (high - frequencies) / (high - corners[1:-1])
    weights = np.clip(np.minimum(up, down), 0, None)
    return np.asarray(weights / np.maximum(weights.sum(axis=0), 1e-9), np.float32)


def _mel(frequency_hz: float) -> float:
    return float(1127 * np.log1p(frequency_hz / 700))
