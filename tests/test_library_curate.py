"""Curating: a score whose every point is shown, samples that differ, and files that a sampler takes."""

from __future__ import annotations

import csv
import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import typer
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from backbeat.audio.loudness import true_peak
from backbeat.audio.resemblance import to_bytes
from backbeat.cli import library_curate
from backbeat.errors import ConfigError, LibraryError
from backbeat.library import tables
from backbeat.library.choice import Candidate, choose
from backbeat.library.curate import curate, explain
from backbeat.library.produce import production_paths
from backbeat.library.production import render
from backbeat.library.quality import check_rules, points_of
from backbeat.library.settings import CurateSettings, Device, QualityRule, load_settings

REPOSITORY = Path(__file__).parents[1]
CURATE: CurateSettings = load_settings(REPOSITORY).curate
DEVICE = CURATE.devices[CURATE.device]


def with_settings(**changes: Any) -> CurateSettings:
    return CURATE.model_copy(update=changes)


def with_device(**changes: Any) -> Device:
    return DEVICE.model_copy(update=changes)


# Scores


def rule(**changes: Any) -> QualityRule:
    values = {"name": "r", "column": "crest_db", "points": 10.0, "good": 9.0, "bad": 3.0, "missing": 0.5}
    return QualityRule(**{**values, **changes})


@pytest.mark.parametrize(("value", "points"), [(2, 0), (3, 0), (6, 5), (9, 10), (40, 10), (None, 5)])
def test_a_rule_gives_points_in_proportion_between_bad_and_good(value: float | None, points: float) -> None:
    assert points_of([rule()], {"crest_db": value}) == {"r": points}


def test_less_can_be_better_and_a_rule_can_be_for_one_kind_alone() -> None:
    less = rule(column="end_level_db", good=-40.0, bad=-10.0, only="one-shot")
    assert points_of([less], {"end_level_db": -25, "kind": "one-shot"}) == {"r": 5}
    assert points_of([less], {"end_level_db": 0, "kind": "loop"}) == {"r": 10}


def test_a_rule_about_no_number_is_refused() -> None:
    with pytest.raises(ConfigError, match="no_such_column"):
        check_rules([rule(column="no_such_column")])
    with pytest.raises(ConfigError, match="sound_class"):
        check_rules([rule(column="sound_class")])
    with pytest.raises(ConfigError, match="score"):
        check_rules([rule(name="score")])


def test_what_is_vital_is_not_made_up_for_elsewhere() -> None:
    vital = rule(name="whole", column="clipped_per_million", points=20, good=0, bad=1000, vital=True)
    found = points_of([rule(), vital], {"crest_db": 1e9, "clipped_per_million": 750})
    assert found == {"r": rule().points / 4, "whole": 5}


def test_the_points_of_the_rules_sum_to_100() -> None:
    check_rules(CURATE.rules)
    with pytest.raises(ValueError, match="90"):
        CurateSettings(**{**CURATE.model_dump(), "rules": [rule(points=90.0).model_dump()]})


# Choice


def candidate(name: str, score: float, *direction: float, forced: bool = False, kind: str = "kick") -> Candidate:
    vector = np.array(direction or (1.0, 0.0), np.float32)
    return Candidate(name, kind, score, to_bytes(vector), forced)


def states(candidates: list[Candidate], **changes: Any) -> dict[str, str]:
    return {name: verdict.state for name, verdict in choose(candidates, with_settings(**changes)).items()}


def test_of_what_resembles_each_other_the_best_is_chosen_and_named() -> None:
    found = choose([candidate("b", 80, 1, 0.01), candidate("a", 90, 1, 0), candidate("c", 75, 0, 1)], CURATE)
    assert {name: verdict.state for name, verdict in found.items()} == {
        "a": "chosen",
        "b": "too similar",
        "c": "chosen",
    }
    assert "from a" in found["b"].reason


def test_a_class_has_a_quota_and_its_best_are_in_it() -> None:
    axes = np.eye(4)
    kicks = [candidate(name, score, *axis) for name, score, axis in zip("dcba", (71, 72, 72, 99), axes, strict=True)]
    hat = candidate("hat", 70, kind="hat")
    assert states([*kicks, hat], quota={"default": 1, "kick": 2}) == {
        "a": "chosen",
        "b": "chosen",
        "c": "over quota",
        "d": "over quota",
        "hat": "chosen",
    }


def test_the_word_of_the_user_comes_before_score_resemblance_and_quota() -> None:
    forced = [candidate("x", 10, 1, 0, forced=True), candidate("y", 20, 1, 0, forced=True)]
    found = states([candidate("a", 99, 1, 0), *forced, candidate("z", 80, 0, 1)], quota={"default": 1})
    assert found == {"x": "chosen", "y": "chosen", "a": "too similar", "z": "over quota"}


def test_what_has_no_embedding_resembles_nothing() -> None:
    assert set(states([Candidate(name, "kick", 80, None, False) for name in "ab"]).values()) == {"chosen"}


# Files


def wav(sound: np.ndarray, rate_hz: int = 44_100, subtype: str = "PCM_24") -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, sound, rate_hz, format="WAV", subtype=subtype)
    return stream.getvalue()


def tone(rate_hz: int, hz: float = 1_000, size: float = 0.5, duration_s: float = 0.25) -> np.ndarray:
    return size * np.sin(2 * np.pi * hz * np.arange(round(duration_s * rate_hz)) / rate_hz)


def rendered(original: bytes, device: Device = DEVICE, seed: str = "0" * 64) -> tuple[np.ndarray, float]:
    made = render(original, "a sample", seed, device)
    sound, rate_hz = soundfile.read(io.BytesIO(made.wav), dtype="int16", always_2d=True)
    assert (made.wav[:4], made.wav[12:16], made.wav[36:40], len(made.wav)) == (
        b"RIFF",
        b"fmt ",
        b"data",
        44 + sound.nbytes,
    )
    assert (rate_hz, made.wav[20:22], made.wav[34:36]) == (48_000, b"\1\0", b"\x10\0")
    return sound, made.gain_db


@pytest.mark.parametrize("channels", [1, 2])
def test_what_is_on_the_grid_of_16_bits_at_the_rate_keeps_every_bit(channels: int) -> None:
    original = np.random.default_rng(1).integers(-(2**15), 2**15, (5_000, channels), np.int16)
    for subtype in ("PCM_16", "PCM_24"):
        sound, gain_db = rendered(
            wav(original, 48_000, "PCM_16") if subtype == "PCM_16" else wav(original / 2**15, 48_000)
        )
        np.testing.assert_array_equal(sound, original)
        assert gain_db == 0


def test_resampling_keeps_the_sound_where_it_is_and_adds_no_more_than_dither() -> None:
    sound, gain_db = rendered(wav(tone(44_100)))
    expected = tone(48_000)
    assert (sound.shape, gain_db) == ((12_000, 1), 0)
    error = sound[500:-500, 0] / 2**15 - expected[500:-500]
    # Rounding and triangular dither: a quarter of a squared step, for a step of 2^-15.
    assert np.sqrt((error**2).mean()) == pytest.approx(0.5 * 2**-15, rel=0.05)


def test_dither_is_that_of_the_sound_and_keeps_what_is_smaller_than_a_step() -> None:
    quiet = wav(tone(48_000, size=0.4 * 2**-15, duration_s=2), 48_000)
    one, _ = rendered(quiet)
    again, _ = rendered(quiet)
    other, _ = rendered(quiet, seed="1" * 64)
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)
    heard = np.abs(np.fft.rfft(one[:, 0]))
    assert heard[2_000] == pytest.approx(0.2 * len(one), rel=0.1)  # bin of 1 kHz: half of the size, in steps


@given(st.integers(0, 2**16), st.sampled_from([11_025, 22_050, 44_100, 48_000, 96_000]), st.floats(0.9, 4))
@settings(max_examples=15, deadline=None)
def test_nothing_clips_and_nothing_is_turned_down_that_need_not_be(seed: int, rate_hz: int, size: float) -> None:
    noise = np.random.default_rng(seed).normal(size=2_000)
    sound, gain_db = rendered(wav(size * noise / np.abs(noise).max(), rate_hz, "FLOAT"))
    peak_db = 20 * np.log10(true_peak(np.ascontiguousarray(sound.T / 2**15, np.float32), 48_000))
    assert peak_db <= DEVICE.ceiling_db + 1e-4
    if gain_db < 0:
        assert peak_db > DEVICE.ceiling_db - 0.02


def test_what_is_too_long_is_cut_with_a_fade() -> None:
    device = with_device(longest_s=0.1, fade_s=0.02)
    for rate_hz in (44_100, 48_000):
        sound, _ = rendered(wav(np.full(rate_hz, 0.5), rate_hz), device)
        assert len(sound) == 4_800
        assert sound[3_000:3_800].min() > 16_000
        assert abs(int(sound[-1, 0])) < 3


def test_a_sampler_plays_no_more_than_two_channels() -> None:
    with pytest.raises(LibraryError, match="3 channels"):
        render(wav(np.zeros((10, 3))), "a sample", "0" * 64, DEVICE)


def test_names_are_ascii_short_and_differ_in_more_than_case() -> None:
    names = [
        "Größe #1",
        "groesse",
        "KICK",
        "kick",
        "kick ",
        "Kïck",
        "太鼓",
        "🥁",
        "x" * 90,
        "x" * 91,
        "con:trol*?",
        "...",
    ]
    paths = production_paths(named(names), DEVICE)
    files = [Path(path).name for path in paths.values()]
    assert len({name.casefold() for name in files}) == len(names)
    assert all(name.isascii() and len(name) <= DEVICE.name_characters and name.endswith(".wav") for name in files)
    assert paths["s/00"] == "kick/bank 01/Grosse #1.wav"
    assert [Path(paths[f"s/0{n}"]).name for n in (2, 5)] == ["KICK-d4735e.wav", "Kick-ef2d12.wav"]
    for device in (with_device(name_characters=12), with_device(name_characters=14)):
        short = [Path(path).name for path in production_paths(named(["a name", "a name"]), device).values()]
        assert len(set(short)) == 2
        assert max(map(len, short)) <= device.name_characters


def test_a_sample_that_is_added_gives_no_name_of_a_sound_to_another() -> None:
    one, other = named(["kick", "KICK"])
    names = {sample: Path(path).name for sample, path in production_paths([one, other], DEVICE).items()}
    assert len(set(names.values()) - {"kick.wav", "KICK.wav"}) == 2
    assert production_paths([other, one], DEVICE) == production_paths([one, other], DEVICE)
    # A file that is called as another one would be.
    taken = (*named(["x", "x", "x"])[2][:2], Path(names[one[0]]).stem, "f" * 64)
    assert len(set(production_paths([one, other, taken], DEVICE).values())) == 3


def named(names: list[str]) -> list[tuple[str, str, str, str]]:
    """Return kicks to be called so, each with a sound of its own."""
    return [(f"s/{n:02d}", "kick", name, hashlib.sha256(f"{n}".encode()).hexdigest()) for n, name in enumerate(names)]


def test_a_folder_has_no_more_files_than_a_bank_has_pads() -> None:
    paths = production_paths(named([f"kick {n:02d}" for n in range(33)]), DEVICE)
    folders = [str(Path(path).parent) for path in paths.values()]
    assert [folders.count(f"kick/bank 0{n}") for n in (1, 2, 3)] == [16, 16, 1]


# The stage


SOUNDS: dict[str, dict[str, Any]] = {
    "Kicks/Kick A.wav": {"hz": 50},
    "Kicks/Kick A copy.wav": {"hz": 50, "keeper": "Kicks/Kick A.wav"},
    "Kicks/Kick B.wav": {"hz": 50.2},
    "Kicks/clipped.wav": {"hz": 70, "clipped_samples": 500, "crest_db": 2.0, "end_level_db": -3.0},
    "Kicks/loved.wav": {"hz": 90, "clipped_samples": 500, "crest_db": 2.0, "end_level_db": -3.0},
    "Kicks/hated.wav": {"hz": 300},
    "Kicks/silent.wav": {"hz": 0, "silent": True},
    "Loops/break.wav": {"hz": 200, "kind": "loop", "tempo_bpm": 92.0, "key": "A minor", "duration_s": 2.6},
    "Snares/SD.wav": {"hz": 400, "sound_class": "snare"},
    "broken.wav": {"hz": 0, "error": "it ends after 4 bytes"},
}
NOTES = "kits/Kicks/loved.wav:\n  rating: 5\nkits/Kicks/hated.wav:\n  tags: [reject]\n"


def write_library(folder: Path, sounds: dict[str, dict[str, Any]] = SOUNDS) -> Path:
    """Make a project with these samples and what the stages before would have found out about them."""
    if not (folder / ".dvc").exists():
        for below in (".dvc", "configs", "samples/kits", "data/library"):
            (folder / below).mkdir(parents=True)
        values = yaml.safe_load((REPOSITORY / "configs/library.yaml").read_text(encoding="utf-8"))
        values["sources"] = [{"name": "kits", "path": "samples", "license": "CC0-1.0"}]
        (folder / "configs/library.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
        (folder / "params.yaml").touch()
        (folder / "data/library/notes.yaml").write_text(NOTES)
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in ("scan", "descriptors", "embeddings", "duplicates")}
    for path, known in sounds.items():
        content = wav(tone(44_100, known["hz"]) * np.exp(-np.arange(11_025) / 2_000))
        (folder / "samples" / path).parent.mkdir(exist_ok=True)
        (folder / "samples" / path).write_bytes(content)
        scanned, described = _known(f"kits/{path}", content, known)
        rows["scan"].append(scanned)
        rows["descriptors"].append(described)
        vector = np.array([np.cos(known["hz"] / 50), np.sin(known["hz"] / 50)], np.float32)
        rows["embeddings"].append({"audio_sha256": scanned["audio_sha256"], "embedding": to_bytes(vector)})
        if "keeper" in known:
            rows["duplicates"].append({"sample": f"kits/{path}", "keeper": f"kits/{known['keeper']}"})
    schemas = (tables.SCAN, tables.DESCRIPTORS_TABLE, tables.EMBEDDINGS, tables.DUPLICATES)
    for (name, found), schema in zip(rows.items(), schemas, strict=True):
        tables.write_table(folder, name, schema, {row[schema.names[0]]: row for row in found}.values())
    return folder


def sound_of(hz: float) -> str:
    return hashlib.sha256(f"{hz}".encode()).hexdigest()


def _known(sample: str, content: bytes, known: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    digest = sound_of(known["hz"])
    base = {
        "sample": sample,
        "source": "kits",
        "path": sample.removeprefix("kits/"),
        "tier": "original",
        "license": "CC0-1.0",
        "file_sha256": hashlib.sha256(content).hexdigest(),
        "size_bytes": len(content),
        "audio_sha256": digest,
        "bit_depth": 24,
        "sample_rate_hz": 44_100,
        "channels": 1,
        "frames": 11_025,
        "duration_s": 0.25,
        "clipped_samples": 0,
        "silent": False,
        "dc_offset": 0.0,
    }
    heard = {
        "audio_sha256": digest,
        "kind": "one-shot",
        "sound_class": "kick",
        "crest_db": 12.0,
        "true_peak_db": -1.0,
        "end_level_db": -50.0,
        "leading_silence_s": 0.0,
        "bandwidth_limit_hz": 15_000.0,
        "upsampled": False,
        "fake_stereo": False,
    }
    scanned = base | {name: value for name, value in known.items() if name in tables.SCAN.names}
    if known.get("error"):
        scanned |= dict.fromkeys(tables.SCAN.names[tables.SCAN.names.index("audio_sha256") :])
    return scanned, heard | {name: value for name, value in known.items() if name in tables.DESCRIPTORS_TABLE.names}


def production(project: Path) -> dict[str, Path]:
    root = project / "data/library/production"
    return {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library after `curate`."""
    project = write_library(tmp_path_factory.mktemp("library") / "project")
    curate(project, workers=1)
    return project


def test_every_sample_has_a_verdict_a_reason_and_its_points(curated: Path) -> None:
    rows = {row["sample"].removeprefix("kits/"): row for row in tables.read_table(curated, "curation").to_pylist()}
    assert {name: row["state"] for name, row in rows.items()} == {
        "Kicks/Kick A.wav": "chosen",
        "Kicks/Kick A copy.wav": "duplicate",
        "Kicks/Kick B.wav": "too similar",
        "Kicks/clipped.wav": "below threshold",
        "Kicks/loved.wav": "chosen",
        "Kicks/hated.wav": "rejected",
        "Kicks/silent.wav": "silent",
        "Loops/break.wav": "chosen",
        "Snares/SD.wav": "chosen",
        "broken.wav": "unreadable",
    }
    clipped = rows["Kicks/clipped.wav"]
    points = {one.name: clipped[one.name] for one in CURATE.rules}
    assert clipped["score"] == pytest.approx(sum(points.values()), abs=0.01)
    assert set(points.values()) == {0.0}
    assert rows["Kicks/Kick A.wav"]["score"] == 100
    assert {row["sample"] for row in rows.values() if row["chosen"]} == {
        row["sample"] for row in rows.values() if row["production_path"]
    }


def test_production_is_what_was_chosen_and_a_manifest_that_leads_back(curated: Path) -> None:
    files = production(curated)
    assert sorted(files) == [
        "kick/bank 01/Kick A.wav",
        "kick/bank 01/loved.wav",
        "loop/bank 01/092bpm Am break.wav",
        "manifest.csv",
        "snare/bank 01/SD.wav",
    ]
    manifest = list(csv.DictReader(io.StringIO(files["manifest.csv"].read_text(encoding="utf-8"))))
    scanned = {row["sample"]: row for row in tables.read_table(curated, "scan").to_pylist()}
    assert {row["production_path"] for row in manifest} == set(files) - {"manifest.csv"}
    for row in manifest:
        assert row["file_sha256"] == scanned[row["sample"]]["file_sha256"]
        assert soundfile.info(str(files[row["production_path"]])).samplerate == 48_000


def test_a_rule_that_changes_makes_only_what_is_new_and_the_order_of_work_changes_no_byte(
    curated: Path, tmp_path: Path
) -> None:
    project = write_library(tmp_path / "project")
    assert curate(project, workers=2).made == 4
    assert {name: path.read_bytes() for name, path in production(project).items()} == {
        name: path.read_bytes() for name, path in production(curated).items()
    }
    assert (project / "data/library/curation.parquet").read_bytes() == (
        curated / "data/library/curation.parquet"
    ).read_bytes()
    assert curate(project, workers=1).made == 0
    config = project / "configs/library.yaml"
    config.write_text(config.read_text().replace("threshold: 70", "threshold: 0"))
    done = curate(project, workers=1)
    assert (done.made, done.chosen) == (1, 5)  # the clipped one
    config.write_text(config.read_text().replace("threshold: 0", "threshold: 100"))
    write_library(project, {path: known for path, known in SOUNDS.items() if path == "Snares/SD.wav"})
    assert curate(project, workers=1).made == 0
    assert sorted(production(project)) == ["manifest.csv", "snare/bank 01/SD.wav"]


def test_a_file_that_has_gone_since_is_left_out_with_the_reason(tmp_path: Path) -> None:
    project = write_library(tmp_path / "project")
    (project / "samples/Snares/SD.wav").unlink()
    assert curate(project, workers=1).chosen == 3
    rows = {row["sample"]: row for row in tables.read_table(project, "curation").to_pylist()}
    assert (rows["kits/Snares/SD.wav"]["state"], rows["kits/Snares/SD.wav"]["chosen"]) == ("unreadable", False)


def test_a_file_that_has_changed_since_is_not_made_in_the_name_of_its_old_content(tmp_path: Path) -> None:
    project = write_library(tmp_path / "project")
    place = project / "samples/Snares/SD.wav"
    content = place.read_bytes()
    place.write_bytes((project / "samples/Kicks/clipped.wav").read_bytes())
    assert curate(project, workers=1).chosen == 3
    row = states_of(project)["Snares/SD.wav"]
    assert (row["state"], "changed since it was scanned" in row["reason"]) == ("unreadable", True)
    place.write_bytes(content)
    assert curate(project, workers=1).made == 1


def test_what_was_not_described_is_no_candidate_unless_the_user_wants_it(tmp_path: Path) -> None:
    failed = {"error": "it took too long", "kind": None, "sound_class": None}
    sounds = {"a.wav": {"hz": 50}, "b.wav": {"hz": 100}, "Kicks/loved.wav": {"hz": 200}}
    project = write_library(tmp_path / "project", sounds)
    rows = tables.read_table(project, "descriptors").to_pylist()
    there = [row | failed for row in rows if row["audio_sha256"] != sound_of(50)]
    tables.write_table(project, "descriptors", tables.DESCRIPTORS_TABLE, there)
    curate(project, workers=1)
    found = states_of(project)
    assert {name: row["state"] for name, row in found.items()} == {
        "a.wav": "not described",
        "b.wav": "not described",
        "Kicks/loved.wav": "chosen",
    }
    assert (found["b.wav"]["reason"], found["b.wav"]["score"]) == ("it took too long", None)


def test_what_the_user_says_of_one_copy_is_said_of_the_sound(tmp_path: Path) -> None:
    sounds = {
        "a.wav": {"hz": 50},
        "b.wav": {"hz": 50, "keeper": "a.wav"},
        "c.wav": {"hz": 100},
        "d.wav": {"hz": 100, "keeper": "c.wav"},
        "e.wav": {"hz": 100, "keeper": "c.wav"},
    }
    project = write_library(tmp_path / "project", sounds)
    notes = "kits/b.wav:\n  tags: [Reject]\nkits/d.wav:\n  tags: [KEEP]\nkits/e.wav:\n  rating: 5\n"
    (project / "data/library/notes.yaml").write_text(notes)
    curate(project, workers=1)
    found = states_of(project)
    assert {name: row["state"] for name, row in found.items()} == {
        "a.wav": "rejected",
        "b.wav": "rejected",
        "c.wav": "duplicate",
        "d.wav": "chosen",
        "e.wav": "duplicate",
    }
    assert found["e.wav"]["reason"] == "of kits/d.wav"


def states_of(project: Path) -> dict[str, dict[str, Any]]:
    return {row["sample"].removeprefix("kits/"): row for row in tables.read_table(project, "curation").to_pylist()}


def test_each_rule_can_be_explained(curated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rules, row = explain(curated, "kits/Kicks/clipped.wav")
    assert {one.rule.name: one.points for one in rules} == {one.name: row[one.name] for one in CURATE.rules}
    app = typer.Typer()
    library_curate.register(app)
    monkeypatch.chdir(curated)
    shown = CliRunner().invoke(app, ["--explain", "kits/Kicks/clipped.wav"]).output
    assert "unclipped" in shown
    assert f"{row['score']:.1f} points; below threshold" in shown
    with pytest.raises(LibraryError, match="no score"):
        explain(curated, "kits/broken.wav")


def test_the_command_counts_by_class(curated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = typer.Typer()
    library_curate.register(app)
    monkeypatch.chdir(curated)
    output = CliRunner().invoke(app, [], env={"COLUMNS": "200"}).output
    (kicks,) = [line.split() for line in output.splitlines() if line.startswith("kick")]
    assert kicks[:7] == ["kick", "5", "2", "1", "1", "0", "1"]
