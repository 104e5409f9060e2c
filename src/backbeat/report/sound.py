"""Sound for a page: a stretch of a recording, mono, as MP3.

MP3 because every browser plays it, Safari on a phone included; libsndfile writes what a decoder needs to begin on the
exact sample, so that the sound stands still against the picture.
"""

from __future__ import annotations

import io

import numpy as np
import soundfile

from backbeat.audio.read import mono_blocks

# One of the rates that MP3 knows; recordings of other rates are resampled.
SAMPLE_RATE_HZ = 44_100


def mp3_excerpt(content: bytes, name: str, start_s: float, length_s: float) -> bytes:
    """Return `length_s` seconds from `start_s` of a sound file as MP3.

    Args:
        content: the content of the file.
        name: what to call it in messages.
        start_s: where the excerpt begins, in seconds.
        length_s: how long it is; less, where the recording ends sooner.

    Raises:
        AudioError: if the file cannot be decoded.
    """
    first = round(start_s * SAMPLE_RATE_HZ)
    end = first + round(length_s * SAMPLE_RATE_HZ)
    kept, position = [], 0
    for block in mono_blocks(content, name, SAMPLE_RATE_HZ):
        kept.append(block[max(0, first - position) : max(0, end - position)])
        position += len(block)
    written = io.BytesIO()
    # Louder than full scale, which floating-point recordings may be, would be folded over by the encoder.
    samples = np.clip(np.concatenate(kept), -1, 1)
    soundfile.write(written, samples, SAMPLE_RATE_HZ, format="MP3", subtype="MPEG_LAYER_III")
    return written.getvalue()
