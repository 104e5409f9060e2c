"""The ledger: every original whose WAV file was removed because the archive has it. `data/library/ledger.csv`.

It is the only record that says so, and it is tracked by Git. A line is on the disk before its file is removed, and
leaves only after the file is back. A line that a crash has cut short belongs to a file that is still there: it is
passed over, and the next entry takes its place.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from backbeat.errors import LibraryError
from backbeat.library.settings import LIBRARY_FOLDER
from backbeat.storage.staging import disk_errors, new_file

LEDGER_FILE = f"{LIBRARY_FOLDER}/ledger.csv"


@dataclass(frozen=True)
class Entry:
    """An original that only the archive has.

    Args:
        sample: its name, `<source>/<path>`.
        file_sha256: of the original file.
        audio_sha256: of its sound.
        size_bytes: of the original file.
        flac_sha256: of the FLAC file.
        flac_md5: of the FLAC file, which is its name in DVC's cache and in the bucket.
    """

    sample: str
    file_sha256: str
    audio_sha256: str
    size_bytes: int
    flac_sha256: str
    flac_md5: str


# How Git marks what it could not merge; no name of a source begins so.
_CONFLICT = ("<<<<<<<", "=======", ">>>>>>>", "|||||||")

_COLUMNS = [field.name for field in fields(Entry)]
_SHAPES = [re.compile(shape) for shape in (r".+/.+", *[r"[0-9a-f]{64}"] * 2, r"\d+", r"[0-9a-f]{64}", r"[0-9a-f]{32}")]


def read_ledger(project: Path) -> dict[str, Entry]:
    """Return the entries by sample; none where there is no ledger.

    Raises:
        LibraryError: if a line is not an entry, with its number, or two lines say different things of one sample; a
            last line that was cut short is passed over.
    """
    return by_sample(_content(project))


def by_sample(content: bytes) -> dict[str, Entry]:
    """Return the entries of a ledger's content by sample; raises what `read_ledger` does."""
    entries: dict[str, Entry] = {}
    # Two branches may have added the same line.
    for entry in _parsed(content):
        if entries.setdefault(entry.sample, entry) != entry:
            raise _two(entries[entry.sample], entry)
    return entries


def append(project: Path, entries: Iterable[Entry]) -> None:
    """Add entries; when this returns, they are on the disk. One process at a time: the caller sees to that.

    Raises:
        LibraryError: as `read_ledger`, and if the ledger cannot hold the name of a sample.
        StorageError: if the disk is full or read-only.
    """
    added = _text(entries)
    path = project / LEDGER_FILE
    content = _content(project)
    _parsed(content)
    end = content.rfind(b"\n") + 1
    if end < len(content) and _entry(content[end:].decode(errors="replace")):  # only its line break is missing
        end, added = len(content), b"\n" + added
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not truncated by opening it: what is in it is the only record of what it names.
        opened = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
        with os.fdopen(opened, "wb", closefd=True) as stream:
            stream.truncate(end)
            stream.seek(end)
            stream.write(added if end else _header() + added)
            stream.flush()
            os.fsync(stream.fileno())
        if not content:
            sync_folder(path.parent)


def remove(project: Path, samples: Iterable[str]) -> None:
    """Take samples out, whose files are back; the order of the others stays.

    Raises:
        LibraryError: as `read_ledger`.
        StorageError: if the disk is full or read-only.
    """
    gone = set(samples)
    left = [entry for entry in read_ledger(project).values() if entry.sample not in gone]
    with new_file(project / LEDGER_FILE) as part:
        part.write_bytes(_header() + _text(left))


def nameable(sample: str) -> bool:
    """Return whether the ledger can hold the name of a sample: Unicode, in one line."""
    try:
        sample.encode()
    except UnicodeEncodeError:  # a file name that is not UTF-8
        return False
    return sample.splitlines() == [sample]


def _content(project: Path) -> bytes:
    try:
        return (project / LEDGER_FILE).read_bytes()
    except FileNotFoundError:
        return b""


def _parsed(content: bytes) -> list[Entry]:
    if not content:
        return []
    header, *lines = content.decode(errors="replace").split("\n")
    if header.startswith(_CONFLICT):
        raise _conflict(1, header)
    if header.rstrip("\r") != ",".join(_COLUMNS):
        raise _wrong(1, header)
    last = lines.pop() if lines else ""
    entries = []
    for number, line in enumerate(lines, 2):
        entry = _entry(line)
        if entry is None:
            raise (_conflict if line.startswith(_CONFLICT) else _wrong)(number, line)
        entries.append(entry)
    entry = _entry(last)
    return [*entries, entry] if entry else entries


def _entry(line: str) -> Entry | None:
    row = next(csv.reader([line]), [])
    if len(row) != len(_COLUMNS) or not all(map(re.Pattern.fullmatch, _SHAPES, row)):
        return None
    sample, file_sha256, audio_sha256, size_bytes, flac_sha256, flac_md5 = row
    return Entry(sample, file_sha256, audio_sha256, int(size_bytes), flac_sha256, flac_md5)


def _text(entries: Iterable[Entry]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for entry in entries:
        if not nameable(entry.sample):
            raise LibraryError(f"{entry.sample!r} cannot be in the ledger", expected="a name of one line, in Unicode")
        writer.writerow(astuple(entry))
    return text.getvalue().encode()


def _header() -> bytes:
    return (",".join(_COLUMNS) + "\n").encode()


def sync_folder(folder: Path) -> None:
    """Put on the disk which files a folder has."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _conflict(number: int, got: str) -> LibraryError:
    return LibraryError(
        f"line {number} of {LEDGER_FILE} is the mark of a merge that was not finished",
        expected="one entry in a line",
        got=got[:200],
        next_step="keep the lines of both sides, and take out those that begin with <<<<<<<, =======, >>>>>>> or "
        "|||||||; it says which originals only the archive has",
    )


def _two(one: Entry, other: Entry) -> LibraryError:
    same = one.file_sha256 == other.file_sha256
    return LibraryError(
        f"{LEDGER_FILE} has two different lines for {one.sample}",
        expected="one",
        got=f"{one.file_sha256} in FLAC {one.flac_md5}, and {other.file_sha256} in FLAC {other.flac_md5}",
        next_step="they are one file in two FLAC files: take out either line"
        if same
        else f"change the name in one of them, say to {one.sample}.other.wav: the archive finds a file by its hash",
    )


def _wrong(number: int, got: str) -> LibraryError:
    return LibraryError(
        f"line {number} of {LEDGER_FILE} is not an entry",
        expected=f"{','.join(_COLUMNS)}",
        got=got[:200],
        next_step="put it back as Git has it; it says which originals only the archive has",
    )
