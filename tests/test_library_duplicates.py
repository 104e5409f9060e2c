"""Duplicates: every planted copy is found and nothing else; of each group the best file is kept, and it says why."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from backbeat.audio.resemblance import embedding, to_bytes
from backbeat.cli.app import app
from backbeat.errors import LibraryError
from backbeat.library import pairs
from backbeat.library.duplicates import TIERS, Grouped, _clusters, duplicates
from backbeat.library.generated import generate, truth_path
from backbeat.library.generated.copies import KINDS
from backbeat.library.generated.loops import Loop, play_loop
from backbeat.library.keeping import best_first, reason, stars
from backbeat.library.scan import scan
from backbeat.library.settings import KeeperRule
from backbeat.library.sources import read_samples
from backbeat.library.tables import DESCRIPTORS_TABLE, EMBEDDINGS, read_table, table_path, write_table
from library_sources import library_project, noise, rows_of, sound, stored, write

RULES: tuple[KeeperRule, ...] = get_args(KeeperRule)


def scanned(project: Path, workers: int | None = 1) -> Path:
    """Scan, and write the embeddings as `describe` does; of what is described, that nothing has silence at its head."""
    scan(project, workers=workers)
    rows = {row["audio_sha256"]: row for row in read_table(project, "scan").to_pylist() if row["error"] is None}
    embeddings = []
    for row, content in read_samples(project, rows.values()):
        assert isinstance(content, bytes)
        samples, rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
        vector = embedding(samples.mean(axis=1), rate)
        embeddings.append({"audio_sha256": row["audio_sha256"], "embedding": to_bytes(vector)})
    write_table(project, "embeddings", EMBEDDINGS, embeddings)
    write_table(
        project, "descriptors", DESCRIPTORS_TABLE, [{"audio_sha256": sound, "leading_silence_s": 0.0} for sound in rows]
    )
    return project


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scanned library of 240 generated files, beside it the truth; the duplicates have been looked for."""
    folder = tmp_path_factory.mktemp("library")
    generate(folder / "samples", 240, seed=3, workers=1)
    project = scanned(library_project(folder / "project", kits=str(folder / "samples")))
    duplicates(project, workers=1)
    return project


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A library without a file."""
    (tmp_path / "samples").mkdir()
    return library_project(tmp_path / "project", kits=str(tmp_path / "samples"))


def truth_of(project: Path) -> dict[str, dict[str, Any]]:
    truth = json.loads(truth_path(project.parent / "samples").read_text(encoding="utf-8"))
    return {f"kits/{path}": fact for path, fact in truth.items()}


def recall_and_precision(project: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Return, by kind of copy, how many are in the group of their original; by tier, how many belong where they are."""
    truth, found = truth_of(project), rows_of(project, "duplicates")
    group = {sample: row["group"] for sample, row in found.items()}
    family = {
        sample: sample if fact["duplicate_of"] is None else f"kits/{fact['duplicate_of']}"
        for sample, fact in truth.items()
    }
    planted, hit, tiers, right = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    for sample, fact in truth.items():
        if kind := fact["duplicate_kind"]:
            planted[kind] += 1
            hit[kind] += sample in group and group[sample] == group.get(family[sample])
    for sample, row in found.items():
        tiers[row["tier"]] += 1
        right[row["tier"]] += family[sample] == family[row["keeper"]]
    return (
        {kind: hit[kind] / planted[kind] for kind in KINDS},
        {tier: right[tier] / tiers[tier] for tier in TIERS if tiers[tier]},
    )


# --- What is found ---------------------------------------------------------------------------------------------------


def test_planted_copies_of_every_kind_are_found_and_nothing_else(library: Path) -> None:
    recall, precision = recall_and_precision(library)
    assert recall == dict.fromkeys(KINDS, 1.0)
    assert {tier: precision[tier] for tier in TIERS if tier != "near"} == dict.fromkeys(TIERS[:3], 1.0)
    # Of half a dozen one may be another.
    assert precision["near"] >= 0.8


@pytest.mark.slow
def test_of_a_large_library_too(tmp_path: Path) -> None:
    generate(tmp_path / "samples", 7_284, seed=17)
    project = scanned(library_project(tmp_path / "project", kits=str(tmp_path / "samples")), workers=None)
    duplicates(project)
    recall, precision = recall_and_precision(project)
    assert min(recall[kind] for kind in KINDS if kind != "near") >= 0.99, recall
    assert min(precision[tier] for tier in TIERS if tier != "near") >= 0.99, precision
    assert recall["near"] >= 0.9
    assert precision["near"] >= 0.9


def test_the_tier_says_what_was_done(library: Path) -> None:
    truth, found = truth_of(library), rows_of(library, "duplicates")
    allowed = {"exact": {"exact"}, "same_audio": {"same_audio"}, "near": {"near", "same_sound"}}
    for sample, row in found.items():
        kind = truth[sample]["duplicate_kind"]
        if row["tier"] != "keeper" and kind and row["keeper"] == f"kits/{truth[sample]['duplicate_of']}":
            assert row["tier"] in allowed.get(kind, {"same_sound"}), (sample, kind)


def test_every_group_has_one_keeper_that_its_members_were_compared_with(library: Path) -> None:
    found = rows_of(library, "duplicates")
    keepers = {row["group"]: sample for sample, row in found.items() if row["tier"] == "keeper"}
    assert sorted(keepers) == list(range(1, len(keepers) + 1))
    for row in found.values():
        assert row["keeper"] == keepers[row["group"]]
        assert (row["correlation"] is not None) == (row["tier"] in {"same_sound", "near"})
        assert row["reason"]


def test_a_second_run_compares_nothing_and_writes_the_same(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = table_path(library, "duplicates").read_bytes()
    monkeypatch.setattr(pairs, "compare", None)
    duplicates(library, workers=1)
    assert table_path(library, "duplicates").read_bytes() == before


def test_two_workers_write_what_one_does(tmp_path: Path) -> None:
    generate(tmp_path / "samples", 40, seed=6, workers=1)
    written = []
    for workers in (1, 2):
        project = scanned(library_project(tmp_path / str(workers), kits=str(tmp_path / "samples")), workers=workers)
        assert duplicates(project, workers=workers).groups > 2
        written.append([table_path(project, name).read_bytes() for name in ("scan", "duplicates")])
    assert written[0] == written[1]


def test_nothing_is_left_beside_the_memo(library: Path) -> None:
    left = [path.name for path in (library / ".dvc/cache/staging/library").iterdir()]
    assert {name.split("-")[0] for name in left} <= {"memo.sqlite"}


# --- Small libraries -------------------------------------------------------------------------------------------------


def test_silence_has_no_copies_but_silence_of_its_length(project: Path, tmp_path: Path) -> None:
    lengths = {"a.wav": 1_000, "b.wav": 1_000, "c.wav": 2_000}
    write(tmp_path / "samples", {name: stored(np.zeros((frames, 1))) for name, frames in lengths.items()})
    duplicates(scanned(project), workers=1)
    assert {sample: row["tier"] for sample, row in rows_of(project, "duplicates").items()} == {
        "kits/a.wav": "keeper",
        "kits/b.wav": "exact",
    }


def test_what_is_too_soft_to_be_heard_and_a_part_of_a_loop_have_no_copies(project: Path, tmp_path: Path) -> None:
    hiss = noise(1) * 2e-4
    loop = play_loop(Loop("house", 3, 124, 2), 44_100)[:, None]
    files = {"hiss.wav": hiss, "softer.wav": hiss / 2, "loop.wav": loop, "bar.wav": loop[: len(loop) // 2]}
    write(tmp_path / "samples", {name: stored(samples, "PCM_24") for name, samples in files.items()})
    assert duplicates(scanned(project), workers=1).groups == 0


def test_what_was_not_there_to_be_compared_is_compared_by_the_next_run(project: Path, tmp_path: Path) -> None:
    original = noise(1, frames=20_000)
    write(tmp_path / "samples", {"one.wav": stored(original), "softer.wav": stored(original / 2, "PCM_24")})
    scanned(project)
    write(tmp_path / "samples", {"softer.wav": sound(2, frames=20_000)})
    assert duplicates(project, workers=1).groups == 0
    write(tmp_path / "samples", {"softer.wav": stored(original / 2, "PCM_24")})
    assert duplicates(project, workers=1).files["same_sound"] == 1


def test_sounds_that_hang_together_are_one_cluster_in_whatever_order_the_pairs_come() -> None:
    chain = [(f"a{at:02d}", f"a{at + 1:02d}") for at in range(20)]
    pairs_of = [*chain[::2], ("b", "c"), ("d", "e"), ("e", "f"), *chain[1::2], ("a00", "a20")]
    assert sorted(map(sorted, _clusters(pairs_of))) == [[f"a{at:02d}" for at in range(21)], ["d", "e", "f"]]
    assert not list(_clusters([(f"{at}", f"{at + 1}") for at in range(100_000)]))  # more than are ever copies


def test_an_empty_library_has_no_groups(project: Path) -> None:
    assert duplicates(scanned(project), workers=1) == Grouped(0, dict.fromkeys(TIERS, 0), dict.fromkeys(TIERS, 0), 0)


def test_without_a_scan_it_says_what_to_do(project: Path) -> None:
    with pytest.raises(LibraryError, match=r"scan\.parquet is not there"):
        duplicates(project, workers=1)


def test_the_command_counts_what_it_found(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "samples", {"a.wav": sound(1), "b.wav": sound(1), "c.flac": sound(1, kind="FLAC")})
    scanned(project)
    monkeypatch.chdir(project)
    result = CliRunner().invoke(app, ["library", "duplicates", "--workers", "1"])
    assert result.exit_code == 0, result.output
    assert "1 groups" in result.stdout
    rows = rows_of(project, "duplicates")
    assert [rows[f"kits/{name}"]["tier"] for name in ("a.wav", "b.wav", "c.flac")] == ["keeper", "exact", "same_audio"]
    assert rows["kits/c.flac"]["reason"] == "WAV over FLAC"


# --- Which is kept ---------------------------------------------------------------------------------------------------

PLAIN: dict[str, Any] = {
    "sample": "kits/b.wav",
    "used_bits": 16,
    "bit_depth": 16,
    "subtype": "PCM_16",
    "sample_rate_hz": 44_100,
    "duration_s": 1.0,
    "clipped_samples": 0,
    "format": "WAV",
    "peak_db": -9.0,
}


@pytest.mark.parametrize(
    ("better", "words"),
    [
        ({"used_bits": 24, "bit_depth": 24}, "24 bit over 16 bit"),
        ({"sample_rate_hz": 48_000}, "48 kHz over 44.1 kHz"),
        ({"duration_s": 1.5}, "1.5 s of sound over 1 s"),
        ({"duration_s": 1.5, "leading_silence_s": 0.2}, "1.3 s of sound over 1 s"),
        ({"peak_db": -1.0}, "a peak of -1 dB over -9 dB"),
        ({"sample": "kits/a.wav"}, "the same quality; the first by name"),
    ],
)
def test_the_better_file_is_kept_and_the_reason_says_why(better: dict[str, Any], words: str) -> None:
    other = {**PLAIN, **better}
    assert best_first([PLAIN, other], RULES)[0] == other
    assert reason(other, PLAIN, RULES) == words


@pytest.mark.parametrize(
    ("worse", "words"),
    [
        ({"clipped_samples": 12}, "0 clipped samples over 12"),
        ({"format": "FLAC"}, "WAV over FLAC"),
        ({"duration_s": 1.2, "leading_silence_s": 0.2}, "0 s of silence before it, not 0.2 s"),
        ({"used_bits": None, "bit_depth": None, "subtype": "VORBIS", "format": "OGG"}, "16 bit over Vorbis"),
        ({"used_bits": 8, "bit_depth": 24}, "16 bit over 8 bit"),
    ],
)
def test_what_is_worse_goes_whatever_its_name(worse: dict[str, Any], words: str) -> None:
    other = {**PLAIN, "sample": "kits/a.wav", **worse}
    assert best_first([other, PLAIN], RULES)[0] == PLAIN
    assert reason(PLAIN, other, RULES) == words


def test_the_order_of_the_rules_is_that_of_the_settings() -> None:
    long, deep = {**PLAIN, "duration_s": 2.0}, {**PLAIN, "used_bits": 24}
    assert best_first([long, deep], ("bit_depth", "sounding_s", "path"))[0] == deep
    assert best_first([long, deep], ("sounding_s", "bit_depth", "path"))[0] == long


def bonds(*pairs: str, near: Sequence[str] = ()) -> dict[frozenset[str], Any]:
    return {
        **{frozenset(pair): "same_sound" for pair in pairs},
        **{frozenset(pair): "near" for pair in near},
    }


def test_a_chain_is_cut_where_the_keeper_was_not_shown_to_be_the_same() -> None:
    assert stars("ABC", bonds("AB", "BC")) == {"A": {"B": "same_sound"}}
    assert stars("BAC", bonds("AB", "BC")) == {"B": {"A": "same_sound", "C": "same_sound"}}


def test_a_group_goes_into_another_only_with_all_of_its_members() -> None:
    assert stars("ABC", bonds("BC", near=["AB"])) == {"B": {"C": "same_sound"}}
    assert stars("ABC", bonds("BC", near=["AB", "AC"])) == {"A": {"B": "near", "C": "near"}}
    assert stars("ABC", bonds(near=["AB", "BC"])) == {"A": {"B": "near"}}
