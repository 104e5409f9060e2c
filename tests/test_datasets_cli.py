"""`backbeat datasets …`: what is printed, and with which exit code."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from backbeat.cli.datasets import app
from backbeat.errors import ConfigError
from one_dataset import BODY, HASH, OTHER_BODY, fetched, new_project, record_of, staged

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.zip").write_bytes(BODY)
    project = new_project(tmp_path)
    (project / ".dvc/config").write_text(
        (REPOSITORY / ".dvc/config").read_text().replace("[core]", "[core]\n    no_scm = true")
    )
    (project / "data").mkdir()
    shutil.copy(REPOSITORY / "data/dvc.yaml", project / "data/dvc.yaml")
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
    assert json.loads(run("list", "--json").stdout)[0]["state"] == "verified"


def test_download_is_recorded_by_dvc(project: Path) -> None:
    run("download", "lies")
    locked = yaml.safe_load((project / "data/dvc.lock").read_text())["stages"]["download@lies"]
    assert (locked["outs"][0]["path"], locked["outs"][0]["size"]) == ("data/raw/lies", len(BODY))


def test_download_of_a_new_record_gives_it_a_stage(project: Path) -> None:
    run("download", "lies")
    stages = yaml.safe_load((project / "data/dvc.yaml").read_text())["stages"]
    assert stages["download"]["matrix"]["dataset"] == ["lies"]


def test_what_was_downloaded_is_nothing_for_dvc_to_do(project: Path) -> None:
    run("download", "lies")
    shown = subprocess.run(
        [sys.executable, "-m", "dvc", "repro", "data/dvc.yaml:download@lies"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "didn't change" in shown.stdout + shown.stderr


def test_stage_records_nothing_itself(project: Path) -> None:
    run("download", "--as-stage", "lies")
    assert ((project / "data/raw/lies/archive.zip").read_bytes(), (project / "data/dvc.lock").exists()) == (BODY, False)


def test_dry_run_fetches_nothing(project: Path) -> None:
    assert "your own copy" in run("download", "--dry-run", "lies").stdout
    assert not (project / "data/raw").exists()


def test_phase_of_the_environment_is_the_default(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKBEAT_DATASET_PHASE", "minimal")
    assert [file["dataset"] for file in json.loads(run("plan", "--json").stdout)["files"]] == ["lies"]


def test_nothing_asked_for_is_said_to_be_nothing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BACKBEAT_DATASET_PHASE", raising=False)
    with pytest.raises(ConfigError, match="no dataset is asked for"):
        run("plan")


@pytest.mark.parametrize(("value", "there"), [("", False), ("0", False), ("1", True), ("true", True)])
def test_container_fetches_at_its_start_only_if_told_to(
    value: str, there: bool, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BACKBEAT_DATASET_PHASE", "minimal")
    monkeypatch.setenv("BACKBEAT_AUTO_DOWNLOAD", value)
    run("download", "--auto", "--as-stage")
    assert (project / "data/raw/lies/archive.zip").exists() == there


@pytest.mark.parametrize("columns", ["50", "80", "200"])
def test_short_names_are_in_the_table_however_wide_it_is(
    columns: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    record_of(project, "file:own.zip", name="x", path="y")
    assert run("plan", "x").stdout.splitlines()[2].split()[0] == "x/y"


def test_plan_fits_a_narrow_terminal(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert max(map(len, run("plan", "lies").stdout.splitlines()[:3])) <= 60


@pytest.mark.parametrize(
    "command",
    [
        ("list",), ("show", "lies"), ("plan", "lies"), ("status",), ("verify", "lies"), ("refresh", "lies"), ("prune",),
        ("stats", "lies"), ("licenses", "lies"), ("adopt", "lies", "own.zip"), ("download", "lies"), ("stream", "lies"),
        ("new", "mine", "own.zip", "--yes"),
    ],
    ids=lambda command: command[0],
)  # fmt: skip
def test_every_command_prints_json(command: tuple[str, ...], project: Path) -> None:
    with zipfile.ZipFile(project / "own.zip", "w") as archive:
        archive.writestr("a.txt", "something")
    record_of(project, "file:own.zip", size=None, hash="unverified")
    fetched(project)
    printed = run(*command, "--json").stdout
    assert json.loads(printed) is not None


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
