"""What a download would do, before anything moves: which files, how many bytes, how long, and what is in the way."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from backbeat.datasets.bandwidth import Bandwidth, last_bandwidth
from backbeat.datasets.places import staged_path
from backbeat.datasets.registry import PER_ITEM, UNVERIFIED, License, Record, RecordFile, load_registry, url_scheme
from backbeat.datasets.selection import LeftOut, Wish, select
from backbeat.datasets.transport.memberplan import Arithmetic
from backbeat.datasets.transport.partial import part_path
from backbeat.errors import DownloadError
from backbeat.storage.staging import Staging, nearest_existing, open_staging

Action = Literal["have", "resume", "fetch", "copy", "make", "person"]

_ACTIONS: dict[str, Action] = {"file": "copy", "generate": "make", "manual": "person"}

_HUBS = {"hf": "huggingface.co", "gdrive": "drive.google.com", "zenodo": "zenodo.org"}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FilePlan:
    """What would happen to one file.

    Args:
        dataset: the name of its record.
        path: the file, as the record calls it.
        action: `have` it, `resume` or `fetch` it over the network, `copy` one's own (a link where that is possible),
            `make` it, or wait for a `person` to get it.
        total_bytes: its size; None if it is not known.
        to_fetch_bytes: what would come over the network; None if that is not known.
        source: the host, the hub or the place that it comes from.
        verifiable: whether the record has something to prove it with.
        members: what picking members of it over the network takes.
    """

    dataset: str
    path: str
    action: Action
    total_bytes: int | None
    to_fetch_bytes: int | None
    source: str
    verifiable: bool
    members: Arithmetic | None = None


@dataclass(frozen=True)
class Plan:
    """What a download would do.

    Args:
        files: every file of the chosen datasets, in the order of fetching.
        left_out: datasets that were meant in general but are not taken, with the reason.
        to_fetch_bytes: what would come over the network, with the approximate sizes of the records where there are
            no exact ones.
        unknown: files of which neither is known; they are not counted.
        approximate: whether a size in the sum is approximate.
        free_bytes: what is free on the disk of the staging store now.
        bandwidth: the speed that `duration_s` is for; None if none is given and none was ever measured.
        cautions: what the licenses ask for, and what cannot be proven, by dataset.
    """

    files: tuple[FilePlan, ...]
    left_out: tuple[LeftOut, ...]
    to_fetch_bytes: int
    unknown: tuple[str, ...]
    approximate: bool
    free_bytes: int
    bandwidth: Bandwidth | None
    cautions: dict[str, tuple[str, ...]]

    @property
    def free_after_bytes(self) -> int:
        """What will be free on that disk afterwards; negative if it will not fit."""
        made_bytes = sum(file.total_bytes or 0 for file in self.files if file.action == "make")
        return self.free_bytes - self.to_fetch_bytes - made_bytes

    @property
    def duration_s(self) -> float | None:
        """How long the network will take; None if its speed is not known."""
        return None if self.bandwidth is None else self.to_fetch_bytes / self.bandwidth.bytes_per_s

    @property
    def by_hand(self) -> tuple[FilePlan, ...]:
        """What needs a person."""
        return tuple(file for file in self.files if file.action == "person")


def plan(project: Path, wish: Wish, *, mbps: float | None = None) -> Plan:
    """Return what downloading the datasets of a wish would do.

    Nothing is fetched, with one exception: what members of a remote archive take is written in its directory alone,
    which is read for that.

    Args:
        project: the root of the repository.
        wish: which datasets.
        mbps: the speed of the network in megabits per second; default: as measured by the last download.

    Raises:
        ConfigError: if the wish names what does not exist or is excluded.
    """
    selection = select(load_registry(project), wish)
    staging = open_staging(project)
    files = [_file_plan(project, staging, record, file) for record in selection.records for file in record.files]
    guesses, unknown = 0, []
    for record in selection.records:
        blank = [file for file in files if file.dataset == record.name and file.to_fetch_bytes is None]
        if blank and record.approximate_size is not None:
            known_bytes = sum(file.total_bytes or 0 for file in files if file.dataset == record.name)
            guesses += max(0, record.approximate_size - known_bytes)
        else:
            unknown += [f"{file.dataset}/{file.path}" for file in blank]
    return Plan(
        files=tuple(files),
        left_out=selection.left_out,
        to_fetch_bytes=sum(file.to_fetch_bytes or 0 for file in files) + guesses,
        unknown=tuple(unknown),
        approximate=guesses > 0,
        free_bytes=shutil.disk_usage(nearest_existing(staging.root)).free,
        bandwidth=Bandwidth(mbps * 1e6 / 8) if mbps is not None else last_bandwidth(staging),
        cautions={record.name: found for record in selection.records if (found := cautions(record))},
    )


def cautions(record: Record) -> tuple[str, ...]:
    """Return what somebody should know before using a dataset: its license in short, and what nobody can prove."""
    found = list(_license_cautions(record.license))
    if any(file.hash == UNVERIFIED for file in record.files):
        found.append("no published hash")
    return tuple(found)


def _license_cautions(license_: License) -> list[str]:
    found = []
    if license_.commercial is False:
        found.append("non-commercial")
    if license_.commercial is None:
        found.append("a license for each item" if license_.id == PER_ITEM else "license not stated")
    if not license_.redistribute:
        found.append("no redistribution")
    return found


def _file_plan(project: Path, staging: Staging, record: Record, file: RecordFile) -> FilePlan:
    final = staged_path(staging, file)
    part = part_path(final)
    here_bytes = part.stat().st_size if part.is_file() else 0
    total_bytes, to_fetch_bytes = file.promised_bytes, None
    action: Action = _ACTIONS.get(url_scheme(file.urls[0]), "resume" if here_bytes else "fetch")
    if final.is_file() and (total_bytes is None or final.stat().st_size == total_bytes):
        action, total_bytes = "have", final.stat().st_size
    members = _members(project, record, file) if action in {"fetch", "resume"} and file.members is not None else None
    if action not in {"fetch", "resume"}:
        to_fetch_bytes = 0
    elif members is not None:
        total_bytes, to_fetch_bytes = members.member_bytes, max(0, members.asked_bytes - here_bytes)
    elif total_bytes is not None:
        to_fetch_bytes = max(0, total_bytes - here_bytes)
    scheme = url_scheme(file.urls[0])
    source = urlsplit(file.urls[0]).hostname if scheme in {"http", "https"} else _HUBS.get(scheme)
    return FilePlan(
        record.name,
        file.path,
        action,
        total_bytes,
        to_fetch_bytes,
        source or file.urls[0].partition("?")[0],
        file.promise is not None or file.members is not None,
        members,
    )


def _members(project: Path, record: Record, file: RecordFile) -> Arithmetic | None:
    from backbeat.datasets.transport.members import plan_members

    try:
        return plan_members(project, record, file)
    except DownloadError as error:
        _log.warning("%s: %s", record.name, error.what)
        return None
