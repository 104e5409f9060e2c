"""Performances x kits: what is heard is what is written, nothing depends on chance, and a kill costs little."""

from __future__ import annotations

import copy
import io
import json
import re
import shutil
import zipfile
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from backbeat.config import find_project
from backbeat.datasets.egmdtable import COLUMNS, write_table
from backbeat.drums.classes import load_drums
from backbeat.drums.egmd import read_index
from backbeat.drums.midi import Onsets, read_onsets, write_onsets
from backbeat.errors import BackbeatError, CloudError, ConfigError, StorageError
from backbeat.rendering import expand as expanding
from backbeat.rendering.bank import SAMPLE_RATE_HZ, Bank, OneShot, one_shot
from backbeat.rendering.expand import expand
from backbeat.rendering.kits import GROUPS, Kit, Voice, draw_kit
from backbeat.rendering.performances import LEAD_S, Performance, excerpt, read_performances
from backbeat.rendering.plan import KitTask
from backbeat.rendering.playing import play
from backbeat.rendering.recipe import Recipe
from backbeat.rendering.render import HEARD
from backbeat.rendering.studio import draw_backing, produce
from backbeat.storage import staging
from backbeat.storage.exclusive import exclusive
from backbeat.storage.staging import SPARE_BYTES, new_file

ROOT = find_project(Path(__file__).parent)
# Instruments and how fast their sounds decay, in seconds.
SOUNDS = {"kick": 0.1, "snare": 0.08, "hat_closed": 0.03, "hat_open": 0.3}
RECIPE = ROOT / "configs" / "kits" / "rendered-kits.yaml"


def _onsets(*hits: tuple[float, int, int]) -> Onsets:
    onset_s, pitch, velocity = zip(*hits, strict=True)
    return Onsets(np.array(onset_s, np.float32), np.array(pitch, np.uint8), np.array(velocity, np.uint8))


def _values() -> dict:
    """The tracked recipe, made small: three folders of a few sounds, as if they were three people's."""
    values = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))

    def mine() -> dict:
        return {"id": "MIT", "commercial": True, "holder": "nobody", "url": "LICENSE"}

    values["sources"] = [
        {
            "name": f"sounds of {role}",
            "origin": role,
            "role": role,
            "license": mine(),
            "folder": {"folder": f"sounds/{role}", "files": {name: [f"{name}*.wav"] for name in SOUNDS}},
        }
        for role in ("train", "validation", "test")
    ]
    values["kit"]["synthesizer"] = 0.0
    values["parts"] = {role: {"kits": 1, "minutes": {role: 0.01}} for role in ("train", "validation", "test")}
    values["recording"] |= {"backing": 0.0, "lossy": 0.0}
    values["band"] = None
    values["longest_s"] = 3.0
    return values


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    rng = np.random.default_rng(0)
    for role in ("train", "validation", "test"):
        (folder / "sounds" / role).mkdir(parents=True)
        for name, decay_s in SOUNDS.items():
            fall = np.exp(-np.arange(13_230) / (decay_s * SAMPLE_RATE_HZ))
            sound = 0.5 * fall * rng.uniform(-1, 1, len(fall))
            soundfile.write(folder / "sounds" / role / f"{name}.wav", sound, SAMPLE_RATE_HZ)
    # Paths of a recipe are relative to the project that one is in.
    monkeypatch.chdir(folder)
    for name in ("configs", ".dvc"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("cache", "tmp", "config.local"))
    shutil.copy(ROOT / "params.yaml", folder)
    (folder / "data").mkdir()
    shutil.copy(ROOT / "data" / "dvc.yaml", folder / "data")
    (folder / "configs" / "kits" / "few-kits.yaml").write_text(yaml.safe_dump(_values()), encoding="utf-8")
    return folder


@pytest.fixture
def performances(tmp_path: Path) -> Path:
    """An archive of the Groove MIDI Dataset's layout, of three performances."""
    rows = ["drummer,session,id,style,bpm,beat_type,time_signature,midi_filename,audio_filename,duration,split"]
    path = tmp_path / "groove.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number, split in enumerate(("train", "validation", "test"), start=1):
            midi = tmp_path / "one.mid"
            write_onsets(_onsets((0.5, 36, 100), (1.0, 38, 90), (1.5, 42, 70 + number)), midi)
            name = f"drummer1/session1/{number}_rock_120_beat_4-4"
            archive.writestr(f"groove/{name}.mid", midi.read_bytes())
            rows.append(
                f"drummer1,drummer1/session1,drummer1/session1/{number},rock,120,beat,4-4,{name}.mid,,2.0,{split}"
            )
        archive.writestr("groove/info.csv", "\n".join(rows) + "\n")
    return path


def _expand(project: Path, performances: Path, **given: object):
    return expand(project, project / "configs" / "kits" / "few-kits.yaml", performances, **{"workers": 1, **given})


def test_the_archive_is_read_by_the_pipeline_and_says_where_it_is_from(project: Path, performances: Path) -> None:
    made = _expand(project, performances)
    sequences = read_index(made.archive)
    assert [(one.split, one.kit) for one in sequences] == [("train", 1), ("validation", 2), ("test", 3)]
    with zipfile.ZipFile(made.archive) as archive:
        license_text = archive.read("few_kits/LICENSE").decode()
        samples, rate_hz = soundfile.read(io.BytesIO(archive.read(sequences[0].wav.name)))
    assert "Groove MIDI Dataset, Google LLC, CC-BY-4.0" in license_text
    assert "Sounds: sounds of test, nobody, MIT" in license_text
    assert "Songs" not in license_text
    assert rate_hz == SAMPLE_RATE_HZ
    assert samples.ndim == 1
    record = yaml.safe_load(made.record.read_text(encoding="utf-8"))
    assert record["license"]["commercial"] is True
    assert record["files"][0]["size"] == made.archive.stat().st_size


@pytest.mark.parametrize("layered", [0.0, 1.0])
def test_the_license_names_what_is_heard_and_nothing_else(layered: float, project: Path, performances: Path) -> None:
    values = _values()
    first, *_ = values["sources"]
    second = copy.deepcopy(first) | {"name": "other sounds"}
    second["license"]["url"] = "https://example.org/license"
    values |= {"sources": [first, second], "parts": {"train": {"kits": 1, "minutes": {"train": 0.01}}}}
    values["kit"] |= {"other_source": 0.0, "layered": layered}
    (project / "configs" / "kits" / "few-kits.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    made = _expand(project, performances)
    with zipfile.ZipFile(made.archive) as archive:
        text = archive.read("few_kits/LICENSE").decode()
        begun = archive.read("few_kits/few_kits.csv").decode().splitlines()[1].split(",")[-1]
        assert all(name.endswith((".midi", ".wav", ".csv", "LICENSE")) for name in archive.namelist())
    # The kit begins with one of two sources that have the same pieces, and takes the other one's only for layers.
    assert len(made.sources) == 2
    heard = {
        "sounds of train 1": "Sounds: sounds of train, nobody, MIT",
        "other sounds 1": "Sounds: other sounds, nobody, MIT, https://example.org/license",
    }
    named = sorted(line for line in text.splitlines() if line.startswith("Sounds"))
    assert named == (sorted(heard.values()) if layered else [heard[begun]])


def test_the_same_recipe_gives_the_same_bytes_and_another_seed_others(project: Path, performances: Path) -> None:
    first = _expand(project, performances).archive.read_bytes()
    assert _expand(project, performances, workers=2).archive.read_bytes() == first
    recipe = project / "configs" / "kits" / "few-kits.yaml"
    recipe.write_text(yaml.safe_dump(_values() | {"seed": 2}), encoding="utf-8")
    assert _expand(project, performances).archive.read_bytes() != first


def test_a_run_that_was_killed_goes_on_with_the_kits_that_are_missing(
    project: Path, performances: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _expand(project, performances).archive
    expected = whole.read_bytes()
    whole.unlink()
    rendered: list[int] = []
    render_kit = expanding.render_kit

    def killed(task: expanding.KitTask) -> None:
        if len(rendered) == 2:
            raise KeyboardInterrupt
        rendered.append(task.number)
        render_kit(task)

    monkeypatch.setattr(expanding, "render_kit", killed)
    with pytest.raises(KeyboardInterrupt):
        _expand(project, performances)
    assert not whole.exists()
    monkeypatch.setattr(expanding, "render_kit", render_kit)
    again = _expand(project, performances)
    assert again.reused == 2
    assert again.archive.read_bytes() == expected


def test_a_hit_is_heard_where_the_midi_file_has_it(project: Path, performances: Path) -> None:
    values = _values()
    # Nothing but the kit: what rooms and compressors do to an onset is not asked here.
    dry = {name: {"low": 0.0, "high": 0.0} for name in ("tilt_db", "bells_db", "threshold_db", "distance_s")}
    speed = {"low": 1.06, "high": 1.06}
    values["recording"] |= dry | {
        "room": 0.0,
        "low_pass": 0.0,
        "noise_db": {"low": -90.0, "high": -90.0},
        "speed": speed,
    }
    values["kit"] |= {"wires_db": {"low": -80.0, "high": -80.0}}
    (project / "configs" / "kits" / "few-kits.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    made = _expand(project, performances)
    for sequence in read_index(made.archive):
        assert sequence.tempo_bpm == pytest.approx(127.2)
        with zipfile.ZipFile(made.archive) as archive:
            samples, _ = soundfile.read(io.BytesIO(archive.read(sequence.wav.name)))
            onsets = read_onsets(archive.read(sequence.midi.name))
        # A faster tape: everything comes earlier by its speed.
        assert onsets.onset_s == pytest.approx(
            LEAD_S + np.array([0.0, 0.5, 1.0]) / 1.06 - LEAD_S * (1 - 1 / 1.06), abs=2e-3
        )
        for onset_s in onsets.onset_s:
            at = round(float(onset_s) * SAMPLE_RATE_HZ)
            # The difference of samples: a kick may still ring, an attack is in the treble. It is there within 2 ms.
            before, after = np.diff(samples[at - 441 : at - 44]), np.diff(samples[at - 44 : at + 88])
            assert np.abs(after).max() > 3 * np.abs(before).max()


def test_an_excerpt_begins_with_a_hit_and_is_no_longer_than_asked() -> None:
    times = np.arange(0, 60, 0.5, dtype=np.float32)
    whole = Performance(
        "d", "s", "i", "rock", 120.0, "beat", "4-4", "train", "d/s/1",
        Onsets(times, np.full(len(times), 38, np.uint8), np.arange(len(times), dtype=np.uint8)),
    )  # fmt: skip
    for seed in range(20):
        onsets = excerpt(whole, 10.0, np.random.default_rng(seed)).onsets
        assert onsets.onset_s[0] == pytest.approx(LEAD_S)
        assert len(onsets) == 21
        assert np.all(np.diff(onsets.velocity.astype(int)) == 1)


def _click(level: float = 1.0) -> OneShot:
    samples = np.zeros(4_410, np.float32)
    samples[:441] = level
    return OneShot(samples, 1.0)


def _kit(**banks: dict[str, tuple[OneShot, ...]]):
    recipe = Recipe.model_validate(_values())
    drawn = draw_kit(
        1,
        [Bank(name, shots) for name, shots in banks.items()],
        dict(load_drums(ROOT).pitches),
        recipe.kit,
        np.random.default_rng(0),
    )
    return drawn, recipe


def test_a_kit_borrows_what_its_source_lacks() -> None:
    kit, _ = _kit(
        drums={"kick": (_click(),), "snare": (_click(),)}, metals={"hat_closed": (_click(),), "ride": (_click(),)}
    )
    assert all(kit.sounds(pitch) for pitch in (36, 38, 40, 37, 42, 44, 51, 53, 49))
    assert not kit.sounds(45)
    assert kit.sources == ("drums", "metals")


def test_an_open_hat_is_stopped_by_the_next_stroke_on_the_hats() -> None:
    ring = OneShot(np.full(88_200, 1.0, np.float32), 1.0)
    kit, _ = _kit(hats={"hat_open": (ring,), "hat_closed": (_click(),), "hat_pedal": (_click(),)})
    groups = list(GROUPS)
    hats = groups.index("hats")
    loose = play(kit, _onsets((0.0, 46, 100), (1.5, 38, 1)), np.random.default_rng(0))[hats]
    stopped = play(kit, _onsets((0.0, 46, 100), (0.5, 44, 1), (1.5, 38, 1)), np.random.default_rng(0))[hats]
    later = slice(round(1.0 * SAMPLE_RATE_HZ), round(1.4 * SAMPLE_RATE_HZ))
    assert np.abs(stopped[later]).max() < 0.05 * np.abs(loose[later]).max()


def test_a_louder_velocity_is_louder_by_the_power_of_the_kit() -> None:
    kit, _ = _kit(drums={"kick": (_click(),)})
    soft, loud = (
        np.abs(play(kit, _onsets((0.0, 36, velocity)), np.random.default_rng(0))).max() for velocity in (100, 120)
    )
    assert 20 * np.log10(loud / soft) == pytest.approx(20 * kit.velocity_power * np.log10(120 / 100), abs=0.01)


def test_a_recording_is_whole_and_never_wraps_around() -> None:
    kit, recipe = _kit(drums={"kick": (_click(),), "crash": (_click(),)})
    draws = recipe.recording.model_copy(update={"lossy": 1.0, "backing": 1.0})
    hits = _onsets((0.25, 36, 127), (0.5, 49, 127), (1.0, 36, 127))
    heard = play(kit, hits, np.random.default_rng(0))
    music = np.sin(np.arange(20_000, dtype=np.float32))
    for seed in range(6):
        backing = draw_backing(music, draws, np.random.default_rng(seed))
        samples = produce(heard, backing, draws, np.random.default_rng(seed))
        assert samples.dtype == np.int16
        assert len(samples) == heard.shape[1]
        assert np.abs(samples.astype(int)).max() > 1_000


def test_a_sound_begins_at_its_attack() -> None:
    silence_first = np.concatenate([np.zeros(5_000), 0.3 * np.exp(-np.arange(20_000) / 3_000)])
    shot = one_shot(np.stack([silence_first, silence_first], axis=1), SAMPLE_RATE_HZ, 0.5)
    assert shot is not None
    assert shot.force == 0.5
    assert int(np.argmax(np.abs(shot.samples))) <= 32
    assert np.abs(shot.samples).max() == pytest.approx(1.0)
    assert one_shot(np.zeros(1_000), SAMPLE_RATE_HZ, 1.0) is None


def test_an_archive_without_a_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "nothing")
    with pytest.raises(ConfigError, match="no table"):
        read_performances(path)
    with pytest.raises(ConfigError, match="missing"):
        read_performances(tmp_path / "none.zip")


def test_a_file_that_is_not_of_this_data_set_is_not_replaced(project: Path, performances: Path) -> None:
    precious = project / "precious.zip"
    precious.write_bytes(b"precious")
    with pytest.raises(ConfigError, match="is there already"):
        _expand(project, performances, out=precious)
    assert precious.read_bytes() == b"precious"


@pytest.fixture
def unheard(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Recordings without a sound, which take no time; the numbers of the kits that are rendered."""
    rendered: list[int] = []

    def render(task: KitTask) -> None:
        rendered.append(task.number)
        with new_file(task.part) as part, zipfile.ZipFile(part, "w") as target:
            target.writestr(f"{task.number}.csv", write_table([dict.fromkeys(COLUMNS, "-")], COLUMNS))
            target.writestr(HEARD, json.dumps([source.name for source in task.sources]))

    monkeypatch.setattr(expanding, "make_banks", lambda *_: None)
    monkeypatch.setattr(expanding, "render_kit", render)
    return rendered


def test_a_source_that_may_not_be_sold_makes_an_archive_that_may_not(
    project: Path, performances: Path, unheard: list[int]
) -> None:
    values = _values()
    values["sources"][2]["license"] |= {"id": "CC-BY-NC-4.0", "commercial": False}
    (project / "configs" / "kits" / "few-kits.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    made = _expand(project, performances)
    assert unheard == [1, 2, 3]
    assert yaml.safe_load(made.record.read_text(encoding="utf-8"))["license"]["commercial"] is False


def test_one_rendering_at_a_time(project: Path, performances: Path, unheard: list[int]) -> None:
    with exclusive(project, "render other-kits"):
        assert _expand(project, performances, dry_run=True).kits == 3
        with pytest.raises(CloudError, match=r"cannot render few-kits[\s\S]*render other-kits, process \d+, since"):
            _expand(project, performances)
    assert not unheard
    # Whoever makes room sees that somebody is at work.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(expanding, "make_banks", lambda *_: exclusive(project, "prune").__enter__())
        with pytest.raises(CloudError, match="cannot prune"):
            _expand(project, performances)


def test_parts_that_somebody_has_removed_are_missed(
    project: Path, performances: Path, unheard: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expanding, "render_kit", lambda task: unheard.append(task.number))
    with pytest.raises(StorageError, match="kit 1 are gone"):
        _expand(project, performances)


@pytest.mark.parametrize(
    ("recipe", "out", "complaint"),
    [
        ("Few kits.yaml", None, "no valid record"),
        ("few-kits.yaml", "few.wav", "cannot be"),
        ("few-kits.yaml", "params.yaml/few.zip", "cannot be"),
    ],
)
def test_a_name_that_nothing_can_have_is_refused_before_any_work(
    recipe: str, out: str | None, complaint: str, project: Path
) -> None:
    path = project / "configs" / "kits" / recipe
    path.write_text(yaml.safe_dump(_values()), encoding="utf-8")
    with pytest.raises(ConfigError, match=complaint):
        expand(project, path, project / "not-even-looked-at.zip", out=project / out if out else None, dry_run=True)


# Three performances of a second each, with what is before and after, on the slowest tape.
ALL_BYTES = round(3 * 2.25 / 0.94 * 2 * SAMPLE_RATE_HZ)


@pytest.mark.parametrize(
    ("one_disk", "free", "complaint"),
    [
        (True, {"data": 2 * ALL_BYTES - 1, "store": 0}, "for few_kits.zip"),
        (False, {"data": ALL_BYTES - 1, "store": ALL_BYTES}, "for few_kits.zip"),
        (False, {"data": ALL_BYTES, "store": ALL_BYTES - 1}, "for the parts of few_kits.zip"),
        (False, {"data": ALL_BYTES, "store": ALL_BYTES}, None),
    ],
)
def test_room_is_asked_for_where_parts_are_and_where_the_archive_is(
    one_disk: bool, free: dict[str, int], complaint: str | None, project: Path, performances: Path,
    unheard: list[int], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    store = project.parent / "store"
    store.mkdir()
    monkeypatch.setenv("BACKBEAT_DATA_DIR", str(store))
    usage = namedtuple("usage", "free")  # noqa: PYI024 - as that of shutil
    monkeypatch.setattr(
        staging.shutil,
        "disk_usage",
        lambda path: usage(SPARE_BYTES + free["store" if path.is_relative_to(store) else "data"]),
    )
    monkeypatch.setattr(expanding, "same_filesystem", lambda *_: one_disk)
    if complaint is None:
        monkeypatch.setattr(expanding, "_write", lambda *_: None)
        _expand(project, performances)
        assert unheard == [1, 2, 3]
        # Clones that share the store know of this one.
        (note,) = store.rglob("clones/*")
        assert note.read_text(encoding="utf-8") == f"{project.resolve()}\n"
        return
    with pytest.raises(StorageError, match=complaint):
        _expand(project, performances)
    assert not unheard


def _damaged(performances: Path, change: str) -> None:
    """Rewrite the archive of performances with one thing wrong in it."""
    with zipfile.ZipFile(performances) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    table = contents["groove/info.csv"].decode()
    first = "groove/drummer1/session1/1_rock_120_beat_4-4.mid"
    texts = {
        "no bpm": table.replace("rock,120,", "rock,fast,", 1),
        "an infinite bpm": table.replace("rock,120,", "rock,inf,", 1),
        "another split": table.replace(",train", ",training"),
        "a short row": table.replace(",2.0,train", ""),
        "two lines in a cell": table.replace(",rock,", ',"ro\nck",', 1),
        "another folder": table.replace("drummer1/session1/1_rock", "../session1/1_rock"),
        "one file twice": table.replace("2_rock", "1_rock"),
        "no rows": table.splitlines()[0],
        "another encoding": "\xff",
    }
    if change in texts:
        contents["groove/info.csv"] = texts[change].encode("latin-1")
    elif change == "no such member":
        del contents[first]
    elif change == "no MIDI":
        contents[first] = b"MThd"
    elif change == "no hits":
        contents[first] = b"MThd\0\0\0\6\0\0\0\1\1\xe0MTrk\0\0\0\4\0\xff\x2f\0"
    with zipfile.ZipFile(performances, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    whole = performances.read_bytes()
    if change == "a flipped byte":
        at = whole.index(b"MTrk") + 12
        performances.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    elif change == "half of it":
        performances.write_bytes(whole[: len(whole) // 2])


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("no bpm", "row 1 of info.csv[^$]*bpm[^$]*'fast'"),
        ("an infinite bpm", "row 1 of info.csv[^$]*bpm[^$]*'inf'"),
        ("another split", "row 1 of info.csv[^$]*'training'"),
        ("a short row", "row 1 of info.csv[^$]*fewer"),
        ("two lines in a cell", "row 1 of info.csv[^$]*style"),
        ("another folder", r"row 1 of info.csv[^$]*\.\./session1/1_rock"),
        ("one file twice", "row 2 of info.csv[^$]*1_rock_120_beat_4-4.mid twice"),
        ("no rows", "info.csv of groove.zip is empty"),
        ("another encoding", "info.csv of groove.zip is no table"),
        ("no such member", "lacks groove/drummer1/session1/1_rock_120_beat_4-4.mid"),
        ("no MIDI", "1_rock_120_beat_4-4.mid of groove.zip is not a MIDI file"),
        ("no hits", "1_rock_120_beat_4-4.mid of groove.zip has no notes"),
        ("a flipped byte", "1_rock_120_beat_4-4.mid of groove.zip cannot be read"),
        ("half of it", "groove.zip cannot be used"),
    ],
)
def test_damaged_performances_are_one_error_that_names_them(change: str, complaint: str, performances: Path) -> None:
    assert len(read_performances(performances)) == 3
    _damaged(performances, change)
    with pytest.raises(BackbeatError) as caught:
        read_performances(performances)
    assert re.match(f"[^$]*{complaint}", str(caught.value))


def test_a_source_that_may_not_be_sold_does_not_hide_behind_an_older_record(project: Path, performances: Path) -> None:
    _expand(project, performances)
    values = _values()
    values["sources"][0]["license"] |= {"id": "CC-BY-NC-4.0", "commercial": False}
    (project / "configs" / "kits" / "few-kits.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    with pytest.raises(ConfigError, match="another license than its sources"):
        _expand(project, performances)


def test_what_a_kit_does_not_have_is_not_written(project: Path, performances: Path, tmp_path: Path) -> None:
    kit, _ = _kit(drums={"kick": (_click(),)})
    assert not kit.sounds(48)
    with zipfile.ZipFile(performances) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    write_onsets(_onsets((0.5, 36, 100), (0.7, 48, 100), (1.0, 36, 90)), tmp_path / "toms.mid")
    for name in contents:
        if name.endswith(".mid"):
            contents[name] = (tmp_path / "toms.mid").read_bytes()
    with zipfile.ZipFile(performances, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    made = _expand(project, performances)
    with zipfile.ZipFile(made.archive) as archive:
        midis = [read_onsets(archive.read(name)) for name in archive.namelist() if name.endswith(".midi")]
    assert [onsets.pitch.tolist() for onsets in midis] == [[36, 36]] * 3


def test_compressor_room_and_noise_are_heard() -> None:
    _, recipe = _kit(drums={"kick": (_click(),)})
    # Longer than any attack of the compressor, and further apart than its release.
    tone = OneShot(np.sin(2 * np.pi * 300 / SAMPLE_RATE_HZ * np.arange(4_410, dtype=np.float32)), 1.0)
    kit = Kit("one tone", {36: Voice((tone,), 1.0, "kick")}, 1.0, 0.01, 0.0, ("one",))
    heard = play(kit, _onsets((0.25, 36, 127), (2.0, 36, 60)), np.random.default_rng(0))
    flat = {"low": 0.0, "high": 0.0}
    names = ("tilt_db", "bells_db", "threshold_db", "distance_s", "close_db", "level_db")
    dry = dict.fromkeys(names, flat) | {"room": 0.0, "low_pass": 0.0, "lossy": 0.0}
    quiet = dry | {"noise_db": {"low": -90.0, "high": -90.0}, "drive_db": {"low": -40.0, "high": -40.0}}
    quiet |= {"ratio": {"low": 1.0, "high": 1.0}}

    def made(**other: object) -> np.ndarray:
        draws = type(recipe.recording).model_validate(recipe.recording.model_dump() | quiet | other)
        return produce(heard, None, draws, np.random.default_rng(1)).astype(float)

    def level(samples: np.ndarray, begin_s: float, length_s: float) -> float:
        begin = round(begin_s * SAMPLE_RATE_HZ)
        return 20 * np.log10(
            np.sqrt(np.mean(samples[begin : begin + round(length_s * SAMPLE_RATE_HZ)] ** 2)) / 32_767 + 1e-9
        )

    plain = made()
    assert level(plain, 0.45, 0.1) < -48
    noisy = made(noise_db={"low": -30.0, "high": -30.0})
    assert level(noisy, 0.45, 0.1) == pytest.approx(-30, abs=1.5)
    ringing = made(room=1.0, decay_s={"low": 0.9, "high": 0.9}, room_db={"low": -10.0, "high": -10.0})
    assert level(ringing, 0.45, 0.1) > level(plain, 0.45, 0.1) + 10
    squeezed = made(threshold_db={"low": -30.0, "high": -30.0}, ratio={"low": 6.0, "high": 6.0})
    before, after = (level(one, 0.3, 0.04) - level(one, 2.05, 0.04) for one in (plain, squeezed))
    assert after < before - 1.0
