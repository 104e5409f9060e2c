"""The experiments of DVC that a clone has: Git refs, which nothing but the clone itself knows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from backbeat.errors import ConfigError

# refs/exps/<two digits>/<38 digits>/<name>; what else is below refs/exps is DVC's own.
_REF = re.compile(r"refs/exps/[0-9a-f]{2}/[0-9a-f]{38}/(.+)")


def experiments(project: Path) -> list[str]:
    """Return the names of the experiments in this clone, sorted."""
    done = subprocess.run(
        ["git", "for-each-ref", "--format=%(refname)", "refs/exps"],
        cwd=project, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return sorted(found[1] for line in done.stdout.splitlines() if (found := _REF.fullmatch(line)))


def forget(project: Path) -> None:
    """Remove all experiments of this clone; what they have put into DVC's cache stays until `dvc gc`.

    Raises:
        ConfigError: if DVC refuses.
    """
    command = [sys.executable, "-m", "dvc", "exp", "remove", "--all-commits"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfigError(
            "the experiments of this clone cannot be removed",
            got=done.stderr.strip()[-500:],
            next_step="dvc exp remove --all-commits says more; everything else is done",
        )
