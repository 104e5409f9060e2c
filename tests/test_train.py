"""Training: what it leaves behind, that it repeats, and that it survives being killed."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from backbeat.config import load_params
from backbeat.drums.classes import class_map, load_drums
from backbeat.errors import BackbeatError, ConfigError, ShardError
from backbeat.transcription.answers import coarser_maps
from backbeat.transcription.augment import augment
from backbeat.transcription.dataset import Windows, open_shards, recordings_digest, reference_by_class, sequences_of
from backbeat.transcription.decode import all_peaks
from backbeat.transcription.metrics import choose_thresholds
from backbeat.transcription.train import TrainResult, train
from backbeat.transcription.trainer import Hardware
from backbeat.transcription.training import onset_velocity_loss
from backbeat.transcription.weights import load_model
from tiny_pipeline import set_params

CPU = Hardware(accelerator="cpu", devices="1")
MODEL = "models/transcriber.safetensors"


@pytest.fixture
def project(tiny_project: Path, tmp_path: Path) -> Path:
    shutil.copytree(
        tiny_project, tmp_path / "project", symlinks=True, ignore=shutil.ignore_patterns("models", "reports")
    )
    return tmp_path / "project"


def train_here(project: Path) -> TrainResult:
    return train(project, hardware=CPU)


def shards_of(project: Path) -> Path:
    return project / "data/processed/egmd_mini"


def leftovers(project: Path) -> list[Path]:
    return [path for path in (project / ".dvc/cache/staging/training").rglob("*") if path.is_file()]


def test_training_leaves_a_model_curves_and_no_checkpoints(project: Path) -> None:
    result = train_here(project)
    assert result.epochs == 3
    assert (project / MODEL).is_symlink()
    curve = (project / "reports/training/plots/metrics/validation/onset_f1.tsv").read_text().splitlines()
    assert len(curve) == 1 + result.epochs
    assert not leftovers(project)


def test_what_training_took_is_beside_the_curves_and_not_in_them(project: Path) -> None:
    train_here(project)
    run = json.loads((project / "reports/training_run.json").read_text())
    assert list(run) == ["training_s", "device", "accelerator", "devices", "threads"]
    assert (run["accelerator"], run["devices"], run["threads"]) == ("cpu", 1, torch.get_num_threads())
    curves = [path for path in (project / "reports/training").rglob("*") if path.is_file()]
    assert curves
    assert not [path for path in curves if "training_s" in path.read_text()]


def test_the_model_says_what_it_came_from(project: Path) -> None:
    train_here(project)
    _, card = load_model(project / MODEL, torch.device("cpu"))
    assert card.provenance.dataset == "egmd_mini"
    assert card.provenance.license == "CC0-1.0"
    assert len(card.provenance.data) == 64
    assert card.provenance.train["seed"] == load_params(project).train.seed
    assert card.provenance.held_out_kits == [2]


def test_thresholds_are_chosen_for_every_map_that_the_model_answers_in(trained_project: Path) -> None:
    model, card = load_model(trained_project / MODEL, torch.device("cpu"))
    params, drums = load_params(trained_project), load_drums(trained_project)
    assert card.default_answer == card.class_map == params.train.classes
    native = class_map(drums, card.class_map)
    assert card.answers.keys() == {coarse.name for coarse, _ in coarser_maps(drums, native)} > {card.class_map}
    rate_hz, tolerance_s = card.features.frame_rate_hz, params.evaluate.onset_tolerance_s
    heard = sequences_of(open_shards(shards_of(trained_project)), "validation", without_kits=frozenset([2]))
    for name, answer in card.answers.items():
        classes = class_map(drums, name)
        pairs = [
            (
                reference_by_class(one.onsets(), classes, rate_hz),
                all_peaks(model, one.frames(), rate_hz, torch.device("cpu"), answer.members),
            )
            for one in heard
        ]
        assert answer.thresholds == choose_thresholds(pairs, len(classes.classes), tolerance_s).tolist()
        # Of the same class, in maps with the same instruments for it.
        assert answer.thresholds[0] == card.thresholds[0]


def test_the_same_seed_gives_the_same_weights_and_another_gives_others(project: Path) -> None:
    train_here(project)
    first = (project / MODEL).read_bytes()
    train_here(project)
    assert (project / MODEL).read_bytes() == first
    set_params(project, {"seed": "2"})
    train_here(project)
    assert (project / MODEL).read_bytes() != first


def test_a_killed_run_continues_from_its_last_epoch(project: Path) -> None:
    script = f"from backbeat.transcription.train import *; train(Path({str(project)!r}), hardware=Hardware('cpu', '1'))"
    child = subprocess.Popen(
        [sys.executable, "-c", script], stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert child.stderr is not None
    for line in child.stderr:
        if "step 8 of 12" in line:
            break
    os.killpg(child.pid, signal.SIGKILL)
    child.communicate()
    assert not (project / MODEL).exists()
    result = train_here(project)
    assert result.resumed
    assert result.epochs == 3
    steps = (project / "reports/training/plots/metrics/validation/onset_f1.tsv").read_text().split()[2::2]
    assert [int(step) for step in steps] == [3, 7, 11]


def test_other_parameters_do_not_continue_an_old_run(project: Path) -> None:
    (stale,) = {train_here(project).resumed}
    set_params(project, {"learning_rate": "0.001"})
    assert not stale
    assert not train_here(project).resumed


def test_early_stopping_ends_a_run_that_no_longer_improves(project: Path) -> None:
    set_params(project, {"learning_rate": "0.0000001", "patience_epochs": "1"})
    assert train_here(project).epochs < 3


def test_held_out_kits_are_not_trained_on(project: Path) -> None:
    """With the only other kit held out as well there is nothing left."""
    set_params(project, {"held_out_kits": "[1,2]"})
    with pytest.raises(ShardError, match="no validation sequences"):
        train_here(project)


def test_an_unknown_class_map_names_the_known_ones(project: Path) -> None:
    set_params(project, {"classes": "drums6"})
    with pytest.raises(ConfigError, match="adtof5"):
        train_here(project)


def test_a_damaged_shard_stops_training_and_leaves_no_model(project: Path) -> None:
    link = next((project / "data/processed/egmd_mini/train").iterdir())
    content = bytearray(link.read_bytes())
    link.unlink()
    link.write_bytes(content[: len(content) // 2])
    with pytest.raises(BackbeatError, match=r"kit-0\d\.h5 is damaged"):
        train_here(project)
    assert not (project / MODEL).exists()


def test_a_small_batch_can_be_learned_by_heart(project: Path) -> None:
    """The loss of a model that is shown one window again and again goes to where labels are noise-free."""
    from backbeat.transcription.model import DrumCRNN

    torch.manual_seed(0)
    values = torch.randint(0, 255, (2, 60, 16), dtype=torch.uint8)
    onset = torch.zeros(2, 60, 3)
    onset[:, 10::20, 1] = 1.0
    windows = Windows(values, onset, 0.7 * onset, torch.ones(2, 60))
    model = DrumCRNN(16, 3, 8, 8, 0.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(150):
        onset_loss, velocity_loss = onset_velocity_loss(*model(values), windows)
        optimizer.zero_grad()
        (onset_loss + velocity_loss).backward()
        optimizer.step()
    assert onset_loss < 0.02
    assert velocity_loss < 0.02


def test_frames_beyond_a_recording_do_not_count() -> None:
    logits, velocity = torch.randn(1, 10, 2), torch.rand(1, 10, 2)
    onset = torch.randint(0, 2, (1, 10, 2)).float()
    valid = torch.ones(1, 10)
    valid[:, 6:] = 0
    cut = Windows(torch.zeros(1), onset[:, :6], onset[:, :6], valid[:, :6])
    padded = Windows(torch.zeros(1), onset, onset, valid)
    for one, other in zip(
        onset_velocity_loss(logits, velocity, padded),
        onset_velocity_loss(logits[:, :6], velocity[:, :6], cut),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_augmentation_keeps_the_scale_and_leaves_silence_silent(tiny_project: Path) -> None:
    params = load_params(tiny_project).train.model_copy(update={"mix_probability": 0.0})
    values = torch.randint(0, 256, (8, 50, 80), dtype=torch.uint8)
    values[:, 25:] = 0
    windows = Windows(values, *(torch.zeros(8, 50, 3) for _ in range(2)), torch.ones(8, 50))
    changed = augment(windows, params, 0.5, torch.Generator().manual_seed(1)).values
    assert changed.min() >= 0
    assert changed.max() <= 255
    assert (changed[:, 25:] == 0).all()
    assert not torch.equal(changed, values.float())


def test_mixed_windows_carry_the_annotation_of_both(tiny_project: Path) -> None:
    quiet = {"gain_db": 0.0, "tilt_db": 0.0, "shift_bands": 0, "masked_bands": 0, "mix_probability": 1.0}
    params = load_params(tiny_project).train.model_copy(update=quiet)
    values = torch.stack([torch.full((20, 80), 50), torch.full((20, 80), 90)]).to(torch.uint8)
    onset = torch.zeros(2, 20, 3)
    onset[0, 5, 0] = onset[1, 9, 2] = 1.0
    mixed = augment(Windows(values, onset, onset, torch.ones(2, 20)), params, 0.5, torch.Generator().manual_seed(1))
    # 20 dB below adds 0.04 dB: a tenth of a step.
    assert mixed.values.numpy() == pytest.approx(np.full((2, 20, 80), 90.0), abs=0.1)
    assert np.argwhere(mixed.onset[0].numpy()).tolist() == [[5, 0], [9, 2]]


def test_steps_that_would_never_be_validated_are_refused(project: Path) -> None:
    set_params(project, {"steps": "13"})
    with pytest.raises(ConfigError, match="multiple of steps_per_epoch"):
        train_here(project)


def test_tensorboard_logs_are_written_on_request(project: Path, tmp_path: Path) -> None:
    train(project, hardware=CPU, tensorboard=tmp_path / "logs")
    assert list((tmp_path / "logs").rglob("events.out.tfevents.*"))


def test_evaluation_says_what_it_came_from(trained_project: Path) -> None:
    evaluation = json.loads((trained_project / "reports/evaluation.json").read_text())
    assert {"dataset", "license", "data", "model", "train", "class_map", "class_of_pitch", "revision"} <= set(
        evaluation["provenance"]
    )
    worst = evaluation["worst_sequences"]
    assert worst == sorted(worst, key=lambda one: one["onset_f1"])
    assert {one["sequence"] for one in worst} <= {
        one.id for one in sequences_of(open_shards(shards_of(trained_project)), "test")
    }


def test_test_data_is_the_same_whatever_the_features(trained_project: Path) -> None:
    sequences = sequences_of(open_shards(shards_of(trained_project)), "test")
    assert recordings_digest(sequences) == recordings_digest(sequences[::-1])
    assert recordings_digest(sequences) != recordings_digest(sequences[1:])
    other = dataclasses.replace(sequences[0], recording=(1, 2))
    assert recordings_digest(sequences) != recordings_digest([other, *sequences[1:]])
    wider = [dataclasses.replace(one, n_frames=2 * one.n_frames) for one in sequences]
    assert recordings_digest(sequences) == recordings_digest(wider)
    metrics = json.loads((trained_project / "reports/metrics.json").read_text())
    assert set(metrics) == {"onset_tolerance_s", "test", "seen_kits", "held_out_kits"}
    assert metrics["test"]["onsets"] == metrics["seen_kits"]["onsets"] + metrics["held_out_kits"]["onsets"]


def test_weights_alone_are_in_the_model(trained_project: Path) -> None:
    assert all(tensor.dtype in {torch.float32, torch.int64} for tensor in load_file(trained_project / MODEL).values())


@pytest.mark.slow
def test_two_processes_train_one_model(project: Path) -> None:
    """Lightning's own strategy for several devices and nodes, on two processes of this machine."""
    command = [
        Path(sys.executable).parent / "backbeat",
        "train",
        "--accelerator",
        "cpu",
        "--devices",
        "2",
        "--strategy",
        "ddp",
    ]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("validation onset F1") == 1
    assert (project / MODEL).exists()
    assert not leftovers(project)
