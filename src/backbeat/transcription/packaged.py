"""The model in the box: a trained model that is part of the package, and how one is put there.

It is what `backbeat transcribe` takes where no model is named, so it works without a clone and without training. It is
installed with the program, so it is small; and whoever has the program may use it for anything, so what it was trained
on must allow that. Beside it lies the table of drums that it was packaged with: what annotations mean is read from it
where there is no clone.
"""

from __future__ import annotations

from pathlib import Path

import torch

from backbeat.config import DRUMS_FILE, find_project, load_yaml, validated
from backbeat.datasets.registry import RECORDS_FOLDER, load_record
from backbeat.drums.classes import DrumTable, load_drums
from backbeat.errors import ConfigError, ModelError
from backbeat.storage.staging import new_file
from backbeat.transcription.weights import ModelCard, Provenance, load_model, save_model

PACKAGED = Path(__file__).parent / "pretrained" / "drums.safetensors"

# Git and every installation carry it.
MOST_BYTES = 2_000_000


def packaged_model() -> Path:
    """Return the model file that is installed with the program.

    Raises:
        ModelError: if there is none.
    """
    if not PACKAGED.is_file():
        raise ModelError(
            "there is no model in this installation",
            expected=str(PACKAGED),
            got="none",
            next_step="install the program again, or name a model: --model models/transcriber.safetensors",
        )
    return PACKAGED


def drums_here() -> DrumTable:
    """Return the table of drums of the project at or above the current folder, else the one in the box.

    Raises:
        ConfigError: if it is missing or contradicts itself.
    """
    try:
        project = find_project()
    except ConfigError:
        project = None
    # Other projects have a params.yaml, too.
    if project is not None and (project / DRUMS_FILE).is_file():
        return load_drums(project)
    table = _table_beside(PACKAGED)
    return validated(DrumTable, load_yaml(table), str(table))


def package_model(
    project: Path, model_file: Path, answer: str | None = None, output: Path | None = None
) -> tuple[Path, ModelCard]:
    """Write a trained model as the one in the box: in 16-bit floats, the same bytes for the same model.

    The table of drums of the project is copied to beside it.

    Args:
        project: root of the repository, with the record of what the model was trained on.
        model_file: the model.
        answer: the class map that it answers in if none is asked for; default: as the model has it.
        output: where to write it; default: `PACKAGED`.

    Returns:
        the file, and what it says of itself.

    Raises:
        ModelError: if the model cannot be loaded, does not answer in that map, was trained on data whose license does
            not allow commercial use, or is too large.
        ConfigError: if no record says what the license of that data allows, or there is no sound table of drums.
    """
    load_drums(project)
    model, card = load_model(model_file, torch.device("cpu"))
    packaged = card.model_copy(update={"default_answer": card.answer(answer).class_map})
    _require_any_use(project, model_file, card.provenance)
    output = output or PACKAGED
    with new_file(output) as part:
        save_model(model, packaged, part, half=True)
        size_bytes = part.stat().st_size
        if size_bytes > MOST_BYTES:
            raise ModelError(
                f"{model_file} is too large to be packaged",
                expected=f"at most {MOST_BYTES:,} bytes as 16-bit floats",
                got=f"{size_bytes:,}",
                next_step="train a smaller one: train.channels and train.recurrent_units in params.yaml",
            )
    with new_file(_table_beside(output)) as part:
        part.write_bytes((project / DRUMS_FILE).read_bytes())
    return output, packaged


def _table_beside(model_file: Path) -> Path:
    return model_file.with_name(Path(DRUMS_FILE).name)


def _require_any_use(project: Path, model_file: Path, provenance: Provenance) -> None:
    """Refuse a model of data that not everybody may use for everything."""
    record = load_record(project, provenance.dataset)
    allowed = record.license.commercial is True and record.license.id == provenance.license and not record.excluded
    if not allowed:
        raise ModelError(
            f"{model_file} may not be handed to everybody: it was trained on {provenance.dataset}",
            expected="a license that allows commercial use, in the model as in the record",
            got=f"{provenance.license} in the model, {record.license.id} in {RECORDS_FOLDER}/{record.name}.yaml"
            f" (license.commercial: {record.license.commercial})",
            next_step="package a model of other data: backbeat datasets list",
        )
