"""Folders of takes as archives: what goes in comes out, and what cannot be packed is said, all of it at once."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from typer.testing import CliRunner

from backbeat.cli import datasets as commands
from backbeat.datasets.download import download
from backbeat.datasets.new import Description
from backbeat.datasets.packed.archives import list_members, read_member
from backbeat.datasets.registry import load_record
from backbeat.drums.classes import load_drums
from backbeat.drums.egmd import Sequence, read_index
from backbeat.drums.midi import read_onsets
from backbeat.drums.pack import Packed, pack
from backbeat.drums.preprocess import preprocess
from backbeat.drums.shards import Shard
from backbeat.drums.taketables import TakesError, pitch_of_label
from backbeat.errors import BackbeatError, ConfigError
from small_project import midi, set_params, wav

REPOSITORY = Path(__file__).parents[1]
MINE = Description("My takes", "CC0-1.0", commercial=True, redistribute=True)

# A tick of 1/960 s is off by half of it at most; the rest is four decimals in the table and single precision.
CSV_ROUNDING_S = 0.5 / 960 + 0.0001


def new_project(folder: Path) -> Path:
    """Make a folder a project without datasets."""
    for name in (".dvc/config", "params.yaml", "data/dvc.yaml", "configs/drums.yaml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, folder / name)
    (folder / "configs/datasets").mkdir()
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return new_project(tmp_path / "project")


@pytest.fixture(scope="module")
def takes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three grooves through two synthetic kits: FLAC with MIDI, and stereo WAV at 48 kHz with tables."""
    folder = tmp_path_factory.mktemp("takes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(REPOSITORY / "examples"), *sys.path])
        patch.chdir(REPOSITORY)
        from takes import write_takes

        write_takes(folder, 3)
    return folder


def small_takes(folder: Path, *names: str, seconds: float = 0.5) -> Path:
    """Write takes of two hits; every name has hits of its own strength."""
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.wav").write_bytes(wav(np.zeros(round(seconds * 8_000)), 8_000))
        (folder / f"{name}.csv").write_text(f"onset_s,class,velocity\n0.1,kick,{number + 1}\n0.2,snare,64\n")
    return folder


def packed(project: Path, folder: Path, name: str = "mine") -> list[Sequence]:
    pack(project, name, folder, MINE)
    return read_index(project / "data/own" / f"{name}.zip")


def refused(project: Path, folder: Path) -> str:
    """Return what is said of a folder that is not packed, of which nothing may be left."""
    with pytest.raises(TakesError) as caught:
        pack(project, "mine", folder, MINE)
    assert not (project / "data/own").exists()
    assert not list((project / "configs/datasets").iterdir())
    return str(caught.value)


# --- What goes in comes out -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def round_trip(takes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Sequence]]:
    project = new_project(tmp_path_factory.mktemp("round") / "project")
    return project, packed(project, takes)


def test_recordings_come_out_sample_by_sample(takes: Path, round_trip: tuple[Path, list[Sequence]]) -> None:
    project, sequences = round_trip
    assert len(sequences) == 6
    for sequence in sequences:
        content = read_member(project / "data/own/mine.zip", sequence.wav)
        name = sequence.performance.rpartition("/")[2]
        if sequence.kit == 5:
            assert content == (takes / f"kit-5/{name}.wav").read_bytes()
            continue
        went_in, rate_hz = soundfile.read(takes / f"kit-1/{name}.flac", dtype="int16")
        came_out, its_rate_hz = soundfile.read(io.BytesIO(content), dtype="int16")
        assert its_rate_hz == rate_hz
        np.testing.assert_array_equal(came_out, went_in)


def test_notes_of_midi_come_out_as_they_went_in(takes: Path, round_trip: tuple[Path, list[Sequence]]) -> None:
    project, sequences = round_trip
    for sequence in (one for one in sequences if one.kit == 1):
        name = sequence.performance.rpartition("/")[2]
        content = read_member(project / "data/own/mine.zip", sequence.midi)
        assert content == (takes / f"kit-1/{name}.mid").read_bytes()


def test_notes_of_a_table_are_less_than_a_millisecond_off(takes: Path, round_trip: tuple[Path, list[Sequence]]) -> None:
    project, sequences = round_trip
    pitches = load_drums(project).pitches
    for sequence in (one for one in sequences if one.kit == 5):
        name = sequence.performance.rpartition("/")[2]
        onsets = read_onsets(read_member(project / "data/own/mine.zip", sequence.midi))
        rows = list(csv.DictReader((takes / f"kit-5/{name}.csv").read_text(encoding="utf-8").splitlines()))
        np.testing.assert_allclose(onsets.onset_s, [float(row["onset_s"]) for row in rows], atol=CSV_ROUNDING_S)
        came_out = zip(onsets.velocity.tolist(), (pitches[pitch] for pitch in onsets.pitch.tolist()), strict=True)
        assert sorted(came_out) == sorted((int(row["velocity"]), row["class"]) for row in rows)


def test_what_the_table_says_is_in_the_archive(round_trip: tuple[Path, list[Sequence]]) -> None:
    first = next(one for one in round_trip[1] if one.style == "funk")
    assert (first.drummer, first.tempo_bpm, first.kit_name) == ("drummer2", 106.0, f"kit {first.kit}")


def test_the_pipeline_reads_it(round_trip: tuple[Path, list[Sequence]]) -> None:
    project, sequences = round_trip
    set_params(project, dataset="mine")
    download(project, "mine")
    report = preprocess(project, workers=1).report
    assert report["totals"]["sequences"] == 6
    folder = project / "data/processed/mine"
    for sequence in sequences:
        shard = Shard(folder / sequence.split / f"kit-{sequence.kit:02d}.h5")
        read = read_onsets(read_member(project / "data/own/mine.zip", sequence.midi))
        assert shard.onsets(0).onset_s.tolist() == read.onset_s.tolist()
        shard.close()


def test_record_is_proven_by_what_was_written(round_trip: tuple[Path, list[Sequence]]) -> None:
    record = load_record(round_trip[0], "mine")
    assert (record.layout, record.license.id, record.files[0].urls) == ("egmd", "CC0-1.0", ("file:data/own/mine.zip",))
    assert record.verified_on
    assert record.files[0].size == (round_trip[0] / "data/own/mine.zip").stat().st_size


def test_same_takes_give_the_same_bytes(takes: Path, round_trip: tuple[Path, list[Sequence]], project: Path) -> None:
    shutil.copytree(takes, project / "elsewhere")
    for path in (project / "elsewhere").rglob("*"):
        os.utime(path, (1, 1))
    packed(project, project / "elsewhere")
    assert (project / "data/own/mine.zip").read_bytes() == (round_trip[0] / "data/own/mine.zip").read_bytes()


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
def test_flac_keeps_its_bits_rate_and_channels(project: Path, tmp_path: Path, subtype: str) -> None:
    folder = small_takes(tmp_path / "in", "a", "b", "c")
    (folder / "a.wav").unlink()
    samples = np.random.default_rng(1).uniform(-1, 1, (4_000, 2))
    (folder / "a.flac").write_bytes(wav(samples, 8_000, subtype, "FLAC"))
    sequences = packed(project, folder)
    (first,) = [one for one in sequences if one.performance.endswith("/a")]
    content = read_member(project / "data/own/mine.zip", first.wav)
    info = soundfile.info(io.BytesIO(content))
    assert (info.subtype, info.samplerate, info.channels) == (subtype, 8_000, 2)
    np.testing.assert_array_equal(
        soundfile.read(io.BytesIO(content), dtype="int32")[0], soundfile.read(folder / "a.flac", dtype="int32")[0]
    )


@pytest.mark.parametrize(
    ("label", "pitch"),
    [("kick", 36), ("hat_closed", 42), ("hi_hat", 42), ("toms", 45), ("cowbell", 56), ("gong", None)],
)
def test_class_or_instrument_has_one_note(project: Path, label: str, pitch: int | None) -> None:
    assert pitch_of_label(load_drums(project), label) == pitch


# --- Splits -----------------------------------------------------------------------------------------------------------


def splits_of(sequences: list[Sequence]) -> dict[str, str]:
    """Return the split of each performance; each must have one."""
    found = {(one.performance.rpartition("/")[2], one.split) for one in sequences}
    assert len(dict(found)) == len(found)
    return dict(found)


@pytest.mark.parametrize(("performances", "held_out"), [(3, 1), (12, 1), (20, 2)])
def test_drawn_splits_are_of_performances_and_never_empty(
    project: Path, tmp_path: Path, performances: int, held_out: int
) -> None:
    names = [f"take {number}" for number in range(performances)]
    folder = small_takes(tmp_path / "in", *(f"kit-{kit}/{name}" for kit in (1, 2) for name in names))
    splits = list(splits_of(packed(project, folder)).values())
    assert (splits.count("test"), splits.count("validation")) == (held_out, held_out)
    assert len(splits) == performances


def test_folders_say_the_split(project: Path, tmp_path: Path) -> None:
    folder = small_takes(tmp_path / "in", "train/kit-2/a", "validation/kit-2/b", "test/kit-3/c", "train/kit-3/a")
    sequences = packed(project, folder)
    assert splits_of(sequences) == {"a": "train", "b": "validation", "c": "test"}
    assert sorted(one.kit for one in sequences) == [2, 2, 3, 3]


def test_table_says_split_kit_and_performance(project: Path, tmp_path: Path) -> None:
    folder = small_takes(tmp_path / "in", "a", "b", "c", "d")
    rows = ["file,split,kit,performance", "a.wav,test,1,song", "b,test,2,song", "c,train,,", "d,validation,,"]
    (folder / "takes.csv").write_text("\n".join(rows))
    sequences = packed(project, folder)
    assert splits_of(sequences) == {"song": "test", "c": "train", "d": "validation"}
    assert sorted(one.kit for one in sequences) == [1, 1, 1, 2]


def test_too_few_takes_for_three_splits_are_refused(project: Path, tmp_path: Path) -> None:
    assert "at least 3 performances" in refused(project, small_takes(tmp_path / "in", "a", "b"))


def test_split_for_some_takes_only_is_refused(project: Path, tmp_path: Path) -> None:
    assert "d: in no split" in refused(project, small_takes(tmp_path / "in", "train/a", "validation/b", "test/c", "d"))


def test_same_hits_in_two_splits_are_refused(project: Path, tmp_path: Path) -> None:
    folder = small_takes(tmp_path / "in", "train/a", "validation/b", "test/c")
    shutil.copy(folder / "train/a.csv", folder / "test/c.csv")
    assert "train/a: in train, and test/c, the same hits of it, in test" in refused(project, folder)


def test_same_hits_are_the_same_though_another_kit_orders_them_otherwise(project: Path, tmp_path: Path) -> None:
    """Two hits at one time are in the order of their pitches, which kits are free to choose."""
    folder = small_takes(tmp_path / "in", "train/a", "validation/b", "test/c")
    for name, (first, second) in {"train/a": (38, 42), "test/c": (42, 38)}.items():
        (folder / f"{name}.csv").write_text(f"onset_s,pitch,velocity\n0.1,{first},90\n0.1,{second},30\n")
    assert "train/a: in train, and test/c, the same hits of it, in test" in refused(project, folder)


def test_split_and_kit_of_a_folder_are_read_whatever_their_capitals(project: Path, tmp_path: Path) -> None:
    folder = small_takes(tmp_path / "in", "Train/a", "VALIDATION/b", "Test/KIT-3/c", "e/Train/d")
    sequences = packed(project, folder)
    assert splits_of(sequences) == {"a": "train", "b": "validation", "c": "test", "d": "train"}
    assert sorted(one.kit for one in sequences) == [1, 1, 1, 3]


def test_folders_that_say_nothing_certain_are_refused(project: Path, tmp_path: Path) -> None:
    folder = small_takes(tmp_path / "in", "Val/a", "train/test/b", "kit-1/kit-2/c", "kit-0/d", "kit-65536/e", "f")
    said = refused(project, folder)
    for message in (
        "Val/a: a folder Val: call it validation",
        "train/test/b: in several folders of splits: train, test",
        "kit-1/kit-2/c: in several folders of kits: 1, 2",
        "kit-0/d: kit 0 by its folder: expected 1 to 65535",
        "kit-65536/e: kit 65536 by its folder: expected 1 to 65535",
        "5 of them",
    ):
        assert message in said


# --- What cannot be packed --------------------------------------------------------------------------------------------


def table(at: Path, *rows: str) -> None:
    at.with_suffix(".csv").write_text("\n".join(["onset_s,class,velocity", *rows]))


def no_numbers(at: Path) -> None:
    at.with_suffix(".wav").write_bytes(wav(np.full(4_000, np.nan), 8_000, "FLOAT"))


def notes(at: Path, content: bytes) -> None:
    at.with_suffix(".csv").unlink()
    at.with_suffix(".mid").write_bytes(content)


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no notes": (lambda at: at.with_suffix(".csv").unlink(), "a recording (x.wav) without notes"),
    "no recording": (lambda at: at.with_suffix(".wav").unlink(), "notes (x.csv) without a recording"),
    "not sound": (lambda at: at.with_suffix(".wav").write_bytes(b"<html>"), "x.wav is not sound"),
    "cut off": (lambda at: os.truncate(at.with_suffix(".wav"), 500), "x.wav is cut off"),
    "no samples": (no_numbers, "x.wav has samples that are not finite"),
    "after the end": (lambda at: table(at, "0.6,kick,1"), "1 notes after the end of the sound, 0.50 s; 0.60 s"),
    "empty table": (table, "expected at least one note, got no notes"),
    "unknown class": (lambda at: table(at, "0.1,gong,1"), "x.csv, line 2: expected a pitch, or a class"),
    "no number": (lambda at: table(at, "0.1,kick,1", "soon,kick,1", "late,kick,1"), "x.csv, line 3: onset_s"),
    "not finite": (lambda at: table(at, "nan,kick,1"), "x.csv, line 2: onset_s"),
    "velocity": (lambda at: table(at, "0.1,kick,128"), "x.csv, line 2: velocity"),
    "more cells": (lambda at: table(at, "0.1,kick,1,2"), "expected a cell for each column"),
    "unknown pitch": (lambda at: notes(at, midi([36, 99])), "pitch 99, 1 notes, has no row in configs/drums.yaml"),
    "not MIDI": (lambda at: notes(at, b"?"), "x.mid is not a MIDI file"),
    "two notes": (lambda at: at.with_suffix(".mid").write_bytes(midi([36])), "one name for several files"),
    "MP3": (lambda at: at.with_suffix(".mp3").touch(), "x.mp3: neither WAV nor FLAC"),
}  # fmt: skip


def test_every_fault_is_named_and_all_at_once(project: Path, tmp_path: Path) -> None:
    folder = small_takes(tmp_path / "in", "good 1", "good 2", "good 3", *(f"{name}/x" for name in FAULTS))
    for name, (spoil, _) in FAULTS.items():
        spoil(folder / name / "x")
    os.truncate(folder / "no number/x.wav", 500)
    small_takes(folder, "train/a", "test/a")
    shutil.copy(folder / "train/a.csv", folder / "test/a.csv")
    (folder / "far").symlink_to(tmp_path)
    (folder / "lost.wav").symlink_to(tmp_path / "lost")
    (folder / "takes.csv").write_text("file,kit\n\ngone,1\ngood 1,0\ngood 2,1\ngood 2,1\n")
    said = refused(project, folder)
    for name, (_, message) in FAULTS.items():
        assert any(name in line and message in line for line in said.splitlines()), f"{name}: {message} in\n{said}"
    for message in (
        "takes.csv: gone is not there",
        "takes.csv, line 4: kit",
        "takes.csv, line 6: good 2 is there twice",
        "no number/x: x.csv, line 4: onset_s",
        "no number/x: x.wav is cut off",
        "far: a link to a folder",
        "lost.wav: a link to a folder, which is not followed, or to nothing",
        "good 3: in no split, though others are",
        "train/a: in train, and test/a, the same hits of it, in test",
    ):
        assert message in said
    # What the faulty row of good 1 says is not known, and neither is anything that would follow from it.
    assert "good 1:" not in said


def test_table_with_two_columns_of_one_name_is_refused(project: Path, tmp_path: Path) -> None:
    folder = small_takes(tmp_path / "in", "train/a", "test/b", "c")
    (folder / "takes.csv").write_text("file,kit, kit\nc,1,2\n")
    (folder / "c.csv").write_text("onset_s,class,velocity,velocity\n0.1,kick,1,2\n")
    said = refused(project, folder)
    assert "takes.csv: expected each column once, got several of kit" in said
    assert "c: c.csv: expected each column once, got several of velocity" in said


def test_one_bad_table_leaves_room_for_the_faults_of_others(project: Path, tmp_path: Path) -> None:
    folder = small_takes(tmp_path / "in", "a", "b", "c")
    table(folder / "a", *["soon,kick,1"] * 60)
    table(folder / "b", "soon,kick,1")
    said = refused(project, folder)
    assert "a: a.csv: and 55 more lines" in said
    assert "b: b.csv, line 2: onset_s" in said


def test_names_that_some_disks_take_for_one_are_refused(project: Path, tmp_path: Path) -> None:
    assert "one name for several files" in refused(project, small_takes(tmp_path / "in", "a", "A", "b", "c"))


def test_folder_without_takes_is_refused(project: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    assert "has no takes" in refused(project, tmp_path / "in")


def test_faulty_description_is_refused_before_anything_is_written(project: Path, tmp_path: Path) -> None:
    folder = small_takes(tmp_path / "in", "a", "b", "c")
    with pytest.raises(ConfigError, match="not valid"):
        pack(project, "my-takes", folder, MINE)
    assert not (project / "data/own").exists()


# --- Again ------------------------------------------------------------------------------------------------------------


def test_more_takes_bring_archive_and_record_up_to_date_and_keep_what_a_person_wrote(
    project: Path, tmp_path: Path
) -> None:
    packed(project, small_takes(tmp_path / "in", "a", "b", "c"))
    path = project / "configs/datasets/mine.yaml"
    path.write_text("# Recorded in May.\n" + path.read_text().replace("notes: null", "notes: Mind the squeak."))
    before = load_record(project, "mine").files[0]
    assert len(packed(project, small_takes(tmp_path / "in", "a", "b", "c", "d"))) == 4
    record = load_record(project, "mine")
    assert path.read_text().startswith("# Recorded in May.\n")
    assert record.notes == "Mind the squeak."
    assert record.files[0].hash != before.hash
    download(project, "mine")
    assert list_members(project / "data/raw/mine/mine.zip").keys() == list_members(project / "data/own/mine.zip").keys()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("hash: {0.hash}", 'hash: "{0.hash}"'),
        ("size: {0.size}\n", "size: {0.size}  # bytes\n"),
        ("    size: {0.size}\n    hash: {0.hash}\n", "    size:   {0.size:_} # both\n    hash: '{0.hash}'\n"),
    ],
)
def test_record_is_brought_up_to_date_however_it_is_written(
    project: Path, tmp_path: Path, before: str, after: str
) -> None:
    packed(project, small_takes(tmp_path / "in", "a", "b", "c"))
    path = project / "configs/datasets/mine.yaml"
    (file,) = load_record(project, "mine").files
    assert before.format(file) in path.read_text()
    path.write_text(path.read_text().replace(before.format(file), after.format(file)))
    packed(project, small_takes(tmp_path / "in", "a", "b", "c", "d"))
    (file,) = load_record(project, "mine").files
    assert file.size == (project / "data/own/mine.zip").stat().st_size
    assert file.hash.partition(":")[2] == hashlib.sha256((project / "data/own/mine.zip").read_bytes()).hexdigest()
    assert path.read_text().count("#") == after.count("#")


def test_record_that_cannot_be_brought_up_to_date_leaves_the_archive_as_it_was(project: Path, tmp_path: Path) -> None:
    packed(project, small_takes(tmp_path / "in", "a", "b", "c"))
    path = project / "configs/datasets/mine.yaml"
    path.write_text(path.read_text().replace("hash: ", "hash: >-\n      ") + "# The end.\n")
    before = (project / "data/own/mine.zip").read_bytes(), path.read_text()
    with pytest.raises(ConfigError, match="cannot be brought up to date"):
        pack(project, "mine", small_takes(tmp_path / "in", "a", "b", "c", "d"), MINE)
    assert ((project / "data/own/mine.zip").read_bytes(), path.read_text()) == before
    assert [file.name for file in (project / "data/own").iterdir()] == ["mine.zip"]


def test_file_that_is_no_archive_of_this_dataset_is_not_overwritten(project: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.pdf").write_text("three years")
    with pytest.raises(ConfigError, match=r"thesis\.pdf is there already"):
        pack(project, "mine", small_takes(tmp_path / "in", "a", "b", "c"), MINE, out=tmp_path / "thesis.pdf")
    assert (tmp_path / "thesis.pdf").read_text() == "three years"
    assert not list((project / "configs/datasets").iterdir())


def test_name_of_another_dataset_is_refused(project: Path, tmp_path: Path) -> None:
    shutil.copy(REPOSITORY / "configs/datasets/egmd_mini.yaml", project / "configs/datasets")
    with pytest.raises(BackbeatError, match="egmd_mini is a dataset already"):
        pack(project, "egmd_mini", small_takes(tmp_path / "in", "a", "b", "c"), MINE)


def test_command_shows_what_is_packed_and_what_comes_next(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setenv("COLUMNS", "120")
    words = ["pack", str(small_takes(tmp_path / "in", "a", "b", "c")), "--name", "mine", "--license", "CC0-1.0"]
    shown = CliRunner().invoke(commands.app, [*words, "--dry-run"], catch_exceptions=False)
    assert "validation" in shown.stdout
    assert not (project / "data/own").exists()
    shown = CliRunner().invoke(commands.app, words, catch_exceptions=False)
    assert "next: dvc add data/own/mine.zip" in shown.stderr
    listed = yaml.safe_load((project / "data/dvc.yaml").read_text())["stages"]["download"]["matrix"]["dataset"]
    assert listed == ["mine"]


def test_summary_counts_what_is_packed(project: Path, tmp_path: Path) -> None:
    folder = small_takes(tmp_path / "in", "kit-1/a", "kit-2/a", "b", "c", "d")
    found: Packed = pack(project, "mine", folder, MINE, dry_run=True)
    assert sum(split.takes for split in found.splits) == 5
    assert sum(split.performances for split in found.splits) == 4
    assert sum(split.onsets for split in found.splits) == 10
