"""A Dask cluster on this machine: a scheduler and workers, each a process of its own, started as a person would."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from one_dataset import wait_for

TESTS = Path(__file__).parent
LOCAL = ("--host", "127.0.0.1")


@dataclass(frozen=True)
class Cluster:
    """Where the scheduler is, and its workers."""

    address: str
    workers: tuple[subprocess.Popen[bytes], ...]


@contextlib.contextmanager
def dask_cluster(folder: Path, workers: int = 2, *, deaths_allowed: int = 3) -> Iterator[Cluster]:
    """Run a scheduler on a free port and workers of one thread each; all are gone when the block ends.

    Args:
        folder: for logs and what Dask writes.
        workers: how many.
        deaths_allowed: how many workers a task may take with it before the scheduler gives up on it.
    """
    with contextlib.ExitStack() as running:
        scheduler_file = folder / "scheduler.json"
        limit = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": str(deaths_allowed)}
        options = ("--port", "0", "--scheduler-file", str(scheduler_file))
        _start(running, folder, "scheduler", *LOCAL, *options, environment=limit)
        wait_for(lambda: _address(scheduler_file) != "", patience_s=30)
        worker_options = ("--scheduler-file", str(scheduler_file), "--nthreads", "1", "--no-nanny",
                          "--local-directory", str(folder))  # fmt: skip
        started = [
            _start(running, folder, "worker", *LOCAL, *worker_options, log=f"worker-{number}")
            for number in range(workers)
        ]
        for number in range(workers):
            log = folder / f"worker-{number}.log"
            wait_for(lambda log=log: b"Registered to" in log.read_bytes(), patience_s=30)  # type: ignore[misc]
        yield Cluster(_address(scheduler_file), tuple(started))


def _start(
    running: contextlib.ExitStack,
    folder: Path,
    what: str,
    *options: str,
    log: str | None = None,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> subprocess.Popen[bytes]:
    # Functions of test modules have to be importable where they run.
    modules = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": modules, **environment}
    command = [sys.executable, "-m", "dask", what, "--no-dashboard", *options]
    output = running.enter_context((folder / f"{log or what}.log").open("wb"))
    process = subprocess.Popen(command, stdout=output, stderr=output, env=environment, cwd=folder)
    running.callback(process.wait)
    running.callback(process.kill)
    return process


def _address(scheduler_file: Path) -> str:
    """Return the address that the scheduler has written, or nothing while it has not."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        return str(json.loads(scheduler_file.read_text())["address"])
    return ""
