"""Backups: proven when they are made, and restored into an empty folder from the bucket alone."""

from __future__ import annotations

import datetime as dt
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from backbeat.cli.cloud import app
from backbeat.cloud.backup import backup, list_backups, read_backup, statement_key
from backbeat.cloud.manifest import put_json
from backbeat.cloud.pointers import cache_path
from backbeat.cloud.restore import MARK, restore
from backbeat.cloud.verify import verify
from backbeat.errors import CloudError, ConfigError
from backbeat.remote.bucket import open_bucket
from mirrored import pushed, set_cloud, spoil
from one_dataset import BODY, HASTY, record_of
from s3_proxy import Fault, S3Proxy, refusal, s3_proxy
from s3_server import REPOSITORY, commit, environment, new_repository, point_at, run, s3_server

FILES = {
    "data/own": {"train/kit-01.h5": b"first" * 1000, "train/kit-02.h5": b"second" * 1000, "empty": b""},
    "models": {"model.safetensors": b"weights" * 1000},
}
DAMAGES = [
    ("deleted", "data/own"),
    ("truncated", "models/model.safetensors"),
    ("flipped", "data/raw/lies/archive.zip"),
    ("deleted", "data/raw/lies/archive.zip"),
]
MIRRORED = "mirror/raw/lies/archive.zip"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a repository, `project`, and a bucket, `s3`, that holds all of it and the mirror of `lies`."""
    folder = tmp_path_factory.mktemp("backup")
    with pytest.MonkeyPatch.context() as patch, s3_server(folder / "s3") as s3:
        (folder / "home").mkdir()
        for name, value in environment(folder / "home").items():
            patch.setenv(name, value)
        project = new_repository(folder / "project", FILES)
        point_at(project, s3.endpoint_url)
        run(project, "dvc", "push", "--quiet")
        (project / "configs" / "datasets").mkdir()
        shutil.copy(REPOSITORY / ".gitignore", project / ".gitignore")
        pushed(project)
        record_of(project, "https://127.0.0.1:9/archive.zip")
        commit(project, "a record")
    return folder


@pytest.fixture
def proxy(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Proxy]:
    for name in os.environ:
        if name.startswith(("AWS_", "B2_", "RCLONE_", "DVC_")):
            monkeypatch.delenv(name)
    for name, value in environment(tmp_path / "home").items():
        monkeypatch.setenv(name, value)
    shutil.copytree(prepared / "s3", tmp_path / "s3")
    with s3_server(tmp_path / "s3") as s3, s3_proxy(s3.endpoint_url) as running:
        yield running


@pytest.fixture
def project(prepared: Path, proxy: S3Proxy, tmp_path: Path) -> Path:
    copy = shutil.copytree(prepared / "project", tmp_path / "project", symlinks=True)
    point_at(copy, proxy.endpoint_url)
    return copy


def key_of(project: Path, path: str) -> str:
    """Return the key of the object that belongs at a path."""
    found = backup(project, dry_run=True)
    return next(one.key for one in [*found.files, *found.listings] if one.path == path)


def proof_of(restored: Path) -> None:
    """Have DVC and `verify` look at a restored clone, which has no other cache than its own."""
    assert not (restored / ".dvc" / "config.local").exists()
    assert "up to date" in run(restored, "dvc", "status").stdout
    found = verify(restored)
    assert {one.path for one in found.checked} == {*EXPECTED, *FILES} - {"data/raw/lies/archive.zip"}
    assert found.wrong == ()


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for name in ("data", "models")
        for path in sorted((folder / name).rglob("*"))
        if path.is_file() and path.name != ".gitignore" and path.suffix != ".dvc"
    }


EXPECTED = {f"{folder}/{name}": body for folder, files in FILES.items() for name, body in files.items()}
EXPECTED["data/raw/lies/archive.zip"] = BODY


def test_everything_comes_back_from_the_bucket_alone(project: Path, tmp_path: Path) -> None:
    made = backup(project)
    shutil.rmtree(project / ".dvc" / "cache")
    to = tmp_path / "restored"
    restored = restore(project, to)
    assert contents(to) == EXPECTED
    assert {one.path: one.state for one in restored} == dict.fromkeys(EXPECTED, "restored")
    assert not (to / MARK).exists()
    assert run(to, "git", "rev-parse", "HEAD").stdout.strip() == made.commit
    assert run(to, "git", "status", "--porcelain").stdout == ""
    proof_of(to)
    # As DVC does it: nothing is there twice, and nobody writes into the cache by mistake.
    assert (to / "models/model.safetensors").samefile(cache_path(to, hashlib.md5(b"weights" * 1000).hexdigest()))
    assert not (to / "models/model.safetensors").stat().st_mode & 0o222


def test_cache_without_hard_links_is_filled_by_copies(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "another disk")

    backup(project)
    monkeypatch.setattr("backbeat.cloud.restore.os.link", refuse)
    restore(project, tmp_path / "restored")
    monkeypatch.undo()
    assert contents(tmp_path / "restored") == EXPECTED
    assert verify(tmp_path / "restored").wrong == ()


def test_list_of_files_that_is_damaged_is_named_and_brought_later(project: Path, tmp_path: Path) -> None:
    backup(project)
    key = key_of(project, "data/own")
    body = open_bucket(project).read(key)
    spoil(project, key, "flipped")
    with pytest.raises(CloudError) as failure:
        restore(project, tmp_path / "restored", patience=HASTY)
    assert "the list of data/own" in (failure.value.got or "")
    open_bucket(project).put(key, body, hashlib.md5(body).hexdigest())
    restore(project, tmp_path / "restored", patience=HASTY)
    assert verify(tmp_path / "restored").wrong == ()


def test_messages_say_where_the_folder_is(project: Path, tmp_path: Path) -> None:
    backup(project)
    (tmp_path / "second clone").mkdir()
    spoil(project, key_of(project, "models/model.safetensors"), "flipped")
    with pytest.raises(CloudError) as failure:
        restore(project, tmp_path / "second clone" / ".." / "re store", patience=HASTY)
    assert f"--to '{tmp_path / 're store'}' goes on" in (failure.value.next_step or "")


def test_backup_names_every_object_with_its_place_and_hash(project: Path) -> None:
    made = backup(project)
    assert [one.path for one in made.files] == sorted(EXPECTED)
    assert {one.path for one in made.listings} == set(FILES)
    assert list_backups(open_bucket(project)) == [made.made_at]
    assert read_backup(open_bucket(project), None) == made


def test_rehearsal_writes_nothing(project: Path, proxy: S3Proxy) -> None:
    backup(project, dry_run=True)
    assert proxy.counts["PUT"] == 0


@pytest.mark.parametrize(("damage", "path"), DAMAGES)
def test_what_is_not_whole_is_no_backup(damage: str, path: str, project: Path) -> None:
    spoil(project, key_of(project, path), damage)
    with pytest.raises(CloudError) as failure:
        backup(project)
    assert path.removeprefix("data/raw/") in (failure.value.got or "")
    assert list_backups(open_bucket(project)) == []


def test_pointer_that_is_not_committed_is_no_backup(project: Path) -> None:
    (project / "models.dvc").write_text((project / "models.dvc").read_text() + "# changed\n")
    with pytest.raises(CloudError, match=r"not committed"):
        backup(project)


@pytest.mark.parametrize("name", ["params.yaml", "configs/cloud.yaml", "data/dvc.yaml", "configs/datasets/mine.yaml"])
def test_pipeline_that_is_not_committed_is_no_backup(name: str, project: Path) -> None:
    """`params.yaml` and `configs/cloud.yaml` are known to Git and changed, the others are new."""
    with (project / name).open("a") as changed:
        changed.write("# changed\n")
    with pytest.raises(CloudError, match=rf"(?s)not committed.*got: {name}\n"):
        backup(project, dry_run=True)


def test_backups_of_one_second_have_names_of_their_own(project: Path) -> None:
    now = dt.datetime(2030, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
    made = [backup(project, now=now) for _ in range(2)]
    # One whose statement was never written has a bundle already.
    open_bucket(project).put("backups/2030-01-02T030405Z-3.bundle", b"", hashlib.md5().hexdigest())
    made.append(backup(project, now=now))
    names = [f"2030-01-02T030405Z{number}" for number in ("", "-2", "-4")]
    assert [one.made_at for one in made] == list_backups(open_bucket(project)) == names
    assert [read_backup(open_bucket(project), name) for name in names] == made
    assert open_bucket(project).read("backups/2030-01-02T030405Z-3.bundle") == b""


def test_pointer_that_git_does_not_know_is_no_backup(project: Path) -> None:
    (project / "new.dvc").write_text("outs:\n- path: new\n")
    with pytest.raises(CloudError, match=r"new\.dvc"):
        backup(project)


@pytest.mark.parametrize(("damage", "path"), DAMAGES[1:])
def test_damage_after_the_backup_is_named_and_the_rest_is_restored(
    damage: str, path: str, project: Path, tmp_path: Path
) -> None:
    backup(project)
    key = key_of(project, path)
    body = open_bucket(project).read(key)
    spoil(project, key, damage)
    to = tmp_path / "restored"
    with pytest.raises(CloudError, match=r"1 of 5 files") as failure:
        restore(project, to, patience=HASTY)
    assert path in (failure.value.got or "")
    assert contents(to) == {name: content for name, content in EXPECTED.items() if name != path}
    open_bucket(project).put(key, body, hashlib.md5(body).hexdigest())
    states = {one.path: one.state for one in restore(project, to, patience=HASTY)}
    assert states == {name: "restored" if name == path else "here" for name in EXPECTED}
    assert contents(to) == EXPECTED


def test_restore_that_was_cut_goes_on_where_it_was(project: Path, proxy: S3Proxy, tmp_path: Path) -> None:
    backup(project)
    proxy.spoil(Fault(then="close", after=200_000), "GET", key=MIRRORED, times=1)
    proxy.spoil(refusal(403, "AccessDenied"), "GET", key=MIRRORED)
    with pytest.raises(CloudError):
        restore(project, tmp_path / "restored", patience=HASTY)
    proxy.heal()
    proxy.forget()
    restore(project, tmp_path / "restored", patience=HASTY)
    assert contents(tmp_path / "restored") == EXPECTED
    assert proxy.down_bytes < 200_000


def test_file_that_rots_in_a_folder_that_is_being_restored_is_fetched_anew(
    project: Path, proxy: S3Proxy, tmp_path: Path
) -> None:
    backup(project)
    proxy.spoil(refusal(403, "AccessDenied"), "GET", key=MIRRORED)
    with pytest.raises(CloudError):
        restore(project, tmp_path / "restored", patience=HASTY)
    rotten = tmp_path / "restored/models/model.safetensors"
    rotten.chmod(0o644)
    rotten.write_bytes(b"rotten." * 1000)
    proxy.heal()
    restore(project, tmp_path / "restored", patience=HASTY)
    assert contents(tmp_path / "restored") == EXPECTED
    assert verify(tmp_path / "restored").wrong == ()


def test_folder_with_files_is_not_touched(project: Path, tmp_path: Path) -> None:
    backup(project)
    to = tmp_path / "mine"
    to.mkdir()
    (to / "thesis.txt").write_text("years of work")
    with pytest.raises(CloudError, match=r"not empty"):
        restore(project, to)
    assert [path.name for path in to.iterdir()] == ["thesis.txt"]


def test_restore_keeps_its_budget(project: Path, tmp_path: Path) -> None:
    backup(project)
    set_cloud(project, "budgets", "pull_gb", 0.0001)
    with pytest.raises(CloudError, match="pull_gb"):
        restore(project, tmp_path / "restored")
    assert not (tmp_path / "restored").exists()


@pytest.mark.parametrize("path", ["../outside", "/etc/outside", ".git/hooks/post-checkout"])
def test_backup_that_leads_out_of_the_folder_is_refused(path: str, project: Path, tmp_path: Path) -> None:
    made = backup(project)
    forged = made.model_copy(update={"files": (made.files[0].model_copy(update={"path": path}),)})
    put_json(open_bucket(project), statement_key(made.made_at), forged)
    with pytest.raises((ConfigError, CloudError)):
        restore(project, tmp_path / "restored", patience=HASTY)
    assert not list(tmp_path.rglob("outside"))
    assert not (tmp_path / "restored/.git/hooks/post-checkout").exists()


def test_unknown_backup_is_answered_with_those_there_are(project: Path, tmp_path: Path) -> None:
    made = backup(project)
    with pytest.raises(CloudError, match=made.made_at):
        restore(project, tmp_path / "restored", "2001-01-01T000000Z")


def test_commands_say_what_they_did(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    runner = CliRunner()
    assert "5 files" in runner.invoke(app, ["backup"]).stdout
    (name,) = runner.invoke(app, ["backups"]).stdout.split()
    assert "every one hashed" in runner.invoke(app, ["restore", name, "--to", str(tmp_path / "to")]).stdout
    assert [line["path"] for line in json.loads(runner.invoke(app, ["mirror", "check", "--json"]).stdout)] == [
        "archive.zip"
    ]
