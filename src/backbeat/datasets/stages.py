"""The download stages of `data/dvc.yaml`: its list of datasets is that of the registry.

DVC cannot read the names of files into a matrix, so the list stands in the file; it is written by the program, that
adding a record stays adding one file. Everything else in the file is a person's, comments included.
"""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from backbeat.config import load_yaml
from backbeat.datasets.registry import load_registry
from backbeat.errors import ConfigError
from backbeat.storage.staging import new_file

STAGES_FILE = "data/dvc.yaml"
STAGE = "download"

# The items may be indented like their key or deeper: both are YAML.
_LIST = re.compile(r"(?m)^(?P<head> +matrix:\n(?P<indent> +)dataset:\n)(?P<items>(?:(?P=indent) *- .*(?:\n|\Z))*)")
_ITEM = re.compile(r"(?P<indent> *)- +(?P<name>[^\s#]+)")


def stage_address(name: str) -> str:
    """Return what DVC calls the download of a dataset: `data/dvc.yaml:download@egmd`."""
    return f"{STAGES_FILE}:{STAGE}@{name}"


def synced_text(project: Path) -> str:
    """Return `data/dvc.yaml` with exactly the datasets that are not excluded as its list, sorted by name.

    Raises:
        ConfigError: if a record is not valid, or the file has no such list that can be written.
    """
    names = [record.name for record in load_registry(project).values() if not record.excluded]
    path = project / STAGES_FILE
    load_yaml(path)  # says what is wrong with a file that is missing or not YAML
    before = path.read_text(encoding="utf-8")
    found = _LIST.search(before)
    if found is None:
        raise _not_writable(before, names)
    lines = {match["name"]: line for line in found["items"].splitlines() if (match := _ITEM.match(line))}
    first = _ITEM.match(found["items"])
    indent = first["indent"] if first else found["indent"] + "  "
    items = "".join(f"{lines.get(name, f'{indent}- {name}')}\n" for name in names)
    after = before[: found.start("items")] + items + before[found.end("items") :]
    if _listed(after) != names:
        raise _not_writable(before, names)
    return after


def sync_stages(project: Path) -> bool:
    """Give every dataset of the registry a download stage, and no other.

    Returns:
        Whether `data/dvc.yaml` had to be changed.

    Raises:
        ConfigError: if a record is not valid, or the file has no list that can be written.
        StorageError: if the file cannot be written.
    """
    text = synced_text(project)
    path = project / STAGES_FILE
    if text == path.read_text(encoding="utf-8"):
        return False
    with new_file(path) as part:
        part.write_text(text, encoding="utf-8")
    return True


def _listed(text: str) -> object:
    try:
        return yaml.safe_load(text)["stages"][STAGE]["matrix"]["dataset"]
    except (yaml.YAMLError, KeyError, TypeError):
        return None


def _not_writable(text: str, names: list[str]) -> ConfigError:
    listed = _listed(text)
    return ConfigError(
        f"the list of datasets in {STAGES_FILE} cannot be brought up to date",
        expected=f"stages.{STAGE}.matrix.dataset: a list with one `- name` to a line and nothing in between",
        got="none" if listed is None else f"{listed}",
        next_step=f"restore the file from Git, or write the list by hand: {', '.join(names)}",
    )
