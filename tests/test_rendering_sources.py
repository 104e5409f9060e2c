"""Sources of drum sounds: whatever they are, they become banks."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mido
import numpy as np
import pytest
import soundfile

from backbeat.config import Strict, load_yaml, validated
from backbeat.drums.classes import load_drums
from backbeat.errors import AudioError, ConfigError
from backbeat.rendering import soundfonts
from backbeat.rendering.bank import SAMPLE_RATE_HZ, OneShot
from backbeat.rendering.folders import folder_bank
from backbeat.rendering.hydrogen import hydrogen_bank
from backbeat.rendering.soundfonts import NOTES, soundfont_bank
from backbeat.rendering.sources import Source, load_bank
from backbeat.rendering.synthetic import FORCES, PADS, synthetic_bank

PROJECT = Path(__file__).parents[1]
TIM = Path("/usr/share/sounds/sf2/TimGM6mb.sf2")

LICENSE = {"id": "CC0-1.0", "commercial": True, "holder": "somebody", "url": "doc/sounds/copyright"}


class SourceList(Strict):
    sources: list[Source]


def source(**kind: Any) -> Source:
    values = {"name": "One", "origin": "somebody", "role": "train", "license": LICENSE, "package": "some-sounds"}
    return validated(Source, {**values, **kind}, "source")


def listed() -> list[Source]:
    values = load_yaml(PROJECT / "configs" / "kits" / "sources.yaml")
    return validated(SourceList, values, "sources.yaml").sources


def tone(path: Path, frequency_hz: float, rate_hz: int = SAMPLE_RATE_HZ, length_s: float = 0.2) -> None:
    """Write a decaying sine after 50 ms of silence."""
    time_s = np.arange(round(length_s * rate_hz)) / rate_hz
    sound = 0.4 * np.sin(2 * np.pi * frequency_hz * time_s) * np.exp(-time_s / 0.05)
    soundfile.write(path, np.concatenate([np.zeros(rate_hz // 20), sound]), rate_hz)


def pitch_hz(shot: OneShot) -> float:
    spectrum = np.abs(np.fft.rfft(shot.samples, 2**16))
    return float(spectrum.argmax() * SAMPLE_RATE_HZ / 2**16)


def centroid_hz(shot: OneShot) -> float:
    power = np.abs(np.fft.rfft(shot.samples[:8192])) ** 2
    return float((power * np.fft.rfftfreq(len(shot.samples[:8192]), 1 / SAMPLE_RATE_HZ)).sum() / power.sum())


def forces(shots: list[OneShot]) -> list[float]:
    return [round(shot.force, 3) for shot in shots]


LAYER = "<layer><filename>{}</filename><min>{}</min><max>{}</max><pitch>{}</pitch></layer>"


def kit(folder: Path, instruments: str, namespace: str = "") -> None:
    folder.joinpath("drumkit.xml").write_text(
        f"<drumkit_info{namespace}><name>k</name><instrumentList>{instruments}</instrumentList></drumkit_info>"
    )


@pytest.mark.parametrize("namespace", ["", ' xmlns="http://www.hydrogen-music.org/drumkit"'])
def test_layers_of_a_hydrogen_kit_are_forces(tmp_path: Path, namespace: str) -> None:
    for name, frequency_hz in (("hard.wav", 200.0), ("soft.flac", 100.0), ("bad.wav", 50.0), ("old.wav", 300.0)):
        tone(tmp_path / name, frequency_hz, rate_hz=48_000)
    ranges = (("hard.wav", 0.5, 1), ("soft.flac", 0, 0.5), ("bad.wav", 0, 1))
    layers = "".join(LAYER.format(*layer, 0) for layer in ranges)
    higher = LAYER.format("old.wav", 0, 1, 12)
    instruments = (
        f"<instrument><name>Kick 1</name>{layers}</instrument>"
        f"<instrument><name>Tom</name><instrumentComponent>{higher}</instrumentComponent></instrument>"
        "<instrument><name>Old</name><filename>old.wav</filename></instrument>"
        "<instrument><name>Unused</name><filename>nowhere.wav</filename></instrument>"
    )
    kit(tmp_path, instruments, namespace)

    shots = hydrogen_bank(tmp_path, {"Kick 1": "kick", "Tom": "tom_low", "Old": "snare"}, ["bad.*"])

    assert sorted(shots) == ["kick", "snare", "tom_low"]
    assert forces(shots["kick"]) == [0.25, 0.75]
    assert [pitch_hz(shot) for shot in shots["kick"]] == pytest.approx([100, 200], abs=4)
    assert pitch_hz(shots["snare"][0]) == pytest.approx(300, abs=4)
    assert pitch_hz(shots["tom_low"][0]) == pytest.approx(600, abs=8)


def test_overlapping_layers_are_where_they_are_played(tmp_path: Path) -> None:
    tone(tmp_path / "a.wav", 100)
    layers = "".join(LAYER.format("a.wav", 0, high, 0) for high in (1, 0.2, 0.6))
    kit(tmp_path, f"<instrument><name>Ride</name>{layers}</instrument>")
    assert forces(hydrogen_bank(tmp_path, {"Ride": "ride"}, ())["ride"]) == [0.1, 0.4, 0.8]


def test_a_name_that_a_kit_lacks_is_an_error(tmp_path: Path) -> None:
    kit(tmp_path, "<instrument><name>Kick</name></instrument>")
    with pytest.raises(ConfigError, match="has no Cick"):
        hydrogen_bank(tmp_path, {"Cick": "kick"}, ())


def test_names_of_files_say_how_hard_a_stroke_was(tmp_path: Path) -> None:
    names = ["ride v1", "ride v2", "ride v10", "snare_soft", "snare_hard", "kick01", "kick02", "tom_20", "tom_127"]
    for name in names:
        tone(tmp_path / f"{name}.wav", 200)

    plain = folder_bank(tmp_path, {"ride": ["ride*"], "snare": ["snare*.wav"], "kick": ["kick*"]}, None, ())
    assert forces(sorted(plain["ride"], key=lambda shot: shot.force)) == pytest.approx([1 / 6, 1 / 2, 5 / 6], abs=1e-3)
    assert sorted(forces(plain["snare"])) == [0.3, 0.8]
    assert forces(plain["kick"]) == [0.5, 0.5]

    by_number = folder_bank(tmp_path, {"tom_low": ["tom*"]}, r"_(\d+)$", ())
    assert sorted(forces(by_number["tom_low"])) == [0.25, 0.75]
    assert forces(folder_bank(tmp_path, {"snare": ["snare*"]}, "", ())["snare"]) == [0.5, 0.5]
    with pytest.raises(ConfigError, match="groups"):
        folder_bank(tmp_path, {"ride": ["ride*"]}, "v", ())


def test_the_production_set_of_the_library_is_such_a_folder(tmp_path: Path) -> None:
    original = tmp_path / "original.wav"
    tone(original, 200)
    for path in ("kick/bank 01/Deep.wav", "kick/bank 02/Dry-1a2b3c.wav", "snare/bank 01/Rim.wav"):
        (tmp_path / "production" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "production" / path).symlink_to(original)
    shots = folder_bank(tmp_path / "production", {"kick": ["kick/*/*.wav"], "snare": ["snare/**/*.wav"]}, None, ())
    assert {name: len(of) for name, of in shots.items()} == {"kick": 2, "snare": 1}


def test_an_instrument_without_files_is_an_error(tmp_path: Path) -> None:
    tone(tmp_path / "a.wav", 200)
    with pytest.raises(ConfigError, match="has no kick"):
        folder_bank(tmp_path, {"kick": ["a.wav"]}, None, ["a.*"])


def test_a_seed_is_a_kit_of_the_synthesizer() -> None:
    first, again, other = synthetic_bank(7), synthetic_bank(7), synthetic_bank(8)
    assert set(first) == set(PADS)
    for name, shots in first.items():
        assert {shot.force for shot in shots} == set(FORCES), name
        for shot, same, different in zip(shots, again[name], other[name], strict=True):
            np.testing.assert_array_equal(shot.samples, same.samples)
            assert len(shot.samples) != len(different.samples) or not np.array_equal(shot.samples, different.samples)
    kick, hat = (max(first[name], key=lambda shot: shot.force) for name in ("kick", "hat_closed"))
    assert centroid_hz(kick) < 1_000 < 3_000 < centroid_hz(hat)
    closed, opened = (max(len(shot.samples) for shot in first[name]) for name in ("hat_closed", "hat_open"))
    assert closed < opened


def test_missing_sounds_name_their_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_DIRS", str(tmp_path))
    missing = source(folder={"folder": "drums", "files": {"kick": ["*.wav"]}})
    with pytest.raises(ConfigError) as caught:
        load_bank(missing, 0)
    assert caught.value.next_step == "apt-get install some-sounds"

    (tmp_path / "drums").mkdir()
    for name, frequency_hz in (("b hard.wav", 100), ("a soft.wav", 100)):
        tone(tmp_path / "drums" / name, frequency_hz)
    bank = load_bank(missing, 0)
    assert bank.source == "One"
    assert forces(list(bank.shots["kick"])) == [0.3, 0.8]


@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"synthesizer": {}, "soundfont": {"file": "a.sf2"}},
        {"soundfont": {"file": "/usr/share/sounds/a.sf2"}},
        {"soundfont": {"file": "../a.sf2"}},
        {"soundfont": {"file": "a.sf2", "only": ["conga"]}},
        {"folder": {"folder": "a", "files": {}}},
    ],
)
def test_a_source_is_one_thing_inside_of_the_data_folders(kind: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        source(**kind)


def test_the_list_holds_what_it_promises() -> None:
    known = set(load_drums(PROJECT).pitches.values())
    sources = listed()
    assert {one.role for one in sources} == {"train", "validation", "test"}
    roles: dict[str, set[str]] = {}
    for one in sources:
        assert one.license.commercial, one.name
        assert one.package is not None or one.synthesizer is not None, one.name
        roles.setdefault(one.origin, set()).add(one.role)
        named = set(one.hydrogen.instruments.values()) if one.hydrogen else set()
        named |= set(one.folder.files) if one.folder else set()
        named |= set(one.soundfont.notes) if one.soundfont else set()
        assert named <= known, one.name
    assert set(NOTES) | set(PADS) <= known
    assert all(len(of_origin) == 1 for of_origin in roles.values())


def recorded(layered_note: int, silent_note: int) -> Callable[[Path, Path, Path], None]:
    """Return what plays as FluidSynth does: a tone for each note, of two layers for one of them, none for another."""

    def play(font: Path, midi: Path, recording: Path) -> None:
        song = mido.MidiFile(midi)
        sound = np.zeros((round((song.length + 1) * SAMPLE_RATE_HZ), 2), np.float32)
        time_s = np.arange(round(0.3 * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
        now_s = 0.0
        for message in song:
            now_s += message.time
            if message.type == "note_on" and message.velocity and message.note != silent_note:
                frequency_hz = (
                    20.0 * message.note * (2 if message.note == layered_note and message.velocity > 64 else 1)
                )
                at = round(now_s * SAMPLE_RATE_HZ)
                stroke = np.sin(2 * np.pi * frequency_hz * time_s) * np.exp(-time_s / 0.05)
                sound[at : at + len(stroke)] += (message.velocity / 200 * stroke).astype(np.float32)[:, np.newaxis]
        soundfile.write(recording, sound, SAMPLE_RATE_HZ, subtype="FLOAT")

    return play


def test_the_recording_of_a_soundfont_is_cut_into_strokes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soundfonts, "play_midi", recorded(layered_note=38, silent_note=53))
    notes = {"kick": (35, 36), "snare": (38,), "bell": (53,)}

    shots = soundfont_bank(Path("a.sf2"), 0, None, notes)

    assert sorted(shots) == ["kick", "snare"]
    assert [pitch_hz(shot) for shot in shots["kick"]] == pytest.approx([700, 720], abs=4)
    assert [pitch_hz(shot) for shot in shots["snare"]] == pytest.approx([760, 1520], abs=4)
    low, high = shots["snare"]
    assert low.force < 0.5 < high.force
    # Trimmed to the attack, and ended where nothing is heard.
    assert all(0.25 < len(shot.samples) / SAMPLE_RATE_HZ < 0.35 for of in shots.values() for shot in of)
    assert all(np.abs(shot.samples[:400]).max() > 0.5 for of in shots.values() for shot in of)


def test_fluidsynth_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="fluidsynth") as caught:
        soundfont_bank(Path("a.sf2"), 0, None, {"kick": (36,)})
    assert caught.value.next_step == "apt-get install fluidsynth"


def test_a_real_soundfont(tmp_path: Path) -> None:
    if not TIM.is_file() or shutil.which("fluidsynth") is None:
        pytest.skip("fluidsynth and timgm6mb-soundfont are not installed")
    notes = {"kick": (36,), "hat_closed": (42,)}
    shots = soundfont_bank(TIM, 0, None, notes)
    assert set(shots) == set(notes)
    kick, hat = (shots[name][-1] for name in notes)
    assert centroid_hz(kick) < 500 < 4_000 < centroid_hz(hat)
    assert len(hat.samples) < SAMPLE_RATE_HZ / 2
    with pytest.raises(ConfigError, match="program"):
        soundfont_bank(TIM, 99, None, {"kick": (36,)})
    (tmp_path / "no.sf2").write_bytes(b"no SoundFont")
    with pytest.raises(AudioError, match="cannot play"):
        soundfont_bank(tmp_path / "no.sf2", 0, None, {"kick": (36,)})


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_toms_of_the_synthesizer_are_tuned_as_they_are_called(seed: int) -> None:
    shots = synthetic_bank(seed)
    pitch = []
    for name in ("tom_low", "tom_mid", "tom_high"):
        samples = shots[name][-1].samples
        pitch.append(np.abs(np.fft.rfft(samples)).argmax() / len(samples))
    assert pitch == sorted(pitch)
    assert len(set(pitch)) == 3
