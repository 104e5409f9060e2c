"""The stage `preprocess`: an archive of recordings in, shards of spectrograms and onsets out.

An archive keeps the kits of a performance side by side; training wants one file for each split and kit. Doing this
in one pass over the archive is a transposition, made in two steps so that memory stays small and a disk reads the
archive from front to back:

1. *slices*: each task reads a run of neighboring members and writes their spectrograms to one file;
2. *shards*: each task collects the sequences of one split and kit from the slices.

Both live in the staging store. A shard's name is the digest of everything that goes into it (members by CRC-32,
feature parameters, what it says of itself), so a shard that is there is not made again, whatever else has changed:
with one kit added, only that kit's members are read. A killed run finds its finished slices and shards. Slices are
removed when all shards are done.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backbeat.audio.logmel import LogMel
from backbeat.audio.read import mono_blocks
from backbeat.config import FeatureParams, load_params
from backbeat.datasets.intended_use import require_use
from backbeat.datasets.packed.archives import read_member
from backbeat.datasets.registry import load_record
from backbeat.drums.classes import load_drums
from backbeat.drums.egmd import find_archive, read_index
from backbeat.drums.fingerprint import front_end_fingerprint
from backbeat.drums.midi import read_onsets
from backbeat.drums.plan import ShardPlan, ShardTask, SliceTask, frame_bytes, info_of, plan_shards, plan_slices
from backbeat.drums.report import summarize, write_report
from backbeat.drums.shards import Shard, ShardWriter
from backbeat.errors import ArchiveError, AudioError, ConfigError, MidiError, ShardError
from backbeat.executor import default_workers, run_tasks
from backbeat.progress import progress
from backbeat.storage.staging import Staging, link_folder, new_file, open_staging, require_space

# The layout that `backbeat.drums.egmd` reads.
LAYOUT = "egmd"

REPORT_FILE = "reports/preprocess.json"

# What slices and shards together take on disk, as a part of the uncompressed frames; measured on recordings.
DISK_SHARE = 1.25

# A process takes a second to start; this much of the work takes one as well. For less no process is started: with one
# kit added, starting them would be most of the time. Recordings as stored, and frames before compression.
RECORDING_BYTES_PER_WORKER = 64 * 2**20
FRAME_BYTES_PER_WORKER = 32 * 2**20


@dataclass(frozen=True)
class PreprocessResult:
    """What a run did: how many shards it re-used and made, and the report on all of them."""

    reused: int
    made: int
    read_sequences: int
    report: dict[str, Any] = field(repr=False)


@dataclass(frozen=True)
class _Job:
    archive: Path
    features: FeatureParams
    front_end: str
    staging: Staging
    bad_members_allowed: int
    workers: int | None
    cluster: str | None


def preprocess(project: Path, *, workers: int | None = None, cluster: str | None = None) -> PreprocessResult:
    """Make `data/processed/<dataset>/` and `reports/preprocess.json` from the raw archive.

    Args:
        project: root of the repository.
        workers: processes on this machine; default one per processor, as far as there is work for them.
        cluster: address of a Dask scheduler to use instead; its workers must see the same disk.

    Raises:
        BackbeatError: if parameters, record or archive are faulty, the license forbids the intended use, more members
            are damaged than `preprocess.bad_members_allowed`, or the disk is too small. Nothing then changes in
            `data/processed/`.
    """
    params = load_params(project)
    record = load_record(project, params.dataset)
    require_use(record, params.intended_use)
    if record.layout != LAYOUT:
        step = f"set dataset in params.yaml to one of layout {LAYOUT}, or write a reader for the other"
        raise ConfigError(
            f"the stage preprocess cannot read {record.name}",
            expected=f"layout {LAYOUT}",
            got=record.layout,
            next_step=step,
        )
    archive = find_archive(project / "data" / "raw" / params.dataset)
    features = params.preprocess.features
    front_end = front_end_fingerprint(features)
    described = {
        "dataset": record.name,
        "license": record.license.id,
        "features": features.model_dump(),
        "front_end": front_end,
    }
    plans = plan_shards(read_index(archive), features, described)
    job = _Job(
        archive, features, front_end, open_staging(project), params.preprocess.bad_members_allowed, workers, cluster
    )

    shards = {plan.name: plan.staged_in(job.staging) for plan in plans}
    missing = [plan for plan in plans if not _is_complete(shards[plan.name])]
    raw_bytes = frame_bytes((sequence for plan in missing for sequence in plan.sequences), features)
    require_space(job.staging.root, round(DISK_SHARE * raw_bytes), "spectrograms")
    _make(missing, plans, job)

    report = summarize(shards, load_drums(project), features.frame_rate_hz)
    _check_tolerance(report["skipped"], job.bad_members_allowed)
    link_folder(project / "data" / "processed" / params.dataset, shards)
    write_report(project / REPORT_FILE, report)
    read_sequences = sum(len(plan.sequences) for plan in missing)
    return PreprocessResult(len(plans) - len(missing), len(missing), read_sequences, report)


def make_slice(task: SliceTask) -> Path:
    """Write the spectrograms and onsets of a run of members to one file; a damaged member is noted in it instead."""
    logmel = LogMel(task.features)
    skipped: dict[str, str] = {}
    with new_file(task.target) as part, ShardWriter(part, task.features.mels, {"skipped": skipped}) as writer:
        for sequence in task.sequences:
            try:
                onsets = read_onsets(read_member(task.archive, sequence.midi), sequence.midi.name)
                wav = read_member(task.archive, sequence.wav)
                blocks = mono_blocks(wav, sequence.wav.name, task.features.sample_rate_hz)
                frames = logmel.all_frames(blocks)
            except (ArchiveError, AudioError, MidiError) as error:
                skipped[sequence.id] = " ".join(str(error).split())
                continue
            writer.append(info_of(sequence), frames, onsets)
    return task.target


def make_shard(task: ShardTask) -> Path:
    """Collect one shard from slices, its sequences in archive order."""
    wanted = {sequence.id for sequence in task.plan.sequences}
    skipped: dict[str, str] = {}
    attributes = {**task.plan.attributes, "skipped": skipped}
    with new_file(task.target) as part, ShardWriter(part, task.features.mels, attributes) as writer:
        for path in task.slices:
            piece = Shard(path)
            skipped.update({id_: why for id_, why in piece.attributes["skipped"].items() if id_ in wanted})
            for index, (info, first_frame, count) in enumerate(piece.infos()):
                if info.id in wanted:
                    writer.append(info, piece.read(first_frame, count), piece.onsets(index))
            piece.close()
    return task.target


def _make(missing: list[ShardPlan], plans: list[ShardPlan], job: _Job) -> None:
    """Make the missing shards: their slices first, then the shards, then the slices go."""
    slices = plan_slices(plans, missing, job.archive, job.features, job.front_end, job.staging)
    open_tasks = [task for task in slices if not _holds(task)]
    total = sum(task.stored_bytes for task in slices)
    done = total - sum(task.stored_bytes for task in open_tasks)
    if open_tasks:
        workers = job.workers or _worthwhile_workers(total - done, RECORDING_BYTES_PER_WORKER)
        with progress("spectrograms", total, unit="bytes", done=done) as advance:
            for task, _ in run_tasks(make_slice, open_tasks, workers=workers, cluster=job.cluster):
                advance(task.stored_bytes)
    skipped = {id_: why for task in slices for id_, why in Shard(task.target).attributes["skipped"].items()}
    _check_tolerance(skipped, job.bad_members_allowed)

    slice_of = {sequence.id: task.target for task in slices for sequence in task.sequences}
    tasks = []
    for plan in missing:
        sources = dict.fromkeys(slice_of[sequence.id] for sequence in plan.sequences)
        tasks.append(ShardTask(plan, job.features, tuple(sources), plan.staged_in(job.staging)))
    if tasks:
        raw_bytes = frame_bytes((sequence for plan in missing for sequence in plan.sequences), job.features)
        workers = job.workers or _worthwhile_workers(raw_bytes, FRAME_BYTES_PER_WORKER)
        with progress("shards", len(tasks), unit="shards") as advance:
            for _ in run_tasks(make_shard, tasks, workers=workers, cluster=job.cluster):
                advance(1)
    # Every slice of this archive, not only those of this run: a killed one may have left some whose shards are done.
    all_slices = plan_slices(plans, plans, job.archive, job.features, job.front_end, job.staging)
    for task in all_slices:
        task.target.unlink(missing_ok=True)
    for target in [*(task.target for task in all_slices), *(task.target for task in tasks)]:
        # What a killed run was writing has the name of its process between this one's and `.part`.
        for leftover in target.parent.glob(f"{target.name}.*.part"):
            leftover.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not there, or something else is in it
            target.parent.rmdir()


def _worthwhile_workers(work_bytes: int, bytes_per_worker: int) -> int:
    return max(1, min(default_workers(), work_bytes // bytes_per_worker))


def _is_whole(path: Path) -> bool:
    """Return whether a staged shard is there and undamaged; a damaged one is removed."""
    if not path.exists():
        return False
    try:
        shard = Shard(path)
        shard.check()
        shard.close()
    except ShardError:
        # DVC trusts a cache object for as long as it is read-only, and this one is the same file by another name:
        # made writable, it is hashed again and replaced.
        path.chmod(0o644)
        path.unlink()
        return False
    return True


def _is_complete(path: Path) -> bool:
    """Return whether a staged shard is whole and nothing was skipped in it.

    What was skipped is tried again: the archive may have been fetched anew, and its members' names and CRC-32s, which
    the name of the shard stands for, are the same in a damaged copy of it.
    """
    return _is_whole(path) and not Shard(path).attributes["skipped"]


def _holds(task: SliceTask) -> bool:
    """Return whether the slice of a task is there, undamaged, with every sequence that the task is for."""
    if not _is_whole(task.target):
        return False
    return {info.id for info, _, _ in Shard(task.target).infos()} >= {sequence.id for sequence in task.sequences}


def _check_tolerance(skipped: dict[str, str], allowed: int) -> None:
    if len(skipped) > allowed:
        listed = "\n".join(f"    {reason}" for _, reason in sorted(skipped.items())[:20])
        raise ArchiveError(
            f"{len(skipped)} members of the archive cannot be used",
            expected=f"at most {allowed} (preprocess.bad_members_allowed)",
            got=f"these:\n{listed}",
            next_step="fetch the archive again, or, if its publisher made it so, allow that many in params.yaml",
        )
