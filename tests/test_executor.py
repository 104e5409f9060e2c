"""The map over work: processes here or a Dask cluster, every task once, and one error when something dies."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from backbeat import executor
from backbeat.drums.preprocess import preprocess
from backbeat.errors import AudioError, BackbeatError
from backbeat.executor import default_workers, run_tasks
from dask_cluster import Cluster, dask_cluster
from errands import kill_itself_at_seven, leave_a_trace, process_of, refuse_seven, square
from one_dataset import wait_for
from small_project import PERFORMANCES, Performance, contents_of, leftovers, new_project, processed, staged

TASKS = list(range(20))


# --- Here ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_every_task_has_its_result(workers: int) -> None:
    assert sorted(run_tasks(square, TASKS, workers=workers)) == [(number, number * number) for number in TASKS]


def test_one_worker_is_this_process() -> None:
    assert {process for _, process in run_tasks(process_of, TASKS, workers=1)} == {os.getpid()}


def test_two_workers_are_other_processes() -> None:
    assert os.getpid() not in {process for _, process in run_tasks(process_of, TASKS, workers=2)}


def test_nothing_to_do_is_done_at_once() -> None:
    assert list(run_tasks(square, [], workers=2)) == []


def test_default_is_a_worker_for_each_processor_that_may_be_used() -> None:
    assert 1 <= default_workers() <= (os.cpu_count() or 1)


@pytest.mark.parametrize("workers", [1, 2])
def test_error_of_a_task_comes_with_all_its_parts(workers: int) -> None:
    with pytest.raises(AudioError) as refusal:
        list(run_tasks(refuse_seven, TASKS, workers=workers))
    assert str(refusal.value) == "seven is no sound\n  expected: another number\n  next: count again"


def test_what_has_not_begun_when_a_task_fails_is_dropped(tmp_path: Path) -> None:
    with pytest.raises(AudioError):
        list(run_tasks(leave_a_trace, [tmp_path / "bad", *(tmp_path / str(number) for number in range(40))], workers=2))
    assert len(list(tmp_path.iterdir())) < 20


def test_worker_that_dies_is_one_error_with_a_next_step() -> None:
    with pytest.raises(BackbeatError, match=r"a worker process died(.|\n)*next: run the command again") as failure:
        list(run_tasks(kill_itself_at_seven, TASKS, workers=2))
    assert type(failure.value) is BackbeatError


# --- On a cluster ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with dask_cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


def test_every_task_has_its_result_on_a_cluster(cluster: Cluster) -> None:
    found = sorted(run_tasks(square, TASKS, cluster=cluster.address))
    assert found == [(number, number * number) for number in TASKS]


def test_tasks_are_done_by_the_workers_of_the_cluster(cluster: Cluster) -> None:
    processes = {process for _, process in run_tasks(process_of, TASKS, cluster=cluster.address)}
    assert processes <= {worker.pid for worker in cluster.workers}


def test_single_task_is_done_by_the_cluster_too(cluster: Cluster) -> None:
    assert [process for _, process in run_tasks(process_of, [1], cluster=cluster.address)] != [os.getpid()]


def test_error_of_a_task_comes_with_all_its_parts_from_a_cluster(cluster: Cluster) -> None:
    with pytest.raises(AudioError, match="expected: another number\n  next: count again"):
        list(run_tasks(refuse_seven, TASKS, cluster=cluster.address))


@pytest.mark.parametrize(
    "address",
    [
        pytest.param("tcp://127.0.0.1:1", id="nobody there"),
        pytest.param("127.0.0.1:1", id="nobody there, without a protocol"),
        pytest.param("tcp://nowhere.invalid:8786", id="no such machine"),
        pytest.param("pigeon://127.0.0.1:8786", id="no such protocol"),
        pytest.param("tcp://127.0.0.1", id="no port"),
        pytest.param("nonsense", id="no address"),
    ],
)
def test_wrong_address_is_one_error_in_time(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "CONNECT_TIMEOUT_S", 1)
    started = time.monotonic()
    with pytest.raises(BackbeatError, match=f"no Dask scheduler answers at {address}"):
        list(run_tasks(square, TASKS, cluster=address))
    assert time.monotonic() - started < 5


def test_task_that_takes_its_workers_with_it_is_one_error(tmp_path: Path) -> None:
    with (
        dask_cluster(tmp_path, workers=1, deaths_allowed=0) as cluster,
        pytest.raises(BackbeatError, match="a worker process died"),
    ):
        list(run_tasks(kill_itself_at_seven, [7], cluster=cluster.address))


LONG = tuple(Performance(drummer, 1, "train", 6.0) for drummer in range(11, 21)) + PERFORMANCES


@pytest.mark.slow
def test_cluster_that_loses_a_worker_makes_the_same_shards(tmp_path: Path) -> None:
    contents = contents_of((1, 2), LONG)
    alone = new_project(tmp_path / "alone", contents)
    preprocess(alone, workers=1)
    shared = new_project(tmp_path / "shared", contents)
    (tmp_path / "cluster").mkdir()
    with dask_cluster(tmp_path / "cluster") as cluster:
        code = f"""
import pathlib
from backbeat.drums import plan, preprocess
plan.SLICE_BYTES = (1, 1)  # a slice for every recording
print(preprocess.preprocess(pathlib.Path({str(shared)!r}), cluster={cluster.address!r}).made)
"""
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
            wait_for(lambda: len(staged(shared, "slices")) >= 3, patience_s=30)
            cluster.workers[0].kill()
            finished_slices = len(staged(shared, "slices"))
            output, errors = run.communicate(timeout=60)
    assert run.returncode == 0, errors.decode()
    assert (finished_slices < 2 * len(LONG), int(output), leftovers(shared)) == (True, 6, [])
    assert processed(shared) == processed(alone)
