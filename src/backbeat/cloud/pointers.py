"""What Git's pointers need: the artifacts of `dvc.lock` and `*.dvc` files, and the objects that they consist of.

An artifact is one output that DVC caches, such as `data/processed/egmd_mini`. An object is one file of DVC's cache,
under the MD5 of its content; a folder is an object too, a list of its files, whose name ends in `.dir`.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from backbeat.errors import CloudError
from backbeat.storage.staging import cache_dir

DIR_SUFFIX = ".dir"

# Where DVC keeps objects, in its cache and in its folder of the bucket.
OBJECTS = "files/md5"


@dataclass(frozen=True)
class Artifact:
    """An output that DVC versions.

    Args:
        path: where it is in the project.
        stage: what makes it, as DVC addresses it; the name of the `.dvc` file if nothing does.
        oid: the name of its object; None if it was never made.
        size_bytes: the size of all of it, as the pointer says.
        only: the part of it that is meant, relative to `path`; empty means all.
    """

    path: str
    stage: str
    oid: str | None
    size_bytes: int | None
    only: str = ""

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return self.oid is not None and self.oid.endswith(DIR_SUFFIX)

    @property
    def target(self) -> str:
        """What DVC is told to mean it, or the part of it that is meant."""
        return f"{self.path}/{self.only}" if self.only else self.path


@dataclass(frozen=True, order=True)
class Needed:
    """An object that a pointer needs.

    Args:
        oid: its name: the MD5 of its content, with `.dir` if it is a list of files.
        path: where its content belongs in the project; for a list, the folder.
    """

    oid: str
    path: str

    @property
    def md5_hex(self) -> str:
        """The MD5 of its content."""
        return self.oid.removesuffix(DIR_SUFFIX)

    @property
    def name(self) -> str:
        """Its path below the cache's root, and below DVC's folder in the bucket."""
        return object_name(self.oid)


def object_name(oid: str) -> str:
    """Return the path of an object below the cache's root, and below DVC's folder in the bucket."""
    return f"{OBJECTS}/{oid[:2]}/{oid[2:]}"


def cache_path(project: Path, oid: str) -> Path:
    """Return where DVC's cache has or would have an object."""
    return cache_dir(project) / object_name(oid)


def artifacts(project: Path, targets: Sequence[str] = ()) -> list[Artifact]:
    """Return the artifacts that these targets mean, in the order of their paths.

    Args:
        project: the root of the repository.
        targets: datasets (`egmd_mini`), stages (`train`, `data/library/dvc.yaml:archive`) or paths, also inside an
            artifact (`data/processed/egmd/validation`); none means every artifact.

    Raises:
        CloudError: if a target is none of these or empty, or DVC cannot read its files.
    """
    for target in targets:
        _require_word(target)
    every = _all_artifacts(project)
    if not targets:
        return every
    chosen: dict[tuple[str, str], Artifact] = {}
    for target in targets:
        found = _matching(every, target)
        if not found:
            raise CloudError(
                f"no versioned artifact is called {target}",
                expected="a dataset, a stage or a path of " + ", ".join(one.path for one in every),
                next_step="backbeat cloud status",
            )
        chosen |= {(one.path, one.only): one for one in found}
    # Who asks for a whole needs no part of it as well.
    whole = {one.path for one in chosen.values() if not one.only}
    return sorted(
        (one for one in chosen.values() if not one.only or one.path not in whole), key=lambda one: (one.path, one.only)
    )


def as_targets(project: Path, words: Sequence[str] | None, folder: Path | None = None) -> list[str]:
    """Return the targets that somebody has typed in `folder`, for `artifacts`: paths relative to the project's root.

    A path may be absolute, or relative to `folder` (by default the current one) or to the project's root; what is a
    path of neither kind is the name of a dataset or a stage.

    Raises:
        CloudError: if a word is empty, or a path outside of the project.
    """
    here = (folder or Path.cwd()).absolute()
    every: list[Artifact] | None = None
    found = []
    for word in words or ():
        _require_word(word)
        at = _in_project(project, here, word)
        if here != project.absolute() and not Path(word).is_absolute():
            every = artifacts(project) if every is None else every
            matching = _matching(every, at)
            # A part that is not there may be anything: `train` is a stage in the folder of a dataset, too.
            if not any(not one.only for one in matching) and not (matching and os.path.lexists(project / at)):
                at = word
        found.append(at)
    return found


def objects(artifact: Artifact, read_listing: Callable[[str], bytes]) -> list[Needed]:
    """Return the objects of an artifact: of a folder its list first, then its files in the order of their paths.

    Args:
        artifact: an artifact, or a part of one.
        read_listing: returns the content of the object of this name; called for folders only.

    Raises:
        CloudError: if the artifact was never made, or its list is damaged or names no file of the asked part.
    """
    if artifact.oid is None:
        raise never_made(artifact)
    if not artifact.is_folder:
        return [Needed(artifact.oid, artifact.path)]
    content = read_listing(artifact.oid)
    listing = parse_listing(content, artifact.oid)
    wanted = PurePosixPath(artifact.only)
    files = [
        Needed(oid, f"{artifact.path}/{relative}")
        for relative, oid in listing
        if PurePosixPath(relative).is_relative_to(wanted)
    ]
    if artifact.only and not files:
        raise CloudError(
            f"{artifact.path} has nothing called {artifact.only}",
            expected="one of " + ", ".join(sorted({relative.split("/")[0] for relative, _ in listing})),
        )
    return [Needed(artifact.oid, artifact.path), *files]


def never_made(artifact: Artifact) -> CloudError:
    """Return the error that an artifact was never made, with what makes it."""
    return CloudError(
        f"{artifact.path} was never made", expected="its hash in dvc.lock", next_step=f"dvc repro {artifact.stage}"
    )


def parse_listing(content: bytes, oid: str) -> list[tuple[str, str]]:
    """Return the files in DVC's list of a folder: relative path and object, in the order of the paths.

    Raises:
        CloudError: if it is not the list that its name promises.
    """
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if f"{digest}{DIR_SUFFIX}" != oid:
        raise CloudError(
            f"the list of files {oid} is damaged",
            expected=f"MD5 {oid.removesuffix(DIR_SUFFIX)}",
            got=digest,
            next_step="backbeat verify --remote --repair",
        )
    # What has the right MD5 was written by DVC.
    return sorted((str(entry["relpath"]), str(entry["md5"])) for entry in json.loads(content))


def _all_artifacts(project: Path) -> list[Artifact]:
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with tempfile.TemporaryDirectory(prefix="backbeat-dvc-") as memory:
            # DVC opens what it remembers of the project even to read pointers; a kill may have left half of it.
            forgetful = type("ForgetfulRepo", (Repo,), {"site_cache_dir": memory})
            with forgetful(str(project)) as repo:
                return _outputs(project, repo)
    except DvcException as error:
        raise CloudError("DVC cannot read the pipeline", got=str(error), next_step="dvc status") from error


def _outputs(project: Path, repo: Any) -> list[Artifact]:
    found = [
        Artifact(
            path=Path(out.fs_path).relative_to(project.resolve()).as_posix(),
            stage=_address(out.stage),
            oid=out.hash_info.value if out.hash_info else None,
            size_bytes=out.meta.size if out.meta else None,
        )
        for out in repo.index.outs
        if out.use_cache and out.can_push
    ]
    return sorted(found, key=lambda one: one.path)


def _address(stage: Any) -> str:
    file, name = str(stage.path_in_repo), getattr(stage, "name", None)
    # DVC's own `addressing` is relative to the current folder.
    return file if name is None else str(name) if file == "dvc.yaml" else f"{file}:{name}"


def _matching(every: Iterable[Artifact], target: str) -> list[Artifact]:
    found = []
    path = PurePosixPath(target)
    for one in every:
        at = PurePosixPath(one.path)
        # A dataset is what was made of it, wherever that is.
        if target in {one.stage, one.path} or at.is_relative_to(path) or ("/" not in target and target in at.parts[1:]):
            found.append(one)
        elif one.is_folder and path.is_relative_to(at):
            found.append(replace(one, only=path.relative_to(at).as_posix()))
    return found


def _require_word(target: str) -> None:
    if not target.strip():
        raise CloudError(
            "a target is empty",
            expected="a dataset, a stage or a path; no target at all for everything",
            got=repr(target),
            next_step="look whether a variable in the command is not set",
        )


def _in_project(project: Path, here: Path, word: str) -> str:
    """Return a path relative to the project's root; the last part is not followed, it may be a link to the cache."""
    at = Path(os.path.normpath(here / word))
    root = project.absolute()
    if not at.is_relative_to(root):
        root, at = root.resolve(), at.parent.resolve() / at.name
    if not at.is_relative_to(root):
        raise CloudError(f"{word} is outside of the project", expected=f"a path in {root}", got=str(at))
    return at.relative_to(root).as_posix()
