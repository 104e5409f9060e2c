"""What the formatter and the linter say about code in which a name has become longer, shorter or another letter.

Imports are sorted anew and lines broken anew, by Ruff, in a copy. What no formatter breaks, strings and comments, may
be longer than the limit afterwards: then `pyproject.toml` tells the linter, and the formatter keeps the limit. A higher
limit for the linter alone would not do: other rules ask, too, what would fit on a line.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping
from importlib.util import find_spec
from pathlib import Path

from backbeat.errors import ConfigError
from backbeat.template.naming import PROJECT_FILE
from backbeat.template.renaming import PYTHON

LONG_LINES = "the project's name is in lines that no formatter breaks"
_LONG = f'"E501", # {LONG_LINES}\n'


def require_ruff() -> None:
    """Refuse to rename without the formatter.

    Raises:
        ConfigError: if it is not in this environment.
    """
    if find_spec("ruff") is None:
        raise ConfigError(
            "a rename sorts imports and breaks lines anew, and there is no Ruff in this environment",
            expected="the environment of `make setup`",
            got=sys.prefix,
            next_step="make setup, then .venv/bin/… of it",
        )


def tidied(files: Mapping[str, bytes], changed: Collection[str]) -> dict[str, bytes]:
    """Return what Ruff changes in changed code, and a `pyproject.toml` that allows long lines where there are any.

    Args:
        files: all files of the project, by path.
        changed: the paths that are looked at.

    Raises:
        ConfigError: if Ruff fails.
    """
    code = sorted(path for path in changed if path.endswith(PYTHON))
    project_text = with_long_lines(files[PROJECT_FILE].decode(), allowed=False)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        # Which modules are the project's own is seen by their being there.
        for path in (path for path in files if path.endswith(PYTHON)):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(files[path])
        (folder / PROJECT_FILE).write_text(project_text, encoding="utf-8")
        _ruff(folder, "check", "--fix", "--exit-zero", "--select=I", "--", *code)
        _ruff(folder, "format", "--", *code)
        long = _ruff(folder, "check", "--exit-zero", "--quiet", "--select=E501", "--output-format=concise", "--", *code)
        formatted = {path: (folder / path).read_bytes() for path in code}
    formatted[PROJECT_FILE] = with_long_lines(project_text, allowed=bool(long.strip())).encode()
    return {path: content for path, content in formatted.items() if content != files[path]}


def with_long_lines(project_text: str, *, allowed: bool) -> str:
    """Return a `pyproject.toml` in which the linter takes lines of any length because of the name, or does not."""
    plain = re.sub(rf"^(ignore = \[)?[ ]*{re.escape(_LONG)}(?(1)\]\n)", "", project_text, flags=re.MULTILINE)
    if not allowed:
        return plain
    before, header, section = plain.partition("[tool.ruff.lint]\n")
    if re.search(r"^ignore = \[", section, re.MULTILINE):
        section = re.sub(r"^ignore = \[\n?", f"ignore = [\n  {_LONG}", section, count=1, flags=re.MULTILINE)
        return before + header + section
    return before + header + f"ignore = [{_LONG}]\n" * bool(header) + section


def _ruff(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *arguments], cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "RUFF_NO_CACHE": "true"},
    )  # fmt: skip
    if done.returncode:
        raise ConfigError(
            "the renamed code cannot be formatted",
            got=done.stderr.strip()[-500:] or f"exit code {done.returncode} of ruff",
            next_step="give another --name; nothing was written",
        )
    return done.stdout
