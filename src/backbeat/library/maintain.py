"""The library looked over: the memo vacuumed, what nothing refers to named, what should be there looked for and hashed.

Nothing is removed here but old copies of notes and the like (`backbeat.library.safekeeping`). An original whose FLAC
file is nowhere, or damaged, is the worst that can be found, and is said first.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from backbeat.errors import BackbeatError, LibraryError
from backbeat.library.ledger import Entry, by_sample, read_ledger
from backbeat.library.memo import memo_path, open_memo
from backbeat.library.safekeeping import copied_ledgers, keep_copy
from backbeat.library.settings import LIBRARY_FOLDER, LibrarySettings, load_settings
from backbeat.library.sources import list_samples, read_samples
from backbeat.library.tables import read_table, table_path
from backbeat.library.vault import ARCHIVE_KIND, gives, read_noted, vault_path
from backbeat.progress import progress
from backbeat.storage.staging import cache_dir, open_staging

PRODUCTION_KIND = "production"

Kind = Literal["lost", "forgotten", "damaged", "missing", "changed", "clash", "unreachable", "orphan"]

NEXT_STEPS: Mapping[Kind, str] = {
    "lost": "it may be in the bucket (backbeat cloud pull data/library/archive), in the cache of another clone, or in "
    "a backup (backbeat cloud backups)",
    "forgotten": "put its line back: git log -p data/library/ledger.csv; if there is none, or its original is no loss, "
    "remove the file from the staging store",
    "damaged": "backbeat verify --remote --repair data/library/archive, then: backbeat library archive; do not "
    "remove any original until it is whole",
    "missing": "bring it back, or, if it was removed on purpose: dvc repro data/library/dvc.yaml",
    "changed": "restore it, or, if the change is meant: dvc repro data/library/dvc.yaml",
    "clash": "rename the file that is there, then: backbeat library restore",
    "unreachable": "mount its disk, or correct its path in configs/library.yaml",
    "orphan": "backbeat storage prune removes them",
}


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be.

    Args:
        kind: `lost`: an original is gone and its FLAC file nowhere. `forgotten`: a FLAC file is there of which no table
            and no ledger knows the name. `damaged`: a FLAC file does not give its original. `missing`: a sample of the
            scan's table is not on the disk. `changed`: it has another hash than in the table. `clash`: it has the name
            of another one that only the archive has. `unreachable`: a source is not there. `orphan`: nothing refers to
            a file made for production.
        what: the sample, or the file.
        why: in words.
    """

    kind: Kind
    what: str
    why: str

    @property
    def is_wrong(self) -> bool:
        """Whether somebody has to do something about it."""
        return self.kind != "orphan"


@dataclass(frozen=True)
class Maintained:
    """What was found and done.

    Args:
        findings: the worst first.
        memo_bytes: the size of the memo, and what vacuuming it has freed.
        freed_bytes: the same.
        checked: FLAC files whose hash was compared.
        rehashed: samples whose hash was compared.
        copy: the new copy of what cannot be computed again; None if nothing has changed.
    """

    findings: tuple[Finding, ...]
    memo_bytes: int
    freed_bytes: int
    checked: int
    rehashed: int
    copy: Path | None


def maintain(project: Path, *, rehash: bool = False, dry_run: bool = False) -> Maintained:
    """Look the library over.

    Args:
        project: the root of the repository.
        rehash: whether to read every sample, too, also out of the archive, and compare its hash with the table.
        dry_run: whether to change nothing: no vacuum, no copy.

    Raises:
        LibraryError: if the ledger or a table cannot be read, or the memo is in use.
        StorageError: if the disk is full or read-only.
    """
    settings = load_settings(project)
    ledger = read_ledger(project)
    archived = _archived(project, ledger)
    found = [*_lost(project, ledger), *_missing(project, settings, ledger), *_clashing(project, ledger)]
    damaged, checked = _damaged(project, archived)
    found += damaged
    changed, rehashed = _changed(project, found) if rehash else ([], 0)
    found += [*changed, *_forgotten(project, {file for file, _ in archived}), *_orphans(project)]
    before, after = _vacuum(project, dry_run=dry_run)
    order = list(NEXT_STEPS)
    return Maintained(
        tuple(sorted(found, key=lambda one: (order.index(one.kind), one.what))),
        after,
        before - after,
        checked,
        rehashed,
        keep_copy(project, kept=settings.maintain.backups_kept, dry_run=dry_run),
    )


def _archived(project: Path, ledger: Mapping[str, Entry]) -> dict[tuple[str, str], tuple[str, str]]:
    """Return of each archived original, by its SHA-256 and that of its FLAC file: its name, and the FLAC file's MD5."""
    found = {(one.file_sha256, one.flac_sha256): (one.sample, one.flac_md5) for one in ledger.values()}
    for row in _rows(project, "archive"):
        if row["flac_sha256"] is not None:
            found.setdefault((row["file_sha256"], row["flac_sha256"]), (row["sample"], row["flac_md5"]))
    return found


def _lost(project: Path, ledger: Mapping[str, Entry]) -> Iterator[Finding]:
    for one in ledger.values():
        if _flac(project, one.file_sha256, one.flac_md5) is None:
            yield Finding(
                "lost", one.sample, f"its FLAC file {one.flac_md5} is not in the staging store or DVC's cache"
            )


def _damaged(project: Path, archived: Mapping[tuple[str, str], tuple[str, str]]) -> tuple[list[Finding], int]:
    places = {key: _flac(project, key[0], flac_md5) for key, (_, flac_md5) in archived.items()}
    there = {key: place for key, place in places.items() if place is not None}
    found = []
    with progress("archive", sum(place.stat().st_size for place in there.values()), unit="bytes") as advance:
        for key, place in there.items():
            digest = _sha256(place)
            if digest != key[1] and not gives(place, key[0]):
                found.append(Finding("damaged", archived[key][0], f"{place} has SHA-256 {digest}, not {key[1]}"))
            advance(place.stat().st_size)
    return found, len(there)


def _missing(project: Path, settings: LibrarySettings, ledger: Mapping[str, Entry]) -> Iterator[Finding]:
    try:
        with open_memo(project) as memo:
            there = {one.sample for one in list_samples(project, settings, memo)}
    except LibraryError as error:
        yield Finding("unreachable", error.what, error.got or "")
        return
    for row in _rows(project, "scan"):
        if row["sample"] not in there and row["sample"] not in ledger:
            yield Finding("missing", row["sample"], "it was there when the library was scanned last")


def _clashing(project: Path, ledger: Mapping[str, Entry]) -> Iterator[Finding]:
    for row in _rows(project, "scan"):
        entry = ledger.get(row["sample"])
        if entry is not None and row["tier"] == "original" and row["file_sha256"] != entry.file_sha256:
            yield Finding("clash", entry.sample, f"only the archive has {entry.file_sha256}, and another file is there")


def _changed(project: Path, found: Sequence[Finding]) -> tuple[list[Finding], int]:
    """Return the samples whose content is another than in the table, and how many were read, wherever they are."""
    said = {one.what for one in found}
    all_there = all(one.kind != "unreachable" for one in found)
    rows = [row for row in _rows(project, "scan") if row["sample"] not in said]
    digests = {row["sample"]: row.pop("file_sha256") for row in rows}
    changed = []
    hashed = 0
    with progress("samples", len(rows), unit="files") as advance:
        # Without their hashes, which are compared here: what another hash is, is the finding.
        for row, content in read_samples(project, rows):
            advance(1)
            if isinstance(content, BackbeatError):
                if all_there and row["error"] is None:
                    changed.append(Finding("changed", row["sample"], content.got or content.what))
                continue
            hashed += 1
            digest = hashlib.sha256(content).hexdigest()
            was = digests[row["sample"]]
            if digest != was:
                changed.append(Finding("changed", row["sample"], f"SHA-256 {digest}, and was {was}"))
    return changed, hashed


def _forgotten(project: Path, archived: set[str]) -> list[Finding]:
    root = open_staging(project).root
    known = archived | {row["file_sha256"] for row in _rows(project, "scan")}
    left = {entry.stem: entry for entry in (root / ARCHIVE_KIND).glob("??/*.flac") if entry.stem not in known}
    names = {digest: sample for sample, digest in read_noted(project).items()} if left else {}
    for content in copied_ledgers(project) if left else ():
        with contextlib.suppress(LibraryError):  # of another one the names are as good
            names = {one.file_sha256: one.sample for one in by_sample(content).values()} | names
    return [
        Finding(
            "forgotten",
            entry.relative_to(root).as_posix(),
            f"no table and no ledger names its original any more; it was {names[digest]}"
            if digest in names
            else "no table and no ledger names its original",
        )
        for digest, entry in sorted(left.items())
    ]


def _orphans(project: Path) -> Iterator[Finding]:
    root = open_staging(project).root
    links = (project / LIBRARY_FOLDER / PRODUCTION_KIND).rglob("*")
    linked = {(link.stat().st_dev, link.stat().st_ino) for link in links if link.is_file()}
    for entry in sorted((root / PRODUCTION_KIND).glob("??/*")):
        state = entry.stat()
        if not entry.name.endswith(".part") and state.st_nlink == 1 and (state.st_dev, state.st_ino) not in linked:
            yield Finding("orphan", entry.relative_to(root).as_posix(), "production does not have it any more")


def _vacuum(project: Path, *, dry_run: bool) -> tuple[int, int]:
    """Give back what the memo does not use; what other code computed, its stages have forgotten when they ran."""
    path = memo_path(project)
    if not path.exists():
        return 0, 0
    before = path.stat().st_size
    if not dry_run:
        try:
            with sqlite3.connect(path, timeout=60, isolation_level=None) as connection:
                connection.execute("VACUUM")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.close()
        except sqlite3.Error as error:
            raise LibraryError(
                f"{path} cannot be vacuumed", got=str(error), next_step="end the other command, or remove the file"
            ) from error
    return before, path.stat().st_size


def _flac(project: Path, file_sha256: str, flac_md5: str) -> Path | None:
    places = (vault_path(project, file_sha256), cache_dir(project) / "files" / "md5" / flac_md5[:2] / flac_md5[2:])
    return next((place for place in places if place.is_file()), None)


def _rows(project: Path, table: str) -> list[dict[str, Any]]:
    return read_table(project, table).to_pylist() if table_path(project, table).exists() else []


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
