"""The experiments of a clone: those that Git has, and those that are in DVC's queue."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from backbeat.experiments.queue import tasks
from backbeat.experiments.results import experiments, read_experiments
from backbeat.experiments.tables import score


@dataclass(frozen=True)
class Listed:
    """An experiment.

    Args:
        name: its name.
        baseline: the commit that it began at; None where it is not finished.
        state: finished, unreadable, queued, running or failed.
        onset_f1: of the test split, for people; None where it was not evaluated.
    """

    name: str
    baseline: str | None
    state: str
    onset_f1: str | None


def listed(project: Path) -> tuple[list[Listed], list[str]]:
    """Return finished experiments by the commit that they began at, then those of the queue; and what is unreadable.

    Raises:
        ExperimentError: if DVC's queue cannot be read.
    """
    results, unreadable = read_experiments(project)
    scores = {one.revision: score(one, "test.onset_f1") or None for one in results}
    finished = [
        Listed(name, baseline, "finished" if commit in scores else "unreadable", scores.get(commit))
        for baseline, name, commit in experiments(project)
    ]
    waiting = [Listed(one.name, None, one.status.lower(), None) for one in tasks(project) if one.status != "Success"]
    return finished + waiting, unreadable
