"""Moving a project to a second file system: nothing is lost, whatever happens, and nothing is left behind."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

import stored_project
from backbeat.cli.storage import app
from backbeat.config import load_params
from backbeat.errors import CloudError, StorageError
from backbeat.storage import disk as disk_module
from backbeat.storage import move, setup
from backbeat.storage.contents import Contents, StoredFile
from backbeat.storage.environment import environment_text
from backbeat.storage.exclusive import exclusive
from backbeat.storage.relink import replace_links
from backbeat.storage.setup import plan, set_up
from backbeat.storage.staging import cache_dir
from stored_project import MODEL, PROCESSED, RAW, content, copy_of, files_of, run

KILLS = 20

processes = multiprocessing.get_context("forkserver")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in stored_project.isolate(folder).items():
            patch.setenv(name, value)
        yield folder


@pytest.fixture(scope="module")
def template(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stored_project.make(tmp_path_factory.mktemp("template") / "project")


@pytest.fixture(scope="module")
def other_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with stored_project.disk(tmp_path_factory.mktemp("other")) as place:
        yield place


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Path:
    return copy_of(template, tmp_path / "project")


@pytest.fixture
def hdd(other_disk: Path, tmp_path: Path) -> Path:
    """A new folder on the second file system."""
    return other_disk / tmp_path.name


def moved(project: Path, hdd: Path) -> setup.Done:
    return set_up(project, plan(project, hdd, measure=False))


def names_by_inode(root: Path) -> set[tuple[str, ...]]:
    """Return which names are those of one file."""
    found: dict[int, list[str]] = {}
    for path in files_of(root):
        if path.parent == root / "clones":
            continue
        found.setdefault(path.stat().st_ino, []).append(path.relative_to(root).as_posix())
    return {tuple(names) for names in found.values()}


def described(root: Path) -> dict[str, tuple[bytes, int, int]]:
    """Return bytes, permissions and time of everything in a cache."""
    return {
        path.relative_to(root).as_posix(): (path.read_bytes(), path.stat().st_mode, path.stat().st_mtime_ns)
        for path in files_of(root)
        if path.parent != root / "clones"
    }


def test_project_moves_whole_and_stays_clean(project: Path, hdd: Path) -> None:
    old = project / ".dvc/cache"
    before, links, readable = described(old), names_by_inode(old), content(project)
    shown = run(project, "backbeat", "storage", "setup", "--disk", str(hdd), "--yes")
    assert f"the cache is {hdd}/cache" in shown
    assert described(hdd / "cache") == before
    assert names_by_inode(hdd / "cache") == links
    assert max(map(len, links)) == 2
    assert content(project) == readable
    assert not old.exists()
    assert "up to date" in run(project, "dvc", "status")
    assert run(project, "git", "status", "--short") == ""


def test_no_large_file_stays_on_the_first_file_system(project: Path, hdd: Path) -> None:
    moved(project, hdd)
    here = [path for path in files_of(project) if ".git" not in path.parts and path.stat().st_size > 1_000_000]
    assert here == []
    for name in (RAW, MODEL, f"{PROCESSED}/train/kit-01.h5"):
        assert (project / name).resolve().is_relative_to(hdd)


def test_stage_runs_on_the_new_disk_without_a_copy_on_the_first(project: Path, hdd: Path) -> None:
    moved(project, hdd)
    (project / "version.txt").write_text("2\n")
    run(project, "dvc", "repro")
    for path in (project / PROCESSED).rglob("*.h5"):
        assert path.is_symlink()
        assert path.stat().st_nlink == 2
    assert [path for path in files_of(project / "data") if path.name != ".gitignore"] == []


def test_repeated_it_says_so_and_does_nothing(project: Path, hdd: Path) -> None:
    moved(project, hdd)
    shown = run(project, "backbeat", "storage", "setup", "--disk", str(hdd))
    assert "it is so already" in shown
    assert json.loads(run(project, "backbeat", "storage", "setup", "--disk", str(hdd), "--json"))["done"] is None


def test_back_on_the_first_file_system_links_are_hard_or_lead_there(project: Path, hdd: Path, tmp_path: Path) -> None:
    readable = content(project)
    moved(project, hdd)
    moved(project, tmp_path / "ssd")
    assert content(project) == readable
    assert not (hdd / "cache").exists()
    assert all(path.resolve().is_relative_to(tmp_path) for path in (project / PROCESSED).rglob("*.h5"))


def test_on_the_same_file_system_nothing_is_copied(project: Path, tmp_path: Path) -> None:
    shard = project / PROCESSED / "train/kit-01.h5"
    inode, links = shard.stat().st_ino, names_by_inode(project / ".dvc/cache")
    assert moved(project, tmp_path / "folder").copied_bytes == 0
    assert shard.stat().st_ino == inode
    assert names_by_inode(tmp_path / "folder/cache") == links
    assert not (project / ".dvc/cache").exists()


def test_other_local_settings_and_comments_stay(project: Path, hdd: Path) -> None:
    local = project / ".dvc/config.local"
    local.write_text("# mine\n['remote \"b2\"']\n    access_key_id = $x\n[cache]\n    shared = group\n")
    local.chmod(0o600)
    moved(project, hdd)
    said = local.read_text()
    assert all(text in said for text in ("# mine", "access_key_id = $x", "shared = group"))
    assert f"dir = {hdd}/cache" in said
    assert 'type = "hardlink,symlink"' in said
    assert local.stat().st_mode & 0o777 == 0o600
    assert run(project, "dvc", "config", "--local", "cache.dir").strip() == f"{hdd}/cache"


def test_environment_file_points_other_caches_to_the_disk(project: Path, hdd: Path) -> None:
    moved(project, hdd)
    shown = run(project, "sh", "-c", ". ./.env.storage && echo $HF_HOME $TORCH_HOME $RCLONE_CACHE_DIR $XDG_CACHE_HOME")
    assert shown.split() == [f"{hdd}/caches/{name}" for name in ("huggingface", "torch", "rclone", "xdg")]
    assert all(Path(folder).is_dir() for folder in shown.split())


def test_environment_file_survives_a_folder_with_spaces_and_quotes(tmp_path: Path) -> None:
    folder = Path("/mnt/my disk/it's $HOME\ntouch ran #")
    (tmp_path / "file").write_text(environment_text(folder))
    shown = run(tmp_path, "sh", "-c", '. ./file && printf %s "$HF_HOME"')
    assert shown == f"{folder}/caches/huggingface"
    assert not (tmp_path / "ran").exists()


def test_token_stays_where_it_is(tmp_path: Path, home: Path) -> None:
    (tmp_path / "file").write_text(environment_text(Path("/mnt/hdd")))
    assert run(tmp_path, "sh", "-c", ". ./file && echo $HF_TOKEN_PATH") == f"{home}/home/.cache/huggingface/token\n"


def test_project_of_the_template_ignores_the_environment_file() -> None:
    assert "/.env.storage" in (stored_project.REPOSITORY / ".gitignore").read_text().splitlines()
    assert load_params(stored_project.REPOSITORY)


def test_rotten_object_is_named_and_nothing_is_switched(project: Path, hdd: Path) -> None:
    old = project / ".dvc/cache"
    shard = project / PROCESSED / "train/kit-02.h5"
    (names,) = [names for names in names_by_inode(old) if (old / names[0]).samefile(shard)]
    whole = shard.read_bytes()
    shard.chmod(0o644)
    shard.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(StorageError) as caught:
        moved(project, hdd)
    assert all(str(old / name) in str(caught.value) for name in names)
    assert not any((hdd / "cache" / name).exists() for name in names)
    assert cache_dir(project) == old
    assert len(files_of(hdd / "cache")) == len(files_of(old)) - len(names)
    # What the message says to do: rm, and have it again.
    for name in names:
        (old / name).unlink()
    shard.unlink()
    run(project, "dvc", "repro", "--force", "-q")
    assert shard.read_bytes() == whole
    moved(project, hdd)
    assert shard.read_bytes() == whole
    assert not old.exists()


def test_disk_that_gives_back_other_bytes_is_found_out(
    project: Path, hdd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lie(part: Path) -> None:
        disk_module.forget_pages(part)
        with part.open("r+b") as stream:
            stream.write(b"?")

    monkeypatch.setattr(move, "forget_pages", lie)
    readable = content(project)
    with pytest.raises(StorageError, match="gave back other bytes"):
        moved(project, hdd)
    assert files_of(hdd / "cache") == []
    assert content(project) == readable
    assert cache_dir(project) == project / ".dvc/cache"


def test_full_disk_is_refused_before_the_first_byte(project: Path, tmp_path: Path) -> None:
    with stored_project.memory_disk(tmp_path / "tiny", 4 * 2**20) as tiny:
        with pytest.raises(StorageError, match="not enough space"):
            plan(project, tiny / "bb", measure=False)
        assert files_of(tiny) == []
    assert not (project / ".dvc/config.local").exists()


def test_disk_that_fills_meanwhile_loses_nothing_and_goes_on(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readable = content(project)
    with stored_project.memory_disk(tmp_path / "tight", 4 * 2**20) as tight:
        with pytest.MonkeyPatch.context() as patch:
            # Somebody else has filled it since it was asked.
            patch.setattr(move, "require_space", lambda *_: None)
            patch.setattr(setup, "require_space", lambda *_: None)
            with pytest.raises(StorageError, match="cannot write"):
                moved(project, tight / "bb")
        kept = {path: path.stat().st_ino for path in files_of(tight)}
        assert kept
        assert not any(path.name.endswith(".part") for path in kept)
        assert content(project) == readable
        subprocess.run(["mount", "-o", "remount,size=200m", tight], check=True)
        done = moved(project, tight / "bb")
        assert done.there_before_bytes > 0
        assert {path: path.stat().st_ino for path in kept} == kept
        assert content(project) == readable


@pytest.mark.parametrize("link", ["link", "symlink"])
def test_file_system_without_links_is_refused(
    link: str, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, link, refuse)
    with pytest.raises(StorageError, match="cannot hold"):
        plan(project, tmp_path / "usb")
    assert list((tmp_path / "usb").iterdir()) == []


@pytest.mark.parametrize("where", ["hdd", "models/disk", ".dvc/disk", "."])
def test_folder_in_the_working_tree_is_refused_whether_or_not_git_ignores_it(where: str, project: Path) -> None:
    """With a cache in an output, the next `dvc checkout --force` would remove all of it."""
    with pytest.raises(StorageError, match="is in the working tree"):
        plan(project, project / where)
    assert not (project / "hdd").exists()


def test_cache_around_the_clone_is_refused(template: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    with pytest.raises(StorageError, match="is around the clone"):
        plan(copy_of(template, tmp_path / "cache/project"), tmp_path)


def test_cache_that_the_new_folder_links_to_is_refused(project: Path, tmp_path: Path) -> None:
    """Each of its files would be found on the other side, and removed as carried over."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk/cache").symlink_to(project / ".dvc/cache")
    with pytest.raises(StorageError, match="is a link"):
        plan(project, tmp_path / "disk")


@pytest.mark.parametrize("elsewhere", [True, False])
def test_files_of_two_disks_with_one_inode_number_stay_two(
    elsewhere: bool, project: Path, hdd: Path, tmp_path: Path
) -> None:
    cache = project / ".dvc/cache/staging"
    bodies = {cache / "raw/one.zip": b"one's", cache / "other/two.zip": b"two's"}
    (cache / "other").mkdir()
    with contextlib.ExitStack() as mounts:
        for path, body in bodies.items():
            shutil.rmtree(path.parent)
            mounts.enter_context(stored_project.memory_disk(path.parent, 2**20))
            path.write_bytes(body)
            os.utime(path, ns=(10**18, 10**18))
        one, two = (path.stat() for path in bodies)
        assert (one.st_ino, one.st_mtime_ns) == (two.st_ino, two.st_mtime_ns)
        assert one.st_dev != two.st_dev
        target = hdd if elsewhere else tmp_path / "same"
        moved(project, target)
        for path, body in bodies.items():
            assert (target / "cache/staging" / path.relative_to(cache)).read_bytes() == body
            assert not path.exists()


def test_one_file_system_at_two_mount_points_is_copied(project: Path, tmp_path: Path) -> None:
    before, readable = described(project / ".dvc/cache"), content(project)
    (tmp_path / "real").mkdir()
    (tmp_path / "bound").mkdir()
    with stored_project.mounted(tmp_path / "bound", "--bind", str(tmp_path / "real")):
        assert moved(project, tmp_path / "bound").copied_bytes > 0
        assert described(tmp_path / "bound/cache") == before
        assert content(project) == readable


def test_disk_within_the_new_cache_gets_copies(project: Path, tmp_path: Path) -> None:
    before, readable = described(project / ".dvc/cache"), content(project)
    with stored_project.memory_disk(tmp_path / "disk/cache/staging", 100 * 2**20):
        moved(project, tmp_path / "disk")
        assert described(tmp_path / "disk/cache") == before
        assert content(project) == readable
        assert not (project / ".dvc/cache").exists()


def test_names_that_only_their_file_system_calls_one_are_refused(other_disk: Path, tmp_path: Path) -> None:
    names = ("staging/raw/a", "staging/raw/b")
    (tmp_path / "staging/raw").mkdir(parents=True)
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    state = (tmp_path / names[0]).stat()
    file = StoredFile(names, state.st_size, state.st_mtime_ns, 0o644, (state.st_dev, state.st_ino))
    with pytest.raises(StorageError, match="that they are one"):
        move.carry_over(tmp_path, other_disk / "one", Contents((file,), (), ()))
    assert files_of(other_disk / "one") == []


def test_file_that_grows_after_it_was_carried_over_stays(
    project: Path, hdd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = project / ".dvc/cache/staging/training/ab/log.csv"
    log.parent.mkdir(parents=True)
    log.write_bytes(b"1\n")

    def and_then(links: dict[Path, Path]) -> int:
        with log.open("ab") as stream:
            stream.write(b"2\n")
        return len(links)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setup, "replace_links", and_then)
        assert moved(project, hdd).left == (str(log),)
    assert log.read_bytes() == b"1\n2\n"
    assert moved(project, hdd).left == ()
    assert (hdd / "cache/staging/training/ab/log.csv").read_bytes() == b"1\n2\n"


def test_move_off_a_disk_that_went_read_only_ends(project: Path, hdd: Path, tmp_path: Path) -> None:
    readable = content(project)
    with stored_project.memory_disk(tmp_path / "failing", 100 * 2**20) as failing:
        moved(project, failing)
        subprocess.run(["mount", "-o", "remount,ro", failing], check=True)
        shown = run(project, "backbeat", "storage", "setup", "--disk", str(hdd), "--yes")
        assert f"note: {failing}/cache cannot be removed (Read-only file system)" in " ".join(shown.split())
        assert str(hdd) in (project / ".env.storage").read_text()
        assert plan(project, hdd, measure=False).steps == ()
        assert plan(project, tmp_path / "third", measure=False).steps
    assert content(project) == readable


def test_during_a_transfer_nothing_is_moved(project: Path, hdd: Path) -> None:
    planned = plan(project, hdd, measure=False)
    with exclusive(project, "pull"), pytest.raises(CloudError, match="pull, process"):
        set_up(project, planned)
    assert cache_dir(project) == project / ".dvc/cache"


def test_move_that_must_be_repeated_ends_with_1(project: Path, hdd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def and_then(links: dict[Path, Path]) -> int:
        (project / ".dvc/cache/late").write_bytes(b"late")
        return 0

    monkeypatch.setattr(setup, "replace_links", and_then)
    monkeypatch.chdir(project)
    for options in ([], ["--json"]):
        result = CliRunner().invoke(app, ["setup", "--disk", str(hdd), "--yes", *options])
        assert result.exit_code == 1, result.output


@pytest.mark.parametrize("where", [".dvc/cache/files", ".dvc/cache"])
def test_folder_inside_the_cache_is_refused(where: str, project: Path) -> None:
    with pytest.raises(StorageError):
        plan(project, project / where)


def test_process_with_an_open_file_is_waited_for(project: Path, hdd: Path) -> None:
    shard = next((project / ".dvc/cache/staging/shards").rglob("*.h5"))
    planned = plan(project, hdd, measure=False)
    reader = subprocess.Popen(
        [sys.executable, "-c", f"f = open({str(shard)!r}); print(1, flush=True); input()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert reader.stdout
    reader.stdout.readline()
    with pytest.raises(StorageError, match="at work") as caught:
        set_up(project, planned)
    reader.communicate(b"\n")
    assert str(reader.pid) in str(caught.value)
    assert cache_dir(project) == project / ".dvc/cache"


def test_running_stage_is_waited_for(project: Path, hdd: Path) -> None:
    planned = plan(project, hdd, measure=False)
    (project / ".dvc/tmp/rwlock").write_text(
        json.dumps({"write": {"/out": {"pid": os.getppid(), "cmd": "dvc repro"}}, "read": {}})
    )
    with pytest.raises(StorageError, match="at work"):
        set_up(project, planned)


def test_other_disk_while_a_move_has_not_ended_is_refused(project: Path, hdd: Path, tmp_path: Path) -> None:
    planned = plan(project, hdd, measure=False)
    killed_at(project, planned, 40)
    with pytest.raises(StorageError, match="was begun"):
        plan(project, tmp_path / "third")


def test_download_under_way_and_its_note_move_with_their_times(project: Path, hdd: Path) -> None:
    part = project / ".dvc/cache/staging/raw/ab/abcdef.zip.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"half of it")
    os.utime(part, ns=(10**18 + 7, 10**18 + 7))
    moved(project, hdd)
    carried = hdd / "cache/staging/raw/ab/abcdef.zip.part"
    assert (carried.read_bytes(), carried.stat().st_mtime_ns) == (b"half of it", 10**18 + 7)


def test_what_is_written_meanwhile_stays_for_the_next_run(
    project: Path, hdd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = project / ".dvc/cache/staging/raw/ab/late.zip"

    def and_then(links: dict[Path, Path]) -> int:
        late.parent.mkdir()
        late.write_bytes(b"late")
        return 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setup, "replace_links", and_then)
        assert moved(project, hdd).left == (str(project / ".dvc/cache"),)
    assert late.read_bytes() == b"late"
    assert moved(project, hdd).left == ()
    assert (hdd / "cache/staging/raw/ab/late.zip").read_bytes() == b"late"
    assert not late.exists()


def test_link_is_there_until_the_new_one_takes_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = tmp_path / "kit.h5"
    link.symlink_to("/old/cache/object")

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="Input/output"):
        replace_links({link: Path("/new/cache/object")})
    assert [(path, str(path.readlink())) for path in tmp_path.iterdir()] == [(link, "/old/cache/object")]


def run_until(project: str, planned: setup.Plan, event: int, count: object) -> None:
    """Set up in a process of its own; the operating system kills it at its `event`-th change to a file system."""
    seen = 0

    def hook(name: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        writes = name == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        changes = {"os.rename", "os.link", "os.symlink", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "os.utime"}
        if writes or name in changes:
            seen += 1
            if seen == event:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    set_up(Path(project), planned)
    count.put(seen)  # type: ignore[attr-defined]


def killed_at(project: Path, planned: setup.Plan, event: int) -> int | None:
    """Returns how many events there were if it has ended by itself, else None."""
    with pytest.MonkeyPatch.context() as patch:
        # A child would import the program that started it, which is pytest here.
        patch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
        processes.set_forkserver_preload(["test_storage_setup"])
        queue = processes.SimpleQueue()
        child = processes.Process(target=run_until, args=(str(project), planned, event, queue))
        child.start()
        child.join()
    assert child.exitcode in {0, -signal.SIGKILL}
    return queue.get() if child.exitcode == 0 else None


@pytest.mark.slow
def test_killed_at_any_moment_and_repeated_every_byte_is_there_once(template: Path, tmp_path: Path) -> None:
    with stored_project.memory_disk(tmp_path / "hdd", 200 * 2**20) as other_disk:
        kill_and_repeat(template, other_disk, tmp_path)


def kill_and_repeat(template: Path, other_disk: Path, tmp_path: Path) -> None:
    readable = content(template)
    old_cache = template / ".dvc/cache"
    expected, links = described(old_cache), names_by_inode(old_cache)
    measured = copy_of(template, tmp_path / "measured")
    events = killed_at(measured, plan(measured, other_disk / "measured", measure=False), 0)
    assert events is not None
    assert events > 100
    dice = random.Random(1)
    phases = set()
    for number in range(KILLS):
        # Evenly over the whole run, so that each of its phases is met.
        first = events * number // KILLS + dice.randrange(1, events // KILLS)
        project, hdd = copy_of(template, tmp_path / f"run-{number}"), other_disk / f"run-{number}"
        for event in (first, dice.randrange(1, events)):
            killed_at(project, plan(project, hdd, measure=False), event)
            # A link that was not yet renamed may be beside the one that it is for.
            assert content(project).items() >= readable.items(), f"after a kill at event {event} of {events}"
            phases.add((cache_dir(project) == hdd / "cache", (project / ".dvc/cache").exists()))
        proven = {path: path.stat().st_ino for path in files_of(hdd / "cache") if not path.name.endswith(".part")}
        left = plan(project, hdd, measure=False)
        if left.steps:
            set_up(project, left)
        assert described(hdd / "cache") == expected
        assert names_by_inode(hdd / "cache") == links
        # What had its final name was not copied again.
        assert {path: path.stat().st_ino for path in proven} == proven
        assert content(project) == readable
        assert not (project / ".dvc/cache").exists()
        assert list(project.rglob("*.part")) == []
        assert plan(project, hdd, measure=False).steps == ()
        subprocess.run(["rm", "-rf", project, hdd], check=True)
    # Before the switch, after it, and with the old cache gone.
    assert {(False, True), (True, True), (True, False)} <= phases
