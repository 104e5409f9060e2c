"""What is where: sizes that add up, what is linked, what is there twice, and what is said without a remote."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import stored_project
from backbeat.storage import status as status_module
from backbeat.storage.disk import examine, place_of
from backbeat.storage.setup import plan, set_up
from backbeat.storage.status import Tier, status
from stored_project import PROCESSED, RAW, copy_of, files_of, run


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in stored_project.isolate(tmp_path_factory.mktemp("home")).items():
            patch.setenv(name, value)
        yield stored_project.make(tmp_path_factory.mktemp("template") / "project")


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Path:
    return copy_of(template, tmp_path / "project")


def tier(project: Path, name: str) -> Tier:
    (found,) = [one for one in status(project).tiers if one.name == name]
    return found


def size(*folders: Path) -> int:
    return sum(path.stat().st_size for folder in folders for path in files_of(folder))


def test_tiers_have_the_sizes_of_their_folders(project: Path) -> None:
    staging, objects = project / ".dvc/cache/staging", project / ".dvc/cache/files"
    for kind in ("raw", "shards", "models"):
        assert tier(project, f"staging {kind}").size_bytes == size(staging / kind)
    assert tier(project, "DVC cache").size_bytes == size(objects, project / ".dvc/cache/runs")


def test_linked_files_are_no_bytes_of_the_working_tree(project: Path) -> None:
    tree = tier(project, "working tree")
    assert tree.size_bytes < 20_000
    shards, model = size(project / ".dvc/cache/staging/shards"), size(project / ".dvc/cache/staging/models")
    assert tree.linked_bytes == shards + model + (project / RAW).stat().st_size
    assert tier(project, "staging shards").linked_bytes == shards
    assert tier(project, "staging raw").linked_bytes == 0


def test_together_each_file_counts_once(project: Path) -> None:
    once = {path.stat().st_ino: path.stat().st_size for path in files_of(project / ".dvc/cache")}
    assert status(project).once_bytes == sum(once.values()) + tier(project, "working tree").size_bytes


def test_copy_of_a_cache_object_is_there_twice(project: Path) -> None:
    assert status(project).twice == ()
    shard = project / PROCESSED / "train/kit-01.h5"
    shutil.copy(shard, project / "copied.h5")
    (twice,) = status(project).twice
    assert twice.size_bytes == shard.stat().st_size
    assert twice.paths[-1] == str(project / "copied.h5")
    assert tier(project, "working tree").twice_bytes == shard.stat().st_size
    assert tier(project, "DVC cache").twice_bytes == 0


def test_files_of_one_size_and_beginning_are_not_there_twice(project: Path) -> None:
    for name in ("a.bin", "b.bin"):
        (project / name).write_bytes(b"0" * 200_000 + name.encode())
    assert status(project).twice == ()


def test_after_a_move_the_tiers_are_on_the_other_file_system(project: Path, tmp_path: Path) -> None:
    with stored_project.memory_disk(tmp_path / "hdd", 200 * 2**20) as hdd:
        set_up(project, plan(project, hdd / "bb", measure=False))
        cache = tier(project, "DVC cache")
        assert (cache.place.mount_point, cache.place.filesystem) == (str(hdd), "tmpfs")
        assert tier(project, "working tree").place.mount_point != str(hdd)
        assert tier(project, "working tree").size_bytes < 20_000
        assert tier(project, "HF_HOME").where == str(hdd / "bb/caches/huggingface")


def test_cache_of_another_program_is_counted_once(project: Path, tmp_path: Path, monkeypatch: Any) -> None:
    outer = tmp_path / "cache"
    (outer / "hub").mkdir(parents=True)
    (outer / "hub/model.bin").write_bytes(b"m" * 1_000)
    (outer / "other.bin").write_bytes(b"o" * 10)
    monkeypatch.setenv("XDG_CACHE_HOME", str(outer))
    monkeypatch.setenv("HF_HOME", str(outer / "hub"))
    assert tier(project, "HF_HOME").size_bytes == 1_000
    assert tier(project, "XDG_CACHE_HOME").size_bytes == 10


def test_without_a_remote_artifacts_are_unknown_with_the_reason(project: Path) -> None:
    shown = json.loads(run(project, "sh", "-c", "backbeat storage status --json 2>/dev/null"))
    assert {one["path"]: (one["here"], one["safety"]) for one in shown["artifacts"]} == {
        PROCESSED: ("linked", "unknown"),
        "models": ("linked", "unknown"),
    }
    assert "remote" in shown["why_unknown"]


def test_table_fits_into_80_columns(project: Path) -> None:
    shown = run(project, "sh", "-c", "backbeat storage status --no-remote 2>/dev/null")
    assert max(map(len, shown.splitlines())) <= 80
    for word in ("working tree", "DVC cache", "staging shards", PROCESSED, "linked", "unknown"):
        assert word in shown


def test_disk_is_described_as_it_is(project: Path, tmp_path: Path) -> None:
    with stored_project.disk(tmp_path, 400 * 2**20) as hdd:
        found = examine(hdd / "bb", project)
        assert (found.place.mount_point, found.place.filesystem) == (str(hdd), "ext4")
        assert found.other_than_project
        assert (found.read_bytes_per_s or 0) > 0
        assert list((hdd / "bb").iterdir()) == []
        assert place_of(hdd / "not/there/yet").mount_point == str(hdd)


def test_disk_with_little_room_is_not_measured(project: Path, tmp_path: Path) -> None:
    with stored_project.memory_disk(tmp_path / "hdd", 100 * 2**20) as hdd:
        found = examine(hdd / "bb", project)
        assert (found.read_bytes_per_s, found.note) == (None, "not measured: there is little room")


def test_small_files_are_not_compared(project: Path) -> None:
    for name in ("a", "b"):
        (project / name).write_bytes(b"x" * (status_module.DUPLICATE_BYTES - 1))
    assert status(project).twice == ()
