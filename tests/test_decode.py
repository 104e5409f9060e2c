"""From activations to hits."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from backbeat.transcription import decode
from backbeat.transcription.decode import all_peaks, find_peaks, join_peaks, transcribe_frames


class LoudnessModel(nn.Module):
    """Answers with the first band as the onset logit and the second as the velocity: no context at all."""

    def forward(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        values = values.float()
        return values[..., :1] / 16 - 8, values[..., 1:2] / 255


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
    assert len(all_peaks(LoudnessModel(), np.zeros((500, 4), np.uint8), 100.0, torch.device("cpu")).frame) == 0


def _activations(model: nn.Module, values: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    logits, velocity = model(torch.from_numpy(values)[None])
    return logits.sigmoid(), velocity
