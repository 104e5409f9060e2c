"""Print what a pull request does to the results, in Markdown: `python .ci/pull_request_comment.py BASE HEAD`.

BASE and HEAD are revisions; what is compared is HEAD and the commit at which it left BASE. Everything is read out of
Git: no data, no key, and no checkout of either is needed.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from backbeat.config import parse_yaml
from backbeat.errors import BackbeatError, ExperimentError
from backbeat.experiments.pull_request import Data, State, code, comment, scores_of
from backbeat.experiments.results import read_file, read_result, resolve

# A report is some kilobytes. What is larger is no report of this project.
MOST_BYTES = 1_000_000

# `dvc repro --dry` names the stages that it would run, and ends at one whose data it would need to know more.
_WOULD_RUN = re.compile(r"(?:Running stage|failed to reproduce) '([^']+)'")


def state_of(project: Path, revision: str, name: str) -> State:
    """Read what a revision holds.

    Raises:
        BackbeatError: if one of its files cannot be read.
    """
    return State(
        result=dataclasses.replace(read_result(project, revision), name=f"{name} {revision[:7]}"),
        data=dict(_data(project, revision)),
        classes=scores_of(_plot(project, revision, "reports/plots/f1_by_class.json"), "class", "f1"),
        thresholds=scores_of(_plot(project, revision, "reports/plots/precision_recall.json"), "threshold", "f1"),
    )


def stale_stages(project: Path, revision: str) -> list[str]:
    """Return what is wrong with `dvc.lock` by what DVC says in a clone without data; nothing if it is current."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        _git(project, "clone", "--quiet", "--shared", "--no-checkout", str(project), str(clone))
        _git(clone, "checkout", "--quiet", "--detach", revision)
        command = [sys.executable, "-m", "dvc", "repro", "--dry", "--allow-missing"]
        environment = {**os.environ, "DVC_NO_ANALYTICS": "1"}
        done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    stages = dict.fromkeys(_WOULD_RUN.findall(said))
    if stages:
        return [
            f"dvc.lock is not that of this code: {', '.join(stages)} would run; next: dvc repro, then commit dvc.lock"
        ]
    if done.returncode:
        return [f"DVC cannot read the pipeline: {said.strip().splitlines()[-1] if said.strip() else 'no reason given'}"]
    return []


def main(base: str, head: str) -> str:
    """Return the comment on what came to `head` since it left `base`."""
    project = Path(_git(Path.cwd(), "rev-parse", "--show-toplevel").strip())
    try:
        head = resolve(project, head) or ""
        base = _git(project, "merge-base", resolve(project, base) or "", head).strip()
        return comment(state_of(project, base, "base"), state_of(project, head, "head"), stale_stages(project, head))
    except BackbeatError as error:
        return f"**The results cannot be compared.**\n\n{code(str(error))}\n"


def _data(project: Path, revision: str) -> Iterator[tuple[str, Data]]:
    """Yield what DVC tracks at a revision and Git does not: data and models, not reports."""
    names = set(_git(project, "ls-tree", "-r", "-z", "--name-only", revision).split("\0"))
    in_git = names | {str(parent) for name in names for parent in PurePosixPath(name).parents}
    for pointer in sorted(name for name in names if name.endswith(("dvc.lock", ".dvc"))):
        for folder, out in _outs(project, revision, pointer):
            path = os.path.normpath(PurePosixPath(pointer).parent / folder / str(out.get("path")))
            if path not in in_git:
                yield path, Data(str(out.get("md5")), _number(out.get("nfiles")), _number(out.get("size")))


def _outs(project: Path, revision: str, pointer: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the outputs of a pointer file, each with the folder that its path is relative to."""
    content = _mapping(project, revision, pointer)
    if pointer.endswith(".dvc"):
        for out in content.get("outs", []):
            yield str(content.get("wdir", ".")), out
        return
    # Where a stage works is in the file beside its lock.
    stages = _mapping(project, revision, pointer.removesuffix("lock") + "yaml").get("stages", {})
    for name, stage in content.get("stages", {}).items():
        for out in stage.get("outs", []):
            yield str(stages.get(name.split("@")[0], {}).get("wdir", ".")), out


def _mapping(project: Path, revision: str, path: str) -> dict[str, Any]:
    values = parse_yaml(read_file(project, revision, path) or b"{}", f"{path} of {revision[:7]}")
    if not isinstance(values, dict):
        raise ExperimentError(f"{path} of {revision[:7]} is no mapping")
    return values


def _plot(project: Path, revision: str, path: str) -> Any:
    content = read_file(project, revision, path) or b""
    try:
        return json.loads(content) if 0 < len(content) < MOST_BYTES else None
    except (ValueError, RecursionError):
        return None


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _git(project: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(project), *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ExperimentError(f"git {words[0]} fails", got=done.stderr.strip())
    return done.stdout


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python .ci/pull_request_comment.py BASE HEAD")
    print(main(*sys.argv[1:]), end="")
