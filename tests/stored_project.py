"""A project of one cheap stage through the staging store, made by a real `dvc repro`, and second disks for it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
REPOSITORY = Path(__file__).parents[1]
PROCESSED = "data/processed/small"
RAW = "data/raw/small/small.zip"
MODEL = "models/model.safetensors"
IGNORED = "/data/processed/\n/data/raw/\n/models/\n/.env.storage\n"

# Shards of more than 1 MB, a model, and a raw archive that is only linked, as the real stages make them.
STAGE = """
import random, sys
from pathlib import Path
from backbeat.provenance import digest_of
from backbeat.storage.staging import link_folder, new_file, open_staging

def staged(kind, name, size_bytes, suffix):
    entry = open_staging(Path.cwd()).entry(kind, digest_of(name), suffix)
    if not entry.exists():
        with new_file(entry) as part:
            part.write_bytes(random.Random(name).randbytes(size_bytes))
    return entry

version = Path("version.txt").read_text().strip()
shards = {f"train/kit-{kit:02}.h5": staged("shards", f"kit {kit}", 1_100_000 + kit, ".h5") for kit in (1, 2, 3)}
shards["test/kit-01.h5"] = staged("shards", f"test {version}", 1_200_000, ".h5")
link_folder(Path("data/processed/small"), shards)
link_folder(Path("models"), {"model.safetensors": staged("models", f"model {version}", 300_000, ".safetensors")})
link_folder(Path("data/raw/small"), {"small.zip": staged("raw", "raw", 1_500_000, ".zip")})
"""

PIPELINE = """
stages:
  preprocess:
    cmd: python stage.py
    deps:
      - stage.py
      - version.txt
    outs:
      - data/processed/small
      - models
"""


def isolate(home: Path) -> dict[str, str]:
    """Return the variables that keep DVC and Git within `home`."""
    folders = {"HOME": "home", "DVC_SITE_CACHE_DIR": "site", "DVC_GLOBAL_CONFIG_DIR": "global",
               "DVC_SYSTEM_CONFIG_DIR": "system"}  # fmt: skip
    for folder in folders.values():
        (home / folder).mkdir(parents=True, exist_ok=True)
    return {name: str(home / folder) for name, folder in folders.items()} | {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
        "COLUMNS": "80",
        **dict.fromkeys(("XDG_CACHE_HOME", "HF_HOME", "HF_TOKEN_PATH", "TORCH_HOME", "RCLONE_CACHE_DIR"), ""),
    }


def run(project: Path, *command: str, check: bool = True) -> str:
    """Run a command in the project; returns what it prints, errors included."""
    done = subprocess.run(
        command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0 or not check, done.stdout
    return done.stdout


def make(folder: Path) -> Path:
    """Make the project and run its pipeline, with the cache in it."""
    folder.mkdir(parents=True)
    shutil.copy(REPOSITORY / "params.yaml", folder)
    for name, content in {
        ".gitignore": IGNORED, "stage.py": STAGE, "dvc.yaml": PIPELINE, "version.txt": "1\n", "notes.md": "mine\n"
    }.items():  # fmt: skip
        (folder / name).write_text(content)
    run(folder, "git", "init", "-q")
    run(folder, "dvc", "init", "-q")
    run(folder, "dvc", "config", "cache.type", "hardlink,symlink")
    run(folder, "dvc", "repro", "-q")
    commit(folder)
    return folder


def commit(project: Path) -> None:
    run(project, "git", "add", "-A")
    run(project, "git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "state")


def copy_of(template: Path, folder: Path) -> Path:
    """Copy a project with its hard links; links that lead into the old one lead into the new one."""
    subprocess.run(["cp", "-a", template, folder], check=True)
    for path in (folder / "data").rglob("*"):
        if path.is_symlink():
            leads_to = str(path.readlink()).replace(str(template), str(folder))
            path.unlink()
            path.symlink_to(leads_to)
    return folder


def content(project: Path) -> dict[str, str]:
    """Return what can be read in the working tree's data: name -> MD5. A link that leads nowhere is an error."""
    return {
        path.relative_to(project).as_posix(): hashlib.md5(path.read_bytes()).hexdigest()
        for folder in ("data", "models")
        for path in sorted((project / folder).rglob("*"))
        if not path.is_dir()
    }


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


@contextlib.contextmanager
def disk(folder: Path, size_bytes: int = 200 * 2**20) -> Iterator[Path]:
    """A second file system, on a loop mount; skips where that is not allowed."""
    image, place = folder / "disk.img", folder / "disk"
    place.mkdir(parents=True)
    with image.open("wb") as stream:
        stream.truncate(size_bytes)
    if shutil.which("mkfs.ext4") is None or subprocess.run(["mkfs.ext4", "-q", image], check=False).returncode:
        pytest.skip("no mkfs.ext4 to make a second file system with")
    with mounted(place, "-o", "loop", str(image)):
        yield place


@contextlib.contextmanager
def memory_disk(place: Path, size_bytes: int) -> Iterator[Path]:
    """A second file system in memory, which can be made larger; skips where that is not allowed."""
    place.mkdir(parents=True)
    with mounted(place, "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs"):
        yield place


@contextlib.contextmanager
def mounted(place: Path, *how: str) -> Iterator[Path]:
    if subprocess.run(["mount", *how, place], capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a second file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)
