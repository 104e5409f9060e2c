"""Writing the record of a new dataset: from an address, or from files of one's own.

What can be found out is found out; what only a person knows (what the data is, what its license allows) is given.

- An address is fetched into the staging store by the same code as a download, so that its bytes are not fetched again
  by the first one. Without fetching, the record has the hash that a hub publishes, or is `unverified`.
- `hf://datasets/<repo>@<branch>/<file>` is pinned to the commit that the branch is at.
- `zenodo://<record>` stands for all files of the record.
- A folder becomes one entry per file, up to 200 of them; above that a record would be no description any more, and
  the message says how to pack the folder. Files whose names begin with a dot are left out. Within the project,
  addresses are relative and mean the same on every machine; elsewhere they mean something on this machine only.
- The hash is the publisher's if a hub publishes one, so that `refresh` can compare; else SHA-256.
- The layout is guessed from the names of the files and of the members of archives; a person may know better.
"""

from __future__ import annotations

import datetime as dt
import logging
import re
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from backbeat.config import load_yaml, validated
from backbeat.datasets.checks import note_check
from backbeat.datasets.download import DEFAULT_JOBS, stage_file
from backbeat.datasets.layouts import guess_layout
from backbeat.datasets.listing import Listed, list_address, list_own
from backbeat.datasets.packed.containers import is_tar, is_zip, members_of
from backbeat.datasets.places import staged_path
from backbeat.datasets.record_text import record_text
from backbeat.datasets.registry import RECORDS_FOLDER, UNVERIFIED, Phase, Record, RecordFile, url_scheme
from backbeat.datasets.stages import sync_stages
from backbeat.datasets.transport.hashing import DEFAULT_ALGORITHM, hash_file
from backbeat.datasets.transport.patience import Patience
from backbeat.errors import ArchiveError, BackbeatError, ConfigError
from backbeat.executor import run_threads
from backbeat.storage.staging import new_file, open_staging

# So many names say what a tar holds; for the others, one of 25 GB would have to be inflated.
MEMBERS_OF_A_TAR = 1_000

# A disk with one arm likes few readers.
HASHED_AT_ONCE = 4

_ADDRESS = re.compile(r"(https?|hf|gdrive|zenodo|file|generate|manual):", re.IGNORECASE)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Description:
    """What only a person knows about a dataset; the fields are those of a record.

    Args:
        title: its name for people.
        license_id: as SPDX has it, or `public-domain`, `per-item` or `unknown`.
        license_url: where the license can be read.
        commercial: whether it allows commercial use; None if that is not stated.
        redistribute: whether the data may be handed on.
        license_note: what else there is to say about it.
        purpose: what the data is used for here.
        phase: the phase that selects it; None: by name only.
        priority: from 1 to 5, 5 first.
        homepage: where it is described.
        citation: how its authors want to be cited.
        notes: errata and traps.
    """

    title: str
    license_id: str
    license_url: str | None = None
    commercial: bool | None = None
    redistribute: bool = False
    license_note: str | None = None
    purpose: str = "own experiments"
    phase: Phase | None = None
    priority: int = 3
    homepage: str | None = None
    citation: str | None = None
    notes: str | None = None


def new(
    project: Path,
    name: str,
    source: str,
    description: Description,
    *,
    fetch: bool = True,
    patience: Patience | None = None,
) -> Path:
    """Write `configs/datasets/<name>.yaml`, and give the dataset its download stage.

    Args:
        project: the root of the repository.
        name: the name of the record.
        source: an address as in a record, `zenodo://<record>`, or the path of a file or folder.
        description: what only a person knows.
        fetch: whether to fetch what is at an address, to know its hash.
        patience: how long to try.

    Returns:
        The record.

    Raises:
        ConfigError: if there is such a record already, or what is given makes no valid one.
        DownloadError: if the source cannot be had.
        StorageError: if the disk is or would be full.
    """
    path = project / RECORDS_FOLDER / f"{name}.yaml"
    if path.exists():
        raise ConfigError(
            f"{name} is a dataset already",
            expected="a name that is not taken",
            got=f"{RECORDS_FOLDER}/{name}.yaml",
            next_step="choose another name, or edit that file",
        )
    if not _ADDRESS.match(source) or url_scheme(source) == "file":
        found = list_own(project, source)
        # What the record cannot hold is said before a byte is read, here and below.
        draft(name, description, found)
        found = _for_each(_hashed, found, HASHED_AT_ONCE)
    else:
        found = list_address(source, measured_later=fetch)
        drafted = draft(name, description, found)
        if fetch and url_scheme(source) != "manual":
            found = _fetched(project, drafted, found, patience or Patience())
    record = draft(
        name,
        description,
        found,
        layout=guess_layout(inner for file in found for inner in _names_in(file)),
        verified_on=dt.datetime.now(dt.UTC).date() if all(file.place is not None for file in found) else None,
    )
    _write(path, record)
    sync_stages(project)
    return path


def _fetched(project: Path, draft: Record, found: Sequence[Listed], patience: Patience) -> list[Listed]:
    staging = open_staging(project)
    wanted = {file.path: file for file in draft.files}

    def fetch(file: Listed) -> Listed:
        at = stage_file(project, staging, draft, wanted[file.path], verify=False, patience=patience)
        if file.hash != UNVERIFIED:
            return replace(file, size=at.stat().st_size, place=at)
        proven = _hashed(replace(file, size=at.stat().st_size, place=at))
        # Under the name that the record is going to give it, the next download finds it.
        final = staged_path(staging, RecordFile.model_validate(proven.entry()))
        final.parent.mkdir(parents=True, exist_ok=True)
        at.replace(final)
        (url, *_) = proven.entry()["urls"]
        note_check(final, proven.hash, good=True, source=url, source_bytes=final.stat().st_size)
        return replace(proven, place=final)

    return _for_each(fetch, found, DEFAULT_JOBS)


def _hashed(file: Listed) -> Listed:
    assert file.place is not None
    digest = hash_file(file.place, DEFAULT_ALGORITHM, f"{file.path}: checking")
    return replace(file, hash=f"{DEFAULT_ALGORITHM}:{digest}")


def _for_each(function: Callable[[Listed], Listed], found: Sequence[Listed], threads: int) -> list[Listed]:
    done: dict[str, Listed] = {}
    for file, result in run_threads(function, found, threads=threads):
        if isinstance(result, BackbeatError):
            raise result
        done[file.path] = result
    return [done[file.path] for file in found]


def _names_in(file: Listed) -> list[str]:
    if file.place is None or not (is_tar(file.path) or is_zip(file.path)):
        return [file.path]
    try:
        with closing(members_of([file.place], file.path)) as members:
            return [member.name for member in islice(members, MEMBERS_OF_A_TAR if is_tar(file.path) else None)]
    except ArchiveError as error:
        _log.warning("%s: its layout is not guessed from its members: %s", file.path, error.got)
        return []


def draft(name: str, description: Description, found: Sequence[Listed], **known: Any) -> Record:
    """Return the record of these files, with what else is known of it.

    Raises:
        ConfigError: if what is given makes no valid one.
    """
    about = description
    values = {
        "name": name,
        "title": about.title,
        "phase": about.phase,
        "priority": about.priority,
        "collections": {},
        "layout": known.get("layout", "none"),
        "purpose": about.purpose,
        "license": {
            "id": about.license_id,
            "url": about.license_url,
            # What the name of a license says need not be said again.
            "commercial": False if "-NC" in about.license_id and about.commercial is None else about.commercial,
            "redistribute": about.redistribute,
            "note": about.license_note,
        },
        "homepage": about.homepage,
        "citation": about.citation,
        "notes": about.notes,
        "verified_on": known.get("verified_on"),
        "files": [file.entry() for file in found],
    }
    return validated(Record, values, f"the record of {name}")


def _write(path: Path, record: Record) -> None:
    with new_file(path) as part:
        part.write_text(record_text(record), encoding="utf-8")
        assert validated(Record, load_yaml(part), str(path)) == record
