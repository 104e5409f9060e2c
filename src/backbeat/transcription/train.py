"""The stage `train`: shards in, `models/transcriber.safetensors` and `reports/training/` out.

What it took, in seconds and on what, is in `reports/training_run.json`: apart from the curves, which are the same for
every run of one seed on one machine.

While it runs, checkpoints and training curves are kept in the staging store, under the digest of the data and the
parameters and the code; a run that was killed continues from its last epoch, one with other data, parameters or code
does not. Devices, nodes and strategy come from the environment and Lightning (`backbeat train --devices 4 --nodes 2`),
never from `params.yaml`: a batch is shared among them, so they change how long it takes, not what is asked for.
"""

from __future__ import annotations

import json
import platform
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path

import lightning
import torch
from lightning.pytorch.callbacks import Timer
from torch.utils.data import DataLoader

from backbeat.config import EvaluateParams, FeatureParams, Params, TrainParams, load_params
from backbeat.datasets.intended_use import require_use
from backbeat.datasets.registry import load_record
from backbeat.drums.classes import ClassMap, class_map, load_drums
from backbeat.drums.shards import Shard
from backbeat.errors import ConfigError, ShardError
from backbeat.provenance import digest_of, file_digest, git_revision
from backbeat.storage.staging import link_folder, new_file, open_staging
from backbeat.transcription import weights
from backbeat.transcription.answers import Answer, untuned_answers
from backbeat.transcription.dataset import (
    SequenceRef,
    StepSampler,
    WindowDataset,
    Windows,
    data_digest,
    open_shards,
    reference_by_class,
    sequences_of,
)
from backbeat.transcription.decode import Peaks, peaks_by_map
from backbeat.transcription.metrics import Reference, choose_thresholds
from backbeat.transcription.trainer import Hardware, make_trainer
from backbeat.transcription.training import TranscriptionTask

CURVES_FOLDER = "reports/training"
RUN_FILE = "reports/training_run.json"

# Loader processes beside a GPU; on the CPU they would only compete with training for the same cores.
GPU_LOADERS = 4


@dataclass(frozen=True)
class TrainResult:
    """What training ended with; of several processes, one is the first."""

    is_first: bool
    model: Path
    parameters: int
    epochs: int
    validation_f1: float
    resumed: bool


def train(project: Path, *, hardware: Hardware | None = None, tensorboard: Path | None = None) -> TrainResult:
    """Train on the processed data set and write the best epoch's weights with the thresholds of all its answers.

    Args:
        project: root of the repository.
        hardware: accelerator, devices, nodes and strategy; default: what Lightning finds.
        tensorboard: folder for TensorBoard logs, beside the curves for DVC.

    Raises:
        BackbeatError: if parameters are faulty, the license forbids the intended use, or shards are missing or damaged.
    """
    params = load_params(project)
    require_use(load_record(project, params.dataset), params.intended_use)
    shards = open_shards(project / "data" / "processed" / params.dataset)
    features = FeatureParams.model_validate(shards[0].attributes["features"])
    drums = load_drums(project)
    classes = class_map(drums, params.train.classes)
    provenance = _provenance(project, params, shards, classes)
    run_digest = digest_of([_code_digest(), provenance.model_dump(mode="json", exclude={"revision"})])
    run_folder = open_staging(project).entry("training", run_digest, "")

    lightning.seed_everything(params.train.seed, workers=True, verbose=False)
    torch.use_deterministic_algorithms(True, warn_only=True)
    validation = _validation_sequences(shards, params.train)
    task = TranscriptionTask(
        params.train,
        mels=features.mels,
        step_db=features.step_db,
        frame_rate_hz=features.frame_rate_hz,
        class_map=classes,
        validation=validation,
        tolerance_s=params.evaluate.onset_tolerance_s,
    )
    last = run_folder / "last.ckpt"
    resumed = last.exists()
    timer = Timer()
    trainer = make_trainer(params.train, hardware or Hardware(), run_folder, [timer], tensorboard)
    loader = _loader(shards, params.train, classes, features, trainer)
    _fit(trainer, task, loader, last if resumed else None)

    best = trainer.checkpoint_callback.best_model_path  # type: ignore[union-attr]
    task.load_state_dict(torch.load(best, weights_only=True, map_location="cpu")["state_dict"])
    task.to(trainer.strategy.root_device)
    task.model.eval()
    answers = _tuned_answers(task, validation, untuned_answers(drums, classes), features, params.evaluate)
    card = _card(params.train, classes, features, answers, provenance)
    # The others have read the checkpoint, too, before it goes.
    trainer.strategy.barrier()
    if trainer.is_global_zero:
        _publish(project, task, card, run_folder)
        _write_run(project / RUN_FILE, trainer, timer)
    return TrainResult(
        is_first=trainer.is_global_zero,
        model=project / weights.MODEL_FILE,
        parameters=sum(parameter.numel() for parameter in task.model.parameters()),
        epochs=trainer.current_epoch,
        validation_f1=float(trainer.checkpoint_callback.best_model_score),  # type: ignore[union-attr]
        resumed=resumed,
    )


def _tuned_answers(
    task: TranscriptionTask,
    validation: list[SequenceRef],
    maps: list[tuple[ClassMap, Answer]],
    features: FeatureParams,
    params: EvaluateParams,
) -> dict[str, Answer]:
    """Return the answer in each class map with its best thresholds; each sequence goes through the model once."""
    rate_hz, answers = features.frame_rate_hz, [answer for _, answer in maps]
    scored: list[list[tuple[Reference, Peaks]]] = [[] for _ in maps]
    for sequence in validation:
        onsets = sequence.onsets()
        peaks_of = peaks_by_map(task.model, [sequence.frames()], rate_hz, task.device, answers)
        for (classes, _), peaks, pairs in zip(maps, peaks_of, scored, strict=True):
            pairs.append((reference_by_class(onsets, classes, rate_hz), peaks))
    tuned = {}
    for answer, pairs in zip(answers, scored, strict=True):
        thresholds = choose_thresholds(pairs, len(answer.classes), params.onset_tolerance_s)
        tuned[answer.class_map] = answer.model_copy(update={"thresholds": thresholds.tolist()})
    return tuned


def _card(
    params: TrainParams,
    classes: ClassMap,
    features: FeatureParams,
    answers: dict[str, Answer],
    provenance: weights.Provenance,
) -> weights.ModelCard:
    return weights.ModelCard(
        format_version=2,
        features=features,
        class_map=classes.name,
        classes=list(classes.classes),
        answers=answers,
        default_answer=classes.name,
        channels=params.channels,
        recurrent_units=params.recurrent_units,
        provenance=provenance,
    )


def _provenance(project: Path, params: Params, shards: list[Shard], classes: ClassMap) -> weights.Provenance:
    return weights.Provenance(
        dataset=shards[0].attributes["dataset"],
        license=shards[0].attributes["license"],
        data=data_digest(shards),
        class_of_pitch=digest_of(classes.class_of_pitch.tolist()),
        held_out_kits=list(params.train.held_out_kits),
        train=params.train.model_dump(mode="json"),
        onset_tolerance_s=params.evaluate.onset_tolerance_s,
        revision=git_revision(project),
    )


def _code_digest() -> str:
    """Return a digest of the code that training runs: a checkpoint of other code is not to be continued."""
    folder = Path(__file__).parent
    files = sorted([*folder.glob("*.py"), *(folder.parent / "drums").glob("*.py")])
    return digest_of([torch.__version__, lightning.__version__, *map(file_digest, files)])


def _validation_sequences(shards: list[Shard], params: TrainParams) -> list[SequenceRef]:
    sequences = sequences_of(shards, "validation", without_kits=frozenset(params.held_out_kits))
    if not sequences:
        raise ShardError("no validation sequences", expected="a validation split outside the held-out kits", got="none")
    step = -(-len(sequences) // params.validation_sequences)
    return sequences[::step]


def _loader(
    shards: list[Shard], params: TrainParams, classes: ClassMap, features: FeatureParams, trainer: lightning.Trainer
) -> DataLoader[Windows]:
    sequences = sequences_of(shards, "train", without_kits=frozenset(params.held_out_kits))
    if not sequences:
        raise ShardError("no training sequences", expected="a train split outside the held-out kits", got="none")
    windows = WindowDataset(
        sequences,
        classes,
        window_frames=params.window_frames,
        label_frames=params.label_frames,
        frame_rate_hz=features.frame_rate_hz,
        seed=params.seed,
        tempo_jitter=params.tempo_jitter,
    )
    if params.batch_windows % trainer.world_size:
        expected = f"a multiple of the {trainer.world_size} devices"
        step = "set train.batch_windows to one, or train on another number of devices"
        got = f"{params.batch_windows}"
        raise ConfigError("a batch cannot be shared equally", expected=expected, got=got, next_step=step)
    on_gpu = trainer.strategy.root_device.type != "cpu"
    return DataLoader(
        windows,
        batch_size=params.batch_windows // trainer.world_size,
        sampler=StepSampler(params.steps_per_epoch * params.batch_windows),
        num_workers=GPU_LOADERS if on_gpu else 0,
        persistent_workers=on_gpu,
        pin_memory=on_gpu,
        multiprocessing_context="spawn" if on_gpu else None,
    )


def _fit(trainer: lightning.Trainer, task: TranscriptionTask, loader: DataLoader[Windows], last: Path | None) -> None:
    # One empty validation batch: validation works on whole sequences at the end of the epoch.
    validation = DataLoader([0], batch_size=1)  # type: ignore[arg-type, var-annotated]
    with warnings.catch_warnings():
        # Lightning suggests more loader processes (see GPU_LOADERS), finds the curves in the folder for checkpoints,
        # and calls a function that PyTorch has deprecated.
        for message in (".*does not have many workers.*", ".*exists and is not empty.*", ".*LeafSpec.*"):
            warnings.filterwarnings("ignore", message=message)
        trainer.fit(task, loader, validation, ckpt_path=last, weights_only=True)


def _publish(project: Path, task: TranscriptionTask, card: weights.ModelCard, run_folder: Path) -> None:
    """Put the model and the curves where the stage promises them, and let the checkpoints go."""
    model_file = project / weights.MODEL_FILE
    made = run_folder / model_file.name
    weights.save_model(task.model, card, made)
    staged = open_staging(project).entry("models", file_digest(made), ".safetensors")
    staged.parent.mkdir(parents=True, exist_ok=True)
    made.replace(staged)
    link_folder(model_file.parent, {model_file.name: staged})
    curves = project / CURVES_FOLDER
    shutil.rmtree(curves, ignore_errors=True)
    shutil.copytree(run_folder / "curves", curves)
    for curve in curves.rglob("*.tsv"):
        _keep_last_of_each_step(curve)
    shutil.rmtree(run_folder)


def _write_run(path: Path, trainer: lightning.Trainer, timer: Timer) -> None:
    """Write how long training took, the parts of a continued run together, and what it ran on."""
    on_gpu = trainer.strategy.root_device.type == "cuda"
    run = {
        "training_s": round(timer.time_elapsed("train")),
        "device": torch.cuda.get_device_name() if on_gpu else f"CPU ({platform.machine()})",
        "accelerator": trainer.strategy.root_device.type,
        "devices": trainer.world_size,
        "threads": torch.get_num_threads(),
    }
    with new_file(path) as part:
        part.write_text(json.dumps(run, indent=2) + "\n", encoding="utf-8")


def _keep_last_of_each_step(curve: Path) -> None:
    """Drop what a killed run had logged beyond its last checkpoint; the run after it has logged that again."""
    header, *rows = curve.read_text(encoding="utf-8").splitlines()
    last = {row.split("\t", 1)[0]: row for row in rows}
    curve.write_text("\n".join([header, *last.values()]) + "\n", encoding="utf-8")
