"""A pull after which cache and workspace are proven; beside it what DVC alone does, to notice a better DVC."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

import backbeat.cloud.dvc_program as dvc_program
import backbeat.cloud.pull as pull_module
from backbeat.cloud.pointers import cache_path
from backbeat.cloud.pull import pull
from backbeat.cloud.push import push
from backbeat.errors import BackbeatError, CloudError
from backbeat.storage.exclusive import exclusive
from cloud_world import (
    EXPECTED,
    FILE_BYTES,
    MODEL,
    CloudWorld,
    in_workspace,
    needed,
    oid_of,
    rot,
    wrong_objects,
)
from s3_proxy import Fault
from s3_server import run

ONE, TWO = (oid_of(EXPECTED[f"data/pair/{name}"]) for name in ("one", "two"))
A = oid_of(EXPECTED["data/kits/a.h5"])

# DVC goes on where it was cut, five times.
CUT_SHORT = Fault(then="close", after=1000)

# Of a race that plain DVC loses more often than not.
MOST_TRIES = 6


def set_up(world: CloudWorld, tmp_path: Path) -> tuple[Path, Path]:
    """Return a repository with everything in the bucket, and a fresh clone."""
    project = world.pushed_repository(tmp_path / "a")
    clone = world.clone(project, tmp_path / "b")
    return project, clone


def unverified(world: CloudWorld, clone: Path) -> None:
    """Be a clone in which somebody has switched verification off."""
    local = clone / ".dvc/config.local"
    local.write_text(f"{local.read_text()}    verify = false\n")


def patience(project: Path, idle_timeout_s: float) -> None:
    policy = project / "configs/cloud.yaml"
    text = policy.read_text()
    assert "idle_timeout_s: 120 " in text
    policy.write_text(text.replace("idle_timeout_s: 120 ", f"idle_timeout_s: {idle_timeout_s} "))


def in_place_of_dvc(monkeypatch: pytest.MonkeyPatch, said: str = "ERROR: failed") -> list[str]:
    """Have a DVC that fetches nothing, at no cost; returns what it was asked."""
    asked: list[str] = []

    def fail(_: Path, arguments: list[str], **__: object) -> dvc_program.Ended:
        asked.append(arguments[0])
        return dvc_program.Ended(1, said)

    monkeypatch.setattr(pull_module, "run_dvc", fail)
    return asked


def test_pull_into_a_fresh_clone_brings_everything(world: CloudWorld, tmp_path: Path) -> None:
    _, clone = set_up(world, tmp_path)
    done = pull(clone)
    assert (done.fetched, done.by_us, done.checked_out) == (9, 0, 7)
    assert in_workspace(clone) == EXPECTED
    assert run(clone, "dvc", "status", "--quiet").returncode == 0
    assert run(clone, "git", "status", "--porcelain").stdout == ""


def test_pulling_what_is_here_starts_no_dvc(world: CloudWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = world.pushed_repository(tmp_path / "a")
    asked = in_place_of_dvc(monkeypatch)
    assert (pull(project).fetched, asked, world.proxy.counts.total()) == (0, [], 0)


def test_pull_of_one_file_brings_its_bytes_and_no_more(world: CloudWorld, tmp_path: Path) -> None:
    _, clone = set_up(world, tmp_path)
    world.proxy.forget()
    pull(clone, ["data/kits/more/c.h5"])
    assert in_workspace(clone) == {"data/kits/more/c.h5": EXPECTED["data/kits/more/c.h5"]}
    assert world.proxy.down_bytes < 2 * FILE_BYTES


@pytest.mark.slow
def test_second_of_two_objects_that_dies_leaves_nothing_wrong(world: CloudWorld, tmp_path: Path) -> None:
    _, clone = set_up(world, tmp_path)
    unverified(world, clone)
    # What DVC alone does without `verify`: an honest failure, then success with the wrong bytes. Which of the two
    # objects ends first is a race, so that it may take more than one try.
    for _ in range(MOST_TRIES):
        shutil.rmtree(clone / ".dvc/cache", ignore_errors=True)
        shutil.rmtree(clone / "data/pair", ignore_errors=True)
        world.proxy.spoil(CUT_SHORT, "GET", key=TWO[2:])
        assert run(clone, "dvc", "pull", "data/pair", check=False).returncode != 0
        world.proxy.heal()
        assert run(clone, "dvc", "pull", "data/pair", check=False).returncode == 0
        if (clone / "data/pair/two").read_bytes() != EXPECTED["data/pair/two"]:
            break
    else:
        pytest.fail("DVC alone has got better: it left the right bytes every time")
    # Ours is neither taken in by what that has left, nor by a setting.
    done = pull(clone, ["pair"])
    assert in_workspace(clone) == {path: EXPECTED[path] for path in EXPECTED if path.startswith("data/pair/")}
    assert ([path.name.split(".")[0] == TWO for path in done.quarantined], wrong_objects(clone)) == ([True], [])


@pytest.mark.slow
@pytest.mark.parametrize("is_verified", [True, False])
def test_connection_that_always_dies_is_an_error_and_the_next_pull_heals(
    is_verified: bool, world: CloudWorld, tmp_path: Path
) -> None:
    _, clone = set_up(world, tmp_path)
    if not is_verified:
        unverified(world, clone)
    world.proxy.spoil(CUT_SHORT, "GET", key=TWO[2:])
    with pytest.raises(CloudError):
        pull(clone, ["pair"])
    assert (in_workspace(clone), wrong_objects(clone)) == ({}, [])
    world.proxy.heal()
    pull(clone, ["pair"])
    assert (len(in_workspace(clone)), wrong_objects(clone)) == (2, [])


@pytest.mark.parametrize(
    "damage", [b"", MODEL[:1000], bytes([MODEL[0] ^ 1]) + MODEL[1:]], ids=["emptied", "cut", "bit"]
)
def test_damaged_object_in_the_bucket_is_named_and_never_checked_out(
    damage: bytes, world: CloudWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, clone = set_up(world, tmp_path)
    world.put(project, oid_of(MODEL), damage)
    if not damage:
        careless = world.clone(project, tmp_path / "careless")
        unverified(world, careless)
        # What DVC alone does without `verify`.
        assert run(careless, "dvc", "pull", "model.bin").returncode == 0
        assert (careless / "model.bin").read_bytes() == damage
    else:
        in_place_of_dvc(monkeypatch)
    with pytest.raises(CloudError, match=r"damaged in the bucket: model\.bin") as refused:
        pull(clone)
    assert "verify --remote --repair" in str(refused.value)
    assert ("model.bin" in in_workspace(clone), wrong_objects(clone)) == (False, [])


def test_object_that_is_not_in_the_bucket_is_named_before_anything_moves(world: CloudWorld, tmp_path: Path) -> None:
    project, clone = set_up(world, tmp_path)
    world.delete(project, A)
    world.proxy.forget()
    with pytest.raises(CloudError, match=r"not in the bucket: data/kits/a\.h5"):
        pull(clone, ["kits", "pair"])
    assert world.proxy.counts["GET"] == 2
    assert in_workspace(clone) == {}


def test_damaged_list_of_files_is_named(world: CloudWorld, tmp_path: Path) -> None:
    project, clone = set_up(world, tmp_path)
    world.put(project, needed(project)["data/kits"].oid, b"[]")
    with pytest.raises(CloudError, match="list of files"):
        pull(clone)


def test_rotten_object_of_the_cache_is_put_aside_and_fetched_again(world: CloudWorld, tmp_path: Path) -> None:
    project = world.pushed_repository(tmp_path / "a")
    staged = cache_path(project, A).parents[3] / "staging/shards/ab/abc.h5"
    staged.parent.mkdir(parents=True)
    staged.hardlink_to(cache_path(project, A))
    rot(project, A)
    shutil.rmtree(project / "data/kits")
    # What DVC alone does: it is read-only, so it is good.
    assert run(project, "dvc", "pull", "data/kits", check=False).returncode == 0
    assert (project / "data/kits/a.h5").read_bytes() != EXPECTED["data/kits/a.h5"]
    done = pull(project)
    assert (done.fetched, [path.is_file() for path in done.quarantined]) == (1, [True])
    # Under any of its names it would have come back.
    assert (in_workspace(project), staged.exists(), wrong_objects(project)) == (EXPECTED, False, [])


@pytest.mark.slow
def test_old_version_makes_room_for_the_new_one_and_work_is_not_lost(
    world: CloudWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, clone = set_up(world, tmp_path)
    in_place_of_dvc(monkeypatch)
    pull(clone, ["pair"])
    (project / "data/pair/one").unlink()
    (project / "data/pair/one").write_bytes(b"a newer version")
    (project / "data/pair/two").unlink()
    run(project, "dvc", "add", "--quiet", "data/pair")
    shutil.copy(project / "data/pair.dvc", clone / "data/pair.dvc")
    world.put(project, oid_of(b"a newer version"), b"a newer version")
    listing = needed(project)["data/pair"].oid
    world.put(project, listing, cache_path(project, listing).read_bytes())
    (clone / "data/pair/one").unlink()
    (clone / "data/pair/one").write_bytes(b"somebody's work")
    with pytest.raises(CloudError, match="changed in the workspace: data/pair/one"):
        pull(clone, ["pair"])
    assert (clone / "data/pair/one").read_bytes() == b"somebody's work"
    (clone / "data/pair/one").unlink()
    pull(clone, ["pair"])
    assert {path.name: path.read_bytes() for path in (clone / "data/pair").iterdir()} == {"one": b"a newer version"}


def test_disk_without_room_is_refused_before_the_first_byte(
    world: CloudWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, clone = set_up(world, tmp_path)
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", small], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        local = clone / ".dvc/config.local"
        local.write_text(f"{local.read_text()}[cache]\n    dir = {small}/cache\n")
        world.proxy.forget()
        with pytest.raises(BackbeatError, match="not enough space"):
            pull(clone, ["model.bin"])
        assert world.proxy.counts["GET"] == 0
    finally:
        subprocess.run(["umount", small], check=True)


def test_budget_and_max_gb_stop_a_pull_before_its_first_byte(world: CloudWorld, tmp_path: Path) -> None:
    _, clone = set_up(world, tmp_path)
    with pytest.raises(CloudError, match="more than was allowed"):
        pull(clone, ["model.bin"], max_gb=0.000001)
    policy = clone / "configs/cloud.yaml"
    policy.write_text(policy.read_text().replace("pull_gb: 10 ", "pull_gb: 0.000001 "))
    with pytest.raises(CloudError, match="pull_gb"):
        pull(clone, ["model.bin"])
    assert (world.proxy.counts["GET"], in_workspace(clone)) == (0, {})


@pytest.mark.slow
def test_service_that_never_answers_is_given_up_with_a_sentence(world: CloudWorld, tmp_path: Path) -> None:
    _, clone = set_up(world, tmp_path)
    local = clone / ".dvc/config.local"
    local.write_text(f"{local.read_text()}    read_timeout = 600\n")
    patience(clone, 2)
    world.proxy.spoil(Fault(then="hang"), "GET", "HEAD", key=TWO[2:])
    with pytest.raises(CloudError, match="moved no byte for 2 s") as given_up:
        pull(clone, ["pair"])
    assert world.proxy.endpoint_url in str(given_up.value)
    assert [child for child in psutil.Process().children(recursive=True) if is_dvc(child)] == []
    world.proxy.heal()
    pull(clone, ["pair"])
    assert len(in_workspace(clone)) == 2


@pytest.mark.slow
def test_slow_line_is_no_silence(world: CloudWorld, tmp_path: Path) -> None:
    """An object of which the system's buffers take a part only, sent and fetched in several times the patience."""
    project = world.repository(tmp_path / "a")
    patience(project, 3)
    large = random.Random(0).randbytes(12_000_000)
    (project / "large.bin").write_bytes(large)
    run(project, "dvc", "add", "--quiet", "large.bin")
    world.proxy.bytes_per_s = 1e6
    assert push(project, ["large.bin"]).by_us == 0
    shutil.rmtree(cache_path(project, oid_of(large)).parents[3])
    assert pull(project, ["large.bin"]).by_us == 0


def test_what_dvc_cannot_fetch_is_fetched_by_us(
    world: CloudWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, clone = set_up(world, tmp_path)
    in_place_of_dvc(monkeypatch)
    assert pull(clone).by_us == 9
    assert in_workspace(clone) == EXPECTED


@pytest.mark.slow
def test_half_written_memory_of_dvc_is_worked_around(world: CloudWorld, tmp_path: Path) -> None:
    _, clone = set_up(world, tmp_path)
    pull(clone, ["pair"])
    shutil.rmtree(clone / "data/pair")
    for database in Path(os.environ["DVC_SITE_CACHE_DIR"]).rglob("*.db"):
        database.write_bytes(b"SQLite format 3\0" + b"half" * 500)
    # What DVC alone does.
    assert run(clone, "dvc", "pull", "data/pair", check=False).returncode != 0
    pull(clone)
    assert in_workspace(clone) == EXPECTED


@pytest.mark.slow
def test_locks_that_were_left_over_are_nobodys(world: CloudWorld, tmp_path: Path) -> None:
    _, clone = set_up(world, tmp_path)
    for name in ("lock", "rwlock", "rwlock.lock", "backbeat-transfer.lock", "backbeat-transfer.txt"):
        (clone / ".dvc/tmp" / name).parent.mkdir(exist_ok=True)
        (clone / ".dvc/tmp" / name).write_text("{}" if name == "rwlock" else "")
    pull(clone, ["pair"])
    assert len(in_workspace(clone)) == 2


def test_second_transfer_says_who_is_at_work(world: CloudWorld, tmp_path: Path) -> None:
    _, clone = set_up(world, tmp_path)
    holding = threading.Event()
    release = threading.Event()

    def hold() -> None:
        with exclusive(clone, "push"):
            holding.set()
            release.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    holding.wait(30)
    try:
        with pytest.raises(CloudError, match="another command") as refused:
            pull(clone)
        assert f"push, process {os.getpid()}" in str(refused.value)
    finally:
        release.set()
        thread.join()


def test_lock_of_dvc_that_another_process_holds_is_explained(
    world: CloudWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, clone = set_up(world, tmp_path)
    in_place_of_dvc(monkeypatch)
    holder = (
        "import sys, time; from dvc.lock import Lock; lock = Lock(sys.argv[1]); lock.lock(); print(flush=True); "
        "time.sleep(60)"
    )
    (clone / ".dvc/tmp").mkdir(exist_ok=True)
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(clone / ".dvc/tmp/lock")], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            with pytest.raises(CloudError, match=r"put into the workspace|another") as refused:
                pull(clone, ["pair"])
            assert "lock" in str(refused.value) or "another" in str(refused.value)
        finally:
            process.kill()
    pull(clone, ["pair"])
    assert len(in_workspace(clone)) == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_signal_ends_dvc_too_and_the_next_pull_finishes(
    number: signal.Signals, world: CloudWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, clone = set_up(world, tmp_path)
    world.proxy.spoil(Fault(then="hang"), "GET", key=TWO[2:])
    with subprocess.Popen(
        ["backbeat", "cloud", "pull", "pair"],
        cwd=clone,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        child = wait_for_dvc(process.pid)
        process.send_signal(number)
        code = process.wait(30)
    assert (code, child.is_running() and child.status() != psutil.STATUS_ZOMBIE) == (128 + number, False)
    assert wrong_objects(clone) == []
    world.proxy.heal()
    in_place_of_dvc(monkeypatch)
    pull(clone, ["pair"])
    assert len(in_workspace(clone)) == 2


def is_dvc(process: psutil.Process) -> bool:
    return not {"dvc", "backbeat.cloud.dvc_child"}.isdisjoint(process.cmdline())


def wait_for_dvc(pid: int) -> psutil.Process:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        for child in psutil.Process(pid).children(recursive=True):
            if is_dvc(child):
                return child
        time.sleep(0.05)
    raise AssertionError("DVC was never started")


def test_workspace_copy_with_another_content_is_seen(world: CloudWorld, tmp_path: Path) -> None:
    project = world.pushed_repository(tmp_path / "a")
    (project / "model.bin").unlink()
    (project / "model.bin").write_bytes(MODEL[:-1] + b"!")
    with pytest.raises(CloudError, match=r"changed in the workspace: model\.bin"):
        pull(project, ["model.bin"])
    assert (project / "model.bin").read_bytes() == MODEL[:-1] + b"!"


def test_what_was_never_made_is_no_success(world: CloudWorld, tmp_path: Path) -> None:
    project = world.pushed_repository(tmp_path / "a")
    (project / "dvc.yaml").write_text('stages:\n  train:\n    cmd: "true"\n    outs: [models]\n')
    with pytest.raises(CloudError, match="models was never made"):
        pull(project, ["data/kits", "models"])
    assert pull(project, ["data/kits"]).never_made == ()
    done = run(project, "backbeat", "cloud", "pull", check=False)
    assert (done.returncode, "models was never made: dvc repro train" in done.stderr) == (1, True)
    for pointer in [project / "model.bin.dvc", *project.glob("data/*.dvc")]:
        pointer.unlink()
    with pytest.raises(CloudError, match="models was never made"):
        pull(project)
