"""Originals back out of the archive: the identical files, proven by their hash, in place of nothing but themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path, PurePosixPath
from typing import Literal

from backbeat.errors import LibraryError
from backbeat.library.ledger import Entry, read_ledger, remove
from backbeat.library.settings import load_settings
from backbeat.library.tables import read_table, table_path
from backbeat.library.vault import read_noted, restored_bytes, sha256, write_noted
from backbeat.progress import progress
from backbeat.storage.exclusive import exclusive
from backbeat.storage.staging import new_file, require_space

# Files after which the ledger is written: what a kill can leave in it although it is back.
BATCH_FILES = 64


@dataclass(frozen=True)
class Restored:
    """What became of an original.

    Args:
        sample: its name.
        path: where it is, or would be.
        action: whether it was written, was there already, or something else is in its place.
        size_bytes: of it.
        unlisted: whether its line was taken out of the ledger.
        reason: why it is not there.
    """

    sample: str
    path: Path | None
    action: Literal["restored", "there already", "refused"]
    size_bytes: int
    reason: str | None = None
    unlisted: bool = False


def restore(project: Path, samples: Iterable[str] | None = None, *, to: Path | None = None) -> list[Restored]:
    """Write originals out of the archive; what is back in its place leaves the ledger, after it is on the disk.

    Args:
        project: the root of the repository.
        samples: their names; None for all that only the archive has.
        to: a folder to write them under, as `<to>/<source>/<path>`, instead of their own place. The ledger then stays.

    Raises:
        LibraryError: if a name is not in the archive.
        CloudError: if another process removes, restores or transfers in this clone.
        StorageError: if the disk is full or read-only.
    """
    with exclusive(project, "restore originals"):
        entries = _entries(project, None if samples is None else list(samples))
        done: list[Restored] = []
        with progress("restore", sum(entry.size_bytes for entry in entries), unit="bytes") as advance:
            for start in range(0, len(entries), BATCH_FILES):
                batch = entries[start : start + BATCH_FILES]
                results = [_restore(project, entry, place) for entry, place in _placed(project, batch, to)]
                done += results if to is not None else _unlisted(project, results)
                advance(sum(entry.size_bytes for entry in batch))
    return done


def _unlisted(project: Path, results: list[Restored]) -> Iterator[Restored]:
    """Take what is back out of the ledger."""
    ledger = read_ledger(project)
    back = {one.sample for one in results if one.action != "refused" and one.sample in ledger}
    if back:
        remove(project, back)
        # They are the user's again: if they go, nobody misses them.
        noted = read_noted(project)
        write_noted(project, {sample: digest for sample, digest in noted.items() if sample not in back})
    for one in results:
        yield replace(one, unlisted=one.sample in back)


def _entries(project: Path, samples: list[str] | None) -> list[Entry]:
    ledger = read_ledger(project)
    if samples is None:
        return list(ledger.values())
    known: dict[str, Entry] = {}
    if table_path(project, "archive").exists():
        rows = read_table(project, "archive").to_pylist()
        names = [field.name for field in fields(Entry)]
        known = {
            row["sample"]: Entry(**{name: row[name] for name in names}) for row in rows if row["state"] == "archived"
        }
    known |= ledger
    unknown = [sample for sample in samples if sample not in known]
    if unknown:
        raise LibraryError(
            f"{unknown[0]} is not in the archive",
            expected=f"the name of a sample that is: one of {len(known):,}",
            next_step="backbeat library find says what there is",
        )
    return [known[sample] for sample in samples]


def _placed(project: Path, entries: list[Entry], to: Path | None) -> Iterator[tuple[Entry, Path | None]]:
    """Yield where each goes; None where its source is not there any more."""
    roots: Mapping[str, Path] = {} if to else {one.name: one.place(project) for one in load_settings(project).sources}
    for entry in entries:
        source, _, path = entry.sample.partition("/")
        if ".." in PurePosixPath(entry.sample).parts or path.startswith("/"):
            yield entry, None
        elif to is not None:
            yield entry, to / entry.sample
        else:
            # A folder that is not there may be a disk that is not mounted.
            yield entry, roots[source] / path if source in roots and roots[source].is_dir() else None


def _restore(project: Path, entry: Entry, path: Path | None) -> Restored:
    if path is None:
        return Restored(
            entry.sample, None, "refused", entry.size_bytes, "its source is not there: restore it --to a folder"
        )
    try:
        return _written(project, entry, path)
    except LibraryError as error:
        return Restored(entry.sample, path, "refused", entry.size_bytes, f"{error.what}: {error.got}")
    except OSError as error:  # of this name or this folder; that the disk is full is another error, and ends it all
        return Restored(entry.sample, path, "refused", entry.size_bytes, f"{path}: {error.strerror}")


def _written(project: Path, entry: Entry, path: Path) -> Restored:
    if path.is_symlink() or path.exists():
        same = path.is_file() and not path.is_symlink() and sha256(path.read_bytes()) == entry.file_sha256
        if same:
            return Restored(entry.sample, path, "there already", entry.size_bytes)
        return Restored(entry.sample, path, "refused", entry.size_bytes, f"another file is at {path}")
    original = restored_bytes(project, entry)
    require_space(path, entry.size_bytes, "the original")
    with new_file(path) as part:
        part.write_bytes(original)
        if sha256(part.read_bytes()) != entry.file_sha256:
            raise LibraryError(f"{path} does not hold what was written to it", got="check the disk")
    return Restored(entry.sample, path, "restored", entry.size_bytes)
