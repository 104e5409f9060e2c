"""The files in the workspace, compared with the cache: links to the right object, or copies with the right content."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from backbeat.cloud.contents import MOST_NAMED, Contents
from backbeat.cloud.dvc_program import run_dvc
from backbeat.cloud.pointers import DIR_SUFFIX, Needed, cache_path
from backbeat.cloud.proofs import Proofs, md5_of
from backbeat.errors import CloudError

# `changed` is another content than the pointer's: somebody's work, such as the link into the staging store that a stage
# leaves until DVC commits; or damage. A link to nothing is `missing`.
FileState = Literal["ok", "missing", "damaged", "changed"]


def file_states(
    project: Path, contents: Iterable[Contents], proofs: Proofs, *, anew: bool = False
) -> dict[str, FileState]:
    """Return of each file that the artifacts consist of whether it is in the workspace, by its path in the project."""
    return {
        needed.path: file_state(project, needed, proofs, anew=anew)
        for content in contents
        for needed in content.needed
        if not needed.oid.endswith(DIR_SUFFIX)
    }


def file_state(project: Path, needed: Needed, proofs: Proofs, *, anew: bool = False) -> FileState:
    """Return whether a file is in the workspace: as a link to its object in the cache, or with its content."""
    at = project / needed.path
    cached = cache_path(project, needed.oid)
    if _is_same(at, cached):
        # One file: what is true of the object is true of it.
        return proofs.state(cached, needed.md5_hex, anew=anew)
    state = proofs.state(at, needed.md5_hex, anew=anew)
    if state != "damaged":
        return state
    return "changed" if at.is_file() and _is_readable(at) else "damaged"


def check_out(project: Path, contents: Sequence[Contents], proofs: Proofs, idle_timeout_s: float) -> int:
    """Have DVC put into the workspace what is not there, and take away old versions; return how many files that were.

    Raises:
        CloudError: if it cannot, because a file in the workspace is in neither version: it is somebody's work.
    """
    before = file_states(project, contents, proofs)
    wrong = {path for path, state in before.items() if state != "ok"}
    chosen = [
        one.artifact.target
        for one in contents
        if any(needed.path in wrong for needed in one.needed) or _old_versions(project, one)
    ]
    if not chosen:
        return 0
    for fresh in (False, True):
        # DVC remembers what it has checked out, for the next `dvc status`; a kill may have left half of that memory.
        ended = run_dvc(project, ["checkout", *chosen], fresh_site_cache=fresh, idle_timeout_s=idle_timeout_s)
        after = file_states(project, contents, proofs)
        still = sorted(path for path, state in after.items() if state != "ok")
        if not still and not ended.code:
            return len(wrong)
        changed = [path for path in still if after[path] == "changed"]
        if changed:
            raise somebodys_work(changed)
    raise CloudError(
        f"could not be put into the workspace: {', '.join(still[:MOST_NAMED] or chosen)}",
        expected="what is in the cache, where everything is there and whole",
        got=ended.output[-1000:] or f"exit code {ended.code}",
        next_step=f"dvc checkout {chosen[0]}",
    )


def somebodys_work(changed: Sequence[str]) -> CloudError:
    """Return what to say of files whose content nothing but themselves is known to have."""
    return CloudError(
        f"changed in the workspace: {', '.join(changed[:MOST_NAMED])}",
        expected="what the pointers say; all of that is in the cache",
        got=f"{len(changed):,} files with a content that no pointer has",
        next_step=f"to keep it: dvc commit; to give it up: dvc checkout --force {changed[0]}",
    )


def _old_versions(project: Path, content: Contents) -> bool:
    """Return whether a folder has files that its list does not have, and that are in the cache: an old version's."""
    for path in _extra(project, content):
        if not path.exists() or (path.is_file() and cache_path(project, md5_of(path)).is_file()):
            return True
    return False


def files(project: Path, contents: Iterable[Contents], oids: Iterable[str]) -> list[Path]:
    """Return the places in the workspace of these objects."""
    wanted = set(oids)
    return [project / needed.path for one in contents for needed in one.needed if needed.oid in wanted]


def unversioned(project: Path, contents: Iterable[Contents]) -> tuple[str, ...]:
    """Return the files in the folders of artifacts that their lists do not have."""
    return tuple(
        sorted(
            path.relative_to(project).as_posix()
            for one in contents
            if one.fault is None
            for path in _extra(project, one)
        )
    )


def _extra(project: Path, content: Contents) -> Iterator[Path]:
    if content.artifact.only or not content.artifact.is_folder:
        return
    listed = {one.path for one in content.needed}
    for folder, inner, names in os.walk(project / content.artifact.path):
        for name in [*names, *(one for one in inner if (Path(folder) / one).is_symlink())]:
            path = Path(folder) / name
            if path.relative_to(project).as_posix() not in listed:
                yield path


def _is_readable(at: Path) -> bool:
    try:
        with at.open("rb") as content:
            content.read(1)
    except OSError:
        return False
    return True


def _is_same(at: Path, cached: Path) -> bool:
    try:
        return at.samefile(cached)
    except OSError:
        return False
