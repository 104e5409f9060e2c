"""A real S3 server with signature checks for tests, and projects that have it as their remote."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from backbeat.cloud.serve import serve
from template_settings import as_template

REPOSITORY = Path(__file__).parents[1]
BUCKET = "your-bucket"
KEY_ID = "0123456789abcdef012345678"
SECRET = "not-a-secret-only-for-tests-000"


@dataclass(frozen=True)
class S3Server:
    """A running server: `endpoint_url`, and the folder that is the bucket (look, damage, never add)."""

    endpoint_url: str
    bucket: Path

    def object(self, oid: str, prefix: str = "dvc") -> Path:
        """Return the file behind an object of DVC."""
        return self.bucket / prefix / "files" / "md5" / oid[:2] / oid[2:]

    def objects(self) -> list[str]:
        """Return the keys of everything in the bucket."""
        return sorted(path.relative_to(self.bucket).as_posix() for path in self.bucket.rglob("*") if path.is_file())


@contextlib.contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """Serve `folder/your-bucket`, which is the bucket that the template's `.dvc/config` names."""
    with serve(folder, (BUCKET,), key_id=KEY_ID, secret=SECRET) as running:
        yield S3Server(running.endpoint_url, folder / BUCKET)


def environment(home: Path, extra: Mapping[str, str] = {}) -> dict[str, str]:
    """Return the environment of a newcomer: an empty home, the keys under Backblaze's names, and no others."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "B2_", "DVC_", "RCLONE_"))
    }
    return {
        **kept,
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "DVC_SITE_CACHE_DIR": str(home / "site"),
        "DVC_GLOBAL_CONFIG_DIR": str(home / "global"),
        "DVC_SYSTEM_CONFIG_DIR": str(home / "system"),
        "DVC_NO_ANALYTICS": "1",
        "NO_PROXY": "127.0.0.1",
        "PATH": f"{REPOSITORY / '.venv' / 'bin'}{os.pathsep}{kept['PATH']}",
        "B2_ACCOUNT_ID": KEY_ID,
        "B2_APPLICATION_KEY": SECRET,
        **extra,
    }


def point_at(project: Path, endpoint_url: str) -> None:
    """Have a project's remote be at this address, as `.dvc/config.local` may say."""
    local = project / ".dvc" / "config.local"
    local.write_text(f"['remote \"b2\"']\n    endpointurl = {endpoint_url}\n")


def new_repository(folder: Path, files: Mapping[str, Mapping[str, bytes]]) -> Path:
    """Make a Git and DVC repository with the template's remote, in which these folders are `dvc add`ed.

    Args:
        folder: where to make it.
        files: for each folder the contents of its files.
    """
    for name in (".dvc/config", ".dvc/aws-b2.ini", ".dvc/.gitignore", "configs/cloud.yaml", "params.yaml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, folder / name)
    as_template(folder)
    for name, contents in files.items():
        for relative, content in contents.items():
            path = folder / name / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    run(folder, "git", "init", "--quiet", "--initial-branch", "main")
    run(folder, "dvc", "add", "--quiet", *files)
    commit(folder, "data")
    return folder


def commit(folder: Path, message: str) -> None:
    run(folder, "git", "add", "--all")
    run(folder, "git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "--message", message)


def run(
    folder: Path, *command: str, env: Mapping[str, str] | None = None, check: bool = True, timeout_s: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run a command in `folder` as a newcomer whose home is beside it."""
    home = folder.parent / "home"
    home.mkdir(exist_ok=True)
    done = subprocess.run(
        command,
        cwd=folder,
        env=env or environment(home),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    if check:
        assert done.returncode == 0, f"{' '.join(command)} exited with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done
