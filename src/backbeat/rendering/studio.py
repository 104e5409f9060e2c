"""The studio: microphones, a room, an equalizer, a compressor, tape and codec between the drums and the file.

A hit stays where it was, within what a microphone's distance does: the equalizer is of minimum phase, so nothing is
heard before it. Only MP3 spreads a little of an attack ahead of it, as it does everywhere.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy import fft

from backbeat.rendering.bank import SAMPLE_RATE_HZ, Audio
from backbeat.rendering.equalizer import frequencies_hz, impulse_response
from backbeat.rendering.kits import GROUPS, drawn
from backbeat.rendering.recipe import RecordingDraws

# How much of each group the overheads hear, and the room.
_OVERHEAD = {"kick": 0.25, "snare": 0.7, "toms": 0.6, "hats": 0.9, "ride": 1.0, "crashes": 1.0}
# Metals have microphones of their own less often than drums.
_CLOSE = {"kick": 1.0, "snare": 1.0, "toms": 1.0, "hats": 0.5, "ride": 0.3, "crashes": 0.1}

# Bins of 2.7 Hz: the bass of a curve is followed within a fifth of a decibel.
_EQUALIZER_SAMPLES = 16_384

_BLOCK_SAMPLES = 64
_ATTACK_S, _RELEASE_S = (0.001, 0.03), (0.04, 0.4)
_MP3_LOWEST, _MP3_HIGHEST = 0.3, 0.95  # libsndfile's scale: 0 is best, 1 is smallest


@dataclass(frozen=True)
class Backing:
    """What else is in a mix: its sound, of any length, and how much louder than the drums it is (RMS)."""

    samples: Audio
    level_db: float


def draw_backing(song: Audio, draws: RecordingDraws, rng: np.random.Generator) -> Backing:
    """Draw where a song begins and how loud it is."""
    return Backing(np.roll(song, -int(rng.integers(len(song)))), drawn(draws.backing_db, rng))


def produce(
    heard: NDArray[np.float32], backing: Backing | None, draws: RecordingDraws, rng: np.random.Generator
) -> NDArray[np.int16]:
    """Make a recording of what is before the microphones.

    Args:
        heard: (groups, samples), as `play` returns it.
        backing: what else is in the mix, or None for drums alone; nothing else depends on it.
        draws: how widely recordings differ.
        rng: where the draws come from.

    Returns:
        (samples,) mono, 16 bits, 44.1 kHz.
    """
    close, overhead = _microphones(heard, draws, rng)
    mix = _equalized_in_room(close, overhead, draws, rng)
    if backing is not None:
        mix = _with_backing(mix, backing)
    mix = _compressed(mix, draws, rng)
    mix = _saturated(mix, draws, rng)
    if rng.random() < draws.lossy:
        mix = _through_mp3(mix, float(rng.uniform(_MP3_LOWEST, _MP3_HIGHEST)))
    mix *= 10 ** (drawn(draws.level_db, rng) / 20) / max(float(np.abs(mix).max()), 1e-6)
    mix += _noise(len(mix), drawn(draws.noise_db, rng), rng)
    return np.clip(np.round(32767 * mix), -32768, 32767).astype(np.int16)


def _microphones(heard: NDArray[np.float32], draws: RecordingDraws, rng: np.random.Generator) -> tuple[Audio, Audio]:
    close = np.zeros(heard.shape[1], np.float32)
    overhead = np.zeros_like(close)
    close_gain = 10 ** (drawn(draws.close_db, rng) / 20)
    for group, sound in zip(GROUPS, heard, strict=True):
        delay = round(drawn(draws.distance_s, rng) * SAMPLE_RATE_HZ)
        close += np.float32(close_gain * _CLOSE[group]) * sound
        overhead[delay:] += np.float32(_OVERHEAD[group]) * sound[: len(sound) - delay]
    return close, overhead


def _equalized_in_room(close: Audio, overhead: Audio, draws: RecordingDraws, rng: np.random.Generator) -> Audio:
    samples = len(close)
    decay_s = drawn(draws.decay_s, rng)
    in_room = rng.random() < draws.room
    equalizer = impulse_response(_drawn_curve_db(draws, rng))
    response = _room(decay_s, rng) if in_room else np.zeros(0, np.float32)
    # Of what rings longer than the recording nothing comes back at its beginning.
    size = fft.next_fast_len(samples + len(response) + len(equalizer), real=True)
    mixed = fft.rfft(close + overhead, size)
    if in_room:
        room_gain = 10 ** (drawn(draws.room_db, rng) / 20)
        feed = fft.rfft(0.5 * close + overhead, size)
        feed *= fft.rfft(np.float32(room_gain) * response, size)
        mixed += feed
    mixed *= fft.rfft(equalizer, size)
    result: Audio = fft.irfft(mixed, size)[:samples]
    return result / max(float(np.abs(result).max()), 1e-6)


def _drawn_curve_db(draws: RecordingDraws, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw an equalizer: a slope, three bells, no rumble, and sometimes no top."""
    octaves = np.log2(np.maximum(frequencies_hz(_EQUALIZER_SAMPLES), 10.0) / 20.0)
    curve_db = drawn(draws.tilt_db, rng) * (octaves / 10 - 0.5)
    for _ in range(3):
        center, width = rng.uniform(1, 10), rng.uniform(0.3, 1.5)
        curve_db += drawn(draws.bells_db, rng) * np.exp(-(((octaves - center) / width) ** 2))
    # Below the lowest note of a kick there is only rumble, and speakers and tapes have an end at the top.
    curve_db -= 24 * np.maximum(0, np.log2(rng.uniform(20, 60) / 20) - octaves)
    if rng.random() < draws.low_pass:
        # From a tape's slope to a codec's wall.
        steepness_db = 12 * 30 ** rng.random()
        curve_db -= steepness_db * np.maximum(0, octaves - np.log2(rng.uniform(4_000, 15_000) / 20))
    return curve_db


def _with_backing(mix: Audio, backing: Backing) -> Audio:
    music = np.resize(backing.samples, len(mix))
    loudness = [max(float(np.sqrt(np.mean(sound**2))), 1e-6) for sound in (mix, music)]
    return mix + music * np.float32(10 ** (backing.level_db / 20) * loudness[0] / loudness[1])


def _room(decay_s: float, rng: np.random.Generator) -> Audio:
    """The impulse response of a room: reflections, then noise whose treble dies first."""
    length = max(512, round(decay_s * SAMPLE_RATE_HZ))
    time_s = np.arange(length, dtype=np.float32) / SAMPLE_RATE_HZ
    frequency_hz = fft.rfftfreq(length, 1 / SAMPLE_RATE_HZ)
    tail = np.zeros(length, np.float32)
    for cutoff_hz, share in ((600.0, 1.0), (2_500.0, rng.uniform(0.5, 1.0)), (9_000.0, rng.uniform(0.2, 0.7))):
        noise = fft.rfft(rng.standard_normal(length).astype(np.float32))
        noise /= 1 + (frequency_hz / cutoff_hz) ** 2
        tail += fft.irfft(noise, length) * 10 ** (-3 * time_s / np.float32(share * decay_s))
    tail[time_s < rng.uniform(0.001, 0.012)] = 0
    tail /= max(float(np.sqrt((tail**2).sum())), 1e-9)
    places = np.minimum((rng.uniform(0.001, 0.03, 8) * SAMPLE_RATE_HZ).astype(int), length - 1)
    tail[places] += rng.uniform(-0.4, 0.4, 8).astype(np.float32)
    return tail.astype(np.float32)


def _compressed(mix: Audio, draws: RecordingDraws, rng: np.random.Generator) -> Audio:
    """Turn loud stretches down, with an attack and a release as they are usual on a drum bus."""
    threshold_db, ratio = drawn(draws.threshold_db, rng), drawn(draws.ratio, rng)
    attack_s, release_s = (float(np.exp(rng.uniform(*np.log(ends)))) for ends in (_ATTACK_S, _RELEASE_S))
    blocks = np.pad(mix, (0, -len(mix) % _BLOCK_SAMPLES)).reshape(-1, _BLOCK_SAMPLES)
    level_db = 20 * np.log10(np.abs(blocks).max(axis=1) + 1e-5)
    wanted_db = np.maximum(0.0, level_db - level_db.max() - threshold_db) * (1 - 1 / ratio)
    rise, fall = (float(np.exp(-_BLOCK_SAMPLES / (SAMPLE_RATE_HZ * each_s))) for each_s in (attack_s, release_s))
    reduction_db, now = np.empty_like(wanted_db), 0.0
    for index, wanted in enumerate(wanted_db.tolist()):
        memory = rise if wanted > now else fall
        now = memory * now + (1 - memory) * wanted
        reduction_db[index] = now
    places = (np.arange(len(reduction_db)) + 0.5) * _BLOCK_SAMPLES
    gain_db = np.interp(np.arange(len(mix)), places, -reduction_db)
    return np.asarray(mix * 10 ** (gain_db / 20), np.float32)


def _saturated(mix: Audio, draws: RecordingDraws, rng: np.random.Generator) -> Audio:
    drive = 10 ** (drawn(draws.drive_db, rng) / 20)
    peak = max(float(np.abs(mix).max()), 1e-6)
    return np.asarray(np.tanh(np.float32(drive / peak) * mix), np.float32)


def _through_mp3(mix: Audio, loss: float) -> Audio:
    """Encode and decode. The encoder's delay is taken back: libsndfile leaves it in on some versions."""
    encoded = io.BytesIO()
    peak = max(float(np.abs(mix).max()), 1e-6)
    soundfile.write(
        encoded, mix / peak * 0.9, SAMPLE_RATE_HZ, format="MP3", subtype="MPEG_LAYER_III", compression_level=loss
    )
    encoded.seek(0)
    decoded, _ = soundfile.read(encoded, dtype="float32")
    return np.asarray(_aligned(decoded, mix), np.float32)


def _aligned(decoded: Audio, original: Audio) -> Audio:
    """Shift what was decoded to where the original is, by the peak of their correlation, and give it its length."""
    size = fft.next_fast_len(len(decoded) + len(original), real=True)
    correlation = fft.irfft(fft.rfft(decoded, size) * np.conj(fft.rfft(original, size)), size)
    shift = int(np.argmax(correlation))
    shift = shift - size if shift > size // 2 else shift
    moved = decoded[shift:] if shift >= 0 else np.concatenate([np.zeros(-shift, np.float32), decoded])
    return np.pad(moved, (0, max(0, len(original) - len(moved))))[: len(original)]


def _noise(samples: int, level_db: float, rng: np.random.Generator) -> Audio:
    """Hiss, with as much rumble as it happens."""
    hiss = rng.standard_normal(samples, dtype=np.float32)
    color = rng.uniform(0, 0.95)
    if color > 0.5:
        from scipy.signal import lfilter

        hiss = lfilter([1 - color], [1, -color], hiss).astype(np.float32) * np.float32(
            ((1 + color) / (1 - color)) ** 0.5
        )
    return hiss * np.float32(10 ** (level_db / 20))
