"""DVC's queue: what is in it, and whether something can still come of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from backbeat.errors import ExperimentError

# After so many polls in a row a queue that cannot be read is an error, or one that no longer has a task. Between two
# moments of a task DVC's files can be in either state.
PATIENT_POLLS = 10

# After so many polls without a word DVC is asked whether anybody works, and so often, before nobody is believed to: a
# busy machine can be late with the answer.
QUIET_POLLS = 15
LAST_CALLS = 3
ANSWER_S = 5.0

ENDED = ("Success", "Failed")


@dataclass(frozen=True)
class Task:
    """An experiment in DVC's queue; `revision` tells apart those that once had the same name."""

    revision: str
    name: str
    status: str


def tasks(project: Path) -> list[Task]:
    """Return what is in DVC's queue, and what has been.

    Raises:
        ExperimentError: if DVC cannot tell.
    """
    # Nothing was ever queued; DVC takes a second to say so.
    if not (project / ".dvc" / "tmp" / "exps").is_dir():
        return []
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(project)) as repo:
            rows = repo.experiments.celery_queue.status()
    except DvcException as error:
        step = "dvc queue status says more"
        raise ExperimentError("DVC's queue cannot be read", got=str(error), next_step=step) from error
    return [Task(str(row["rev"]), str(row["name"] or row["rev"][:7]), str(row["status"])) for row in rows]


class Hope:
    """Whether something can still come of the queue; it takes several looks to give that up."""

    def __init__(self, project: Path) -> None:
        self._project = project
        self._unreadable = self._missing = self._quiet = 0

    def polled(self, waiting: Sequence[Task]) -> list[Task]:
        """Return those of these tasks that DVC's queue has; none while a worker is writing down what it does.

        Raises:
            ExperimentError: if the queue stays unreadable, or a task stays away.
        """
        try:
            listed = {task.revision: task for task in tasks(self._project)}
        except (ExperimentError, ValueError, OSError):
            self._unreadable += 1
            if self._unreadable < PATIENT_POLLS:
                return []
            raise
        self._unreadable = 0
        gone = [task.name for task in waiting if task.revision not in listed]
        self._missing = self._missing + 1 if gone else 0
        if self._missing >= PATIENT_POLLS:
            raise ExperimentError(
                f"DVC's queue no longer has {', '.join(gone)}",
                got="removed, or ended without a result",
                next_step="dvc queue status shows what is left; repeat the command for what is missing",
            )
        return [listed[task.revision] for task in waiting if task.revision in listed]

    def require_worker(self, waiting: Sequence[Task], *, moved: bool) -> None:
        """Ask whether anybody works, where nothing has moved for long.

        Raises:
            ExperimentError: if nobody does.
        """
        self._quiet = 0 if moved or not waiting else self._quiet + 1
        if self._quiet < QUIET_POLLS:
            return
        if _has_worker(self._project):
            self._quiet = 0
        elif self._quiet >= QUIET_POLLS + LAST_CALLS - 1:
            raise ExperimentError(
                f"nobody works on {', '.join(task.name for task in waiting)}",
                expected="a worker of DVC's queue",
                got="none: ended or killed",
                next_step="dvc queue kill NAME ends what is said to be running, dvc queue start goes on with the rest",
            )


def _has_worker(project: Path) -> bool:
    """Return whether a worker of DVC's queue answers."""
    from dvc.repo import Repo

    with Repo(str(project)) as repo:
        return bool(repo.experiments.celery_queue.celery.control.inspect(timeout=ANSWER_S).active())
