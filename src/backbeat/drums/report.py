"""What preprocessing found, counted from the shards themselves: `reports/preprocess.json`."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from backbeat.drums.classes import DrumTable
from backbeat.drums.shards import Shard
from backbeat.provenance import digest_of
from backbeat.storage.staging import new_file


def summarize(shards: dict[str, Path], drums: DrumTable, frame_rate_hz: float) -> dict[str, Any]:
    """Return counts by split and kit, every pitch that `configs/drums.yaml` does not know, and what was skipped.

    Args:
        shards: name under `data/processed/<dataset>/` -> file.
        drums: the table of known pitches.
        frame_rate_hz: frames per second.
    """
    splits: dict[str, Counter[str]] = {}
    kits: dict[int, dict[str, Any]] = {}
    skipped: dict[str, str] = {}
    attributes: dict[str, Any] = {}
    digests = {}
    for name, path in shards.items():
        shard = Shard(path)
        attributes = shard.attributes
        digests[name] = [attributes["digest"], sorted(attributes["skipped"])]
        skipped.update(attributes["skipped"])
        split = splits.setdefault(attributes["split"], Counter())
        split.update(
            shards=1,
            sequences=len(shard.sequences),
            frames=shard.frames,
            onsets=len(shard.onset_table),
            bytes=path.stat().st_size,
        )
        kit = kits.setdefault(attributes["kit"], {"name": attributes["kit_name"], "sequences": 0, "pitches": Counter()})
        kit["sequences"] += len(shard.sequences)
        kit["pitches"].update(dict(zip(*np.unique(shard.onset_table["pitch"], return_counts=True), strict=True)))
    totals: Counter[str] = sum(splits.values(), Counter())
    return {
        "dataset": attributes["dataset"],
        "license": attributes["license"],
        "format_version": attributes["format_version"],
        "features": attributes["features"],
        "digest": digest_of(digests),
        "totals": _with_rates(totals, frame_rate_hz),
        "splits": {name: _with_rates(counts, frame_rate_hz) for name, counts in splits.items()},
        "kits": {str(number): _kit_row(kit, drums) for number, kit in sorted(kits.items())},
        "skipped": dict(sorted(skipped.items())),
    }


def write_report(path: Path, report: dict[str, Any]) -> None:
    """Write a report as indented JSON, complete or not at all."""
    with new_file(path) as part:
        part.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _with_rates(counts: Counter[str], frame_rate_hz: float) -> dict[str, Any]:
    hours = counts["frames"] / frame_rate_hz / 3600
    bytes_per_frame = counts["bytes"] / max(counts["frames"], 1)
    return {**counts, "hours": round(hours, 4), "bytes_per_frame": round(bytes_per_frame, 2)}


def _kit_row(kit: dict[str, Any], drums: DrumTable) -> dict[str, Any]:
    pitches = {int(pitch): int(count) for pitch, count in sorted(kit["pitches"].items())}
    unmapped = {str(pitch): count for pitch, count in pitches.items() if pitch not in drums.pitches}
    return {
        "name": kit["name"],
        "sequences": kit["sequences"],
        "pitches": {str(pitch): count for pitch, count in pitches.items()},
        "unmapped_pitches": unmapped,
    }
