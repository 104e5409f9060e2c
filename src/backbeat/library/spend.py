"""What was spent on language models: `data/library/spend.csv`, tracked by Git.

The sum of its rows is true at every moment. Before a request is sent, its worst case is on the disk as a row; when it
is answered, a second row takes off what it did not cost. So a process that is killed in between has paid the worst
case: nobody can tell whether the answer was made and billed. When nothing is under way, there is one row for each day
and model.

Amounts are decimal and exact: tokens times a price per million tokens has a finite number of digits.
"""

from __future__ import annotations

import csv
import datetime as dt
import errno
import io
import os
from collections.abc import Iterable
from dataclasses import dataclass, fields
from decimal import Decimal, InvalidOperation
from pathlib import Path

from backbeat.errors import LibraryError
from backbeat.library.settings import LIBRARY_FOLDER
from backbeat.storage.staging import disk_errors, new_file

SPEND_FILE = f"{LIBRARY_FOLDER}/spend.csv"


@dataclass(frozen=True)
class Spend:
    """What a day and a model cost, or a change of that.

    Args:
        day: in UTC.
        model: as the endpoint calls it.
        usd: US dollars.
        requests: how many were sent.
        unanswered: how many of them have no known outcome; their worst case is in `usd`.
        input_tokens: as the endpoint reports them.
        output_tokens: the same.
    """

    day: dt.date
    model: str
    usd: Decimal
    requests: int = 0
    unanswered: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def __add__(self, other: Spend) -> Spend:
        return Spend(
            self.day,
            self.model,
            self.usd + other.usd,
            self.requests + other.requests,
            self.unanswered + other.unanswered,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
        )


# The dollars stand before the counts: in a line whose end is lost they are whole.
_COLUMNS = tuple(field.name for field in fields(Spend))


def read_spend(project: Path) -> list[Spend]:
    """Return what each day and model cost, by day, then model.

    Raises:
        LibraryError: if a line is none of ours, other than a torn last one.
    """
    sums: dict[tuple[dt.date, str], Spend] = {}
    for row in _rows(project):
        key = row.day, row.model
        sums[key] = sums[key] + row if key in sums else row
    return [sums[key] for key in sorted(sums)]


def spent_on(project: Path, day: dt.date) -> Decimal:
    """Return what all models of a day cost.

    Raises:
        LibraryError: as `read_spend`.
    """
    return sum((row.usd for row in _rows(project) if row.day == day), Decimal(0))


def append_spend(project: Path, row: Spend) -> None:
    """Add a row; it is on the disk when this returns. For one process at a time, after `tidy_spend`.

    Raises:
        StorageError: if the disk is full or read-only.
    """
    append_durably(project / SPEND_FILE, _text([row]))


def tidy_spend(project: Path) -> None:
    """Write the rows of each day and model as one, and drop a torn last line.

    Raises:
        LibraryError: as `read_spend`.
        StorageError: if the disk is full or read-only.
    """
    content = ",".join(_COLUMNS) + "\n" + _text(read_spend(project))
    path = project / SPEND_FILE
    if not path.exists() or path.read_bytes() != content.encode():
        with new_file(path) as part:
            part.write_text(content, encoding="utf-8")


def append_durably(path: Path, text: str) -> None:
    """Add whole lines to a file in one write, and return when they are on the disk.

    Raises:
        StorageError: if the disk is full or read-only; what a full disk took of the lines is cut off again.
    """
    with disk_errors(path), path.open("ab", buffering=0) as stream:
        start = stream.tell()
        try:
            if stream.write(text.encode()) != len(text.encode()):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(stream.fileno())
        except OSError:
            stream.truncate(start)
            raise


def _rows(project: Path) -> Iterable[Spend]:
    try:
        content = (project / SPEND_FILE).read_bytes().decode(errors="replace")
    except FileNotFoundError:
        return
    header, *lines = content.splitlines(keepends=True) or [""]
    if header.strip() != ",".join(_COLUMNS):
        raise _wrong(1, header)
    for number, line in enumerate(lines, 2):
        row = _row(line)
        if row is None and line.endswith("\n"):
            raise _wrong(number, line)
        if row is not None:
            yield row


def _row(line: str) -> Spend | None:
    values = next(csv.reader([line]), [])
    if len(values) != len(_COLUMNS):
        return None
    try:
        day, model, usd, *counts = values
        amount = Decimal(usd)
        return Spend(dt.date.fromisoformat(day), model, amount, *map(int, counts)) if amount.is_finite() else None
    except (ValueError, InvalidOperation):
        return None


def _text(rows: Iterable[Spend]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in rows:
        counts = (row.requests, row.unanswered, row.input_tokens, row.output_tokens)
        writer.writerow((row.day.isoformat(), row.model, format(row.usd.normalize(), "f"), *counts))
    return text.getvalue()


def _wrong(number: int, got: str) -> LibraryError:
    return LibraryError(
        f"line {number} of {SPEND_FILE} cannot be read",
        expected=",".join(_COLUMNS),
        got=got.strip()[:200],
        next_step=f"correct that line, or put the file back as Git has it: git diff {SPEND_FILE}",
    )
