"""Plans of kits: what is in which, that nothing is drawn twice from the same numbers, and what recordings depend on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from backbeat.drums.classes import load_drums
from backbeat.drums.midi import Onsets
from backbeat.errors import ConfigError
from backbeat.rendering import material, plan, render
from backbeat.rendering.bank import SAMPLE_RATE_HZ, Bank, OneShot
from backbeat.rendering.kits import GROUPS, Kit, draw_kit
from backbeat.rendering.material import make_banks, make_songs
from backbeat.rendering.performances import Performance
from backbeat.rendering.plan import SOURCES_OF_A_KIT, plan_kits
from backbeat.rendering.playing import play
from backbeat.rendering.recipe import Range, Recipe, load_recipe
from backbeat.rendering.render import render_kit
from backbeat.rendering.seeds import ROLES, Purpose, generator
from backbeat.rendering.soundfonts import NOTES
from backbeat.rendering.sources import Source, source_digest
from test_rendering import RECIPE, ROOT, _onsets, _values


def _shots(samples: int) -> tuple[OneShot, ...]:
    return (OneShot(np.linspace(1.0, 0.0, samples, dtype=np.float32), 1.0),)


PADS = dict(load_drums(ROOT).pitches)
DRAWS = Recipe.model_validate(_values()).kit


def _only(value: float) -> Range:
    return Range(low=value, high=value)


# Sounds are as they are in their bank, but for an equalizer and the tuning of single pieces.
STILL = {"tuning_semitones": _only(0.0), "decay": _only(1.0)}


def _kit(*banks: Bank, pads: dict[int, str] = PADS, seed: int = 0, **widths: Range | float) -> Kit:
    plain = {"other_source": 0.0, "loose_hat": 0.0, "layered": 0.0, "attack_db": _only(0.0)}
    draws = DRAWS.model_copy(update={**plain, **widths})
    return draw_kit(1, list(banks), pads, draws, np.random.default_rng(seed))


def _kick(*banks: Bank, seed: int = 0, **widths: Range | float) -> Kit:
    """Return a kit of kicks and nothing else, which takes least time."""
    return _kit(*banks, pads={36: "kick"}, seed=seed, **STILL | widths)


def test_each_pad_sounds_as_its_own_instrument() -> None:
    """Every instrument is a sine of its own frequency, a third apart; a kit tunes by a semitone at most."""
    instruments = [name for group in GROUPS.values() for name in group]
    frequency_hz = {name: 150 * 1.26**index for index, name in enumerate(instruments)}
    time_s = np.arange(8_820) / SAMPLE_RATE_HZ
    bank = Bank("sines", {
        name: (OneShot(np.sin(2 * np.pi * hz * time_s).astype(np.float32), 1.0),) for name, hz in frequency_hz.items()
    })  # fmt: skip
    kit = _kit(bank, tuning_semitones=_only(0.0), wires_db=_only(-200.0))
    for pitch, instrument in PADS.items():
        if instrument not in frequency_hz:
            continue
        hit = Onsets(np.array([0.1], np.float32), np.array([pitch], np.uint8), np.array([100], np.uint8))
        heard = play(kit, hit, np.random.default_rng(0))
        group = next(index for index, pieces in enumerate(GROUPS.values()) if instrument in pieces)
        assert not np.delete(heard, group, axis=0)[:, :4_000].any()
        spectrum = np.abs(np.fft.rfft(heard[group]))
        loudest_hz = spectrum.argmax() * SAMPLE_RATE_HZ / heard.shape[1]
        assert loudest_hz == pytest.approx(frequency_hz[instrument], rel=0.1), instrument


@pytest.mark.parametrize("piece", ["bell", "hat_open", "cross_stick"])
def test_another_kits_piece_is_better_than_another_instrument(piece: str) -> None:
    mine = {name: _shots(40_000) for name in ("kick", "snare", "hat_closed", "ride", "crash")}
    kit = _kit(Bank("mine", mine), Bank("other", {piece: _shots(4_000)}))
    pitch = {"bell": 53, "hat_open": 46, "cross_stick": 37}[piece]
    # Tuning changes lengths, but not tenfold.
    assert len(kit.voices[pitch].shots[0].samples) < 8_000
    assert kit.sources == ("mine", "other")


def _sine(frequency_hz: float, force: float = 1.0, samples: int = 2_000) -> OneShot:
    time_s = np.arange(samples) / SAMPLE_RATE_HZ
    return OneShot(np.sin(2 * np.pi * frequency_hz * time_s).astype(np.float32), force)


def _sines(name: str, frequency_hz: float) -> Bank:
    shots = tuple(_sine(frequency_hz, force) for force in (0.5, 1.0))
    return Bank(name, dict.fromkeys(("kick", "snare", "ride"), shots))


def _level_db(samples: NDArray[np.float32], frequency_hz: float) -> float:
    """Return the level at a frequency, give or take what a kit's tuning is."""
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2
    at_hz = np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE_HZ)
    return float(10 * np.log10(power[np.abs(at_hz / frequency_hz - 1) < 0.3].sum() + 1e-9))


def test_a_layer_is_the_same_piece_of_another_source_as_loud_as_drawn() -> None:
    low, high = _sines("low", 200.0), _sines("high", 2_000.0)
    pads = {36: "kick", 38: "snare", 51: "ride"}
    alone = _kit(low, high, pads=pads, **STILL)
    for layer_db in (-20.0, -6.0):
        layered = _kit(low, high, pads=pads, layered=1.0, layer_db=_only(layer_db), **STILL)
        assert layered.sources == ("high", "low")
        assert alone.sources == ("low",)
        for pitch in pads:
            for below, both in zip(alone.voices[pitch].shots, layered.voices[pitch].shots, strict=True):
                assert both.force == below.force
                assert np.abs(both.samples).max() == pytest.approx(1.0)
                assert _level_db(below.samples, 200.0) - _level_db(below.samples, 2_000.0) > 40
                # Both have a peak of one after their equalizers, so the ratio is what is drawn.
                difference_db = _level_db(both.samples, 2_000.0) - _level_db(both.samples, 200.0)
                assert difference_db == pytest.approx(layer_db, abs=1.5)


def test_how_often_a_layer_is_there_whose_it_is_and_how_loud_are_drawn() -> None:
    others = {"middle": 1_000.0, "high": 4_000.0}
    banks = [_sines("low", 200.0), *(_sines(name, hz) for name, hz in others.items())]
    levels_db: dict[str, list[float]] = {name: [] for name in others}
    for seed in range(40):
        kit = _kick(*banks, seed=seed, layered=0.5, layer_db=Range(low=-20.0, high=0.0))
        for name in set(kit.sources) - {"low"}:
            samples = kit.voices[36].shots[0].samples
            levels_db[name].append(_level_db(samples, others[name]) - _level_db(samples, 200.0))
    assert 12 < sum(map(len, levels_db.values())) < 28
    for levels in levels_db.values():
        assert len(levels) > 4
        assert min(levels) < -12
        assert max(levels) > -8


def test_below_its_layers_a_kit_is_the_one_that_it_is_without() -> None:
    low, high = _sines("low", 200.0), _sines("high", 2_000.0)
    silent = _kit(low, high, layered=1.0, layer_db=_only(-300.0))
    alone = _kit(low, high)
    assert {pitch: voice.gain for pitch, voice in silent.voices.items()} == {
        pitch: voice.gain for pitch, voice in alone.voices.items()
    }
    for pitch in (36, 38, 51):
        for one, other in zip(silent.voices[pitch].shots, alone.voices[pitch].shots, strict=True):
            assert np.allclose(one.samples[: len(other.samples)], other.samples, rtol=0, atol=1e-9)


def test_a_layer_that_lacks_the_piece_leaves_it_as_it_is() -> None:
    low = _sines("low", 200.0)
    other = Bank("other", {"snare_rim": _shots(2_000)})
    kit = _kit(low, other, layered=1.0, layer_db=_only(0.0))
    alone = _kit(low, other)
    assert np.array_equal(kit.voices[38].shots[0].samples, alone.voices[38].shots[0].samples)
    assert not np.array_equal(kit.voices[40].shots[0].samples, alone.voices[40].shots[0].samples)
    assert kit.sources == ("low", "other")
    assert _kit(low, other, pads={38: "snare"}, layered=1.0, layer_db=_only(0.0)).sources == ("low",)


def test_a_layer_is_of_the_nearest_force_and_the_first_of_equals() -> None:
    frequency_hz = {0.2: 1_000.0, 0.6: 2_500.0, 1.0: 6_000.0}
    below = Bank("below", {"kick": tuple(_sine(200.0, force) for force in (0.1, 0.7, 1.0))})
    over = tuple(_sine(hz, force) for force, first_hz in frequency_hz.items() for hz in (first_hz, 15_000.0))
    kit = _kick(below, Bank("over", {"kick": over}), layered=1.0, layer_db=_only(0.0))
    for shot, nearest_hz in zip(kit.voices[36].shots, frequency_hz.values(), strict=True):
        levels_db = {hz: _level_db(shot.samples, hz) for hz in (*frequency_hz.values(), 15_000.0)}
        assert levels_db.pop(nearest_hz) > max(levels_db.values()) + 20


@pytest.mark.parametrize(("below_samples", "over_samples"), [(1_000, 2_000), (2_000, 1_000)])
def test_both_of_a_layered_sound_begin_at_once_and_ring_to_their_ends(below_samples: int, over_samples: int) -> None:
    def click(name: str, samples: int) -> Bank:
        fall = np.exp(-np.arange(samples, dtype=np.float32) / 30)
        return Bank(name, {"kick": (OneShot(fall, 1.0),)})

    banks = click("below", below_samples), click("over", over_samples)
    # So much louder than what is below that it is nearly all that is heard.
    kit = _kick(*banks, layered=1.0, layer_db=_only(40.0))
    (both,), (alone,) = kit.voices[36].shots, _kick(*banks).voices[36].shots
    begin, begin_alone = (int(np.argmax(np.abs(one.samples) >= 0.1)) for one in (both, alone))
    assert begin == pytest.approx(begin_alone, abs=4)
    assert len(both.samples) == pytest.approx(2_000, rel=0.1)
    assert both.samples[np.abs(both.samples).argmax()] > 0


def test_the_sounds_of_a_layer_are_tuned_as_all_are() -> None:
    low, high = _sines("low", 200.0), _sines("high", 2_000.0)
    (shot, _) = _kick(low, high, layered=1.0, layer_db=_only(0.0), tuning_semitones=_only(12.0)).voices[36].shots
    assert _level_db(shot.samples, 4_000.0) > _level_db(shot.samples, 2_000.0) + 20


def _attack_db(kit: Kit, at_s: float) -> float:
    """Return the level of a kick at a time, against what it is long after its attack."""
    samples = np.abs(kit.voices[36].shots[0].samples)
    begin = round(at_s * SAMPLE_RATE_HZ)
    return float(20 * np.log10(samples[begin : begin + 88].max() / samples[5_000:5_500].max()))


def _long(name: str) -> Bank:
    return Bank(name, {"kick": (_sine(1_000.0, samples=6_000),)})


@pytest.mark.parametrize("attack_db", [-6.0, 6.0])
def test_the_attack_of_its_own_sound_and_no_more_is_raised_against_the_rest(attack_db: float) -> None:
    as_is, changed, under_a_layer = (
        _kick(_long("own"), _long("other"), layer_db=_only(60.0), layered=layered, attack_db=_only(level_db))
        for layered, level_db in ((0.0, 0.0), (0.0, attack_db), (1.0, attack_db))
    )
    assert _attack_db(changed, 0.0) - _attack_db(as_is, 0.0) == pytest.approx(attack_db, abs=1.0)
    # Two time constants later.
    assert _attack_db(changed, 0.03) - _attack_db(as_is, 0.03) == pytest.approx(attack_db * np.exp(-2), abs=0.4)
    assert _attack_db(under_a_layer, 0.0) == pytest.approx(_attack_db(as_is, 0.0), abs=1.0)


def test_attacks_are_drawn() -> None:
    levels_db = [
        _attack_db(_kick(_long("own"), seed=seed, attack_db=Range(low=-6.0, high=6.0)), 0.0) for seed in range(24)
    ]
    assert 6 < sum(level_db > 0 for level_db in levels_db) < 18
    assert max(levels_db) - min(levels_db) > 6


def test_a_kit_is_equalized_by_a_bell_and_not_only_by_a_slope() -> None:
    impulse = np.zeros(2_000, np.float32)
    impulse[0] = 1.0
    bank = Bank("impulse", {"kick": (OneShot(impulse, 1.0),)})
    off_the_slope_db = []
    for seed in range(8):
        samples = _kick(bank, seed=seed).voices[36].shots[0].samples
        at_hz = np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE_HZ)
        heard = (at_hz > 40) & (at_hz < 10_000)
        octaves = np.log2(at_hz[heard])
        level_db = 20 * np.log10(np.abs(np.fft.rfft(samples))[heard])
        slope = np.polynomial.Polynomial.fit(octaves, level_db, 1)
        off_the_slope_db.append(np.abs(level_db - slope(octaves)).max())
    assert max(off_the_slope_db) > 2


def test_what_is_alike_stays_within_a_source() -> None:
    mine = {name: _shots(40_000) for name in ("kick", "snare", "hat_closed", "ride", "crash", "tom_low")}
    others = {name: _shots(4_000) for name in ("tom_high", "tom_mid", "snare_rim", "hat_pedal")}
    kit = _kit(Bank("mine", mine), Bank("other", others))
    assert all(len(kit.voices[pitch].shots[0].samples) > 10_000 for pitch in (48, 45, 43, 40, 44, 53, 46, 37))
    assert kit.sources == ("mine",)


def _pieces(source: Source) -> set[str]:
    if source.hydrogen:
        return set(source.hydrogen.instruments.values())
    if source.folder:
        return set(source.folder.files)
    if source.soundfont:
        return set(source.soundfont.only or {**NOTES, **source.soundfont.notes})
    return set()


def test_every_role_has_recorded_bells_and_no_source_reads_what_no_kit_plays() -> None:
    recipe = load_recipe(RECIPE)
    for role in ROLES:
        assert any("bell" in _pieces(source) for source in recipe.sources if source.role == role), role
    # Few enough that the one with the bell is at hand for every kit.
    assert sum(source.role == "validation" for source in recipe.sources) <= SOURCES_OF_A_KIT
    played = {instrument for group in GROUPS.values() for instrument in group}
    for source in recipe.sources:
        if source.soundfont is None or source.soundfont.only:
            assert _pieces(source) <= played, source.name


def _whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: Callable[[dict[str, Any]], object] = lambda _: None
) -> list[plan.KitTask]:
    """Plan two kits of each role with songs, of a recipe with something changed; sounds and songs are clicks."""
    values = _values()
    for source in values["sources"]:
        source |= {"synthesizer": {}}
        del source["folder"]
    values["parts"] = {role: {"kits": 2, "minutes": {"train": 0.05, "test": 0.05}} for role in ROLES}
    values["recording"]["backing"] = 1.0
    (tmp_path / "font.sf2").write_bytes(b"no font")
    license_of = values["sources"][0]["license"]
    values["band"] = {"file": "font.sf2", "package": "fonts", "songs": 6, "license": license_of}
    changed(values)
    monkeypatch.setenv("XDG_DATA_DIRS", str(tmp_path))
    monkeypatch.setenv("BACKBEAT_DATA_DIR", str(tmp_path / "store"))
    hits = _onsets((0.5, 36, 100), (0.6, 36, 90))
    performances = [
        Performance("d", "s", f"{split}{n}", "rock", 120.0, "beat", "4-4", split, f"{split}{n}", hits)
        for split in ("train", "test")
        for n in range(5)
    ]
    return plan_kits(ROOT, Recipe.model_validate(values), performances, "")


def test_a_kit_is_made_of_sources_of_its_role(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = _whole(tmp_path, monkeypatch)
    assert [task.role for task in tasks] == ["train", "train", "validation", "validation", "test", "test"]
    assert all(source.role == task.role for task in tasks for source in task.sources)
    assert [task.number for task in tasks] == [1, 2, 3, 4, 5, 6]


def test_recordings_are_kept_by_all_that_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def parts(section: str | None = None, **other: Any) -> set[Path]:
        def changed(values: dict[str, Any]) -> None:
            (values[section] if section else values).update(other)

        return {task.part for task in _whole(tmp_path, monkeypatch, changed)}

    as_it_was = parts()
    assert len(as_it_was) == 6
    assert parts(title="of the same sounds") == as_it_was
    width = {"low": 0.5, "high": 0.6}
    for other in (parts("kit", decay=width), parts("recording", speed=width), parts(longest_s=7.0)):
        assert not other & as_it_was


def test_recordings_of_the_same_performance_are_others_with_another_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def one_each(values: dict[str, Any]) -> None:
        values["recording"]["backing"] = 0.0
        for part in values["parts"].values():
            part["minutes"] = {"train": 0.001}

    def seven(values: dict[str, Any]) -> None:
        one_each(values)
        values["seed"] = 7

    pairs = zip(_whole(tmp_path, monkeypatch, one_each), _whole(tmp_path, monkeypatch, seven), strict=True)
    alike = [(one.part, other.part) for one, other in pairs if one.played[0].stem == other.played[0].stem]
    assert alike
    assert all(one != other for one, other in alike)


def test_what_no_kit_is_made_of_need_not_be_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def only_train(values: dict[str, Any]) -> None:
        del values["parts"]["validation"], values["parts"]["test"]
        for source in values["sources"][1:]:
            source["folder"] = {"folder": "nowhere", "files": {"kick": ["*.wav"]}}
            del source["synthesizer"]
        values["recording"]["backing"] = 0.0
        values["band"]["file"] = "nowhere.sf2"

    tasks = _whole(tmp_path, monkeypatch, only_train)
    assert [task.songs for task in tasks] == [(), ()]
    make_songs(tasks[0].recipe, tasks, 1, None)
    with pytest.raises(ConfigError, match="nowhere is not here"):
        _whole(tmp_path, monkeypatch, lambda values: values["sources"].__setitem__(0, _nowhere(values)))


def _nowhere(values: dict[str, Any]) -> dict[str, Any]:
    first = {name: value for name, value in values["sources"][0].items() if name != "synthesizer"}
    return first | {"folder": {"folder": "nowhere", "files": {"kick": ["*.wav"]}}}


def test_a_split_without_performances_is_missed_before_anything_is_rendered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="of the split validation"):
        _whole(tmp_path, monkeypatch, lambda values: values["parts"]["test"]["minutes"].update(validation=1.0))


def test_no_two_draws_share_their_numbers_and_no_two_roles_their_songs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[Any, ...]] = []

    def noted(*key: Any) -> np.random.Generator:
        drawn.append(key if len(key) == 5 else (*key, 0))
        return generator(*key)

    for module in (plan, material, render):
        monkeypatch.setattr(module, "generator", noted)
    seeds: list[int] = []

    def bank(source: Source, seed: int) -> Bank:
        seeds.append(seed)
        return Bank(source.name, {"kick": _shots(441)})

    monkeypatch.setattr(render, "load_bank", bank)
    monkeypatch.setattr(material, "make_backing", lambda _font, _rng: np.ones(SAMPLE_RATE_HZ, np.float32))
    monkeypatch.setattr(render, "produce", lambda *_: np.zeros(441, np.int16))
    tasks = _whole(tmp_path, monkeypatch)
    make_banks(tasks, 1, None)
    make_songs(tasks[0].recipe, tasks, 1, None)
    for task in tasks:
        render_kit(task)

    assert {key[3] for key in drawn} == set(Purpose)
    assert len(set(drawn)) == len(drawn)
    assert len(set(seeds)) == len(seeds) == len(tasks)
    songs = {role: {song for task in tasks if task.role == role for song in task.songs} for role in ROLES}
    assert [len(of_role) for of_role in songs.values()] == [6, 6, 6]
    assert len(set.union(*songs.values())) == 18


def _first(keys: Iterable[tuple[int, str, int, Purpose, int]]) -> list[int]:
    return [int(generator(*key).integers(2**63)) for key in keys]


def test_streams_are_of_their_key_whatever_the_seed() -> None:
    keys = [
        (seed, role, index, purpose, position)
        for seed in (0, 1, 2**32, 2**32 + 1)
        for role in ROLES
        for index in range(3)
        for purpose in Purpose
        for position in range(3)
    ]
    assert len(set(_first(keys))) == len(keys)
    assert _first(keys[:5]) == _first(keys[:5])


def test_a_source_is_what_is_heard_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_DIRS", str(tmp_path))
    (tmp_path / "drums").mkdir()
    soft, hard = (tmp_path / "drums" / name for name in ("kick soft.wav", "kick hard.wav"))
    soft.write_bytes(b"soft")
    hard.write_bytes(b"hard")
    values: dict[str, Any] = {
        "name": "One", "origin": "somebody", "role": "train", "package": "drums",
        "license": {"id": "MIT", "commercial": True, "holder": "somebody", "url": "LICENSE"},
        "folder": {"folder": "drums", "files": {"kick": ["*.wav"]}},
    }  # fmt: skip

    def digest(**other: Any) -> str:
        return source_digest(Source.model_validate(values | other))

    before = digest()
    assert digest(weight=3.0, license={**values["license"], "holder": "somebody else"}) == before
    assert digest(folder={**values["folder"], "velocity": ""}) != before
    soft.write_bytes(b"hard")
    hard.write_bytes(b"soft")
    assert digest() != before
