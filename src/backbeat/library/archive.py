"""The stage `archive`: originals as FLAC files that give the identical WAV file back, each proven before it counts.

A FLAC file gets its name after it was written, read again, unpacked and compared with the original: all bytes by
`backbeat.library.flac`, and its samples once more as libsndfile alone decodes them. What FLAC cannot hold exactly, and
what is no WAV file, stays as it is, with the reason. No original is removed by this stage: `backbeat.library.removal`
does that. Of originals that are gone already, it makes sure that the FLAC files are there, before it writes anything.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import soundfile

from backbeat.errors import BackbeatError, LibraryError
from backbeat.executor import run_tasks
from backbeat.library.batches import Batch, batches
from backbeat.library.flac import pack, unpack
from backbeat.library.ledger import Entry, nameable, read_ledger
from backbeat.library.memo import Memo, open_memo
from backbeat.library.settings import load_settings
from backbeat.library.sources import read_samples
from backbeat.library.tables import ARCHIVE, read_table, write_table
from backbeat.library.vault import (
    ARCHIVE_FOLDER,
    md5,
    recovered,
    require_none_forgotten,
    sha256,
    store,
    vault_path,
    write_noted,
)
from backbeat.progress import progress
from backbeat.storage.staging import link_folder, open_staging, require_space

# Raised when what is remembered of a content is no longer what this module would find.
FINGERPRINT = "2"

# What FLAC makes of real sample libraries is 0.4 to 0.45 of their size.
_EXPECTED_RATIO = 0.5

_COMPARED_SAMPLES = 2**18

# Of the file systems in use, less what `storage.staging.new_file` adds to a name while it writes: a dot, the number of
# a process, eight digits, and `.part`. It is more than the suffix of the link in the archive.
_LONGEST_NAME_BYTES = 255 - 22

# An original is in memory three times while it is packed and proven; a worker then stays below 1 GB.
_MOST_BYTES = 2**27


@dataclass(frozen=True)
class Archived:
    """What is in the archive.

    Args:
        files: originals that are archived; of them `only` are nowhere else.
        size_bytes: of those originals.
        flac_bytes: of their FLAC files, each counted once.
        kept: files that stay as they are.
        made: FLAC files made by this run.
        removable_bytes: of originals that are files of a folder: what removing them could free.
    """

    files: int
    only: int
    size_bytes: int
    flac_bytes: int
    kept: int
    made: int
    removable_bytes: int


@dataclass(frozen=True)
class Packed:
    """What became of one original: a FLAC file, or a reason to keep it, which may be another one the next time."""

    flac_sha256: str | None = None
    flac_md5: str | None = None
    flac_bytes: int | None = None
    flac_mtime_ns: int | None = None
    reason: str | None = None
    lasting: bool = True


def archive(project: Path, *, workers: int | None = None) -> Archived:
    """Make a FLAC file of each original that is to be archived, link them at `data/library/archive`, write the table.

    Args:
        project: the root of the repository.
        workers: processes; default: one for each processor.

    Raises:
        ConfigError: if `configs/library.yaml` is not valid.
        LibraryError: if a table is missing, or an original of the ledger cannot be had out of the archive any more;
            then neither the table nor a link is changed. Or if the ledger has lost the line of one.
        StorageError: if the disk is full or read-only.
    """
    ledger = read_ledger(project)
    rows = {row["sample"]: row for row in read_table(project, "scan").to_pylist()}
    there = [row["file_sha256"] for row in rows.values()]
    require_none_forgotten(project, {*there, *(entry.file_sha256 for entry in ledger.values())})
    kept = dict(_kept(project, rows, ledger))
    wanted = [row for sample, row in rows.items() if sample not in ledger and sample not in kept]
    packed, made = _packed(project, wanted, workers)
    # After them, and in their place: of one original the ledger may name another FLAC file than was made here.
    packed |= _recovered(project, ledger)
    found = [_row(row, packed[row["file_sha256"]]) for row in [*map(asdict, ledger.values()), *wanted]]
    archived = [row for row in found if not row["reason"]]
    # Without what the archive has under the name of a file that is there: a sample has one row.
    table = [row for row in found if row["sample"] not in kept]
    table += [_row(rows[sample], Packed(reason=reason)) for sample, reason in kept.items()]
    links = {f"{row['sample']}.flac": vault_path(project, row["file_sha256"]) for row in archived}
    link_folder(project / ARCHIVE_FOLDER, links)
    write_table(project, "archive", ARCHIVE, table)
    write_noted(project, {entry.sample: entry.file_sha256 for entry in ledger.values()})
    return Archived(
        files=len(archived),
        only=len(ledger),
        size_bytes=sum(row["size_bytes"] for row in archived),
        flac_bytes=sum({row["file_sha256"]: row["flac_bytes"] for row in archived}.values()),
        kept=sum(row["state"] == "kept" for row in table),
        made=made,
        removable_bytes=sum(
            row["size_bytes"] for row in wanted if row["container"] is None and not packed[row["file_sha256"]].reason
        ),
    )


def _kept(
    project: Path, rows: Mapping[str, Mapping[str, Any]], ledger: Mapping[str, Entry]
) -> Iterator[tuple[str, str]]:
    """Yield samples that are not archived, with the reason."""
    chosen: set[str] = set()
    if load_settings(project).archive.what == "rest":
        curation = read_table(project, "curation", ["audio_sha256", "chosen"]).to_pylist()
        chosen = {row["audio_sha256"] for row in curation if row["chosen"]}
    taken = _Names()
    for sample in ledger:
        taken.take(sample)
    for sample, row in sorted(rows.items()):
        if sample in ledger:
            # Of an original that is back, the line leaves the ledger when it is restored.
            if row["tier"] == "original" and row["file_sha256"] != ledger[sample].file_sha256:
                yield sample, "the archive has another file of this name"
        elif reason := _fault(row, chosen):
            yield sample, reason
        elif not taken.take(sample):
            yield sample, "its name is in the way of another one's"


def _fault(row: Mapping[str, Any], chosen: set[str]) -> str | None:
    if row["error"] is not None:
        return f"it cannot be read: {row['error']}"
    if row["audio_sha256"] in chosen:
        return "its sound is in production"
    if row["size_bytes"] > _MOST_BYTES:
        return f"it is too long for a sample: more than {_MOST_BYTES // 2**20} MB"
    if not nameable(row["sample"]):
        return "its name cannot be in the ledger"
    if ".." in PurePosixPath(row["sample"]).parts:
        return "its name leads out of its folder"
    if len(PurePosixPath(row["sample"]).name.encode()) > _LONGEST_NAME_BYTES:
        return f"its name is too long to be restored: more than {_LONGEST_NAME_BYTES} bytes"
    return None


class _Names:
    """The links that there will be: none is called as another, or as a folder of another."""

    def __init__(self) -> None:
        self._files: set[PurePosixPath] = set()
        self._folders: set[PurePosixPath] = set()

    def take(self, sample: str) -> bool:
        """Return whether a sample can have its link; it has it then."""
        link = PurePosixPath(f"{sample}.flac")
        if link in self._files or link in self._folders or not self._files.isdisjoint(link.parents):
            return False
        self._files.add(link)
        self._folders.update(link.parents)
        return True


def _packed(project: Path, rows: Sequence[Mapping[str, Any]], workers: int | None) -> tuple[dict[str, Packed], int]:
    """Return what became of each original by the hash of its file, and how many FLAC files are new."""
    files = {row["file_sha256"]: row for row in rows}
    made = 0
    with open_memo(project) as memo:
        found = _remembered(project, memo, files)
        todo = [row for digest, row in files.items() if digest not in found]
        size_bytes = sum(row["size_bytes"] for row in todo)
        require_space(open_staging(project).root, int(size_bytes * _EXPECTED_RATIO), "the archive")
        with progress("archive", size_bytes, unit="bytes") as advance:
            for batch, results in run_tasks(pack_files, list(batches(project, todo)), workers=workers):
                for row, one in zip(batch.rows, results, strict=True):
                    found[row["file_sha256"]] = one
                    made += one.reason is None
                    _remember(memo, row["file_sha256"], one)
                    advance(row["size_bytes"])
    return found, made


def _recovered(project: Path, ledger: Mapping[str, Entry]) -> dict[str, Packed]:
    """See that the FLAC files of originals that are gone are here; what has not changed since is not read again."""
    found: dict[str, Packed] = {}
    with open_memo(project) as memo:
        known = _remembered(project, memo, {entry.file_sha256 for entry in ledger.values()})
        for entry in ledger.values():
            digest = entry.file_sha256
            if digest in found:
                continue
            if digest in known and known[digest].flac_sha256 == entry.flac_sha256:
                found[digest] = known[digest]
            else:
                found[digest] = _as_stored(project, digest, recovered(project, entry))
                _remember(memo, digest, found[digest])
    return found


def _remembered(project: Path, memo: Memo, digests: Iterable[str]) -> dict[str, Packed]:
    known = memo.known("archive", FINGERPRINT, digests)
    found = {digest: Packed(**json.loads(value)) for digest, value in known.items()}
    return {digest: one for digest, one in found.items() if _still_there(project, digest, one)}


def _remember(memo: Memo, digest: str, one: Packed) -> None:
    if one.lasting:
        memo.remember("archive", FINGERPRINT, digest, json.dumps(asdict(one)).encode())


def _still_there(project: Path, digest: str, one: Packed) -> bool:
    if one.reason is not None:
        return True
    path = vault_path(project, digest)
    return path.is_file() and (path.stat().st_size, path.stat().st_mtime_ns) == (one.flac_bytes, one.flac_mtime_ns)


def pack_files(batch: Batch) -> list[Packed]:
    """Make, prove and store the FLAC files of some originals; a task of `run_tasks`."""
    found = {
        row["sample"]: _pack_file(batch.project, row, read) for row, read in read_samples(batch.project, batch.rows)
    }
    return [found[row["sample"]] for row in batch.rows]


def _pack_file(project: Path, row: Mapping[str, Any], original: bytes | BackbeatError) -> Packed:
    if isinstance(original, BackbeatError):
        return Packed(reason=f"it cannot be read: {original.got}", lasting=False)
    path = vault_path(project, row["file_sha256"])
    flac = path.read_bytes() if path.is_file() else b""
    if not _gives(flac, original):
        try:
            flac = pack(original)
        except LibraryError as error:
            return Packed(reason=error.what)
        if not _gives(flac, original):
            return Packed(reason="FLAC does not give the identical file back")
        store(project, row["file_sha256"], flac)
    return _as_stored(project, row["file_sha256"], flac)


def _as_stored(project: Path, digest: str, flac: bytes) -> Packed:
    return Packed(sha256(flac), md5(flac), len(flac), vault_path(project, digest).stat().st_mtime_ns)


def _gives(flac: bytes, original: bytes) -> bool:
    """Return whether a FLAC file gives the identical original back, and libsndfile by itself the identical samples."""
    try:
        return unpack(flac) == original and _same_samples(flac, original)
    except (LibraryError, soundfile.LibsndfileError):
        return False


def _same_samples(flac: bytes, original: bytes) -> bool:
    with soundfile.SoundFile(io.BytesIO(flac)) as one, soundfile.SoundFile(io.BytesIO(original)) as other:
        if (one.frames, one.channels, one.samplerate) != (other.frames, other.channels, other.samplerate):
            return False
        for _ in range(0, one.frames, _COMPARED_SAMPLES):
            blocks = [sound.read(_COMPARED_SAMPLES, dtype="int32", always_2d=True) for sound in (one, other)]
            if not np.array_equal(*blocks):
                return False
    return True


def _row(row: Mapping[str, Any], one: Packed) -> dict[str, Any]:
    names = ("sample", "file_sha256", "audio_sha256", "size_bytes")
    return {**{name: row[name] for name in names}, **asdict(one), "state": "kept" if one.reason else "archived"}
