"""Setting up a disk: DVC's cache and the staging store on it, what was elsewhere moved there, links re-pointed.

The order is what makes it safe to kill: everything is carried over and proven; then DVC is told; then links are
re-pointed; then the old cache goes. A note in `.dvc/tmp` says from where to where for as long as that takes, so that a
repeated run goes on with whatever was left.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from configobj import ConfigObj  # type: ignore[import-untyped,unused-ignore]
from dvc.config import Config

from backbeat.errors import StorageError
from backbeat.storage.clones import is_registered, register
from backbeat.storage.contents import Contents, contents_of
from backbeat.storage.disk import Disk, examine, is_within
from backbeat.storage.environment import ENVIRONMENT_FILE, cache_folders, environment_text
from backbeat.storage.exclusive import exclusive
from backbeat.storage.move import Rotten, bytes_to_copy, carry_over, remove_carried
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
        left: what was written in old caches meanwhile, or these caches; to be moved by repeating it.
        stuck: old caches that their disk does not let go of, and why; nothing in them is needed any more.
        environment_file: the file for `. ./FILE`, in the root of the repository.
    """

    cache: str
    copied_bytes: int
    there_before_bytes: int
    links: int
    removed: tuple[str, ...]
    left: tuple[str, ...]
    stuck: tuple[tuple[str, str], ...]
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
    _refuse_inside(project, folder, target)
    candidates = [before, (project / ".dvc" / "cache").resolve(), *(begun[0] if begun else [])]
    sources = [path for path in dict.fromkeys(candidates) if path != target and path.is_dir()]
    for source in sources:
        if (
            source.is_relative_to(folder)
            or target.is_relative_to(source)
            or (target.exists() and target.samefile(source))
        ):
            raise StorageError(
                f"{folder} and the present cache {source} are inside of each other",
                expected="a folder that is neither in the cache nor around it",
                got=str(folder),
                next_step=f"name another one, such as {source.parent.parent / 'backbeat'}",
            )
    disk = examine(folder, project, measure=False)
    held = [(source, contents_of(source)) for source in sources]
    missing = sum(bytes_to_copy(found, target) for _, found in held)
    require_space(target, missing, "the cache and its staging store")
    steps = [f"move {source}" for source in sources]
    if before != target or not _says_cache_type(project):
        steps.append(f"write cache.dir and cache.type into {_LOCAL_CONFIG}")
    if begun is not None and not sources:
        steps.append("finish the move")
    if before == target and not is_registered(project, target):
        steps.append("tell other clones of this cache that this one uses it")
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
        CloudError: if a transfer is at work in this clone.
    """
    project, target = project.resolve(), Path(plan_.cache)
    sources = [Path(source) for source in plan_.sources]
    copied = there = links = 0
    with exclusive(project, "set up the disk"), dvc_at_rest(project), disk_errors(target):
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
        register(project, target)
        _write_local_config(project, target)
        for root in roots:
            names = _others(root, target, contents[root]) if root in contents else {}
            links += replace_links(stale_links(project, root, target, names))
        for cache in cache_folders(target.parent).values():
            cache.mkdir(parents=True, exist_ok=True)
        with new_file(project / ENVIRONMENT_FILE) as part:
            part.write_text(environment_text(target.parent), encoding="utf-8")
        left, stuck = _remove(sources, target, contents)
        if not left:
            (project / _NOTE).unlink(missing_ok=True)
    removed = tuple(str(source) for source in sources if not source.exists())
    return Done(
        str(target), copied, there, links, removed, tuple(map(str, left)), tuple(stuck.items()), ENVIRONMENT_FILE
    )


def _others(source: Path, target: Path, contents: Contents) -> dict[tuple[int, int], str]:
    """Return the files that are not the same file in the new cache: device and inode -> first name."""
    return {
        file.inode: file.names[0]
        for file in contents.files
        if not (source / file.names[0]).samefile(target / file.names[0])
    }


def _remove(sources: list[Path], target: Path, contents: Mapping[Path, Contents]) -> tuple[list[Path], dict[str, str]]:
    """Remove the old caches; returns what was written to them meanwhile, and which of them cannot be removed, and why.

    By now nothing is needed of them, so that a disk that has gone read-only does not keep the move from ending.
    """
    left: list[Path] = []
    stuck: dict[str, str] = {}
    for source in sources:
        try:
            changed = remove_carried(source, target, contents[source])
        except OSError as error:
            stuck[str(source)] = os.strerror(error.errno or 0)
        else:
            left += changed or ([source] if source.exists() else [])
    return left, stuck


def _sweep(project: Path) -> None:
    """Remove what a killed set-up was writing: nobody else holds DVC's lock, and a setting may be a secret."""
    folders = (project, project / ".dvc", project / ".dvc" / "tmp")
    beside = [path for folder in folders for path in folder.iterdir() if PART_NAME.search(path.name)]
    links = [path for path, _ in working_tree(project) if PART_NAME.search(path.name) and path.is_symlink()]
    for path in dict.fromkeys([*beside, *links]):
        if path.is_symlink() or path.is_file():
            path.unlink()


def _refuse_inside(project: Path, folder: Path, target: Path) -> None:
    """Refuse a disk within the working tree, and a cache around it.

    What Git ignores is no safer: it may be an output, and `dvc checkout` would clear the cache away with it.
    """
    if target.is_symlink():
        raise StorageError(
            f"{target} is a link",
            expected="a folder, or nothing yet",
            got=f"a link to {target.resolve()}",
            next_step="remove the link, or name another folder",
        )
    if is_within(folder, project) or is_within(project, target):
        raise StorageError(
            f"{folder} is in the working tree" if is_within(folder, project) else f"{target} is around the clone",
            expected="a folder on the disk, outside of the repository",
            got="one in which DVC or Git may clear away what is not theirs",
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
