"""A commit's stages run again: in a temporary clone under `.dvc/tmp`, from its inputs, by its own code.

The clone has that commit's code (`PYTHONPATH=src`) and a staging store of its own, so that shards, checkpoints and
models of earlier runs cannot be mistaken for repeated ones. Raw data and DVC's cache are shared for reading.
`--no-commit` and `--no-run-cache` keep DVC from answering out of its memory, and from putting anything into the cache.
The workspace is not touched.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from os import killpg
from pathlib import Path
from types import FrameType

from dvc.config import Config

from backbeat.datasets.places import KIND
from backbeat.datasets.registry import load_record
from backbeat.datasets.status import presence
from backbeat.errors import ExperimentError
from backbeat.experiments.run import STDERR, environment
from backbeat.storage.staging import cache_dir, disk_errors, open_staging
from backbeat.storage.work import folder_of_this_run

# How long DVC and its stage may take to end when they are told to.
GRACE_S = 10.0


def repeat(project: Path, clone: Path, dataset: str) -> bool:
    """Run the stages of a clone from their inputs; return whether the shards were made again.

    Raw data that is not on this disk, and is not made by a program either, is not fetched for this: the shards come
    from the cache or the bucket then, and only what follows them is repeated.

    Raises:
        ExperimentError: if a stage fails, or the shards cannot be had.
        StorageError: if the disk is full.
    """
    record = load_record(clone, dataset)
    generated = all(url.startswith("generate://") for file in record.files for url in file.urls)
    repeated = generated or presence(clone, record).state == "present"
    env = {**environment(), "BACKBEAT_DATA_DIR": str(clone / ".dvc" / "tmp" / "own")}
    # Raw data is read where it is; everything else of the staging store is made anew.
    raw = clone / ".dvc" / "tmp" / "own" / "staging" / KIND
    shared = open_staging(project).root / KIND
    with disk_errors(shared):
        shared.mkdir(parents=True, exist_ok=True)
        raw.parent.mkdir(parents=True)
        raw.symlink_to(shared)
    words = ["repro", "--force", "--no-run-cache", "--no-commit"]
    if not repeated:
        folder = f"data/processed/{dataset}"
        if _dvc(clone, env, "checkout", folder):
            _must(clone, env, "pull", folder)
        words += ["--single-item", "train", "evaluate"]
    _must(clone, env, *words)
    return repeated


def _must(clone: Path, env: Mapping[str, str], *arguments: str) -> None:
    code = _dvc(clone, env, *arguments)
    if code:
        raise ExperimentError(
            f"the repetition failed: dvc {arguments[0]} ended with {code}",
            got="the reason is above",
            next_step="backbeat doctor says what this machine lacks; nothing was changed",
        )


def _dvc(clone: Path, env: Mapping[str, str], *arguments: str) -> int:
    # In a group of its own, so that the stage ends with DVC, too.
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=clone, env=dict(env), stdin=subprocess.DEVNULL, stdout=STDERR, start_new_session=True,
    )  # fmt: skip
    try:
        return process.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
        with contextlib.suppress(ProcessLookupError):
            killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextlib.contextmanager
def temporary_clone(project: Path, revision: str) -> Iterator[Path]:
    """Make a clone at a commit that shares Git's objects and DVC's cache; it is removed afterwards."""
    with folder_of_this_run(project, "verify") as clone:
        # An experiment is no branch; its commit is seen because the objects are shared.
        _git("clone", "--quiet", "--shared", "--no-checkout", str(project), str(clone))
        _git("-C", str(clone), "checkout", "--quiet", "--detach", revision)
        if (project / ".dvc" / "config.local").is_file():
            shutil.copy2(project / ".dvc" / "config.local", clone / ".dvc" / "config.local")
        with Config(dvc_dir=str(clone / ".dvc"), validate=False).edit("local", validate=False) as local:
            local.setdefault("cache", {})["dir"] = str(cache_dir(project))
        yield clone


def _git(*words: str) -> None:
    done = subprocess.run(["git", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2]
        raise ExperimentError("git could not make a temporary clone", got=last, next_step="git fsck looks for damage")


@contextlib.contextmanager
def ending_on_sigterm() -> Iterator[None]:
    """Let a SIGTERM end this program as a Ctrl-C does: the temporary clone is removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
