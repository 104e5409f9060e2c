"""What Git and DVC track: files that somebody else versions, which the library does not remove."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from backbeat.errors import LibraryError


def tracked_places(folders: Iterable[Path]) -> frozenset[Path]:
    """Return the files and folders that the Git and DVC repositories track which these folders are in.

    Raises:
        LibraryError: if one of those repositories cannot be asked.
    """
    above = {parent for folder in map(Path.resolve, folders) for parent in (folder, *folder.parents)}
    found: set[Path] = set()
    for repository in sorted(folder for folder in above if (folder / ".git").exists()):
        found.update(_git_files(repository))
    for repository in sorted(folder for folder in above if (folder / ".dvc" / "config").is_file()):
        found.update(_dvc_outputs(repository))
    return frozenset(found)


def _git_files(repository: Path) -> Iterator[Path]:
    if shutil.which("git") is None:
        raise _mute(repository, "no program git", "install Git")
    listed = subprocess.run(["git", "-C", str(repository), "ls-files", "-z"], capture_output=True, check=False)
    if listed.returncode:
        raise _mute(repository, listed.stderr.decode(errors="replace").strip(), "correct that")
    for name in listed.stdout.decode(errors="surrogateescape").split("\0"):
        if name:
            yield repository / name


def _dvc_outputs(repository: Path) -> Iterator[Path]:
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(repository)) as repo:
            yield from [Path(out.fs_path).resolve() for out in repo.index.outs if out.protocol == "local"]
    except DvcException as error:
        raise _mute(repository, str(error), "correct that") from error


def _mute(repository: Path, got: str, step: str) -> LibraryError:
    return LibraryError(
        f"cannot tell what is tracked in {repository}",
        expected="a list of files, none of which is then removed",
        got=got,
        next_step=step,
    )
