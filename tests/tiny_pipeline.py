"""A project small enough to run whole in a test: two synthetic kits, a narrow model, a few steps."""

import re
import shutil
from pathlib import Path

from backbeat.datasets.mini import write_archive
from backbeat.drums.preprocess import preprocess

REPOSITORY = Path(__file__).parents[1]
TINY = {
    "held_out_kits": "[2]",
    "window_frames": "100",
    "channels": "4",
    "recurrent_units": "8",
    "batch_windows": "4",
    "steps": "12",
    "steps_per_epoch": "4",
    "patience_epochs": "9",
}


def set_params(project: Path, values: dict[str, str]) -> None:
    """Change values of `params.yaml` by their last key, and fail if there is none of that name."""
    file = project / "params.yaml"
    text = file.read_text()
    for key, value in values.items():
        text, count = re.subn(rf"^( *{key}: )\S+", rf"\g<1>{value}", text, flags=re.MULTILINE)
        assert count == 1, f"{count} lines of params.yaml set {key}"
    file.write_text(text)


def make_tiny_project(folder: Path) -> Path:
    """Make a project whose shards are ready to train on."""
    (folder / ".dvc").mkdir(parents=True)
    for name in (".dvc/config", "params.yaml"):
        shutil.copy(REPOSITORY / name, folder / name)
    shutil.copytree(REPOSITORY / "configs", folder / "configs")
    set_params(folder, {key: value for key, value in TINY.items() if key != "held_out_kits"})
    set_params(folder, {"held_out_kits": "[2] #"})
    raw = folder / "data" / "raw" / "egmd_mini"
    raw.mkdir(parents=True)
    write_archive(raw / "e-gmd-mini.zip", kits=(1, 2), minutes=1.5)
    preprocess(folder, workers=1)
    return folder
