"""What a rename leaves alone: what other tools, machines and people know by the name that it has.

Left out whole: the license; DVC's configuration, of which `init` changes the lines that it is about; records of data
sets, which are addresses; pointers of DVC; models, whose headers say by what they are recognized. Outputs of DVC keep
their paths wherever they are named, since their bytes are not in Git and stay where they are.
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

import yaml

from backbeat.errors import ConfigError
from backbeat.template.naming import Naming
from backbeat.template.renaming import occurrences, renamed
from backbeat.template.tree import shown

_LEFT = ("LICENSE", ".dvc/config", ".gitmodules", "configs/datasets/*.yaml", "*.dvc", "*.safetensors")


def is_left(path: str) -> bool:
    """Return whether what is in a file stays as it is."""
    return any(fnmatchcase(path, pattern) for pattern in _LEFT)


def kept_outputs(texts: Mapping[str, str], before: Naming) -> tuple[str, ...]:
    """Return the names of files and folders that have a project's name in them and are outputs of DVC.

    Raises:
        ConfigError: if one is called as the project is: nothing could tell the two apart in text.
    """
    kept = set()
    for output in _outputs(texts):
        for part in output.removeprefix(f"src/{before.package}/").split("/"):
            if part in {before.program, before.package}:
                raise ConfigError(
                    "an output of DVC is called as the project is: a rename could not tell the two apart",
                    expected="another name for its file or folder",
                    got=shown([output]),
                    next_step="dvc move it, and commit",
                )
            if occurrences(part, before):
                kept.add(part)
    # Of two that begin alike, the longer one is meant where it stands.
    return tuple(sorted(kept, key=lambda part: (-len(part), part)))


def moved_paths(paths: Iterable[str], before: Naming, after: Naming, kept: tuple[str, ...]) -> dict[str, str]:
    """Return for each path where it is afterwards."""
    old, new = f"src/{before.package}/", f"src/{after.package}/"
    return {
        path: new + renamed(path[len(old) :], before, after, kept)
        if path.startswith(old)
        else renamed(path, before, after, kept)
        for path in paths
    }


def moved_target(link: str, target: str, moved: Mapping[str, str], package: tuple[str, str]) -> str:
    """Return what a symbolic link points to afterwards: the same file or folder, if that is the project's.

    Args:
        link: the path of the link before.
        target: what it points to before.
        moved: for each path of the project where it is afterwards.
        package: the package's folder before and afterwards.
    """
    meant = posixpath.normpath(posixpath.join(posixpath.dirname(link), target))
    there = _moved_folder_or_file(meant, moved, package)
    here = posixpath.dirname(moved[link])
    if posixpath.isabs(target) or meant.startswith("../") or (there, here) == (meant, posixpath.dirname(link)):
        return target
    return posixpath.relpath(there, here or ".")


def _moved_folder_or_file(path: str, moved: Mapping[str, str], package: tuple[str, str]) -> str:
    if path in moved:
        return moved[path]
    for one, other in moved.items():
        if one.startswith(f"{path}/"):
            # As many folders deep as before: a name has no slash.
            return "/".join(other.split("/")[: path.count("/") + 1])
    # What Git does not know, in the package: it moves along.
    return package[1] + path.removeprefix(package[0]) if path.startswith(f"{package[0]}/") else path


def ignoring(text: str, before: Naming, after: Naming, kept: Collection[str]) -> str:
    """Return a `.gitignore` that ignores what it did, and what that is called afterwards."""
    lines = text.split("\n")
    done = []
    for line in lines:
        new = renamed(line, before, after, tuple(kept))
        done += [line] if new in lines else [line, new]
    return "\n".join(done)


def _outputs(texts: Mapping[str, str]) -> Iterator[str]:
    """Yield the paths of what DVC keeps, from the root of the project."""
    for path, text in texts.items():
        if posixpath.basename(path) != "dvc.yaml" and not path.endswith(".dvc"):
            continue
        try:
            said = yaml.safe_load(text)
        except yaml.YAMLError:
            continue
        folder = posixpath.dirname(path)
        for stage in _stages(said if isinstance(said, dict) else {}):
            for kind in ("outs", "metrics", "plots"):
                for entry in stage.get(kind) or []:
                    # A path, {path: PATH, …} in a pointer, {PATH: options} in a pipeline.
                    out = (entry.get("path") or next(iter(entry), "")) if isinstance(entry, dict) else entry
                    yield posixpath.normpath(posixpath.join(folder, str(stage.get("wdir", "")), str(out)))


def _stages(said: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a pointer itself, and the stages of a pipeline; a stage of several is below `do`."""
    stages = said.get("stages")
    for one in [said, *(stages.values() if isinstance(stages, dict) else [])]:
        if isinstance(one, dict):
            do = one.get("do")
            yield do if isinstance(do, dict) else one
