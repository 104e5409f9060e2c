"""From frame-wise activations to hits.

A hit is a frame whose onset probability is the largest within `PEAK_FRAMES` to either side and at least the
threshold of its class. Its time is refined between frames by a parabola through the peak and its neighbors; its
velocity is read at the peak. Because the neighborhood does not depend on the threshold, peaks are found once and
thresholds only filter them.

A recording goes through the model in chunks with a margin on both sides, so that memory does not grow with its
length; what is in a margin is only context.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from backbeat.transcription.answers import Answer, Members, pooled

Result = TypeVar("Result")

# 20 ms, as ADTOF combines: strokes of a roll are further apart; with 30 ms every tenth of them was lost.
PEAK_FRAMES = 2

# 30 s with 2 s of context on both sides. The GRU remembers longer, but faintly: of 730 hits of the packaged model, six
# or seven come, go or move by a frame with the borders; with 8 s, which takes two fifths longer, three or four do.
CHUNK_FRAMES = 3_000
MARGIN_FRAMES = 200

# Peaks below this are noise at any threshold that could be chosen.
LOWEST_PROBABILITY = 0.02


@dataclass(frozen=True)
class Peaks:
    """Candidate hits, sorted by frame. All arrays have shape (peaks,)."""

    frame: NDArray[np.int64]
    onset_s: NDArray[np.float64]
    class_index: NDArray[np.int64]
    probability: NDArray[np.float64]
    velocity: NDArray[np.float64]

    def where(self, kept: NDArray[np.bool_]) -> Peaks:
        """Return the peaks that a mask of shape (peaks,) keeps."""
        return Peaks(*(getattr(self, column.name)[kept] for column in fields(self)))

    def above(self, thresholds: NDArray[np.float64]) -> Peaks:
        """Return the peaks that reach the threshold of their class; `thresholds` has shape (classes,)."""
        return self.where(self.probability >= thresholds[self.class_index])

    def of_class(self, index: int) -> Peaks:
        """Return the peaks of one class."""
        return self.where(self.class_index == index)


def transcribe_frames(
    model: nn.Module,
    pieces: Iterable[NDArray[np.uint8]],
    frame_rate_hz: float,
    device: torch.device,
    members: Members | None = None,
    *,
    workers: int = 0,
) -> Iterator[tuple[int, Peaks]]:
    """Yield (frames done so far, peaks found in them) for a spectrogram that comes in pieces.

    Args:
        model: `DrumCRNN` in evaluation mode.
        pieces: arrays of shape (frames, mels).
        frame_rate_hz: frames per second.
        device: where the model is.
        members: the native classes of each class to answer in, as in `Answer`; by default the native ones themselves.
        workers: threads that chunks go through the model in, while this one makes the next pieces; 0: this one alone.
    """

    def found(chunk: _Chunk) -> tuple[int, Peaks]:
        return chunk.end, _peaks(chunk, *_activations(model, chunk, device), frame_rate_hz, members)

    yield from _in_order(found, _chunks(pieces), workers)


def all_peaks(
    model: nn.Module,
    values: NDArray[np.uint8],
    frame_rate_hz: float,
    device: torch.device,
    members: Members | None = None,
) -> Peaks:
    """Return the peaks of a whole spectrogram of shape (frames, mels)."""
    return join_peaks(peaks for _, peaks in transcribe_frames(model, [values], frame_rate_hz, device, members))


def peaks_by_map(
    model: nn.Module,
    pieces: Iterable[NDArray[np.uint8]],
    frame_rate_hz: float,
    device: torch.device,
    answers: Sequence[Answer],
) -> list[Peaks]:
    """Return the peaks of a whole recording for each answer, at any probability, from one pass through the model.

    Args:
        model: `DrumCRNN` in evaluation mode.
        pieces: arrays of shape (frames, mels).
        frame_rate_hz: frames per second.
        device: where the model is.
        answers: the class maps to answer in; their thresholds are not applied.
    """
    parts: list[list[Peaks]] = [[] for _ in answers]
    for chunk in _chunks(pieces):
        activations = _activations(model, chunk, device)
        for answer, mine in zip(answers, parts, strict=True):
            mine.append(_peaks(chunk, *activations, frame_rate_hz, answer.members))
    return [join_peaks(mine) for mine in parts]


def join_peaks(parts: Iterable[Peaks]) -> Peaks:
    """Put peaks of consecutive stretches together."""
    listed = list(parts)
    return Peaks(*(np.concatenate([getattr(part, column.name) for part in listed]) for column in fields(Peaks)))


def find_peaks(probability: NDArray[np.float32], velocity: NDArray[np.float32], frame_rate_hz: float) -> Peaks:
    """Return the local maxima of activations.

    Args:
        probability: (frames, classes), between 0 and 1.
        velocity: (frames, classes), between 0 and 1.
        frame_rate_hz: frames per second.
    """
    padded = np.pad(probability, ((PEAK_FRAMES, PEAK_FRAMES), (0, 0)), constant_values=-1.0)
    neighborhoods = np.lib.stride_tricks.sliding_window_view(padded, 2 * PEAK_FRAMES + 1, axis=0)
    # argmax takes the first of equals, so a plateau is one peak.
    is_peak = (neighborhoods.argmax(axis=2) == PEAK_FRAMES) & (probability >= LOWEST_PROBABILITY)
    frames, classes = np.nonzero(is_peak)
    left, middle, right = (padded[frames + PEAK_FRAMES + shift, classes] for shift in (-1, 0, 1))
    bend = left - 2 * middle + right
    inside = (frames > 0) & (frames < len(probability) - 1) & (bend < 0)
    shift = np.where(inside, 0.5 * (left - right) / np.where(bend < 0, bend, -1.0), 0.0)
    onset_s = np.maximum(0.0, (frames + np.clip(shift, -0.5, 0.5)) / frame_rate_hz)
    heights = (array[frames, classes].astype(np.float64) for array in (probability, velocity))
    return Peaks(frames.astype(np.int64), onset_s.astype(np.float64), classes.astype(np.int64), *heights)


@dataclass(frozen=True)
class _Chunk:
    """A stretch of a spectrogram with its margins.

    Attributes:
        values: shape (frames, mels).
        first: the frame of the recording that `values` begins with.
        begin: the first frame whose peaks are wanted; what is before it is context.
        end: the frame after the last such one.
    """

    values: NDArray[np.uint8]
    first: int
    begin: int
    end: int


def _chunks(pieces: Iterable[NDArray[np.uint8]]) -> Iterator[_Chunk]:
    held: NDArray[np.uint8] | None = None
    first = done = 0  # the frame that `held` begins with; the frames that have been yielded
    for piece in pieces:
        held = piece if held is None else np.concatenate([held, piece])
        while first + len(held) >= done + CHUNK_FRAMES + MARGIN_FRAMES:
            yield _Chunk(held[: done - first + CHUNK_FRAMES + MARGIN_FRAMES], first, done, done + CHUNK_FRAMES)
            done += CHUNK_FRAMES
            held = held[max(0, done - MARGIN_FRAMES - first) :]
            first = max(first, done - MARGIN_FRAMES)
    if held is not None and first + len(held) > done:
        yield _Chunk(held, first, done, first + len(held))


def _in_order(work: Callable[[_Chunk], Result], chunks: Iterable[_Chunk], workers: int) -> Iterator[Result]:
    """Yield what is made of each chunk; of those that wait there is at most one more than there are workers."""
    if workers == 0:
        yield from map(work, chunks)
        return
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[Result]] = deque()
        for chunk in chunks:
            waiting.append(pool.submit(work, chunk))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _activations(
    model: nn.Module, chunk: _Chunk, device: torch.device
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the onset probabilities and velocities of all frames of a chunk, of shape (frames, native classes)."""
    with torch.inference_mode():
        logits, velocity = model(torch.from_numpy(np.ascontiguousarray(chunk.values))[None].to(device))
        return logits[0].sigmoid().cpu().numpy(), velocity[0].cpu().numpy()


def _peaks(
    chunk: _Chunk,
    probability: NDArray[np.float32],
    velocity: NDArray[np.float32],
    frame_rate_hz: float,
    members: Members | None,
) -> Peaks:
    """Return the peaks of a chunk without its margins, at frames and times of the recording."""
    if members is not None:
        probability, velocity = pooled(probability, velocity, members)
    peaks = find_peaks(probability, velocity, frame_rate_hz)
    moved = replace(peaks, frame=peaks.frame + chunk.first, onset_s=peaks.onset_s + chunk.first / frame_rate_hz)
    return moved.where((moved.frame >= chunk.begin) & (moved.frame < chunk.end))
