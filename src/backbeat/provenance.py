"""Digests and revisions: how an artifact says what it came from.

A digest is the SHA-256 of canonical JSON (sorted keys, no spaces), so that equal values have equal digests in
every process and on every machine.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

# Parameters, and what the pipeline itself writes into files that Git tracks.
_RECORDED = ("params.yaml", "**/dvc.lock", "reports/**")


def canonical_json(value: Any) -> str:
    """Return `value` as JSON text with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest_of(value: Any) -> str:
    """Return the SHA-256 hex digest of a JSON-serializable value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def git_revision(project: Path) -> str | None:
    """Return the commit that `project` is at, with `-dirty` appended if its code or settings differ; None outside Git.

    Parameters do not count, since whoever asks records them beside the revision: an experiment is a commit with other
    parameters. Neither does what stages write while the pipeline runs.
    """
    if shutil.which("git") is None:
        return None
    head = _git(project, "rev-parse", "--verify", "--quiet", "HEAD")
    if head.returncode:
        return None
    if _git(project, "ls-files", "--others", "--exclude-standard", "--", "src", "configs").stdout:
        return head.stdout.strip() + "-dirty"
    differs = _git(project, "diff", "--quiet", "HEAD", "--", ".", *(f":(exclude,glob){one}" for one in _RECORDED))
    return head.stdout.strip() + ("-dirty" if differs.returncode else "")


def file_digest(path: Path) -> str:
    """Return the SHA-256 hex digest of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _git(project: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", "-C", str(project), *command], capture_output=True, text=True, check=False)
