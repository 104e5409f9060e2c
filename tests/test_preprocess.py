"""The stage `preprocess`: an archive in, shards out, the same bytes however they come about, and no work done twice."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from backbeat.audio.logmel import LogMel
from backbeat.audio.read import mono_blocks
from backbeat.config import load_params
from backbeat.drums import plan
from backbeat.drums import preprocess as stage
from backbeat.drums.midi import read_onsets
from backbeat.drums.plan import SHARD_BYTES
from backbeat.drums.preprocess import REPORT_FILE, preprocess
from backbeat.drums.shards import Shard
from backbeat.errors import ConfigError
from small_project import (
    FIRST,
    FIRST_MIDI,
    FIRST_WAV,
    PERFORMANCES,
    REPOSITORY,
    ROOT,
    TABLE,
    Performance,
    archive_of,
    contents_of,
    leftovers,
    midi,
    new_project,
    processed,
    rows_of,
    set_params,
    staged,
    table_of,
    write_zip,
)

# Three splits of each kit.
SHARDS = [f"{split}/kit-{kit:02d}.h5" for split in ("test", "train", "validation") for kit in (1, 2)]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that is preprocessed; not to be changed."""
    project = new_project(tmp_path_factory.mktemp("done") / "project")
    preprocess(project, workers=1)
    return project


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of one's own, preprocessed."""
    project = new_project(tmp_path / "project")
    preprocess(project, workers=1)
    return project


def shard_of(project: Path, name: str) -> Shard:
    return Shard(project / "data" / "processed" / "small" / name)


def report_of(project: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((project / REPORT_FILE).read_text(encoding="utf-8"))
    return loaded


# --- What comes out --------------------------------------------------------------------------------------------------


def test_every_split_and_kit_is_a_shard(done: Path) -> None:
    assert list(processed(done)) == SHARDS


def test_shards_are_links_into_the_staging_store(done: Path) -> None:
    links = {path.readlink() for path in (done / "data/processed/small").rglob("*.h5")}
    assert links == set(staged(done, "shards"))


def test_frames_are_the_spectrogram_of_the_recording(done: Path) -> None:
    features = load_params(done).preprocess.features
    expected = LogMel(features).all_frames(mono_blocks(contents_of()[FIRST_WAV], "wav", features.sample_rate_hz))
    shard = shard_of(done, "train/kit-01.h5")
    infos = {info.id: (first, count) for info, first, count in shard.infos()}
    np.testing.assert_array_equal(shard.read(*infos[FIRST]), expected)


def test_onsets_are_those_of_the_midi_file(done: Path) -> None:
    shard = shard_of(done, "train/kit-01.h5")
    index = [info.id for info, _, _ in shard.infos()].index(FIRST)
    np.testing.assert_array_equal(shard.onsets(index).onset_s, read_onsets(contents_of()[FIRST_MIDI]).onset_s)


def test_sequences_are_in_the_order_of_the_archive(done: Path) -> None:
    ids = [info.id for info, _, _ in shard_of(done, "train/kit-02.h5").infos()]
    assert ids == [performance.stem(2) for performance in PERFORMANCES if performance.split == "train"]


def test_recording_of_another_rate_lines_up_with_the_others(tmp_path: Path) -> None:
    project = new_project(tmp_path / "project", contents_of((1, 10)))
    preprocess(project, workers=1)
    assert shard_of(project, "train/kit-10.h5").frames == shard_of(project, "train/kit-01.h5").frames


def test_shard_says_where_it_belongs(done: Path) -> None:
    attributes = shard_of(done, "validation/kit-02.h5").attributes
    names = ("dataset", "license", "split", "kit", "kit_name", "part", "skipped")
    expected = ("small", "CC0-1.0", "validation", 2, "Studio (Live Room)", 1, {})
    assert tuple(attributes[name] for name in names) == expected


def test_shard_says_how_it_was_made_and_nothing_else(done: Path) -> None:
    attributes = shard_of(done, "test/kit-01.h5").attributes
    assert attributes["features"] == load_params(done).preprocess.features.model_dump()
    assert set(attributes) == {
        "format", "format_version", "dataset", "license", "features", "front_end", "digest", "split", "kit",
        "kit_name", "part", "skipped",
    }  # fmt: skip


def test_shard_is_staged_under_the_digest_that_it_says(done: Path) -> None:
    assert {Shard(path).attributes["digest"] for path in staged(done, "shards")} == {
        path.stem for path in staged(done, "shards")
    }


def test_nothing_else_is_left(done: Path) -> None:
    assert leftovers(done) == []


# --- The report ------------------------------------------------------------------------------------------------------


def test_report_counts_what_is_in_the_shards(done: Path) -> None:
    totals = report_of(done)["totals"]
    contents = processed(done)
    assert (totals["shards"], totals["sequences"], totals["onsets"], totals["bytes"]) == (
        6, 8, 2 * sum(len(performance.pitches) for performance in PERFORMANCES), sum(map(len, contents.values())),
    )  # fmt: skip


def test_report_counts_each_split(done: Path) -> None:
    assert {split: row["sequences"] for split, row in report_of(done)["splits"].items()} == {
        "train": 4, "validation": 2, "test": 2,
    }  # fmt: skip


def test_report_is_that_of_the_result(project: Path) -> None:
    assert preprocess(project, workers=1).report == report_of(project)


def test_report_is_the_same_on_any_machine(done: Path, project: Path) -> None:
    assert (done / REPORT_FILE).read_bytes() == (project / REPORT_FILE).read_bytes()


def test_pitch_that_no_class_has_is_counted_by_kit(tmp_path: Path) -> None:
    odd = Performance(3, 1, "train", 1.0, pitches=(36, 81, 38, 81))
    project = new_project(tmp_path / "project", contents_of((1, 2), [*PERFORMANCES, odd]))
    kits = preprocess(project, workers=1).report["kits"]
    assert {number: kit["unmapped_pitches"] for number, kit in kits.items()} == {"1": {"81": 2}, "2": {"81": 2}}


def test_pitches_that_classes_have_are_counted_as_well(done: Path) -> None:
    assert report_of(done)["kits"]["1"]["pitches"] == {"36": 4, "38": 4, "42": 4, "46": 4}
    assert report_of(done)["kits"]["1"]["unmapped_pitches"] == {}


# --- The same bytes --------------------------------------------------------------------------------------------------


def test_two_workers_make_the_bytes_of_one(done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "SLICE_BYTES", (1, 1))  # a slice for every recording: work for both
    project = new_project(tmp_path / "project")
    preprocess(project, workers=2)
    assert processed(project) == processed(done)


@pytest.mark.parametrize("slice_bytes", [1, 100_000, 10**9])
def test_slices_have_no_say_in_the_bytes(
    slice_bytes: int, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "SLICE_BYTES", (slice_bytes, slice_bytes))
    project = new_project(tmp_path / "project")
    preprocess(project, workers=1)
    assert processed(project) == processed(done)


def test_other_kits_have_no_say_in_the_bytes(done: Path, tmp_path: Path) -> None:
    project = new_project(tmp_path / "project", contents_of((2,)))
    preprocess(project, workers=1)
    assert processed(project) == {name: content for name, content in processed(done).items() if "kit-02" in name}


def test_compression_of_the_archive_has_no_say_in_the_bytes(done: Path, tmp_path: Path) -> None:
    project = new_project(tmp_path / "project")
    with zipfile.ZipFile(archive_of(project), "w", zipfile.ZIP_STORED) as archive:
        for name, content in contents_of().items():
            archive.writestr(name, content)
    preprocess(project, workers=1)
    assert processed(project) == processed(done)


# --- The cost of a change --------------------------------------------------------------------------------------------


def test_nothing_changed_is_nothing_made(project: Path) -> None:
    result = preprocess(project, workers=1)
    assert (result.reused, result.made, result.read_sequences) == (6, 0, 0)


def test_one_kit_more_makes_the_shards_of_that_kit(project: Path) -> None:
    write_zip(archive_of(project), contents_of((1, 2, 10)))
    result = preprocess(project, workers=1)
    assert (result.reused, result.made, result.read_sequences) == (6, 3, len(PERFORMANCES))


def test_one_kit_more_reads_only_that_kit(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_zip(archive_of(project), contents_of((1, 2, 10)))
    read: list[str] = []
    read_member = stage.read_member

    def watched(archive: Path, member: Any) -> bytes:
        read.append(member.name)
        return read_member(archive, member)

    monkeypatch.setattr(stage, "read_member", watched)
    preprocess(project, workers=1)
    expected = {f"{ROOT}/{performance.stem(10)}.{kind}" for performance in PERFORMANCES for kind in ("wav", "midi")}
    assert set(read) == expected


def test_one_kit_more_is_what_a_run_from_nothing_makes(project: Path, tmp_path: Path) -> None:
    write_zip(archive_of(project), contents_of((1, 2, 10)))
    preprocess(project, workers=1)
    fresh = new_project(tmp_path / "fresh", contents_of((1, 2, 10)))
    preprocess(fresh, workers=1)
    assert processed(project) == processed(fresh)


def test_kit_that_is_gone_is_gone(project: Path) -> None:
    write_zip(archive_of(project), contents_of((2,)))
    result = preprocess(project, workers=1)
    assert (result.made, list(processed(project))) == (0, [name for name in SHARDS if "kit-02" in name])


def test_one_recording_changed_makes_its_shard(project: Path) -> None:
    write_zip(archive_of(project), contents_of() | {FIRST_WAV: contents_of()[FIRST_WAV][:-2] + b"\x01\x00"})
    result = preprocess(project, workers=1)
    assert (result.reused, result.made, result.read_sequences) == (5, 1, 2)


def test_one_midi_file_changed_makes_its_shard(project: Path) -> None:
    write_zip(archive_of(project), contents_of() | {FIRST_MIDI: midi((36, 42, 38, 22))})
    assert preprocess(project, workers=1).made == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mels", 64),
        ("hop_samples", 512),
        ("low_hz", 40.0),
        ("high_hz", 15_000.0),
        ("floor_db", -90.0),
        ("step_db", 0.6),
    ],
)
def test_changed_feature_makes_every_shard(name: str, value: float, project: Path) -> None:
    set_params(project, **{name: value})
    result = preprocess(project, workers=1)
    assert (result.reused, result.made) == (0, 6)


def test_feature_changed_back_finds_what_was_made(project: Path) -> None:
    before = processed(project)
    set_params(project, mels=64)
    preprocess(project, workers=1)
    set_params(project, mels=80)
    assert (preprocess(project, workers=1).made, processed(project)) == (0, before)


def test_front_end_that_computes_something_else_makes_every_shard(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quantize = LogMel._quantize
    monkeypatch.setattr(LogMel, "_quantize", lambda self, power: quantize(self, power * np.float32(2)))
    assert preprocess(project, workers=1).made == 6


def test_changed_class_map_makes_nothing(project: Path) -> None:
    path = project / "configs" / "drums.yaml"
    drums = yaml.safe_load(path.read_text(encoding="utf-8"))
    del drums["class_maps"]["fine14"]
    path.write_text(yaml.safe_dump(drums, sort_keys=False))
    assert preprocess(project, workers=1).made == 0


def test_changed_training_makes_nothing(project: Path) -> None:
    set_train(project, learning_rate=0.5)
    assert preprocess(project, workers=1).made == 0


def test_changed_license_text_makes_nothing(project: Path) -> None:
    path = project / "configs" / "datasets" / "small.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("note: null", "note: A note.", 1))
    assert preprocess(project, workers=1).made == 0


# --- Shards of at most 48 MiB ----------------------------------------------------------------------------------------


def test_shard_is_smaller_than_what_is_sent_in_one_request() -> None:
    assert SHARD_BYTES < 50_000_000 * 1.024 < 50 * 2**20


@pytest.mark.parametrize("limit", [3_000, 18_480, 25_000, 25_040, 40_000])
def test_shard_ends_before_the_limit_and_goes_on_in_the_next(
    limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "SHARD_BYTES", limit)
    performances = [
        Performance(1, number, "train", seconds) for number, seconds in enumerate([2.3, 0.8, 1.1, 0.4, 0.3])
    ]
    project = new_project(tmp_path / "project", contents_of((1,), performances))
    preprocess(project, workers=1)
    names = ["train/kit-01.h5", *(f"train/kit-01.{part}.h5" for part in range(2, 9))]
    found = [shard_of(project, name) for name in names if name in processed(project)]
    assert (len(found), [shard.attributes["part"] for shard in found]) == (
        len(processed(project)),
        [*range(1, len(found) + 1)],
    )
    assert [info.id for shard in found for info, _, _ in shard.infos()] == [one.stem(1) for one in performances]
    # A sequence is never cut: only one that is too long by itself may make a shard too long.
    assert [shard for shard in found if shard.frames * shard.mels > limit and len(shard.sequences) > 1] == []


def test_parts_are_as_few_as_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "SHARD_BYTES", (231 + 81) * 80)
    project = new_project(tmp_path / "project", contents_of((1,)))
    preprocess(project, workers=1)
    assert "train/kit-01.2.h5" not in processed(project)
    monkeypatch.setattr(plan, "SHARD_BYTES", (231 + 81) * 80 - 1)
    preprocess(project, workers=1)
    assert "train/kit-01.2.h5" in processed(project)


# --- What it needs ---------------------------------------------------------------------------------------------------


def test_dataset_that_nobody_registered_is_refused(project: Path) -> None:
    set_params(project, dataset="large")
    with pytest.raises(ConfigError, match="unknown dataset large"):
        preprocess(project, workers=1)


def test_table_decides_about_splits(project: Path) -> None:
    contents = contents_of()
    rows = [{**row, "split": "test"} for row in rows_of(contents)]
    write_zip(archive_of(project), contents | {TABLE: table_of(rows)})
    preprocess(project, workers=1)
    assert list(processed(project)) == ["test/kit-01.h5", "test/kit-02.h5"]


def test_params_of_the_repository_are_what_these_tests_run_with(done: Path) -> None:
    assert load_params(done).preprocess == load_params(REPOSITORY).preprocess


def set_train(project: Path, **changes: Any) -> None:
    path = project / "params.yaml"
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    values["train"] |= changes
    path.write_text(yaml.safe_dump(values, sort_keys=False))
