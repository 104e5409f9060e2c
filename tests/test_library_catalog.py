"""The catalog of the library and the user's notes: rebuilt without a loss, brought up to date, never written to."""

from __future__ import annotations

import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from sqlite_utils import Database
from typer.testing import CliRunner, Result

from backbeat.cli.app import app
from backbeat.errors import ConfigError, LibraryError
from backbeat.library import tables
from backbeat.library.catalog import CATALOG_FILE, catalog, change_notes, read_catalog
from backbeat.library.migrations import MIGRATIONS
from backbeat.library.notes import NOTES_FILE, Note, load_notes
from library_tables import SAMPLES, new_library, write_tables

KICK, COPY, SNARE = "kits/Kicks/Kick 01.wav", "kits/Old/Kick 01 copy.wav", SAMPLES[10].sample


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library with its catalog; copy it before changing it."""
    folder = new_library(tmp_path_factory.mktemp("library") / "project")
    catalog(folder)
    return folder


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "project"))


def run(project: Path, *words: str) -> Result:
    before = Path.cwd()
    os.chdir(project)
    try:
        return CliRunner().invoke(app, ["library", *words])
    finally:
        os.chdir(before)


def rating_of(project: Path, sample: str) -> int | None:
    with read_catalog(project) as db:
        return next(db.query("SELECT rating FROM library WHERE sample = ?", (sample,)))["rating"]


def rated(note: Note, rating: int) -> Note:
    return note.model_copy(update={"rating": rating})


def test_every_file_is_in_it_and_every_sound_once(made: Path) -> None:
    with read_catalog(made) as db:
        assert {row["path"] for row in db["samples"].rows} == {one.path for one in SAMPLES}
        assert db["sounds"].count == len(SAMPLES) - 2  # a copy, and one that could not be read
        rows = {row["sample"]: row for row in db["library"].rows}
        assert rows.keys() == {one.sample for one in SAMPLES}
        # What cannot be read is listed with the reason, and has nothing to play.
        assert [(row["error"], row["audio"]) for row in rows.values() if row["error"]] == [(SAMPLES[11].error, None)]
        copy = next(db.query("SELECT duplicate, duplicate_of FROM library WHERE sample = ?", (COPY,)))
    assert copy == {"duplicate": "exact", "duplicate_of": KICK}


def test_equal_tables_give_equal_bytes(made: Path, project: Path) -> None:
    (project / CATALOG_FILE).unlink()
    catalog(project)
    assert (project / CATALOG_FILE).read_bytes() == (made / CATALOG_FILE).read_bytes()


def test_all_that_stages_find_out_has_a_column(made: Path) -> None:
    with read_catalog(made) as db:
        columns = {table: {column.name for column in db[table].columns} for table in db.table_names()}
    measured = {name for name in tables.DESCRIPTORS_TABLE.names if not name.startswith("mfcc_")}
    assert measured - columns["sounds"] == set()
    assert set(tables.SCAN.names) - {"sample", "source", "source_url", "license", "audio_sha256"} <= columns["samples"]
    assert set(tables.CURATION.names) - {"sample", "audio_sha256"} <= columns["production"]


@pytest.mark.parametrize("step", ["library_view", "full_text_search", "faults_and_rule_words"])
def test_an_older_catalog_is_brought_up_to_date_with_what_is_in_it(project: Path, step: str) -> None:
    path = project / CATALOG_FILE
    newest = path.rename(path.with_suffix(".newest"))
    old = Database(path)
    MIGRATIONS.apply(old, stop_before=step)
    old.execute(f"ATTACH '{newest}' AS newest")
    for table in ("sources", "sounds", "samples", "duplicates", "production", "words", "notes"):
        columns = ", ".join(f'"{column.name}"' for column in old[table].columns)
        old.execute(f"INSERT INTO {table} SELECT {columns} FROM newest.{table}")
    old.close()
    with read_catalog(project) as db:
        assert db["library"].count == len(SAMPLES)
        assert [row[0] for row in db.execute("SELECT rowid FROM search WHERE search MATCH 'dusty'")] == [8]
        assert not MIGRATIONS.pending(db)


def test_only_what_is_always_made_has_to_be_there(project: Path) -> None:
    for name in ("duplicates", "curation"):
        tables.table_path(project, name).unlink()
    assert catalog(project).samples == len(SAMPLES)
    tables.table_path(project, "descriptors").unlink()
    with pytest.raises(LibraryError, match=r"(?s)descriptors\.parquet is not there.+dvc\.yaml:describe"):
        catalog(project)


def test_what_was_noted_survives_a_rebuild_a_rename_and_the_loss_of_the_file(project: Path) -> None:
    change_notes(project, [KICK, SNARE], partial(rated, rating=5))
    renamed = [replace(one, path="Kicks/renamed.wav") if one.sample == KICK else one for one in SAMPLES]
    write_tables(project, tuple(one for one in renamed if one.sample not in {COPY, SNARE}))
    made = catalog(project)
    assert rating_of(project, "kits/Kicks/renamed.wav") == 5
    assert (made.moved, made.gone) == ({KICK: "kits/Kicks/renamed.wav"}, (SNARE,))
    # The next note about it is under the new name, and the other one stays for the day the file is back.
    change_notes(project, ["kits/Kicks/renamed.wav"], partial(rated, rating=4))
    assert {name: note.rating for name, note in load_notes(project).items()} == {"kits/Kicks/renamed.wav": 4, SNARE: 5}


def test_a_note_follows_its_sound_and_not_a_name_that_another_sound_has_taken(project: Path) -> None:
    change_notes(project, [KICK], partial(rated, rating=5))
    swapped = {KICK: SAMPLES[5].path, SAMPLES[5].sample: SAMPLES[4].path}
    write_tables(
        project, tuple(replace(one, path=swapped.get(one.sample, one.path)) for one in SAMPLES if one.sample != COPY)
    )
    catalog(project)
    assert (rating_of(project, SAMPLES[5].sample), rating_of(project, KICK)) == (5, None)


def test_a_command_leaves_the_lines_of_others_and_all_comments_alone(project: Path) -> None:
    path = project / NOTES_FILE
    path.write_text(
        f"# mine\n{SNARE}:  # the best\n  rating: 3   # for now\n  tags: [a]\n\n"
        "# gone since May\nkits/lost.wav: {rating: 1}\n# end\n",
        encoding="utf-8",
    )
    assert run(project, "rate", "5", "tight").exit_code == 0
    assert run(project, "tag", "live set, yes, 808", "tight", "Kick 02").exit_code == 0
    assert run(project, "note", "under: the #1 verse", "Kick 02", "--class", "tom").exit_code == 0
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[:4] == [
        "# mine",
        f"{SNARE}:  # the best",
        "  rating: 5   # for now",
        "  tags: [a, live set, 'yes', '808']",
    ]
    assert lines[5:9] == ["", "# gone since May", "kits/lost.wav: {rating: 1}", "# end"]
    note = load_notes(project)["kits/Kicks/Kick 02.wav"]
    assert (note.tags, note.notes, note.sound_class) == (("live set", "yes", "808"), "under: the #1 verse", "tom")
    # All of it taken away is no entry.
    run(project, "tag", "--remove", "808,yes,live set", "Kick 02")
    run(project, "note", "", "Kick 02")
    assert load_notes(project)["kits/Kicks/Kick 02.wav"].sound_class == "tom"
    run(project, "note", "", "Kick 02", "--class", "")
    assert "Kick 02" not in path.read_text(encoding="utf-8")


def test_a_wrong_note_is_named_and_nothing_is_written(project: Path) -> None:
    path = project / NOTES_FILE
    path.write_text(f"{KICK}:\n  rating: 6\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"notes\.yaml is not valid") as caught:
        catalog(project)
    assert f"{KICK}.rating" in str(caught.value.got)
    path.unlink()
    with pytest.raises(ConfigError, match="the note about"):
        change_notes(project, [KICK], lambda note: note.model_copy(update={"tags": ("one, two",)}))
    assert not path.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rate", "tight", "5"], "library rate 5 'tight'"),
        (["tag", "tight", "live"], "samples come last: backbeat library tag dusty,warm SAMPLE"),
        (["note", "tight", "for the intro"], "samples come last: backbeat library note 'for the intro' SAMPLE"),
        (
            ["note", "", "tight", "--class", "bananas"],
            "--class bananas is no class\n  expected: bass, clap, closed_hat",
        ),
        (["note", "", "tight", "--class", "hats"], "may be closed_hat or open_hat"),
    ],
)
def test_what_is_noted_wrongly_is_answered_with_what_is_right(project: Path, words: list[str], message: str) -> None:
    shown = run(project, *words)
    assert isinstance(shown.exception, ConfigError | LibraryError)
    assert message in str(shown.exception)
    assert not (project / NOTES_FILE).exists()


def test_a_corrected_class_is_the_class_everywhere(project: Path) -> None:
    assert run(project, "note", "", "tight", "--class", "SD").exit_code == 0
    assert run(project, "note", "", "from tape", "--class", "rimshot").exit_code == 0
    for again in (False, True):
        if again:
            catalog(project)
        with read_catalog(project) as db:
            row = next(db.query("SELECT class, words FROM library WHERE name = 'from tape'"))
        assert (row["class"], row["words"].partition(",")[0]) == ("rim", "rim")
        shown = run(project, "show", "from tape").stdout
        assert re.search(r"sound class +rim *\n", shown)
        assert re.search(r"class by program +tom *\n", shown)


def test_that_a_note_has_found_its_sound_elsewhere_is_said_once(project: Path) -> None:
    change_notes(project, [KICK], partial(rated, rating=5))
    renamed = [replace(one, path="Kicks/renamed.wav") if one.sample == KICK else one for one in SAMPLES]
    write_tables(project, tuple(one for one in renamed if one.sample != COPY))
    assert [catalog(project).moved for _ in range(2)] == [{KICK: "kits/Kicks/renamed.wav"}, {}]


def test_the_file_that_the_cache_shares_is_replaced_and_not_written_to(made: Path, project: Path) -> None:
    cached = project / "cached"
    os.link(project / CATALOG_FILE, cached)
    cached.chmod(0o444)
    change_notes(project, [KICK], partial(rated, rating=2))
    assert rating_of(project, KICK) == 2
    assert cached.read_bytes() == (made / CATALOG_FILE).read_bytes()


def test_what_several_processes_note_at_once_is_all_kept(project: Path) -> None:
    samples = [one.sample for one in SAMPLES if not one.error]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda sample: change_notes(project, [sample], partial(rated, rating=3)), samples))
    assert load_notes(project).keys() == set(samples)
    with read_catalog(project) as db:
        assert db["notes"].count == len(samples)


def test_a_damaged_catalog_is_named(project: Path) -> None:
    (project / CATALOG_FILE).write_bytes(b"no database" * 100)
    shown = run(project, "find", "kick")
    assert isinstance(shown.exception, LibraryError)
    assert "cannot be read" in shown.exception.what
