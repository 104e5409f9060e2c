"""Removing local copies of what is in the remote, proven; and never the only copy."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from typer.testing import CliRunner

import backbeat.cloud.evict as evict_module
import s3_server
import stored_project
from backbeat.cli.storage import app
from backbeat.cloud.evict import Evicted, evict
from backbeat.cloud.pointers import artifacts, cache_path
from backbeat.cloud.whereabouts import listing_of, whereabouts
from backbeat.errors import CloudError, StorageError
from backbeat.remote.bucket import Bucket, StoredObject, open_bucket
from backbeat.remote.settings import RemoteSettings
from backbeat.storage.staging import open_staging
from s3_server import S3Server, point_at
from stored_project import MODEL, PROCESSED, RAW, commit, content, copy_of, files_of, mounted, run
from template_settings import as_template

SHARD = f"{PROCESSED}/train/kit-01.h5"


class Remote:
    """A bucket in memory that has what a project's cache has, until a test changes that."""

    settings = RemoteSettings("b2", "bucket", "dvc")

    def __init__(self, project: Path) -> None:
        root = project / ".dvc/cache"
        self.held = {path.relative_to(root).as_posix(): path.read_bytes() for path in files_of(root / "files/md5")}
        self.multipart: set[str] = set()
        self.hashed: list[str] = []
        self.meanwhile: Callable[[], object] = lambda: None

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        self.meanwhile()
        for name, body in sorted(self.held.items()):
            etag = "0123-2" if name in self.multipart else hashlib.md5(body).hexdigest()
            yield StoredObject(f"dvc/{name}", len(body), etag)

    def head(self, key: str) -> StoredObject | None:
        return next((stored for stored in self.list() if stored.key == key), None)

    def read(self, key: str) -> bytes:
        return self.held[key.removeprefix("dvc/")]

    def md5(self, key: str) -> str:
        self.hashed.append(key)
        return hashlib.md5(self.held[key.removeprefix("dvc/")]).hexdigest()


def name_of(project: Path, path: str) -> str:
    """Return what the remote calls a file of the working tree."""
    digest = hashlib.md5((project / path).read_bytes()).hexdigest()
    return f"files/md5/{digest[:2]}/{digest[2:]}"


def evicted(project: Path, remote: Remote, *targets: str, dry_run: bool = False) -> dict[str, Evicted]:
    found = evict(project, cast("Bucket", remote), targets, dry_run=dry_run)
    return {one.path: one for one in found}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("evict")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**s3_server.environment(folder / "home"), **stored_project.isolate(folder)}.items():
            patch.setenv(name, value)
        project = stored_project.make(folder / "project")
        for name in (".dvc/config", ".dvc/aws-b2.ini"):
            shutil.copy(stored_project.REPOSITORY / name, project / name)
        as_template(project)
        commit(project)
        yield project


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Path:
    return copy_of(template, tmp_path / "project")


@pytest.fixture
def remote(project: Path) -> Remote:
    return Remote(project)


@pytest.fixture(scope="module")
def server(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A server that everything of the template was pushed to."""
    with s3_server.s3_server(tmp_path_factory.mktemp("s3")) as running:
        point_at(template, running.endpoint_url)
        run(template, "dvc", "push", "-q")
        yield running


def test_evicted_artifacts_come_back_with_dvc_pull(server: S3Server, template: Path, tmp_path: Path) -> None:
    project = copy_of(template, tmp_path / "project")
    readable = content(project)
    shown = run(project, "backbeat", "storage", "evict")
    assert f"proven to be in s3://{s3_server.BUCKET}/dvc" in " ".join(shown.split())
    assert set(content(project)) == {RAW}
    assert files_of(project / ".dvc/cache/files/md5") == []
    assert [path.parts[-3] for path in files_of(open_staging(project).root)] == ["raw"]
    run(project, "dvc", "pull", "-q")
    assert content(project) == readable
    assert "up to date" in run(project, "dvc", "status")


def test_status_knows_what_is_safe_and_what_is_the_only_copy(server: S3Server, template: Path, tmp_path: Path) -> None:
    project = copy_of(template, tmp_path / "project")

    def shown() -> dict[str, tuple[str, str]]:
        found = whereabouts(project, listing_of(open_bucket(project)), None)
        return {one.path: (one.here, one.safety) for one in found}

    status = json.loads(run(project, "backbeat", "storage", "status", "--json"))
    assert status["why_unknown"] is None
    assert {(one["here"], one["safety"]) for one in status["artifacts"]} == {("linked", "safe in the remote")}
    (project / "version.txt").write_text("2\n")
    run(project, "dvc", "repro", "-q")
    assert set(shown().values()) == {("linked", "only copy")}
    refused = run(project, "backbeat", "storage", "evict", check=False)
    assert "the only copy" in refused
    assert "backbeat cloud push" in refused
    assert set(content(project)) == set(content(template))
    run(project, "git", "checkout", "-q", ".")
    run(project, "dvc", "checkout", "-q")
    evict(project, open_bucket(project), ["models"])
    assert shown() == {PROCESSED: ("linked", "safe in the remote"), "models": ("not here", "not here, in the remote")}


def test_damaged_object_on_a_real_server_is_found_out(template: Path, tmp_path: Path) -> None:
    """The ETag of another content is not its MD5, and reading it shows that."""
    project = copy_of(template, tmp_path / "project")
    with s3_server.s3_server(tmp_path / "s3") as running:
        point_at(project, running.endpoint_url)
        run(project, "dvc", "push", "-q", "models")
        (project / "wrong").write_bytes(b"x" * (project / MODEL).stat().st_size)
        bucket = open_bucket(project)
        wrong = hashlib.md5((project / "wrong").read_bytes()).hexdigest()
        bucket.put(bucket.settings.key(name_of(project, MODEL)), project / "wrong", wrong)
        (row,) = evict(project, bucket, ["models"])
    assert (row.action, row.refused) == ("kept", True)
    assert "has other bytes in the remote" in row.reason
    assert (project / MODEL).is_file()


def test_object_that_the_remote_has_not_stays_under_all_its_names(project: Path, remote: Remote) -> None:
    before, staged = content(project), files_of(open_staging(project).root)
    del remote.held[name_of(project, SHARD)]
    rows = evicted(project, remote)
    assert (rows[PROCESSED].action, rows[PROCESSED].refused) == ("kept", True)
    assert SHARD in rows[PROCESSED].reason
    assert rows["models"].action == "removed"
    assert content(project) == {name: digest for name, digest in before.items() if name != MODEL}
    assert len(files_of(open_staging(project).root)) == len(staged) - 1


def test_object_of_another_size_is_not_believed(project: Path, remote: Remote) -> None:
    remote.held[name_of(project, MODEL)] += b"x"
    row = evicted(project, remote, "models")["models"]
    assert (row.action, "300,001 bytes" in row.reason) == ("kept", True)
    assert (project / MODEL).is_file()


def test_object_of_several_parts_is_read_and_believed_only_then(project: Path, remote: Remote) -> None:
    name = name_of(project, MODEL)
    remote.multipart.add(name)
    body = remote.held[name]
    remote.held[name] = b"x" * len(body)
    assert evicted(project, remote, "models")["models"].refused
    assert (project / MODEL).is_file()
    remote.held[name] = body
    assert evicted(project, remote, "models")["models"].action == "removed"
    assert remote.hashed == [f"dvc/{name}"] * 2
    assert not (project / MODEL).exists()


def test_dry_run_removes_nothing_and_says_how_much(project: Path, remote: Remote) -> None:
    before, objects = content(project), held(project)
    row = evicted(project, remote, PROCESSED, dry_run=True)[PROCESSED]
    assert row.action == "would be removed"
    assert row.freed_bytes == sum(path.stat().st_size for path in (project / PROCESSED).rglob("*.h5")) + listing_size(
        project
    )
    assert (content(project), held(project)) == (before, objects)


def held(project: Path) -> list[Path]:
    return [path for folder in ("files", "staging") for path in files_of(project / ".dvc/cache" / folder)]


def listing_size(project: Path) -> int:
    (artifact,) = artifacts(project, [PROCESSED])
    assert artifact.oid
    return cache_path(project, artifact.oid).stat().st_size


def test_object_that_another_artifact_needs_stays(project: Path) -> None:
    for folder in ("own", "other"):
        (project / "data" / folder).mkdir()
        shutil.copy(project / SHARD, project / "data" / folder / "same.h5")
        (project / "data" / folder / "different.bin").write_text(folder)
    run(project, "dvc", "add", "-q", "data/own", "data/other")
    shared = cache_path(project, hashlib.md5((project / SHARD).read_bytes()).hexdigest())
    remote = Remote(project)
    row = evicted(project, remote, "data/own")["data/own"]
    assert row.freed_bytes < 1_000
    assert not (project / "data/own").exists()
    assert shared.is_file()
    assert (project / "data/other/same.h5").read_bytes() == (project / SHARD).read_bytes()
    # The last ones that need it take it with them.
    assert evicted(project, remote, "data/other", PROCESSED)[PROCESSED].action == "removed"
    assert not shared.exists()


def test_change_that_was_not_recorded_is_not_lost(project: Path, remote: Remote) -> None:
    model = project / MODEL
    model.unlink()
    model.write_bytes(b"better")
    row = evicted(project, remote, "models")["models"]
    assert (row.refused, "has changed" in row.reason) == (True, True)
    assert model.read_bytes() == b"better"


def test_file_of_somebody_s_own_in_the_folder_is_not_lost(project: Path, remote: Remote) -> None:
    own = project / PROCESSED / "notes.txt"
    own.write_text("mine")
    row = evicted(project, remote, PROCESSED)[PROCESSED]
    assert (row.refused, "notes.txt" in row.reason) == (True, True)
    assert own.read_text() == "mine"


@pytest.mark.parametrize("how", ["in the cache", "in the working tree"])
def test_file_that_a_process_reads_is_not_removed(how: str, project: Path, remote: Remote) -> None:
    model = project / MODEL
    digest = hashlib.md5(model.read_bytes()).hexdigest()
    path = model if how == "in the working tree" else cache_path(project, digest)
    code = f"f = open({str(path)!r}); print(1, flush=True); input()"
    reader = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert reader.stdout
    reader.stdout.readline()
    with pytest.raises(StorageError, match="at work"):
        evicted(project, remote, "models")
    reader.communicate(b"\n")
    assert model.is_file()


def test_status_without_a_server_says_unknown_and_why(project: Path) -> None:
    point_at(project, "http://127.0.0.1:1")
    status = json.loads(run(project, "backbeat", "storage", "status", "--json"))
    assert {one["safety"] for one in status["artifacts"]} == {"unknown"}
    assert status["remote"] is None
    assert status["why_unknown"]


def test_what_is_not_here_is_no_refusal(project: Path, remote: Remote) -> None:
    evicted(project, remote)
    again = evicted(project, remote)
    assert {(row.action, row.reason, row.refused) for row in again.values()} == {("kept", "it is not here", False)}
    assert {one.safety for one in whereabouts(project, listing_of(cast("Bucket", remote)), None)} == {
        "not here, in the remote"
    }


def test_part_of_an_artifact_is_refused(project: Path, remote: Remote) -> None:
    with pytest.raises(CloudError, match="a part of an artifact"):
        evicted(project, remote, f"{PROCESSED}/train")


def test_what_is_nowhere_is_lost_and_said_to_be(project: Path, remote: Remote) -> None:
    object_ = cache_path(project, hashlib.md5((project / MODEL).read_bytes()).hexdigest())
    remote.held.clear()
    object_.unlink()
    found: dict[str, Any] = {
        one.path: one.safety for one in whereabouts(project, listing_of(cast("Bucket", remote)), None)
    }
    assert found == {PROCESSED: "only copy", "models": "lost"}


def listing_path(project: Path) -> Path:
    """Return where the cache has the list of the shards."""
    (artifact,) = artifacts(project, [PROCESSED])
    assert artifact.oid
    return cache_path(project, artifact.oid)


def spoil(path: Path) -> None:
    path.chmod(0o644)
    body = path.read_bytes()
    path.write_bytes(body[:-1] + bytes([body[-1] ^ 1]))
    path.chmod(0o444)


def test_file_that_appears_while_the_bucket_is_read_is_not_lost(project: Path, remote: Remote) -> None:
    own = project / PROCESSED / "train" / "notes.txt"
    remote.meanwhile = lambda: own.write_text("mine")
    row = evicted(project, remote, PROCESSED)[PROCESSED]
    assert (row.refused, "train/notes.txt" in row.reason) == (True, True)
    assert own.read_text() == "mine"


def test_what_is_written_after_the_proofs_is_not_lost(
    project: Path, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, own = project / MODEL, project / "models" / "notes.txt"

    def work(*_: object, **__: object) -> None:
        own.write_text("mine")
        model.unlink()
        model.write_bytes(b"better")

    monkeypatch.setattr(evict_module, "require_nobody", work)
    row = evicted(project, remote, "models")["models"]
    assert (model.read_bytes(), own.read_text()) == (b"better", "mine")
    assert (row.refused, MODEL in row.reason, "models/notes.txt" in row.reason) == (True, True, True)
    # Nobody has written to the object, which the bucket has.
    assert not cache_path(project, hashlib.md5(b"better").hexdigest()).exists()


def test_no_dvc_starts_while_the_bucket_is_read(project: Path, remote: Remote) -> None:
    said: list[str] = []
    remote.meanwhile = lambda: said.append(run(project, "dvc", "commit", "-f", "models", check=False))
    evicted(project, remote, "models")
    assert "lock" in said[0]


def test_what_was_changed_through_a_link_is_not_lost(project: Path, remote: Remote) -> None:
    spoil(project / MODEL)
    changed = (project / MODEL).read_bytes()
    row = evicted(project, remote, "models")["models"]
    assert (row.action, row.refused, MODEL in row.reason) == ("kept", True, True)
    assert (project / MODEL).read_bytes() == changed


def test_damaged_list_is_read_from_the_bucket(project: Path, remote: Remote) -> None:
    spoil(listing_path(project))
    bucket = cast("Bucket", remote)
    found = {one.path: one for one in whereabouts(project, listing_of(bucket), None, bucket)}
    assert (found[PROCESSED].here, found[PROCESSED].safety) == ("linked", "safe in the remote")
    assert "list of its files is damaged here" in (found[PROCESSED].why or "")
    alone = {one.path: one for one in whereabouts(project, None, "not asked")}[PROCESSED]
    assert (alone.here, "damaged in the cache" in (alone.why or "")) == ("incomplete", True)
    assert evicted(project, remote, PROCESSED)[PROCESSED].action == "removed"
    assert not (project / PROCESSED).exists()


def test_list_that_is_whole_nowhere_is_a_refusal_for_whoever_may_share_with_it(project: Path, remote: Remote) -> None:
    listing = listing_path(project)
    spoil(listing)
    del remote.held[listing.relative_to(project / ".dvc/cache").as_posix()]
    before = held(project)
    rows = evicted(project, remote)
    assert {(row.action, row.refused) for row in rows.values()} == {("kept", True)}
    assert all(PROCESSED in row.reason for row in rows.values())
    assert held(project) == before


def test_cache_that_cannot_be_written_leaves_the_workspace_whole(project: Path, remote: Remote) -> None:
    before = content(project)
    cache = project / ".dvc/cache"
    with mounted(cache, "--bind", str(cache)):
        subprocess.run(["mount", "-o", "remount,ro,bind", cache], check=True)
        with pytest.raises(StorageError, match="cannot write"):
            evicted(project, remote)
        assert content(project) == before


def test_removal_that_was_broken_off_can_be_gone_on_with(project: Path, remote: Remote) -> None:
    """Symbolic links that lead nowhere are all that is left."""
    model = project / MODEL
    cached = cache_path(project, hashlib.md5(model.read_bytes()).hexdigest())
    model.unlink()
    model.symlink_to(cached)
    cached.unlink()
    assert evicted(project, remote, "models")["models"].action == "removed"
    assert not (project / "models").exists()


def test_empty_word_is_refused_and_a_dry_run_says_would(server: S3Server, template: Path, tmp_path: Path) -> None:
    project = copy_of(template, tmp_path / "project")
    before = content(project)
    assert "a target is empty" in run(project, "backbeat", "storage", "evict", "", check=False)
    rows = json.loads(run(project, "backbeat", "storage", "evict", "--dry-run", "--json"))
    assert {row["action"] for row in rows} == {"would be removed"}
    assert content(project) == before


def test_everything_is_asked_about_on_a_terminal(
    project: Path, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setattr("backbeat.cli.storage.on_terminal", lambda: True)
    monkeypatch.setattr("backbeat.remote.bucket.open_bucket", lambda _: remote)
    before = content(project)
    declined = CliRunner().invoke(app, ["evict"], input="n\n")
    assert (declined.exit_code, content(project)) == (1, before)
    assert CliRunner().invoke(app, ["evict", "--yes"]).exit_code == 0
    assert set(content(project)) == {RAW}
