"""The stage `evaluate`: the model and the test split in, `reports/metrics.json` and what was taken for what out."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file

import params
from backbeat.errors import ModelError
from backbeat.storage.staging import new_file
from train import Recognizer, Split, load_split

METRICS_FILE = Path("reports/metrics.json")
RECOGNIZED_FILE = Path("reports/recognized.csv")


def recognized(model_file: Path, split: Split) -> list[str]:
    """Return the family that each sound of a split is taken for.

    Raises:
        ModelError: if the model was trained on other families or other spectrograms.
    """
    with safe_open(model_file, framework="pt") as kept:
        origin = json.loads(kept.metadata()["origin"])
    if (origin["families"], origin["features"]) != (split.families, split.digest):
        raise ModelError(f"{model_file} is another model", expected=f"one trained on {', '.join(split.families)}",
                         got=f"{', '.join(origin['families'])}, of other spectrograms or names",
                         next_step="dvc repro")  # fmt: skip
    weights = load_file(model_file)
    families, pooled = weights["out.weight"].shape
    model = Recognizer(pooled // 4, families)
    model.load_state_dict(weights)
    with torch.inference_mode():
        return [split.families[index] for index in model.eval()(split.frames).argmax(dim=1).tolist()]


def main() -> None:
    """Run the stage."""
    split = load_split("test")
    truth = [split.families[label] for label in split.labels.tolist()]
    found = recognized(params.MODEL_FILE, split)
    right = [here == there for here, there in zip(truth, found, strict=True)]
    metrics = {
        "accuracy": round(sum(right) / len(right), 4),
        "chance": round(1 / len(split.families), 4),
        "by_family": {
            family: round(
                sum(ok for ok, name in zip(right, truth, strict=True) if name == family) / truth.count(family), 4
            )
            for family in split.families
        },
        "sounds": len(right),
    }
    with new_file(METRICS_FILE) as part:
        part.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    with new_file(RECOGNIZED_FILE) as part, part.open("w", encoding="utf-8", newline="") as text:
        csv.writer(text, lineterminator="\n").writerows([("family", "recognized"), *zip(truth, found, strict=True)])
    print(f"accuracy {metrics['accuracy']:.3f} on {len(right)} sounds of instruments that training has not heard")


if __name__ == "__main__":
    params.run(main)
