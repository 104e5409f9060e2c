"""The stage describe: incremental, the same for any number of workers, bounded, not lost when a worker dies."""

import contextlib
import hashlib
import io
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import typer
import yaml
from typer.testing import CliRunner

from backbeat.cli import library_describe
from backbeat.library import describe_tasks
from backbeat.library.class_model import load_model
from backbeat.library.describe import describe
from backbeat.library.generated import generate
from backbeat.library.labels import row_of
from backbeat.library.learn import learn_classes
from backbeat.library.measure import TookTooLongError, at_most, measure
from backbeat.library.memo import memo_path, open_memo
from backbeat.library.names import ClassHint, read_names
from backbeat.library.scan import scan
from backbeat.library.settings import DescribeSettings, load_settings
from backbeat.library.sound_class import RULES, one_shot_class
from backbeat.library.tables import read_table, table_path

REPOSITORY = Path(__file__).parents[1]
REAL = REPOSITORY.parent / "shared" / "data" / "samples-cc0.zip"
COUNT = 60


def new_project(folder: Path, source: Path, **describe_settings: Any) -> Path:
    """Make a project with one source, not yet scanned."""
    for below in (".dvc", "configs", "data/library"):
        (folder / below).mkdir(parents=True)
    (folder / "params.yaml").touch()
    settings = yaml.safe_load((REPOSITORY / "configs/library.yaml").read_text(encoding="utf-8"))
    settings["sources"] = [{"name": "kits", "path": str(source)}]
    settings["describe"] |= describe_settings
    (folder / "configs/library.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    return folder


def wav(samples: Any, rate: int = 44_100) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, format="WAV", subtype="PCM_16")
    return stream.getvalue()


def kick(seconds: float = 0.4, hz: float = 55.0) -> bytes:
    time_s = np.arange(round(44_100 * seconds)) / 44_100
    return wav(0.8 * np.sin(2 * np.pi * (hz * time_s + 4 * (1 - np.exp(-40 * time_s)))) * np.exp(-12 * time_s))


def rows(project: Path) -> dict[str, dict[str, Any]]:
    """Return the rows of descriptors by the path of the first sample of each sound."""
    paths: dict[str, str] = {}
    for row in read_table(project, "scan", ["path", "audio_sha256"]).to_pylist():
        paths.setdefault(row["audio_sha256"], row["path"])
    return {paths[row["audio_sha256"]]: row for row in read_table(project, "descriptors").to_pylist()}


def tables(project: Path) -> dict[str, str]:
    return {
        name: hashlib.sha256(table_path(project, name).read_bytes()).hexdigest()
        for name in ("descriptors", "embeddings")
    }


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "samples"
    generate(folder, COUNT, seed=4, workers=1)
    return folder


@pytest.fixture(scope="module")
def described(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose samples have been described by two workers. Copy it before changing it."""
    project = new_project(tmp_path_factory.mktemp("described") / "project", samples)
    scan(project, workers=1)
    describe(project, workers=2)
    return project


@pytest.fixture
def project(described: Path, samples: Path, tmp_path: Path) -> Path:
    """A copy of it, with samples of its own."""
    copy = tmp_path / "project"
    shutil.copytree(described, copy)
    shutil.copytree(samples, tmp_path / "samples", copy_function=shutil.copy2)
    settings = (copy / "configs/library.yaml").read_text()
    (copy / "configs/library.yaml").write_text(settings.replace(str(samples), str(tmp_path / "samples")))
    return copy


def test_one_worker_writes_the_same_bytes_as_two(described: Path, samples: Path, tmp_path: Path) -> None:
    alone = new_project(tmp_path / "alone", samples)
    scan(alone, workers=1)
    assert describe(alone, workers=1).failed == 0
    assert tables(alone) == tables(described)


def test_every_distinct_sound_has_one_row_and_one_vector(described: Path) -> None:
    scanned = [row for row in read_table(described, "scan").to_pylist() if row["error"] is None]
    sounds = {row["audio_sha256"] for row in scanned}
    assert len(sounds) < len(scanned) < COUNT  # there are copies, and files that cannot be read
    for name in ("descriptors", "embeddings"):
        listed = read_table(described, name, ["audio_sha256"])["audio_sha256"].to_pylist()
        assert listed == sorted(sounds)


def test_no_one_shot_has_a_tempo_or_a_key(described: Path) -> None:
    one_shots = [row for row in rows(described).values() if row["kind"] == "one-shot"]
    assert len(one_shots) > 30
    assert {(row["tempo_bpm"], row["key"]) for row in one_shots} == {(None, None)}


def test_a_second_run_describes_nothing_and_ten_new_files_cost_ten(project: Path) -> None:
    before = tables(project)
    assert describe(project, workers=1).described == 0
    assert tables(project) == before
    for number in range(10):
        (project.parent / "samples" / f"new {number}.wav").write_bytes(kick(0.3 + 0.01 * number))
    scan(project, workers=1)
    assert describe(project, workers=1).described == 10


def test_a_new_name_gives_a_new_class_and_decodes_nothing(project: Path) -> None:
    (project.parent / "samples" / "thing.wav").write_bytes(kick())
    scan(project, workers=1)
    describe(project, workers=1)
    assert rows(project)["thing.wav"]["sound_class"] == "kick"
    (project.parent / "samples" / "thing.wav").rename(project.parent / "samples" / "Cowbell 3.wav")
    scan(project, workers=1)
    assert describe(project, workers=1).described == 0
    row = rows(project)["Cowbell 3.wav"]
    assert (row["sound_class"], row["class_source"]) == ("cowbell", "name")


def test_a_sound_that_takes_too_long_is_named_and_holds_up_no_other(tmp_path: Path) -> None:
    kits = tmp_path / "kits"
    kits.mkdir()
    (kits / "endless.wav").write_bytes(wav(np.random.default_rng(1).normal(0, 0.1, (9_600_000, 1)), 96_000))
    (kits / "short.wav").write_bytes(kick())
    project = new_project(tmp_path / "project", kits, timeout_s=0.25, longest_s=100.0)
    scan(project, workers=1)
    done = describe(project, workers=1)
    assert list(done.errors) == ["kits/endless.wav"]
    assert "longer than 0.25 s" in done.errors["kits/endless.wav"]
    assert rows(project)["endless.wav"]["kind"] is None
    assert rows(project)["short.wav"]["kind"] == "one-shot"
    # The next run has more time, or another machine.
    assert describe(project, workers=1).described == 1


def test_a_sound_is_not_to_blame_for_what_else_the_machine_does() -> None:
    with at_most(0.05):
        time.sleep(0.2)
    with pytest.raises(TookTooLongError), at_most(0.05):
        all(True for _ in iter(int, 1))


@pytest.mark.parametrize("largest_bytes", [2**26, 0], ids=["in memory", "where it is"])
def test_a_file_that_has_changed_since_is_not_remembered_as_what_it_was(
    largest_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(describe_tasks, "LARGE_BYTES", largest_bytes)
    kits = tmp_path / "kits"
    kits.mkdir()
    (kits / "one.wav").write_bytes(kick())
    project = new_project(tmp_path / "project", kits)
    scan(project, workers=1)
    (kits / "one.wav").write_bytes(kick(hz=200.0))
    done = describe(project, workers=1)
    assert "it has changed since it was scanned" in done.errors["kits/one.wav"]
    (kits / "one.wav").write_bytes(kick())
    done = describe(project, workers=1)
    assert (done.described, done.failed) == (1, 0)


def test_only_the_beginning_of_a_long_file_is_described(tmp_path: Path) -> None:
    kits = tmp_path / "kits"
    kits.mkdir()
    beginning = 0.1 * np.random.default_rng(1).normal(0, 1, 44_100)
    (kits / "begins.wav").write_bytes(wav(beginning))
    (kits / "goes on.wav").write_bytes(wav(np.concatenate([beginning, np.full(44_100, 0.9)])))
    project = new_project(tmp_path / "project", kits, longest_s=1.0)
    scan(project, workers=1)
    describe(project, workers=1)
    one, other = rows(project).values()
    different = {name for name in one if one[name] != other[name]}
    assert different == {"audio_sha256"}


class Killer(threading.Thread):
    """Kills each worker that is at a certain file."""

    def __init__(self, marks: Path, digest: str) -> None:
        super().__init__(daemon=True)
        self.marks, self.digest, self.killed, self.over = marks, digest, 0, False

    def run(self) -> None:
        while not self.over:
            for mark in self.marks.glob("describing/*"):
                with contextlib.suppress(OSError):
                    if mark.read_text() == self.digest and int(mark.name) != os.getpid():
                        os.kill(int(mark.name), signal.SIGKILL)
                        self.killed += 1
                        time.sleep(0.2)
            time.sleep(0.002)


@pytest.mark.slow
def test_the_sound_that_a_worker_dies_of_is_named_and_nothing_else_is_lost(tmp_path: Path) -> None:
    kits = tmp_path / "kits"
    kits.mkdir()
    deadly = wav(np.random.default_rng(1).normal(0, 0.1, (4_800_000, 1)), 96_000)
    (kits / "deadly.wav").write_bytes(deadly)
    for number in range(30):  # more than one task
        (kits / f"kick {number:02d}.wav").write_bytes(kick(0.2 + 0.01 * number))
    project = new_project(tmp_path / "project", kits)
    scan(project, workers=1)
    killer = Killer(memo_path(project).parent, hashlib.sha256(deadly).hexdigest())
    killer.start()
    try:
        done = describe(project, workers=2)
    finally:
        killer.over = True
        killer.join()
    assert killer.killed == 2  # among others, and alone
    assert done.errors == {"kits/deadly.wav": "the process that described it died"}
    assert (done.sounds, done.failed) == (31, 1)
    # It may have been for want of memory: it is tried again, and only it.
    again = describe(project, workers=1)
    assert (again.described, again.failed) == (1, 0)


def test_a_sound_that_ended_the_last_run_is_tried_alone_and_named(tmp_path: Path) -> None:
    kits = tmp_path / "kits"
    kits.mkdir()
    deadly = wav(np.random.default_rng(1).normal(0, 0.1, (4_800_000, 1)), 96_000)
    (kits / "deadly.wav").write_bytes(deadly)
    (kits / "kick.wav").write_bytes(kick())
    project = new_project(tmp_path / "project", kits)
    scan(project, workers=1)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    marks = memo_path(project).parent / "describing"
    marks.mkdir()
    (marks / str(dead.pid)).write_text(hashlib.sha256(deadly).hexdigest())
    killer = Killer(marks.parent, hashlib.sha256(deadly).hexdigest())
    killer.start()
    try:
        done = describe(project, workers=1)
    finally:
        killer.over = True
        killer.join()
    assert (killer.killed, done.sounds) == (1, 2)
    assert done.errors == {"kits/deadly.wav": "the process that described it died"}


def test_a_killed_run_goes_on_where_it_was(samples: Path, described: Path, tmp_path: Path) -> None:
    project = new_project(tmp_path / "project", samples)
    scan(project, workers=1)
    script = f"""
import pathlib, backbeat.library.describe_tasks as tasks, backbeat.library.memo as memo
from backbeat.library.describe import describe
tasks.SOUNDS_AT_ONCE, memo.COMMIT_EVERY_S = 4, 0.0
describe(pathlib.Path({str(project)!r}), workers=1)
"""
    running = subprocess.Popen([sys.executable, "-c", script])
    remembered: Any = 0
    while remembered < 8:
        assert running.poll() is None, "it was over before it could be killed"
        with open_memo(project) as memo:
            query = "SELECT count(*) FROM memo WHERE stage = 'describe'"
            remembered = memo._connection.execute(query).fetchone()[0]
        time.sleep(0.01)
    running.kill()
    running.wait()
    done = describe(project, workers=1)
    assert 0 < done.described <= done.sounds - 8
    assert list((memo_path(project).parent / "describing").iterdir()) == []
    assert tables(project) == tables(described)


def test_a_model_is_learned_from_names_and_used(project: Path) -> None:
    folder = project.parent / "samples"
    rng = np.random.default_rng(2)
    for number in range(12):
        (folder / f"Kick {number}.wav").write_bytes(kick(0.3, 45 + 2.0 * number))
        hiss = rng.normal(0, 0.2, 6000) * np.exp(-np.arange(6000) / (900 + 40 * number))
        (folder / f"Closed Hat {number}.wav").write_bytes(wav(np.diff(hiss)))
    (folder / "untold.wav").write_bytes(kick(0.35, 50.0))
    scan(project, workers=1)
    describe(project, workers=1)
    learned = learn_classes(project)
    assert learned.by_class["kick"] >= 12
    assert learned.accuracy > 0.9
    assert load_model(project) is not None
    done = describe(project, workers=1)
    assert (done.described, done.by_source["model"] > 0) == (0, True)
    row = rows(project)["untold.wav"]
    assert (row["sound_class"], row["class_source"]) == ("kick", "model")


def test_the_command_prints_what_there_is(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = typer.Typer()
    library_describe.register(app)
    monkeypatch.chdir(project)
    shown = CliRunner().invoke(app, ["describe", "--workers", "1"])
    assert shown.exit_code == 0, shown.output
    assert "described now" in shown.output
    assert "kick" in shown.output
    listed = CliRunner().invoke(app, ["descriptors"]).output
    assert "spectral_centroid_hz  [Hz; 0 to half the rate]" in listed


@pytest.mark.parametrize(
    ("path", "classes"),
    [
        ("Kicks/01.wav", ("kick",)),
        ("808 kit/SD_03.wav", ("snare",)),
        ("808/long one.wav", ("bass",)),
        ("Hats/HH closed 3.wav", ("closed_hat",)),
        ("x/OpenHat_05.wav", ("open_hat",)),
        ("x/hihat.wav", ("closed_hat", "open_hat")),
        ("Snares/Kick with snare.wav", ("kick",)),
        ("perc/bass drum 2.wav", ("kick",)),
        ("Cymbals/RIDE bell.wav", ("ride",)),
        ("Snares/audio_17.wav", ("snare",)),
        ("ambi_choir.wav", ("fx",)),
        ("Ambient Pad.wav", ("tonal",)),
        ("Tomorrow/Ridelow/clapham.wav", None),
    ],
)
def test_names_say_classes(path: str, classes: tuple[str, ...] | None) -> None:
    hint = read_names([path]).sound_class
    assert (hint and hint.classes) == classes


def facts_of(samples: Any, **others: Any) -> dict[str, Any]:
    facts, _ = measure(wav(samples), "x.wav", DescribeSettings(timeout_s=20.0, longest_s=60.0))
    return {**facts, **others}


def words_and_class(facts: dict[str, Any], path: str) -> dict[str, Any]:
    return row_of(facts, [path], load_settings(REPOSITORY).words)


TIME_S = np.arange(66_150) / 44_100
BOOM = np.sin(2 * np.pi * 52 * TIME_S) * np.minimum(1, TIME_S / 0.05) * np.exp(-2 * TIME_S)
HISS = np.diff(np.random.default_rng(1).normal(0, 0.2, 66_151))


def test_an_abbreviation_and_a_folder_that_agree_outweigh_what_it_sounds_like() -> None:
    boom = facts_of(BOOM)
    assert words_and_class(boom, "x.wav")["sound_class"] == "bass"
    assert words_and_class(boom, "Kicks/bd_boom.wav")["sound_class"] == "kick"
    assert read_names(["bd_boom.wav"]).sound_class == ClassHint(("kick",), 0.6)


def test_a_hat_by_name_is_open_or_closed_by_its_length_and_no_surer_than_that() -> None:
    hat = facts_of(0.5 * HISS[:6000] * np.exp(-TIME_S[:6000] / 0.03))
    short, named = words_and_class(hat, "hat_x.wav"), words_and_class(hat, "hat_closed.wav")
    assert (short["sound_class"], short["class_source"]) == ("closed_hat", "name")
    assert short["class_confidence"] < 0.99 * named["class_confidence"]
    longer = words_and_class({**hat, "described_s": 0.6}, "hat_x.wav")
    assert longer["class_confidence"] < short["class_confidence"]


def test_a_class_that_is_a_guess_is_other() -> None:
    shares = dict.fromkeys(RULES, 0.5 / (len(RULES) - 1)) | {"kick": 0.5}
    facts, thresholds = facts_of(BOOM), load_settings(REPOSITORY).words
    assert row_of(facts, [], thresholds, shares)["sound_class"] == "kick"
    odd = facts_of(0.3 * HISS * np.exp(-TIME_S / 0.1) + 0.3 * np.sin(2 * np.pi * 800 * TIME_S) * np.exp(-TIME_S / 0.1))
    row = row_of(odd, [], thresholds)
    assert (row["sound_class"], row["class_source"], row["class_confidence"] < 0.35) == ("other", "rule", True)


def test_what_is_slow_and_dull_is_soft_and_what_begins_at_once_is_punchy() -> None:
    hit = np.sin(2 * np.pi * 60 * TIME_S + 1.5) * np.exp(-8 * TIME_S)
    ticks = np.zeros(66_150)
    ticks[::22_050] = (0.3, 0.7, 1.0)  # the last is the loudest: by its envelope that is a slow attack
    swell = np.sin(2 * np.pi * 200 * TIME_S) * np.minimum(1, TIME_S / 0.5)
    said = [words_and_class(facts_of(one), "shot.wav")["punch"] for one in (hit, ticks, swell)]
    assert said == ["punchy", "medium", "soft"]
    assert words_and_class(facts_of(np.tile(hit[:22_050], 4)), "loop.wav")["punch"] is None


def test_a_loop_is_what_its_name_says_and_no_fx_has_a_tempo_or_a_key() -> None:
    chord = np.sum([np.sin(2 * np.pi * hz * TIME_S) for hz in (220.0, 277.2, 329.6)], axis=0) / 4
    facts = facts_of(np.tile(chord[:44_100] * np.exp(-TIME_S[:44_100]), 4))
    assert facts["key"]["tonality"] > 0.4
    names = ("loop.wav", "loop_breakbeat.wav", "vinyl_hiss.wav")
    rows = [words_and_class({**facts, "key": {**facts["key"], "confidence": 0.5}}, name) for name in names]
    assert [(row["kind"], row["sound_class"], row["key"]) for row in rows] == [
        ("loop", "melodic", facts["key"]["name"]),
        ("loop", "drums", None),
        ("loop", "fx", None),
    ]
    unsure = {**facts, "key": {**facts["key"], "confidence": 0.3}}
    assert words_and_class(unsure, "loop.wav")["key"] is None
    assert rows[2]["tempo_bpm"] is None


def test_real_samples_are_what_their_names_say_by_rule_alone(tmp_path: Path) -> None:
    if not REAL.exists():
        pytest.skip("needs shared/data/samples-cc0.zip")
    some = tmp_path / "some.zip"
    with zipfile.ZipFile(REAL) as real, zipfile.ZipFile(some, "w") as chosen:
        for name in real.namelist():
            if Path(name).stem.startswith(("bd_", "sn_", "drum_snare", "drum_tom", "hat_s", "ride_")):
                chosen.writestr(Path(name).name, real.read(name))
    project = new_project(tmp_path / "project", some)
    scan(project, workers=1)
    assert describe(project, workers=1).failed == 0
    meant = {
        "bd": {"kick"},
        "sn": {"snare"},
        "drum": {"snare", "tom"},
        "hat": {"closed_hat", "open_hat"},
        "ride": {"ride"},
    }
    found = rows(project)
    assert len(found) > 20
    named, by_rule, toms = [], [], []
    for path, row in found.items():
        expected = meant[Path(path).name.split("_")[0]]
        named.append(row["sound_class"] in expected)
        by_rule.append(one_shot_class({**row, "tempo": None}, read_names([])).name in expected)
        if "tom" in path:
            toms.append(one_shot_class({**row, "tempo": None}, read_names([])).name == "tom")
        assert row["kind"] == "one-shot", path
    assert np.mean(named) > 0.95
    assert np.mean(by_rule) > 0.6
    assert (len(toms), np.mean(toms) > 0.6) == (6, True)
