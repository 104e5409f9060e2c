"""The layout of E-GMD: what the table says, and what it must not say."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from backbeat.datasets.egmdtable import COLUMNS
from backbeat.drums.egmd import find_archive, read_index
from backbeat.errors import ArchiveError
from small_project import (
    FIRST,
    FIRST_MIDI,
    FIRST_WAV,
    PERFORMANCES,
    ROOT,
    TABLE,
    Contents,
    Rows,
    contents_of,
    rows_of,
    table_of,
    write_zip,
)

EXCERPT = Path(__file__).parents[2] / "shared" / "data" / "e-gmd-excerpt.zip"


def refusal_of(folder: Path, contents: Contents) -> str:
    with pytest.raises(ArchiveError) as refusal:
        read_index(write_zip(folder / "some.zip", contents))
    return str(refusal.value)


# --- What it says ----------------------------------------------------------------------------------------------------


def test_every_row_is_a_sequence(tmp_path: Path) -> None:
    sequences = read_index(write_zip(tmp_path / "some.zip", contents_of((1, 2, 10))))
    expected = {performance.stem(kit) for performance in PERFORMANCES for kit in (1, 2, 10)}
    assert {sequence.id for sequence in sequences} == expected


def test_sequence_has_what_its_row_says(tmp_path: Path) -> None:
    first = read_index(write_zip(tmp_path / "some.zip", contents_of((10,))))[0]
    assert (first.performance, first.drummer, first.style, first.tempo_bpm) == (
        "drummer1/session1/1", "drummer1", "rock", 120.0,
    )  # fmt: skip
    assert (first.duration_s, first.split, first.kit, first.kit_name) == (2.3, "train", 10, "909 Simple")


def test_sequences_are_in_the_order_of_the_archive(tmp_path: Path) -> None:
    contents = contents_of()
    backwards = dict(reversed(contents.items()))
    names = [sequence.wav.name for sequence in read_index(write_zip(tmp_path / "some.zip", backwards))]
    assert names == [name for name in backwards if name.endswith(".wav")]


def test_columns_are_found_by_name(tmp_path: Path) -> None:
    contents = contents_of()
    expected = read_index(write_zip(tmp_path / "some.zip", contents))
    contents[TABLE] = table_of(rows_of(contents), sorted(COLUMNS, reverse=True))
    assert [sequence.id for sequence in read_index(write_zip(tmp_path / "other.zip", contents))] == [
        sequence.id for sequence in expected
    ]


def test_columns_that_nobody_needs_do_not_matter(tmp_path: Path) -> None:
    contents = contents_of()
    rows = [{**row, "mood": "fine"} for row in rows_of(contents)]
    contents[TABLE] = table_of(rows, ["mood", *COLUMNS])
    assert len(read_index(write_zip(tmp_path / "some.zip", contents))) == len(rows)


def test_byte_order_mark_does_not_matter(tmp_path: Path) -> None:
    contents = contents_of()
    contents[TABLE] = b"\xef\xbb\xbf" + contents[TABLE]
    assert len(read_index(write_zip(tmp_path / "some.zip", contents))) == 2 * len(PERFORMANCES)


def test_line_ends_of_another_system_do_not_matter(tmp_path: Path) -> None:
    contents = contents_of()
    contents[TABLE] = contents[TABLE].replace(b"\n", b"\r\n")
    assert read_index(write_zip(tmp_path / "some.zip", contents))[0].kit_name == "Acoustic Kit"


@pytest.mark.skipif(not EXCERPT.is_file(), reason="the excerpt of E-GMD is not beside this checkout")
def test_excerpt_is_read_whole() -> None:
    sequences = read_index(EXCERPT)
    assert (len(sequences), {sequence.kit for sequence in sequences}) == (130, {1, 2, 3, 4, 5})


# --- What it must not say --------------------------------------------------------------------------------------------


def change(**values: str) -> Callable[[Rows], None]:
    return lambda rows: rows[0].update(values)


BAD_ROWS: dict[str, tuple[Callable[[Rows], None], str]] = {
    "recording that is not there": (
        change(audio_filename="drummer1/gone_1.wav"), "names a file that is not in the archive\n  expected: drummer1/g",
    ),
    "MIDI file that is not there": (
        change(midi_filename="drummer1/gone_1.midi"), "names a file that is not in the archive\n  expected: drummer1/g",
    ),
    "path out of the archive": (change(audio_filename="../../etc/passwd"), "names a file that is not in the archive"),
    "unknown split": (change(split="dev"), "has an unknown split\n  expected: train or validation or test\n  got: dev"),
    "no split": (change(split=""), "has an unknown split"),
    "tempo in words": (change(bpm="allegro"), "has no numbers for bpm and duration"),
    "length in words": (change(duration=""), "has no numbers for bpm and duration"),
    "tempo that is no number": (change(bpm="nan"), "has an impossible tempo or length"),
    "length without end": (change(duration="inf"), "has an impossible tempo or length"),
    "length below zero": (change(duration="-1"), "has an impossible tempo or length"),
    "length of zero": (change(duration="0"), "has an impossible tempo or length"),
    "same recording twice": (
        lambda rows: rows.append(rows[0]), f"lists a sequence twice\n  expected: each once\n  got: {FIRST}",
    ),
    "performance in two splits": (
        change(split="test"), "has a performance in two splits\n  expected: one split\n  got: drummer1/session1/1 in ",
    ),
    "recording without annotation": (
        lambda rows: rows.pop(0),
        f"has recordings without annotation\n  expected: every WAV listed\n  got: 1 that are not, such as {FIRST_WAV}",
    ),
    "no rows": (lambda rows: rows.clear(), "is empty"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_ROWS)
def test_bad_row_is_refused_by_what_is_wrong(case: str, tmp_path: Path) -> None:
    spoil, fragment = BAD_ROWS[case]
    contents = contents_of()
    rows = rows_of(contents)
    spoil(rows)
    contents[TABLE] = table_of(rows)
    message = refusal_of(tmp_path, contents)
    assert (fragment in message, "some.zip" in message) == (True, True), message


@pytest.mark.parametrize("case", ["unknown split", "tempo in words", "recording that is not there"])
def test_bad_row_is_named_by_its_line(case: str, tmp_path: Path) -> None:
    contents = contents_of()
    rows = rows_of(contents)
    BAD_ROWS[case][0](rows[2:])
    contents[TABLE] = table_of(rows)
    assert refusal_of(tmp_path, contents).startswith("line 4 of the table in some.zip")


@pytest.mark.parametrize("column", COLUMNS)
def test_missing_column_is_named(column: str, tmp_path: Path) -> None:
    contents = contents_of()
    contents[TABLE] = table_of(rows_of(contents), [name for name in COLUMNS if name != column])
    assert f"got: no {column}" in refusal_of(tmp_path, contents)


def test_row_that_is_cut_off_is_named_by_its_line(tmp_path: Path) -> None:
    contents = contents_of()
    contents[TABLE] = contents[TABLE].rstrip()[:-40]
    assert "line 9 of the table in some.zip is not whole" in refusal_of(tmp_path, contents)


def test_row_that_is_too_long_is_named_by_its_line(tmp_path: Path) -> None:
    contents = contents_of()
    lines = contents[TABLE].splitlines()
    contents[TABLE] = b"\n".join([lines[0], lines[1] + b",more", *lines[2:]])
    assert "line 2 of the table in some.zip is not whole" in refusal_of(tmp_path, contents)


def test_recording_without_a_kit_number_is_refused(tmp_path: Path) -> None:
    contents = contents_of()
    rows = rows_of(contents)
    contents[f"{ROOT}/drummer1/plain.wav"] = contents.pop(FIRST_WAV)
    rows[0]["audio_filename"] = "drummer1/plain.wav"
    contents[TABLE] = table_of(rows)
    assert "names no kit" in refusal_of(tmp_path, contents)


@pytest.mark.parametrize(
    "table",
    [
        pytest.param(b"\xff\xfe\x00\x01" * 50, id="binary"),
        pytest.param('drummer,"session\n'.encode("utf-16"), id="UTF-16"),
        pytest.param(b'drummer,"session', id="quote that is never closed"),
        pytest.param(b"<!DOCTYPE html><html></html>", id="web page"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_table_that_is_none_is_refused_by_name(table: bytes, tmp_path: Path) -> None:
    assert refusal_of(tmp_path, contents_of() | {TABLE: table}).startswith(f"{TABLE} in some.zip")


def test_archive_without_a_table_is_refused(tmp_path: Path) -> None:
    contents = contents_of()
    del contents[TABLE]
    assert "some.zip has no table\n  expected: one CSV file\n  got: 0" in refusal_of(tmp_path, contents)


def test_archive_with_two_tables_is_refused(tmp_path: Path) -> None:
    assert "got: 2" in refusal_of(tmp_path, contents_of() | {f"{ROOT}/copy.csv": b""})


def test_recording_without_its_midi_file_is_refused(tmp_path: Path) -> None:
    contents = contents_of()
    del contents[FIRST_MIDI]
    assert f"expected: {FIRST}.midi" in refusal_of(tmp_path, contents)


# --- Finding the archive ---------------------------------------------------------------------------------------------


def test_one_archive_is_found(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "some.zip", "w"):
        pass
    assert find_archive(tmp_path) == tmp_path / "some.zip"


def test_no_archive_is_answered_with_the_command_that_brings_one(tmp_path: Path) -> None:
    (tmp_path / "egmd").mkdir()
    with pytest.raises(ArchiveError, match=r"got: none\n  next: dvc repro data/dvc\.yaml:download@egmd"):
        find_archive(tmp_path / "egmd")


def test_missing_folder_has_no_archive(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="got: none"):
        find_archive(tmp_path / "egmd")


def test_two_archives_are_both_named(tmp_path: Path) -> None:
    for name in ("one.zip", "two.zip"):
        (tmp_path / name).touch()
    with pytest.raises(ArchiveError, match=r"got: one\.zip, two\.zip"):
        find_archive(tmp_path)
