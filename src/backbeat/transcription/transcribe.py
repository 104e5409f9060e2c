"""Transcribing recordings: any length in bounded memory, any format that is read, MIDI out.

The recording is decoded, turned into a spectrogram and sent through the model piece by piece; what stays in memory
are a few chunks and the hits. On a CPU, chunks go through the model side by side, each in a thread of its own: its
recurrent layer is a long row of products that are too small to be shared.
"""

from __future__ import annotations

import contextlib
import csv
import json
import time
from collections import Counter
from collections.abc import Iterator
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
from backbeat.transcription.answers import Answer
from backbeat.transcription.decode import Peaks, join_peaks, transcribe_frames
from backbeat.transcription.weights import ModelCard, load_model

COLUMNS = ("onset_s", "class", "note", "velocity", "probability")

# Chunks that are in the model at once, at most: each takes some 150 MB, and one thread decodes for all of them.
MOST_WORKERS = 4


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
    recordings: list[Path],
    output: Path,
    model_file: Path,
    *,
    classes: str | None = None,
    as_csv: bool = False,
    as_json: bool = False,
) -> tuple[ModelCard, Iterator[Transcription]]:
    """Write `<name>.mid` into `output` for each recording, and a table of hits where asked.

    Args:
        recordings: WAV, AIFF, FLAC, Ogg or MP3 files of any rate and channel count.
        output: folder, made if need be.
        model_file: a Backbeat model.
        classes: the class map to answer in; default: the model's own choice.
        as_csv: also write `<name>.csv`.
        as_json: also write `<name>.json`.

    Returns:
        what the model says of itself, and what has been written: each recording is transcribed when it is asked for.

    Raises:
        ModelError: if the model cannot be loaded, or does not answer in that class map.
        AudioError: if a recording cannot be read, two would have the same output, or an output is there already beside
            its recording. What can be known beforehand is known before anything is written.
    """
    endings = [".mid", *([".csv"] if as_csv else []), *([".json"] if as_json else [])]
    _require_outputs(recordings, output, endings)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, card = load_model(model_file, device)
    answer = card.answer(classes)

    def written() -> Iterator[Transcription]:
        for recording in recordings:
            started = time.perf_counter()
            duration_s, hits = find_hits(recording, model, card, device, answer)
            midi = output / f"{recording.stem}.mid"
            _write_midi(midi, hits)
            if as_csv:
                _write_csv(midi.with_name(f"{recording.stem}.csv"), hits)
            if as_json:
                _write_json(midi.with_name(f"{recording.stem}.json"), recording, model_file, card, answer, hits)
            yield Transcription(recording, duration_s, time.perf_counter() - started, hits, midi)

    return card, written()


def _require_outputs(recordings: list[Path], output: Path, endings: list[str]) -> None:
    """Refuse what cannot be read, and what would be written twice, over a folder, or over an annotation."""
    # File systems that fold case have one file for both.
    names = Counter(recording.stem.casefold() for recording in recordings)
    twice = [recording.name for recording in recordings if names[recording.stem.casefold()] > 1]
    if twice:
        raise AudioError("two recordings would have one output", expected="different names", got=", ".join(twice))
    for recording in recordings:
        if recording.is_dir():
            raise AudioError(
                f"{recording} is a folder", expected="a sound file", got="a folder", next_step="name the files in it"
            )
        read_info(recording, recording.name)
        for ending in endings:
            there = output / f"{recording.stem}{ending}"
            beside = there.exists() and output.resolve() == recording.resolve().parent
            if there.is_dir() or beside:
                raise AudioError(
                    f"{there} is there already",
                    expected="no folder of that name, and beside a recording no file: it may be its annotation",
                    got="a folder" if there.is_dir() else "a file",
                    next_step="name another folder with --output, or move it away",
                )


def find_hits(
    recording: Path, model: nn.Module, card: ModelCard, device: torch.device, answer: Answer | None = None
) -> tuple[float, list[Hit]]:
    """Return the length in seconds of a recording and its hits in order of time.

    Args:
        recording: a sound file.
        model: the model in evaluation mode.
        card: what it says of itself.
        device: where it is.
        answer: the class map to answer in; default: the model's own choice.

    Raises:
        AudioError: if the recording cannot be read.
    """
    answer = answer or card.answer()
    info = read_info(recording, recording.name)
    features = card.features
    blocks = mono_blocks(recording, recording.name, features.sample_rate_hz)
    pieces = LogMel(features).stream(blocks)
    rate_hz, members = features.frame_rate_hz, answer.members
    parts: list[Peaks] = []
    thresholds, seen = np.array(answer.thresholds), 0
    with (
        _threads_of_its_own() as workers,
        progress(recording.name, round(info.duration_s * rate_hz), unit="frames") as advance,
    ):
        for frames, peaks in transcribe_frames(model, pieces, rate_hz, device, members, workers=workers):
            parts.append(peaks.above(thresholds))
            advance(frames - seen)
            seen = frames
    peaks = join_peaks(parts)
    order = np.lexsort((peaks.class_index, peaks.onset_s))
    hits = [
        Hit(
            onset_s=round(float(peaks.onset_s[i]), 4),
            drum=answer.classes[peaks.class_index[i]],
            note=answer.notes[peaks.class_index[i]],
            velocity=max(1, round(127 * float(peaks.velocity[i]))),
            probability=round(float(peaks.probability[i]), 4),
        )
        for i in order
    ]
    return info.duration_s, hits


@contextlib.contextmanager
def _threads_of_its_own() -> Iterator[int]:
    """Let every operation of PyTorch keep to the thread it is called in; yields how many such threads there may be."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield min(MOST_WORKERS, threads)
    finally:
        torch.set_num_threads(threads)


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


def _write_json(
    path: Path, recording: Path, model_file: Path, card: ModelCard, answer: Answer, hits: list[Hit]
) -> None:
    content: dict[str, Any] = {
        "recording": recording.name,
        "model": model_file.name,
        "class_map": answer.class_map,
        "provenance": card.provenance.model_dump(),
        "hits": [
            dict(zip(COLUMNS, (hit.onset_s, hit.drum, hit.note, hit.velocity, hit.probability), strict=True))
            for hit in hits
        ],
    }
    with new_file(path) as part:
        part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
