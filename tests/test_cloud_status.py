"""Of each artifact, how much is here and how much is in the bucket."""

from __future__ import annotations

from pathlib import Path

import pytest

from backbeat.cloud.pointers import cache_path
from backbeat.cloud.status import status
from backbeat.errors import CloudError
from cloud_world import EXPECTED, FILE_BYTES, MODEL, CloudWorld, needed, oid_of
from s3_server import environment, run

A = oid_of(EXPECTED["data/kits/a.h5"])


def test_all_part_and_none_are_told_apart(world: CloudWorld, tmp_path: Path) -> None:
    project = world.pushed_repository(tmp_path / "a")
    world.delete(project, A)
    world.put(project, oid_of(MODEL), b"damage")
    cache_path(project, oid_of(EXPECTED["data/pair/one"])).unlink()
    found = {one.path: one for one in status(project)}
    assert {path: (one.here, one.pushed) for path, one in found.items()} == {
        "data/kits": ("all", "part"),
        "data/pair": ("part", "all"),
        "model.bin": ("all", "none"),
    }
    kits = found["data/kits"]
    assert (kits.objects, kits.pushed_objects, kits.here_bytes - kits.pushed_bytes) == (5, 4, FILE_BYTES)


def test_fresh_clone_knows_what_is_in_the_bucket(world: CloudWorld, tmp_path: Path) -> None:
    clone = world.clone(world.pushed_repository(tmp_path / "a"), tmp_path / "b")
    assert {(one.here, one.pushed) for one in status(clone)} == {("none", "all")}


def test_list_that_is_nowhere_leaves_an_artifact_that_is_not_there(world: CloudWorld, tmp_path: Path) -> None:
    project = world.pushed_repository(tmp_path / "a")
    listing = needed(project)["data/kits"].oid
    clone = world.clone(project, tmp_path / "b")
    world.delete(project, listing)
    assert [(one.here, one.pushed) for one in status(clone, ["kits"])] == [("none", "none")]


def test_target_that_means_nothing_is_an_error(world: CloudWorld, tmp_path: Path) -> None:
    with pytest.raises(CloudError, match="no versioned artifact is called nonsense"):
        status(world.repository(tmp_path / "a"), ["nonsense"])


def test_table_fits_into_80_columns(world: CloudWorld, tmp_path: Path) -> None:
    project = world.pushed_repository(tmp_path / "a")
    world.delete(project, A)
    shown = run(project, "backbeat", "cloud", "status", env=environment(tmp_path / "home", {"COLUMNS": "80"})).stdout
    assert max(map(len, shown.splitlines())) <= 80
    assert "4 (60" in shown
