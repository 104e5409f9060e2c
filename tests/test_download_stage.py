"""The download stage under DVC itself: what it leaves, and which edit of a record makes it run again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from one_dataset import BODY

PROJECT = Path(__file__).parents[1]
STAGE = "data/dvc.yaml:download@egmd_mini"
RECORD = "configs/datasets/egmd_mini.yaml"


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository's data part whose `egmd_mini` is a file beside it, downloaded once."""
    clone = tmp_path_factory.mktemp("clone") / "repository"
    shutil.copytree(PROJECT / "configs", clone / "configs")
    (clone / "data").mkdir()
    shutil.copy(PROJECT / "data" / "dvc.yaml", clone / "data" / "dvc.yaml")
    shutil.copy(PROJECT / ".gitignore", clone / ".gitignore")
    (clone / "params.yaml").touch()
    (clone.parent / "own.zip").write_bytes(BODY)
    record = yaml.safe_load((clone / RECORD).read_text(encoding="utf-8"))
    record["files"][0] |= {"urls": [f"file://{clone.parent}/own.zip"], "size": len(BODY), "hash": "unverified"}
    (clone / RECORD).write_text(yaml.safe_dump(record, sort_keys=False), encoding="utf-8")
    subprocess.run(["git", "init", "--quiet", clone], check=True)
    dvc(clone, "init", "--quiet")
    dvc(clone, "config", "cache.type", "hardlink,symlink")
    dvc(clone, "cache", "dir", "--local", str(clone.parent / "disk" / "cache"))
    dvc(clone, "repro", STAGE)
    return clone


@pytest.fixture
def edited(clone: Path) -> Iterator[Path]:
    """The same, for tests that edit the record: it is put back afterward."""
    before = (clone / RECORD).read_text(encoding="utf-8")
    yield clone
    (clone / RECORD).write_text(before, encoding="utf-8")


def dvc(clone: Path, *arguments: str) -> str:
    """Run DVC in the clone with the commands of this environment; return what it prints."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(clone.parent / "site")}
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=clone,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def edit(clone: Path, old: str, new: str) -> None:
    text = (clone / RECORD).read_text(encoding="utf-8")
    assert old in text
    (clone / RECORD).write_text(text.replace(old, new), encoding="utf-8")


def test_raw_folder_links_into_the_staging_store_on_the_disk_of_the_cache(clone: Path) -> None:
    link = clone / "data/raw/egmd_mini/e-gmd-mini.zip"
    assert link.readlink().is_relative_to(clone.parent / "disk/cache/staging/raw")


def test_raw_data_is_not_in_the_cache_of_dvc(clone: Path) -> None:
    assert not (clone.parent / "disk/cache/files").exists()


def test_second_run_does_nothing(clone: Path) -> None:
    assert "didn't change, skipping" in dvc(clone, "repro", STAGE)


def test_editing_the_license_leaves_the_stage_as_it_is(edited: Path) -> None:
    edit(edited, "CC0-1.0", "CC-BY-4.0")
    assert "up to date" in dvc(edited, "status", STAGE)


def test_editing_an_address_asks_for_a_download(edited: Path) -> None:
    edit(edited, "own.zip", "another.zip")
    assert "modified:           files" in dvc(edited, "status", STAGE)


def test_running_the_stage_anew_keeps_the_staged_file(clone: Path) -> None:
    dvc(clone, "repro", "--force", "--single-item", STAGE)
    assert (clone / "data/raw/egmd_mini/e-gmd-mini.zip").read_bytes() == BODY
