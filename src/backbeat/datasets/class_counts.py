"""Counting the examples of each class, as far as the layout or the names know classes."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from pathlib import PurePosixPath

from backbeat.datasets.packed.items import Item
from backbeat.errors import ArchiveError

# One class is no distinction, and more than these are no classes but ids.
FEWEST, MOST = 2, 60
MAX_DEPTH = 4

# What E-GMD's table says of each sequence; the Groove MIDI Dataset has the same but for the kit.
EGMD_COLUMNS = {"split": "split", "kit_name": "kit", "style": "style", "drummer": "drummer", "beat_type": "beat type"}

_NSYNTH = re.compile(r"(?P<family>[a-z]+(_lead)?)_(?P<source>acoustic|electronic|synthetic)_\d{3}-\d{3}-\d{3}\.wav")


class ClassCounts:
    """Running counts over the items of one dataset."""

    def __init__(self, layout: str) -> None:
        self._layout = layout
        self._named: dict[str, Counter[str]] = {}
        self._folders: dict[str, list[Counter[str]]] = {}

    def add(self, kind: str, item: Item) -> None:
        """Count one item.

        Raises:
            ArchiveError: if it is a table that cannot be read.
        """
        if self._layout == "egmd":
            if item.name.endswith(".csv"):
                self._add_table(item)
        elif kind in {"audio", "midi"}:
            self._add_name(kind, PurePosixPath(item.name))

    def result(self) -> dict[str, dict[str, int]]:
        """Return, by what is told apart, the number of examples of each class, the most frequent first."""
        found = dict(self._named)
        levels = self._folders.get("audio") or self._folders.get("midi") or []
        folders = next((level for level in levels if FEWEST <= len(level) <= MOST), None)
        if folders is not None:
            found["folder"] = folders
        return {
            title: dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))) for title, counts in found.items()
        }

    def _add_table(self, item: Item) -> None:
        try:
            rows = csv.DictReader(io.StringIO(item.read().decode("utf-8-sig"), newline=""), strict=True)
            for row in rows:
                for column, title in EGMD_COLUMNS.items():
                    # A style is `rock/halftime`: the first word is the class. A kit may have a stroke in its name.
                    value = row.get(column) or ""
                    if value := value.partition("/")[0] if column == "style" else value:
                        self._named.setdefault(title, Counter())[value] += 1
        except (UnicodeDecodeError, csv.Error) as error:
            raise ArchiveError(f"{item.name} cannot be read", expected="a table in CSV", got=str(error)) from error

    def _add_name(self, kind: str, path: PurePosixPath) -> None:
        note = _NSYNTH.fullmatch(path.name)
        if note is not None:
            self._named.setdefault("instrument family", Counter())[note["family"]] += 1
            self._named.setdefault("source", Counter())[note["source"]] += 1
        # The last folder is a level of its own: how deep it is may differ.
        levels = self._folders.setdefault(kind, [Counter() for _ in range(MAX_DEPTH + 1)])
        folders = path.parts[:-1]
        for level, folder in [
            *zip(levels, folders[:MAX_DEPTH], strict=False),
            *zip(levels[-1:], folders[-1:], strict=False),
        ]:
            # One class too many says as much as all of them, and takes no memory.
            if len(level) <= MOST or folder in level:
                level[folder] += 1
