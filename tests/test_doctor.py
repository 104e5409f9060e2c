"""`backbeat doctor` on this machine: each check by itself, and that none of them hides another."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from backbeat.cli.app import app
from backbeat.cloud import doctor, doctor_data, doctor_machine
from backbeat.cloud.examination import Check, Line, Running
from backbeat.errors import StorageError
from backbeat.storage.disk import Place
from backbeat.storage.work import dvc_at_rest
from s3_server import REPOSITORY, environment
from template_settings import as_template


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The template's settings in a Git repository."""
    for name, folder in {"HOME": "home", "DVC_GLOBAL_CONFIG_DIR": "global", "DVC_SYSTEM_CONFIG_DIR": "system",
                         "DVC_SITE_CACHE_DIR": "site"}.items():  # fmt: skip
        monkeypatch.setenv(name, str(tmp_path / folder))
    project = tmp_path / "project"
    (project / ".dvc" / "tmp").mkdir(parents=True)
    for name in (".dvc/config", ".dvc/aws-b2.ini", "params.yaml", ".gitignore", ".dvc/.gitignore"):
        shutil.copy(REPOSITORY / name, project / name)
    as_template(project)
    subprocess.run(["git", "init", "--quiet"], cwd=project, check=True)
    monkeypatch.chdir(project)
    return project


def only(lines: Iterator[Line]) -> Line:
    (line,) = lines
    return line


def test_settings_that_cannot_be_read_break_no_check(project: Path) -> None:
    (project / ".dvc" / "config.local").write_text("['remote \"b2\"'\n  url = \n")
    lines = doctor.examine(project, offline=True)
    assert [line.found for line in lines if "the check itself broke" in line.found] == []
    broken = {line.name for line in lines if "cannot be read" in line.found}
    assert broken >= {"cache", "links", "bucket"}
    with pytest.raises(StorageError, match="cannot be read"), dvc_at_rest(project):
        pass


# The runner.


def run_all(*checks: Check) -> list[Line]:
    return [line for running in [Running(check) for check in checks] for line in running.lines()]


def test_a_check_that_breaks_hides_neither_what_it_had_found_nor_the_others() -> None:
    def breaks() -> Iterator[Line]:
        yield Line("first", "ok", "seen")
        raise ZeroDivisionError("of nobody's making")

    lines = run_all(Check("broken", breaks), Check("other", lambda: [Line("other", "ok", "seen")]))
    assert [(line.name, line.state) for line in lines] == [("first", "ok"), ("broken", "fails"), ("other", "ok")]
    assert "of nobody's making" in lines[1].found


def test_a_check_that_hangs_hides_nothing_and_is_not_waited_for() -> None:
    forever = threading.Event()

    def hangs() -> Iterator[Line]:
        yield Line("first", "ok", "seen")
        forever.wait()

    lines = run_all(Check("hung", hangs, limit_s=0.1), Check("other", lambda: [Line("other", "ok", "seen")]))
    forever.set()
    assert [(line.name, line.state) for line in lines] == [("first", "ok"), ("hung", "fails"), ("other", "ok")]
    assert "0.1 s" in lines[1].found


def test_an_error_of_ours_keeps_its_next_step() -> None:
    def fails() -> Iterator[Line]:
        raise StorageError("no disk", expected="one", got="none", next_step="buy one")
        yield

    assert run_all(Check("disk", fails)) == [Line("disk", "fails", "no disk: none, expected one", "buy one")]


# The machine.


def test_this_python_is_right() -> None:
    assert only(doctor_machine.python()).state == "ok"


def test_another_version_than_the_locked_one_is_named(project: Path) -> None:
    (project / "requirements.lock").write_text("dvc==1.2.3 \\\n    --hash=sha256:00\nnumpy==0.1\n")
    line = only(doctor_machine.lock(project))
    assert (line.state, line.next_step) == ("warning", "make setup")
    assert "locked 1.2.3" in line.found
    assert "numpy" not in line.found


def test_the_lock_of_the_repository_is_installed() -> None:
    assert only(doctor_machine.lock(REPOSITORY)).state == "ok"


@pytest.mark.parametrize(("free_bytes", "state"), [(10**6, "fails"), (10**9, "warning"), (10**11, "ok")])
def test_a_full_disk_is_told(project: Path, monkeypatch: pytest.MonkeyPatch, free_bytes: int, state: str) -> None:
    place = Place("/", "ext4", "/dev/sda1", free_bytes, 10**12)
    monkeypatch.setattr(doctor_machine, "place_of", lambda path: place)
    assert only(doctor_machine.disks(project)).state == state


def test_keys_in_the_tracked_configuration_fail_and_are_not_repeated(project: Path) -> None:
    with (project / ".dvc/config").open("a") as config:
        config.write("['remote \"other\"']\n    url = s3://x/y\n    secret_access_key = made-up-for-this-test\n")
    line = only(doctor_machine.secrets(project))
    assert line.state == "fails"
    assert "secret_access_key" in line.found
    assert "made-up" not in f"{line}"


@pytest.mark.parametrize("name", [".env", ".dvc/config.local"])
def test_a_file_of_keys_that_git_tracks_fails(project: Path, name: str) -> None:
    (project / name).touch()
    assert only(doctor_machine.secrets(project)).state == "ok"
    subprocess.run(["git", "add", "--force", name], cwd=project, check=True)
    line = only(doctor_machine.secrets(project))
    assert line.state == "fails"
    assert name in line.found


def test_a_pytorch_that_cannot_be_asked_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_machine, "_GPU_SCRIPT", "raise SystemExit('no driver')")
    line = only(doctor_machine.gpu())
    assert line.state == "warning"
    assert "no driver" in line.found


# The data.


def test_a_cache_on_a_disk_that_is_not_mounted_fails(project: Path, tmp_path: Path) -> None:
    (project / ".dvc/config.local").write_text(f"[cache]\n    dir = {tmp_path / 'hdd' / 'cache'}\n")
    line = only(doctor_data.cache(project))
    assert line.state == "fails"
    assert "mount" in str(line.next_step)


def test_a_cache_that_nothing_was_put_into_yet_is_right(project: Path) -> None:
    assert only(doctor_data.cache(project)).state == "ok"


def test_hard_links_are_tried_and_leave_nothing(project: Path) -> None:
    (project / ".dvc/cache").mkdir()
    before = sorted(project.rglob("*"))
    line = only(doctor_data.links(project))
    assert line.state == "ok"
    assert line.found.startswith("hard links")
    assert sorted(project.rglob("*")) == before


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", folder], check=False)
    if mounted.returncode:
        pytest.skip("mounting a second file system is not allowed here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_from_another_disk_symbolic_links_are_what_is_in_effect(project: Path, other_disk: Path) -> None:
    (other_disk / "cache").mkdir()
    (project / ".dvc/config.local").write_text(f"[cache]\n    dir = {other_disk / 'cache'}\n")
    line = only(doctor_data.links(project))
    assert line.state == "ok"
    assert line.found.startswith("symbolic links")
    assert only(doctor_data.cache(project)).found.endswith("on a disk of its own")


def test_where_only_copies_are_left_doctor_fails(project: Path) -> None:
    (project / ".dvc/config.local").write_text("[cache]\n    type = copy\n")
    assert only(doctor_data.links(project)).state == "fails"


def test_a_lock_file_that_nobody_holds_is_no_lock(project: Path) -> None:
    (project / ".dvc/tmp/lock").write_text(" 1\n")
    assert only(doctor_data.dvc_lock(project)) == Line("DVC's lock", "ok", "free")


def test_a_lock_that_is_held_is_told_with_its_holder(project: Path) -> None:
    path = project / ".dvc/tmp/lock"
    path.write_text(f" {os.getpid()}\n")
    with path.open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        line = only(doctor_data.dvc_lock(project))
    assert line.state == "warning"
    assert f"process {os.getpid()}" in line.found


def test_asking_does_not_take_the_lock_away(project: Path) -> None:
    path = project / ".dvc/tmp/lock"
    path.write_text(" 1\n")
    only(doctor_data.dvc_lock(project))
    with path.open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)


def rwlock(project: Path, pid: int) -> None:
    held = {"write": {"/x": {"pid": pid, "cmd": "dvc repro"}}, "read": {"/y": [{"pid": pid, "cmd": "dvc repro"}]}}
    (project / ".dvc/tmp/rwlock").write_text(json.dumps(held))


def test_what_a_killed_process_left_is_no_failure_since_dvc_clears_it(project: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    rwlock(project, gone.pid)
    line = only(doctor_data.dvc_lock(project))
    assert line.state == "ok"
    assert "is gone" in line.found


def test_a_number_that_another_program_has_now_would_block_dvc_for_good(project: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        rwlock(project, other.pid)
        line = only(doctor_data.dvc_lock(project))
        other.communicate(b"\n")
    assert line.state == "fails"
    assert str(line.next_step).startswith("rm ")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"write": {"/x": {}}, "read": {"/y": [{"cmd": "x"}]}}'])
def test_a_lock_that_cannot_be_read_fails(project: Path, content: str) -> None:
    (project / ".dvc/tmp/rwlock").write_text(content)
    line = only(doctor_data.dvc_lock(project))
    assert line.state == "fails"
    assert str(line.next_step).startswith("rm ")


def test_an_output_below_a_linked_folder_fails(project: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (project / "data").symlink_to(tmp_path / "elsewhere")
    (project / "dvc.yaml").write_text("stages:\n  make:\n    cmd: echo\n    outs:\n      - data/made\n")
    line = only(doctor_data.pipeline(project))
    assert line.state == "fails"
    assert "link" in line.found


def test_a_pipeline_that_keeps_the_rules_is_right(project: Path) -> None:
    (project / "dvc.yaml").write_text("stages:\n  make:\n    cmd: echo\n    outs:\n      - data/made\n")
    assert only(doctor_data.pipeline(project)).state == "ok"


def test_dvc_says_whether_there_is_something_to_run(project: Path) -> None:
    stage = "stages:\n  make:\n    cmd: echo {} > made\n    outs:\n      - made\n"
    (project / "dvc.yaml").write_text(stage.format("one"))
    subprocess.run([sys.executable, "-m", "dvc", "repro", "--quiet"], cwd=project, check=True)
    assert only(doctor_data.current(project)).state == "ok"
    (project / "dvc.yaml").write_text(stage.format("two"))
    line = only(doctor_data.current(project))
    assert (line.state, line.next_step) == ("warning", "dvc repro")
    assert "make" in line.found
    assert (project / "made").read_text() == "one\n"


# The command.

LONG = "a sentence that is much too long for one row of a narrow terminal and goes on, " * 2


def invoke(monkeypatch: pytest.MonkeyPatch, lines: list[Line], *arguments: str) -> tuple[int, str]:
    monkeypatch.setattr(doctor, "examine", lambda project, *, offline: lines)
    done = CliRunner().invoke(app, ["doctor", *arguments], catch_exceptions=False)
    return done.exit_code, done.stdout


@pytest.mark.parametrize(("state", "code"), [("ok", 0), ("warning", 0), ("fails", 1)])
def test_only_a_failure_ends_with_1(project: Path, monkeypatch: pytest.MonkeyPatch, state: str, code: int) -> None:
    assert invoke(monkeypatch, [Line("a", state, "b"), Line("c", "ok", "d")])[0] == code  # type: ignore[arg-type]


@pytest.mark.parametrize("columns", [80, 200])
def test_the_table_fits_the_terminal_and_loses_no_word(
    project: Path, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    _, shown = invoke(monkeypatch, [Line("verification", "warning", LONG.strip(), "dvc remote modify b2 verify true")])
    assert max(map(len, shown.splitlines())) <= columns
    assert "next: dvc remote modify b2 verify true" in shown
    assert " ".join(shown.split()).count("much too long for one row") == 2


def test_json_is_the_lines(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, shown = invoke(monkeypatch, [Line("a", "ok", "b", None)], "--json")
    assert json.loads(shown) == [{"name": "a", "state": "ok", "found": "b", "next_step": None}]


def test_a_configuration_that_cannot_be_read_is_no_traceback(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_machine, "gpu", list)
    monkeypatch.setattr(doctor_data, "current", lambda project: [])
    (project / ".dvc/config").write_text("[core\n")
    states = {line.name: line.state for line in doctor.examine(project, offline=True)}
    assert states["bucket"] == "fails"
    assert states["python"] == "ok"


def test_in_a_fresh_clone_nothing_fails(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if (REPOSITORY / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, clone / name)
    as_template(clone)
    subprocess.run(["git", "init", "--quiet"], cwd=clone, check=True)
    newcomer = environment(tmp_path / "home", {"COLUMNS": "80"})
    for name in ("B2_ACCOUNT_ID", "B2_APPLICATION_KEY"):
        del newcomer[name]
    done = subprocess.run(
        [Path(sys.executable).with_name("backbeat"), "doctor"],
        cwd=clone, env=newcomer, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 failing" in done.stdout
    assert "next: backbeat init" in done.stdout
    assert "GPU" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
