"""A record as the text of its file: the keys in their order, long sentences folded, lists indented."""

from __future__ import annotations

from typing import Any

import yaml

from backbeat.config import FLOAT_WITHOUT_POINT
from backbeat.datasets.registry import Record

WIDTH = 118


def record_text(record: Record) -> str:
    """Return the YAML of a record, as a person would write it."""
    # What a record need not say has a default; of everything else it says `null`.
    values = record.model_dump(exclude_defaults=True)
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=WIDTH)


class _Dumper(yaml.SafeDumper):
    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        super().increase_indent(flow, indentless=False)

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the loader refuses them
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    sentence = len(text) > 90 and " " in text
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=">" if sentence else None)


def _list(dumper: yaml.SafeDumper, values: tuple[Any, ...]) -> yaml.SequenceNode:
    return dumper.represent_list(values)


_Dumper.add_implicit_resolver(*FLOAT_WITHOUT_POINT)
_Dumper.add_representer(str, _text)
_Dumper.add_representer(tuple, _list)
