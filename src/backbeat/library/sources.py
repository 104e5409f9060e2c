"""The samples of every source: in folders, inside archives, made by the program, or in the archive of what was removed.

Everything is read where it is. `list_samples` says what there is, at the cost of a glance at each file; `read_sample`
and `read_samples` give the bytes of any row of the scan's table, wherever they are.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backbeat.errors import BackbeatError, LibraryError
from backbeat.library.generated import generate
from backbeat.library.ledger import LEDGER_FILE, Entry, read_ledger
from backbeat.library.memo import Memo
from backbeat.library.places import Members, Place, Seen, each_member, is_archive, read_members, walk
from backbeat.library.settings import LibrarySettings, Source, Tier, load_settings
from backbeat.library.vault import restored_bytes

# In the memo: which sounds an archive has, so that a tar is not read from end to end to be found unchanged.
_MEMBERS = "members"
_MEMBERS_VERSION = "2"


@dataclass(frozen=True)
class Found:
    """A sample, as it was found.

    Args:
        sample: its name, `<source>/<path>`.
        source: the name of its source.
        path: below the source; in an archive `<archive>/<member>`.
        container: the archive that it is in, relative to the source.
        place: the file itself, or the archive that it is in; None for one that only our archive has.
        stamp: what the file system says of the file: size, times of change, number. While it is the same, so is the
            content.
        tier: `original`, or `archive` for one that was removed after it was archived.
        member: its place among all files of the archive that it is in.
        error: why it cannot be read, where that is known already.
    """

    sample: str
    source: str
    path: str
    container: str | None
    place: Path | None
    stamp: str
    tier: Tier = "original"
    member: int | None = None
    error: str | None = None


def list_samples(project: Path, settings: LibrarySettings, memo: Memo | None = None) -> Iterator[Found]:
    """Yield every sample of every source, and those that only the archive has any more, sorted by name.

    Args:
        project: the root of the repository.
        settings: where the sources are; those that are generated are made if they are not there.
        memo: what is known of archives that have not changed.

    Raises:
        LibraryError: if a source is not there: its samples have not gone because a disk is not mounted.
    """
    seen = Seen()
    found = {one.sample: one for source in settings.sources for one in _of_source(project, source, seen, memo)}
    for entry in read_ledger(project).values():
        if entry.sample not in found:
            source, path = entry.sample.split("/", 1)
            stamp = f"archive:{entry.file_sha256}"
            found[entry.sample] = Found(entry.sample, source, path, None, None, stamp, "archive")
    yield from (found[sample] for sample in sorted(found))


def read_sample(project: Path, row: Mapping[str, Any]) -> bytes:
    """Return the bytes of one sample: out of its folder, its archive, or restored from FLAC.

    Args:
        project: the root of the repository.
        row: of the scan's table.

    Raises:
        LibraryError: if it is not there any more, or cannot be read.
    """
    [(_, content)] = read_samples(project, [row])
    if isinstance(content, BackbeatError):
        raise content
    return content


def read_samples(
    project: Path, rows: Iterable[Mapping[str, Any]]
) -> Iterator[tuple[Mapping[str, Any], bytes | BackbeatError]]:
    """Yield rows of the scan's table with the bytes of each, or why it cannot be had.

    Archives are read in their order, each once; so the rows come in another order than they were given. Bytes that have
    not the `file_sha256` of their row, where it has one, are an error: what is made of a content is remembered under
    its hash.
    """
    for row, content in _read_samples(project, rows):
        expected = row.get("file_sha256")
        if isinstance(content, bytes) and expected and hashlib.sha256(content).hexdigest() != expected:
            yield row, has_changed(row)
        else:
            yield row, content


def has_changed(row: Mapping[str, Any]) -> LibraryError:
    """Return the error of a sample that is another than the scan's table says."""
    return _gone(row, "it has changed since it was scanned")


def _read_samples(
    project: Path, rows: Iterable[Mapping[str, Any]]
) -> Iterator[tuple[Mapping[str, Any], bytes | BackbeatError]]:
    settings = {source.name: source for source in load_settings(project).sources}
    contained: dict[Path, dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        try:
            if row["tier"] == "archive":
                yield row, _restored(project, row)
                continue
            root = _root(_known(settings, row).place(project))
            if row["container"] is None:
                yield row, _in_folder(project, root / row["path"], row)
            else:
                member = row["path"].removeprefix(f"{row['container']}/")
                contained.setdefault(root / row["container"], {})[member] = row
        except BackbeatError as error:
            yield row, error
        except OSError as error:
            yield row, _gone(row, str(error.strerror))
    for archive, wanted in contained.items():
        yield from _out_of(archive, wanted)


def read_found(found: Iterable[Found]) -> Iterator[tuple[Found, bytes | BackbeatError]]:
    """Yield samples that are in one archive with the bytes of each, or why it cannot be had, in its order."""
    wanted = {one.member: one for one in found if one.member is not None}
    place = next(iter(wanted.values())).place
    assert place is not None
    for at, content in each_member(place, {at: one.path for at, one in wanted.items()}):
        yield wanted[at], content


def stamp_of(file: Path) -> str:
    """Return what the file system says of a file; a change of its content changes this.

    Raises:
        OSError: if it is not there.
    """
    status = file.stat()
    return f"{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}:{status.st_ino}"


def _of_source(project: Path, source: Source, seen: Seen, memo: Memo | None) -> Iterator[Found]:
    place = source.place(project)
    if source.generate is not None:
        generate(place, source.generate)
    if place.is_dir():
        places = walk(place, seen)
    elif place.is_file() and is_archive(place.name):
        places = iter([Place(place.name, place)] if seen.new(seen.files, place) else [])
    else:
        raise LibraryError(
            f"the source {source.name} is not at {place}",
            expected="a folder, a zip or a tar",
            got="a file of another kind" if place.exists() else "nothing",
            next_step="mount its disk, or correct its path in configs/library.yaml",
        )
    for one in places:
        yield from _of_place(source.name, one, memo)


def _of_place(source: str, place: Place, memo: Memo | None) -> Iterator[Found]:
    try:
        stamp = "" if place.error else stamp_of(place.file)
    except FileNotFoundError:
        return
    except OSError as error:
        stamp, place = "", Place(place.path, place.file, f"it cannot be opened: {error.strerror}")
    itself = Found(f"{source}/{place.path}", source, place.path, None, place.file, stamp, error=place.error)
    if place.error or not place.is_archive:
        yield itself
        return
    members = _members(place.file, f"{source}/{place.path}|{stamp}", memo)
    for at, name in members.names.items():
        path = f"{place.path}/{name}"
        yield Found(f"{source}/{path}", source, path, place.path, place.file, stamp, member=at)
    for name in members.repeated:
        path, fault = f"{place.path}/{name}", "another member has this name, written differently"
        yield Found(f"{source}/{path}", source, path, place.path, place.file, stamp, error=fault)
    if members.error:
        yield Found(f"{source}/{place.path}", source, place.path, None, place.file, stamp, error=members.error)


def _members(archive: Path, key: str, memo: Memo | None) -> Members:
    known = {} if memo is None else memo.known(_MEMBERS, _MEMBERS_VERSION, [key])
    if key in known:
        return Members.from_bytes(known[key])
    members = read_members(archive)
    if memo is not None:
        memo.remember(_MEMBERS, _MEMBERS_VERSION, key, members.to_bytes())
    return members


def _out_of(
    archive: Path, wanted: dict[str, Mapping[str, Any]]
) -> Iterator[tuple[Mapping[str, Any], bytes | BackbeatError]]:
    places = {at: name for at, name in read_members(archive).names.items() if name in wanted}
    for name in set(wanted) - set(places.values()):
        yield wanted[name], _gone(wanted[name], f"not in {archive.name}")
    for at, content in each_member(archive, places):
        yield wanted[places[at]], content


def _in_folder(project: Path, file: Path, row: Mapping[str, Any]) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        # Removed by the archive since the scan.
        if row["sample"] in _ledger(project):
            return _restored(project, row)
        raise


def _ledger(project: Path) -> dict[str, Entry]:
    """Return the ledger, read again only if it has changed: it is asked for once for each sample."""
    path = project / LEDGER_FILE
    return _read_ledger(project, stamp_of(path) if path.exists() else "")


@functools.lru_cache(maxsize=1)
def _read_ledger(project: Path, _stamp: str) -> dict[str, Entry]:
    return read_ledger(project)


def _restored(project: Path, row: Mapping[str, Any]) -> bytes:
    entry = _ledger(project).get(row["sample"])
    if entry is None:
        raise _gone(row, "not in the ledger of the archive")
    return restored_bytes(project, entry)


def _known(sources: dict[str, Source], row: Mapping[str, Any]) -> Source:
    if row["source"] not in sources:
        raise _gone(row, f"no source {row['source']} in configs/library.yaml")
    return sources[row["source"]]


def _root(place: Path) -> Path:
    """Return the folder that paths of a source are relative to: of a source that is an archive, the one it is in."""
    return place if place.is_dir() else place.parent


def _gone(row: Mapping[str, Any], got: str) -> LibraryError:
    return LibraryError(
        f"{row['sample']} cannot be read",
        expected="the file that the scan found",
        got=got,
        next_step="backbeat library scan, then the command again",
    )
