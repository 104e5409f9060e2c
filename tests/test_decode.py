"""From activations to hits."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from backbeat.transcription import decode
from backbeat.transcription.answers import Answer, pooled
from backbeat.transcription.decode import Peaks, all_peaks, find_peaks, join_peaks, peaks_by_map, transcribe_frames

CPU = torch.device("cpu")


class LoudnessModel(nn.Module):
    """Answers with the first band as the onset logit and the second as the velocity: no context at all."""

    def forward(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        values = values.float()
        return values[..., :1] / 16 - 8, values[..., 1:2] / 255


class TwoBandModel(nn.Module):
    """Two classes: a band each for the onset logit, and for the velocity. Counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.calls += 1
        values = values.float()
        return values[..., :2] / 16 - 8, values[..., 2:] / 255


def activation(length: int, *peaks: tuple[int, float]) -> np.ndarray:
    curve = np.zeros((length, 1), np.float32)
    for frame, height in peaks:
        curve[frame, 0] = height
    return curve


def test_a_peak_is_found_at_its_frame() -> None:
    peaks = find_peaks(activation(50, (20, 0.9)), np.full((50, 1), 0.5, np.float32), 100.0)
    assert peaks.onset_s == pytest.approx([0.20])
    assert peaks.velocity == pytest.approx([0.5])


def test_the_time_of_a_peak_leans_toward_its_larger_neighbor() -> None:
    peaks = find_peaks(activation(50, (20, 0.9), (21, 0.6)), np.zeros((50, 1), np.float32), 100.0)
    assert 0.200 < peaks.onset_s[0] < 0.205


def test_of_two_peaks_close_by_the_higher_one_counts() -> None:
    peaks = find_peaks(activation(50, (20, 0.9), (22, 0.8)), np.zeros((50, 1), np.float32), 100.0)
    assert peaks.frame.tolist() == [20]


def test_a_plateau_is_one_peak() -> None:
    peaks = find_peaks(activation(50, (20, 0.9), (21, 0.9)), np.zeros((50, 1), np.float32), 100.0)
    assert len(peaks.frame) == 1


def test_peaks_at_both_ends_are_found() -> None:
    peaks = find_peaks(activation(50, (0, 0.9), (49, 0.9)), np.zeros((50, 1), np.float32), 100.0)
    assert peaks.frame.tolist() == [0, 49]
    assert peaks.onset_s[0] == 0.0


def test_thresholds_are_per_class() -> None:
    both = np.concatenate([activation(50, (20, 0.4)), activation(50, (30, 0.4))], axis=1)
    peaks = find_peaks(both, np.zeros((50, 2), np.float32), 100.0)
    assert peaks.above(np.array([0.3, 0.5])).class_index.tolist() == [0]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 900), min_size=1, max_size=6))
def test_a_recording_in_pieces_gives_the_hits_of_the_whole(seed: int, cuts: list[int]) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 255, (2_000, 4), dtype=np.uint8)
    model = LoudnessModel()
    whole = find_peaks(*(output[0].numpy() for output in _activations(model, values)), 100.0)
    pieces = np.split(values, np.cumsum(cuts))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decode, "CHUNK_FRAMES", 300)
        patch.setattr(decode, "MARGIN_FRAMES", 20)
        parts = list(transcribe_frames(model, pieces, 100.0, torch.device("cpu")))
    joined = join_peaks(peaks for _, peaks in parts)
    assert parts[-1][0] == len(values)
    assert joined.frame.tolist() == whole.frame.tolist()
    assert joined.onset_s == pytest.approx(whole.onset_s)


def test_silence_gives_no_hits() -> None:
    assert len(all_peaks(LoudnessModel(), np.zeros((500, 4), np.uint8), 100.0, CPU).frame) == 0


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "CHUNK_FRAMES", 300)
    monkeypatch.setattr(decode, "MARGIN_FRAMES", 20)


def same(one: Peaks, other: Peaks) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in vars(one))


@pytest.mark.usefixtures("small_chunks")
def test_classes_are_pooled_before_peaks_are_found() -> None:
    """Two neighbors that are one class are one hit, of the probability that any of them is there."""
    values = np.zeros((900, 4), np.uint8)
    values[100, 0], values[101, 1] = 128, 144
    assert len(all_peaks(TwoBandModel(), values, 100.0, CPU).frame) == 2
    peaks = all_peaks(TwoBandModel(), values, 100.0, CPU, [[0, 1]])
    assert peaks.frame.tolist() == [101]
    assert peaks.probability == pytest.approx([1 / (1 + np.exp(-1))], abs=0.001)


@pytest.mark.usefixtures("small_chunks")
def test_one_pass_through_the_model_answers_in_all_maps() -> None:
    values = np.random.default_rng(1).integers(0, 255, (1_000, 4), dtype=np.uint8)
    maps = {"two": [[0], [1]], "swapped": [[1], [0]], "one": [[0, 1]], "first": [[0]]}
    answers = [
        Answer(class_map=name, classes=names, notes=[36] * len(names), members=members, thresholds=[0.9] * len(names))
        for name, members in maps.items()
        for names in [[f"class {index}" for index in range(len(members))]]
    ]
    model = TwoBandModel()
    found = peaks_by_map(model, np.array_split(values, 7), 100.0, CPU, answers)
    assert model.calls == 4
    for answer, peaks in zip(answers, found, strict=True):
        assert same(peaks, all_peaks(TwoBandModel(), values, 100.0, CPU, answer.members))
    assert same(found[0], all_peaks(TwoBandModel(), values, 100.0, CPU))
    assert found[0].of_class(1).frame.tolist() == found[1].of_class(0).frame.tolist()
    logits, velocity = TwoBandModel()(torch.from_numpy(values))
    heard, loudness = pooled(logits.sigmoid().numpy(), velocity.numpy(), [[0, 1]])
    assert found[2].frame.tolist() == find_peaks(heard, loudness, 100.0).frame.tolist()


@pytest.mark.usefixtures("small_chunks")
def test_chunks_side_by_side_give_the_same_in_the_same_order() -> None:
    values = np.random.default_rng(1).integers(0, 255, (2_000, 4), dtype=np.uint8)
    alone, beside = (
        list(transcribe_frames(TwoBandModel(), [values], 100.0, CPU, workers=workers)) for workers in (0, 3)
    )
    assert [done for done, _ in alone] == [done for done, _ in beside]
    assert all(same(one, other) for (_, one), (_, other) in zip(alone, beside, strict=True))


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize(("workers", "chunks"), [(0, 1), (2, 3)])
def test_no_more_is_read_than_is_worked_on(workers: int, chunks: int) -> None:
    """An endless recording is no trouble: what is asked for ahead of the hits is a few chunks."""
    read = 0

    def endless() -> Iterator[np.ndarray]:
        nonlocal read
        while True:
            read += 50
            yield np.zeros((50, 4), np.uint8)

    hits = transcribe_frames(LoudnessModel(), endless(), 100.0, CPU, workers=workers)
    for done, _ in itertools.islice(hits, 10):
        assert read <= done + (chunks - 1) * 300 + 20 + 50
    hits.close()


def _activations(model: nn.Module, values: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    logits, velocity = model(torch.from_numpy(values)[None])
    return logits.sigmoid(), velocity
