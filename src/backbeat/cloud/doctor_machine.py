"""What `backbeat doctor` looks at on any machine: Python, the lock, disks, secrets in tracked files, FUSE, the GPU."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from configobj import ConfigObj, ConfigObjError, Section  # type: ignore[import-untyped,unused-ignore]
from packaging.specifiers import SpecifierSet
from rich.filesize import decimal

from backbeat.cloud.examination import Line
from backbeat.storage.disk import place_of, same_filesystem
from backbeat.storage.staging import SPARE_BYTES, cache_dir

LOCK_FILE = "requirements.lock"

# Those whose versions change what the commands do; the facts in the documents are about these.
PINNED = ("dvc", "dvc-s3", "botocore", "torch")

# Less than one archive of the smaller datasets.
LITTLE_ROOM_BYTES = 5 * 10**9

# Options of DVC's that are secrets, of every kind of remote.
SECRET_OPTIONS = frozenset(
    {
        "access_key_id", "secret_access_key", "session_token", "sse_customer_key", "password", "token", "account_key",
        "connection_string", "sas_token", "client_secret", "oss_key_id", "oss_key_secret", "gdrive_client_secret",
    }
)  # fmt: skip

SECRET_FILES = (".env", ".dvc/config.local")

_GPU_SCRIPT = """\
import torch
if torch.cuda.is_available():
    print(", ".join(torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())))
elif torch.backends.mps.is_available():
    print("Apple GPU")
"""


def python() -> Iterator[Line]:
    """Is this a Python that the package was made for?"""
    wanted = importlib.metadata.metadata("backbeat")["Requires-Python"]
    version = platform.python_version()
    right = wanted is None or SpecifierSet(wanted).contains(version)
    step = None if right else f"make clean, then make setup PYTHON=… with one that is {wanted}"
    yield Line("python", "ok" if right else "fails", f"{version} in {sys.prefix}", step)


def lock(project: Path) -> Iterator[Line]:
    """Are the packages that matter most of the versions that the lock names?"""
    path = project / LOCK_FILE
    if not path.is_file():
        yield Line("packages", "ok", f"there is no {LOCK_FILE} to compare with")
        return
    pinned = dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", path.read_text(encoding="utf-8"), flags=re.MULTILINE))
    installed = {name: version for name in PINNED if (version := _installed(name))}
    others = [
        f"{name} is {version}, locked {pinned[name]}"
        for name, version in installed.items()
        if name in pinned and version != pinned[name]
    ]
    if others:
        yield Line("packages", "warning", "; ".join(others), "make setup")
    else:
        yield Line("packages", "ok", f"as locked: {', '.join(f'{name} {is_}' for name, is_ in installed.items())}")


def disks(project: Path) -> Iterator[Line]:
    """Which disks are code and data on, and is there room?"""
    cache = cache_dir(project)
    apart = not same_filesystem(cache, project)
    for name, path in (("disk of the code", project), ("disk of the data", cache)) if apart else (("disk", cache),):
        place = place_of(path)
        room = f"{decimal(place.free_bytes)} free of {decimal(place.total_bytes)}"
        found = f"{room}, {place.filesystem} at {place.mount_point}"
        if place.free_bytes < SPARE_BYTES:
            yield Line(name, "fails", found, "make room: backbeat storage prune, backbeat datasets prune")
        elif place.free_bytes < LITTLE_ROOM_BYTES:
            yield Line(name, "warning", found, "make room: backbeat storage prune; or backbeat storage setup --disk …")
        else:
            yield Line(name, "ok", found)


def secrets(project: Path) -> Iterator[Line]:
    """Are there keys in files that Git tracks?"""
    found = [f"{option} in .dvc/config" for option in _secret_options(project / ".dvc" / "config")]
    found += [f"{name} is tracked by Git" for name in _tracked(project, SECRET_FILES)]
    if found:
        step = "move it to .dvc/config.local (dvc remote modify --local …), git rm --cached the file, make a new key"
        yield Line("secrets", "fails", "; ".join(found), f"{step}: what was committed is known")
    else:
        yield Line("secrets", "ok", f"none in .dvc/config; {' and '.join(SECRET_FILES)} are not tracked")


def fuse() -> Iterator[Line]:
    """Can a bucket be mounted here?"""
    device, program = Path("/dev/fuse"), shutil.which("fusermount3") or shutil.which("fusermount")
    missing = [] if os.access(device, os.R_OK | os.W_OK) else [f"{device} cannot be opened"]
    missing += [] if program else ["fusermount3 is not installed"]
    if missing:
        step = "only mounting needs it, pulling does not: apt-get install fuse3, and --device /dev/fuse for a container"
        yield Line("FUSE", "warning", "; ".join(missing), step)
    else:
        yield Line("FUSE", "ok", f"{device} and {program}")


def gpu() -> Iterator[Line]:
    """What will training run on?"""
    if _installed("torch") is None:
        yield Line("GPU", "ok", "PyTorch is not installed: this machine fetches and verifies, and does not train")
        return
    # In a process of its own: it takes seconds and hundreds of megabytes, and a broken driver can hang or crash it.
    asked = subprocess.run([sys.executable, "-c", _GPU_SCRIPT], capture_output=True, text=True, check=False, timeout=25)
    if asked.returncode:
        last = (asked.stderr.strip().splitlines() or [f"exit code {asked.returncode}"])[-1]
        yield Line("GPU", "warning", f"PyTorch cannot be asked: {last}", "make clean setup")
    else:
        yield Line("GPU", "ok", asked.stdout.strip() or "none that PyTorch can use: training runs on the processor")


def _installed(name: str) -> str | None:
    """Return the version without the build (`2.11.0+cpu`), or None."""
    try:
        return importlib.metadata.version(name).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return None


def _secret_options(path: Path) -> list[str]:
    found: list[str] = []

    def note(section: Section, key: str) -> None:
        if key in SECRET_OPTIONS and section[key]:
            found.append(key)

    try:
        ConfigObj(str(path)).walk(note)
    except ConfigObjError:
        # Which line is wrong is what every other check that reads it says.
        found.clear()
    return sorted(found)


def _tracked(project: Path, names: tuple[str, ...]) -> list[str]:
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--", *names],
            cwd=project,
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )
    except FileNotFoundError:
        return []
    return [name for name in listed.stdout.split("\0") if name]
