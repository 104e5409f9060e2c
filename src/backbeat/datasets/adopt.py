"""Taking in copies that are on this machine already: an earlier download, or what a person fetched in a browser.

A copy is proven like a download: its size first, for all copies, then its hash; what is wrong never gets a final name.
It is linked where it is on the disk of the staging store, else copied (see `transport.sources`). When the last
file of the dataset is here, `data/raw/<name>` is made as by a download.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from backbeat.datasets.checks import note_check
from backbeat.datasets.download import alone, download
from backbeat.datasets.places import staged_path
from backbeat.datasets.registry import Record, RecordFile, load_record
from backbeat.datasets.selection import refuse_excluded
from backbeat.datasets.transport.patience import Patience
from backbeat.datasets.transport.sources import Wanted, take_own
from backbeat.errors import DownloadError
from backbeat.storage.staging import Staging, disk_errors, open_staging


@dataclass(frozen=True)
class Adopted:
    """What became of one file of the dataset.

    Args:
        path: the file, as its record calls it.
        state: `unverified` if it was taken in without a hash to compare with; `present` if it was here before.
        source: the copy; None if there was none in the folder.
        hash: what it was found to have, as a record writes it; None if it was not looked at.
    """

    path: str
    state: Literal["adopted", "unverified", "present", "missing"]
    source: Path | None
    hash: str | None


def adopt(project: Path, name: str, path: Path) -> list[Adopted]:
    """Take a file, or the files in a folder that are called as in the record, into the staging store.

    Args:
        project: the root of the repository.
        name: the name of the record.
        path: the file, under any name if the dataset has one file only; or a folder, searched to its bottom.

    Returns:
        What became of each file that was looked for, in the order of the record.

    Raises:
        ConfigError: if there is no such record, it is not valid, or its dataset is excluded.
        DownloadError: if a copy is not what the record promises, or there is none.
        StorageError: if the disk is or would be full.
    """
    record = load_record(project, name)
    refuse_excluded(record)
    sources = _in_folder(record, path) if path.is_dir() else {_called(record, path).path: path.resolve()}
    for file in record.files:
        if file.path in sources:
            _refuse_early(record, file, sources[file.path])
    staging = open_staging(project)
    adopted = [
        _taken(project, staging, record, file, sources.get(file.path))
        for file in record.files
        if path.is_dir() or file.path in sources
    ]
    if all(staged_path(staging, file).is_file() for file in record.files):
        download(project, name)
    return adopted


def _called(record: Record, path: Path) -> RecordFile:
    if not path.is_file():
        raise DownloadError(f"{path} is not there", expected="a file or a folder", next_step="correct the path")
    if len(record.files) == 1:
        return record.files[0]
    called = [file for file in record.files if Path(file.path).name == path.name]
    if len(called) != 1:
        raise DownloadError(
            f"{record.name}: {path.name} could be any of {len(record.files)} files",
            expected=f"a file that is called as in the record: {_some([file.path for file in record.files])}",
            got=path.name,
            next_step=f"rename it, or name its folder: backbeat datasets adopt {record.name} {path.parent}",
        )
    return called[0]


def _in_folder(record: Record, folder: Path) -> Mapping[str, Path]:
    found: dict[str, Path] = {}
    by_name: dict[str, list[Path]] = {}
    wanted = {Path(file.path).name for file in record.files}
    for path in sorted(folder.rglob("*")):
        if path.name in wanted and path.is_file():
            by_name.setdefault(path.name, []).append(path)
    for file in record.files:
        same = [path for path in by_name.get(Path(file.path).name, []) if path.as_posix().endswith(f"/{file.path}")]
        copies = same or by_name.get(Path(file.path).name, [])
        if len(copies) > 1:
            raise DownloadError(
                f"{record.name}: {folder} has {file.path} {len(copies)} times",
                expected="one copy",
                got=_some([str(copy) for copy in copies]),
                next_step="name a folder that has one of them",
            )
        if copies:
            found[file.path] = copies[0].resolve()
    if not found:
        raise DownloadError(
            f"{record.name}: {folder} has no file of it",
            expected=f"files that are called as in the record: {_some([file.path for file in record.files])}",
            got="none of them",
            next_step="name another folder, or the file itself",
        )
    return found


def _refuse_early(record: Record, file: RecordFile, source: Path) -> None:
    size_bytes = source.stat().st_size
    if file.members is not None:
        raise DownloadError(
            f"{record.name}: the record wants members of {file.path}, not all of it",
            expected="a record without members",
            got=f"members, by {' and '.join(file.members.narrowings)}",
            next_step=f"put {source.as_uri()} first in urls in configs/datasets/{record.name}.yaml, or remove members",
        )
    if size_bytes != (file.promised_bytes or size_bytes) or size_bytes == 0:
        raise DownloadError(
            f"{source} is not {record.name}/{file.path}",
            expected="at least one byte" if file.promised_bytes is None else f"{file.promised_bytes:,} bytes",
            got=f"{size_bytes:,} bytes",
            next_step=_wrong_copy(record),
        )


def _taken(project: Path, staging: Staging, record: Record, file: RecordFile, source: Path | None) -> Adopted:
    final = staged_path(staging, file)
    wanted = Wanted(record.name, file, final, project, Patience())
    with disk_errors(final), alone(final, wanted.label):
        # A staged file of another size is a damaged one: the copy takes its place.
        if final.is_file() and final.stat().st_size == (file.promised_bytes or final.stat().st_size):
            return Adopted(file.path, "present", source, None)
        if source is None:
            return Adopted(file.path, "missing", None, None)
        try:
            found = take_own(wanted, source)
        except DownloadError as error:
            what = f"{source} is not {wanted.label}"
            raise DownloadError(what, expected=error.expected, got=error.got, next_step=_wrong_copy(record)) from error
        note_check(final, found, good=True, source=source.absolute().as_uri(), source_bytes=final.stat().st_size)
        if file.promise is None:
            return Adopted(file.path, "unverified", source, found)
        return Adopted(file.path, "adopted", source, found)


def _wrong_copy(record: Record) -> str:
    place = f" ({record.homepage})" if record.homepage else ""
    return (
        f"fetch it again{place}; if it comes out the same, the publisher has changed it: correct size and hash in "
        f"configs/datasets/{record.name}.yaml"
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
