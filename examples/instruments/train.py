"""The stage `train`: spectrograms in, `models/recognizer.safetensors` out. Equal seeds give equal models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import params
from backbeat.provenance import canonical_json
from backbeat.storage.staging import new_file

# What 8-bit decibels are divided by to be about as large as weights.
SCALE = 64.0


@dataclass(frozen=True)
class Split:
    """One split: `frames` (sounds, 1, frames, mels), `labels` (sounds,), and what the labels are called."""

    frames: Tensor
    labels: Tensor
    families: list[str]
    digest: str


class Recognizer(nn.Module):
    """Three strided convolutions, mean and maximum over time and bands, and one linear layer."""

    def __init__(self, channels: int, families: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((1, channels), (channels, 2 * channels), (2 * channels, 2 * channels)):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        self.convolutions = nn.Sequential(*layers)
        self.out = nn.Linear(4 * channels, families)

    def forward(self, frames: Tensor) -> Tensor:
        """Return a score for each family, shape (sounds, families)."""
        heard = self.convolutions(frames)
        scores: Tensor = self.out(torch.cat([heard.mean(dim=(2, 3)), heard.amax(dim=(2, 3))], dim=1))
        return scores


def load_split(name: str) -> Split:
    """Load one split of `data/features`."""
    with np.load(params.FEATURES_FOLDER / f"{name}.npz") as kept:
        frames = torch.from_numpy(kept["frames"])[:, None].float() / SCALE
        return Split(frames, torch.from_numpy(kept["labels"]), kept["families"].tolist(), str(kept["digest"]))


def train(split: Split, chosen: params.TrainParams) -> Recognizer:
    """Return a network that was trained on a split."""
    torch.manual_seed(chosen.seed)
    torch.use_deterministic_algorithms(True)
    # Sums over more threads round differently, and a network this small gains nothing by them.
    torch.set_num_threads(1)
    model = Recognizer(chosen.channels, len(split.families))
    optimizer = torch.optim.Adam(model.parameters(), chosen.learning_rate)
    for _ in range(chosen.epochs):
        for batch in torch.randperm(len(split.labels)).split(chosen.batch_sounds):  # type: ignore[no-untyped-call]
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(split.frames[batch]), split.labels[batch]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return model.eval()


def main() -> None:
    """Run the stage."""
    chosen, split = params.load().train, load_split("train")
    model = train(split, chosen)
    # What it was made from travels with it.
    origin = {"families": split.families, "features": split.digest, "train": chosen.model_dump()}
    with new_file(Path(params.MODEL_FILE)) as part:
        save_file(model.state_dict(), part, {"origin": canonical_json(origin)})


if __name__ == "__main__":
    params.run(main)
