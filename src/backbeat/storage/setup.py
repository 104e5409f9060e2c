"""Setting up a disk: DVC's cache and the staging store on it, what was elsewhere moved there, links re-pointed.

The order is what makes it safe to kill: everything is carried over and proven; then DVC is told; then links are
re-pointed; then the old cache goes. A note in `.dvc/tmp` says from where to where for as long as that takes, so that a
repeated run goes on with whatever was left.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from configobj import ConfigObj  # type: ignore[import-untyped,unused-ignore]
from dvc.config import Config

from backbeat.errors import StorageError
from backbeat.storage.contents import contents_of
from backbeat.storage.disk import Disk, examine, same_filesystem
from backbeat.storage.environment import ENVIRONMENT_FILE, cache_folders, environment_text
from backbeat.storage.move import Rotten, carry_over, missing_bytes, remove_carried
from backbeat.storage.relink import replace_links, stale_links, working_tree
from backbeat.storage.staging import cache_dir, disk_errors, new_file, require_space
from backbeat.storage.work import PART_NAME, dvc_at_rest, require_nobody

# Hard links first: with symbolic links alone DVC copies what a stage has staged, and with copies or reflinks before
# them it stores folders twice.
CACHE_TYPE = "hardlink,symlink"

_LOCAL_CONFIG = ".dvc/config.local"
_NOTE = ".dvc/tmp/storage-setup.json"


@dataclass(frozen=True)
class Plan:
    """What setting up a disk would do.

    Args:
        disk: what the disk can do.
        cache: the new `cache.dir`.
        sources: caches that are elsewhere and would be moved.
        size_bytes: what is in them.
        missing_bytes: what of it would have to be copied.
        steps: what there is to do, in words; empty if everything is so already.
    """

    disk: Disk
    cache: str
    sources: tuple[str, ...]
    size_bytes: int
    missing_bytes: int
    steps: tuple[str, ...]


@dataclass(frozen=True)
class Done:
    """What setting up a disk has done.

    Args:
        cache: `cache.dir` now.
        copied_bytes: what was copied by this run.
        there_before_bytes: what an earlier run had carried over.
        links: how many links of the working tree were re-pointed.
        removed: old caches that are gone.
        left: old caches in which something was written meanwhile; to be moved by repeating it.
        environment_file: the file for `. ./FILE`, in the root of the repository.
    """

    cache: str
    copied_bytes: int
    there_before_bytes: int
    links: int
    removed: tuple[str, ...]
    left: tuple[str, ...]
    environment_file: str


def plan(project: Path, folder: Path, *, measure: bool = True) -> Plan:
    """Say what setting up `folder` would do; changes nothing but making the folder.

    Args:
        project: the root of the repository.
        folder: the folder on the disk, such as `/mnt/hdd/backbeat`.
        measure: whether to measure the speed of the disk.

    Raises:
        StorageError: if the disk cannot hold it: no room, no links, not writable, or in the way of something.
    """
    project, folder = project.resolve(), folder.absolute().resolve()
    target = folder / "cache"
    before = cache_dir(project)
    begun = _begun(project)
    if begun is not None and begun[1] != target:
        raise StorageError(
            f"a move to {begun[1].parent} was begun and has not ended",
            expected="one move at a time",
            got=f"a move to {folder}",
            next_step=f"finish it: backbeat storage setup --disk {begun[1].parent} (or, if that disk is gone, "
            f"remove {_NOTE})",
        )
    _refuse_inside(project, folder)
    candidates = [before, (project / ".dvc" / "cache").resolve(), *(begun[0] if begun else [])]
    sources = [path for path in dict.fromkeys(candidates) if path != target and path.is_dir()]
    for source in sources:
        if source.is_relative_to(folder) or target.is_relative_to(source):
            raise StorageError(
                f"{folder} and the present cache {source} are inside of each other",
                expected="a folder that is neither in the cache nor around it",
                got=str(folder),
                next_step=f"name another one, such as {source.parent.parent / 'backbeat'}",
            )
    disk = examine(folder, project, measure=False)
    held = [(source, contents_of(source)) for source in sources]
    missing = sum(missing_bytes(found, target) for source, found in held if not same_filesystem(source, target))
    require_space(target, missing, "the cache and its staging store")
    steps = [f"move {source}" for source in sources]
    if before != target or not _says_cache_type(project):
        steps.append(f"write cache.dir and cache.type into {_LOCAL_CONFIG}")
    if begun is not None and not sources:
        steps.append("finish the move")
    if _text_of(project / ENVIRONMENT_FILE) != environment_text(folder):
        steps.append(f"write {ENVIRONMENT_FILE}")
    if steps and measure:
        disk = examine(folder, project)
    size_bytes = sum(found.size_bytes for _, found in held)
    return Plan(disk, str(target), tuple(map(str, sources)), size_bytes, missing, tuple(steps))


def set_up(project: Path, plan_: Plan) -> Done:
    """Do what the plan says; killed at any moment and repeated, it goes on.

    Raises:
        StorageError: if somebody is at work on the data, an object of the cache is rotten, or a disk fails.
    """
    project, target = project.resolve(), Path(plan_.cache)
    sources = [Path(source) for source in plan_.sources]
    copied = there = links = 0
    with dvc_at_rest(project), disk_errors(target):
        for source in sources:
            require_nobody(source)
        _sweep(project)
        begun = _begun(project)
        roots = list(dict.fromkeys([*sources, *(begun[0] if begun else [])]))
        _note(project, roots, target)
        target.mkdir(parents=True, exist_ok=True)
        rotten: list[tuple[Path, Rotten]] = []
        contents = {source: contents_of(source) for source in sources}
        for source in sources:
            moved = carry_over(source, target, contents[source])
            copied, there = copied + moved.copied_bytes, there + moved.there_before_bytes
            rotten += [(source, one) for one in moved.rotten]
        if rotten:
            raise _rotten_error(rotten)
        _write_local_config(project, target)
        for root in roots:
            found = contents.get(root)
            elsewhere = found is not None and not same_filesystem(root, target)
            names = {file.inode: file.names[0] for file in found.files} if found is not None and elsewhere else {}
            links += replace_links(stale_links(project, root, target, names))
        for source in sources:
            remove_carried(source, target, contents[source])
        left = [source for source in sources if source.exists()]
        for cache in cache_folders(target.parent).values():
            cache.mkdir(parents=True, exist_ok=True)
        with new_file(project / ENVIRONMENT_FILE) as part:
            part.write_text(environment_text(target.parent), encoding="utf-8")
        if not left:
            (project / _NOTE).unlink(missing_ok=True)
    removed = tuple(str(source) for source in sources if source not in left)
    return Done(str(target), copied, there, links, removed, tuple(map(str, left)), ENVIRONMENT_FILE)


def _sweep(project: Path) -> None:
    """Remove what a killed set-up was writing: nobody else holds DVC's lock, and a setting may be a secret."""
    folders = (project, project / ".dvc", project / ".dvc" / "tmp")
    beside = [path for folder in folders for path in folder.iterdir() if PART_NAME.search(path.name)]
    links = [path for path, _ in working_tree(project) if PART_NAME.search(path.name) and path.is_symlink()]
    for path in dict.fromkeys([*beside, *links]):
        if path.is_symlink() or path.is_file():
            path.unlink()


def _refuse_inside(project: Path, folder: Path) -> None:
    """Refuse a disk within the working tree that Git would see, or within `.dvc`."""
    if not folder.is_relative_to(project):
        return
    ignored = subprocess.run(
        ["git", "-C", str(project), "check-ignore", "-q", str(folder)], capture_output=True, check=False
    )
    if ignored.returncode or folder.is_relative_to(project / ".dvc") or folder == project:
        raise StorageError(
            f"{folder} is in the working tree",
            expected="a folder on the disk, outside of the repository",
            got="one that Git or DVC would take for data of the repository",
            next_step="name the folder by where the disk is mounted, such as /mnt/hdd/backbeat",
        )


def _says_cache_type(project: Path) -> bool:
    cache = Config(dvc_dir=str(project / ".dvc"), validate=False).load_one("local").get("cache", {})
    says = cache.get("type", "")
    return (says if isinstance(says, str) else ",".join(says)).replace(" ", "") == CACHE_TYPE


def _write_local_config(project: Path, target: Path) -> None:
    """Write two keys in one rename. DVC itself rewrites the file in place: killed then, it would lose the others."""
    path = project / _LOCAL_CONFIG
    before = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    # The parser that DVC has: sections like ['remote "b2"'] and comments stay as they are.
    config = ConfigObj(before, interpolation=False)
    config.setdefault("cache", {}).update({"dir": str(target), "type": CACHE_TYPE})
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
    with new_file(path) as part:
        part.touch(mode=0o600)
        part.write_text("\n".join(config.write()) + "\n", encoding="utf-8")
        part.chmod(mode)


def _rotten_error(rotten: list[tuple[Path, Rotten]]) -> StorageError:
    lines = [f"    {source / one.names[0]}: expected {one.expected}, got {one.got}" for source, one in rotten]
    every_name = " ".join(str(source / name) for source, one in rotten for name in one.names)
    return StorageError(
        f"{len(rotten)} objects of the cache are damaged; all others were carried over, nothing was removed",
        expected="bytes whose MD5 is their name",
        got="\n".join(["these:", *lines]),
        next_step="have them again, then repeat the set-up: backbeat verify --repair; or, where there is no bucket, "
        f"rm -f {every_name}, and dvc repro --force the stage that makes them",
    )


def _begun(project: Path) -> tuple[list[Path], Path] | None:
    """Return from where to where a move was begun that has not ended."""
    try:
        note = json.loads((project / _NOTE).read_text(encoding="utf-8"))
        return [Path(source) for source in note["from"]], Path(note["to"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _note(project: Path, sources: list[Path], target: Path) -> None:
    with new_file(project / _NOTE) as part:
        part.write_text(json.dumps({"from": list(map(str, sources)), "to": str(target)}), encoding="utf-8")


def _text_of(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
