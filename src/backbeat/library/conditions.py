"""What a sample has to be: conditions over the view `library`, in words and in SQL.

Nothing that somebody typed becomes SQL: values are parameters, and words to search for are phrases in quotation marks,
in which nothing is syntax.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

# Column -> what stands before and after its bounds.
_NUMBERS = {"duration_ms": ("", " ms"), "tempo_bpm": ("", " bpm"), "score": ("score ", "")}

_TAGGED = "', ' || \"tags\" || ',' LIKE '%, {},%'"

_FLATS = {"db": "c#", "eb": "d#", "gb": "f#", "ab": "g#", "bb": "a#", "cb": "b", "fb": "e", "e#": "f", "b#": "c"}


@dataclass(frozen=True)
class Condition:
    """One thing that a sample has to be.

    Args:
        text: in words, as it was understood.
        sql: over the columns of the view `library`, with `{0}`, `{1}`, … where its values belong.
        values: of the parameters.
    """

    text: str
    sql: str
    values: tuple[str | float, ...] = ()


@dataclass(frozen=True)
class Query:
    """What was understood: conditions, and words to search for."""

    conditions: tuple[Condition, ...] = ()
    words: tuple[str, ...] = ()

    @property
    def understood(self) -> str:
        """All of it in words."""
        return ", ".join([*(one.text for one in self.conditions), *map('"{}"'.format, self.words)]) or "everything"

    def where(self, prefix: str = "q") -> tuple[list[str], dict[str, str | float]]:
        """Return clauses that all have to hold, and the values of the parameters in them.

        Args:
            prefix: what the names of the parameters begin with.
        """
        conditions = list(self.conditions)
        if self.words:
            match = " AND ".join(map(phrase, self.words))
            conditions.append(Condition("", matched("{0}"), (match,)))
        clauses: list[str] = []
        values: dict[str, str | float] = {}
        for condition in conditions:
            names = [f"{prefix}{len(values) + number}" for number in range(len(condition.values))]
            values.update(zip(names, condition.values, strict=True))
            clauses.append(condition.sql.format(*(f":{name}" for name in names)))
        return clauses, values


def one_of(column: str, values: Iterable[str]) -> Condition:
    """Return the condition that a column has one of some values."""
    wanted = tuple(dict.fromkeys(values))
    marks = ", ".join(f"{{{number}}}" for number in range(len(wanted)))
    return Condition(" or ".join(wanted), f'"{column}" IN ({marks})', wanted)


def between(column: str, low: float | None, high: float | None) -> Condition:
    """Return the condition that a number is within bounds, with the bounds; None is no bound."""
    what, unit = _NUMBERS[column]
    if low is not None and high is not None:
        return Condition(f"{what}{low:g} to {high:g}{unit}", f'"{column}" BETWEEN {{0}} AND {{1}}', (low, high))
    if high is not None:
        return Condition(f"{what}at most {high:g}{unit}", f'"{column}" <= {{0}}', (high,))
    if low is not None:
        return Condition(f"{what}at least {low:g}{unit}", f'"{column}" >= {{0}}', (low,))
    return Condition(f"any {what or unit}".strip(), f'"{column}" IS NOT NULL')


def key_is(name: str) -> Condition | None:
    """Return the condition of a key, `A minor`, `Am`, `f#` (of either mode), or of a note, `C2`; None if it is none."""
    note = re.fullmatch(r"([a-gA-G][#b♯♭]?)(-?\d)", name.strip())
    if note is not None:
        return Condition(
            f"of the note {note_letter(note[1])}{note[2]}", '"note" = {0}', (note_letter(note[1]) + note[2],)
        )
    match = re.fullmatch(r"([a-gA-G][#b♯♭]?)\s*([Mm]inor|min|m|[Mm]ajor|maj|M)?", name.strip())
    return None if match is None else in_key(match[1], match[2])


def in_key(tonic: str, mode: str | None) -> Condition:
    """Return the condition that a key has a tonic and a mode; without a mode, also that a hit is of that note."""
    name = note_letter(tonic)
    if mode is None:
        # C2 and C-1 are a C; C#2 is none.
        sql = '("key" IN ({0}, {1}) OR "note" GLOB {2})'
        return Condition(f"in {name}", sql, (f"{name} major", f"{name} minor", f"{name}[-0-9]*"))
    # Am is minor, AM is major.
    key = f"{name} {'major' if mode.lower().startswith('maj') or mode == 'M' else 'minor'}"
    return Condition(f"in {key}", '"key" = {0}', (key,))


def note_letter(name: str) -> str:
    """Return a note without its octave as the catalog writes it: with a sharp, if any."""
    plain = name.lower().replace("♯", "#").replace("♭", "b")
    return _FLATS.get(plain, plain).upper()


def phrase(text: str) -> str:
    """Return a text as a phrase of a full-text search; its last word may be the beginning of one."""
    # In quotation marks nothing is syntax but the mark itself.
    return '"' + text.replace('"', '""') + '"*'


def matched(mark: str) -> str:
    """Return the condition that a search, given by the mark of a parameter, finds the sample."""
    return f"id IN (SELECT rowid FROM search WHERE search MATCH {mark})"  # noqa: S608 - a mark, no value


# What `--state` takes: the condition, and the column of the view that says why.
STATES = {
    "unreadable": ('"error" IS NOT NULL', "error"),
    "clipped": ('"clipped_samples" > 0', "clipped_samples"),
    "silent": ('"silent" = 1', "reason"),
    "duplicate": ('"duplicate_of" IS NOT NULL', "duplicate_of"),
    # By a tag as soon as it is there, not only from the next run of the stage `curate` on.
    "rejected": (f"""("state" = 'rejected' OR {_TAGGED.format("reject")})""", "reason"),
    "chosen": ('"chosen" = 1', "production_path"),
    "archived": ("\"tier\" = 'archive'", "flac_bytes"),
}


def in_state(state: str) -> Condition:
    """Return the condition that a sample is in one of `STATES`."""
    return Condition(state, STATES[state][0])
