"""Finding samples: what a sentence is taken for, what it finds, and that no text is anything but words."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlite_utils import Database
from typer.testing import CliRunner, Result

from backbeat.cli.app import app
from backbeat.errors import ConfigError, LibraryError
from backbeat.library.catalog import CATALOG_FILE, catalog
from backbeat.library.find import Wish, find
from backbeat.library.lookup import vocabulary
from backbeat.library.query import parse
from library_tables import SAMPLES, new_library

WORDS = {
    **{name: ("class", name) for name in ("kick", "snare", "closed_hat", "open_hat", "bass", "tom")},
    **{name: ("brightness", name) for name in ("dark", "bright")},
    "heavy": ("weight", "heavy"),
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = new_library(tmp_path_factory.mktemp("library") / "project")
    catalog(folder)
    return folder


def run(project: Path, *words: str) -> Result:
    before = Path.cwd()
    os.chdir(project)
    try:
        return CliRunner().invoke(app, ["library", *words])
    finally:
        os.chdir(before)


@pytest.mark.parametrize(
    ("text", "understood"),
    [
        ("dark kick under 300 ms", "dark, kick, at most 300 ms"),
        ("Heavy KICKS shorter than 0,3 s", "heavy, kick, at most 300 ms"),
        ("bass drum over 2 seconds", "kick, at least 2000 ms"),
        ("808s 200-400 ms", "808 or bass, 200 to 400 ms"),
        ("kick 909 or snare", 'kick or snare, "909"'),
        ("short Long kick", "short (under 350 ms), long (1500 ms and more), kick"),
        ("snare 100 ms", "snare, 80 to 120 ms"),
        ("hi-hats", "closed_hat or open_hat"),
        ("open hi hat", "open_hat"),
        ("loops 90-100 bpm in Am", "loop, 90 to 100 bpm, in A minor"),
        ("one shot F#1 24-bit 48k mono", "one-shot, of the note F#1, 24 bit, 48 kHz, mono"),
        ("Db major faster than 120 bpm", "in C# major, at least 120 bpm"),
        ("in C", "in C"),
        ("am radio in am fm bass", 'in A minor, bass, "am", "radio", "fm"'),
        ("over 1,000 ms", "at least 1000 ms"),
        ("1,000.5-2.000,5 ms", "1000.5 to 2000.5 ms"),
        ("over 0,250 s under 1,25 s", "at least 250 ms, at most 1250 ms"),
        ("44,1 khz", "44.1 kHz"),
        ("score over 80 4 stars", "score at least 80, rated 4 or better"),
        ('"vinyl crackle" the banjo', '"vinyl crackle", "banjo"'),
        ("", "everything"),
    ],
)
def test_a_sentence_is_understood(text: str, understood: str) -> None:
    assert parse(text, WORDS).understood == understood


@pytest.mark.parametrize(
    ("wish", "names"),
    [
        (Wish("dark kick under 300 ms"), ["Kick 01"]),
        (Wish("kick"), ["Kick 01", "Kick 02", "BD 1"]),
        (Wish("hats"), ["CH 1", "OH 1"]),
        (Wish("", bpm="90:100", key="Am"), ["dusty break"]),
        (Wish("", bpm="100:"), ["House 124"]),
        (Wish("", key="A", kind="loop"), ["dusty break"]),
        (Wish("", key="G"), ["Kick 01", "Kick 02", "808 long"]),
        (Wish("in B"), ["BD 1"]),
        (Wish("", key="b2"), ["BD 1"]),
        (Wish("", key="B1"), []),
        (Wish("kick or tom"), ["Kick 01", "Kick 02", "BD 1", "from tape"]),
        (Wish("808"), ["808 long"]),
        (Wish("808 kick"), []),
        (Wish("long bass"), ["808 long"]),
        (Wish("short bright hat"), ["CH 1"]),
        (Wish("broken"), ["broken"]),
        (Wish("", state="unreadable"), ["broken"]),
        (Wish("", state="duplicate"), ["Kick 01 copy"]),
        (Wish("drums", state="chosen"), ["dusty break"]),
        (Wish("", state="archived"), ["from tape"]),
        (Wish("", state="silent"), []),
        (Wish("", classes=("hihat", "tom")), ["CH 1", "OH 1", "from tape"]),
        (Wish("grosse OR 1=1"), []),
        (Wish("gröss"), []),
        (Wish("größ"), ["Snare <b>tight größer"]),
        (Wish("GRÖSSER tight"), []),
        (Wish("dust"), ["dusty break"]),
        (Wish("24 bit 48 khz"), ["Kick 02"]),
        (Wish("stereo"), ["dusty break"]),
        (Wish("G1 short"), ["Kick 01"]),
    ],
)
def test_it_finds_what_was_asked_for_and_nothing_else(project: Path, wish: Wish, names: list[str]) -> None:
    assert [Path(hit.sample).stem for hit in find(project, wish).hits] == names


@pytest.fixture(scope="module")
def opened(project: Path) -> Database:
    return Database(project / CATALOG_FILE)


SYNTAX = ['"', "'", "*", "(", ")", "-", "NEAR", "AND", "name:", "^", "{0}", ":q0", ";", "--", "\0", "300 ms", "%", "\\"]


@settings(max_examples=150, deadline=None)
@given(text=st.text(max_size=60) | st.lists(st.sampled_from(SYNTAX)).map(" ".join))
def test_no_text_is_an_error_or_a_command(opened: Database, text: str) -> None:
    for told in (text, f"{text}marker", f'"{text}marker'):
        clauses, values = parse(told, vocabulary(opened)).where()
        opened.execute(f"SELECT count(*) FROM library WHERE {' AND '.join(clauses) or '1'}", values).fetchone()
        assert "marker" not in "".join(clauses)


def test_what_sounds_most_like_a_file_comes_first_and_its_copies_are_left_out(project: Path) -> None:
    found = find(project, Wish(like="Kick 01.wav"))
    names = [Path(hit.sample).stem for hit in found.hits]
    assert names[0] == "Kick 02"
    assert set(names[-2:]) == {"CH 1", "OH 1"}
    assert not {"Kick 01", "Kick 01 copy"} & set(names)
    assert found.copies == 1
    with_copies = find(project, Wish(like="kits/Kicks/Kick 01.wav"), copies=True)
    assert with_copies.hits[0].sample == "kits/Old/Kick 01 copy.wav"
    assert with_copies.hits[0].similarity == pytest.approx(1.0, abs=1e-3)


def test_a_file_that_is_not_in_the_library_can_be_the_example(project: Path, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger.wav"
    stranger.write_bytes(SAMPLES[4].content())
    found = find(project, Wish("kick", like=str(stranger)))
    assert [Path(hit.sample).stem for hit in found.hits] == ["Kick 01", "Kick 02", "BD 1"]
    assert found.hits[0].similarity == pytest.approx(1.0, abs=1e-3)


def test_the_command_prints_a_table_json_or_paths_for_other_programs(project: Path) -> None:
    table = run(project, "find", "dark kick under 300 ms")
    assert "looking for: dark, kick, at most 300 ms" in table.stderr
    assert "1 that sound the same" in table.stderr
    assert "kits/Kicks/Kick 01.wav" in table.stdout
    printed = json.loads(run(project, "find", "dark kick", "--like", "808 long", "--json").stdout)
    assert printed["hits"][0]["class"] == "kick"
    assert 0 < printed["hits"][0]["similarity"] < 1
    paths = run(project, "find", "tom kick", "--class", "tom", "--paths")
    assert paths.stdout == ""
    paths = run(project, "find", "one-shot 500 ms", "--paths")
    assert paths.stdout.splitlines() == [
        str(project / "samples/Kicks/Kick 02.wav"),
        str(project / "samples/Hats/OH 1.wav"),
    ]
    assert "kits/Old/from tape.wav is in an archive" in paths.stderr


def test_a_state_says_why(project: Path) -> None:
    shown = run(project, "find", "--state", "duplicate")
    assert "exact: kits/Kicks/Kick 01.wav" in " ".join(shown.stdout.split())
    assert SAMPLES[11].error in run(project, "find", "--state", "unreadable").stdout
    assert "kick/Kick 01.wav" in run(project, "find", "dark kick", "--state", "chosen").stdout
    refused = run(project, "find", "--state", "lost")
    assert "expected: unreadable, clipped, silent, duplicate" in str(refused.exception)


def test_no_column_is_cut_to_nothing_in_a_narrow_terminal(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "76")
    line = next(line for line in run(project, "find", "loop in Am").stdout.splitlines() if "92" in line)
    assert "A minor" in line
    assert "dark drums loop" in line
    # What is left of the name is enough for other commands.
    assert run(project, "show", line.split("  ")[0]).exit_code == 0


def test_all_of_a_sample_is_shown_with_its_score_by_rule_and_its_duplicates(project: Path) -> None:
    shown = json.loads(run(project, "show", "Kick 01 copy.wav", "--json").stdout)
    assert shown["score"]["peak"] + shown["score"]["noise"] + shown["score"]["length"] == pytest.approx(85, abs=0.1)
    assert shown["duplicates"]["kits/Kicks/Kick 01.wav"].startswith("keeper: the same file")
    assert shown["words"]["text"] == "short dark kick, heavy, punchy, G1"
    main = run(project, "show", "Kick 02").stdout
    assert "450 ms" in main
    assert "spectral centroid" not in main
    assert "55 Hz" in run(project, "show", "Kick 02", "--all").stdout
    assert run(project, "show", "broken.wav").stdout.splitlines()[2].strip() == "unreadable"
    assert "22,094 bytes" in run(project, "show", str(project / "samples/Kicks/Kick 01.wav")).stdout


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["find", "--class", "banjo"], ConfigError, "--class banjo is no class"),
        (["find", "--state", "lost"], ConfigError, "--state lost is none"),
        (["find", "--key", "H"], ConfigError, "--key H is no key"),
        (["find", "--bpm", "fast"], ConfigError, "--bpm fast is no tempo"),
        (["find", "--like", "no such.wav"], LibraryError, "no sample is called no such.wav"),
        (["show", "Kick"], LibraryError, "samples are called Kick"),
        (["find", "--like", "broken.wav"], LibraryError, "has no embedding"),
    ],
)
def test_what_cannot_be_meant_is_named(project: Path, words: list[str], error: type[Exception], message: str) -> None:
    shown = run(project, *words)
    assert isinstance(shown.exception, error)
    assert message in str(shown.exception)
