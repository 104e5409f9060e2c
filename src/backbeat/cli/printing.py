"""How commands print: tables for people, JSON for programs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for other programs.")]


def print_json(value: Any) -> None:
    """Print dataclasses, models, mappings, sequences and scalars as indented JSON."""
    typer.echo(json.dumps(_plain(value), indent=2, ensure_ascii=False, default=str))


def print_table(
    headers: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[str] = (), err: bool = False
) -> None:
    """Print a table; the columns named in `right` are aligned to the right. `err` sends it to standard error."""
    table = Table(*headers)
    for column in table.columns:
        if column.header in right:
            column.justify = "right"
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    Console(highlight=False, stderr=err).print(table)


def bytes_text(size_bytes: int | None) -> str:
    """Return a size for people: `96.4 GB`, or `unknown`."""
    return "unknown" if size_bytes is None else decimal(size_bytes)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: _plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
