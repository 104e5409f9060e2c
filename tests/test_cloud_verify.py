"""Every object on every side: what is wrong is found and named, and healed from a side that is proven."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import backbeat.cloud.proofs as proofs_module
import backbeat.cloud.repair as repair_module
from backbeat.cloud.evict import evict
from backbeat.cloud.pointers import cache_path
from backbeat.cloud.pull import pull
from backbeat.cloud.quarantine import quarantine
from backbeat.cloud.verify import verify
from backbeat.errors import CloudError, StorageError
from backbeat.storage.prune import prune
from backbeat.storage.staging import open_staging
from cloud_world import EXPECTED, MODEL, CloudWorld, in_workspace, needed, oid_of, rot, wrong_objects
from s3_proxy import Fault
from s3_server import REPOSITORY, run

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
    # Lists are few, and everything else depends on them.
    assert (verify(project).wrong, [file for file in hashed if file.suffix != ".dir"]) == ((), [])
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


def staged(project: Path, content: bytes) -> Path:
    """Put into the workspace what a stage leaves before DVC commits: a link into the staging store."""
    entry = open_staging(project).entry("models", "ab" * 32, ".bin")
    entry.parent.mkdir(parents=True)
    entry.write_bytes(content)
    (project / KIT).unlink()
    (project / KIT).symlink_to(entry)
    return entry


def test_work_that_was_not_committed_survives_repair_and_prune(world: CloudWorld, tmp_path: Path) -> None:
    project = world.pushed_repository(tmp_path / "a")
    entry = staged(project, b"a day of training")
    # Something else to heal, so that nothing is left out for the sake of the link.
    (project / "model.bin").unlink()
    assert [(one.path, one.workspace) for one in verify(project).wrong] == [(KIT, "changed"), ("model.bin", "missing")]
    with pytest.raises(CloudError, match="changed in the workspace") as refused:
        pull(project)
    assert str(refused.value.next_step).startswith("to keep it: dvc commit")
    healed = verify(project, repair=True)
    assert [(one.path, one.workspace) for one in healed.wrong] == [(KIT, "changed")]
    assert (healed.quarantined, str(healed.obstacle).split(":")[0]) == ((), "changed in the workspace")
    prune(project)
    assert ((project / KIT).readlink(), entry.read_bytes()) == (entry, b"a day of training")
    assert (project / "model.bin").read_bytes() == MODEL


def test_quarantine_takes_bytes_never_a_link_to_them(world: CloudWorld, tmp_path: Path) -> None:
    project = world.repository(tmp_path / "a")
    staged(project, b"a day of training")
    for place in (project / KIT, project / "data/kits"):
        with pytest.raises(StorageError, match=r"a\.h5 is a link"):
            quarantine(project, place)
    assert (project / KIT).is_symlink()


@pytest.mark.parametrize("is_staged", [False, True])
def test_healing_from_the_workspace_stores_nothing_twice(world: CloudWorld, tmp_path: Path, is_staged: bool) -> None:
    project = world.repository(tmp_path / "a")
    only_a_copy_in_the_workspace(world, project)
    only = staged(project, EXPECTED[KIT]) if is_staged else project / KIT
    assert verify(project, repair=True).wrong == ()
    assert only.samefile(cache_path(project, A))
    assert (project / KIT).samefile(cache_path(project, A))
    assert cache_path(project, A).stat().st_mode & 0o777 == 0o444


def test_file_with_another_name_elsewhere_is_copied_and_stays_writable(world: CloudWorld, tmp_path: Path) -> None:
    project = world.repository(tmp_path / "a")
    only_a_copy_in_the_workspace(world, project)
    mine = tmp_path / "mine.h5"
    mine.hardlink_to(project / KIT)
    mine.chmod(0o644)
    assert verify(project, repair=True).wrong == ()
    assert mine.stat().st_mode & 0o777 == 0o644
    assert not mine.samefile(cache_path(project, A))
    assert (project / KIT).samefile(cache_path(project, A))


def limited(project: Path, **budgets: float) -> None:
    (project / "configs").mkdir(exist_ok=True)
    told = yaml.safe_load((REPOSITORY / "configs/cloud.yaml").read_text())
    told["budgets"] |= budgets
    (project / "configs/cloud.yaml").write_text(yaml.safe_dump(told))


def test_repair_and_reading_everything_keep_to_the_budgets(world: CloudWorld, tmp_path: Path) -> None:
    project = world.pushed_repository(tmp_path / "a")
    limited(project, pull_gb=1e-6, push_gb=1e-6)
    world.proxy.forget()
    with pytest.raises(CloudError, match="to pull 9 objects would exceed a budget"):
        verify(project, remote=True, full=True)
    world.delete(project, A)
    with pytest.raises(CloudError, match="to push 1 objects would exceed a budget"):
        verify(project, remote=True, repair=True)
    rot(project, oid_of(MODEL))
    world.proxy.forget()
    with pytest.raises(CloudError, match="to pull 1 objects would exceed a budget"):
        verify(project, repair=True)
    # Before the first byte, and before anything is put aside.
    assert world.proxy.counts["PUT"] == 0
    assert A not in world.stored(project)
    assert not (cache_path(project, A).parents[3] / "quarantine").exists()


def test_repair_asks_first_and_moves_nothing_without_agreement(
    world: CloudWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = world.pushed_repository(tmp_path / "a")
    rot(project, oid_of(MODEL))
    world.delete(project, A)
    asked: list[tuple[str, int]] = []
    declined = verify(
        project,
        remote=True,
        repair=True,
        agree=lambda bill: (
            not asked.append((bill.direction, bill.to_move))  # type: ignore[func-returns-value]
            and bill.direction == "pull"
        ),
    )
    assert (declined.was_declined, asked, len(declined.wrong)) == (True, [("pull", 1), ("push", 1)], 2)
    assert A not in world.stored(project)
    assert len(wrong_objects(project)) == 1
    monkeypatch.setattr(repair_module, "require_space", refuse)
    with pytest.raises(StorageError, match="no room"):
        verify(project, remote=True, repair=True)
    assert len(wrong_objects(project)) == 1


def refuse(*_: object) -> None:
    raise StorageError("no room")


def test_what_was_never_made_is_not_right(world: CloudWorld, tmp_path: Path) -> None:
    project = world.repository(tmp_path / "a")
    for pointer in ("data/kits.dvc", "data/pair.dvc", "model.bin.dvc"):
        (project / pointer).unlink()
    (project / "dvc.yaml").write_text("stages:\n  train:\n    cmd: 'true'\n    outs: [models]\n")
    found = run(project, "backbeat", "verify", check=False)
    assert found.returncode == 1
    assert "never made" in found.stdout
    assert "0 right; 0 wrong; 1 never made" in found.stdout
    assert "next: dvc repro train" in found.stderr


def test_files_that_no_list_has_are_named_and_nothing_more(world: CloudWorld, tmp_path: Path) -> None:
    project = world.repository(tmp_path / "a")
    (project / "data/kits/more/mine.txt").write_text("mine")
    (project / "data/kits/link").symlink_to(tmp_path)
    found = run(project, "backbeat", "verify")
    assert found.stderr.splitlines()[-2:] == ["not versioned: data/kits/link", "not versioned: data/kits/more/mine.txt"]
    assert "9 right; 0 wrong" in found.stdout


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
