"""What Git is told here: what is refused before it is committed, and how pointers are shown and merged."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).parents[1]
HOOKS = {
    hook["id"]: hook
    for source in yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())["repos"]
    for hook in source["hooks"]
    if source["repo"] == "local"
}


def git(folder: Path, *words: str, check: bool = True) -> str:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    done = subprocess.run(["git", *identity, *words], cwd=folder, stdout=subprocess.PIPE, text=True, check=check)
    return done.stdout


def test_a_commit_fetches_nothing_and_every_hook_is_there() -> None:
    assert list(HOOKS) == [
        "format", "lint", "types", "imports", "secrets", "pipeline", "size", "docs", "workflows", "actionlint"
    ]  # fmt: skip
    for hook in HOOKS.values():
        program, *words = hook["entry"].split()
        assert hook["language"] == "system"
        assert program == "sh" or (Path(sys.executable).parent / Path(program).name).exists()
        assert all((REPOSITORY / word).exists() for word in words if word.endswith((".py", ".sh")))


def test_generated_documents_are_checked_when_something_is_changed_that_they_are_made_from() -> None:
    files = re.compile(HOOKS["docs"]["files"])
    made_from = ("configs/datasets/egmd.yaml", "docs/cloud.md", "params.yaml", "src/backbeat/cli/app.py", "README.md")
    assert all(files.search(name) for name in (*made_from, "data/dvc.yaml", "reports/metrics.json"))
    assert not files.search("tests/test_docs.py")


def test_a_file_that_is_too_large_for_git_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "small.wav").write_bytes(bytes(1_000_000))
    (tmp_path / "large.wav").write_bytes(bytes(1_000_001))
    (tmp_path / "link.wav").symlink_to("large.wav")
    command = [sys.executable, REPOSITORY / HOOKS["size"]["entry"].split()[1]]
    done = subprocess.run(
        [*command, "small.wav", "large.wav", "link.wav"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "large.wav has 1,000,001 bytes, more than the 1,000,000 that Git should hold",
        "next: git restore --staged large.wav, then dvc add large.wav",
    ]
    assert subprocess.run([*command, "small.wav"], cwd=tmp_path, check=False).returncode == 0
    box = tmp_path / "src/mine/transcription/pretrained/drums.safetensors"
    box.parent.mkdir(parents=True)
    for size_bytes, code in ((2_000_000, 0), (2_000_001, 1)):
        box.write_bytes(bytes(size_bytes))
        assert subprocess.run([*command, box.relative_to(tmp_path)], cwd=tmp_path, check=False).returncode == code


def lock(first: str = "1", second: str = "1") -> str:
    """Return a lock file of two stages, each too long for one hunk to hold both."""
    deps = "    deps:\n" + "".join(f"    - path: {name}.py\n" for name in "abcdefgh")
    return f"stages:\n  preprocess:\n{deps}      md5: '{first}'\n  train:\n{deps}      md5: '{second}'\n"


def test_two_runs_are_never_mixed_and_a_difference_names_its_stage(tmp_path: Path) -> None:
    (tmp_path / ".gitattributes").write_bytes((REPOSITORY / ".gitattributes").read_bytes())
    (tmp_path / "data").mkdir()
    locks = [tmp_path / "dvc.lock", tmp_path / "data" / "dvc.lock"]
    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    for words, content in (
        (["branch", "--show-current"], lock()),
        (["checkout", "--quiet", "-b", "other"], lock(first="2")),
        (["checkout", "--quiet", "main"], lock(second="2")),
    ):
        git(tmp_path, *words)
        for path in locks:
            path.write_text(content)
        git(tmp_path, "add", "--all")
        git(tmp_path, "commit", "--quiet", "--message", "a run")
    # As `make setup` does it.
    (command,) = re.findall(r"@git (config .*?) 2>", (REPOSITORY / "Makefile").read_text())
    _, key, pattern = command.split(" ", 2)
    git(tmp_path, "config", key, pattern.strip("'").replace("$$", "$"))
    assert re.findall(r"^@@ .* @@ (.*)", git(tmp_path, "diff", "HEAD~1", "--", "dvc.lock"), re.MULTILINE) == ["train"]
    git(tmp_path, "merge", "other", check=False)
    # Downloads are independent of each other, stages of one pipeline are not.
    assert git(tmp_path, "diff", "--name-only", "--diff-filter=U").splitlines() == ["dvc.lock"]
    assert locks[1].read_text() == lock("2", "2")
    assert locks[0].read_text() == lock(second="2")
