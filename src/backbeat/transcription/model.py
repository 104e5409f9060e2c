"""The network: a convolutional-recurrent drum transcriber that two cores can train.

Two convolutions halve the frequency axis each, so that what follows is small (full-resolution stems take several
times as long for a step); a 1x1 convolution folds what is left into channels; two dilated
convolutions look 50 ms around; one bidirectional GRU hears the groove; two linear heads answer with an onset
logit and a velocity for every frame and class. After Vogl et al. (2017) and Zehren et al. (2021), made smaller.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

# The 8-bit scale brought to about unit variance around zero.
VALUE_CENTER, VALUE_SCALE = 120.0, 50.0


class DrumCRNN(nn.Module):
    """Spectrogram windows in, onset logits and velocities out.

    Args:
        mels: bands of the spectrogram.
        classes: drum classes.
        channels: width of the convolutions.
        recurrent_units: width of each direction of the GRU.
        dropout: probability, before the GRU and the heads.
    """

    def __init__(self, mels: int, classes: int, channels: int, recurrent_units: int, dropout: float) -> None:
        super().__init__()
        wide = 3 * channels
        self.stem = nn.Sequential(
            *_strided_block(1, channels),
            *_strided_block(channels, channels),
        )
        folded_mels = (mels + 3) // 4  # halved twice, rounded up each time
        self.fold = nn.Sequential(
            nn.Conv1d(channels * folded_mels, wide, 1, bias=False), nn.BatchNorm1d(wide), nn.ReLU(), nn.Dropout(dropout)
        )
        self.near = nn.ModuleList(_residual_block(wide, dilation) for dilation in (1, 2))
        self.groove = nn.GRU(wide, recurrent_units, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(dropout)
        # The heads also see what the recurrent layer saw: an onset is a local event first of all.
        self.onset = nn.Linear(2 * recurrent_units + wide, classes)
        self.velocity = nn.Linear(2 * recurrent_units + wide, classes)
        # Onsets are rare; starting from their rate spares the first steps of training.
        nn.init.constant_(self.onset.bias, -4.0)

    def forward(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return onset logits and velocities.

        Args:
            values: (batch, frames, mels), on the 8-bit scale.

        Returns:
            two tensors of shape (batch, frames, classes); velocities are between 0 and 1.
        """
        x = (values.float() - VALUE_CENTER) / VALUE_SCALE
        x = self.stem(x.unsqueeze(1))
        x = x.permute(0, 1, 3, 2).flatten(1, 2)
        x = self.fold(x)
        for block in self.near:
            x = x + block(x)
        local = x.transpose(1, 2)
        recurrent, _ = self.groove(local)
        both = self.dropout(torch.cat([recurrent, local], dim=2))
        return self.onset(both), cast("torch.Tensor", self.velocity(both)).sigmoid()


def _strided_block(inputs: int, outputs: int) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, 3, stride=(1, 2), padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]


def _residual_block(width: int, dilation: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation, bias=False), nn.BatchNorm1d(width), nn.ReLU()
    )
