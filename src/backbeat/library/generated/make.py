"""A library of samples, made: realistic names, planted faults, planted copies, and the truth about each file."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from backbeat.executor import run_tasks
from backbeat.library.generated import copies
from backbeat.library.generated.loops import Loop, play_loop
from backbeat.library.generated.plan import Family, File, batches, plan_library
from backbeat.library.generated.voices import Voice, play
from backbeat.library.generated.wavfile import Samples, found_chunks, quantized, wav_bytes
from backbeat.progress import progress
from backbeat.storage.staging import disk_errors, new_file

# So many sounds are one task: a second or two.
FAMILIES_AT_ONCE = 32

# Beside the folder: what each file is.
_NOTHING = dict.fromkeys(
    [
        *("kind", "class", "tempo_bpm", "key", "pitch_hz", "fault", "variation_of"),
        *("duplicate_of", "duplicate_kind", "way"),
    ]
)


@dataclass(frozen=True)
class _Task:
    folder: Path
    families: list[Family]


def generate(folder: Path, count: int, seed: int = 1, *, workers: int | None = None) -> None:
    """Make a folder of samples, and the truth about them at `truth_path`; does nothing if the folder is there.

    The truth has for each path: `kind` (`one-shot`, `loop`, `unreadable`), `class` (of a one-shot), `tempo_bpm` and
    `key` (of a loop), `pitch_hz`, `fault`, `variation_of` (a sound like this one that is not it), and of a copy
    `duplicate_of` and `duplicate_kind` (`copies.KINDS`), `way` (of a near one: what was done).

    Args:
        folder: where the samples will be; until all are there they are in `<folder>.part`.
        count: how many files.
        seed: of everything that is drawn; the same numbers give the same bytes, for any number of workers.
        workers: processes. Default: one per processor.

    Raises:
        StorageError: if the disk is full or read-only.
    """
    if folder.is_dir():
        return
    part = folder.with_name(f"{folder.name}.part")
    with disk_errors(folder):
        # Left by a run that was killed.
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
    truth: dict[str, Any] = {}
    tasks = [_Task(part, families) for families in batches(plan_library(count, seed), FAMILIES_AT_ONCE)]
    with progress(f"generate {folder.name}", count, unit="files") as advance:
        for _, made in run_tasks(_make, tasks, workers=workers):
            truth.update(made)
            advance(len(made))
    with new_file(truth_path(folder)) as file:
        file.write_text(json.dumps(truth, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    with disk_errors(folder):
        part.rename(folder)


def truth_path(folder: Path) -> Path:
    """Return where the truth about a folder of generated samples is: beside it, so that it is none of them."""
    return folder.with_name(f"{folder.name}-truth.json")


def _make(task: _Task) -> dict[str, dict[str, Any]]:
    truth: dict[str, dict[str, Any]] = {}
    with disk_errors(task.folder):
        for family in task.families:
            if family.sound is None:
                _write(task.folder, family.original, _unreadable(family))
                truth[family.original.path] = {
                    **_NOTHING,
                    "kind": "unreadable",
                    "fault": family.fault,
                }
            else:
                truth.update(_make_family(task.folder, family))
    return truth


def _make_family(folder: Path, family: Family) -> dict[str, dict[str, Any]]:
    rng = np.random.default_rng(family.original.seed)
    if isinstance(family.sound, Voice):
        mono, pitch_hz = play(family.sound, family.sample_rate_hz)
        fact: dict[str, Any] = {"kind": "one-shot", "class": family.sound.sound_class, "pitch_hz": pitch_hz}
        tempo_bpm = None
    else:
        assert isinstance(family.sound, Loop)
        mono, tempo_bpm = play_loop(family.sound, family.sample_rate_hz), family.sound.tempo_bpm
        fact = {"kind": "loop", "tempo_bpm": tempo_bpm, "key": family.sound.key}
    samples = _faulty(_channels(mono, family.channels, rng) * rng.uniform(0.5, 0.98), family.fault, rng)
    samples = quantized(samples, family.bit_depth)
    chunks = None
    if family.fault == "chunks":
        chunks = found_chunks(rng, len(samples), family.sample_rate_hz, tempo_bpm)
    content = wav_bytes(samples, family.sample_rate_hz, family.bit_depth, chunks)
    _write(folder, family.original, content)
    truth = {family.original.path: {**_NOTHING, **fact, "fault": family.fault, "variation_of": family.variation_of}}
    for file in family.copies:
        made, way = _copied(family, file, samples, content)
        _write(folder, file, made)
        of = {"duplicate_of": family.original.path, "duplicate_kind": file.copy, "way": way}
        truth[file.path] = {**_NOTHING, **fact, **of}
    return truth


def _channels(mono: Samples, channels: int, rng: np.random.Generator) -> Samples:
    """Return mono as it is, or as two channels: the same twice, or with the sound a little to one side."""
    if channels == 1:
        return mono[:, None]
    if rng.random() < 0.3:
        return np.stack([mono, mono], axis=1)
    late = np.roll(mono, int(rng.integers(8, 40)))
    late[:40] = 0
    return np.stack([mono, rng.uniform(0.6, 0.85) * mono + rng.uniform(0.05, 0.15) * late], axis=1)


def _faulty(samples: Samples, fault: str | None, rng: np.random.Generator) -> Samples:
    if fault == "clipped":
        return np.asarray(np.clip(samples / np.abs(samples).max() * rng.uniform(1.5, 4), -1, 1 - 2**-15))
    if fault == "dc":
        return np.asarray(np.clip(samples * 0.8 + rng.choice([-1, 1]) * rng.uniform(0.02, 0.12), -1, 1))
    if fault == "silent":
        return np.zeros((int(rng.integers(1_000, 100_000)), samples.shape[1]))
    if fault == "tiny":
        return rng.uniform(-0.5, 0.5, (int(rng.integers(1, 40)), samples.shape[1]))
    return samples


def _copied(family: Family, file: File, samples: Samples, content: bytes) -> tuple[bytes, str | None]:
    """Return the content of a copy, and of a near one what was done to it."""
    rng = np.random.default_rng(file.seed)
    rate, depth, way = family.sample_rate_hz, family.bit_depth, None
    if file.copy == "exact":
        return content, None
    if file.copy == "same_audio":
        return _same_audio(family, file, samples, rng), None
    if file.copy == "gained":
        samples = copies.gained(samples, rng)
    elif file.copy == "trimmed":
        samples = copies.trimmed(samples, rate, rng)
    elif file.copy == "resampled":
        wanted_hz = 48_000 if rate == 44_100 else 44_100
        samples, rate = copies.resampled(samples, rate, wanted_hz), wanted_hz
    elif file.copy == "requantized":
        depth = 16
        return wav_bytes(quantized(samples, 16, rng), rate, 16), None
    else:
        way, samples = copies.near(samples, rate, rng)
    return wav_bytes(quantized(samples, depth), rate, depth), way


def _same_audio(family: Family, file: File, samples: Samples, rng: np.random.Generator) -> bytes:
    if file.path.endswith(".flac"):
        stream = io.BytesIO()
        soundfile.write(stream, samples, family.sample_rate_hz, f"PCM_{family.bit_depth}", format="FLAC")
        return stream.getvalue()
    if family.bit_depth == 16 and rng.random() < 0.5:
        return wav_bytes(samples, family.sample_rate_hz, 24)
    return wav_bytes(
        samples, family.sample_rate_hz, family.bit_depth, found_chunks(rng, len(samples), family.sample_rate_hz, None)
    )


def _unreadable(family: Family) -> bytes:
    rng = np.random.default_rng(family.original.seed)
    if family.fault == "empty":
        return b""
    if family.fault == "cut off":
        whole = wav_bytes(quantized(rng.uniform(-0.5, 0.5, (20_000, 1)), 16), 44_100, 16)
        return whole[: int(rng.integers(len(whole) // 4, len(whole) // 2))]
    if family.fault == "a web page":
        return b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head></html>\n"
    return rng.bytes(int(rng.integers(500, 5_000)))


def _write(folder: Path, file: File, content: bytes) -> None:
    path = folder / file.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
