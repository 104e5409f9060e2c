"""Pushes and pulls killed with everything that they started, as soon as the bucket has been asked so many times."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import psutil  # type: ignore[import-untyped,unused-ignore]
import pytest

from cloud_world import EXPECTED, CloudWorld, in_workspace, needed, wrong_objects
from s3_server import run

T = TypeVar("T")

# As many as a whole push or pull makes, about: a kill falls anywhere in it.
MOST_REQUESTS = {"push": 40, "pull": 24}

KILLS = 2
MANY_KILLS = 25


def killed(world: CloudWorld, project: Path, direction: str, dice: random.Random) -> bool:
    """Start a transfer and kill it when the bucket has been asked so often; return whether it was not over before."""
    world.proxy.forget()
    last = dice.randrange(1, MOST_REQUESTS[direction])
    with subprocess.Popen(
        ["backbeat", "cloud", direction],
        cwd=project,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        while process.poll() is None and world.proxy.counts.total() < last:
            time.sleep(0.002)
        time.sleep(dice.uniform(0, 0.03))
        was_over = process.poll() is not None
        if not was_over:
            os.killpg(process.pid, signal.SIGKILL)
    return not was_over


def transfers_killed(world: CloudWorld, tmp_path: Path, direction: str, kills: int, seed: int) -> None:
    dice = random.Random(seed)
    print(f"seed {seed}")
    project = world.repository(tmp_path / "a") if direction == "push" else world.pushed_repository(tmp_path / "a")
    wanted = {one.oid: one.md5_hex for one in needed(project).values()}
    at_work = project if direction == "push" else world.clone(project, tmp_path / "b")
    done = 0
    for number in range(3 * kills):
        world.proxy.round_trip_s = 0.02
        in_time = killed(world, at_work, direction, dice)
        done += in_time
        world.proxy.heal()
        # What has its final key or name is whole, at every moment.
        assert all(md5 == oid.removesuffix(".dir") for oid, md5 in world.stored(project).items())
        assert wrong_objects(at_work) == []
        assert all(EXPECTED[path] == content for path, content in in_workspace(at_work).items())
        if done == kills:
            break
        # What is finished would be over before it could be killed again.
        if not in_time or dice.random() < 0.4:
            if direction == "push":
                world.connect(project, f"again-{seed}-{number}-{tmp_path.name}")
            else:
                shutil.rmtree(at_work / ".dvc/cache", ignore_errors=True)
    # Kills that come too late show nothing.
    assert done == kills
    run(at_work, "backbeat", "cloud", direction)
    assert world.stored(project) == wanted
    assert in_workspace(at_work) == EXPECTED
    run(at_work, "backbeat", "verify", "--remote", "--full")


@pytest.mark.slow
def test_dvc_ends_with_a_pull_that_is_killed_alone_and_the_next_one_cleans_up(
    world: CloudWorld, tmp_path: Path
) -> None:
    clone = world.clone(world.pushed_repository(tmp_path / "a"), tmp_path / "b")
    with subprocess.Popen(
        ["backbeat", "cloud", "pull"], cwd=clone, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            (dvc,) = eventually(
                lambda: [one for one in psutil.Process(process.pid).children() if "fetch" in one.cmdline()]
            )
            world.proxy.hanging = True
            eventually(lambda: any(connection.status == "ESTABLISHED" for connection in dvc.net_connections()))
        finally:
            process.kill()
    try:
        eventually(lambda: not dvc.is_running() or dvc.status() == psutil.STATUS_ZOMBIE)
    finally:
        if dvc.is_running():
            dvc.kill()
    assert len(list((clone / ".dvc/tmp").glob("backbeat-dvc.*"))) == 1
    world.proxy.heal()
    run(clone, "backbeat", "cloud", "pull")
    assert in_workspace(clone) == EXPECTED
    assert list((clone / ".dvc/tmp").glob("backbeat-dvc.*")) == []


def eventually(look: Callable[[], T]) -> T:
    """Return what is looked at as soon as it is there."""
    until = time.monotonic() + 60
    while not (found := look()):
        assert time.monotonic() < until
        time.sleep(0.05)
    return found


@pytest.mark.parametrize("direction", ["push", pytest.param("pull", marks=pytest.mark.slow)])
def test_killed_transfers_leave_both_sides_consistent_and_the_next_one_finishes(
    direction: str, world: CloudWorld, tmp_path: Path
) -> None:
    transfers_killed(world, tmp_path, direction, KILLS, seed=random.SystemRandom().randrange(10**6))


@pytest.mark.slow
@pytest.mark.parametrize("direction", ["push", "pull"])
def test_so_do_many(direction: str, world: CloudWorld, tmp_path: Path) -> None:
    transfers_killed(world, tmp_path, direction, MANY_KILLS, seed=random.SystemRandom().randrange(10**6))
