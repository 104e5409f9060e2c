"""The archive: every performance played on every kit, recorded, and filed exactly as E-GMD files it.

Layout of the zip, all paths under `e-gmd-v1.0.0/`:

* `drummerN/(sessionM|eval_session)/<id>_<style>_<bpm>_(beat|fill)_<meter>_<kit>.midi`: type 0, 480 ticks per
  quarter note, channel 10, a hi-hat pedal position (controller 4) before each stroke on the hat;
* the same with `.wav`: 44.1 kHz, mono, 16 bit, from MIDI tick 0 to the end of the last sound's tail;
* `e-gmd-v1.0.0.csv`, one row per pair, `LICENSE` and `README`.

Members are in the order of performances, the kits of one performance side by side. A kit's MIDI differs from another
kit's by the pitches of remapped pads (`Kit.pads`) and nothing else. The recording is rendered from the rounded MIDI
times: a stroke's first sample is the nearest one to its tick.

A recording is what a studio makes of the strokes: drums set the snare wires buzzing, everything leaks into the room
microphones (early reflections, then a decaying tail), a closing hi-hat damps the open one, the bus is filtered,
compressed and saturated, and there is noise under it all. Filters are causal, so nothing sounds before its onset,
and the saturation ends below full scale, so nothing clips.

Same arguments, same bytes: nothing depends on the clock, the zip library or on which other kits are written.
"""

from __future__ import annotations

import csv
import io
import wave
import zipfile
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import mido
import numpy as np
from numpy.typing import NDArray

from backbeat.datasets.mini.grooves import SOUND, SPLITS, TICKS_PER_BEAT, Performance, generator, performances
from backbeat.datasets.mini.kits import ALL_KITS, KITS, SAMPLE_RATE_HZ, WIRES, Audio, Kit, strike
from backbeat.errors import ConfigError

ROOT = "e-gmd-v1.0.0"
COLUMNS = (
    "drummer", "session", "id", "style", "bpm", "beat_type", "time_signature", "duration", "split", "midi_filename",
    "audio_filename", "kit_name",
)  # fmt: skip
"""The header of E-GMD's table, in its order."""

PERFORMANCES_PER_MINUTE = 2
"""With all kits; 20 performances on 8 kits last about ten minutes."""

_CHANNEL = 9  # channel 10, as people count
_NOTE_TICKS = 70
_PEDAL_POSITIONS = {42: 90, 22: 90, 44: 120, 46: 30, 26: 20}
_OPEN_HATS = frozenset({26, 46})
_CHOKE_S = 0.012
_DRUMS = frozenset({36, 43, 45, 47, 48, 50, 58})
_PREDELAY_S = 0.006
_STROKES, _ROOM = 100, 101  # keys of random numbers; the smaller ones are the noises of `kits`
_DETECTOR_SAMPLES = 64  # the compressor looks this often
_DETECTOR_S = 0.09
_THRESHOLD = 0.12
_BUS_GAIN = 0.5
_CEILING = 0.92  # of full scale; what is left is for the noise floor
_MADE_AT = (2024, 1, 1, 0, 0, 0)
_README = """\
egmd_mini: drum grooves and sounds made by a program, in the layout of the Expanded Groove MIDI Dataset (E-GMD).
No recording, sample or performance of anybody is in here.
"""
_LICENSE = """\
CC0-1.0. To the extent possible under law, all copyright and related rights to this dataset are waived.
https://creativecommons.org/publicdomain/zero/1.0/
"""


def write_archive(
    destination: Path,
    *,
    kits: Sequence[int] = ALL_KITS,
    splits: Sequence[str] = SPLITS,
    minutes: float = 10.0,
) -> None:
    """Write the dataset, or a part of it, as one zip.

    Args:
        destination: the file to write, straight under this name.
        kits: kit numbers. Leaving one out leaves the members of the others as they are.
        splits: which of train, validation and test.
        minutes: about how much audio all kits and splits together would be. It sets the number of performances, at
            least one for each split; the first ones are the same whatever it is.

    Raises:
        ConfigError: there is no such kit or split, or nothing is asked for.
    """
    _expect("kit", kits, ALL_KITS)
    _expect("split", splits, SPLITS)
    if not 0 < minutes < float("inf"):
        raise ConfigError("egmd_mini cannot be that long", expected="minutes above 0", got=str(minutes))
    count = max(len(SPLITS), round(minutes * PERFORMANCES_PER_MINUTE))
    with zipfile.ZipFile(destination, "w") as archive:
        for name, content in _members(sorted(set(kits)), [p for p in performances(count) if p.split in splits]):
            # Stored, not deflated: the bytes that deflate makes are another zlib's tomorrow.
            member = zipfile.ZipInfo(f"{ROOT}/{name}", date_time=_MADE_AT)
            member.create_system, member.external_attr = 3, 0o100644 << 16
            archive.writestr(member, content, compress_type=zipfile.ZIP_STORED)


def _expect(noun: str, asked: Sequence[object], known: Sequence[object]) -> None:
    """Refuse an empty selection and one that names what does not exist."""
    unknown = [item for item in asked if item not in known]
    if unknown or not asked:
        raise ConfigError(
            f"egmd_mini has no such {noun}",
            expected=f"some of {', '.join(map(str, known))}",
            got=", ".join(map(str, unknown)) or "none",
        )


def _members(kits: Sequence[int], played: Sequence[Performance]) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the members, in archive order."""
    table = io.StringIO()
    rows = csv.DictWriter(table, COLUMNS, lineterminator="\n")
    rows.writeheader()
    for performance in played:
        for number in kits:
            samples = record(KITS[number], performance)
            stem = f"{performance.stem}_{number}"
            yield f"{stem}.midi", _midi(performance, KITS[number])
            yield f"{stem}.wav", _wav(samples)
            rows.writerow(_row(performance, KITS[number], stem, len(samples) / SAMPLE_RATE_HZ))
    yield f"{ROOT}.csv", table.getvalue().encode()
    yield "LICENSE", _LICENSE.encode()
    yield "README", _README.encode()


def _row(performance: Performance, kit: Kit, stem: str, duration_s: float) -> dict[str, object]:
    drummer = f"drummer{performance.drummer}"
    session = f"{drummer}/{performance.session}"
    return {
        "drummer": drummer,
        "session": session,
        "id": f"{session}/{performance.number}",
        "style": performance.style,
        "bpm": performance.tempo_bpm,
        "beat_type": performance.beat_type,
        "time_signature": performance.meter,
        "duration": duration_s,
        "split": performance.split,
        "midi_filename": f"{stem}.midi",
        "audio_filename": f"{stem}.wav",
        "kit_name": kit.name,
    }


def _midi(performance: Performance, kit: Kit) -> bytes:
    """The performance as the kit's module sends it."""
    events: list[tuple[int, mido.Message]] = []
    for note in performance.notes:
        pitch = kit.pads.get(note.pitch, note.pitch)
        if note.pitch in _PEDAL_POSITIONS:
            pedal = mido.Message("control_change", channel=_CHANNEL, control=4, value=_PEDAL_POSITIONS[note.pitch])
            events.append((note.tick, pedal))
        on = mido.Message("note_on", channel=_CHANNEL, note=pitch, velocity=note.velocity)
        later = [other.tick for other in performance.notes if other.pitch == note.pitch and other.tick > note.tick]
        off = mido.Message("note_off", channel=_CHANNEL, note=pitch, velocity=64)
        events += [(note.tick, on), (min([note.tick + _NOTE_TICKS, *later]), off)]
    # At one tick a pad is let go before it is hit again.
    events.sort(key=lambda event: (event[0], event[1].type != "note_off"))
    count, unit = performance.meter.split("-")
    track = mido.MidiTrack()
    track.append(mido.MetaMessage("set_tempo", tempo=performance.tempo_us))
    track.append(mido.MetaMessage("time_signature", numerator=int(count), denominator=int(unit)))
    now = 0
    for tick, message in events:
        track.append(message.copy(time=tick - now))
        now = tick
    out = io.BytesIO()
    mido.MidiFile(type=0, ticks_per_beat=TICKS_PER_BEAT, tracks=[track]).save(file=out)
    return out.getvalue()


def _wav(samples: NDArray[np.int16]) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(SAMPLE_RATE_HZ)
        sound.writeframes(samples.astype("<i2").tobytes())
    return out.getvalue()


def record(kit: Kit, performance: Performance) -> NDArray[np.int16]:
    """Play a performance on a kit.

    Args:
        kit: the drum set, its room and its bus.
        performance: the notes; `Kit.pads` decides which pads they are here.

    Returns:
        (samples,) mono at 44.1 kHz; the first sample is MIDI tick 0.
    """
    rng = generator(SOUND, kit.number, _STROKES, performance.index)
    last_s = performance.onset_s(performance.notes[-1])
    close = np.zeros(round((last_s + kit.tail_s) * SAMPLE_RATE_HZ))
    distant = np.zeros_like(close)
    for position, note in enumerate(performance.notes):
        pitch = kit.pads.get(note.pitch, note.pitch)
        onset = round(performance.onset_s(note) * SAMPLE_RATE_HZ)
        sound = strike(kit, pitch, note.velocity, rng)[: len(close) - onset]
        if note.pitch in _OPEN_HATS:
            _choke(sound, performance, position)
        close[onset : onset + len(sound)] += sound
        distant[onset : onset + len(sound)] += kit.voice(pitch).room * sound
        if kit.buzz and note.pitch in _DRUMS:
            wires = kit.buzz * strike(kit, WIRES, note.velocity, rng)[: len(close) - onset]
            close[onset : onset + len(wires)] += wires
    mix = _compress(_mix(kit, close, distant), kit.squeeze)
    hiss = 10 ** (kit.hiss_db / 20) * rng.standard_normal(len(mix))
    return np.round(32767 * (_CEILING * np.tanh(_BUS_GAIN * kit.drive * mix) + hiss)).astype(np.int16)


def _choke(sound: Audio, performance: Performance, position: int) -> None:
    """Damp an open hi-hat from the moment of the next stroke on the hat."""
    onset_s = performance.onset_s(performance.notes[position])
    for later in performance.notes[position + 1 :]:
        if later.pitch in _PEDAL_POSITIONS and later.tick > performance.notes[position].tick:
            start = round((performance.onset_s(later) - onset_s) * SAMPLE_RATE_HZ)
            damped = sound[start:]
            damped *= np.exp(-np.arange(len(damped)) / (_CHOKE_S * SAMPLE_RATE_HZ))
            return


def _mix(kit: Kit, close: Audio, distant: Audio) -> Audio:
    """Add the room to the close microphones and limit the band."""
    samples = len(close) + round(kit.room_s * SAMPLE_RATE_HZ)
    # The next of 4, 5, 6 or 7 times a power of two: sizes with small factors transform fast.
    step = 2 ** (samples.bit_length() - 3)
    size = -(-samples // step) * step
    band, room = _responses(kit.number, size)
    spectrum = np.fft.rfft(close, size) * band + np.fft.rfft(distant, size) * room
    return np.asarray(np.fft.irfft(spectrum, size)[: len(close)])


@lru_cache(maxsize=4 * len(KITS))
def _responses(kit_number: int, size: int) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """Spectra of what happens to the close microphones and, in the room, to the distant ones."""
    kit = KITS[kit_number]
    band = (1 - _low_pass(kit.high_pass_hz, size)) * _low_pass(kit.low_pass_hz, size) ** 2
    return band, band * np.fft.rfft(_room(kit), size)


def _low_pass(cutoff_hz: float, size: int) -> NDArray[np.complex128]:
    """The spectrum of a recursive filter of first order, 6 dB an octave: nothing comes out before it goes in."""
    memory = np.exp(-2 * np.pi * cutoff_hz / SAMPLE_RATE_HZ)
    delay = np.exp(-2j * np.pi * np.fft.rfftfreq(size))
    return np.asarray((1 - memory) / (1 - memory * delay), dtype=np.complex128)


def _room(kit: Kit) -> Audio:
    """The impulse response of the room: a few reflections, then noise whose treble dies first."""
    rng = generator(SOUND, kit.number, _ROOM)
    time_s = np.arange(round(kit.room_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    tail = np.zeros_like(time_s)
    for cutoff_hz, share in ((900, 1.0), (3000, 0.6), (9000, 0.35)):
        noise = np.fft.rfft(rng.standard_normal(len(time_s)))
        noise *= _low_pass(cutoff_hz, len(time_s))
        tail += np.fft.irfft(noise, len(time_s)) * 10 ** (-3 * time_s / (share * kit.room_s))
    tail[time_s < _PREDELAY_S] = 0
    tail *= 0.8 / np.sqrt((tail**2).sum())
    reflections = np.round(rng.uniform(0.0009, 0.019, 7) * SAMPLE_RATE_HZ).astype(int)
    tail[reflections] += rng.uniform(-0.4, 0.4, 7)
    return np.asarray(kit.room * tail)


def _compress(mix: Audio, squeeze: float) -> Audio:
    """Turn loud stretches down; `squeeze` is the exponent on how far they are above the threshold."""
    blocks = np.pad(mix, (0, -len(mix) % _DETECTOR_SAMPLES)).reshape(-1, _DETECTOR_SAMPLES)
    block_s = _DETECTOR_SAMPLES / SAMPLE_RATE_HZ
    memory = np.exp(-np.arange(round(5 * _DETECTOR_S / block_s)) * block_s / _DETECTOR_S)
    power = np.convolve((blocks**2).mean(axis=1), memory / memory.sum())[: len(blocks)]
    gain = (1 + power / _THRESHOLD**2) ** (-squeeze / 2)
    return np.asarray(mix * np.interp(np.arange(len(mix)), (np.arange(len(gain)) + 1) * _DETECTOR_SAMPLES, gain))
