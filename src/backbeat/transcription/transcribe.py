"""Transcribing recordings: any length in bounded memory, any format that is read, MIDI out.

The recording is decoded, turned into a spectrogram and sent through the model piece by piece; what stays in memory
is one chunk and the hits.
"""

from __future__ import annotations

import csv
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from backbeat.audio.logmel import LogMel
from backbeat.audio.read import mono_blocks, read_info
from backbeat.drums.midi import Onsets, write_onsets
from backbeat.errors import AudioError
from backbeat.progress import progress
from backbeat.storage.staging import new_file
from backbeat.transcription.decode import Peaks, join_peaks, transcribe_frames
from backbeat.transcription.weights import ModelCard, load_model

COLUMNS = ("onset_s", "class", "note", "velocity", "probability")


@dataclass(frozen=True)
class Hit:
    """One drum hit: seconds from the beginning, class name, General MIDI note, MIDI velocity, probability."""

    onset_s: float
    drum: str
    note: int
    velocity: int
    probability: float


@dataclass(frozen=True)
class Transcription:
    """The hits of one recording and how they were found."""

    source: Path
    duration_s: float
    elapsed_s: float
    hits: list[Hit]
    midi: Path


def transcribe(
    recordings: list[Path], output: Path, model_file: Path, *, as_csv: bool = False, as_json: bool = False
) -> tuple[ModelCard, list[Transcription]]:
    """Write `<name>.mid` into `output` for each recording, and a table of hits where asked.

    Args:
        recordings: WAV, AIFF, FLAC, Ogg or MP3 files of any rate and channel count.
        output: folder, made if need be.
        model_file: a Backbeat model.
        as_csv: also write `<name>.csv`.
        as_json: also write `<name>.json`.

    Raises:
        ModelError: if the model cannot be loaded.
        AudioError: if a recording cannot be read, or two would have the same output. What can be known beforehand is
            known before anything is written.
    """
    names = [recording.stem for recording in recordings]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise AudioError("two recordings would have one output", expected="different names", got=", ".join(twice))
    for recording in recordings:
        read_info(recording, recording.name)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, card = load_model(model_file, device)
    done = []
    for recording in recordings:
        started = time.perf_counter()
        duration_s, hits = find_hits(recording, model, card, device)
        midi = output / f"{recording.stem}.mid"
        _write_midi(midi, hits)
        if as_csv:
            _write_csv(midi.with_suffix(".csv"), hits)
        if as_json:
            _write_json(midi.with_suffix(".json"), recording, model_file, card, hits)
        done.append(Transcription(recording, duration_s, time.perf_counter() - started, hits, midi))
    return card, done


def find_hits(recording: Path, model: nn.Module, card: ModelCard, device: torch.device) -> tuple[float, list[Hit]]:
    """Return the length in seconds of a recording and its hits in order of time."""
    info = read_info(recording, recording.name)
    features = card.features
    blocks = mono_blocks(recording, recording.name, features.sample_rate_hz)
    pieces = LogMel(features).stream(blocks)
    parts: list[Peaks] = []
    thresholds, seen = np.array(card.thresholds), 0
    with progress(recording.name, round(info.duration_s * features.frame_rate_hz), unit="frames") as advance:
        for frames, peaks in transcribe_frames(model, pieces, features.frame_rate_hz, device):
            parts.append(peaks.above(thresholds))
            advance(frames - seen)
            seen = frames
    peaks = join_peaks(parts)
    order = np.lexsort((peaks.class_index, peaks.onset_s))
    hits = [
        Hit(
            onset_s=round(float(peaks.onset_s[i]), 4),
            drum=card.classes[peaks.class_index[i]],
            note=card.notes[peaks.class_index[i]],
            velocity=max(1, round(127 * float(peaks.velocity[i]))),
            probability=round(float(peaks.probability[i]), 4),
        )
        for i in order
    ]
    return info.duration_s, hits


def _write_midi(path: Path, hits: list[Hit]) -> None:
    onsets = Onsets(
        np.array([hit.onset_s for hit in hits], np.float32),
        np.array([hit.note for hit in hits], np.uint8),
        np.array([hit.velocity for hit in hits], np.uint8),
    )
    with new_file(path) as part:
        write_onsets(onsets, part)


def _write_csv(path: Path, hits: list[Hit]) -> None:
    with new_file(path) as part, part.open("w", newline="", encoding="utf-8") as text:
        table = csv.writer(text, lineterminator="\n")
        table.writerow(COLUMNS)
        table.writerows((hit.onset_s, hit.drum, hit.note, hit.velocity, hit.probability) for hit in hits)


def _write_json(path: Path, recording: Path, model_file: Path, card: ModelCard, hits: list[Hit]) -> None:
    content: dict[str, Any] = {
        "recording": recording.name,
        "model": model_file.name,
        "class_map": card.class_map,
        "provenance": card.provenance.model_dump(),
        "hits": [
            dict(zip(COLUMNS, (hit.onset_s, hit.drum, hit.note, hit.velocity, hit.probability), strict=True))
            for hit in hits
        ],
    }
    with new_file(path) as part:
        part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
