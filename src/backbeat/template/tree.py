"""The files of a clone: as they are committed, as they are now, and how new ones take their place.

Everything is written beside its place first. The package under its old name goes last, in one step, so that the program
that does this can be started again as long as it is not finished; a killed run is completed by the same command. What
Git does not know in the package moves along with it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from backbeat.errors import ConfigError
from backbeat.progress import progress
from backbeat.storage.staging import disk_errors, publish

# It is there as long as a rename is not finished; DVC's folder for what is temporary is on this file system.
WORK = ".dvc/tmp/init.part"

# How many places a message names.
MOST_PLACES = 5

_COMPILED = "__pycache__"

_EXECUTABLE = 0o755
_PLAIN = 0o644


@dataclass(frozen=True)
class Tracked:
    """A file of a commit: what is in it, and whether it may be run; of a symbolic link, where it points to."""

    content: bytes
    executable: bool = False
    is_link: bool = False


def committed(project: Path) -> dict[str, Tracked]:
    """Return the files and links of HEAD below the project by their paths.

    Raises:
        ConfigError: if there is no Git repository with a commit, or it has submodules.
    """
    entries, submodules = [], []
    for line in _git(project, "ls-tree", "-r", "-z", "HEAD").split(b"\0"):
        if line:
            fields, _, path = line.partition(b"\t")
            mode, kind, blob = fields.split()
            if kind == b"blob":
                entries.append((os.fsdecode(path), blob, mode))
            else:
                submodules.append(os.fsdecode(path))
    if submodules:
        raise ConfigError(
            "a rename cannot tell what is in submodules",
            expected="a project without",
            got=shown(submodules),
            next_step="git rm them, rename, and git submodule add them again",
        )
    stream = _git(project, "cat-file", "--batch", given=b"".join(blob + b"\n" for _, blob, _ in entries))
    files, at = {}, 0
    for name, _, mode in entries:
        start = stream.index(b"\n", at) + 1
        size_bytes = int(stream[at : start - 1].rsplit(b" ", 1)[1])
        files[name] = Tracked(stream[start : start + size_bytes], mode == b"100755", mode == b"120000")
        at = start + size_bytes + 1
    return files


def changed_paths(project: Path) -> list[str]:
    """Return the paths in which the folder differs from HEAD, new files among them, and not what Git ignores.

    Raises:
        ConfigError: if Git cannot tell.
    """
    prefix = _git(project, "rev-parse", "--show-prefix").decode().rstrip("\n")
    said = _git(project, "status", "--porcelain", "--no-renames", "--untracked-files=all", "-z", "--", ".")
    return [os.fsdecode(line[3:]).removeprefix(prefix) for line in said.split(b"\0") if line]


def year_of_head(project: Path) -> int:
    """Return the year of HEAD, for a copyright notice.

    Raises:
        ConfigError: if there is none.
    """
    return int(_git(project, "log", "-1", "--format=%cd", "--date=format:%Y"))


def is_interrupted(project: Path) -> bool:
    """Return whether a rename was begun here and not finished."""
    return (project / WORK).is_dir()


def finish(project: Path) -> None:
    """Remove what a rename that was killed as its last thing has left."""
    with disk_errors(project):
        shutil.rmtree(project / WORK)


def shown(paths: Sequence[str]) -> str:
    """Return the first of some paths, for a message; names that are no UTF-8 can be printed."""
    more = f" and {len(paths) - MOST_PLACES} more" if len(paths) > MOST_PLACES else ""
    return ", ".join(os.fsencode(path).decode(errors="replace") for path in paths[:MOST_PLACES]) + more


def unknown(project: Path, package: str, tracked: Collection[str]) -> list[str]:
    """Return the paths, from the package's folder, of what is in it and not in Git, without compiled code."""
    known, found = set(tracked), []
    for folder, folders, names in os.walk(project / package):
        here = Path(folder)
        links = [name for name in folders if (here / name).is_symlink()]
        found += [(here / name).relative_to(project).as_posix() for name in [*names, *links]]
        folders[:] = [name for name in folders if name != _COMPILED]
    return sorted(path.removeprefix(f"{package}/") for path in found if path not in known)


def differing(project: Path, files: Mapping[str, Tracked], gone: Collection[str]) -> list[str]:
    """Return the changed paths that are neither as committed nor as they are to be."""
    return [path for path in changed_paths(project) if not _is_as_planned(project, path, files, gone)]


def write(
    project: Path, files: Mapping[str, Tracked], gone: Collection[str], package: tuple[str, str] | None = None
) -> None:
    """Write files and remove those that have moved; every file is there whole, under its old name or its new one.

    Args:
        project: the root of the clone.
        files: what is to be written, by path.
        gone: paths of files that are somewhere else now.
        package: the folder that is removed as the last thing, with whatever compiled code is in it, and the one that
            what Git does not know moves to.

    Raises:
        StorageError: if the disk is full or read-only.
    """
    work = project / WORK
    with disk_errors(project):
        work.mkdir(parents=True, exist_ok=True)
        with progress("renaming" if package else "writing", len(files), unit="files") as advance:
            for path in sorted(files):
                _replace(project / path, files[path], work / "file")
                advance(1)
        for path in gone:
            if package is None or not path.startswith(f"{package[0]}/"):
                (project / path).unlink(missing_ok=True)
                _remove_empty(project, Path(path).parent)
        if package and (project / package[0]).is_dir():
            for path in unknown(project, package[0], gone):
                (project / package[1] / path).parent.mkdir(parents=True, exist_ok=True)
                (project / package[0] / path).replace(project / package[1] / path)
            # In one step; if there is one already, this is the end of a run that was killed.
            shutil.rmtree(work / "package", ignore_errors=True)
            (project / package[0]).replace(work / "package")
        shutil.rmtree(work)


def _replace(path: Path, new: Tracked, part: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part.unlink(missing_ok=True)
    if new.is_link:
        part.symlink_to(os.fsdecode(new.content))
        part.replace(path)
        return
    part.write_bytes(new.content)
    part.chmod(_EXECUTABLE if new.executable else _PLAIN)
    publish(part, path)


def _remove_empty(project: Path, folder: Path) -> None:
    with contextlib.suppress(OSError):
        for one in [folder, *folder.parents][:-1]:
            (project / one).rmdir()


def _is_as_planned(project: Path, path: str, files: Mapping[str, Tracked], gone: Collection[str]) -> bool:
    here = project / path
    if path in files and files[path].is_link:
        return here.is_symlink() and os.fsencode(here.readlink()) == files[path].content
    if path in files:
        return here.is_file() and not here.is_symlink() and here.read_bytes() == files[path].content
    return path in gone and not os.path.lexists(here)


def _git(project: Path, *arguments: str, given: bytes | None = None) -> bytes:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=project, input=given, capture_output=True, check=False, timeout=600
        )
        said = done.stderr.decode(errors="replace").strip()
    except FileNotFoundError:
        done, said = None, "no program git"
    if done is None or done.returncode:
        raise ConfigError(
            f"{project} is not a Git repository with a commit",
            expected="one, so that what is changed can be looked through and undone",
            got=said or "git failed",
            next_step='git init && git add --all && git commit --message "Begin"',
        )
    return done.stdout
