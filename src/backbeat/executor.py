"""The map over work: processes on this machine, or a Dask cluster by its address; threads for what only waits.

Both sides of the former are Python's own `concurrent.futures.Executor`: `ProcessPoolExecutor` here, and there the
executor that Dask's client offers. A task is a top-level function of one picklable argument. What it makes goes into
the staging store under a digest, so a task that runs twice (a lost worker, a second attempt) does no harm, and what
is finished when a run dies is not done again.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

from backbeat.errors import BackbeatError, ConfigError

TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")

# How often Dask gives a task to another worker before it gives up.
CLUSTER_RETRIES = 3

# How long a scheduler may take to answer; Dask's own 30 s are long for a mistyped address.
CONNECT_TIMEOUT_S = 10


def default_workers() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_tasks(
    function: Callable[[TaskT], ResultT],
    tasks: Sequence[TaskT],
    *,
    workers: int | None = None,
    cluster: str | None = None,
) -> Iterator[tuple[TaskT, ResultT]]:
    """Apply `function` to every task in parallel and yield (task, result) pairs in the order of completion.

    Args:
        function: importable by name, of one picklable argument.
        tasks: the arguments.
        workers: processes on this machine; one means none beside this one. Default: one per processor.
        cluster: address of a Dask scheduler (`tcp://host:port`) to use instead.

    Raises:
        BackbeatError: if a worker dies, or the first error of a task; what is running is waited for, what has not
            begun is dropped.
    """
    workers = workers or default_workers()
    if cluster is None and (workers == 1 or len(tasks) <= 1):
        yield from ((task, function(task)) for task in tasks)
        return
    with _cluster(cluster) if cluster else _processes(min(workers, len(tasks))) as executor:
        futures = {executor.submit(function, task): task for task in tasks}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise _worker_died("with fewer --workers") from error
        finally:
            for future in futures:
                future.cancel()


def run_threads(
    function: Callable[[TaskT], ResultT], tasks: Sequence[TaskT], *, threads: int
) -> Iterator[tuple[TaskT, ResultT | BackbeatError]]:
    """Apply `function` to every task in threads, for work that waits: for a network, for a disk.

    A task that fails does not keep the others from being done: its error is yielded in place of its result. Threads
    end with the process, so that Ctrl-C does not wait for a server that is silent.

    Args:
        function: may be called by several threads at once.
        tasks: the arguments, begun in this order.
        threads: how many tasks run at the same time.
    """
    waiting: queue.SimpleQueue[TaskT] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[TaskT, ResultT | BaseException]] = queue.SimpleQueue()
    for task in tasks:
        waiting.put(task)

    def work() -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                task = waiting.get_nowait()
                try:
                    done.put((task, function(task)))
                except BaseException as error:  # noqa: BLE001 - it is raised where the results are taken
                    done.put((task, error))

    for _ in range(min(threads, len(tasks))):
        threading.Thread(target=work, daemon=True).start()
    for _ in tasks:
        task, result = done.get()
        if isinstance(result, BaseException) and not isinstance(result, BackbeatError):
            raise result
        yield task, result


def _processes(workers: int) -> AbstractContextManager[Executor]:
    # Spawned, not forked: a fork copies locks of threads that do not exist in the child (HDF5, OpenMP, tqdm).
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


@contextmanager
def _cluster(address: str) -> Iterator[Executor]:
    try:
        from distributed import Client
        from distributed.scheduler import KilledWorker
    except ImportError as error:
        raise ConfigError("--cluster needs Dask", next_step="pip install '.[cluster]'") from error
    try:
        client = Client(address, timeout=CONNECT_TIMEOUT_S)  # type: ignore[no-untyped-call]
    except (OSError, TimeoutError, ValueError) as error:
        raise BackbeatError(
            f"no Dask scheduler answers at {address}",
            expected="a scheduler, started with `dask scheduler`",
            got=str(error),
            next_step="check the address, or leave --cluster out to work on this machine",
        ) from error
    with client, client.get_executor(retries=CLUSTER_RETRIES) as executor:  # type: ignore[no-untyped-call]
        try:
            yield executor
        except KilledWorker as error:
            raise _worker_died("with more memory for each worker") from error


def _worker_died(remedy: str) -> BackbeatError:
    return BackbeatError(
        "a worker process died",
        expected="every worker to live",
        got="one that was killed, as happens when memory runs out",
        next_step=f"run the command again, {remedy}; what is finished is kept",
    )
