"""Where an artifact comes from."""

import subprocess
from pathlib import Path

from backbeat.provenance import git_revision


def _git(folder: Path, *command: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    return subprocess.run(["git", "-C", folder, *identity, *command], check=True, capture_output=True, text=True).stdout


def test_code_that_differs_is_said_and_parameters_and_results_are_not(tmp_path: Path) -> None:
    recorded = ("params.yaml", "dvc.lock", "data/dvc.lock", "reports/plots/f1.json")
    code = ("src/model.py", "configs/params.yaml")
    for name in (*recorded, *code):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("one\n")
    _git(tmp_path, "init", "-q")
    assert git_revision(tmp_path) is None  # no commit yet
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "-qm", "one")
    commit = _git(tmp_path, "rev-parse", "HEAD").strip()
    for name in recorded:
        (tmp_path / name).write_text("two\n")
    (tmp_path / "untracked").touch()
    assert git_revision(tmp_path) == commit
    for name in code:
        (tmp_path / name).write_text("two\n")
        assert git_revision(tmp_path) == f"{commit}-dirty", name
        (tmp_path / name).write_text("one\n")
    (tmp_path / "src/new.py").touch()
    assert git_revision(tmp_path) == f"{commit}-dirty"
    (tmp_path / "src/new.py").unlink()
    _git(tmp_path, "rm", "-q", "--cached", "src/model.py")
    assert git_revision(tmp_path) == f"{commit}-dirty"


def test_outside_of_git_there_is_no_revision(tmp_path: Path) -> None:
    assert git_revision(tmp_path) is None
