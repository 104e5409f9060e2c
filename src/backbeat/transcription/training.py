"""Loss, optimizer and validation as a Lightning module. Inference never imports this module.

Loss: binary cross-entropy of the onset logits against soft labels, plus `velocity_weight` times the squared error of
the velocity where there is an onset, both averaged over the frames that are part of a recording.
"""

from __future__ import annotations

from typing import Any

import lightning
import torch
from torch.nn import functional

from backbeat.config import TrainParams
from backbeat.drums.classes import ClassMap
from backbeat.transcription.augment import augment
from backbeat.transcription.dataset import SequenceRef, Windows, reference_by_class
from backbeat.transcription.decode import Peaks, all_peaks
from backbeat.transcription.metrics import Reference, choose_thresholds, count_onsets, no_counts
from backbeat.transcription.model import DrumCRNN

MONITOR = "validation/onset_f1"

# The part of the steps during which the learning rate rises.
WARM_UP = 0.1


def onset_velocity_loss(
    logits: torch.Tensor, velocities: torch.Tensor, windows: Windows
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the onset loss and the velocity loss; predictions have shape (batch, frames, classes)."""
    valid = windows.valid[..., None]
    onset = functional.binary_cross_entropy_with_logits(logits, windows.onset, reduction="none")
    onset = (onset * valid).sum() / (valid.sum() * logits.shape[-1]).clamp(min=1)
    weight = windows.onset * valid
    velocity = (weight * (velocities - windows.velocity) ** 2).sum() / weight.sum().clamp(min=1)
    return onset, velocity


class TranscriptionTask(lightning.LightningModule):
    """Trains a `DrumCRNN` and validates it on whole sequences.

    Args:
        params: the `train` section of `params.yaml`.
        mels: bands of the spectrogram.
        step_db: decibels per step of the 8-bit scale.
        frame_rate_hz: frames per second.
        class_map: the classes to answer in.
        validation: the sequences that epochs, and finally thresholds, are chosen on.
        tolerance_s: how close an onset must be to count.
    """

    def __init__(
        self,
        params: TrainParams,
        *,
        mels: int,
        step_db: float,
        frame_rate_hz: float,
        class_map: ClassMap,
        validation: list[SequenceRef],
        tolerance_s: float,
    ) -> None:
        super().__init__()
        self.params = params
        self.model = DrumCRNN(mels, len(class_map.classes), params.channels, params.recurrent_units, params.dropout)
        # Channels beside each other in memory: a fifth faster, on processors and on GPUs.
        self.model.stem.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._step_db = step_db
        self._frame_rate_hz = frame_rate_hz
        self._class_map = class_map
        self._validation = validation
        self._tolerance_s = tolerance_s

    def training_step(self, batch: Windows, _: int) -> torch.Tensor:
        """Return the loss of one batch."""
        # Drawn from the step, not from a running generator: a resumed run draws what it would have drawn.
        generator = torch.Generator().manual_seed(
            self.params.seed * 1_000_003 + self.global_step + self.global_rank * 10_000_019
        )
        windows = augment(Windows(*batch), self.params, self._step_db, generator)
        logits, velocities = self.model(windows.values)
        onset, velocity = onset_velocity_loss(logits.float(), velocities.float(), windows)
        loss = onset + self.params.velocity_weight * velocity
        self.log("train/loss", loss, on_step=False, on_epoch=True, sync_dist=True)
        return loss

    def validation_step(self, _: Any, __: int) -> None:
        """Nothing: validation scores whole sequences at the end of the epoch."""

    def on_validation_epoch_end(self) -> None:
        """Score the validation sequences at the best threshold of each class; every process does all of them."""
        scored = self.estimate(self._validation)
        thresholds = choose_thresholds(scored, len(self._class_map.classes), self._tolerance_s)
        counts = sum(
            (count_onsets(reference, peaks.above(thresholds), self._tolerance_s) for reference, peaks in scored),
            no_counts(len(self._class_map.classes)),
        )
        self.log(MONITOR, counts.micro, sync_dist=True, prog_bar=True)
        self.log("validation/onset_f1_macro", counts.macro, sync_dist=True)

    def estimate(self, sequences: list[SequenceRef]) -> list[tuple[Reference, Peaks]]:
        """Return the reference and the peaks of each sequence."""
        was_training = self.model.training
        self.model.eval()
        scored = [
            (
                reference_by_class(sequence.onsets(), self._class_map, self._frame_rate_hz),
                all_peaks(self.model, sequence.frames(), self._frame_rate_hz, self.device),
            )
            for sequence in sequences
        ]
        self.model.train(was_training)
        return scored

    def configure_optimizers(self) -> Any:
        """AdamW under a one-cycle learning rate (Smith & Topin 2017)."""
        optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=self.params.learning_rate, weight_decay=self.params.weight_decay
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.params.learning_rate, total_steps=self.params.steps, pct_start=WARM_UP
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
