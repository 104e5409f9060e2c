"""What a new container needs before somebody trains in it: a disk for the cache, the bucket's name, some of the data.

Written for GitHub Codespaces, where `/tmp` is a larger disk than the working tree's and is empty after every stop. The
same steps suit any container that is given its keys as environment variables. Whatever is missing, the container
starts: each step says how it went and what to type, and none keeps the next one from being tried.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from dvc.config import Config

from backbeat.cloud.mount import mount
from backbeat.cloud.pointers import artifacts
from backbeat.cloud.pull import pull
from backbeat.errors import BackbeatError, CloudError, StorageError
from backbeat.remote.bucket import Bucket
from backbeat.remote.credentials import KEY_ID_VARIABLE, SECRET_VARIABLE, find_credentials
from backbeat.remote.settings import RemoteSettings, dvc_config, read_remote
from backbeat.storage.disk import place_of, same_filesystem
from backbeat.storage.setup import plan, set_up
from backbeat.storage.staging import SPARE_BYTES, cache_dir, disk_errors, require_space

BUCKET_VARIABLE = "B2_BUCKET_NAME"
BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
PULL_VARIABLE = "BACKBEAT_CODESPACE_PULL"

# The smallest set that something can be done with: 10 minutes of synthetic drums, and the model. Not what
# `params.yaml` names, which may be 8 GB.
DEFAULT_TARGETS = ("data/processed/egmd_mini", "models")

# Links to raw archives lead into the staging store, which is where the cache is. They come back from their publishers.
RAW = "data/raw"

# Another disk is worth the trouble if it has this much more room than the working tree's.
CLEARLY_LARGER_BYTES = 10 * 10**9
CLEARLY_LARGER = 1.5

# How long a bucket may take to answer the first question. Everything after it has deadlines of its own.
PROBE_TIMEOUT_S = 10.0

_IN_MEMORY = frozenset({"tmpfs", "ramfs"})

How = Literal["pull", "mount", "nothing"]
State = Literal["done", "as it was", "missing", "failed"]


@dataclass(frozen=True)
class Step:
    """How one part of the start went.

    Args:
        name: what it is about.
        state: what became of it.
        text: what happened, in a sentence.
        next_step: what to do about it; None if nothing is to be done.
    """

    name: str
    state: State
    text: str
    next_step: str | None = None


def start(
    project: Path,
    *,
    how: How = "pull",
    targets: Sequence[str] = (),
    environment: Mapping[str, str] = os.environ,
    disks: Sequence[Path] | None = None,
) -> list[Step]:
    """Get a container ready; what goes wrong with a step is its sentence, and nothing is raised.

    Args:
        project: the root of the clone.
        how: whether to pull, to mount the mirror, or to bring no data at all.
        targets: what to pull, as `backbeat cloud pull` takes it; by default what `BACKBEAT_CODESPACE_PULL` names,
            or else `DEFAULT_TARGETS`. What an emptied disk took away is pulled as well.
        environment: the variables of the container.
        disks: folders on other disks that the cache may be put on; by default the one for temporary files.
    """
    if disks is None:
        disks = (Path(tempfile.gettempdir()),) if _is_container(environment) else ()
    if environment.get(PULL_VARIABLE) == "nothing" and how == "pull" and not targets:
        how = "nothing"
    asked = tuple(targets) or tuple(environment.get(PULL_VARIABLE, "").split())
    steps = [
        _tried("disk", lambda: _disk(project, disks)),
        _tried("bucket", lambda: _bucket(project)),
    ]
    if how == "nothing":
        return [*steps, Step("data", "as it was", "none was asked for", "backbeat codespace start")]
    steps.append(_tried("keys", lambda: _keys(project, environment)))
    if any(step.state in {"missing", "failed"} for step in steps[1:]):
        return [*steps, _offline()]
    if how == "mount":
        return [*steps, _tried("data", lambda: _mount(project))]
    return [*steps, *_all_tried("data", lambda: _data(project, asked))]


def _tried(name: str, step: Callable[[], Step]) -> Step:
    (found,) = _all_tried(name, lambda: [step()])
    return found


def _all_tried(name: str, steps: Callable[[], list[Step]]) -> list[Step]:
    try:
        return steps()
    except BackbeatError as error:
        return [_failed(name, error)]
    # A container that does not start cannot be looked into: whatever broke is a sentence.
    except Exception as error:  # noqa: BLE001
        return [Step(name, "failed", f"{type(error).__name__}: {error}", "backbeat doctor")]


def _failed(name: str, error: BackbeatError) -> Step:
    text = "; ".join(part for part in (error.what, error.got) if part)
    return Step(name, "failed", text, error.next_step or "backbeat doctor")


def _is_container(environment: Mapping[str, str]) -> bool:
    # On somebody's own machine nothing belongs into a folder that is emptied now and then.
    return environment.get("CODESPACES") == "true" or "SPACE_ID" in environment or Path("/.dockerenv").exists()


def _disk(project: Path, disks: Sequence[Path]) -> Step:
    """Put the cache on the largest disk, if it has no place of its own yet."""
    here = cache_dir(project)
    is_chosen = "dir" in Config(dvc_dir=str(project / ".dvc"), validate=False).load_one("local").get("cache", {})
    # What is on a disk that stays is not moved to one that does not.
    roomier = None if is_chosen or _holds_objects(here) else roomier_disk(project, disks)
    if roomier is not None:
        here = Path(set_up(project, plan(project, _own_folder(roomier / "backbeat"), measure=False)).cache)
    with disk_errors(here):
        here.mkdir(parents=True, exist_ok=True)
    free_bytes = shutil.disk_usage(here).free
    text = f"DVC's cache is {here}: {free_bytes / 1e9:.1f} GB free"
    if free_bytes < 2 * SPARE_BYTES:
        return Step("disk", "failed", text, "free some space, or take a larger machine")
    if same_filesystem(here, project) or not any(here.is_relative_to(disk) for disk in disks):
        return Step("disk", "as it was", text)
    text += ", gone when the container stops"
    return Step("disk", "as it was" if roomier is None else "done", text, "backbeat cloud push, before it stops")


def roomier_disk(project: Path, disks: Sequence[Path]) -> Path | None:
    """Return the folder with the most room that is on another disk with clearly more of it, if there is one."""
    here_bytes = shutil.disk_usage(project).free
    found = [
        (shutil.disk_usage(disk).free, disk)
        for disk in disks
        if disk.is_dir()
        and os.access(disk, os.W_OK)
        and not same_filesystem(disk, project)
        and place_of(disk).filesystem not in _IN_MEMORY
    ]
    wanted_bytes = max(here_bytes + CLEARLY_LARGER_BYTES, CLEARLY_LARGER * here_bytes)
    most = max(found, default=None)
    return most[1] if most is not None and most[0] >= wanted_bytes else None


def _own_folder(folder: Path) -> Path:
    """Make a folder that nobody else can have put there: the disk for temporary files is everybody's."""
    with disk_errors(folder):
        folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise StorageError(f"{folder} belongs to somebody else", next_step="dvc cache dir --local /another/disk/cache")
    return folder


def _holds_objects(cache: Path) -> bool:
    return any(path.is_dir() and any(path.iterdir()) for path in (cache / "files", cache / "staging"))


def _bucket(project: Path) -> Step:
    """Write the bucket's name where DVC reads it, if the template's placeholder is still there."""
    settings = read_remote(project)
    tracked = str(dvc_config(project)["remote"][settings.name]["url"])
    if tracked == settings.url and settings.is_chosen:
        return Step("bucket", "as it was", settings.url)
    if tracked == settings.url:
        return Step("bucket", "missing", f"{BUCKET_VARIABLE} is not set")
    if not BUCKET_NAME.fullmatch(settings.bucket):
        got = f"{BUCKET_VARIABLE} is {settings.bucket!r}, which is no bucket's name"
        return Step("bucket", "failed", got, "the name alone: no s3://, no folder, no spaces")
    # DVC rewrites the file in place, and on a full disk would lose what is in it.
    require_space(project / ".dvc", 0, "the bucket's name")
    with Config(dvc_dir=str(project / ".dvc"), validate=False).edit("local", validate=False) as local:
        local.setdefault("remote", {}).setdefault(settings.name, {})["url"] = settings.url
    return Step("bucket", "done", f"{settings.url}, from {BUCKET_VARIABLE}, is now in .dvc/config.local")


def _keys(project: Path, environment: Mapping[str, str]) -> Step:
    """Ask the bucket one short question."""
    settings = read_remote(project)
    missing = [] if settings.is_chosen else [BUCKET_VARIABLE]
    try:
        credentials = find_credentials(project, settings)
    except CloudError:
        missing += [name for name in (KEY_ID_VARIABLE, SECRET_VARIABLE) if not environment.get(name)]
        text = f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set"
        return Step("keys", "missing", text, how_to_add(missing, environment))
    if missing:
        return Step("keys", "missing", f"from {credentials.source}, for no bucket", how_to_add(missing, environment))
    bucket = Bucket(_impatient(settings), credentials, tries=1)
    next(iter(bucket.list(settings.key("files/md5/"))), None)
    return Step("keys", "done", f"from {credentials.source}; they open the bucket")


def how_to_add(names: Sequence[str], environment: Mapping[str, str]) -> str:
    """Return what to do about variables that are not set, by the kind of container."""
    listed = ", ".join(names)
    if environment.get("CODESPACES") == "true":
        repository = environment.get("GITHUB_REPOSITORY", "this repository")
        return (
            f"add {listed} at https://github.com/settings/codespaces, with access for {repository} (a fork is another "
            "repository, an organization gives access by its own settings); stop the codespace and start it"
        )
    if "SPACE_ID" in environment:
        return f"add {listed} as secrets in the settings of the Space, which then restarts"
    return f"set {listed} in the container's environment; .env.example says what they are"


def _impatient(settings: RemoteSettings) -> RemoteSettings:
    return replace(
        settings,
        connect_timeout_s=min(settings.connect_timeout_s, PROBE_TIMEOUT_S),
        read_timeout_s=min(settings.read_timeout_s, PROBE_TIMEOUT_S),
    )


def _data(project: Path, asked: Sequence[str]) -> list[Step]:
    """Pull what is asked for and what was lost: all of it, or as much of it as there is."""
    every = artifacts(project)
    lost = _forget_lost(project, [*(one.path for one in every), RAW])
    known = {one.path for one in every if one.oid is not None}
    targets = sorted({*(asked or known.intersection(DEFAULT_TARGETS)), *known.intersection(lost)})
    if not targets:
        return [Step("data", "as it was", "there is no small set in the pipeline", "backbeat cloud pull DATASET")]
    together = _tried("data", lambda: _pull(project, targets))
    if together.state != "failed" or len(targets) == 1:
        return [together]
    return [_tried(target, partial(_pull, project, [target])) for target in targets]


def _pull(project: Path, targets: Sequence[str]) -> Step:
    fetched, listed = pull(project, targets).fetched, ", ".join(targets)
    text = f"{listed}: {fetched:,} objects fetched" if fetched else f"{listed}: here"
    return Step("data", "done" if fetched else "as it was", text, "dvc repro --pull --allow-missing")


def _forget_lost(project: Path, places: Sequence[str]) -> list[str]:
    """Remove links into a cache that a stop has emptied; return the places that they were in."""
    cache = cache_dir(project)
    lost = []
    for place in places:
        at = project / place
        inside = [at, *(at.rglob("*") if at.is_dir() else ())]
        dangling = [
            path for path in inside if path.is_symlink() and not path.exists() and path.resolve().is_relative_to(cache)
        ]
        for path in dangling:
            path.unlink()
            # An empty folder is another content to DVC; none at all is only missing.
            if path.parent != project and not any(path.parent.iterdir()):
                path.parent.rmdir()
        if dangling:
            lost.append(place)
    return lost


def _offline() -> Step:
    """Say what can be done with no bucket: the synthetic set is made, not fetched."""
    steps = "then: backbeat codespace start; or, with no keys at all: make repro, on synthetic drums"
    return Step("data", "missing", "nothing was pulled", steps)


def _mount(project: Path) -> Step:
    return Step("data", "done", f"the mirror is mounted read-only at {mount(project)}", "backbeat cloud unmount")
