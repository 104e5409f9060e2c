"""The benchmarks: what they print is what they promise, and the peers compute what we compute. No time is asserted."""

import json
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from bench import material, peers
from bench.measure import Result, compare

REPOSITORY = Path(__file__).parents[1]
FIELDS = ["question", "case", "ours", "peer", "unit", "ratio", "low", "high", "bar", "met"]


def test_a_ratio_is_the_median_of_its_rounds_and_the_first_does_not_count() -> None:
    ours = iter([100.0, 2.0, 4.0, 12.0])
    result = compare("q", "c", lambda: next(ours), lambda: 2.0, unit="s", bar=2.0, kind="at least", runs=3)
    assert (result.low, result.ratio, result.high) == (1.0, 2.0, 6.0)
    assert result.met


@pytest.mark.parametrize(("kind", "met"), [("at least", False), ("at most", True)])
def test_a_bar_is_held_from_the_right_side(kind: str, met: bool) -> None:
    result = compare("q", "c", lambda: 1.0, lambda: 2.0, unit="s", bar=1.0, kind=kind, runs=1)
    assert result.met is met


def test_ours_and_the_peer_take_turns() -> None:
    turns: list[str] = []
    clock = count(1)

    def figure(name: str) -> float:
        turns.append(name)
        return float(next(clock))

    compare("q", "c", lambda: figure("ours"), lambda: figure("peer"), unit="s", bar=1.0, kind="at least", runs=2)
    assert turns == ["ours", "peer"] * 3


def test_the_report_in_the_repository_has_every_field_of_every_row() -> None:
    rows = json.loads((REPOSITORY / "reports" / "benchmarks.json").read_text())
    assert rows
    for row in rows:
        assert list(row) == FIELDS == list(Result.__dataclass_fields__)
        assert row["low"] <= row["ratio"] <= row["high"]
        assert isinstance(row["met"], bool)


def test_torchaudio_computes_what_we_compute() -> None:
    from backbeat.audio.logmel import LogMel

    params = material.features()
    logmel = LogMel(params)
    sound = np.random.default_rng(1).normal(0, 0.1, 40_000).astype(np.float32)
    peer = peers.TorchaudioLogmel(params)(sound).clip(params.floor_db, None)
    assert np.abs(logmel.decibels(logmel(sound)) - peer).max() <= params.step_db / 2 + 0.01


def test_an_archive_to_measure_on_is_deflated_like_the_real_one(tmp_path: Path) -> None:
    from backbeat.datasets.archives import list_members

    archive = material.deflated_mini(tmp_path / "archive.zip", 1.5, (1,))
    members = list_members(archive).values()
    assert sum(member.stored_bytes for member in members) < sum(member.size_bytes for member in members)
