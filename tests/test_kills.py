"""Downloads from a server that lies at random, killed at random: the right bytes in the end, and never wrong ones."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from backbeat.datasets.transport.partial import part_path
from misbehaving_server import MisbehavingServer, misbehaving_server
from one_dataset import BODY, files_under_final_names, new_project, record_of, staged
from random_lies import download_once, random_answer

RUNS = 50
MANY_RUNS = 200
AT_ONCE = 4

# Of each run: kills, processes that may end by themselves, both while the server lies, and repetitions after that
# until the bytes must be there.
KILLS = 2
LEFT_ALONE = 1
REPEATS = 4

processes = multiprocessing.get_context("forkserver")


@pytest.mark.parametrize("runs", [RUNS, pytest.param(MANY_RUNS, marks=pytest.mark.slow)])
def test_killed_downloads_from_a_lying_server_end_in_the_right_bytes(
    runs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    # What every child needs is loaded once; the server that forks them finds it by this variable alone.
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    processes.set_forkserver_preload(["random_lies"])
    # A child would import the program that started it, which is pytest here, and take a second for that.
    monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        kills = list(pool.map(lambda number: one_run(tmp_path / f"run-{number}", random.Random(number)), range(runs)))
    # A run whose every download had ended before its kill would have shown nothing.
    assert sum(kills) > runs / 2


def one_run(folder: Path, dice: random.Random) -> int:
    """Returns how many processes were killed before they had ended by themselves."""
    folder.mkdir()
    project = new_project(folder)
    killed = 0
    with misbehaving_server(BODY) as server, misbehaving_server(b"") as elsewhere:
        elsewhere.body = b"<html>Quota exceeded</html>"
        server.piece_bytes = 8_192
        record_of(project, server.url())
        server.lies = lambda: random_answer(dice, elsewhere.url("quota.html"))
        delays_s = [dice.uniform(0.0, 0.1) for _ in range(KILLS)]
        for delay_s in [*delays_s, *[None] * LEFT_ALONE]:
            asked, kept = len(server.seen), bytes_to_keep(project)
            killed += exit_code(project, delay_s) is None
            assert_nothing_wrong(project)
            assert_asked_for_the_rest(server, asked, kept)
        server.lies, server.body = None, BODY
        assert any(exit_code(project) == 0 for _ in range(REPEATS))
        assert (project / "data/raw/lies/archive.zip").read_bytes() == BODY
    return killed


def bytes_to_keep(project: Path) -> int:
    """Return how many bytes the next process may go on from: those of a known version of the file."""
    part = part_path(staged(project))
    origin = part.with_name(f"{staged(project).name}.origin.part")
    if not part.is_file() or not origin.is_file():
        return 0
    assert json.loads(origin.read_text())["validator"]
    return part.stat().st_size


def assert_nothing_wrong(project: Path) -> None:
    assert [path.read_bytes() == BODY for path in files_under_final_names(project)] in ([], [True])


def assert_asked_for_the_rest(server: MisbehavingServer, asked: int, kept: int) -> None:
    """After a kill not one byte is asked for again that was there; only a crash of the machine costs a block."""
    if kept and kept < len(BODY) and len(server.seen) > asked:
        assert server.seen[asked].range == f"bytes={kept}-"


def exit_code(project: Path, delay_s: float | None = None) -> int | None:
    """Return how a download ended, or None if it had to be killed after so long."""
    child = processes.Process(target=download_once, args=(project,))
    child.start()
    child.join(delay_s)
    code = child.exitcode
    child.kill()
    child.join()
    return code
