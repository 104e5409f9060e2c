"""Drum classes: every pad of the data has a place, and a table that contradicts itself is refused."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from dvc.repo import Repo

from backbeat.config import DRUMS_FILE
from backbeat.datasets.mini.kits import ALL_KITS, KITS
from backbeat.drums.classes import IGNORED, class_map, load_drums
from backbeat.drums.midi import read_onsets
from backbeat.errors import ConfigError

REPOSITORY = Path(__file__).parents[1]
EXCERPT = REPOSITORY.parent / "shared" / "data" / "e-gmd-excerpt.zip"

TABLE = load_drums(REPOSITORY)
MAPS = list(TABLE.class_maps)
ROLAND_PADS = {22, 26, 36, 37, 38, 40, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 55, 57, 58, 59}

every_map = pytest.mark.parametrize("name", MAPS)


# --- The table of the repository -------------------------------------------------------------------------------------


def test_every_pitch_of_the_mini_archive_is_known() -> None:
    pitches = {KITS[kit].pads.get(pitch, pitch) for kit in ALL_KITS for pitch in ROLAND_PADS}
    assert pitches - set(TABLE.pitches) == set()


@pytest.mark.skipif(not EXCERPT.is_file(), reason="the excerpt of E-GMD is not beside this checkout")
def test_every_pitch_of_the_excerpt_is_known() -> None:
    with zipfile.ZipFile(EXCERPT) as archive:
        files = [archive.read(name) for name in archive.namelist() if name.endswith(".midi")]
    pitches = {int(pitch) for content in files for pitch in read_onsets(content).pitch}
    assert pitches - set(TABLE.pitches) == set()


@pytest.mark.parametrize("pitch", [22, 26, 37, 39, 54, 56, 58])
def test_pitch_that_kits_of_egmd_remap_is_known(pitch: int) -> None:
    assert pitch in TABLE.pitches


# What General MIDI calls these notes is something else: maracas, tambourine, vibraslap, electric snare.
@pytest.mark.parametrize(
    ("pitch", "instrument"),
    [(22, "hat_closed"), (26, "hat_open"), (58, "tom_low"), (40, "snare_rim"), (52, "crash"), (55, "crash")],
)
def test_pad_of_a_drum_module_is_what_it_is_there(pitch: int, instrument: str) -> None:
    assert TABLE.pitches[pitch] == instrument


@pytest.mark.parametrize(
    ("name", "count"), [("hits3", 3), ("adtof5", 5), ("drums7", 7), ("oaf8", 8), ("groove9", 9), ("fine14", 14)]
)
def test_map_has_as_many_classes_as_its_name_says(name: str, count: int) -> None:
    assert len(class_map(TABLE, name).classes) == count


@every_map
def test_every_class_has_a_pitch(name: str) -> None:
    drums = class_map(TABLE, name)
    assert set(drums.class_of_pitch) - {IGNORED} == set(range(len(drums.classes)))


@every_map
def test_note_that_a_class_is_written_as_is_read_as_that_class(name: str) -> None:
    drums = class_map(TABLE, name)
    assert drums.class_of_pitch[list(drums.notes)].tolist() == list(range(len(drums.classes)))


@every_map
def test_pitch_of_no_instrument_is_of_no_class(name: str) -> None:
    unknown = sorted(set(range(128)) - set(TABLE.pitches))
    assert np.all(class_map(TABLE, name).class_of_pitch[unknown] == IGNORED)


@every_map
def test_kick_snare_and_closed_hat_are_three_classes(name: str) -> None:
    assert len(set(class_map(TABLE, name).class_of_pitch[[36, 38, 42]])) == 3


@pytest.mark.parametrize("name", ["hits3", "drums7", "fine14"])
@pytest.mark.parametrize("pitch", sorted(ROLAND_PADS))
def test_map_that_leaves_nothing_out_has_every_pad(name: str, pitch: int) -> None:
    assert class_map(TABLE, name).class_of_pitch[pitch] != IGNORED


def test_published_map_leaves_out_what_it_is_published_without() -> None:
    assert class_map(TABLE, "adtof5").class_of_pitch[[39, 54]].tolist() == [IGNORED, IGNORED]


# --- Tables that are refused -----------------------------------------------------------------------------------------


@pytest.fixture
def table() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(
        """
        pitches: {36: kick, 38: snare}
        class_maps:
          two:
            low: {note: 36, instruments: [kick]}
            high: {note: 38, instruments: [snare]}
        """
    )
    return loaded


def write(project: Path, table: Any) -> None:
    (project / DRUMS_FILE).parent.mkdir(exist_ok=True)
    (project / DRUMS_FILE).write_text(yaml.safe_dump(table, sort_keys=False))


def test_small_table_is_accepted(table: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path, table)
    assert class_map(load_drums(tmp_path), "two").class_of_pitch[[36, 38, 40]].tolist() == [0, 1, IGNORED]


BAD: dict[str, tuple[tuple[str, ...], Any, Any, str]] = {
    "instrument that no pitch has": (
        ("class_maps", "two", "low"), "instruments", ["kick", "gong"], "class map two lists instruments that no pitch",
    ),
    "instrument in two classes": (
        ("class_maps", "two", "low"), "instruments", ["kick", "snare"], "class map two lists an instrument in two",
    ),
    "instrument twice in a class": (
        ("class_maps", "two", "low"), "instruments", ["kick", "kick"], "class map two lists an instrument in two",
    ),
    "class of nothing": (("class_maps", "two", "low"), "instruments", [], "class_maps.two.low.instruments"),
    "map of no class": (("class_maps",), "two", {}, "class_maps.two"),
    "no map": ((), "class_maps", {}, "class_maps"),
    "no pitch": ((), "pitches", {}, "pitches"),
    "pitch above 127": (("pitches",), 128, "kick", "pitches.128"),
    "pitch below 0": (("pitches",), -1, "kick", "pitches.-1"),
    "pitch as text": (("pitches",), "C1", "kick", "pitches.C1"),
    "note above 127": (("class_maps", "two", "low"), "note", 128, "class_maps.two.low.note"),
    "note of another class": (("class_maps", "two", "low"), "note", 38, "class map two writes low as note 38"),
    "note of no pitch": (("class_maps", "two", "low"), "note", 40, "class map two writes low as note 40"),
    "instrument with a capital": (("pitches",), 36, "Kick", "pitches.36"),
    "unknown key": (("class_maps", "two", "low"), "color", "red", "class_maps.two.low.color"),
    "list for a table": ((), "pitches", [36, 38], "pitches"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_table_is_refused_by_name(case: str, table: dict[str, Any], tmp_path: Path) -> None:
    path, key, value, fragment = BAD[case]
    section = table
    for name in path:
        section = section[name]
    section[key] = value
    write(tmp_path, table)
    with pytest.raises(ConfigError) as refusal:
        load_drums(tmp_path)
    assert fragment in str(refusal.value)


def test_pitch_with_two_rows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / DRUMS_FILE).write_text("pitches: {36: kick, 36: snare}\n")
    with pytest.raises(ConfigError, match="the key 36 is there twice"):
        load_drums(tmp_path)


def test_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"configs/drums\.yaml is missing"):
        load_drums(tmp_path)


def test_unknown_map_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=f"no class map 'drums8'(.|\n)*expected: {', '.join(MAPS)}"):
        class_map(TABLE, "drums8")


def test_a_note_may_be_in_quotes_and_has_one_row(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    maps = "class_maps: {one: {kick: {note: 36, instruments: [kick]}}}\n"
    (tmp_path / DRUMS_FILE).write_text('pitches: {"36": kick, 35: kick}\n' + maps)
    assert load_drums(tmp_path).pitches == {36: "kick", 35: "kick"}
    for rows in ('{"36": kick, 36: kick}', '{"36": kick, "036": kick}', '{"x": kick}'):
        (tmp_path / DRUMS_FILE).write_text(f"pitches: {rows}\n{maps}")
        with pytest.raises(ConfigError, match="pitches"):
            load_drums(tmp_path)


def test_dvc_can_show_every_parameter_of_the_pipeline() -> None:
    """It cannot if numbers are keys: `dvc params diff` says so of "some metrics"."""
    with Repo(str(REPOSITORY)) as repo:
        by_revision = repo.params.show()
    assert by_revision
    for revision in by_revision.values():
        assert {path: one["error"] for path, one in revision["data"].items() if "error" in one} == {}
        assert "data" in revision["data"]["configs/drums.yaml"]
