"""The mirror of raw archives: sent, checked, brought back, and tried before the publisher."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import logging
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from typer.testing import CliRunner

import backbeat.remote.bucket
from backbeat.cli.cloud import app
from backbeat.cloud.mirror import plan_push
from backbeat.cloud.mirror_check import check
from backbeat.cloud.mirror_pull import plan_pull, pull
from backbeat.cloud.mirror_push import push
from backbeat.datasets.download import download
from backbeat.datasets.transport import mirrored
from backbeat.datasets.transport.partial import part_path
from backbeat.datasets.verify import verify
from backbeat.errors import CloudError, DownloadError
from backbeat.remote.bucket import open_bucket
from mirrored import bucket_project, empty, flip, forget_everything, pushed, set_cloud, spoil, with_own_copy
from misbehaving_server import Answer, MisbehavingServer
from one_dataset import BODY, HASH, HASTY, OTHER_BODY, fetched, files_under_final_names, record_of, staged, wait_for
from s3_proxy import Fault, S3Proxy, refusal, s3_proxy
from s3_server import SECRET, S3Server, s3_server

FILE = "mirror/raw/lies/archive.zip"
MANIFEST = "mirror/raw/lies.json"
NOWHERE = "https://127.0.0.1:9/archive.zip"
NOT_HANDED_ON = {"license": {"id": "unknown", "url": None, "commercial": None, "redistribute": False, "note": None}}


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("mirror") / "s3") as running:
        yield running


@pytest.fixture
def proxy(s3: S3Server) -> Iterator[S3Proxy]:
    with s3_proxy(s3.endpoint_url) as running:
        yield running


@pytest.fixture
def project(tmp_path: Path, proxy: S3Proxy, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    project = bucket_project(tmp_path, proxy.endpoint_url, monkeypatch)
    yield project
    monkeypatch.undo()
    empty(s3)


# ------------------------------------------------------------------------------------------------------------------
# push


def test_archive_is_in_the_bucket_under_its_own_name(project: Path, s3: S3Server) -> None:
    pushed(project)
    assert s3.objects() == [MANIFEST, FILE]
    assert (s3.bucket / FILE).read_bytes() == BODY


def test_manifest_says_what_the_files_are_and_what_may_be_done_with_them(project: Path, s3: S3Server) -> None:
    pushed(project)
    manifest = json.loads((s3.bucket / MANIFEST).read_text())
    assert manifest["files"] == [
        {
            "path": "archive.zip",
            "size_bytes": len(BODY),
            "sha256": hashlib.sha256(BODY).hexdigest(),
            "md5": hashlib.md5(BODY).hexdigest(),
        }
    ]
    assert (manifest["license"]["id"], manifest["license"]["redistribute"]) == ("CC0-1.0", True)


def test_what_is_there_is_not_sent_again_nor_hashed(
    project: Path, proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed(project)
    before = proxy.counts["PUT"]
    monkeypatch.setattr("backbeat.cloud.mirror_push.proven", lambda one: pytest.fail("it is hashed again"))
    push(project, plan_push(project))
    assert proxy.counts["PUT"] == before


@pytest.mark.parametrize("damage", ["truncated", "flipped", "deleted"])
def test_what_is_damaged_in_the_bucket_is_sent_again(damage: str, project: Path, s3: S3Server) -> None:
    pushed(project)
    spoil(project, FILE, damage)
    push(project, plan_push(project))
    assert (s3.bucket / FILE).read_bytes() == BODY


def test_damaged_file_is_not_sent(project: Path, s3: S3Server) -> None:
    record_of(project, with_own_copy(project).as_uri())
    fetched(project)
    flip(staged(project))
    with pytest.raises(CloudError, match=r"not what its record promises"):
        push(project, plan_push(project))
    assert s3.objects() == []


def test_file_without_a_hash_is_hashed_first(project: Path, s3: S3Server) -> None:
    pushed(project, hash="unverified")
    assert json.loads((s3.bucket / MANIFEST).read_text())["files"][0]["sha256"] == HASH.removeprefix("sha256:")


REFUSED: dict[str, tuple[dict[str, object], str]] = {
    "excluded": ({"record": {"excluded": "it is not free", "phase": None}}, "it is not free"),
    "not to be handed on": ({"record": NOT_HANDED_ON}, "--private"),
    "a part of an archive": ({"members": {"names": ["*.txt"]}}, "whole ones"),
    "not here": ({}, "backbeat datasets download"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_dataset_that_cannot_be_mirrored_is_refused_by_name(case: str, project: Path, proxy: S3Proxy) -> None:
    changes, fragment = REFUSED[case]
    record_of(project, NOWHERE, **changes)
    with pytest.raises(CloudError) as failure:
        plan_push(project, ["lies"])
    assert fragment in str(failure.value)
    assert proxy.counts["PUT"] == 0


def test_without_names_what_may_not_be_handed_on_is_left_out_with_the_reason(project: Path, s3: S3Server) -> None:
    record_of(project, with_own_copy(project).as_uri(), record=NOT_HANDED_ON)
    fetched(project)
    plan = plan_push(project)
    assert (plan.files, list(plan.left_out)) == ((), ["lies"])


def test_private_bucket_takes_what_may_not_be_handed_on(project: Path, s3: S3Server) -> None:
    record_of(project, with_own_copy(project).as_uri(), record=NOT_HANDED_ON)
    fetched(project)
    push(project, plan_push(project, private=True))
    assert (s3.bucket / FILE).read_bytes() == BODY


def test_bucket_that_everybody_can_read_does_not(project: Path, proxy: S3Proxy) -> None:
    record_of(project, with_own_copy(project).as_uri(), record=NOT_HANDED_ON)
    fetched(project)
    proxy.spoil(refusal(404, "NoSuchKey"), "GET", key="none")
    with pytest.raises(CloudError, match=r"everybody can read the bucket"):
        plan_push(project, private=True)


@pytest.mark.parametrize("right", ["to list", "to read one object", "to read what is no dataset"])
def test_bucket_of_which_everybody_has_one_right_does_not(right: str, project: Path, proxy: S3Proxy) -> None:
    record_of(project, with_own_copy(project).as_uri(), record=NOT_HANDED_ON)
    fetched(project)
    key = FILE if right == "to read one object" else "dvc/some file"
    open_bucket(project).put(key, b"there", hashlib.md5(b"there").hexdigest())
    assert plan_push(project, private=True).private
    # What is asked without a key; the client's own listing says how names are to be encoded.
    question = "?list-type=2&max-keys=1" if right == "to list" else f"/{quote(key)}"
    proxy.rules.append(lambda asked: Fault(200) if asked.kind != "HEAD" and asked.path.endswith(question) else None)
    with pytest.raises(CloudError, match=r"(?s)everybody can read the bucket.*HTTP 200"):
        plan_push(project, private=True)


@pytest.mark.parametrize("budget", ["push_gb", "stored_gb"])
def test_budget_is_kept_before_a_byte_is_sent(budget: str, project: Path, proxy: S3Proxy) -> None:
    set_cloud(project, "budgets", budget, 0.0002)
    with pytest.raises(CloudError, match=budget):
        pushed(project)
    assert proxy.counts["PUT"] == 0


def test_refusal_of_the_bucket_is_explained(project: Path, proxy: S3Proxy) -> None:
    proxy.refused = {"PUT"}
    with pytest.raises(CloudError, match=r"cannot send lies/archive\.zip") as failure:
        pushed(project)
    assert "AccessDenied" in (failure.value.got or "")
    assert SECRET not in str(failure.value)


def test_push_that_dies_before_the_manifest_is_seen_and_finished(project: Path, proxy: S3Proxy, s3: S3Server) -> None:
    proxy.spoil(refusal(403, "AccessDenied"), "PUT", key=MANIFEST)
    with pytest.raises(CloudError):
        pushed(project)
    assert s3.objects() == [FILE]
    assert [one.state for one in check(project)] == ["unnamed"]
    proxy.heal()
    before = proxy.counts["PUT"]
    push(project, plan_push(project))
    assert proxy.counts["PUT"] == before + 1
    assert [one.state for one in check(project)] == ["ok"]


def test_push_killed_in_the_middle_leaves_nothing_half_and_the_next_one_finishes(
    project: Path, proxy: S3Proxy, s3: S3Server
) -> None:
    record_of(project, with_own_copy(project).as_uri())
    fetched(project)
    proxy.bytes_per_s = 100_000
    code = "from backbeat.cli.app import main; main()"
    command = [sys.executable, "-c", code, "cloud", "mirror", "push", "lies", "--yes"]
    with subprocess.Popen(command, cwd=project, start_new_session=True, stderr=subprocess.DEVNULL) as process:
        wait_for(lambda: proxy.up_bytes > 100_000)
        shown = command_lines()
        os.kill(process.pid, signal.SIGKILL)
    # What rclone reports goes nowhere now, and it ends.
    wait_for(lambda: not any(b"copyto" in line and os.fsencode(project) in line for line in command_lines()))
    assert any(b"copyto" in line for line in shown)
    assert not any(SECRET.encode() in line for line in shown)
    # What else is there is this server's own: a part of what it was being sent.
    assert not (s3.bucket / FILE).exists()
    proxy.heal()
    push(project, plan_push(project))
    assert (s3.bucket / FILE).read_bytes() == BODY
    assert ("archive.zip", "ok") in [(one.path, one.state) for one in check(project, full=True)]


def command_lines() -> list[bytes]:
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes())
        except OSError:
            continue
    return lines


# ------------------------------------------------------------------------------------------------------------------
# check


@pytest.mark.parametrize(
    ("damage", "state"), [("truncated", "damaged"), ("flipped", "damaged"), ("deleted", "missing")]
)
def test_damage_is_found(damage: str, state: str, project: Path, s3: S3Server) -> None:
    pushed(project)
    spoil(project, FILE, damage)
    assert [one.state for one in check(project)] == [state]


def test_object_that_no_manifest_names_is_found(project: Path) -> None:
    pushed(project)
    content = b"left over"
    open_bucket(project).put("mirror/raw/lies/other.zip", content, hashlib.md5(content).hexdigest())
    assert [(one.path, one.state) for one in check(project)] == [("archive.zip", "ok"), ("other.zip", "unnamed")]


def test_record_that_wants_other_bytes_by_now_is_found(project: Path) -> None:
    pushed(project)
    record_of(project, NOWHERE, hash=f"sha256:{hashlib.sha256(OTHER_BODY).hexdigest()}")
    assert [one.state for one in check(project)] == ["outdated"]


def test_archive_that_was_sent_in_parts_is_proven_by_reading(
    project: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RCLONE_S3_UPLOAD_CUTOFF", "0")
    body = BODY * 20
    record_of(project, with_own_copy(project, body).as_uri(), size=len(body), hash="unverified")
    fetched(project)
    push(project, plan_push(project))
    (stored,) = open_bucket(project).list(FILE)
    # This server makes an MD5 of what is in its folder; Backblaze keeps the ETag of the parts.
    monkeypatch.setattr(backbeat.remote.bucket.Bucket, "list", in_parts(backbeat.remote.bucket.Bucket.list))
    assert stored.size_bytes == len(body)
    assert [(one.state, one.what) for one in check(project)] == [("ok", "read")]
    assert len(plan_push(project).to_send) == 0
    assert [one.what for one in check(project, every=True)] == ["name and size"]
    (project / ".dvc" / "cache" / "proofs.sqlite").unlink()
    assert [one.what for one in check(project, every=True)] == ["read"]
    spoil(project, FILE, "flipped")
    assert [one.state for one in check(project)] == ["damaged"]
    set_cloud(project, "limits", "sample_objects", 0)
    assert [one.state for one in check(project)] == ["ok"]
    assert [one.state for one in check(project, full=True)] == ["damaged"]
    spoil(project, FILE, "truncated")
    assert [one.state for one in check(project)] == ["damaged"]


def in_parts(listing):  # type: ignore[no-untyped-def]
    def listed(self, prefix=""):  # type: ignore[no-untyped-def]
        for one in listing(self, prefix):
            etag = one.etag if one.key.endswith(".json") else f"{'0' * 32}-2"
            yield backbeat.remote.bucket.StoredObject(one.key, one.size_bytes, etag)

    return listed


# ------------------------------------------------------------------------------------------------------------------
# pull


@pytest.fixture
def clone(project: Path) -> Path:
    """A project without data, whose publisher is gone and whose mirror has everything."""
    pushed(project)
    forget_everything(project)
    record_of(project, NOWHERE)
    return project


def test_pull_brings_the_dataset_as_a_download_does(clone: Path) -> None:
    pull(clone, plan_pull(clone))
    assert (clone / "data/raw/lies/archive.zip").read_bytes() == BODY
    assert [verdict.state for verdict in verify(clone, "lies", quick=True)] == ["ok"]
    assert [one.state for one in plan_pull(clone)] == ["present"]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "deleted"])
@pytest.mark.parametrize("hash_", [HASH, "unverified"])
def test_damaged_copy_gets_no_final_name(damage: str, hash_: str, clone: Path, s3: S3Server) -> None:
    record_of(clone, NOWHERE, hash=hash_, size=None)
    spoil(clone, FILE, damage)
    with pytest.raises(DownloadError):
        pull(clone, plan_pull(clone))
    assert files_under_final_names(clone) == []


@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_damaged_copy_is_blamed_on_the_mirror_not_on_the_record(
    damage: str, clone: Path, server: MisbehavingServer, caplog: pytest.LogCaptureFixture
) -> None:
    spoil(clone, FILE, damage)
    with pytest.raises(DownloadError) as failure:
        pull(clone, plan_pull(clone))
    record_of(clone, server.url())
    assert fetched(clone) == BODY
    # A download asks for the size first.
    for said in (str(failure.value), *([caplog.text] if damage == "flipped" else [])):
        assert "mirror://raw/lies/archive.zip" in said
        assert "backbeat cloud mirror check" in said
        assert "configs/datasets" not in said
        assert "publisher" not in said


def test_pull_that_was_cut_goes_on_where_it_was(clone: Path, proxy: S3Proxy) -> None:
    proxy.spoil(Fault(then="close", after=100_000), "GET", key=FILE, times=1)
    proxy.spoil(refusal(403, "AccessDenied"), "GET", key=FILE, times=1)
    with pytest.raises(DownloadError):
        pull(clone, plan_pull(clone))
    assert part_path(staged(clone)).stat().st_size == 100_000
    proxy.heal()
    proxy.forget()
    pull(clone, plan_pull(clone))
    assert fetched(clone) == BODY
    assert proxy.down_bytes < 250_000


def test_pull_within_a_bandwidth_takes_its_time(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("backbeat.datasets.transport.transfer.time.sleep", waits.append)
    pull(clone, plan_pull(clone), mb_per_s=0.1)
    assert sum(waits) == pytest.approx(3.0)


def test_pull_keeps_its_budget(clone: Path, proxy: S3Proxy) -> None:
    set_cloud(clone, "budgets", "pull_gb", 0.0002)
    with pytest.raises(CloudError, match="pull_gb"):
        pull(clone, plan_pull(clone))
    assert not any(asked.kind == "GET" and asked.key == FILE for asked in proxy.asked)


def test_pull_of_what_the_mirror_lacks_says_so(project: Path) -> None:
    record_of(project, NOWHERE)
    with pytest.raises(CloudError, match=r"the mirror has nothing of lies"):
        plan_pull(project, ["lies"])


# ------------------------------------------------------------------------------------------------------------------
# downloads


def test_mirror_is_asked_before_the_publisher(clone: Path, server: MisbehavingServer) -> None:
    record_of(clone, server.url())
    assert fetched(clone) == BODY
    assert server.seen == []


def test_what_a_person_would_have_to_fetch_comes_from_the_mirror(clone: Path) -> None:
    record_of(clone, "manual://example.org/form")
    assert fetched(clone) == BODY


def test_publisher_is_asked_for_what_the_mirror_lacks_without_a_word(
    project: Path, server: MisbehavingServer, caplog: pytest.LogCaptureFixture
) -> None:
    record_of(project, server.url())
    assert fetched(project) == BODY
    assert caplog.text == ""


@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_publisher_is_asked_when_the_mirror_has_wrong_bytes(
    damage: str, clone: Path, s3: S3Server, server: MisbehavingServer
) -> None:
    record_of(clone, server.url())
    spoil(clone, FILE, damage)
    assert fetched(clone) == BODY
    assert [seen.range for seen in server.seen] == [None]


def test_bucket_that_cannot_be_reached_is_asked_about_one_file_only(
    clone: Path, proxy: S3Proxy, server: MisbehavingServer, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.refused = {"HEAD"}
    proxy.forget()
    record_of(clone, server.url(), name="lies")
    record_of(clone, server.url(), name="more", hash=HASH.replace(HASH[-2:], "00"))
    with pytest.raises(DownloadError):
        download(clone, "lies", "more", patience=HASTY, jobs=1)
    assert proxy.counts["HEAD"] == 1
    assert caplog.text.count("the mirror is left out") == 1


def test_reason_that_has_no_details_is_said_without_them(
    clone: Path, proxy: S3Proxy, server: MisbehavingServer, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    record_of(clone, server.url())

    def silent(*_: object) -> None:
        raise CloudError("cannot look: the proxy does not answer", next_step="check HTTPS_PROXY")

    monkeypatch.setattr(backbeat.remote.bucket.Bucket, "head", silent)
    assert fetched(clone) == BODY
    assert "the mirror is left out: cannot look: the proxy does not answer\n" in caplog.text


def test_check_does_not_advise_to_send_what_has_no_record(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pushed(project)
    (project / "configs/datasets/lies.yaml").unlink()
    monkeypatch.chdir(project)
    done = CliRunner().invoke(app, ["mirror", "check"])
    assert (done.exit_code, "the registry has no such dataset" in done.stdout) == (1, True)
    assert "bring back configs/datasets/lies.yaml, or delete mirror/raw/lies.json" in done.stderr
    assert "mirror push" not in done.stderr


def test_bucket_that_fails_in_the_middle_is_given_up_for_the_publisher(
    clone: Path, proxy: S3Proxy, server: MisbehavingServer
) -> None:
    record_of(clone, server.url())
    proxy.spoil(Fault(then="close", after=100_000), "GET", key=FILE, times=1)
    proxy.spoil(refusal(503, "SlowDown"), "GET", key=FILE)
    assert fetched(clone) == BODY
    assert [seen.range for seen in server.seen] == [None]


def test_bytes_from_the_publisher_are_not_thrown_away_for_the_mirror(clone: Path, server: MisbehavingServer) -> None:
    record_of(clone, server.url())
    set_cloud(clone, "mirror", "tried_first", False)
    server.script = [Answer(drop_after=100_000), Answer(status=404)]
    with pytest.raises(DownloadError):
        fetched(clone)
    set_cloud(clone, "mirror", "tried_first", True)
    assert fetched(clone) == BODY
    assert server.ranges() == [None, "bytes=100000-", "bytes=100000-"]


def test_address_is_signed_anew_for_each_attempt(
    clone: Path, proxy: S3Proxy, server: MisbehavingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_of(clone, server.url())
    # Signed within the same second for the same time, two addresses would be one.
    valid_s = itertools.count(mirrored.VALID_S, -1)
    sign = backbeat.remote.bucket.Bucket.presigned_url
    monkeypatch.setattr(
        backbeat.remote.bucket.Bucket, "presigned_url", lambda self, key, _: sign(self, key, next(valid_s))
    )
    proxy.spoil(Fault(then="close", after=100_000), "GET", key=FILE, times=1)
    # As a server does that finds an address expired.
    expired = refusal(403, "AccessDenied", "Request has expired")
    first = f"X-Amz-Expires={mirrored.VALID_S}&"
    proxy.rules.append(lambda asked: expired if first in asked.path else None)
    assert fetched(clone) == BODY
    assert server.seen == []
    assert [first in asked.path for asked in proxy.asked if asked.kind == "GET" and asked.key == FILE] == [True, False]


def test_signature_is_in_no_message_and_no_note(
    clone: Path, proxy: S3Proxy, server: MisbehavingServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    record_of(clone, server.url())
    server.lies = lambda: Answer(status=404)
    proxy.spoil(Fault(then="close", after=100_000), "GET", key=FILE, times=1)
    proxy.spoil(Fault(then="reset", after=0), "GET", key=FILE, times=1)
    proxy.spoil(refusal(403, "AccessDenied"), "GET", key=FILE)
    with pytest.raises(DownloadError) as failure:
        fetched(clone)
    notes = [path.read_bytes() for path in (clone / ".dvc").rglob("*.origin.part")]
    assert "mirror://raw/lies/archive.zip" in str(failure.value)
    assert notes != []
    proxy.heal()
    fetched(clone)
    notes += [path.read_bytes() for path in (clone / ".dvc").rglob("*.checked.part")]
    for text in (caplog.text, str(failure.value), repr(notes)):
        assert "X-Amz" not in text
        assert "Signature" not in text


WITHOUT_MIRROR = {
    "no bucket": ("endpoint", None),
    "no keys": ("environment", None),
    "not wanted": ("tried_first", None),
    "not configured": ("cloud.yaml", None),
}


@pytest.mark.parametrize("case", WITHOUT_MIRROR)
def test_nothing_is_asked_where_there_is_no_mirror(
    case: str, clone: Path, proxy: S3Proxy, server: MisbehavingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_of(clone, server.url())
    if case == "no bucket":
        (clone / ".dvc" / "config.local").unlink()
    elif case == "no keys":
        monkeypatch.delenv("B2_APPLICATION_KEY")
    elif case == "not wanted":
        set_cloud(clone, "mirror", "tried_first", False)
    else:
        (clone / "configs" / "cloud.yaml").unlink()
    monkeypatch.setattr(backbeat.remote.bucket.Bucket, "__init__", lambda *_, **__: pytest.fail("a bucket is opened"))
    proxy.forget()
    assert fetched(clone) == BODY
    assert proxy.asked == []


def test_file_without_a_hash_comes_from_its_publisher(clone: Path, proxy: S3Proxy, server: MisbehavingServer) -> None:
    record_of(clone, server.url(), hash="unverified")
    proxy.forget()
    fetched(clone)
    assert (len(server.seen), proxy.asked) == (1, [])


def test_mirror_is_left_out_beyond_the_budget(clone: Path, proxy: S3Proxy, server: MisbehavingServer) -> None:
    record_of(clone, server.url())
    set_cloud(clone, "budgets", "pull_gb", 0.0002)
    assert fetched(clone) == BODY
    assert len(server.seen) == 1


def test_members_come_out_of_the_mirrored_archive_by_ranges(project: Path, proxy: S3Proxy) -> None:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        archive.writestr("large.bin", BODY)
        archive.writestr("small.txt", b"the one that is wanted")
        archive.writestr("larger.bin", OTHER_BODY)
    body = written.getvalue()
    promise = {"size": len(body), "hash": f"sha256:{hashlib.sha256(body).hexdigest()}"}
    record_of(project, with_own_copy(project, body).as_uri(), **promise)
    fetched(project)
    push(project, plan_push(project))
    forget_everything(project)
    record_of(project, NOWHERE, **promise, members={"names": ["*.txt"]})
    proxy.forget()
    with zipfile.ZipFile(io.BytesIO(fetched(project))) as picked:
        assert {name: picked.read(name) for name in picked.namelist()} == {"small.txt": b"the one that is wanted"}
    assert proxy.down_bytes < len(body) / 2
