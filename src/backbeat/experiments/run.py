"""Experiments by `dvc exp run`: one in the foreground, or several through DVC's queue.

Always in a temporary copy of the project, DVC's `--temp` and `--queue`: in the workspace a first experiment would leave
its parameters behind, and a second one, which says only what differs, would start from those. The copies share cache
and staging store, so that nothing is made or fetched twice, and training goes on at its last checkpoint after a kill.

A copy has to run its own code. `backbeat` is installed as a link to the workspace's `src`, so `PYTHONPATH=src` is set,
which every stage takes from the folder that it starts in.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from backbeat.config import Params, load_params
from backbeat.errors import ExperimentError
from backbeat.experiments.presets import checked, load_preset, overrides
from backbeat.experiments.queue import ENDED, Hope, Task, tasks
from backbeat.experiments.results import experiments, git_commit, resolve
from backbeat.progress import progress

# The file descriptor: what DVC says is no output of ours.
STDERR = 2

# How often the queue is asked.
POLL_S = 2.0

# How much of a failed experiment's log a message holds.
LAST_LINES = 15

Say = Callable[[str], None]


@dataclass(frozen=True)
class Planned:
    """An experiment before it runs: its name, and arguments for `dvc exp run -S`."""

    name: str
    overrides: tuple[str, ...]


def plan(project: Path, presets: Sequence[str], given: Sequence[str] = (), name: str | None = None) -> list[Planned]:
    """Return one experiment for each preset, called like it, with the same overrides for all.

    Raises:
        ConfigError: if a value has the wrong type, or is out of bounds.
        ExperimentError: if there is no such preset or parameter, or a name is taken.
    """
    if name is not None and len(presets) != 1:
        raise ExperimentError(
            "a name is for one experiment", got=f"{len(presets)} presets", next_step="leave out --name"
        )
    planned = [Planned(name or preset, (*overrides(load_preset(project, preset)), *given)) for preset in presets]
    for one in planned:
        checked(project, one.overrides)
    names = [one.name for one in planned]
    _require_free(names, _taken(project))
    _require_unknown_to_git(project, names)
    return planned


def run(project: Path, planned: Planned) -> None:
    """Run one experiment to its end; what it prints is seen at once.

    Raises:
        ExperimentError: if it fails. What its finished stages have made stays in the cache, for the next time.
    """
    code = _dvc(project, "exp", "run", "--temp", *_arguments(project, planned))
    if code:
        raise ExperimentError(
            f"the experiment {planned.name} failed",
            got=f"dvc exp run ended with {code}; the reason is above",
            next_step="remove the cause and repeat the command: it goes on with what is finished",
        )


def enqueue(project: Path, planned: Sequence[Planned]) -> list[Task]:
    """Put experiments into DVC's queue, with the code and the parameters as they are now.

    Raises:
        ExperimentError: if DVC does not take one, those before it stay queued; or Git does not know who is at work.
    """
    _require_identity(project)
    before = {task.revision for task in tasks(project)}
    for one in planned:
        if _dvc(project, "exp", "run", "--queue", *_arguments(project, one)):
            step = "dvc queue status shows those before it, dvc queue remove --queued drops them"
            raise ExperimentError(f"DVC did not queue {one.name}", got="the reason is above", next_step=step)
    return [task for task in tasks(project) if task.revision not in before]


def follow(project: Path, queued: Sequence[Task], *, jobs: int = 1, say: Say = print) -> None:
    """Let DVC's workers run the queue, until these tasks have ended.

    Workers are processes of their own: they go on when this one is ended.

    Args:
        project: the root of the repository.
        queued: what is waited for.
        jobs: how many run at once.
        say: called with a line when a task begins, gets on, or ends.

    Raises:
        ExperimentError: if one fails; the end of its log is in the message. If one is removed, or there is no worker
            left to run it.
    """
    if _dvc(project, "queue", "start", "--jobs", str(jobs)):
        step = "dvc queue start, then dvc queue status"
        raise ExperimentError("DVC's queue did not start", got="the reason is above", next_step=step)
    seen: dict[str, str] = {}
    lines: dict[str, str] = {}
    hope = Hope(project)
    with progress("experiments", len(queued), unit="experiments") as advance:
        while waiting := [task for task in queued if seen.get(task.revision) not in ENDED]:
            before = {**seen}, {**lines}
            found = hope.polled(waiting)
            for task in found:
                if seen.get(task.revision, "Queued") != task.status:
                    say(f"{task.name}: {task.status.lower()}")
                    if task.status in ENDED:
                        advance(1)
                seen[task.revision] = task.status
                last = next(iter(reversed(_log(project, task))), "")
                if task.status == "Running" and last not in {"", lines.get(task.revision)}:
                    say(f"{task.name}: {last}")
                    lines[task.revision] = last
            hope.require_worker([task for task in found if task.status not in ENDED], moved=before != (seen, lines))
            time.sleep(POLL_S)
    _raise_failed(project, [task for task in queued if seen[task.revision] == "Failed"])


def environment() -> dict[str, str]:
    """Return the environment in which a copy of the project runs its own code, with this installation's programs."""
    programs, code = str(Path(sys.executable).parent), "src"
    return {
        **os.environ,
        "PATH": os.pathsep.join([programs, *filter(None, [os.environ.get("PATH")])]),
        "PYTHONPATH": os.pathsep.join([code, *filter(None, [os.environ.get("PYTHONPATH")])]),
    }


def _require_identity(project: Path) -> None:
    """Refuse what DVC refuses with less of a reason: its queue keeps the workspace in a stash, which has an author."""
    # Of the settings and the environment; what Git would make up of the machine's name is not enough for DVC.
    asked = ["git", "-c", "user.useConfigOnly=true", "var", "GIT_COMMITTER_IDENT"]
    if subprocess.run(asked, cwd=project, capture_output=True, check=False).returncode:
        raise ExperimentError(
            "Git does not know who you are, and DVC's queue asks it",
            expected="the settings user.name and user.email",
            got="none",
            next_step='git config user.name "Jo Doe"; git config user.email jo@example.org',
        )


def _taken(project: Path) -> dict[str, str]:
    """Return the names that DVC would refuse, or would only notice when everything has run, with the reason."""
    head = resolve(project, "HEAD")
    names = {name: "is there already" for baseline, name, _ in experiments(project) if baseline == head}
    return names | {task.name: f"is in the queue ({task.status.lower()})" for task in tasks(project)
                    if task.status not in ENDED}  # fmt: skip


def _require_free(names: Sequence[str], taken: dict[str, str]) -> None:
    for index, name in enumerate(names):
        if name in names[:index]:
            raise ExperimentError(f"{name} is asked for twice", next_step="name each preset once")
        if name in taken:
            free = next(f"{name}-{number}" for number in range(2, len(taken) + 3) if f"{name}-{number}" not in taken)
            dropped = f"dvc queue remove {name}" if "queue" in taken[name] else f"dvc exp remove {name}"
            raise ExperimentError(
                f"an experiment {name} {taken[name]}",
                expected="a name that no experiment of this commit has",
                next_step=f"give another one: --name {free}; or drop that one: {dropped}",
            )


def _require_unknown_to_git(project: Path, names: Sequence[str]) -> None:
    for name in names:
        if git_commit(project, name) is not None:
            raise ExperimentError(
                f"Git knows {name} already, as a branch, a tag or a commit: it would not find the experiment by it",
                expected="a name that is none",
                next_step=f"give another one: --name {name}-experiment",
            )


def _arguments(project: Path, planned: Planned) -> list[str]:
    after = checked(project, planned.overrides)
    # Raw data need not be here where the shards are: the download would be the 96 GB that nobody asked for.
    missing = ["--allow-missing"] if _only_raw_data_is_missing(project, after) else []
    return ["--name", planned.name, *missing, *(f"--set-param={text}" for text in planned.overrides)]


def _only_raw_data_is_missing(project: Path, after: Params) -> bool:
    before = load_params(project)
    if (before.dataset, before.intended_use, before.preprocess) != (
        after.dataset,
        after.intended_use,
        after.preprocess,
    ):
        return False
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "status", "--json", "preprocess"],
        cwd=project, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, check=False,
    )  # fmt: skip
    with contextlib.suppress(ValueError):
        status = json.loads(done.stdout)
        return bool(status == {"preprocess": [{"changed deps": {f"data/raw/{after.dataset}": "deleted"}}]})
    return False


def _log(project: Path, task: Task) -> list[str]:
    """Return the lines that a task has printed."""
    path = project / ".dvc" / "tmp" / "exps" / "run" / task.revision / f"{task.revision}.out"
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def _raise_failed(project: Path, failed: Sequence[Task]) -> None:
    for task in failed[:1]:
        others = f"; {', '.join(other.name for other in failed[1:])} failed, too" if failed[1:] else ""
        raise ExperimentError(
            f"the experiment {task.name} failed{others}",
            got="\n".join(["the end of its log:", *_log(project, task)[-LAST_LINES:]]),
            next_step=f"dvc queue logs {task.name} shows all of it; remove the cause, then repeat the command",
        )


def _dvc(project: Path, *arguments: str) -> int:
    """Run DVC to its end, its output on standard error; return its exit code."""
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(
        command, cwd=project, env=environment(), stdin=subprocess.DEVNULL, stdout=STDERR, check=False
    ).returncode
