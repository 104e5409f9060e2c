"""What `backbeat doctor` looks at in DVC's part of the project: cache, links, locks, pipeline files, `dvc.lock`."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped,unused-ignore]

from backbeat.cloud.examination import Line
from backbeat.remote.settings import dvc_config
from backbeat.storage.disk import same_filesystem
from backbeat.storage.staging import cache_dir, nearest_existing

# Below the limit of a check, so that the process is ended rather than left behind.
DVC_LIMIT_S = 25

_TRIED: dict[str, Callable[[Path, Path], None]] = {"hardlink": os.link, "symlink": os.symlink}
# All of them are what `backbeat storage check` is for.
_MOST_FINDINGS = 3

_WORDS = {"hardlink": "hard links", "symlink": "symbolic links"}

_WOULD_RUN = re.compile(r"^(?:Running stage|ERROR: failed to reproduce) '(.+?)':", flags=re.MULTILINE)


def cache(project: Path) -> Iterator[Line]:
    """Is the folder that DVC caches into there, and can it be written to?"""
    path = cache_dir(project)
    configured = dvc_config(project).get("cache", {}).get("dir")
    if not path.is_dir():
        if configured:
            step = f"mount the disk, or: backbeat storage setup --disk {path.parent}"
            yield Line("cache", "fails", f"cache.dir is {path}, and that is not there", step)
        else:
            yield Line("cache", "ok", f"{path}, made when there is something to cache")
    elif not os.access(path, os.W_OK | os.X_OK):
        yield Line("cache", "fails", f"{path} cannot be written to", f"chown or chmod {path}, or name another disk")
    else:
        where = "on the disk of the code" if same_filesystem(path, project) else "on a disk of its own"
        yield Line("cache", "ok", f"{path}, {where}")


def links(project: Path) -> Iterator[Line]:
    """Which kind of link does DVC get to make between cache and workspace? Tried, with a file of no bytes."""
    configured = dvc_config(project).get("cache", {}).get("type") or ["reflink", "copy"]
    kinds = [kind.strip() for kind in configured.split(",")] if isinstance(configured, str) else list(configured)
    existing = nearest_existing(cache_dir(project))
    workspace = project / ".dvc" / "tmp"
    workspace.mkdir(parents=True, exist_ok=True)
    name = f".trial.{os.getpid()}-{secrets.token_hex(4)}.part"
    source, link = existing / name, workspace / f"{name}.link.part"
    source.touch()
    try:
        works = next((kind for kind in kinds if kind in _TRIED and _links(kind, source, link)), None)
    finally:
        source.unlink(missing_ok=True)
    if works is None:
        step = "backbeat storage setup --disk …, on a file system with links, and cache.type = hardlink,symlink"
        yield Line("links", "fails", f"none of {', '.join(kinds)} links: DVC stores everything twice", step)
    elif works != kinds[0]:
        yield Line("links", "ok", f"{_WORDS[works]}: {kinds[0]} cannot be made from the cache to the workspace")
    else:
        yield Line("links", "ok", f"{_WORDS[works]}: what is in the cache and in the workspace is stored once")


def dvc_lock(project: Path) -> Iterator[Line]:
    """Does a DVC process hold the repository, or has a killed one left a lock that cannot be read?"""
    tmp = project / ".dvc" / "tmp"
    holder = _holder(tmp / "lock")
    if holder is not None:
        yield Line("DVC's lock", "warning", f"held by {holder}", "wait for it, or end that process")
        return
    rwlock = tmp / "rwlock"
    try:
        entries = _rwlock_processes(json.loads(rwlock.read_text(encoding="utf-8")))
    except FileNotFoundError:
        entries = {}
    except (ValueError, TypeError, KeyError, AttributeError):
        yield Line("DVC's lock", "fails", f"{rwlock} cannot be read; a killed process left it", f"rm {rwlock}")
        return
    for pid, command in sorted(entries.items()):
        running = _command_of(pid)
        if running is None:
            yield Line("DVC's lock", "ok", f"left by process {pid}, which is gone; the next dvc command clears it")
        elif "dvc" in running:
            step = "wait for it, or end that process"
            yield Line("DVC's lock", "warning", f"process {pid} is at work: {command}", step)
        else:
            step = f"rm {rwlock}"
            yield Line("DVC's lock", "fails", f"left by process {pid}, a number that {running} has now", step)
    if not entries:
        yield Line("DVC's lock", "ok", "free")


def pipeline(project: Path) -> Iterator[Line]:
    """Do pipelines and settings keep the rules that DVC checks too late? Outputs below links are among them.

    `dvc pull` follows symbolic links inside the repository (dvc#11101), so these are refused rather than warned of.
    """
    from backbeat.storage.pipeline_rules import check

    findings = check(project)
    for one in findings[:_MOST_FINDINGS]:
        where = " ".join(filter(None, (one.file, one.stage, one.output)))
        yield Line("pipeline", "fails", f"{where}: {one.why}", one.next_step)
    if len(findings) > _MOST_FINDINGS:
        more = f"and {len(findings) - _MOST_FINDINGS} findings more"
        yield Line("pipeline", "fails", more, "backbeat storage check")
    if not findings:
        yield Line("pipeline", "ok", "keeps the rules of `backbeat storage check`")


def current(project: Path) -> Iterator[Line]:
    """Would `dvc repro` have something to run? As DVC says without running or fetching anything."""
    if not (project / "dvc.yaml").is_file():
        return
    try:
        asked = subprocess.run(
            [sys.executable, "-m", "dvc", "repro", "--dry", "--allow-missing"],
            cwd=project,
            capture_output=True,
            text=True,
            check=False,
            timeout=DVC_LIMIT_S,
        )
    except subprocess.TimeoutExpired:
        yield Line("dvc.lock", "warning", f"DVC took longer than {DVC_LIMIT_S} s to compare", "dvc status")
        return
    stages = list(dict.fromkeys(_WOULD_RUN.findall(asked.stdout + asked.stderr)))
    if stages:
        yield Line("dvc.lock", "warning", f"older than the code or the parameters of {', '.join(stages)}", "dvc repro")
    elif asked.returncode:
        last = (asked.stderr.strip().splitlines() or [f"exit code {asked.returncode}"])[-1]
        yield Line("dvc.lock", "warning", f"DVC cannot say: {last}", "dvc status")
    else:
        yield Line("dvc.lock", "ok", "current: dvc repro has nothing to run")


def _links(kind: str, source: Path, link: Path) -> bool:
    try:
        _TRIED[kind](source, link)
        return link.samefile(source)
    except OSError:
        return False
    finally:
        link.unlink(missing_ok=True)


def _holder(path: Path) -> str | None:
    """Return which process holds DVC's lock file; its being there says nothing, DVC never removes it."""
    with contextlib.suppress(OSError), path.open("rb") as held:
        try:
            # Shared and given back at once: DVC, which tries for three seconds, does not notice.
            fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = held.read(64).strip().decode(errors="replace")
            command = _command_of(int(pid)) if pid.isdecimal() else None
            return f"process {pid}" + (f": {command}" if command else " of another machine")
    return None


def _rwlock_processes(rwlock: dict[str, dict[str, object]]) -> dict[int, str]:
    found: dict[int, str] = {}
    for infos in [*rwlock.get("read", {}).values(), *rwlock.get("write", {}).values()]:
        for info in infos if isinstance(infos, list) else [infos]:
            if info:
                found[int(info["pid"])] = str(info["cmd"])  # type: ignore[index]
    return found


def _command_of(pid: int) -> str | None:
    """Return the program and first words of a running process, or None. No more: arguments can be anything."""
    try:
        words = psutil.Process(pid).cmdline()
    except psutil.Error:
        return None
    return " ".join(Path(word).name for word in words[:4]) or "a process of the system"
