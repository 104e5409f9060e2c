"""Rules for pipelines and settings that DVC itself checks too late or never: `backbeat storage check`.

DVC runs a stage to its end, for hours maybe, and only then refuses an output at an absolute path or below a linked
folder. Some settings it accepts store everything twice, or leave a clone that cannot be pulled. Here all of it is read
beforehand, by DVC's own parser for `${…}`, `foreach` and `matrix`, and nothing is run.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from dvc.config import Config

from backbeat.errors import StorageError
from backbeat.storage.disk import is_within
from backbeat.storage.setup import CACHE_TYPE
from backbeat.storage.staging import cache_dir

# Folders that hold no pipelines of this repository.
_NOT_WALKED = frozenset({".git", ".dvc", ".venv", "node_modules"})
_OUTPUT_KEYS = ("outs", "metrics", "plots")
# The one that wins last.
_LEVELS = {
    "system": "DVC's system configuration",
    "global": "DVC's global configuration",
    "repo": ".dvc/config",
    "local": ".dvc/config.local",
}
_ELSEWHERE = re.compile(r"^(?:[A-Za-z]:[\\/]|[a-z][a-z0-9+.-]*://)")


@dataclass(frozen=True)
class Output:
    """One output of one stage, as it is after interpolation.

    Args:
        file: the `dvc.yaml` or `.dvc` file, relative to the repository.
        stage: the stage as DVC calls it (`download@egmd`); None in a `.dvc` file.
        path: as it is written.
        folder: what the path is relative to: the folder of the file and `wdir`, relative to the repository.
        cached: whether DVC caches it.
        pushed: whether `dvc push` sends it.
    """

    file: str
    stage: str | None
    path: str
    folder: str
    cached: bool = True
    pushed: bool = True

    @property
    def place(self) -> str:
        """Where it is, relative to the repository; begins with `..` if it is outside."""
        return posixpath.normpath(posixpath.join(self.folder, self.path))


@dataclass(frozen=True, order=True)
class Finding:
    """Something that will go wrong.

    Args:
        file: the file to change.
        stage: the stage in it, if it is about one.
        output: the output, or the setting.
        why: what will happen.
        next_step: what to do.
    """

    file: str
    stage: str
    output: str
    why: str
    next_step: str


def check(project: Path) -> list[Finding]:
    """Return everything that is wrong with the pipelines and DVC's settings; nothing is run or changed.

    Raises:
        StorageError: if DVC's configuration cannot be read.
    """
    project = project.resolve()
    read = list(_outputs(project))
    outputs = [item for item in read if isinstance(item, Output)]
    found = [item for item in read if isinstance(item, Finding)]
    found += output_findings(outputs, lambda place: (project / place).is_symlink() and (project / place).is_dir())
    found += cache_findings(project, _settings(project))
    found += setting_findings(_settings(project), lambda folder: (project / ".dvc" / folder).is_dir())
    return sorted(set(found))


def output_findings(outputs: Iterable[Output], is_linked_folder: Callable[[str], bool]) -> list[Finding]:
    """Return what is wrong with these outputs.

    Args:
        outputs: outputs of all files.
        is_linked_folder: says of a path in the repository whether it is a symbolic link to a folder.
    """
    return [
        Finding(output.file, output.stage or "", output.path, why, step)
        for output in outputs
        for why, step in _faults(output, is_linked_folder)
    ]


def _faults(output: Output, is_linked_folder: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
    if _ELSEWHERE.match(output.path) or output.path.startswith(("/", "~")):
        why = (
            "DVC refuses an absolute path only after the stage has run"
            if output.cached
            else ("this machine's path would be in dvc.lock, and the folder is deleted before each run")
        )
        yield why, "write a path within the repository; which disk the bytes are on is `backbeat storage setup`"
        return
    if output.place == ".." or output.place.startswith("../"):
        yield (
            "it is outside of the repository, which DVC refuses only after the stage has run",
            "write a path within the repository",
        )
        return
    parts = output.place.split("/")
    for count in range(1, len(parts) + 1):
        above = "/".join(parts[:count])
        if is_linked_folder(above):
            at = "it is" if count == len(parts) else f"{above} is"
            yield (
                f"{at} a link to a folder, which DVC refuses only after the stage has run",
                f"make {above} a folder; the bytes go to another disk by `backbeat storage setup`",
            )
            break
    if output.cached and not output.pushed:
        yield "with `push: false` a plain `dvc pull` of a clone ends with exit code 1", "write `cache: false` instead"


def setting_findings(settings: Mapping[str, Mapping[str, Any]], is_folder: Callable[[str], bool]) -> list[Finding]:
    """Return what is wrong with DVC's settings.

    Args:
        settings: the files of DVC's configuration and what each says, the one that wins last.
        is_folder: says of a path whether there is such a folder.
    """
    found: list[Finding] = []
    types, type_file = ["reflink", "copy"], ".dvc/config"
    for file, said in settings.items():
        cache = said.get("cache", {})
        if cache.get("type"):
            written = cache["type"]
            types, type_file = [t.strip() for t in (written.split(",") if isinstance(written, str) else written)], file
        folder = cache.get("dir")
        if folder and Path(folder).is_absolute() and not any(map(is_folder, (folder, str(Path(folder).parent)))):
            found.append(
                Finding(
                    file, "", f"cache.dir = {folder}",
                    "it is not there, and DVC would make it anew, on whatever disk that is then",
                    f"mount the disk, or set it up again: backbeat storage setup --disk {Path(folder).parent}",
                )
            )  # fmt: skip
        for name, remote in said.get("remote", {}).items():
            for key in ("version_aware", "worktree"):
                if str(remote.get(key, False)).lower() == "true":
                    why = "what such a remote holds cannot be collected, and `backbeat verify` cannot compare it"
                    found.append(
                        Finding(file, "", f"remote {name}: {key}", why, f"dvc remote modify --unset {name} {key}")
                    )
    found += [Finding(type_file, "", f"cache.type = {','.join(types)}", *fault) for fault in _type_faults(types)]
    return found


def cache_findings(project: Path, settings: Mapping[str, Mapping[str, Any]]) -> list[Finding]:
    """Return what is wrong with the place of the cache: in the working tree, but not in `.dvc`, or around it."""
    cache = cache_dir(project)
    in_tree = is_within(cache, project) and not (is_within(cache, project / ".dvc") and cache != project / ".dvc")
    if not in_tree and not is_within(project, cache):
        return []
    file = next(
        (file for file in reversed(list(settings)) if settings[file].get("cache", {}).get("dir")), ".dvc/config"
    )
    why = "it is in the working tree: `dvc checkout` or Git may clear it away with a folder that it is in"
    step = "backbeat storage setup --disk …, with a folder outside of the repository"
    return [Finding(file, "", f"cache.dir = {cache}", why if in_tree else "the clone is in it", step)]


def _type_faults(types: list[str]) -> Iterator[tuple[str, str]]:
    step = f"dvc config cache.type {CACHE_TYPE}"
    copying = [kind for kind in types if kind in {"reflink", "copy"}]
    if copying:
        yield f"with {' and '.join(copying)} in it DVC stores folders twice", step
    elif types == ["symlink"]:
        yield "with symbolic links alone DVC copies what a stage has staged", step


def _outputs(project: Path) -> Iterator[Output | Finding]:
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        repo = Repo(str(project))
    except DvcException as error:
        raise StorageError(
            "DVC's configuration cannot be read", got=str(error), next_step="dvc config --list"
        ) from error
    with repo:
        for path in _files(project):
            file = path.relative_to(project).as_posix()
            try:
                content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
                if not isinstance(content, dict):
                    raise TypeError(f"a {type(content).__name__} instead of keys and values")
                if path.name == "dvc.yaml":
                    yield from _of_pipeline(repo, file, path, content)
                else:
                    yield from _of_stage(file, None, content)
            except (yaml.YAMLError, DvcException, OSError, ValueError, TypeError, AttributeError, KeyError) as error:
                step = "correct it; around ${…} write lists and mappings with one item to a line, never in [] or {}"
                yield Finding(file, "", "", f"it cannot be read: {' '.join(str(error).split())}", step)


def _of_pipeline(repo: Any, file: str, path: Path, content: dict[str, Any]) -> Iterator[Output | Finding]:
    from dvc.exceptions import DvcException
    from dvc.parsing import DataResolver

    resolver = DataResolver(repo, str(path.parent), content)
    for name in resolver.get_keys():
        try:
            for stage, definition in resolver.resolve_one(name).items():
                yield from _of_stage(file, stage, definition)
        except DvcException as error:
            why = f"DVC cannot resolve it: {' '.join(str(error).split())}"
            yield Finding(file, name, "", why, "correct the interpolation, or the parameter that it names")


def _of_stage(file: str, stage: str | None, definition: Mapping[str, Any]) -> Iterator[Output]:
    folder = posixpath.normpath(posixpath.join(posixpath.dirname(file), definition.get("wdir") or "."))
    for key in _OUTPUT_KEYS:
        for entry in definition.get(key) or []:
            path, options = _entry(entry)
            cached, pushed = bool(options.get("cache", True)), bool(options.get("push", True))
            yield Output(file, stage, path, folder, cached, pushed)


def _entry(entry: Any) -> tuple[str, Mapping[str, Any]]:
    """Return path and options of an output: a name, a name with options, or an entry of a `.dvc` file."""
    if isinstance(entry, str):
        return entry, {}
    if "path" in entry:
        return str(entry["path"]), entry
    ((path, options),) = entry.items()
    return str(path), options if isinstance(options, dict) else {}


def _files(project: Path) -> list[Path]:
    found = []
    for folder, names, files in os.walk(project):
        names[:] = sorted(name for name in names if name not in _NOT_WALKED)
        found += [Path(folder) / name for name in files if name == "dvc.yaml" or name.endswith(".dvc")]
    return sorted(path for path in found if path.is_file())


def _settings(project: Path) -> dict[str, dict[str, Any]]:
    config = Config(dvc_dir=str(project / ".dvc"), validate=False)
    return {_LEVELS[level]: config.load_one(level) for level in _LEVELS}
