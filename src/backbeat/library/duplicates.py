"""The stage `duplicates`: groups of files that are one sound, and which of each is kept. Nothing is deleted by it.

| tier | what the file has in common with the keeper |
|---|---|
| exact | every byte |
| same_audio | every sample: another name, container, metadata, or the same samples with more bits |
| same_sound | the recording, as it was: resampled, louder or softer, trimmed, with fewer bits |
| near | the recording, worked upon: an equalizer, a codec, saturation, a small room |

The first two follow from the hashes of the scan. For the others the waveforms are compared (`pairs`), and with the
keeper itself: a group is a star (`keeping`). Silence, and what is shorter than a click, has copies in the first two
tiers alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbeat.audio.resemblance import from_bytes
from backbeat.library.keeping import Bond, Row, best_first, reason, stars
from backbeat.library.memo import open_memo
from backbeat.library.pairs import Pair, bond, likenesses, neighbors
from backbeat.library.settings import DuplicateSettings, load_settings
from backbeat.library.tables import DUPLICATES, read_table, write_table

TIERS = ("exact", "same_audio", "same_sound", "near")

# Shorter sounds, of which there are a few in every library by mistake, are all alike.
_SHORTEST_S = 0.004

# Sounds that hang together, of which every pair is compared so that the keeper was compared with all; more of them
# are no copies but one timbre.
_LARGEST_CLUSTER = 64

# Sums of floating-point numbers depend on the order in which a processor takes them.
_DIGITS = 4


@dataclass(frozen=True)
class Grouped:
    """What was found.

    Args:
        groups: how many.
        files: how many files beside the keepers, by tier.
        size_bytes: of these files, by tier.
        pairs: how many waveforms were compared, now or before.
    """

    groups: int
    files: dict[str, int]
    size_bytes: dict[str, int]
    pairs: int


@dataclass(frozen=True)
class _Proof:
    """How two sounds are alike."""

    bond: Bond
    similarity: float
    correlation: float


def duplicates(project: Path, *, workers: int | None = None) -> Grouped:
    """Write `data/library/duplicates.parquet` from the tables `scan`, `descriptors` and `embeddings`.

    Args:
        project: the root of the repository.
        workers: processes. Default: one per processor.

    Raises:
        LibraryError: if one of the tables is not there.
        StorageError: if the disk is full or read-only.
    """
    settings = load_settings(project).duplicates
    scanned = [row for row in read_table(project, "scan").to_pylist() if row["error"] is None]
    described = read_table(project, "descriptors", ["audio_sha256", "leading_silence_s"]).to_pylist()
    silence = {row["audio_sha256"]: row["leading_silence_s"] for row in described}
    files = [{**row, "leading_silence_s": silence.get(row["audio_sha256"])} for row in scanned]
    by_sound: dict[str, list[Row]] = {}
    for row in best_first(files, settings.keeper):
        by_sound.setdefault(row["audio_sha256"], []).append(row)
    proofs, pairs = _proofs(project, by_sound, settings, workers)
    bonds = {frozenset(pair): proof.bond for pair, proof in proofs.items()}
    groups = stars(list(by_sound), bonds)
    rows = list(_rows(by_sound, groups, proofs, settings))
    write_table(project, "duplicates", DUPLICATES, rows)
    sizes = {row["sample"]: row["size_bytes"] for row in files}
    return Grouped(
        groups=sum(row["tier"] == "keeper" for row in rows),
        files={tier: sum(row["tier"] == tier for row in rows) for tier in TIERS},
        size_bytes={tier: sum(sizes[row["sample"]] for row in rows if row["tier"] == tier) for tier in TIERS},
        pairs=pairs,
    )


def _proofs(
    project: Path, by_sound: Mapping[str, Sequence[Row]], settings: DuplicateSettings, workers: int | None
) -> tuple[dict[Pair, _Proof], int]:
    """Return the pairs of sounds that are alike, and how many were compared."""
    best = {sound: rows[0] for sound, rows in by_sound.items()}
    sounds, vectors = _embeddings(project, best)
    at = {sound: number for number, sound in enumerate(sounds)}

    def similarity(pair: Pair) -> float:
        return float(vectors[at[pair[0]]] @ vectors[at[pair[1]]])

    with open_memo(project) as memo:
        found = likenesses(project, sorted(neighbors(sounds, vectors, settings)), best, memo, workers=workers)
        alike = [pair for pair, likeness in found.items() if bond(likeness, settings)]
        # Of a sound with many copies the nearest are not all.
        more = [pair for cluster in _clusters(alike) for pair in combinations(sorted(cluster), 2)]
        found |= likenesses(project, sorted(set(more) - found.keys()), best, memo, workers=workers)
    proofs = {
        pair: _Proof(kind, round(similarity(pair), _DIGITS), round(likeness.correlation, _DIGITS))
        for pair, likeness in found.items()
        if (kind := bond(likeness, settings)) is not None
    }
    return proofs, len(found)


def _embeddings(project: Path, best: Mapping[str, Row]) -> tuple[list[str], NDArray[np.float32]]:
    """Return the sounds that can be compared, and their vectors, shape (sounds, dimensions)."""
    table = read_table(project, "embeddings")
    contents = dict(zip(table["audio_sha256"].to_pylist(), table["embedding"].to_pylist(), strict=True))
    sounds = [
        sound
        for sound, row in sorted(best.items())
        if contents.get(sound) is not None and not row["silent"] and row["duration_s"] >= _SHORTEST_S
    ]
    vectors = [from_bytes(contents[sound]) for sound in sounds]
    return sounds, np.stack(vectors) if vectors else np.zeros((0, 1), np.float32)


def _clusters(pairs: Sequence[Pair]) -> Iterator[set[str]]:
    """Yield the sounds that hang together, three at least."""
    cluster_of: dict[str, set[str]] = {}
    for one, other in pairs:
        smaller, larger = sorted((cluster_of.get(sound, {sound}) for sound in (one, other)), key=len)
        larger |= smaller
        # The smaller one moves, so that a sound does so a few times at most.
        cluster_of.update(dict.fromkeys(smaller, larger))
        cluster_of[one] = cluster_of[other] = larger
    for cluster in {id(cluster): cluster for cluster in cluster_of.values()}.values():
        if 2 < len(cluster) <= _LARGEST_CLUSTER:
            yield cluster


def _rows(
    by_sound: Mapping[str, Sequence[Row]],
    groups: Mapping[str, Mapping[str, Bond]],
    proofs: Mapping[Pair, _Proof],
    settings: DuplicateSettings,
) -> Iterator[dict[str, Any]]:
    members = {sound for group in groups.values() for sound in group}
    alone = [sound for sound, rows in by_sound.items() if len(rows) > 1 and sound not in members]
    keepers = sorted({*groups, *alone}, key=lambda sound: str(by_sound[sound][0]["sample"]))
    for number, sound in enumerate(keepers, 1):
        keeper, *copies = by_sound[sound]
        others: list[tuple[Row, _Proof | None]] = [(row, None) for row in copies]
        for other in groups.get(sound, {}):
            proof = proofs[min(sound, other), max(sound, other)]
            others += [(row, proof) for row in by_sound[other]]
        second = best_first([row for row, _ in others], settings.keeper)[0]
        yield _row(number, keeper, keeper, "keeper", None, reason(keeper, second, settings.keeper))
        for row, shown in others:
            yield _row(number, row, keeper, _tier(row, keeper, shown), shown, reason(keeper, row, settings.keeper))


def _tier(row: Row, keeper: Row, proof: _Proof | None) -> str:
    if proof is not None:
        return proof.bond
    return "exact" if row["file_sha256"] == keeper["file_sha256"] else "same_audio"


def _row(number: int, row: Row, keeper: Row, tier: str, proof: _Proof | None, why: str) -> dict[str, Any]:
    return {
        "sample": row["sample"],
        "group": number,
        "tier": tier,
        "keeper": keeper["sample"],
        "similarity": None if tier == "keeper" else proof.similarity if proof else 1.0,
        "correlation": proof.correlation if proof else None,
        "reason": why,
    }
