"""Every object on every side: what is wrong is found and named, and healed from a side that is proven."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import backbeat.cloud.proofs as proofs_module
from backbeat.cloud.bucket_objects import proven_in_remote
from backbeat.cloud.evict import evict
from backbeat.cloud.pointers import cache_path
from backbeat.cloud.pull import pull
from backbeat.cloud.verify import verify
from cloud_world import EXPECTED, MODEL, CloudWorld, in_workspace, needed, oid_of, rot, wrong_objects
from s3_proxy import Fault
from s3_server import run

A = oid_of(EXPECTED["data/kits/a.h5"])
KIT = "data/kits/a.h5"

Fate = Callable[[CloudWorld, Path], None]


def test_what_is_right_is_said_to_be_and_is_hashed_once(
    world: CloudWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = world.pushed_repository(tmp_path / "a")
    found = verify(project, remote=True)
    assert (len(found.checked), found.wrong) == (9, ())
    hashed = []
    original = proofs_module.md5_of
    monkeypatch.setattr(proofs_module, "md5_of", lambda file: hashed.append(file) or original(file))
    assert (verify(project).wrong, hashed) == ((), [])
    assert (verify(project, full=True).wrong, len(hashed) >= 9) == ((), True)


def test_change_is_noticed_without_full(world: CloudWorld, tmp_path: Path) -> None:
    project = world.repository(tmp_path / "a")
    assert verify(project).wrong == ()
    rot(project, A)
    assert [(one.path, one.cache) for one in verify(project).wrong] == [(KIT, "damaged")]


def test_fresh_clone_is_not_right_and_repair_brings_everything(world: CloudWorld, tmp_path: Path) -> None:
    clone = world.clone(world.pushed_repository(tmp_path / "a"), tmp_path / "b")
    assert {(one.path, one.cache) for one in verify(clone).wrong} == {
        ("data/kits", "missing"),
        ("data/pair", "missing"),
        ("model.bin", "missing"),
    }
    assert verify(clone, remote=True, repair=True).wrong == ()
    assert in_workspace(clone) == EXPECTED


def rotten(world: CloudWorld, project: Path) -> None:
    rot(project, A)


def gone_from_the_cache(world: CloudWorld, project: Path) -> None:
    cache_path(project, A).unlink()
    (project / KIT).unlink()


def only_a_copy_in_the_workspace(world: CloudWorld, project: Path) -> None:
    (project / KIT).unlink()
    (project / KIT).write_bytes(EXPECTED[KIT])
    cache_path(project, A).unlink()
    world.delete(project, A)


def list_gone_from_the_cache(world: CloudWorld, project: Path) -> None:
    cache_path(project, needed(project)["data/kits"].oid).unlink()


def dangling_link(world: CloudWorld, project: Path) -> None:
    (project / KIT).unlink()
    (project / KIT).symlink_to("/nowhere/at/all")


def changed_in_the_workspace(world: CloudWorld, project: Path) -> None:
    (project / KIT).unlink()
    (project / KIT).write_bytes(b"not in any pointer")


def gone_from_the_bucket(world: CloudWorld, project: Path) -> None:
    world.delete(project, A)


def damaged_in_the_bucket(world: CloudWorld, project: Path) -> None:
    world.put(project, A, b"damage")


def list_gone_from_the_bucket(world: CloudWorld, project: Path) -> None:
    world.delete(project, needed(project)["data/kits"].oid)


@pytest.mark.parametrize(
    "fate",
    [
        rotten,
        gone_from_the_cache,
        only_a_copy_in_the_workspace,
        list_gone_from_the_cache,
        dangling_link,
        changed_in_the_workspace,
        gone_from_the_bucket,
        damaged_in_the_bucket,
        list_gone_from_the_bucket,
    ],
)
def test_what_is_wrong_on_one_side_is_found_and_healed_from_the_other(
    fate: Fate, world: CloudWorld, tmp_path: Path
) -> None:
    project = world.pushed_repository(tmp_path / "a")
    wanted = {one.oid: one.md5_hex for one in needed(project).values()}
    fate(world, project)
    assert {one.path for one in verify(project, remote=True).wrong} in ({KIT}, {"data/kits"})
    healed = verify(project, remote=True, repair=True)
    assert (healed.wrong, {one.path for one in healed.repaired}) in (((), {KIT}), ((), {"data/kits"}))
    assert (world.stored(project), in_workspace(project), wrong_objects(project)) == (wanted, EXPECTED, [])
    kept = list((cache_path(project, A).parents[3] / "quarantine").glob("*"))
    assert len(kept) == (fate in {rotten, changed_in_the_workspace})


def test_nothing_is_healed_from_what_is_not_proven(world: CloudWorld, tmp_path: Path) -> None:
    project = world.pushed_repository(tmp_path / "a")
    rot(project, A)
    shutil.rmtree(project / "data/kits")
    world.put(project, A, b"damage")
    found = verify(project, ["kits"], remote=True, repair=True)
    assert [(one.path, one.cache, one.bucket) for one in found.wrong if one.path == KIT] == [
        (KIT, "missing", "damaged")
    ]
    assert world.stored(project)[A] == oid_of(b"damage")
    assert wrong_objects(project) == []


def test_silent_rot_in_the_bucket_is_found_by_reading_all_of_it(world: CloudWorld, tmp_path: Path) -> None:
    project = world.pushed_repository(tmp_path / "a")
    world.proxy.spoil(Fault(flip_at=3), "GET", key=A[2:])
    assert verify(project, remote=True).wrong == ()
    assert [(one.path, one.bucket) for one in verify(project, remote=True, full=True).wrong] == [(KIT, "damaged")]


def test_what_is_proven_in_the_bucket_is_what_is_whole(world: CloudWorld, tmp_path: Path) -> None:
    project = world.pushed_repository(tmp_path / "a")
    world.put(project, A, b"damage")
    world.delete(project, oid_of(MODEL))
    every = {one.oid for one in needed(project).values()}
    assert proven_in_remote(project, every, world.bucket(project)) == every - {A, oid_of(MODEL)}
    assert proven_in_remote(project, [A], world.bucket(project)) == set()


def test_key_that_may_not_delete_loses_nothing(world: CloudWorld, tmp_path: Path) -> None:
    project = world.pushed_repository(tmp_path / "a")
    before = world.stored(project)
    world.proxy.refused = {"DELETE", "POST"}
    # A mistake: the pointer is gone, and everything that nothing points to is to go from the bucket, too.
    (project / "model.bin.dvc").rename(tmp_path / "model.bin.dvc")
    assert run(project, "dvc", "gc", "--workspace", "--cloud", "--force", check=False).returncode != 0
    (tmp_path / "model.bin.dvc").rename(project / "model.bin.dvc")
    world.proxy.heal()
    assert world.stored(project) == before
    evict(project, world.bucket(project))
    assert not cache_path(project, A).exists()
    pull(project)
    assert in_workspace(project) == EXPECTED


def test_command_exits_with_one_and_names_what_is_wrong(world: CloudWorld, tmp_path: Path) -> None:
    project = world.pushed_repository(tmp_path / "a")
    world.delete(project, A)
    (project / "data/raw/kits").mkdir(parents=True)
    (project / "data/raw/kits/kits.zip").symlink_to("/nowhere/staging/raw/ab/abc.zip")
    found = run(project, "backbeat", "verify", "--remote", "--json", check=False)
    answer = json.loads(found.stdout)
    rows = {row["path"]: row for row in answer["checked"] if not row["is_right"]}
    assert (found.returncode, list(rows), rows[KIT]["bucket"]) == (1, [KIT], "missing")
    assert answer["dangling"] == ["data/raw/kits/kits.zip"]
    assert "next: backbeat verify --remote --repair" in found.stderr
