"""Print what `CHANGELOG.md` says of a version: `python .ci/release_notes.py v1.2.3`.

Fails where the tag, the version in `pyproject.toml` and the newest heading of the changelog are not the same: a
release is made of all three, and two of them are forgotten easily.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[1]

# `## 1.2.3 (2026-01-31)`, and what is there until then.
HEADING = re.compile(r"^## (?:(?P<version>\d+\.\d+\.\d+\S*) \(\d{4}-\d\d-\d\d\)|Unreleased)[ \t]*$", re.MULTILINE)


def release_notes(tag: str, pyproject: str, changelog: str) -> str:
    """Return the section of the changelog for a tag.

    Args:
        tag: the tag, `v1.2.3`.
        pyproject: the text of `pyproject.toml`.
        changelog: the text of `CHANGELOG.md`.

    Raises:
        ValueError: if they do not agree; it says how.
    """
    version = tomllib.loads(pyproject)["project"]["version"]
    if tag != f"v{version}":
        raise ValueError(f"the tag is {tag}, but pyproject.toml has version {version}: expected the tag v{version}")
    headings = list(HEADING.finditer(changelog))
    newest = headings[0] if headings else None
    if newest is None or newest["version"] != version:
        found = newest[0] if newest else "no heading"
        raise ValueError(f"CHANGELOG.md begins with {found!r}: expected '## {version} (YYYY-MM-DD)'")
    end = headings[1].start() if len(headings) > 1 else len(changelog)
    notes = changelog[newest.end() : end].strip()
    if not notes:
        raise ValueError(f"CHANGELOG.md says nothing of {version}")
    return f"{notes}\n"


def main() -> int:
    """Print the notes; returns the exit code."""
    if len(sys.argv) != 2:
        print("usage: python .ci/release_notes.py TAG", file=sys.stderr)
        return 2
    texts = [(PROJECT / name).read_text(encoding="utf-8") for name in ("pyproject.toml", "CHANGELOG.md")]
    try:
        print(release_notes(sys.argv[1], *texts), end="")
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
