"""The files in the workspace, compared with the cache: links to the right object, or copies with the right content."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from backbeat.cloud.contents import MOST_NAMED, Contents
from backbeat.cloud.dvc_program import run_dvc
from backbeat.cloud.pointers import DIR_SUFFIX, Needed, cache_path
from backbeat.cloud.proofs import Proofs, md5_of
from backbeat.errors import CloudError

# `changed` is a file of its own with another content: damage, or somebody's work.
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
    return "damaged" if at.is_symlink() or at.is_dir() else "changed"


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
            raise CloudError(
                f"changed in the workspace: {', '.join(changed[:MOST_NAMED])}",
                expected="what the pointers say; all of that is in the cache",
                got=f"{len(changed):,} files with a content that no pointer has",
                next_step=f"to keep it: dvc commit; to give it up: dvc checkout --force {changed[0]}",
            )
    raise CloudError(
        f"could not be put into the workspace: {', '.join(still[:MOST_NAMED] or chosen)}",
        expected="what is in the cache, where everything is there and whole",
        got=ended.output[-1000:] or f"exit code {ended.code}",
        next_step=f"dvc checkout {chosen[0]}",
    )


def _old_versions(project: Path, content: Contents) -> bool:
    """Return whether a folder has files that its list does not have, and that are in the cache: an old version's."""
    if content.artifact.only or not content.artifact.is_folder:
        return False
    listed = {one.path for one in content.needed}
    for folder, _, names in os.walk(project / content.artifact.path):
        for name in names:
            path = Path(folder) / name
            if path.relative_to(project).as_posix() in listed:
                continue
            if path.is_symlink() or (path.is_file() and cache_path(project, md5_of(path)).is_file()):
                return True
    return False


def files(project: Path, contents: Iterable[Contents], oids: Iterable[str]) -> list[Path]:
    """Return the places in the workspace of these objects."""
    wanted = set(oids)
    return [project / needed.path for one in contents for needed in one.needed if needed.oid in wanted]


def _is_same(at: Path, cached: Path) -> bool:
    try:
        return at.samefile(cached)
    except OSError:
        return False
