"""Presets, `configs/experiments/*.yaml`: what differs from `params.yaml`, and the reason in the comment above it.

A preset becomes overrides in the syntax of `dvc exp run -S`, which is Hydra's. Presets and overrides are applied to a
copy of `params.yaml` by DVC's own code first, and what comes out is checked like `params.yaml` itself: what DVC would
refuse in the middle of a queue is refused before anything starts.
"""

from __future__ import annotations

import difflib
import json
import shlex
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backbeat.config import PARAMS_FILE, Params, load_params, load_yaml, validated
from backbeat.errors import ConfigError, ExperimentError
from backbeat.experiments.results import flat

FOLDER = "configs/experiments"


@dataclass(frozen=True)
class Preset:
    """What an experiment changes.

    Args:
        name: the name of the file, and of the experiment.
        reason: what it is for, in a sentence or two: the comment at the top of the file.
        changes: parameters and their values, flat: `train.learning_rate`.
    """

    name: str
    reason: str
    changes: Mapping[str, object]


def load_presets(project: Path) -> list[Preset]:
    """Load every preset, sorted by name.

    Raises:
        ConfigError: if a file is not YAML.
        ExperimentError: if one is empty, or sets what is no parameter.
    """
    return [load_preset(project, path.stem) for path in sorted((project / FOLDER).glob("*.yaml"))]


def load_preset(project: Path, name: str) -> Preset:
    """Load one preset.

    Raises:
        ConfigError: if the file is not YAML.
        ExperimentError: if there is none of that name, it is empty, or it sets what is no parameter.
    """
    path = project / FOLDER / f"{name}.yaml"
    names = sorted(file.stem for file in (project / FOLDER).glob("*.yaml"))
    if name not in names:
        raise ExperimentError(
            f"there is no preset {name!r}",
            expected=", ".join(names) or f"files in {FOLDER}/",
            next_step=_nearest(name, names)
            or f"write {FOLDER}/{name}.yaml: a comment with the reason, and what differs",
        )
    where = f"{FOLDER}/{path.name}"
    values = load_yaml(path)
    if not isinstance(values, dict) or not values:
        raise ExperimentError(f"{where} changes nothing", expected=f"keys as in {PARAMS_FILE}", got=repr(values))
    changes = dict(flat(values))
    _require_known(changes, _known(project), where)
    return Preset(name, _reason(path), changes)


def overrides(preset: Preset) -> tuple[str, ...]:
    """Return a preset as arguments of `dvc exp run -S`."""
    return tuple(f"{key}={_hydra_value(value)}" for key, value in preset.changes.items())


def checked(project: Path, given: Sequence[str]) -> Params:
    """Return the parameters that overrides make of `params.yaml`, without changing it.

    Args:
        project: the root of the repository.
        given: `key=value`, as for `dvc exp run -S`; the last one of a key counts.

    Raises:
        ExperimentError: if an override is not `key=value`, or its key is no parameter; the nearest one is named.
        ConfigError: if a value has the wrong type, or is out of bounds.
    """
    # DVC's part for this takes a third of a second to load.
    from dvc.exceptions import DvcException
    from dvc.utils.hydra import apply_overrides, to_hydra_overrides
    from hydra.errors import HydraException

    known = _known(project)
    for text in given:
        key, equals, _ = text.partition("=")
        if not equals:
            step = "write it as for dvc exp run: -S train.learning_rate=0.001"
            raise ExperimentError(f"{text!r} is no override", expected="key=value", next_step=step)
        _require_known([key], known, f"-S {text}")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / PARAMS_FILE
        shutil.copyfile(project / PARAMS_FILE, copy)
        try:
            sweeps = [one.input_line for one in to_hydra_overrides(list(given)) if one.is_sweep_override()]
            if sweeps:
                raise ExperimentError(
                    f"{sweeps[0]} is several values",
                    expected="one value, lists in brackets: -S 'train.held_out_kits=[4, 8]'",
                    next_step=f"for one experiment of each: dvc exp run --queue {' '.join(_as_options(given))}",
                )
            apply_overrides(copy, list(given))
        except (DvcException, HydraException) as error:
            cause = str(error.__cause__ or error).strip().split("\n", 1)[0]
            step = "quote text with spaces or brackets: -S \"key='some text'\""
            raise ExperimentError(f"DVC cannot read {', '.join(given)}", got=cause, next_step=step) from error
        values = load_yaml(copy)
    try:
        return validated(Params, values, f"{PARAMS_FILE} with {', '.join(given)}")
    except ConfigError as error:
        # There is no file of that name to correct.
        step = f"correct -S, or the preset in {FOLDER}/; the comments in {PARAMS_FILE} say what each value means"
        raise ConfigError(error.what, expected=error.expected, got=error.got, next_step=step) from error


def _as_options(given: Sequence[str]) -> list[str]:
    return [word for text in given for word in ("-S", shlex.quote(text))]


def _known(project: Path) -> list[str]:
    return sorted(key for key, _ in flat(load_params(project).model_dump()))


def _require_known(keys: Iterable[str], known: Sequence[str], where: str) -> None:
    for key in keys:
        if key not in known:
            raise ExperimentError(
                f"{where}: {key} is no parameter",
                expected=f"a key of {PARAMS_FILE}, with its section",
                next_step=_nearest(key, known) or f"look into {PARAMS_FILE}",
            )


def _nearest(word: str, known: Sequence[str]) -> str | None:
    """Return a question that names what was probably meant: the whole name, or one that ends like it."""
    leaf = word.rsplit(".", 1)[-1]
    close = difflib.get_close_matches(word, known, n=1) or [name for name in known if name.rsplit(".", 1)[-1] == leaf]
    if not close:
        ends = {name.rsplit(".", 1)[-1]: name for name in known}
        close = [ends[end] for end in difflib.get_close_matches(leaf, ends, n=1)]
    return f"did you mean {close[0]}?" if close else None


def _reason(path: Path) -> str:
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# ").rstrip())
    return " ".join(lines)


def _hydra_value(value: Any) -> str:
    """Return a value in Hydra's syntax: JSON's, but for text, which is in single quotes."""
    if isinstance(value, str):
        quoted = value.replace("'", "\\'")
        return f"'{quoted}'"
    if isinstance(value, list):
        return f"[{','.join(map(_hydra_value, value))}]"
    return json.dumps(value)
