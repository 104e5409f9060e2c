"""The experiments of a clone: those that Git has, and those that are in DVC's queue."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from backbeat.experiments.results import experiments, read_result
from backbeat.experiments.run import tasks
from backbeat.experiments.tables import score


@dataclass(frozen=True)
class Listed:
    """An experiment.

    Args:
        name: its name.
        baseline: the commit that it began at; None where it is not finished.
        state: finished, queued, running or failed.
        onset_f1: of the test split, for people; None where it was not evaluated.
    """

    name: str
    baseline: str | None
    state: str
    onset_f1: str | None


def listed(project: Path) -> list[Listed]:
    """Return finished experiments by the commit that they began at, then those of the queue.

    Raises:
        ExperimentError: if an experiment or DVC's queue cannot be read.
    """
    finished = [
        Listed(name, baseline, "finished", score(read_result(project, commit), "test.onset_f1") or None)
        for baseline, name, commit in experiments(project)
    ]
    waiting = [Listed(one.name, None, one.status.lower(), None) for one in tasks(project) if one.status != "Success"]
    return finished + waiting
