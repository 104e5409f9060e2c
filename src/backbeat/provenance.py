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


def canonical_json(value: Any) -> str:
    """Return `value` as JSON text with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest_of(value: Any) -> str:
    """Return the SHA-256 hex digest of a JSON-serializable value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def git_revision(project: Path) -> str | None:
    """Return the commit that `project` is at, with `-dirty` appended if tracked files differ; None outside Git."""
    if shutil.which("git") is None:
        return None
    described = subprocess.run(
        ["git", "-C", str(project), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or None


def file_digest(path: Path) -> str:
    """Return the SHA-256 hex digest of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
