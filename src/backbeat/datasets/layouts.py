"""What a layout knows about its archive: which members a narrowing picks, and what an archive of these names may be.

- `names` picks members of any zip by patterns. It says nothing about a table inside: that stays as it is.
- `kits`, `splits` and `drummers` are for E-GMD. They pick rows of its table, and with each row its recording and its
  MIDI file; whatever is neither (README, LICENSE) comes along. The table is replaced by one of these rows, since the
  others would name files that are not there. With `names` too, a row needs both of its files to fit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

from backbeat.datasets.egmdtable import find_table, kit_of, read_table, write_table
from backbeat.datasets.packed.zipdirectory import Entry
from backbeat.datasets.registry import Members
from backbeat.errors import ConfigError

Layout = Literal["egmd", "audio-folder", "midi-folder", "npy", "table", "none"]

# The first that has a name wins: a table beside recordings describes them.
_SUFFIXES: tuple[tuple[Layout, tuple[str, ...]], ...] = (
    ("audio-folder", (".wav", ".flac", ".mp3", ".ogg", ".opus", ".aif", ".aiff", ".m4a")),
    ("midi-folder", (".mid", ".midi")),
    ("npy", (".npy",)),
    ("table", (".csv", ".tsv", ".json", ".jsonl", ".xlsx", ".parquet")),
)
_EGMD_RECORDING = re.compile(r"(^|/)drummer\d+/.+_\d+\.wav$")


def guess_layout(names: Iterable[str]) -> Layout:
    """Return the layout that files of these names most probably have.

    E-GMD's is a table, and in a folder per drummer recordings that end in the number of the kit, with their MIDI.
    """
    lower = [name.lower() for name in names]
    has = {layout: any(name.endswith(suffixes) for name in lower) for layout, suffixes in _SUFFIXES}
    if has["midi-folder"] and any(map(_EGMD_RECORDING.search, lower)) and any(name.endswith(".csv") for name in lower):
        return "egmd"
    return next((layout for layout, there in has.items() if there), "none")


@dataclass(frozen=True)
class Picked:
    """The part of an archive that is wanted.

    Args:
        names: the members.
        replaced: those of them whose content is another one.
    """

    names: frozenset[str]
    replaced: dict[str, bytes] = field(default_factory=dict)


def pick_members(
    record_layout: str, entries: Sequence[Entry], read: Callable[[str], bytes], members: Members
) -> Picked:
    """Return what fits all narrowings.

    Args:
        record_layout: the layout of the record.
        entries: all members of the archive.
        read: returns the content of a member.
        members: the narrowings.

    Raises:
        ConfigError: if the layout knows no such narrowing, if one of them names what is not there, or if nothing fits.
        ArchiveError: if the table of E-GMD is needed and is not there, or is damaged.
    """
    names = frozenset(entry.name for entry in entries if not entry.is_dir)
    if members.names is not None:
        names = _matching(names, members.names)
    if {"kits", "splits", "drummers"} & set(members.narrowings):
        if record_layout != "egmd":
            step = "narrow it by names"
            raise ConfigError(
                "members by kits, splits or drummers", expected="layout egmd", got=record_layout, next_step=step
            )
        return _rows_of_egmd([entry.name for entry in entries if not entry.is_dir], names, read, members)
    return Picked(names)


def _matching(names: frozenset[str], patterns: Iterable[str]) -> frozenset[str]:
    found: frozenset[str] = frozenset()
    for pattern in patterns:
        fitting = frozenset(name for name in names if fnmatchcase(name, pattern))
        if not fitting:
            got = f"{len(names):,} members, such as {min(names, default='none')}"
            raise ConfigError(f"no member fits the pattern {pattern}", expected="at least one", got=got)
        found |= fitting
    return found


def _rows_of_egmd(
    names: Sequence[str], fitting: frozenset[str], read: Callable[[str], bytes], members: Members
) -> Picked:
    table, root = find_table(names, "the archive")
    rows = read_table(read(table), table)
    for narrowing, given, known in (
        ("kit", members.kits, {kit_of(row) for row in rows}),
        ("split", members.splits, {row["split"] for row in rows}),
        ("drummer", members.drummers, {row["drummer"] for row in rows}),
    ):
        _require_known(narrowing, given or (), known)
    picked = [
        row
        for row in rows
        if (members.kits is None or kit_of(row) in members.kits)
        and (members.splits is None or row["split"] in members.splits)
        and (members.drummers is None or row["drummer"] in members.drummers)
        and fitting.issuperset(_files(row, root))
    ]
    if not picked:
        got = "; ".join(f"{key}: {', '.join(map(str, values))}" for key, values in members.narrowings.items())
        raise ConfigError(f"no row of {table} fits all of what members says", expected="at least one", got=got)
    others = {name for name in names if not name.endswith((".wav", ".midi"))}
    files = others.union(*(_files(row, root) for row in picked))
    replaced = {} if len(picked) == len(rows) else {table: write_table(picked, rows[0])}
    return Picked(frozenset(files), replaced)


def _files(row: dict[str, str], root: str) -> set[str]:
    return {f"{root}/{row[column]}".removeprefix("/") for column in ("audio_filename", "midi_filename")}


def _require_known(narrowing: str, given: Iterable[object], known: Iterable[object]) -> None:
    unknown = sorted(str(value) for value in set(given) - set(known))
    if unknown:
        raise ConfigError(
            f"the dataset has no {narrowing} {', '.join(unknown)}",
            expected=f"some of {', '.join(str(value) for value in sorted(known, key=_natural) if value is not None)}",
            got=", ".join(unknown),
            next_step="correct members in the record",
        )


def _natural(value: object) -> tuple[int, str]:
    return (value, "") if isinstance(value, int) else (0, str(value))
