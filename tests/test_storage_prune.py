"""Making room: what nothing refers to goes, what anything needs stays."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import stored_project
from backbeat.errors import CloudError, StorageError
from backbeat.storage.exclusive import exclusive
from backbeat.storage.prune import Pruned, prune
from backbeat.storage.setup import plan, set_up
from backbeat.storage.staging import open_staging
from backbeat.storage.status import status
from backbeat.storage.work import QUIET_S
from stored_project import MODEL, PROCESSED, commit, content, copy_of, files_of, run

DAY_S = 86_400


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The project after two runs: of the first, a shard and the model are in the cache only."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in stored_project.isolate(tmp_path_factory.mktemp("home")).items():
            patch.setenv(name, value)
        project = stored_project.make(tmp_path_factory.mktemp("template") / "project")
        (project / "version.txt").write_text("2\n")
        run(project, "dvc", "repro", "-q")
        commit(project)
        yield project


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Path:
    return copy_of(template, tmp_path / "project")


def old(path: Path, age_s: float = QUIET_S + 60) -> Path:
    """Let a file or folder be one that nobody has touched for a while."""
    for inner in [*path.rglob("*"), path] if path.is_dir() else [path]:
        os.utime(inner, (time.time() - age_s,) * 2, follow_symlinks=False)
    return path


def staged(project: Path, name: str, body: bytes = b"x" * 1_000) -> Path:
    path = open_staging(project).root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    return old(path)


def cache_object(project: Path, path: Path) -> Path:
    """Return the object of DVC's cache that is the same file."""
    objects = files_of(project / ".dvc/cache/files/md5")
    return next(one for one in objects if one.samefile(path))


def removed(found: list[Pruned]) -> list[str]:
    return [one.what for one in found if one.action == "removed"]


def test_what_a_pipeline_has_made_stays(project: Path) -> None:
    before = files_of(project / ".dvc/cache")
    assert prune(project) == []
    assert files_of(project / ".dvc/cache") == before


@pytest.mark.parametrize("kind", ["shards", "slices", "models", "production"])
def test_entry_that_nothing_refers_to_goes(kind: str, project: Path) -> None:
    entry = staged(project, f"{kind}/ab/abcdef.h5")
    (row,) = prune(project, dry_run=True)
    assert (row.what, row.size_bytes, row.action) == (f"staging/{kind}/ab/abcdef.h5", 1_000, "removed")
    assert entry.exists()
    assert prune(project) == [row]
    assert not entry.parent.exists()


def test_what_renderings_leave_goes_once_they_have_ended(project: Path) -> None:
    names = ["banks/ab/ab.npz", "rendered/ab/ab.zip", "songs/ab/ab.npy", "rendered/ab/c.zip.999999-00000000.part"]
    entries = [staged(project, name) for name in names]
    assert removed(prune(project, dry_run=True)) == [f"staging/{name}" for name in names]
    with exclusive(project, "render few-kits"), pytest.raises(CloudError, match="render few-kits"):
        prune(project)
    assert all(entry.exists() for entry in entries)
    assert removed(prune(project)) == [f"staging/{name}" for name in names]
    assert not any(entry.exists() for entry in entries)


def test_archived_sample_stays_whoever_refers_to_it_and_what_is_unfinished_goes(project: Path) -> None:
    entry = staged(project, "archive/ab/abcdef.flac")
    unfinished = staged(project, "archive/ab/abcdef.flac.999999-00000000.part")
    assert removed(prune(project)) == [f"staging/archive/ab/{unfinished.name}"]
    assert entry.exists()


@pytest.mark.parametrize("name", ["raw/ab/abcdef.zip", "raw/ab/abcdef.zip.part", "unpacked/ab/abc.part"])
def test_raw_data_and_downloads_under_way_are_not_looked_at(name: str, project: Path) -> None:
    entry = staged(project, name)
    assert prune(project) == []
    assert entry.exists()


def test_entry_that_a_link_of_the_working_tree_leads_to_stays(project: Path) -> None:
    entry = staged(project, "shards/ab/abcdef.h5")
    (project / "mine.h5").symlink_to(entry)
    assert prune(project) == []
    assert entry.exists()


@pytest.mark.parametrize("revision", ["this", "an older"])
def test_only_copy_of_what_a_revision_needs_stays_and_is_named(revision: str, project: Path) -> None:
    """The cache has lost an object; its entry in the staging store is all that is left of it."""
    model = project / MODEL
    inode = model.stat().st_ino
    entries = files_of(project / ".dvc/cache/staging/models")
    (entry,) = [path for path in entries if (path.stat().st_ino == inode) == (revision == "this")]
    cache_object(project, entry).unlink()
    if revision == "this":
        model.unlink()
    old(entry)
    (row,) = prune(project)
    assert row.action == "kept"
    assert "the only copy here" in row.reason
    assert entry.exists()


def test_copy_of_what_the_cache_has_goes(project: Path) -> None:
    shard = project / PROCESSED / "train/kit-01.h5"
    entry = staged(project, "shards/ab/abcdef.h5", shard.read_bytes())
    (row,) = prune(project)
    assert (row.action, row.reason) == ("removed", "the cache has the same bytes")
    assert not entry.exists()
    assert shard.exists()


@pytest.mark.parametrize(
    "name",
    [
        ".dvc/cache/staging/shards/ab/abc.h5.999999999-0123abcd.part",
        ".dvc/cache/staging/slices/ab/abc.h5.999999999-0123abcd.part",
        "data/processed/small.999999999-0123abcd.part",
        ".dvc/cache/files/md5/ab/.EXAMPLE-of_22_charact.tmp",
        ".dvc/cache/files/md5/ab/.abcdefghijklmnopqrstu_.tmp",
    ],
)
def test_litter_of_killed_runs_goes(name: str, project: Path) -> None:
    path = project / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"half")
    old(path)
    readable = content(project)
    is_litter = not name.endswith("charact.tmp")  # 21 characters are nobody's
    assert bool(removed(prune(project))) == is_litter
    assert path.exists() != is_litter
    assert content(project).items() <= readable.items()


def test_litter_goes_with_what_is_in_it(project: Path) -> None:
    folder = project / "data/processed/small.999999999-0123abcd.part"
    folder.mkdir()
    shard = open_staging(project).root / "shards/ab/abcdef.h5"
    (folder / "kit.h5").symlink_to(shard)
    old(folder)
    assert removed(prune(project)) == ["data/processed/small.999999999-0123abcd.part"]
    assert not folder.exists()


def test_file_of_a_running_process_stays(project: Path) -> None:
    entry = staged(project, f"shards/ab/abc.h5.{os.getppid()}-0123abcd.part")
    (row,) = prune(project)
    assert (row.action, row.reason) == ("kept", "its process is running")
    assert entry.exists()


def test_file_that_a_process_has_open_stays(project: Path) -> None:
    entry = staged(project, "slices/ab/abcdef.h5")
    code = f"f = open({str(entry)!r}); print(1, flush=True); input()"
    reader = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert reader.stdout
    reader.stdout.readline()
    (row,) = prune(project)
    reader.communicate(b"\n")
    assert (row.action, row.reason) == ("kept", f"process {reader.pid} has it open")
    assert entry.exists()


def test_file_touched_lately_stays(project: Path) -> None:
    """A process on another machine, or in a container, cannot be seen."""
    entry = old(staged(project, "slices/ab/abcdef.h5"), QUIET_S - 60)
    (row,) = prune(project)
    assert row.action == "kept"
    assert "min ago" in row.reason
    assert entry.exists()


def test_newest_checkpoints_and_those_of_this_week_stay(project: Path) -> None:
    for name, days in (("a", 40), ("b", 20), ("c", 3), ("d", 2)):
        staged(project, f"training/{name * 2}/{name}/last.ckpt")
        old(open_staging(project).root / f"training/{name * 2}/{name}", days * DAY_S)
    assert removed(prune(project)) == ["staging/training/aa/a", "staging/training/bb/b"]
    assert sorted(path.name for path in (open_staging(project).root / "training").glob("??/*")) == ["c", "d"]


def test_newest_checkpoint_stays_however_old(project: Path) -> None:
    staged(project, "training/aa/a/last.ckpt")
    old(open_staging(project).root / "training/aa/a", 400 * DAY_S)
    assert removed(prune(project)) == []


def test_pruned_project_is_still_what_its_revisions_say(project: Path) -> None:
    staged(project, "shards/ab/abcdef.h5")
    readable = content(project)
    prune(project)
    assert content(project) == readable
    run(project, "git", "checkout", "-q", "HEAD~1")
    run(project, "dvc", "checkout")
    assert "up to date" in run(project, "dvc", "status")
    assert content(project) != readable


def test_while_dvc_is_running_nothing_is_removed(project: Path) -> None:
    entry = staged(project, "shards/ab/abcdef.h5")
    holder = (
        "import sys; from dvc.repo import Repo; repo = Repo(sys.argv[1]); repo.lock.lock();"
        "print(1, flush=True); input()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", holder, str(project)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdout
    other.stdout.readline()
    with pytest.raises(StorageError, match="at work"):
        prune(project)
    other.communicate(b"\n")
    assert entry.exists()


@pytest.fixture
def two(project: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Two clones with one cache, which both have looked at; what the second has staged is not committed."""
    set_up(project, plan(project, tmp_path / "disk", measure=False))
    other = copy_of(project, tmp_path / "other")
    status(other)
    entry = staged(other, "models/ab/abcdef.safetensors")
    (other / "mine.safetensors").symlink_to(entry)
    return project, other


def test_what_another_clone_of_the_cache_has_staged_stays(two: tuple[Path, Path]) -> None:
    project, other = two
    assert prune(project) == []
    assert (other / "mine.safetensors").read_bytes()


def test_clone_that_is_gone_needs_nothing(two: tuple[Path, Path]) -> None:
    project, other = two
    shutil.rmtree(other)
    assert removed(prune(project)) == ["staging/models/ab/abcdef.safetensors"]


def test_while_a_stage_of_another_clone_is_running_nothing_is_removed(two: tuple[Path, Path]) -> None:
    """What it has staged is linked from nowhere until it ends."""
    project, other = two
    (other / "mine.safetensors").unlink()
    (other / ".dvc/tmp/rwlock").write_text(
        json.dumps({"write": {"/out": {"pid": os.getppid(), "cmd": "dvc repro"}}, "read": {}})
    )
    with pytest.raises(StorageError, match="at work"):
        prune(project)


def test_only_copy_of_what_another_clone_has_committed_stays(two: tuple[Path, Path]) -> None:
    project, other = two
    entry = (other / "mine.safetensors").resolve()
    digest = hashlib.md5(entry.read_bytes()).hexdigest()
    (other / "mine.dvc").write_text(f"outs:\n- md5: {digest}\n  path: mine\n")
    (other / "mine.safetensors").unlink()
    (row,) = prune(project)
    assert (row.action, "the only copy here" in row.reason) == ("kept", True)


@pytest.mark.parametrize("what", ["looked at", "locked"])
def test_clone_that_cannot_be_asked_keeps_everything(
    what: str, two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    project, other = two
    (other / "mine.safetensors").unlink()
    if what == "looked at":
        look = Path.iterdir

        def refuse(folder: Path) -> Iterator[Path]:
            if folder.is_relative_to(other):
                raise PermissionError(13, "Permission denied")
            return look(folder)

        monkeypatch.setattr(Path, "iterdir", refuse)
    else:
        shutil.rmtree(other / ".dvc/tmp")
        (other / ".dvc/tmp").touch()  # nothing can be locked
    staged(project, "banks/ab/abcdef.npz")
    rows = prune(project)
    assert len(rows) == 2
    for row in rows:
        assert (row.action, row.reason) == ("kept", f"the clone {other} shares the cache, and cannot be asked")


def test_during_a_transfer_nothing_is_removed(project: Path) -> None:
    entry = staged(project, "shards/ab/abcdef.h5")
    with exclusive(project, "pull"), pytest.raises(CloudError, match="pull, process"):
        prune(project)
    assert entry.exists()


def test_command_says_what_it_frees(project: Path) -> None:
    staged(project, "shards/ab/abcdef.h5")
    shown = run(project, "backbeat", "storage", "prune", "--dry-run")
    assert "1.0 kB would be freed" in shown
    assert "backbeat datasets prune" in shown
    assert max(map(len, shown.splitlines())) <= 80
