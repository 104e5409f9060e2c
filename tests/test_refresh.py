"""What publishers say about their files now, without fetching them."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from backbeat.datasets.refresh import Freshness, refresh
from backbeat.datasets.transport.patience import Patience
from backbeat.storage.staging import open_staging
from misbehaving_server import Answer, MisbehavingServer, misbehaving_server
from one_dataset import BODY, HASH, OTHER_BODY, record_of

HASTY = Patience(tries=2, unreachable_tries=1, first_wait_s=0.001, connect_timeout_s=5, idle_timeout_s=5)
OTHER_HASH = f"sha256:{hashlib.sha256(OTHER_BODY).hexdigest()}"
MD5 = f"md5:{hashlib.md5(BODY).hexdigest()}"


def one(project: Path) -> Freshness:
    (freshness,) = refresh(project, ["lies"], patience=HASTY)
    return freshness


# --- Plain servers ---------------------------------------------------------------------------------------------------


def test_first_time_it_is_first_seen(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    assert one(project).state == "first seen"


def test_second_time_it_is_unchanged(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    one(project)
    assert one(project).state == "unchanged"


def test_no_body_is_fetched(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    one(project)
    assert [seen.method for seen in server.seen] == ["HEAD"]


def test_file_that_has_moved_is_asked_about_where_it_is(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    server.script = [Answer(status=301, headers={"Location": server.url("moved.zip")})]
    one(project)
    assert [(seen.method, seen.path) for seen in server.seen] == [("HEAD", "/file.zip"), ("HEAD", "/moved.zip")]


def test_another_version_of_the_same_size_is_noticed_by_its_etag(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    one(project)
    server.body = OTHER_BODY
    found = one(project)
    assert (found.state, "ETag" in (found.what or "")) == ("changed", True)


def test_another_time_is_noticed(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    days = ["Wed, 21 Oct 2015 07:28:00 GMT", "Thu, 22 Oct 2015 07:28:00 GMT"]
    server.script = [Answer(headers={"ETag": None, "Last-Modified": day}) for day in days]
    one(project)
    assert (one(project).what or "").startswith(f"Last-Modified {days[0]} -> {days[1]} since ")


def test_another_size_than_the_record_says_is_a_change_at_once(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    server.body = BODY + b"more"
    found = one(project)
    assert (found.state, found.what) == ("changed", "size 300,000 -> 300,004")


def test_contradiction_of_the_record_is_said_every_time(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    server.body = BODY + b"more"
    one(project)
    assert one(project).state == "changed"


def test_change_says_what_to_do(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url(), size=1)
    assert "correct size and hash in configs/datasets/lies.yaml" in (one(project).next_step or "")


def test_record_stays_as_it_is(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url(), size=1)
    before = (project / "configs/datasets/lies.yaml").read_bytes()
    one(project)
    assert (project / "configs/datasets/lies.yaml").read_bytes() == before


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(Answer(status=405), id="refuses HEAD"),
        pytest.param(Answer(headers={"Content-Length": None}), id="says no length"),
    ],
)
def test_first_byte_is_asked_for_where_head_does_not_help(
    answer: Answer, project: Path, server: MisbehavingServer
) -> None:
    record_of(project, server.url())
    server.script = [answer]
    one(project)
    assert [(seen.method, seen.range) for seen in server.seen] == [("HEAD", None), ("GET", "bytes=0-0")]


def test_size_is_known_from_the_first_byte(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url(), size=1)
    server.script = [Answer(status=405)]
    assert one(project).what == "size 1 -> 300,000"


def test_server_without_ranges_is_hung_up_on(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    server.script = [Answer(status=405), Answer(ignore_range=True, stall_after=1)]
    assert one(project).state == "first seen"


def test_busy_server_is_asked_again(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    server.script = [Answer(status=503), Answer(status=503)]
    assert one(project).state == "first seen"


HTML: dict[str, str | None] = {"Content-Type": "text/html"}
UNREACHABLE = {
    "gone": ([Answer(status=404)] * 2, "HTTP 404 Not Found"),
    "busy": ([Answer(status=503)] * 4, "HTTP 503 Service Unavailable"),
    "page": ([Answer(status=200, body=b"<html>Moved</html>", headers=HTML)] * 2, "a page of HTML"),
}


@pytest.mark.parametrize("case", UNREACHABLE)
def test_file_that_cannot_be_seen_is_unreachable(case: str, project: Path, server: MisbehavingServer) -> None:
    script, what = UNREACHABLE[case]
    record_of(project, server.url())
    server.script = list(script)
    found = one(project)
    assert (found.state, found.what) == ("unreachable", what)


def test_host_that_is_not_there_is_unreachable(project: Path) -> None:
    with misbehaving_server(BODY) as gone:
        url = gone.url()
    record_of(project, url)
    assert one(project).state == "unreachable"


def test_what_is_said_does_not_show_where_a_redirect_was_signed_to(
    project: Path, server: MisbehavingServer, caplog: pytest.LogCaptureFixture
) -> None:
    record_of(project, server.url())
    location = "http://127.0.0.1:9/file.zip?X-Amz-Signature=canary"
    server.pages = {"/file.zip": Answer(status=302, headers={"Location": location})}
    found = one(project)
    assert (found.state, "canary" in f"{found}\n{caplog.text}") == ("unreachable", False)


def test_unreachable_file_is_compared_with_the_time_before(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    one(project)
    server.script = [Answer(status=404)] * 2
    one(project)
    server.body = OTHER_BODY
    assert one(project).state == "changed"


def test_every_address_of_a_file_is_asked_about(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url("a.zip"), server.url("b.zip"))
    found = refresh(project, ["lies"], patience=HASTY)
    assert [freshness.url for freshness in found] == [server.url("a.zip"), server.url("b.zip")]


def test_without_names_all_datasets_are_asked_about(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    assert [freshness.dataset for freshness in refresh(project, patience=HASTY)] == ["lies"]


def test_damaged_note_is_as_good_as_none(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    one(project)
    (note,) = open_staging(project).root.rglob("upstream.json")
    note.write_text('{"http')
    assert one(project).state == "first seen"


# --- Hubs ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(server: MisbehavingServer, monkeypatch: pytest.MonkeyPatch) -> MisbehavingServer:
    """A hub that says size and hash, and redirects to a place that does not answer to HEAD."""
    monkeypatch.setenv("HF_ENDPOINT", server.url("").rstrip("/"))
    linked = {"X-Linked-Size": "300000", "X-Linked-Etag": f'"{HASH.removeprefix("sha256:")}"'}
    server.pages["/datasets/a/b/resolve/c/d.zip"] = Answer(
        status=302, headers={"Location": server.url("signed"), **linked}
    )
    server.pages["/signed"] = Answer(status=403)
    return server


def test_hash_of_the_hub_is_compared(project: Path, hub: MisbehavingServer) -> None:
    record_of(project, "hf://datasets/a/b@c/d.zip", hash=OTHER_HASH)
    found = one(project)
    assert (found.state, found.what) == ("changed", f"hash {OTHER_HASH} -> {HASH}")


def test_same_hash_at_the_hub_is_no_change(project: Path, hub: MisbehavingServer) -> None:
    record_of(project, "hf://datasets/a/b@c/d.zip")
    assert one(project).state == "first seen"


def test_hash_that_the_record_lacks_is_said(project: Path, hub: MisbehavingServer) -> None:
    record_of(project, "hf://datasets/a/b@c/d.zip", hash="unverified")
    assert HASH in (one(project).next_step or "")


@pytest.fixture
def zenodo(server: MisbehavingServer, monkeypatch: pytest.MonkeyPatch) -> MisbehavingServer:
    monkeypatch.setattr("backbeat.datasets.transport.addresses.ZENODO", server.url("").rstrip("/"))
    files = [{"key": "archive.zip", "size": len(BODY), "checksum": MD5}, {"key": "b c.zip", "size": 5}]
    server.pages["/api/records/123"] = Answer(status=200, body=json.dumps({"files": files}).encode())
    return server


@pytest.mark.parametrize(
    ("url", "changes", "expected"),
    [
        pytest.param("zenodo://123/archive.zip", {"hash": MD5}, ("first seen", None), id="as listed"),
        pytest.param("zenodo://123/archive.zip", {"hash": MD5, "size": 9}, ("changed", "size 9 -> 300,000"), id="size"),
        pytest.param("zenodo://123/b%20c.zip", {"size": 5}, ("first seen", None), id="without a checksum"),
        pytest.param(
            "zenodo://123/gone.zip", {}, ("changed", "the record on Zenodo does not list it any more"), id="not listed"
        ),
        pytest.param("zenodo://124/archive.zip", {}, ("unreachable", "HTTP 404 Not Found"), id="no such record"),
    ],
)
def test_listing_of_zenodo_is_compared(
    url: str, changes: dict[str, Any], expected: tuple[str, str | None], project: Path, zenodo: MisbehavingServer
) -> None:
    record_of(project, url, **changes)
    zenodo.pages["/api/records/124"] = Answer(status=404)
    found = one(project)
    assert (found.state, found.what) == expected


def test_zenodo_is_asked_once_about_a_record(project: Path, zenodo: MisbehavingServer) -> None:
    record_of(project, "zenodo://123/archive.zip", "zenodo://123/b%20c.zip")
    refresh(project, ["lies"], patience=HASTY)
    assert [seen.path for seen in zenodo.seen] == ["/api/records/123"]


@pytest.mark.parametrize("listing", [b"<html>", b"[]", b'{"files": [{"key": 1}]}', b"{}"])
def test_what_is_no_listing_is_unreachable(listing: bytes, project: Path, zenodo: MisbehavingServer) -> None:
    record_of(project, "zenodo://123/archive.zip")
    zenodo.pages["/api/records/123"] = Answer(status=200, body=listing)
    assert one(project).state == "unreachable"


# --- What does not come over HTTP ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "state"),
    [
        ("manual://example.org/form", "needs a person"),
        ("generate://mini", "generated"),
        ("file:nothing.zip", "unreachable"),
    ],
)
def test_other_sources_are_told_apart(url: str, state: str, project: Path) -> None:
    record_of(project, url)
    assert one(project).state == state


def own_copy_after(project: Path, content: bytes, *, hash_: str = HASH) -> Freshness:
    """Ask about a copy of one's own, write `content` into it a day later, and ask again."""
    (project / "own.zip").write_bytes(BODY)
    record_of(project, "file:own.zip", hash=hash_)
    one(project)
    (project / "own.zip").write_bytes(content)
    os.utime(project / "own.zip", (86_400, 86_400))
    return one(project)


@pytest.mark.parametrize(
    ("content", "changes", "state"),
    [
        pytest.param(BODY, {}, "unchanged", id="touched"),
        pytest.param(OTHER_BODY, {}, "own copy changed", id="other bytes"),
        pytest.param(BODY[:-1], {}, "own copy changed", id="cut"),
        pytest.param(OTHER_BODY, {"hash_": "unverified"}, "own copy changed", id="without a promise"),
    ],
)
def test_own_copy_is_judged_by_its_bytes(content: bytes, changes: dict[str, str], state: str, project: Path) -> None:
    assert own_copy_after(project, content, **changes).state == state


def test_excluded_dataset_is_not_asked_about_with_all_others(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    path = project / "configs" / "datasets" / "lies.yaml"
    record = yaml.safe_load(path.read_text())
    ordered = {key: value for key, value in record.items() if key not in {"homepage", "citation", "notes", "files"}}
    rest = {key: record[key] for key in ("homepage", "citation", "notes", "verified_on", "files")}
    del ordered["verified_on"]
    path.write_text(yaml.safe_dump(ordered | {"phase": None, "excluded": "no"} | rest, sort_keys=False))
    assert refresh(project, patience=HASTY) == []
