"""The question about pulling: `dvc pull` and ours against `rclone copy` of the same objects from the same server.

The server is rclone's own, on this machine; everything is on a memory file system where there is one. Each round begins
with an empty cache and an empty working tree, and ends with the same bytes in both. rclone is given as many connections
as DVC opens, and no other work: it compares the hashes that the server names, and links nothing into a working tree.
The slow line is a proxy that adds 30 ms to every answer and lets 100 Mbit/s through, in each direction.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from backbeat.cloud.serve import REHEARSAL_KEY_ID, REHEARSAL_SECRET, serve
from backbeat.remote.bucket import CONNECTIONS
from backbeat.remote.credentials import find_credentials
from backbeat.remote.rclone import REMOTE, program, rclone_environment
from backbeat.remote.settings import PLACEHOLDER_BUCKET, load_remote
from bench.downloads import fast_folder, write_random
from bench.material import REPOSITORY
from bench.measure import Result, compare, timed

MIB = 2**20
PROCESSED = "data/processed/egmd"
ROUND_TRIP_MS, MBIT_PER_S = 30, 100

# How many shards, how large, and whether over the slow line. The real set is about a hundred, of up to 48 MiB.
CASES = ((24, 48 * MIB, False), (24, 8 * MIB, False), (24, 8 * MIB, True))

COMMANDS = {"dvc pull": ("dvc", "pull", "--quiet"), "backbeat cloud pull": ("backbeat", "cloud", "pull", "--yes")}


def pulls(folder: Path, runs: int, cases: Iterable[tuple[int, int, bool]] = CASES) -> Iterator[Result]:
    """A processed set from a bucket, over loopback and over a slow line."""
    with fast_folder(folder) as fast:
        for count, shard_bytes, slow in cases:
            case = f"{count} shards of {shard_bytes // MIB} MiB, " + (
                f"{ROUND_TRIP_MS} ms and {MBIT_PER_S} Mbit/s" if slow else "loopback"
            )
            place = fast / case.replace(" ", "-").replace("/", "-").replace(",", "")
            with serve(place / "buckets", (PLACEHOLDER_BUCKET,)) as serving:
                project = _pushed(place / "project", serving.endpoint_url, count, shard_bytes)
                with _line(serving.endpoint_url, slow=slow) as endpoint_url:
                    _point_at(project, endpoint_url)
                    yield from _against_rclone(project, case, min(runs, 3) if slow else runs)
            shutil.rmtree(place)


def _against_rclone(project: Path, case: str, runs: int) -> Iterator[Result]:
    contents = _contents(project / PROCESSED)

    def rclone() -> float:
        copied = project.parent / "copied"
        shutil.rmtree(copied, ignore_errors=True)
        settings = load_remote(project)
        source = f"{REMOTE}:{settings.bucket}/{settings.key('files/md5')}"
        command = [str(program()), "copy", source, str(copied), "--transfers", str(CONNECTIONS)]
        environment = rclone_environment(settings, find_credentials(project, settings))
        elapsed_s = timed(lambda: subprocess.run(command, env=environment, check=True))
        assert set(contents.values()) <= {path.parent.name + path.name for path in copied.rglob("*")}
        return elapsed_s

    for name, command in COMMANDS.items():

        def pull(command: tuple[str, ...] = command) -> float:
            _forget(project)
            elapsed_s = timed(lambda: _run(project, *command))
            assert _contents(project / PROCESSED) == contents
            return elapsed_s

        with _keys():
            yield compare(
                "pull", f"rclone copy; {name}, {case}", pull, rclone, unit="s", bar=1.3, kind="at most", runs=runs
            )


def _contents(folder: Path) -> dict[str, str]:
    """Return the MD5 of each file, which is what its object is called."""
    found = {}
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            found[path.name] = hashlib.file_digest(file, "md5").hexdigest()
    return found


def _pushed(project: Path, endpoint_url: str, count: int, shard_bytes: int) -> Path:
    """Make a project with a folder of random shards, and push it."""
    for name in (".dvc/config", ".dvc/aws-b2.ini", ".dvc/.gitignore", "configs/cloud.yaml", "params.yaml"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, project / name)
    (project / PROCESSED).mkdir(parents=True)
    for number in range(count):
        write_random(project / PROCESSED / f"kit-{number:02d}.h5", shard_bytes)
    _point_at(project, endpoint_url)
    _run(project, "git", "init", "--quiet")
    _run(project, "dvc", "add", "--quiet", PROCESSED)
    _run(project, "dvc", "push", "--quiet")
    return project


def _forget(project: Path) -> None:
    """Make the project a fresh clone: no data, no cache, nothing that DVC remembers."""
    shutil.rmtree(project / PROCESSED, ignore_errors=True)
    shutil.rmtree(project / ".dvc" / "cache", ignore_errors=True)
    shutil.rmtree(project / ".dvc" / "tmp", ignore_errors=True)
    shutil.rmtree(project.parent / "home", ignore_errors=True)


def _point_at(project: Path, endpoint_url: str) -> None:
    (project / ".dvc" / "config.local").write_text(f"['remote \"b2\"']\n    endpointurl = {endpoint_url}\n")


@contextlib.contextmanager
def _line(endpoint_url: str, *, slow: bool) -> Iterator[str]:
    if not slow:
        yield endpoint_url
        return
    # The tests' own; it is not part of the package.
    sys.path.insert(0, str(REPOSITORY / "tests"))
    from s3_proxy import s3_proxy

    with s3_proxy(endpoint_url) as proxy:
        proxy.slow_line(ROUND_TRIP_MS, MBIT_PER_S)
        yield proxy.endpoint_url


@contextlib.contextmanager
def _keys() -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(_variables())
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _variables() -> Mapping[str, str]:
    return {"B2_ACCOUNT_ID": REHEARSAL_KEY_ID, "B2_APPLICATION_KEY": REHEARSAL_SECRET, "NO_PROXY": "127.0.0.1"}


def _run(project: Path, *command: str) -> None:
    home = project.parent / "home"
    home.mkdir(exist_ok=True)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        **_variables(),
        "HOME": str(home),
        "DVC_SITE_CACHE_DIR": str(home / "site"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    subprocess.run(command, cwd=project, env=environment, check=True, capture_output=True)
