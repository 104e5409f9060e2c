"""What the user adds to a sample: rating, tags, notes and class, in `data/library/notes.yaml`.

The file is tracked by Git and written by people, too. A command changes the lines of the samples it is about and no
others: comments and order stay. A note is about a sound; the name says where it was when the note was made. It is
found again by the name with the same sound, else by the sound under another name, else by the name alone (the file
was edited). A note about a sample that is gone stays in the file.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from filelock import FileLock
from pydantic import BeforeValidator, Field, RootModel

from backbeat.config import Strict, load_yaml, parse_yaml, validated
from backbeat.errors import ConfigError, LibraryError
from backbeat.library.settings import LIBRARY_FOLDER
from backbeat.storage.staging import disk_errors, new_file, open_staging

NOTES_FILE = f"{LIBRARY_FOLDER}/notes.yaml"

Tag = Annotated[str, Field(pattern=r"^[^\s,]([^,\n]{0,38}[^\s,])?$")]

Word = Annotated[str, Field(pattern=r"^[a-z][a-z0-9 _-]{0,38}$")]

_as_tuple = BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)

# Before the first note in a file that was not there.
_HEAD = "# Ratings, tags, notes and classes of samples: backbeat library rate, tag and note write here.\n"


class Note(Strict):
    """What is noted about one sample.

    Args:
        audio_sha256: its sound when the note was made; null if it was written by hand.
        rating: 1 to 5.
        tags: single words or short phrases, without commas.
        notes: any text.
        sound_class: what it is, where the program is wrong; `class` in the file.
    """

    audio_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    rating: Annotated[int, Field(ge=1, le=5)] | None = None
    tags: Annotated[tuple[Tag, ...], _as_tuple] = ()
    notes: Annotated[str, Field(min_length=1)] | None = None
    sound_class: Annotated[Word | None, Field(alias="class")] = None


class NotesFile(RootModel[dict[str, Note]]):
    """All of `notes.yaml`: what is noted, by the name of the sample."""


@dataclass(frozen=True)
class Matched:
    """Which sample each note is about today.

    Args:
        keys: sample -> the name that its note is under.
        gone: names in the file that no sample answers to.
    """

    keys: dict[str, str]
    gone: tuple[str, ...]


def load_notes(project: Path) -> dict[str, Note]:
    """Return the notes by the name in the file, in its order; none where there is no file.

    Raises:
        ConfigError: if it is not YAML, or has a wrong key, type or value.
    """
    path = project / NOTES_FILE
    return validated(NotesFile, load_yaml(path) or {}, NOTES_FILE).root if path.exists() else {}


def match_notes(notes: Mapping[str, Note], sounds: Mapping[str, str | None]) -> Matched:
    """Find the sample of each note.

    Args:
        notes: from the file.
        sounds: every sample of the library -> the digest of its sound, None where it has none.
    """
    keys = {name: name for name, note in notes.items() if name in sounds and note.audio_sha256 == sounds[name]}
    places: dict[str, list[str]] = {}
    for sample, sound in sorted(sounds.items()):
        if sound is not None and sample not in keys:
            places.setdefault(sound, []).append(sample)
    gone = []
    for name, note in notes.items():
        if keys.get(name) == name:
            continue
        free = (sample for sample in places.get(note.audio_sha256 or "", []) if sample not in keys)
        found = next(free, name if name in sounds and name not in keys else None)
        if found is None:
            gone.append(name)
        else:
            keys[found] = name
    return Matched(keys, tuple(gone))


def write_notes(project: Path, changed: Mapping[str, Note], keys: Mapping[str, str]) -> None:
    """Write the notes of some samples; the lines of others stay as they are. Hold `notes_lock` since reading.

    Args:
        project: the root of the repository.
        changed: sample -> its note; one that says nothing is taken out.
        keys: sample -> the name that its note is under so far (`Matched.keys`).

    Raises:
        ConfigError: if the file is written in a way that cannot be changed line by line.
        StorageError: if the disk is full or read-only.
    """
    path = project / NOTES_FILE
    text = path.read_text(encoding="utf-8") if path.exists() else _HEAD
    expected = dict(load_notes(project))
    for sample, note in changed.items():
        old = keys.get(sample)
        text = _edited(text, old, sample, note)
        if old is not None:
            del expected[old]
        if says_something(note):
            expected[sample] = note
    if validated(NotesFile, parse_yaml(text.encode(), NOTES_FILE) or {}, NOTES_FILE).root != expected:
        raise ConfigError(
            f"{NOTES_FILE} cannot be changed line by line",
            expected="a name at the beginning of a line, and what is noted indented below it",
            next_step="write it so, or change it by hand",
        )
    with new_file(path) as part:
        part.write_text(text, encoding="utf-8")


def says_something(note: Note) -> bool:
    """Return whether there is anything in a note but which sound it is about."""
    return any((note.rating, note.tags, note.notes, note.sound_class))


@contextlib.contextmanager
def notes_lock(project: Path) -> Iterator[None]:
    """Let one process at a time read, change and write the notes.

    Raises:
        LibraryError: if another one does not come to an end.
    """
    path = open_staging(project).root / "library" / "notes.lock.part"
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path, timeout=30):
            yield
    except TimeoutError as error:
        raise LibraryError(
            f"another process is writing {NOTES_FILE}", got=str(error), next_step="end it, then repeat the command"
        ) from error


def _edited(text: str, old: str | None, name: str, note: Note) -> str:
    """Return the text of the file with the entry `old` changed to `name: note`; at the end where there is none."""
    span = None if old is None else _span(text, old)
    block = "" if span is None else text[slice(*span)]
    entry = _entry(block, old, name, note) if says_something(note) else ""
    if span is not None:
        return text[: span[0]] + entry + text[span[1] :]
    # An empty mapping is written `{}`; an entry cannot follow it.
    text = "".join(line for line in text.splitlines(keepends=True) if line.strip() != "{}")
    return text + ("" if text.endswith("\n") or not text else "\n") + entry


def _span(text: str, name: str) -> tuple[int, int]:
    """Return where the entry begins and where it ends: before the comments that belong to the next one."""
    node = yaml.compose(text, Loader=_Loader)
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    key, value = next(pair for pair in pairs if pair[0].value == name)
    lines = text[key.start_mark.index : value.end_mark.index].splitlines(keepends=True)
    # A value in one line ends before its comment and line break.
    rest = text[value.end_mark.index :].partition("\n")
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += rest[0] + rest[1]
    while lines and (not lines[-1].strip() or lines[-1].startswith("#")):
        lines.pop()
    return key.start_mark.index, key.start_mark.index + len("".join(lines))


def _entry(block: str, old: str | None, name: str, note: Note) -> str:
    """Return the lines of one entry; comments in the old ones are kept."""
    from ruamel.yaml import YAML
    from ruamel.yaml.comments import CommentedMap, CommentedSeq

    writer = YAML()
    writer.preserve_quotes = True
    writer.width = 2**16  # a text stays in its line
    loaded = writer.load(block) if block else CommentedMap()
    values = loaded.get(old) if block else None
    if values is None:
        values = CommentedMap()
    wanted: dict[str, Any] = note.model_dump(by_alias=True, exclude_defaults=True)
    for key in [key for key in values if key not in wanted]:
        del values[key]
    for key, value in wanted.items():
        if not isinstance(value, tuple):
            values[key] = _text(value) if values.get(key) != value else values[key]
        elif values.get(key) != list(value):
            values[key] = CommentedSeq(map(_text, value))
            values[key].fa.set_flow_style()
    text = io.StringIO()
    writer.dump(CommentedMap({_text(name): values}), text)
    return text.getvalue()


def _text(value: Any) -> Any:
    """Return a value as it is written: in quotation marks what PyYAML would take for a number, a date or `true`."""
    from ruamel.yaml.scalarstring import SingleQuotedScalarString

    if not isinstance(value, str):
        return value
    tag: str = yaml.SafeLoader("").resolve(yaml.ScalarNode, value, (True, False))  # type: ignore[no-untyped-call]
    return value if tag.endswith(":str") else SingleQuotedScalarString(value)


# The same reader in C, where PyYAML was built with it.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def merged_tags(note: Note, added: Iterable[str], removed: Iterable[str]) -> tuple[str, ...]:
    """Return the tags of a note with some added at the end and some taken out."""
    without = set(removed)
    return tuple(tag for tag in dict.fromkeys([*note.tags, *added]) if tag not in without)
