"""A fingerprint of the code between an archive and a shard, taken by watching what it computes."""

from __future__ import annotations

import hashlib
import io

import numpy as np
import soundfile

from backbeat.audio.logmel import LogMel
from backbeat.audio.read import mono_blocks
from backbeat.config import FeatureParams
from backbeat.drums.midi import read_onsets


def _midi_file(*tracks: str) -> bytes:
    """Return a type-1 MIDI file of 480 ticks a beat with these events, given in hex."""
    chunks = [bytes.fromhex(f"{events} 00ff2f00") for events in tracks]
    header = b"MThd" + bytes([0, 0, 0, 6, 0, 1, 0, len(chunks), 0x01, 0xE0])
    return header + b"".join(b"MTrk" + len(chunk).to_bytes(4, "big") + chunk for chunk in chunks)


# A change of tempo in one track; in the other, notes that end by a velocity of zero or not at all.
FIXED_MIDI = _midi_file(
    "00 ff510307a120  8360 ff5103051615", "00 992464  78 992400  8360 992640  8360 992a50  8360 892a40"
)


def front_end_fingerprint(features: FeatureParams) -> str:
    """Return a digest of what is made of a fixed sound and a fixed MIDI file, 64 bits in hex.

    It goes into the digest of every slice and shard: when the code or a library under it computes something else, those
    of before are not mistaken for those of now. The sound is two channels at a rate that has to be resampled; the MIDI
    file has two tracks, a change of tempo, and notes that end by a velocity of zero or not at all.
    """
    time_s = np.arange(24_000) / 48_000
    sweep = np.sin(2 * np.pi * 40 * time_s * (1 + 200 * time_s**2))
    # A multiplicative congruential generator: noise that no library can change (Park & Miller 1988).
    noise = np.array([pow(16_807, i, 2**31 - 1) for i in range(1, 257)]) / 2**30 - 1
    clicks = np.zeros_like(time_s)
    clicks[6_000:6_256], clicks[15_000] = noise, 1.0
    wav = io.BytesIO()
    soundfile.write(wav, np.stack([0.5 * sweep, 0.9 * clicks], axis=1), 48_000, subtype="PCM_16", format="WAV")
    blocks = mono_blocks(wav.getvalue(), "fixed sound", features.sample_rate_hz)
    onsets = read_onsets(FIXED_MIDI, "fixed MIDI file")
    computed = (LogMel(features).all_frames(blocks), onsets.onset_s, onsets.pitch, onsets.velocity)
    return hashlib.sha256(b"".join(array.tobytes() for array in computed)).hexdigest()[:16]
