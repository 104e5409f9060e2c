"""What preprocessing has to make: shards by split and kit, and the slices of the archive that they come from.

Everything here is a function of the archive's index and the parameters; nothing is read or written.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from backbeat.config import FeatureParams
from backbeat.datasets.egmdtable import SPLITS
from backbeat.drums.egmd import Sequence
from backbeat.drums.shards import FORMAT_VERSION, SequenceInfo
from backbeat.provenance import digest_of
from backbeat.storage.staging import Staging

# One object of at most 48 MiB is one upload and one retried download (DVC's S3 client splits larger ones, without
# retries). Counted before compression, so that it holds whatever the recordings are.
SHARD_BYTES = 48 * 2**20

# Slices: enough of them to keep workers busy, small enough to lose little, large enough to be few.
SLICES = 24
SLICE_BYTES = (2**20, 64 * 2**20)


@dataclass(frozen=True)
class ShardPlan:
    """One shard to be: where it appears, the digest of all that goes into it, what it says of itself."""

    name: str
    digest: str
    attributes: dict[str, Any]
    sequences: tuple[Sequence, ...]

    def staged_in(self, staging: Staging) -> Path:
        """Return where the shard is or will be in the staging store."""
        return staging.entry("shards", self.digest, ".h5")


@dataclass(frozen=True)
class SliceTask:
    """Members to turn into spectrograms, and the file to put them in."""

    archive: Path
    features: FeatureParams
    sequences: tuple[Sequence, ...]
    target: Path

    @property
    def stored_bytes(self) -> int:
        """Bytes of the recordings as they are in the archive."""
        return sum(sequence.wav.stored_bytes for sequence in self.sequences)


@dataclass(frozen=True)
class ShardTask:
    """A shard to collect from slices."""

    plan: ShardPlan
    features: FeatureParams
    slices: tuple[Path, ...]
    target: Path


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
            contents = [asdict(info_of(sequence)) for sequence in chosen]
            digest = digest_of({"format_version": FORMAT_VERSION, **attributes, "sequences": contents})
            name = f"{split}/kit-{kit:02d}{suffix}.h5"
            plans.append(ShardPlan(name, digest, {**attributes, "digest": digest}, tuple(chosen)))
    return plans


def plan_slices(
    plans: list[ShardPlan],
    missing: list[ShardPlan],
    archive: Path,
    features: FeatureParams,
    front_end: str,
    staging: Staging,
) -> list[SliceTask]:
    """Cut the archive into runs of members, and keep of each the sequences that a missing shard needs.

    The cuts and names depend on the whole archive, not on what is missing, so that a run that dies between two
    shards finds its slices again. They also depend on `front_end`, the fingerprint of what computes them.
    """
    everything = sorted((sequence for plan in plans for sequence in plan.sequences), key=lambda one: one.wav)
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
        contents = [asdict(info_of(sequence)) for sequence in run]
        digest = digest_of({"format_version": FORMAT_VERSION, "front_end": front_end, "run": contents})
        if chosen:
            tasks.append(SliceTask(archive, features, chosen, staging.entry("slices", digest, ".h5")))
    return tasks


def _parts(sequences: list[Sequence], features: FeatureParams) -> list[list[Sequence]]:
    parts: list[list[Sequence]] = [[]]
    used_bytes = 0
    for sequence in sequences:
        size_bytes = frame_bytes([sequence], features)
        if parts[-1] and used_bytes + size_bytes > SHARD_BYTES:
            parts.append([])
            used_bytes = 0
        parts[-1].append(sequence)
        used_bytes += size_bytes
    return parts


def info_of(sequence: Sequence) -> SequenceInfo:
    """Return what a shard says of a sequence."""
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


def frame_bytes(sequences: Iterable[Sequence], features: FeatureParams) -> int:
    """Return the size of the spectrograms of these sequences before compression."""
    frames = sum(1 + math.ceil(sequence.duration_s * features.frame_rate_hz) for sequence in sequences)
    return frames * features.mels
