"""What names mean in a catalog: of samples, and of classes."""

from __future__ import annotations

from pathlib import Path

from sqlite_utils import Database

from backbeat.errors import ConfigError, LibraryError
from backbeat.library.query import Vocabulary, meaning
from backbeat.library.settings import load_settings
from backbeat.library.sound_class import CLASSES

# How many names a message suggests.
_SUGGESTED = 5

# Stands for the beginning of a name where a table has no room for it.
CUT = "…"


def vocabulary(db: Database) -> Vocabulary:
    """Return what the words of the catalog mean: its classes, and how it says bright, heavy and punchy."""
    meant: dict[str, tuple[str, str]] = {}
    twice = set()
    for column in ("punch", "weight", "brightness", "class"):
        for (value,) in db.execute(f'SELECT DISTINCT "{column}" FROM library WHERE "{column}" IS NOT NULL'):  # noqa: S608
            if value in meant and column != "class":
                twice.add(value)
            meant[value.lower()] = (column, value)
    # Of medium weight, or of medium punch?
    for value in twice:
        meant.pop(value, None)
    return meant


def resolve(db: Database, project: Path, name: str) -> str:
    """Return the full name of a sample that was given by it, by the path of its file, or by a part of its name.

    Raises:
        LibraryError: if there is none, or more than one.
    """
    if _named(db, name):
        return name
    # As a table has cut it.
    name = name.removeprefix(CUT)
    absolute = Path(name).absolute()
    for source in load_settings(project).sources:
        place = source.place(project).absolute()
        if absolute.is_relative_to(place) and _named(db, f"{source.name}/{absolute.relative_to(place).as_posix()}"):
            return f"{source.name}/{absolute.relative_to(place).as_posix()}"
    names = [
        one
        for (one,) in db.execute(
            "SELECT sources.name || '/' || path FROM samples JOIN sources ON sources.id = source_id"
            " WHERE instr(lower(sources.name || '/' || path), lower(?)) ORDER BY 1",
            (name,),
        )
    ]
    exact = [one for one in names if one.lower().endswith(f"/{name.lower()}")] or names
    if len(exact) == 1:
        return str(exact[0])
    raise LibraryError(
        f"no sample is called {name}" if not exact else f"{len(exact)} samples are called {name}",
        expected="<source>/<path>, the path of a file of a source, or a part of the name that only one sample has",
        got=", ".join(exact[:_SUGGESTED]) + (", …" if len(exact) > _SUGGESTED else "") if exact else None,
        next_step="backbeat library find shows names",
    )


def meant_classes(names: tuple[str, ...], words: Vocabulary) -> list[str]:
    """Return the classes of the catalog that names mean.

    Raises:
        ConfigError: if one means none.
    """
    known = sorted(value for column, value in words.values() if column == "class")
    wanted = []
    for name in names:
        meant = [value for column, value in meaning(name, words) if column == "class"]
        if not meant:
            raise ConfigError(f"--class {name} is no class of the catalog", expected=", ".join(known))
        wanted += meant
    return wanted


def known_class(name: str, words: Vocabulary) -> str:
    """Return the class that a name means, of those of the catalog and of the program.

    Raises:
        ConfigError: if it means none, or several.
    """
    words = {one: ("class", one) for one in CLASSES} | {one: told for one, told in words.items() if told[0] == "class"}
    meant = [value for _, value in meaning(name, words)]
    if len(meant) != 1:
        raise ConfigError(
            f"--class {name} is no class" if not meant else f"--class {name} may be {' or '.join(meant)}",
            expected=", ".join(sorted({value for _, value in words.values()})),
        )
    return meant[0]


def _named(db: Database, sample: str) -> bool:
    source, _, path = sample.partition("/")
    found = db.execute(
        "SELECT 1 FROM samples WHERE source_id = (SELECT id FROM sources WHERE name = ?) AND path = ?", (source, path)
    )
    return found.fetchone() is not None
