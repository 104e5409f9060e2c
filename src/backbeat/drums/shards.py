"""Shards: the HDF5 files that training reads. `docs/format.md` is the specification; this is format version 1.

A shard is one array of spectrogram frames with an index of the sequences in it, and their onsets. It is a pure
function of what it was made from: no date, no revision, no path, and the same calls into HDF5 whatever the
number of workers, so the same bytes.

Frames are 8-bit decibels. Before compression each frame is replaced by its difference to the frame before it, modulo
256, starting anew in every chunk: neighboring frames are alike, and differences compress a third better. Reading
undoes this with a running sum. Every chunk carries a Fletcher-32 checksum.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import hdf5plugin
import numpy as np
from numpy.typing import NDArray

from backbeat.drums.midi import Onsets
from backbeat.errors import ShardError

FORMAT = "backbeat shard"
FORMAT_VERSION = 1

# Frames per chunk: 2 s at 10 ms. A window of 4 s touches two or three, of which it uses most.
CHUNK_FRAMES = 200

# Frames that are held back before they are written, in whole chunks: few calls, little memory.
BUFFER_FRAMES = 50 * CHUNK_FRAMES

# Differences hold no repetitions, which is what higher levels look for: level 1 codes their values and nothing else.
# Up to level 9 the others are slower and 1 to 2 % larger; level 19 saves 1 % and takes ten times as long.
ZSTD_LEVEL = 1

ONSET_TYPE = np.dtype([("onset_s", "<f4"), ("pitch", "u1"), ("velocity", "u1")])

# What a text attribute begins with if it is JSON: lists, dicts, and texts that would be taken for one.
_JSON_STARTS = ("[", "{", '"')

_TEXT_COLUMNS = ("id", "performance", "drummer", "style")
_NUMBER_COLUMNS = (
    ("kit", "<u2"), ("tempo_bpm", "<f4"), ("first_frame", "<u8"), ("n_frames", "<u4"),
    ("first_onset", "<u8"), ("n_onsets", "<u4"), ("wav_crc32", "<u4"), ("midi_crc32", "<u4"),
)  # fmt: skip


@dataclass(frozen=True)
class SequenceInfo:
    """What a shard says of one sequence, beside where its frames and onsets are."""

    id: str
    performance: str
    drummer: str
    style: str
    kit: int
    tempo_bpm: float
    wav_crc32: int
    midi_crc32: int


class ShardWriter:
    """Writes one shard, sequence after sequence.

    HDF5 works in memory, where a shard is small, and the file is written in one go: on a full disk HDF5 itself fails
    anywhere up to and after closing, and not with the error that says so.

    Args:
        path: the file to make; the caller gives it its final name once it is complete.
        mels: mel bands in a frame.
        attributes: what the shard says of itself: numbers, texts, or lists and dicts of them.
    """

    def __init__(self, path: Path, mels: int, attributes: Mapping[str, Any]) -> None:
        self._path = path
        self._content = io.BytesIO()
        self._file = h5py.File(self._content, "w")
        self._attributes = attributes
        self._frames = self._file.create_dataset(
            "logmel", (0, mels), np.uint8, maxshape=(None, mels), chunks=(CHUNK_FRAMES, mels), **_checked_zstd()
        )
        self._frames.attrs["encoding"] = "difference to the frame before, modulo 256, anew in every chunk"
        self._held: list[NDArray[np.uint8]] = []
        self._held_frames = 0
        self._rows: list[tuple[SequenceInfo, int, int, int, int]] = []
        self._onsets: list[NDArray[Any]] = []
        self._next_frame = self._next_onset = 0

    def append(self, info: SequenceInfo, frames: NDArray[np.uint8], onsets: Onsets) -> None:
        """Add a sequence: frames of shape (frames, mels), and its onsets."""
        self._rows.append((info, self._next_frame, len(frames), self._next_onset, len(onsets)))
        self._next_frame += len(frames)
        self._next_onset += len(onsets)
        table = np.empty(len(onsets), ONSET_TYPE)
        table["onset_s"], table["pitch"], table["velocity"] = onsets.onset_s, onsets.pitch, onsets.velocity
        self._onsets.append(table)
        self._held.append(frames)
        self._held_frames += len(frames)
        while self._held_frames >= BUFFER_FRAMES:
            self._write_held(BUFFER_FRAMES)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            if kind is not None:
                return
            self._write_held(self._held_frames)
            _write_table(self._file, "sequences", self._sequence_table())
            _write_table(self._file, "onsets", np.concatenate([np.empty(0, ONSET_TYPE), *self._onsets]))
            self._file.attrs["format"] = FORMAT
            self._file.attrs["format_version"] = FORMAT_VERSION
            for name, value in sorted(self._attributes.items()):
                plain = isinstance(value, int | float) or (isinstance(value, str) and value[:1] not in _JSON_STARTS)
                self._file.attrs[name] = value if plain else json.dumps(value, sort_keys=True)
        self._path.write_bytes(self._content.getbuffer())

    def _write_held(self, count: int) -> None:
        held = np.concatenate([np.empty((0, self._frames.shape[1]), np.uint8), *self._held])
        start = self._frames.shape[0]
        self._frames.resize(start + count, axis=0)
        self._frames[start:] = _differences(held[:count])
        self._held = [held[count:]]
        self._held_frames -= count

    def _sequence_table(self) -> NDArray[Any]:
        texts = {name: [getattr(row[0], name).encode() for row in self._rows] for name in _TEXT_COLUMNS}
        types = [(name, f"S{max([1, *map(len, values)])}") for name, values in texts.items()]
        table = np.zeros(len(self._rows), np.dtype([*types, *_NUMBER_COLUMNS]))
        for name, values in texts.items():
            table[name] = values
        for name in ("kit", "tempo_bpm", "wav_crc32", "midi_crc32"):
            table[name] = [getattr(row[0], name) for row in self._rows]
        for index, name in enumerate(("first_frame", "n_frames", "first_onset", "n_onsets"), start=1):
            table[name] = [row[index] for row in self._rows]
        return table


class Shard:
    """A shard to read from. The file is opened on first use, once in every process, and never inherited by a fork."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: h5py.File | None = None
        self._logmel: h5py.Dataset | None = None
        self._process = 0
        with _named_errors(path), h5py.File(path, "r") as file:
            self.attributes = _attributes(file, path)
            self.sequences: NDArray[Any] = file["sequences"][:]
            self.onset_table: NDArray[Any] = file["onsets"][:]
            self.frames, self.mels = (int(size) for size in file["logmel"].shape)
        _check_index(self)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None, "_logmel": None}

    def read(self, first_frame: int, count: int) -> NDArray[np.uint8]:
        """Return `count` frames from `first_frame` on, shape (count, mels).

        Raises:
            ShardError: if they are not all there, or a chunk does not match its checksum.
        """
        if not 0 <= first_frame <= first_frame + count <= self.frames:
            got = f"{first_frame} to {first_frame + count}"
            raise ShardError(f"{self.path} has no such frames", expected=f"within 0 to {self.frames}", got=got)
        start = first_frame - first_frame % CHUNK_FRAMES
        with _named_errors(self.path):
            differences = self._opened()[start : first_frame + count]
        for chunk in range(0, len(differences), CHUNK_FRAMES):
            piece = differences[chunk : chunk + CHUNK_FRAMES]
            np.add.accumulate(piece, axis=0, out=piece)
        return np.asarray(differences[first_frame - start :])

    def onsets(self, index: int) -> Onsets:
        """Return the onsets of the sequence at this row of `sequences`."""
        row = self.sequences[index]
        table = self.onset_table[row["first_onset"] : row["first_onset"] + row["n_onsets"]]
        return Onsets(table["onset_s"], table["pitch"], table["velocity"])

    def infos(self) -> Iterator[tuple[SequenceInfo, int, int]]:
        """Yield (info, first frame, number of frames) for each sequence, in order."""
        for row in self.sequences:
            info = SequenceInfo(
                id=row["id"].decode(),
                performance=row["performance"].decode(),
                drummer=row["drummer"].decode(),
                style=row["style"].decode(),
                kit=int(row["kit"]),
                tempo_bpm=float(row["tempo_bpm"]),
                wav_crc32=int(row["wav_crc32"]),
                midi_crc32=int(row["midi_crc32"]),
            )
            yield info, int(row["first_frame"]), int(row["n_frames"])

    def check(self) -> None:
        """Read every frame once.

        Raises:
            ShardError: if a chunk does not match its checksum.
        """
        for start in range(0, self.frames, BUFFER_FRAMES):
            self.read(start, min(BUFFER_FRAMES, self.frames - start))

    def close(self) -> None:
        """Close the file; the next read opens it again."""
        if self._file is not None:
            self._file.close()
        self._file = self._logmel = None

    def _opened(self) -> h5py.Dataset:
        if self._logmel is None or self._process != os.getpid():
            # Without HDF5's cache of chunks: it takes 8 MiB for each shard, and windows drawn at random seldom meet it.
            self._file, self._process = h5py.File(self.path, "r", rdcc_nbytes=0), os.getpid()
            self._logmel = self._file["logmel"]
        return self._logmel


def _checked_zstd() -> dict[str, Any]:
    return {**hdf5plugin.Zstd(ZSTD_LEVEL), "fletcher32": True}


def _differences(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    differences = frames.copy()
    np.subtract(frames[1:], frames[:-1], out=differences[1:])
    differences[::CHUNK_FRAMES] = frames[::CHUNK_FRAMES]
    return differences


def _write_table(file: h5py.File, name: str, table: NDArray[Any]) -> None:
    chunk = max(1, min(len(table), 4096))
    file.create_dataset(name, data=table, maxshape=(None,), chunks=(chunk,), shuffle=True, **_checked_zstd())


def _attributes(file: h5py.File, path: Path) -> dict[str, Any]:
    values = {name: value.item() if isinstance(value, np.generic) else value for name, value in file.attrs.items()}
    if values.get("format") != FORMAT or values.get("format_version") != FORMAT_VERSION:
        raise ShardError(
            f"{path} is not a shard that this version reads",
            expected=f"{FORMAT} {FORMAT_VERSION}",
            got=f"{values.get('format')} {values.get('format_version')}",
            next_step="make it again: dvc repro preprocess",
        )
    return {
        name: json.loads(value) if isinstance(value, str) and value[:1] in _JSON_STARTS else value
        for name, value in values.items()
    }


def _check_index(shard: Shard) -> None:
    """Check that the index has its columns and says of every frame and onset exactly once where it belongs."""
    columns = {*_TEXT_COLUMNS, *(name for name, _ in _NUMBER_COLUMNS)}
    if shard.onset_table.dtype != ONSET_TYPE or set(shard.sequences.dtype.names or ()) != columns:
        got = f"{shard.sequences.dtype} and {shard.onset_table.dtype}"
        raise _damaged(shard.path, "tables of sequences and onsets", got)
    for first, count, total in (
        ("first_frame", "n_frames", shard.frames),
        ("first_onset", "n_onsets", len(shard.onset_table)),
    ):
        counts = shard.sequences[count].astype(np.int64)
        ends = np.cumsum(counts)
        starts = shard.sequences[first].astype(np.int64)
        if not np.array_equal(starts, ends - counts) or (int(ends[-1]) if len(ends) else 0) != total:
            raise _damaged(shard.path, f"an index of its {total} rows", f"{first} and {count} that do not add up")


@contextlib.contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Turn HDF5's errors into a `ShardError` that names the file."""
    try:
        yield
    except FileNotFoundError as error:
        step = "fetch it: dvc pull, or make it: dvc repro preprocess"
        raise ShardError(f"{path} is missing", expected="a shard", got="nothing", next_step=step) from error
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        # With a number of the operating system's it is about the machine (open files, rights), not about the content.
        if isinstance(error, OSError) and error.errno not in {None, errno.EIO}:
            raise
        raise _damaged(path, "a whole HDF5 file", str(error)) from error


def _damaged(path: Path, expected: str, got: str) -> ShardError:
    step = f"remove it and make it again: rm {path} && dvc repro preprocess"
    return ShardError(f"{path} is damaged", expected=expected, got=got, next_step=step)
