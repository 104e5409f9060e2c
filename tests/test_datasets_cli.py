"""`backbeat datasets …`: what is printed, and with which exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from backbeat.cli.datasets import app
from one_dataset import BODY, HASH, OTHER_BODY, fetched, new_project, record_of, staged


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.zip").write_bytes(BODY)
    project = new_project(tmp_path)
    record_of(project, "file:own.zip")
    return project


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_list_shows_the_state(project: Path) -> None:
    assert "absent" in run("list").stdout


def test_list_as_json_has_sizes_in_bytes(project: Path) -> None:
    assert [row["size_bytes"] for row in json.loads(run("list", "--json").stdout)] == [len(BODY)]


def test_show_shows_the_hash(project: Path) -> None:
    assert HASH in run("show", "lies").stdout


def test_show_as_json_is_the_record(project: Path) -> None:
    assert json.loads(run("show", "lies", "--json").stdout)["files"][0]["hash"] == HASH


def test_download_makes_it_present(project: Path) -> None:
    run("download", "lies")
    assert json.loads(run("list", "--json").stdout)[0]["state"] == "present"


def test_download_with_verify_mends_a_rotten_file(project: Path) -> None:
    fetched(project)
    rot(project)
    run("download", "--verify", "lies")
    assert staged(project).read_bytes() == BODY


def test_verify_of_a_good_file_exits_with_0(project: Path) -> None:
    fetched(project)
    result = run("verify", "lies")
    assert (result.exit_code, result.stdout) == (0, "lies/archive.zip: ok\n")


def test_verify_of_a_rotten_file_exits_with_1(project: Path) -> None:
    fetched(project)
    rot(project)
    assert run("verify", "lies").exit_code == 1


def test_verify_of_a_rotten_file_says_what_to_type(project: Path) -> None:
    fetched(project)
    rot(project)
    assert "next: backbeat datasets download --verify lies" in run("verify", "lies").stderr


def rot(project: Path) -> None:
    """Exchange the staged file for another one of the same size; the original stays as it is."""
    staged(project).unlink()
    staged(project).write_bytes(OTHER_BODY)
