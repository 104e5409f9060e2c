"""The table of E-GMD: a CSV at the root of the archive, one row for every (performance, kit).

Columns are found by name: the Groove MIDI Dataset has the same ones in another order. File names are relative to the
folder of the table. The kit number is not in the table; it is the last part of the name of the recording.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable

from backbeat.errors import ArchiveError

SPLITS = ("train", "validation", "test")
COLUMNS = (
    "drummer", "session", "id", "style", "bpm", "beat_type", "time_signature", "duration", "split",
    "midi_filename", "audio_filename", "kit_name",
)  # fmt: skip

_KIT_NUMBER = re.compile(r"_(\d+)\.wav$")


def find_table(names: Iterable[str], archive: str) -> tuple[str, str]:
    """Return the name of the one table among the members of an archive, and the folder that it is in.

    Raises:
        ArchiveError: if there is none, or more than one.
    """
    tables = [name for name in names if name.endswith(".csv")]
    if len(tables) != 1:
        raise ArchiveError(f"{archive} has no table", expected="one CSV file", got=f"{len(tables)}")
    return tables[0], tables[0].rpartition("/")[0]


def read_table(content: bytes, where: str) -> list[dict[str, str]]:
    """Return the rows of a table, by column.

    Args:
        content: the CSV file.
        where: what it is called in messages.

    Raises:
        ArchiveError: if it is not in UTF-8, not a CSV table, empty, or lacks a column.
    """
    try:
        reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        missing = sorted(set(COLUMNS) - set(reader.fieldnames or ()))
        if missing:
            got = f"no {', '.join(missing)}"
            raise ArchiveError(f"{where} lacks columns", expected=", ".join(COLUMNS), got=got)
        rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ArchiveError(f"{where} is not a CSV table", expected="UTF-8 text", got=str(error)) from error
    if not rows:
        raise ArchiveError(f"{where} is empty", expected="a row for each sequence", got="none")
    return rows


def kit_of(row: dict[str, str]) -> int | None:
    """Return the number of the kit of a row; None if the name of its recording does not end in one."""
    found = _KIT_NUMBER.search(row["audio_filename"])
    return int(found[1]) if found else None


def write_table(rows: Iterable[dict[str, str]], columns: Iterable[str]) -> bytes:
    """Return the CSV file of these rows and columns."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
