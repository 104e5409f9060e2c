"""Parts of the site that are made of the code and the configuration while it is built, and are in no tracked file.

They change with every experiment (values in `params.yaml`, presets) or are long and read better in the code itself.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from backbeat.config import PARAMS_FILE, Params
from backbeat.datasets import registry

REPOSITORY = Path(__file__).parents[1]
PRESETS_FOLDER = "configs/experiments"
ENVIRONMENT_FILE = ".env.example"

# What the reference of the Python API is about: what other programs would import.
MODULES = (
    "audio.logmel", "audio.read", "config", "datasets.packed.items", "datasets.registry", "datasets.stream",
    "datasets.transport.patience", "drums.classes", "drums.midi", "drums.shards", "errors", "executor",
    "experiments.compare", "experiments.results", "progress", "storage.staging", "transcription.answers",
    "transcription.dataset", "transcription.decode", "transcription.metrics", "transcription.model",
    "transcription.transcribe", "transcription.weights",
)  # fmt: skip

# A line that sets something, or opens a section. What stands beside it is the unit.
_SETTING = re.compile(r"^(?P<indent> *)(?P<key>\w+):(?: (?P<value>[^#]*?))? *(?:# (?P<beside>.*))?$")
_VARIABLE = re.compile(r"^(?:# )?([A-Z][A-Z0-9_]+)=")


def parameters() -> str:
    """Return a table for each section of `params.yaml`: name, value with its unit, bounds, and the reason above it."""
    allowed = dict(_allowed(Params.model_json_schema()))
    tables: dict[str, list[tuple[str, ...]]] = {}
    for path, value, beside, reason in _settings((REPOSITORY / PARAMS_FILE).read_text(encoding="utf-8")):
        # Where words are to choose from, they stand beside the value, too.
        unit = "" if "|" in beside else beside
        row = (f"`{path[-1]}`", f"`{value}` {unit}", allowed[".".join(path)], reason)
        tables.setdefault(".".join(path[:-1]), []).append(row)
    headers = ("parameter", "value", "may be", "why")
    return "\n".join(
        (f"## {section}\n\n" if section else "") + _table(headers, rows) for section, rows in tables.items()
    )


def _settings(text: str) -> Iterator[tuple[tuple[str, ...], str, str, str]]:
    """Yield the keys, the value, what is beside it and what is above it; a reason is given once for its lines."""
    above: list[str] = []
    path: tuple[str, ...] = ()
    for line in text.splitlines():
        found = _SETTING.match(line)
        if line.lstrip().startswith("#"):
            above.append(line.strip().lstrip("# "))
        elif not found:
            above = []
        else:
            path = (*path[: len(found["indent"]) // 2], found["key"])
            if found["value"]:
                yield path, found["value"], found["beside"] or "", " ".join(part for part in above if part.strip("-"))
            above = []


def _allowed(schema: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield every leaf of a model as a path, and what it may be."""

    def walk(node: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
        for key, value in node["properties"].items():
            if "$ref" in value:
                yield from walk(schema["$defs"][value["$ref"].rpartition("/")[2]], f"{prefix}{key}.")
            else:
                yield prefix + key, _kind(value)

    return walk(schema, "")


def _kind(value: Mapping[str, Any]) -> str:
    """Return in words what a JSON schema allows."""
    if "anyOf" in value:
        return " or ".join(_kind(one) for one in value["anyOf"])
    if "$ref" in value:
        return f"[as below](#{value['$ref'].rpartition('/')[2].lower()})"
    if "enum" in value:
        return ", ".join(f"`{one}`" for one in value["enum"])
    if value["type"] == "array":
        return f"a list; each: {_kind(value['items'])}"
    if value["type"] == "object":
        return f"names; each: {_kind(value['additionalProperties'])}"
    if "format" in value:
        return "a date"
    words = {"integer": "whole", "number": "number", "string": "text", "boolean": "true, false", "null": "null"}
    limits = {"exclusiveMinimum": "above", "minimum": "from", "maximum": "to", "exclusiveMaximum": "below"}
    given = [f"{word} {value[limit]:,}" for limit, word in limits.items() if limit in value]
    given += [f"by {value['multipleOf']}"] if "multipleOf" in value else []
    given += [f"like `{value['pattern']}`"] if "pattern" in value else []
    return ", ".join([words[value["type"]], *([" ".join(given)] if given else [])])


def record_keys() -> str:
    """Return a table for each model of a dataset's record, in the order of its keys."""
    models = (registry.Record, registry.License, registry.RecordFile, registry.Members, registry.Unpack)
    return "\n".join(f"## {model.__name__}\n\n{_summary(model)}\n\n{_model_table(model)}" for model in models)


def _model_table(model: type[BaseModel]) -> str:
    schema = model.model_json_schema()
    rows = [
        (f"`{key}`", _kind(value) + ("" if key in schema.get("required", ()) else "; may be left out"))
        for key, value in schema["properties"].items()
    ]
    return _table(("key", "may be"), rows)


def _summary(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").partition("\n")[0]


def record_rules() -> str:
    """Return the specification that stands in the module of the registry."""
    return (registry.__doc__ or "").partition("\n\n")[2]


def presets() -> str:
    """Return a section for each preset: its reason and what it sets."""
    sections = []
    for path in sorted((REPOSITORY / PRESETS_FOLDER).glob("*.yaml")):
        lines = path.read_text(encoding="utf-8").splitlines()
        reason = " ".join(line.lstrip("# ") for line in lines if line.startswith("#"))
        settings = "\n".join(line for line in lines if not line.startswith("#")).strip("\n")
        sections.append(f"## {path.stem}\n\n{reason}\n\n```yaml\n{settings}\n```\n")
    return "\n".join(sections)


def environment() -> str:
    """Return a table of the variables in `.env.example` and what is written above each."""
    rows, above = [], []
    for line in (REPOSITORY / ENVIRONMENT_FILE).read_text(encoding="utf-8").splitlines():
        if found := _VARIABLE.match(line):
            rows.append((f"`{found[1]}`", " ".join(above)))
        above = [*above, line.lstrip("# ")] if line.startswith("#") and not found else []
    return _table(("variable", "what it is for"), rows)


def module(name: str) -> str:
    """Return what Sphinx turns into the documentation of a module."""
    return f"### {name}\n\n```{{eval-rst}}\n.. automodule:: {name}\n```"


def _table(headers: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in (headers, *rows)]
    return "".join(f"| {line} |\n" for line in [lines[0], " | ".join("---" for _ in headers), *lines[1:]])


PARTS: dict[str, Callable[[], str]] = {
    "environment": environment,
    "parameters": parameters,
    "presets": presets,
    "record_keys": record_keys,
    "record_rules": record_rules,
    **{f"backbeat.{name}": partial(module, f"backbeat.{name}") for name in MODULES},
}
