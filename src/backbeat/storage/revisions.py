"""Which objects the pointers of any Git revision need: asked before something that may be an only copy is removed."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

POINTERS = (":(glob)**/dvc.lock", ":(glob)**/*.dvc")
WORKING_TREE = "the working tree"

# In `dvc.lock` and `.dvc` files alike. Of dependencies, too: better one object too many than one too few.
_MD5 = re.compile(rb"\bmd5: ['\"]?([0-9a-f]{32}(?:\.dir)?)\b")
_CHANGE = re.compile(r"^:\d{6} \d{6} [0-9a-f]{40} ([0-9a-f]{40}) ")


def needed_objects(project: Path, cache: Path) -> dict[str, str]:
    """Return the names of objects that pointers need, with a revision that needs each.

    Of a folder whose listing is in the cache, its files, too. Where the listing is not, none of the folder can be had
    from this disk anyway.

    Args:
        project: the root of the repository.
        cache: DVC's cache.
    """
    found: dict[str, str] = {}
    for revision, content in _pointer_files(project):
        for name in _MD5.findall(content):
            found.setdefault(name.decode(), revision)
    for name, revision in list(found.items()):
        if name.endswith(".dir"):
            for inner in _files_in(cache / "files" / "md5" / name[:2] / name[2:]):
                found.setdefault(inner, revision)
    return found


def _pointer_files(project: Path) -> list[tuple[str, bytes]]:
    """Return every version of every pointer file, that of the working tree first."""
    files = _git(project, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *POINTERS)
    if files is None:  # not a Git repository
        paths = [path for pattern in ("**/dvc.lock", "**/*.dvc") for path in project.glob(pattern) if path.is_file()]
        return [(WORKING_TREE, path.read_bytes()) for path in paths]
    present = [project / name for name in files.decode().split("\0") if name and (project / name).is_file()]
    found = [(WORKING_TREE, path.read_bytes()) for path in present]
    log = _git(project, "log", "--all", "-m", "--format=%x00%h", "--raw", "--no-abbrev", "--", *POINTERS) or b""
    blobs: dict[str, str] = {}
    for entry in log.decode(errors="replace").split("\0"):
        revision, *changes = entry.splitlines() or [""]
        for change in changes:
            match = _CHANGE.match(change)
            if match and set(match[1]) != {"0"}:
                blobs.setdefault(match[1], revision)
    return found + [(revision, _git(project, "cat-file", "blob", blob) or b"") for blob, revision in blobs.items()]


def _git(project: Path, *words: str) -> bytes | None:
    try:
        done = subprocess.run(["git", "-C", str(project), *words], capture_output=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None


def _files_in(listing: Path) -> list[str]:
    try:
        return [str(entry["md5"]) for entry in json.loads(listing.read_bytes())]
    except (OSError, ValueError, TypeError, KeyError):
        return []
