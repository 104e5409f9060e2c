"""Targets, windows and references: what the model is asked to answer."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from backbeat.drums.classes import ClassMap, class_map, load_drums
from backbeat.drums.midi import Onsets
from backbeat.drums.shards import SequenceInfo, ShardWriter
from backbeat.errors import ShardError
from backbeat.transcription.dataset import (
    StepSampler,
    WindowDataset,
    data_digest,
    make_targets,
    open_shards,
    reference_by_class,
    sequences_of,
    unheard_kits,
)

PROJECT = Path(__file__).parents[1]
KICK, SNARE, HI_HAT = 0, 1, 3


@pytest.fixture
def classes() -> ClassMap:
    return class_map(load_drums(PROJECT), "drums7")


def hits(*rows: tuple[float, int, int]) -> Onsets:
    onset_s, pitch, velocity = zip(*rows, strict=True)
    return Onsets(np.array(onset_s, np.float32), np.array(pitch, np.uint8), np.array(velocity, np.uint8))


def write_shard(path: Path, split: str, kit: int, lengths: list[int], *, dataset: str = "tiny") -> None:
    attributes = {"dataset": dataset, "license": "CC0-1.0", "features": {"mels": 16}, "split": split, "kit": kit,
                  "kit_name": f"Kit {kit}", "digest": f"{split}{kit}", "skipped": {}}  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    with ShardWriter(path, 16, attributes) as writer:
        for number, length in enumerate(lengths):
            info = SequenceInfo(f"s{number}_{kit}", f"s{number}", "drummer1", "rock/fast", kit, 120.0, number, number)
            frames = np.full((length, 16), 10 * kit + number, np.uint8)
            writer.append(info, frames, hits((0.01 * (length // 2), 36, 100)))


def test_a_label_is_one_at_the_onset_and_a_half_beside_it(classes: ClassMap) -> None:
    labels, velocities = make_targets(hits((0.05, 36, 127)), classes, 0, 10, 100.0, 1)
    assert labels[:, KICK].tolist() == [0, 0, 0, 0, 0.5, 1, 0.5, 0, 0, 0]
    assert velocities[:, KICK].tolist() == [0, 0, 0, 0, 1, 1, 1, 0, 0, 0]
    assert labels[:, SNARE].sum() == 0


def test_of_two_hits_in_one_frame_the_louder_one_counts(classes: ClassMap) -> None:
    _, velocities = make_targets(hits((0.05, 42, 120), (0.051, 44, 10)), classes, 0, 10, 100.0, 1)
    assert velocities[5, HI_HAT] == pytest.approx(120 / 127)


def test_an_onset_is_never_hidden_by_the_neighbor_of_another(classes: ClassMap) -> None:
    labels, _ = make_targets(hits((0.05, 36, 100), (0.06, 36, 50)), classes, 0, 10, 100.0, 1)
    assert labels[4:8, KICK].tolist() == [0.5, 1, 1, 0.5]


def test_a_label_reaches_into_a_window_from_outside(classes: ClassMap) -> None:
    labels, _ = make_targets(hits((0.05, 36, 100)), classes, 6, 3, 100.0, 1)
    assert labels[:, KICK].tolist() == [0.5, 0, 0]


def test_an_ignored_pitch_leaves_no_label(classes: ClassMap) -> None:
    labels, _ = make_targets(hits((0.05, 81, 100)), classes, 0, 10, 100.0, 1)
    assert labels.sum() == 0


def test_hits_of_one_class_within_a_frame_are_one_reference(classes: ClassMap) -> None:
    reference = reference_by_class(hits((0.100, 42, 30), (0.105, 44, 90), (0.2, 42, 60)), classes, 100.0)
    onset_s, velocity = reference[HI_HAT]
    assert onset_s == pytest.approx([0.1, 0.2])
    assert velocity.tolist() == [90, 60]


def test_windows_cross_no_sequence_border(tmp_path: Path, classes: ClassMap) -> None:
    write_shard(tmp_path / "train" / "kit-01.h5", "train", 1, [500, 300, 50])
    sequences = sequences_of(open_shards(tmp_path), "train")
    windows = WindowDataset(sequences, classes, window_frames=100, label_frames=1, frame_rate_hz=100.0, seed=1)
    for index in range(40):
        window = windows[index]
        recorded = window.values[window.valid.bool()]
        assert len(recorded.unique()) == 1
        assert window.values.shape == (100, 16)


def test_a_short_sequence_is_padded_and_marked(tmp_path: Path, classes: ClassMap) -> None:
    write_shard(tmp_path / "train" / "kit-01.h5", "train", 1, [50])
    windows = WindowDataset(
        sequences_of(open_shards(tmp_path), "train"),
        classes,
        window_frames=80,
        label_frames=1,
        frame_rate_hz=100.0,
        seed=1,
    )
    assert windows[0].valid.sum() == 50


def test_whatever_the_tempo_a_long_sequence_fills_the_window(tmp_path: Path, classes: ClassMap) -> None:
    write_shard(tmp_path / "train" / "kit-01.h5", "train", 1, [500])
    sequences = sequences_of(open_shards(tmp_path), "train")
    windows = WindowDataset(
        sequences, classes, window_frames=101, label_frames=1, frame_rate_hz=100.0, seed=1, tempo_jitter=0.2
    )
    assert all(windows[index].valid.all() for index in range(200))


def test_a_window_depends_on_seed_and_index_alone(tmp_path: Path, classes: ClassMap) -> None:
    write_shard(tmp_path / "train" / "kit-01.h5", "train", 1, [500, 300])
    sequences = sequences_of(open_shards(tmp_path), "train")
    one, same, other = (
        WindowDataset(sequences, classes, window_frames=64, label_frames=1, frame_rate_hz=100.0, seed=seed)
        for seed in (1, 1, 2)
    )
    one[0]
    shipped = pickle.loads(pickle.dumps(same))
    assert all((a == b).all() for a, b in zip(one[7], shipped[7], strict=True))
    assert any((one[i].onset != other[i].onset).any() for i in range(8))


def test_epochs_continue_where_the_last_one_ended() -> None:
    sampler = StepSampler(3)
    first = list(sampler)
    sampler.set_epoch(1)
    assert [*first, *sampler] == [0, 1, 2, 3, 4, 5]


def test_held_out_kits_are_left_out(tmp_path: Path) -> None:
    for kit in (1, 2, 3):
        write_shard(tmp_path / "train" / f"kit-{kit:02d}.h5", "train", kit, [50])
    shards = open_shards(tmp_path)
    assert {one.kit for one in sequences_of(shards, "train", without_kits=frozenset({2}))} == {1, 3}
    assert {one.kit for one in sequences_of(shards, "train", kits=frozenset({2}))} == {2}


def test_a_kit_of_the_test_split_alone_is_not_heard(tmp_path: Path) -> None:
    for split, kits in (("train", (1, 2, 4)), ("validation", (5,)), ("test", (1, 2, 3))):
        for kit in kits:
            write_shard(tmp_path / split / f"kit-{kit:02d}.h5", split, kit, [50])
    assert unheard_kits(open_shards(tmp_path), [2]) == {2, 3, 5}


def test_the_digest_of_the_data_changes_with_a_shard(tmp_path: Path) -> None:
    write_shard(tmp_path / "a" / "train" / "kit-01.h5", "train", 1, [50])
    write_shard(tmp_path / "b" / "train" / "kit-02.h5", "train", 2, [50])
    assert data_digest(open_shards(tmp_path / "a")) != data_digest(open_shards(tmp_path / "b"))


def test_no_shards_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="no shards in"):
        open_shards(tmp_path)


def test_shards_of_two_datasets_are_not_mixed(tmp_path: Path) -> None:
    write_shard(tmp_path / "train" / "kit-01.h5", "train", 1, [50])
    write_shard(tmp_path / "train" / "kit-02.h5", "train", 2, [50], dataset="other")
    with pytest.raises(ShardError, match="does not belong to the others"):
        open_shards(tmp_path)
