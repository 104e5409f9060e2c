"""Windows of spectrogram and their targets, read from shards.

Targets are made when a window is read, from the onsets in the shard, so that a change of class map or label width
re-computes nothing. A label is 1 at the frame of an onset and 0.5 on `label_frames` frames to either side;
annotations are not frame-exact. The velocity target is the MIDI velocity / 127 of the nearest onset of the class,
and counts only where the label is above zero.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

from backbeat.drums.classes import ClassMap
from backbeat.drums.midi import Onsets
from backbeat.drums.shards import Shard
from backbeat.errors import ShardError
from backbeat.provenance import digest_of

LABEL_BESIDE_ONSET = 0.5


@dataclass(frozen=True)
class SequenceRef:
    """Where a sequence is: its shard, its row there, its frames; what groups it belongs to; and what it was made from.

    `recording` holds the CRC-32 of the sound file and of the MIDI file.
    """

    shard: Shard
    row: int
    id: str
    style: str
    kit: int
    kit_name: str
    first_frame: int
    n_frames: int
    recording: tuple[int, int]

    def frames(self) -> NDArray[np.uint8]:
        """Return the whole spectrogram, shape (frames, mels)."""
        return self.shard.read(self.first_frame, self.n_frames)

    def onsets(self) -> Onsets:
        """Return the reference onsets."""
        return self.shard.onsets(self.row)


class Windows(NamedTuple):
    """A batch of windows.

    Attributes:
        values: (batch, frames, mels) uint8.
        onset: (batch, frames, classes) float32 labels.
        velocity: (batch, frames, classes) float32, velocity / 127 where the label is above zero.
        valid: (batch, frames) float32, 1 where there is a recording, 0 where it was too short.
    """

    values: torch.Tensor
    onset: torch.Tensor
    velocity: torch.Tensor
    valid: torch.Tensor


def open_shards(folder: Path) -> list[Shard]:
    """Open every shard under `data/processed/<dataset>/`, sorted by name.

    Raises:
        ShardError: if there is none, one is damaged, or two were made with different parameters.
    """
    shards = [Shard(path) for path in sorted(folder.glob("*/*.h5"))]
    if not shards:
        step = "make them: dvc repro preprocess, or fetch them: dvc pull"
        raise ShardError(f"no shards in {folder}", expected="*/kit-NN.h5", got="none", next_step=step)
    for shard in shards[1:]:
        for name in ("dataset", "features"):
            if shard.attributes[name] != shards[0].attributes[name]:
                got = f"{shard.attributes[name]} and {shards[0].attributes[name]}"
                raise ShardError(f"{shard.path} does not belong to the others", expected=f"one {name}", got=got)
    return shards


def data_digest(shards: list[Shard]) -> str:
    """Return one digest for what is in a set of shards, whatever their order."""
    return digest_of(sorted((shard.attributes["digest"], sorted(shard.attributes["skipped"])) for shard in shards))


def sequences_of(
    shards: list[Shard], split: str, *, kits: frozenset[int] | None = None, without_kits: frozenset[int] = frozenset()
) -> list[SequenceRef]:
    """Return the sequences of a split, of all kits but `without_kits`, or of `kits` alone."""
    chosen = []
    for shard in shards:
        kit = shard.attributes["kit"]
        if shard.attributes["split"] != split or kit in without_kits or (kits is not None and kit not in kits):
            continue
        for row, (info, first_frame, n_frames) in enumerate(shard.infos()):
            style = info.style.split("/")[0]
            name = shard.attributes["kit_name"]
            recording = (info.wav_crc32, info.midi_crc32)
            chosen.append(SequenceRef(shard, row, info.id, style, kit, name, first_frame, n_frames, recording))
    return chosen


def unheard_kits(shards: list[Shard], held_out_kits: Collection[int]) -> frozenset[int]:
    """Return the kits that training does not hear: held out, or without a sequence in the train split."""
    trained = {one.attributes["kit"] for one in shards if one.attributes["split"] == "train"}
    return frozenset({one.attributes["kit"] for one in shards} - (trained - set(held_out_kits)))


def recordings_digest(sequences: list[SequenceRef]) -> str:
    """Return one digest for the recordings and annotations of sequences, whatever the features made of them."""
    return digest_of(sorted((sequence.id, sequence.kit, *sequence.recording) for sequence in sequences))


class WindowDataset(Dataset[Windows]):
    """Endless windows at random places: item `i` is a function of the seed and `i` alone.

    Sequences are drawn in proportion to their length.
    """

    def __init__(
        self,
        sequences: list[SequenceRef],
        class_map: ClassMap,
        *,
        window_frames: int,
        label_frames: int,
        frame_rate_hz: float,
        seed: int,
        tempo_jitter: float = 0.0,
    ) -> None:
        self._sequences = sequences
        self._class_map = class_map
        self._window_frames = window_frames
        self._label_frames = label_frames
        self._frame_rate_hz = frame_rate_hz
        self._seed = seed
        self._tempo_jitter = tempo_jitter
        self._ends = np.cumsum([sequence.n_frames for sequence in sequences])

    def __getitem__(self, index: int) -> Windows:
        rng = np.random.default_rng((self._seed, index))
        place = int(rng.integers(self._ends[-1]))
        sequence = self._sequences[int(np.searchsorted(self._ends, place, side="right"))]
        # Played faster: more of the recording in the same window, and the hits closer together.
        tempo = 1 + self._tempo_jitter * float(rng.uniform(-1, 1))
        span = round(self._window_frames * tempo)
        start = int(rng.integers(max(1, sequence.n_frames - span + 1)))
        read = sequence.shard.read(sequence.first_frame + start, min(span, sequence.n_frames))
        count = min(self._window_frames, math.ceil(len(read) / tempo))
        values = np.zeros((self._window_frames, sequence.shard.mels), np.uint8)
        values[:count] = read[np.minimum((np.arange(count) * tempo).round().astype(np.int64), len(read) - 1)]
        onsets = sequence.onsets()
        shown = replace(onsets, onset_s=(onsets.onset_s - start / self._frame_rate_hz) / tempo)
        onset, velocity = make_targets(
            shown, self._class_map, 0, self._window_frames, self._frame_rate_hz, self._label_frames
        )
        valid = np.zeros(self._window_frames, np.float32)
        valid[:count] = 1.0
        return Windows(*(torch.from_numpy(array) for array in (values, onset, velocity, valid)))


class StepSampler(Sampler[int]):
    """Indices for one epoch after another, continued where a resumed run left off."""

    def __init__(self, per_epoch: int) -> None:
        self.epoch = 0
        self._per_epoch = per_epoch

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self._per_epoch

    def __iter__(self) -> Iterator[int]:
        start = self.epoch * self._per_epoch
        return iter(range(start, start + self._per_epoch))


def make_targets(
    onsets: Onsets, class_map: ClassMap, first_frame: int, count: int, frame_rate_hz: float, label_frames: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the onset labels and velocity targets of `count` frames from `first_frame` of a sequence.

    Returns:
        two arrays of shape (count, classes).
    """
    labels = np.zeros((count, len(class_map.classes)), np.float32)
    velocities = np.zeros_like(labels)
    # Softest first: of two hits in one frame the louder one is written last, and counts, as in the reference.
    order = np.argsort(onsets.velocity, kind="stable")
    classes = class_map.class_of_pitch[onsets.pitch][order]
    frames = np.rint(onsets.onset_s[order] * frame_rate_hz).astype(np.int64) - first_frame
    near = (classes >= 0) & (frames >= -label_frames) & (frames < count + label_frames)
    loudness = onsets.velocity[order][near].astype(np.float32) / 127
    # The onset's own frame is written last: what is beside an onset never hides another.
    for distance in range(label_frames, -1, -1):
        label = 1.0 if distance == 0 else LABEL_BESIDE_ONSET
        for sign in {-1, 1} if distance else {1}:
            at = frames[near] + sign * distance
            inside = (at >= 0) & (at < count)
            where = (at[inside], classes[near][inside])
            labels[where] = np.maximum(labels[where], label)
            velocities[where] = loudness[inside]
    return labels, velocities


def reference_by_class(
    onsets: Onsets, class_map: ClassMap, frame_rate_hz: float
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return (onset_s, velocity) for each class, sorted by time.

    Hits of one class less than a frame apart are one sound (two rims of a cymbal, a layered pad) and count once,
    with the larger velocity.
    """
    classes: Any = class_map.class_of_pitch[onsets.pitch]
    result = []
    for index in range(len(class_map.classes)):
        times = onsets.onset_s[classes == index].astype(np.float64)
        velocities = onsets.velocity[classes == index].astype(np.float64)
        starts = np.flatnonzero(np.diff(times, prepend=-np.inf) >= 1 / frame_rate_hz)
        loudest = np.maximum.reduceat(velocities, starts) if len(starts) else velocities
        result.append((times[starts], loudest))
    return result
