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
    from backbeat.datasets.packed.archives import list_members

    archive = material.deflated_mini(tmp_path / "archive.zip", 1.5, (1,))
    members = list_members(archive).values()
    assert sum(member.stored_bytes for member in members) < sum(member.size_bytes for member in members)


def test_librosa_computes_what_we_compute() -> None:
    pytest.importorskip("librosa", reason="needs the extra [bench]")
    from backbeat.audio.logmel import LogMel

    params = material.features()
    logmel = LogMel(params)
    sound = np.random.default_rng(1).normal(0, 0.1, 40_000).astype(np.float32)
    peer = peers.librosa_logmel(sound, params).clip(params.floor_db, None)
    assert np.abs(logmel.decibels(logmel(sound)) - peer).max() <= params.step_db / 2 + 0.01


def test_a_repeated_archive_has_every_recording_as_often(tmp_path: Path) -> None:
    from backbeat.drums.egmd import read_index

    once = material.deflated_mini(tmp_path / "once.zip", 1.5, (1,))
    twice = material.repeated(tmp_path / "twice.zip", once, 2)
    crcs = [sequence.wav.crc32 for sequence in read_index(once)]
    assert [sequence.wav.crc32 for sequence in read_index(twice)] == crcs * 2


def test_every_reader_finds_the_same_window(tmp_path: Path) -> None:
    import h5py

    from backbeat.audio.logmel import LogMel
    from backbeat.drums.shards import Shard

    params = material.features()
    logmel = LogMel(params)
    rng = np.random.default_rng(2)
    sounds = [rng.normal(0, 0.1, 4 * params.sample_rate_hz).astype(np.float32) for _ in range(2)]
    values = [logmel(sound) for sound in sounds]
    ours = Shard(material.shard_of(tmp_path / "ours.h5", values)).read(len(values[0]) + 150, 200)
    expected = logmel.decibels(ours)
    spectrograms = [logmel.decibels(one) for one in values]
    peers.write_gzip_hdf5(tmp_path / "peer.h5", spectrograms)
    with h5py.File(tmp_path / "peer.h5") as file:
        np.testing.assert_array_equal(file["1"][150:350], expected)
    files = peers.write_wavs(tmp_path / "wavs", sounds, params)
    found = peers.WavWindows(files, params, 200)(1, 150)
    # A frame more, because both ends are centered; the outermost ones see the edge of what was read, others 16 bits.
    np.testing.assert_allclose(found[5:195], expected[5:195], atol=params.step_db)


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_stream_brings_windows_of_every_recording(tmp_path: Path) -> None:
    # It does not close the tar.
    pytest.importorskip("webdataset", reason="needs the extra [bench]")
    spectrograms = [np.full((1_000, 3), index, np.float32) for index in range(4)]
    peers.write_webdataset(tmp_path / "peer.tar", spectrograms)
    for cut, fewest in ((peers.one_window, 1), (peers.every_window, 3)):
        windows = list(peers.stream_webdataset(tmp_path / "peer.tar", 200, cut))
        assert {window.shape for window in windows} == {(200, 3)}
        counts = [sum(float(window[0, 0]) == index for window in windows) for index in range(4)]
        assert min(counts) >= fewest


@pytest.mark.slow
def test_what_is_pulled_is_what_rclone_copies(tmp_path: Path) -> None:
    from bench.pulls import COMMANDS, pulls

    # Every round compares the bytes by itself.
    results = list(pulls(tmp_path, 1, cases=[(2, 1_000, True)]))
    assert [result.question for result in results] == ["pull"] * len(COMMANDS)
