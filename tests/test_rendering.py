"""Performances x kits: what is heard is what is written, nothing depends on chance, and a kill costs little."""

from __future__ import annotations

import copy
import io
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from backbeat.config import find_project
from backbeat.drums.classes import load_drums
from backbeat.drums.egmd import read_index
from backbeat.drums.midi import Onsets, read_onsets, write_onsets
from backbeat.errors import ConfigError
from backbeat.rendering import expand as expanding
from backbeat.rendering.bank import SAMPLE_RATE_HZ, Bank, OneShot, one_shot
from backbeat.rendering.expand import expand
from backbeat.rendering.kits import GROUPS, Kit, Voice, draw_kit
from backbeat.rendering.performances import LEAD_S, Performance, excerpt, read_performances
from backbeat.rendering.playing import play
from backbeat.rendering.recipe import Recipe, load_recipe
from backbeat.rendering.studio import draw_backing, produce

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


def test_the_license_names_what_is_heard_and_nothing_else(project: Path, performances: Path) -> None:
    values = _values()
    first, *_ = values["sources"]
    second = copy.deepcopy(first) | {"name": "other sounds"}
    second["license"]["url"] = "https://example.org/license"
    values |= {"sources": [first, second], "parts": {"train": {"kits": 1, "minutes": {"train": 0.01}}}}
    values["kit"]["other_source"] = 0.0
    (project / "configs" / "kits" / "few-kits.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    made = _expand(project, performances)
    with zipfile.ZipFile(made.archive) as archive:
        text = archive.read("few_kits/LICENSE").decode()
        begun = archive.read("few_kits/few_kits.csv").decode().splitlines()[1].split(",")[-1]
        assert all(name.endswith((".midi", ".wav", ".csv", "LICENSE")) for name in archive.namelist())
    # The kit begins with one of two sources that have the same pieces, and takes none of the other one.
    assert len(made.sources) == 2
    heard = {
        "sounds of train 1": "Sounds: sounds of train, nobody, MIT",
        "other sounds 1": "Sounds: other sounds, nobody, MIT, https://example.org/license",
    }
    assert [line for line in text.splitlines() if line.startswith("Sounds")] == [heard[begun]]


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
            # The difference of samples: a kick may still ring, an attack is in the treble.
            before, after = np.diff(samples[at - 441 : at - 88]), np.diff(samples[at : at + 882])
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


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"sources": "one origin"}, "in two roles"),
        ({"recording": "a band is wanted"}, "there is no band"),
        ({"parts": "a role without sources"}, "no source has the role"),
    ],
)
def test_a_recipe_that_cannot_be_meant_is_refused(change: dict[str, str], complaint: str, tmp_path: Path) -> None:
    values = _values()
    if "sources" in change:
        for source in values["sources"]:
            source["origin"] = "somebody"
    elif "recording" in change:
        values["recording"]["backing"] = 0.5
    else:
        values["sources"] = values["sources"][:1]
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    with pytest.raises(ConfigError, match=complaint):
        load_recipe(path)


def test_a_recipe_like_another_is_that_but_for_what_it_says() -> None:
    recipe, held_out, in_mix = (
        load_recipe(RECIPE.with_name(f"{name}.yaml")) for name in (RECIPE.stem, "held-out-kits", "held-out-kits-in-mix")
    )
    assert set(held_out.parts) == set(in_mix.parts) == {"test"}
    assert (held_out.recording.backing, in_mix.recording.backing) == (0.0, 1.0)
    assert held_out.kit == in_mix.kit == recipe.kit
    assert held_out.seed == in_mix.seed == recipe.seed


def test_the_tracked_recipe_holds_its_kits_out() -> None:
    recipe = load_recipe(RECIPE)
    assert {source.role for source in recipe.sources} == {"train", "validation", "test"}
    assert all(source.license.commercial for source in recipe.sources)


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
    kit = Kit(1, "one tone", {36: Voice((tone,), 1.0, "kick")}, 1.0, 0.01, 0.0, ("one",))
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
