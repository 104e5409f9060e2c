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

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from backbeat.audio.logmel import LogMel
from backbeat.audio.read import mono_blocks
from backbeat.config import FeatureParams, load_params
from backbeat.datasets.archives import read_member
from backbeat.datasets.registry import load_record
from backbeat.drums.classes import load_drums
from backbeat.drums.egmd import SPLITS, Sequence, find_archive, read_index
from backbeat.drums.midi import read_onsets
from backbeat.drums.report import summarize, write_report
from backbeat.drums.shards import FORMAT_VERSION, SequenceInfo, Shard, ShardWriter
from backbeat.errors import ArchiveError, AudioError, MidiError, ShardError
from backbeat.executor import run_tasks
from backbeat.progress import progress
from backbeat.provenance import digest_of
from backbeat.storage.staging import Staging, link_folder, new_file, open_staging, require_space

REPORT_FILE = "reports/preprocess.json"

# One object of at most 48 MiB is one upload and one retried download (DVC's S3 client splits larger ones, without
# retries). Counted before compression, so that it holds whatever the recordings are.
SHARD_BYTES = 48 * 2**20

# Slices: enough of them to keep workers busy, small enough to lose little, large enough to be few.
SLICES = 64
SLICE_BYTES = (2**20, 64 * 2**20)

# What slices and shards together take on disk, as a part of the uncompressed frames; measured on recordings.
DISK_SHARE = 1.25


@dataclass(frozen=True)
class ShardPlan:
    """One shard to be: where it appears, the digest of all that goes into it, what it says of itself."""

    name: str
    digest: str
    attributes: dict[str, Any]
    sequences: tuple[Sequence, ...]


@dataclass(frozen=True)
class SliceTask:
    """Members to turn into spectrograms, and the file to put them in."""

    archive: Path
    features: FeatureParams
    sequences: tuple[Sequence, ...]
    target: Path


@dataclass(frozen=True)
class ShardTask:
    """A shard to collect from slices."""

    plan: ShardPlan
    features: FeatureParams
    slices: tuple[Path, ...]
    target: Path


@dataclass(frozen=True)
class PreprocessResult:
    """What a run did: how many shards it re-used and made, and the report on all of them."""

    reused: int
    made: int
    read_sequences: int
    report: dict[str, Any] = field(repr=False)


def preprocess(project: Path, *, workers: int | None = None, cluster: str | None = None) -> PreprocessResult:
    """Make `data/processed/<dataset>/` and `reports/preprocess.json` from the raw archive.

    Args:
        project: root of the repository.
        workers: processes on this machine; default one per processor.
        cluster: address of a Dask scheduler to use instead; its workers must see the same disk.

    Raises:
        BackbeatError: if parameters, record or archive are faulty, more members are damaged than
            `preprocess.bad_members_allowed`, or the disk is too small. Nothing then changes in `data/processed/`.
    """
    params = load_params(project)
    record = load_record(project, params.dataset)
    archive = find_archive(project / "data" / "raw" / params.dataset)
    features = params.preprocess.features
    described = {"dataset": record.name, "license": record.license.id, "features": features.model_dump()}
    plans = plan_shards(read_index(archive), features, described)
    staging = open_staging(project)

    missing = [plan for plan in plans if not _is_whole(_staged(staging, plan))]
    frame_bytes = _frame_bytes((sequence for plan in missing for sequence in plan.sequences), features)
    require_space(staging.root, round(DISK_SHARE * frame_bytes), "spectrograms")
    _make(missing, plans, archive, features, staging, params.preprocess.bad_members_allowed, workers, cluster)

    shards = {plan.name: _staged(staging, plan) for plan in plans}
    report = summarize(shards, load_drums(project), features.frame_rate_hz)
    _check_tolerance(report["skipped"], params.preprocess.bad_members_allowed)
    link_folder(project / "data" / "processed" / params.dataset, shards)
    write_report(project / REPORT_FILE, report)
    read_sequences = sum(len(plan.sequences) for plan in missing)
    return PreprocessResult(len(plans) - len(missing), len(missing), read_sequences, report)


def plan_shards(sequences: list[Sequence], features: FeatureParams, described: dict[str, Any]) -> list[ShardPlan]:
    """Return the shards that these sequences become, sorted by name: by split, kit, and part of at most 48 MiB.

    Args:
        sequences: in archive order, which is also the order within a shard.
        features: parameters of the spectrogram.
        described: what every shard says of the set; becomes attributes and goes into the digests.
    """
    groups: dict[tuple[str, int], list[Sequence]] = {}
    for sequence in sequences:
        groups.setdefault((sequence.split, sequence.kit), []).append(sequence)
    plans = []
    for (split, kit), members in sorted(groups.items(), key=lambda item: (SPLITS.index(item[0][0]), item[0][1])):
        for part, chosen in enumerate(_parts(members, features), start=1):
            suffix = "" if part == 1 else f".{part}"
            attributes = {**described, "split": split, "kit": kit, "kit_name": chosen[0].kit_name, "part": part}
            contents = [asdict(_info(sequence)) for sequence in chosen]
            digest = digest_of({"format_version": FORMAT_VERSION, **attributes, "sequences": contents})
            name = f"{split}/kit-{kit:02d}{suffix}.h5"
            plans.append(ShardPlan(name, digest, {**attributes, "digest": digest}, tuple(chosen)))
    return plans


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
            writer.append(_info(sequence), frames, onsets)
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


def _make(
    missing: list[ShardPlan],
    plans: list[ShardPlan],
    archive: Path,
    features: FeatureParams,
    staging: Staging,
    allowed: int,
    workers: int | None,
    cluster: str | None,
) -> None:
    """Make the missing shards: their slices first, then the shards, then the slices go."""
    everything = sorted((sequence for plan in plans for sequence in plan.sequences), key=lambda one: one.wav)
    slices = _plan_slices(everything, missing, archive, features, staging)
    open_tasks = [task for task in slices if not _holds(task)]
    total = sum(_stored_bytes(task) for task in slices)
    done = total - sum(_stored_bytes(task) for task in open_tasks)
    if open_tasks:
        with progress("spectrograms", total, unit="bytes", done=done) as advance:
            for task, _ in run_tasks(make_slice, open_tasks, workers=workers, cluster=cluster):
                advance(_stored_bytes(task))
    skipped = {id_: why for task in slices for id_, why in Shard(task.target).attributes["skipped"].items()}
    _check_tolerance(skipped, allowed)

    slice_of = {sequence.id: task.target for task in slices for sequence in task.sequences}
    tasks = []
    for plan in missing:
        sources = dict.fromkeys(slice_of[sequence.id] for sequence in plan.sequences)
        tasks.append(ShardTask(plan, features, tuple(sources), _staged(staging, plan)))
    if tasks:
        with progress("shards", len(tasks), unit="shards") as advance:
            for _ in run_tasks(make_shard, tasks, workers=workers, cluster=cluster):
                advance(1)
    for task in slices:
        task.target.unlink()


def _plan_slices(
    everything: list[Sequence], missing: list[ShardPlan], archive: Path, features: FeatureParams, staging: Staging
) -> list[SliceTask]:
    """Cut the archive into runs of members, and keep of each the sequences that a missing shard needs.

    The cuts and names depend on the whole archive, not on what is missing, so that a run that dies between two
    shards finds its slices again.
    """
    needed = {sequence.id for plan in missing for sequence in plan.sequences}
    stored_bytes = sum(sequence.wav.stored_bytes for sequence in everything)
    smallest, largest = SLICE_BYTES
    limit = min(max(stored_bytes // SLICES, smallest), largest)
    runs: list[list[Sequence]] = [[]]
    run_bytes = 0
    for sequence in everything:
        if run_bytes and run_bytes + sequence.wav.stored_bytes > limit:
            runs.append([])
            run_bytes = 0
        runs[-1].append(sequence)
        run_bytes += sequence.wav.stored_bytes
    tasks = []
    for run in runs:
        chosen = tuple(sequence for sequence in run if sequence.id in needed)
        contents = [asdict(_info(sequence)) for sequence in run]
        digest = digest_of({"format_version": FORMAT_VERSION, "features": features.model_dump(), "run": contents})
        if chosen:
            tasks.append(SliceTask(archive, features, chosen, staging.entry("slices", digest, ".h5")))
    return tasks


def _parts(sequences: list[Sequence], features: FeatureParams) -> list[list[Sequence]]:
    parts: list[list[Sequence]] = [[]]
    used_bytes = 0
    for sequence in sequences:
        frame_bytes = _frame_bytes([sequence], features)
        if parts[-1] and used_bytes + frame_bytes > SHARD_BYTES:
            parts.append([])
            used_bytes = 0
        parts[-1].append(sequence)
        used_bytes += frame_bytes
    return parts


def _info(sequence: Sequence) -> SequenceInfo:
    return SequenceInfo(
        id=sequence.id,
        performance=sequence.performance,
        drummer=sequence.drummer,
        style=sequence.style,
        kit=sequence.kit,
        tempo_bpm=sequence.tempo_bpm,
        wav_crc32=sequence.wav.crc32,
        midi_crc32=sequence.midi.crc32,
    )


def _staged(staging: Staging, plan: ShardPlan) -> Path:
    return staging.entry("shards", plan.digest, ".h5")


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


def _holds(task: SliceTask) -> bool:
    """Return whether the slice of a task is there, undamaged, with every sequence that the task is for."""
    if not _is_whole(task.target):
        return False
    shard = Shard(task.target)
    present = {info.id for info, _, _ in shard.infos()} | set(shard.attributes["skipped"])
    return present >= {sequence.id for sequence in task.sequences}


def _stored_bytes(task: SliceTask) -> int:
    return sum(sequence.wav.stored_bytes for sequence in task.sequences)


def _frame_bytes(sequences: Iterable[Sequence], features: FeatureParams) -> int:
    seconds = sum(sequence.duration_s for sequence in sequences)
    return round(seconds * features.frame_rate_hz * features.mels)


def _check_tolerance(skipped: dict[str, str], allowed: int) -> None:
    if len(skipped) > allowed:
        listed = "\n".join(f"    {reason}" for _, reason in sorted(skipped.items())[:20])
        raise ArchiveError(
            f"{len(skipped)} members of the archive cannot be used",
            expected=f"at most {allowed} (preprocess.bad_members_allowed)",
            got=f"these:\n{listed}",
            next_step="fetch the archive again, or, if its publisher made it so, allow that many in params.yaml",
        )
