"""Lightning's trainer as the stage `train` wants it: checkpoints, early stopping, curves for DVC, progress.

Devices, nodes and strategy are for Lightning to interpret; where there is a terminal there is a bar, elsewhere a line
for each epoch.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import Logger
from rich.console import Console

from backbeat.config import TrainParams
from backbeat.transcription.training import MONITOR


@dataclass(frozen=True)
class Hardware:
    """Where training runs, in Lightning's own terms."""

    accelerator: str = "auto"
    devices: str = "auto"
    nodes: int = 1
    strategy: str = "auto"


def make_trainer(
    params: TrainParams, hardware: Hardware, run_folder: Path, callbacks: list[Callback], tensorboard: Path | None
) -> lightning.Trainer:
    """Return a trainer that keeps the last and the best epoch in `run_folder`, and curves for DVC in `curves/` there.

    Args:
        params: the length of training, its patience and its precision.
        hardware: what it runs on.
        run_folder: where checkpoints go.
        callbacks: what else is to be called.
        tensorboard: folder for TensorBoard logs, or None.
    """
    from dvclive.lightning import DVCLiveLogger

    curves = DVCLiveLogger(
        dir=str(run_folder / "curves"), resume=True, report=None, save_dvc_exp=False, dvcyaml=None, cache_images=False
    )
    loggers: list[Logger] = [curves]
    if tensorboard is not None:
        from lightning.pytorch.loggers import TensorBoardLogger

        loggers.append(TensorBoardLogger(tensorboard))
    # Both act right after validation: a run that continues from a checkpoint ends the epoch it was in once more, and
    # there is no score then.
    keep_best = ModelCheckpoint(
        run_folder, filename="best", monitor=MONITOR, mode="max", save_last=True, save_on_train_epoch_end=False
    )
    stop_early = EarlyStopping(MONITOR, mode="max", patience=params.patience_epochs, check_on_train_epoch_end=False)
    # Lightning announces devices, tips and its own products at level INFO.
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    console = Console(stderr=True)
    shown = RichProgressBar(leave=False) if console.is_terminal else _EpochLines(console, params)
    return lightning.Trainer(
        accelerator=hardware.accelerator,
        devices=hardware.devices if not hardware.devices.isdigit() else int(hardware.devices),
        num_nodes=hardware.nodes,
        strategy=hardware.strategy,
        precision=_precision(params, hardware),
        max_steps=params.steps,
        gradient_clip_val=1.0,
        logger=loggers,
        callbacks=[*callbacks, keep_best, stop_early, shown],
        num_sanity_val_steps=0,
        enable_progress_bar=console.is_terminal,
        enable_model_summary=False,
        log_every_n_steps=params.steps_per_epoch,
    )


class _EpochLines(Callback):
    """A line for each epoch, where there is no terminal for a bar."""

    def __init__(self, console: Console, params: TrainParams) -> None:
        self._console = console
        self._params = params

    def on_validation_end(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        score = float(trainer.callback_metrics[MONITOR])
        done = f"step {trainer.global_step} of {self._params.steps}"
        self._console.print(f"{done}: validation onset F1 {score:.3f}", highlight=False)


def _precision(params: TrainParams, hardware: Hardware) -> Any:
    if params.precision != "auto":
        return params.precision
    on_gpu = (
        hardware.accelerator != "cpu"
        and torch.cuda.is_available()
        and torch.cuda.is_bf16_supported(including_emulation=False)
    )
    return "bf16-mixed" if on_gpu else "32-true"
