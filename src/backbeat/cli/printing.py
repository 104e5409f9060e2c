"""How commands print: tables for people, JSON for programs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import typer
from pydantic import BaseModel
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

# Between two columns.
COLUMN_GAP = 2

# A column narrower than this says nothing.
LEAST_COLUMNS = 12

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for other programs.")]


def print_json(value: Any) -> None:
    """Print dataclasses, models, mappings, sequences and scalars as indented JSON."""
    typer.echo(json.dumps(_plain(value), indent=2, ensure_ascii=False, default=str))


def print_table(
    headers: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    right: Sequence[str] = (),
    squeeze: str | None = None,
    err: bool = False,
) -> None:
    """Print a table.

    Args:
        headers: the names of the columns.
        rows: what is in them; None is an empty cell.
        right: the columns that are aligned to the right.
        squeeze: the column that is cut, and left out if that is not enough, where the terminal is too narrow.
        err: whether to print to standard error.
    """
    console = Console(highlight=False, stderr=err)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True)
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headers, *cells, strict=True)]
    room = console.width - sum(widths) - COLUMN_GAP * (len(headers) - 1)
    for header, width in zip(headers, widths, strict=True):
        squeezed = max(0, width + min(0, room)) if header == squeeze else None
        if squeezed is None or squeezed >= min(width, LEAST_COLUMNS):
            justify: Literal["left", "right"] = "right" if header in right else "left"
            table.add_column(header, justify=justify, no_wrap=squeezed is not None, max_width=squeezed)
        else:
            table.add_column("", max_width=0)
            cells = [[*row[: headers.index(header)], "", *row[headers.index(header) + 1 :]] for row in cells]
    for row in cells:
        table.add_row(*map(escape, row))
    console.print(table)


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
