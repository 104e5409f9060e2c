"""Bringing raw archives back from the mirror: through the same proof, to the same names, as a download."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from backbeat.cloud.manifest import FOLDER, Manifest, MirroredFile, mirrored_datasets, read_manifest
from backbeat.cloud.mirror import file_state
from backbeat.cloud.prices import GB, load_cloud_config, require_within
from backbeat.datasets.download import alone, download
from backbeat.datasets.places import staged_path
from backbeat.datasets.registry import Record, RecordFile, load_record, load_registry
from backbeat.datasets.selection import refuse_excluded
from backbeat.datasets.transport.mirrored import Mirror, mirror_url
from backbeat.datasets.transport.patience import Patience
from backbeat.datasets.transport.sources import Wanted, fetch
from backbeat.errors import CloudError
from backbeat.remote.bucket import Bucket, open_bucket
from backbeat.storage.staging import disk_errors, open_staging, require_space


@dataclass(frozen=True)
class Fetching:
    """One file of a pull.

    Args:
        record: its dataset.
        file: what the record promises, or, where that is nothing, what the manifest does.
        final: where it is or will be.
        state: `outdated` if the mirror has another version than the record wants, `missing` if it has none.
        size_bytes: its size; 0 if the mirror does not have it.
    """

    record: Record
    file: RecordFile
    final: Path
    state: Literal["fetch", "present", "outdated", "missing"]
    size_bytes: int


def plan_pull(project: Path, names: Sequence[str] = ()) -> list[Fetching]:
    """Return what a pull would fetch, in the order of datasets and records.

    Args:
        project: the root of the repository.
        names: the names of the records; none means every dataset of the mirror that the registry knows.

    Raises:
        ConfigError: if there is no such record, its dataset is excluded, or a manifest is not valid.
        CloudError: if the mirror has nothing of a named dataset, or the bucket does not answer.
    """
    bucket = open_bucket(project)
    there = mirrored_datasets(bucket.list(FOLDER))
    for name in names:
        refuse_excluded(load_record(project, name))
        if name not in there:
            raise CloudError(
                f"the mirror has nothing of {name}",
                expected=f"one of {', '.join(there)}" if there else "something in the mirror",
                next_step=f"backbeat cloud mirror push {name} where it is, or backbeat datasets download {name}",
            )
    known = load_registry(project)
    chosen = list(dict.fromkeys(names)) or [name for name in there if name in known and not known[name].excluded]
    plan: list[Fetching] = []
    for name in chosen:
        manifest = read_manifest(bucket, name)
        assert manifest is not None
        plan += [_fetching(project, known[name], file, manifest) for file in known[name].files]
    return plan


def pull(project: Path, plan: Sequence[Fetching], *, mb_per_s: float | None = None) -> None:
    """Fetch, prove and link the files of a plan; what was broken off goes on where it was.

    Args:
        project: the root of the repository.
        plan: what `plan_pull` has returned.
        mb_per_s: the most that whole files come with, in MB (10^6 bytes) per second; default: what
            `configs/cloud.yaml` says.

    Raises:
        CloudError: if that would exceed a budget.
        DownloadError: if what comes is not what the record, or else the manifest, promises.
        StorageError: if the disk is or would be full.
    """
    to_fetch = [one for one in plan if one.state == "fetch"]
    total_bytes = sum(one.size_bytes for one in to_fetch)
    config = load_cloud_config(project)
    require_within(config.budgets, "pull_gb", total_bytes / GB, "pulling from the mirror")
    staging = open_staging(project)
    if to_fetch:
        require_space(staging.root, total_bytes, "what the mirror has")
    bucket = open_bucket(project)
    for one in to_fetch:
        _fetch(project, bucket, one, mb_per_s or config.limits.mirror_mb_per_s)
    for name in dict.fromkeys(one.record.name for one in plan):
        if all(one.final.is_file() for one in plan if one.record.name == name):
            download(project, name)


def _fetching(project: Path, record: Record, file: RecordFile, manifest: Manifest) -> Fetching:
    final = staged_path(open_staging(project), file)
    known = manifest.file(file.path)
    if final.is_file() and final.stat().st_size == (file.promised_bytes or final.stat().st_size):
        return Fetching(record, file, final, "present", final.stat().st_size)
    if known is None:
        return Fetching(record, file, final, "missing", 0)
    if file_state(file, known) == "outdated":
        return Fetching(record, file, final, "outdated", 0)
    return Fetching(record, _promised(file, known), final, "fetch", known.size_bytes)


def _promised(file: RecordFile, known: MirroredFile) -> RecordFile:
    """Return the file with what proves it: where the record has no hash, what was hashed when it was sent."""
    if file.promise is not None or file.members is not None:
        return file
    return file.model_copy(update={"hash": f"sha256:{known.sha256}", "size": known.size_bytes})


def _fetch(project: Path, bucket: Bucket, one: Fetching, mb_per_s: float | None) -> None:
    mirror = Mirror(project, bucket)
    bytes_per_s = None if mb_per_s is None else mb_per_s * 10**6
    wanted = Wanted(one.record.name, one.file, one.final, project, Patience(), mirror.resolve, bytes_per_s)
    with disk_errors(one.final), alone(one.final, wanted.label):
        if not one.final.is_file():
            fetch(wanted, mirror_url(one.record.name, one.file.path))
