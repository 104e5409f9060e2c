"""WAV as it is found: 16, 24 or 32 bit, with the chunks that samplers and editors leave beside the samples."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float64]

# Of `fmt `: integers, floats.
_PCM, _FLOAT = 1, 3


def quantized(samples: Samples, bit_depth: int, dither: np.random.Generator | None = None) -> Samples:
    """Return samples on the steps of a bit depth, clipped to full scale.

    Args:
        samples: shape (samples, channels), full scale at 1.
        bit_depth: 16 or 24; 32 stands for floats.
        dither: where the triangular dither of two steps comes from; None for none.
    """
    if bit_depth == 32:
        return samples.astype(np.float32).astype(np.float64)
    scale = 2.0 ** (bit_depth - 1)
    noise = 0.0 if dither is None else dither.random(samples.shape) - dither.random(samples.shape)
    return np.clip(np.round(samples * scale + noise), -scale, scale - 1) / scale


def wav_bytes(
    samples: Samples, sample_rate_hz: int, bit_depth: int, chunks: list[tuple[bytes, bytes]] | None = None
) -> bytes:
    """Return a WAV file.

    Args:
        samples: shape (samples, channels), already on the steps of `bit_depth`.
        sample_rate_hz: their rate.
        bit_depth: 16 or 24; 32 stands for floats.
        chunks: what comes before the samples (`bext`) and behind them (all others), with their names.
    """
    channels, width = samples.shape[1], bit_depth // 8
    kind = _FLOAT if bit_depth == 32 else _PCM
    form = struct.pack(
        "<HHIIHH", kind, channels, sample_rate_hz, sample_rate_hz * channels * width, channels * width, bit_depth
    )
    parts = [(b"fmt ", form), (b"data", _packed(samples, bit_depth))]
    for name, content in chunks or []:
        parts.insert(1 if name == b"bext" else len(parts), (name, content))
    body = b"".join(
        name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) & 1) for name, content in parts
    )
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body


def found_chunks(
    rng: np.random.Generator, frames: int, sample_rate_hz: int, tempo_bpm: float | None
) -> list[tuple[bytes, bytes]]:
    """Return some of the chunks that real files have, of a loop its tempo among them."""
    chunks = [
        (b"smpl", _smpl(frames, sample_rate_hz)),
        (b"cue ", struct.pack("<III4sIII", 1, 1, 0, b"data", 0, 0, frames // 2)),
        (
            b"LIST",
            b"INFOISFT" + struct.pack("<I", 14) + b"Sound Editor\0\0" + b"ICMT" + struct.pack("<I", 5) + b"punch\0",
        ),
        (b"bext", b"recorded at home".ljust(602, b"\0")),
        (b"PAD ", bytes(int(rng.integers(1, 40)) * 2 + 1)),
    ]
    if tempo_bpm is not None:
        beats = round(frames / sample_rate_hz * tempo_bpm / 60)
        acid = struct.pack("<IHHfIHHf", 0, 60, 0x8000, 0.0, beats, 4, 4, tempo_bpm)
        chunks.append((b"acid", acid))
    kept = rng.permutation(len(chunks))[: int(rng.integers(1, 4))]
    return [chunks[at] for at in sorted({*kept, len(chunks) - 1} if tempo_bpm is not None else kept)]


def _smpl(frames: int, sample_rate_hz: int) -> bytes:
    head = struct.pack("<9I", 0, 0, round(1e9 / sample_rate_hz), 60, 0, 0, 0, 1, 0)
    return head + struct.pack("<6I", 0, 0, frames // 4, frames - 1, 0, 0)


def _packed(samples: Samples, bit_depth: int) -> bytes:
    if bit_depth == 32:
        return samples.astype("<f4").tobytes()
    whole = np.round(samples * 2.0 ** (bit_depth - 1)).astype("<i4")
    if bit_depth == 16:
        return whole.astype("<i2").tobytes()
    return np.ascontiguousarray(whole).view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
