"""A whole clone under another name, in an environment of its own: what is green here is green there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]

# In two pieces: a name that the project says already would be refused.
NAME = "-".join(("ride", "cymbal", "lab"))


def run(project: Path, *command: str) -> str:
    """Run a command as somebody would who has the clone and nothing else: this environment is not active."""
    environment = {name: value for name, value in os.environ.items() if name not in {"VIRTUAL_ENV", "PYTHONPATH"}}
    environment["PATH"] = os.pathsep.join(
        folder for folder in os.environ["PATH"].split(os.pathsep) if Path(folder) != Path(sys.executable).parent
    )
    for role in ("AUTHOR", "COMMITTER"):
        environment |= {f"GIT_{role}_NAME": "t", f"GIT_{role}_EMAIL": "t@example.org"}
    done = subprocess.run(
        command, cwd=project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-20_000:]
    return done.stdout


@pytest.mark.slow
def test_every_check_and_test_passes_under_another_name(tmp_path: Path) -> None:
    project = tmp_path / "project"
    for name in run(REPOSITORY, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0"):
        if name and (REPOSITORY / name).is_file():
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, project / name)
    run(project, "git", "init", "--quiet")
    run(project, "git", "add", "--all")
    run(project, "git", "commit", "--quiet", "--message", "Begin")
    base = Path(sys.base_prefix) / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
    python = f"PYTHON={base}"
    run(project, "make", "setup", python)
    run(
        project, ".venv/bin/backbeat", "init", "--yes", "--name", NAME, "--license-holder", "Ada Example",
        "--description", "Drums of mine", "--bucket", f"{NAME}-data", "--region", "eu-central-003",
    )  # fmt: skip
    run(project, "git", "add", "--all")
    run(project, "git", "commit", "--quiet", "--message", f"Call it {NAME}")
    run(project, "make", "setup", python)
    run(project, ".venv/bin/python", "-m", "pip", "uninstall", "--yes", "backbeat")
    assert not (project / ".venv/bin/backbeat").exists()
    run(project, "make", "check", "test", python)
    assert run(project, "git", "status", "--porcelain") == ""
