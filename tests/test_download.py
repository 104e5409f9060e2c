"""Downloads from servers that lie: never a wrong byte under a final name, always a way on."""

from __future__ import annotations

import email.utils
import os
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from backbeat.datasets.download import download
from backbeat.datasets.transport.patience import Patience
from backbeat.errors import ConfigError, DownloadError
from misbehaving_server import Answer, MisbehavingServer, misbehaving_server
from one_dataset import BODY, HASH, HASTY, OTHER_BODY, fetched, files_under_final_names, record_of, staged

HTML = b"<!DOCTYPE html><html><body>Quota exceeded</body></html>"
YESTERDAY = email.utils.formatdate(time.time() - 86_400, usegmt=True)
JUST_NOW = email.utils.formatdate(time.time() + 86_400, usegmt=True)  # however long the tests before this one take
LONG_PAST: dict[str, str | None] = {"ETag": None, "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}
NO_LENGTH: dict[str, str | None] = {"Content-Length": None}


# --- The way it should be --------------------------------------------------------------------------------------------


def test_downloaded_file_is_a_link_into_the_staging_store(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    download(project, "lies", patience=HASTY)
    assert (project / "data/raw/lies/archive.zip").readlink() == staged(project)


def test_staged_file_is_named_by_its_hash(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    download(project, "lies", patience=HASTY)
    assert staged(project).stem == HASH.removeprefix("sha256:")


def test_second_download_asks_for_nothing(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    fetched(project)
    fetched(project)
    assert len(server.seen) == 1


def test_success_leaves_only_lock_and_check_beside_the_file(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    server.script = [Answer(drop_after=1_000)]
    fetched(project)
    name = staged(project).name
    beside = {path.name for path in staged(project).parent.iterdir()}
    assert beside <= {name, f"{name}.lock.part", f"{name}.checked.part"}


def test_staged_file_of_another_size_is_fetched_again(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    fetched(project)
    os.truncate(staged(project), 10)
    assert fetched(project) == BODY


def test_verifying_download_fetches_a_rotten_file_again(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    fetched(project)
    staged(project).write_bytes(OTHER_BODY)
    assert fetched(project, verify=True) == BODY


# --- Servers that misbehave, and the bytes are right in the end ------------------------------------------------------

HEALS: dict[str, tuple[list[Answer], list[str | None]]] = {
    "dropped once": ([Answer(drop_after=100_000)], [None, "bytes=100000-"]),
    "dropped three times": (
        [Answer(drop_after=100_000), Answer(drop_after=50_000), Answer(drop_after=50_000)],
        [None, "bytes=100000-", "bytes=150000-", "bytes=200000-"],
    ),
    "dropped before the first byte": ([Answer(drop_after=0)], [None, None]),
    "range ignored": ([Answer(drop_after=100_000), Answer(ignore_range=True)], [None, "bytes=100000-"]),
    "wrong Content-Range start": (
        [Answer(drop_after=100_000), Answer(headers={"Content-Range": "bytes 99999-299999/300000"})],
        [None, "bytes=100000-", None],
    ),
    "wrong Content-Range total": (
        [Answer(drop_after=100_000), Answer(headers={"Content-Range": "bytes 100000-299999/300001"})],
        [None, "bytes=100000-", None],
    ),
    "no Content-Range": (
        [Answer(drop_after=100_000), Answer(headers={"Content-Range": None})],
        [None, "bytes=100000-", None],
    ),
    "206 of another version": (
        [Answer(body=OTHER_BODY, drop_after=100_000), Answer(body=BODY, ignore_if_range=True)],
        [None, "bytes=100000-", None],
    ),
    "changed between attempts": (
        [Answer(body=OTHER_BODY, drop_after=100_000), Answer(body=BODY)],
        [None, "bytes=100000-"],
    ),
    "416 though bytes are missing": (
        [Answer(drop_after=100_000), Answer(status=416, headers={"Content-Range": "bytes */5"})],
        [None, "bytes=100000-", None],
    ),
    "no ETag": ([Answer(drop_after=100_000, headers={"ETag": None})], [None, None]),
    "no ETag, but a date long past": (
        [Answer(drop_after=100_000, headers=LONG_PAST), Answer(headers=LONG_PAST, ignore_if_range=True)],
        [None, "bytes=100000-"],
    ),
    "no ETag, and a date that the file may have changed since": (
        [Answer(drop_after=100_000, headers={"ETag": None, "Last-Modified": JUST_NOW})],
        [None, None],
    ),
    "206 of another date": (
        [
            Answer(drop_after=100_000, headers=LONG_PAST),
            Answer(headers=LONG_PAST | {"Last-Modified": YESTERDAY}, ignore_if_range=True),
        ],
        [None, "bytes=100000-", None],
    ),
    "weak ETag": ([Answer(drop_after=100_000, headers={"ETag": 'W/"1"'})], [None, None]),
    "body shorter than the record, without Content-Length": (
        [Answer(drop_after=100_000, headers=NO_LENGTH)],
        [None, "bytes=100000-"],
    ),
    "no Content-Length": ([Answer(headers=NO_LENGTH)], [None]),
    "chunked": ([Answer(headers=NO_LENGTH | {"Transfer-Encoding": "chunked"})], [None]),
    "busy": ([Answer(status=503, headers={"Retry-After": "0"}), Answer(status=429)], [None, None, None]),
    "busy until a date": ([Answer(status=503, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"})], [None, None]),
    "busy in the middle": (
        [Answer(drop_after=100_000), Answer(status=503)],
        [None, "bytes=100000-", "bytes=100000-"],
    ),
    "asks to wait for a day": ([Answer(status=503, headers={"Retry-After": "86400"})], [None, None]),
}


@pytest.mark.parametrize("case", HEALS)
def test_download_heals(case: str, project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    server.script = list(HEALS[case][0])
    assert fetched(project) == BODY


@pytest.mark.parametrize("case", HEALS)
def test_requests_ask_for_what_is_missing_and_trusted(case: str, project: Path, server: MisbehavingServer) -> None:
    script, ranges = HEALS[case]
    record_of(project, server.url())
    server.script = list(script)
    fetched(project)
    assert server.ranges() == ranges


def test_silent_server_is_left_and_the_rest_asked_for(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    server.script = [Answer(stall_after=100_000)]
    download(project, "lies", patience=Patience(first_wait_s=0.001, idle_timeout_s=0.2))
    assert server.ranges() == [None, "bytes=100000-"]


def test_retry_after_is_honored(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    server.script = [Answer(status=503, headers={"Retry-After": "1"})]
    started_s = time.monotonic()
    download(project, "lies", patience=Patience(first_wait_s=0.001))
    assert time.monotonic() - started_s >= 1


def test_files_of_several_datasets_are_fetched_together(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url("first.zip"))
    record_of(project, server.url("second.zip"), name="others", hash="unverified")
    download(project, "lies", "others", patience=HASTY)
    assert [(project / "data/raw" / name / "archive.zip").read_bytes() for name in ("lies", "others")] == [BODY, BODY]


def test_one_dataset_that_fails_does_not_keep_the_other_from_being_linked(
    project: Path, server: MisbehavingServer
) -> None:
    record_of(project, server.url("first.zip"))
    record_of(project, "manual://a.place", name="others", hash="unverified", size=None)
    with pytest.raises(DownloadError, match=r"others: archive\.zip has to be fetched by a person"):
        download(project, "others", "lies", patience=HASTY)
    assert (project / "data/raw/lies/archive.zip").read_bytes() == BODY


def test_every_failure_of_several_is_told(project: Path) -> None:
    for name in ("lies", "others"):
        record_of(project, "manual://a.place", name=name, hash="unverified", size=None)
    with pytest.raises(DownloadError, match=r"(?s)2 of 2 files.*lies: archive\.zip.*others: archive\.zip"):
        download(project, "lies", "others", jobs=1, patience=HASTY)


def test_excluded_dataset_is_refused_with_its_reason(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url(), record={"phase": None, "excluded": "its license forbids everything"})
    with pytest.raises(ConfigError, match="lies is excluded: its license forbids everything"):
        fetched(project)
    assert server.seen == []


def test_data_folder_of_the_environment_is_where_the_bytes_go(
    project: Path, server: MisbehavingServer, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = tmp_path_factory.mktemp("volume")
    monkeypatch.setenv("BACKBEAT_DATA_DIR", str(volume))
    record_of(project, server.url())
    fetched(project)
    assert (project / "data/raw/lies/archive.zip").resolve().is_relative_to(volume)


def test_hash_that_is_put_into_the_record_later_costs_no_download(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url(), hash="unverified")
    fetched(project)
    record_of(project, server.url())
    assert (fetched(project), len(server.seen)) == (BODY, 1)


def test_redirect_is_followed(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    server.script = [Answer(status=302, headers={"Location": server.url("elsewhere.zip")})]
    assert fetched(project) == BODY


# --- Servers that misbehave, and it cannot be healed -----------------------------------------------------------------

FAILS: dict[str, tuple[Answer, str]] = {
    "one flipped bit": (Answer(flip_byte=123_456), "sha256:"),
    "another file of the same size": (Answer(body=OTHER_BODY), "sha256:"),
    "another size": (Answer(body=BODY + b"more"), "300,004 bytes"),
    "longer body, without Content-Length": (Answer(body=BODY + b"more", headers=NO_LENGTH), "more than 300,000 bytes"),
    "page of HTML": (
        Answer(status=200, body=HTML, headers={"Content-Type": "text/html"}),
        "a page of HTML of 55 bytes",
    ),
    "page of HTML called data": (
        Answer(status=200, body=HTML, headers={"Content-Type": "application/zip"}),
        "a page of HTML of 55 bytes",
    ),
    "not there": (Answer(status=404), "HTTP 404 Not Found"),
    "forbidden": (Answer(status=403), "HTTP 403 Forbidden"),
    "busy without end": (Answer(status=503), "HTTP 503 Service Unavailable (4 times in a row)"),
    "dropped without end": (Answer(drop_after=0), "the connection broke"),
    "206 that nobody asked for": (Answer(status=206, body=BODY), "HTTP 206"),
}


@pytest.mark.parametrize("case", FAILS)
def test_failure_says_what_came_instead(case: str, project: Path, server: MisbehavingServer) -> None:
    answer, fragment = FAILS[case]
    record_of(project, server.url())
    server.script = [answer] * 20
    with pytest.raises(DownloadError) as failure:
        fetched(project)
    assert fragment in (failure.value.got or "")


@pytest.mark.parametrize("case", FAILS)
def test_failure_leaves_nothing_under_a_final_name(case: str, project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    server.script = [FAILS[case][0]] * 20
    with pytest.raises(DownloadError):
        fetched(project)
    assert files_under_final_names(project) == []


@pytest.mark.parametrize("case", FAILS)
def test_same_command_heals_once_the_server_does(case: str, project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    server.script = [FAILS[case][0]] * 20
    with pytest.raises(DownloadError):
        fetched(project)
    server.script, server.body = [], BODY
    assert fetched(project) == BODY


def test_failure_says_what_was_expected(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    server.script = [Answer(flip_byte=5)]
    with pytest.raises(DownloadError) as failure:
        fetched(project)
    assert failure.value.expected == HASH


def test_failure_names_the_command_to_type(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    server.script = [Answer(status=404)]
    with pytest.raises(DownloadError, match="next: backbeat datasets download lies"):
        fetched(project)


def test_message_does_not_show_a_query(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url("file.zip?signature=canary"))
    server.script = [Answer(status=403)]
    with pytest.raises(DownloadError) as failure:
        fetched(project)
    assert "canary" not in str(failure.value)


@pytest.mark.parametrize("place", ["http://127.0.0.1:9", "https://{itself}", "ftp://127.0.0.1"])
def test_message_does_not_show_where_a_redirect_was_signed_to(
    place: str, project: Path, server: MisbehavingServer, caplog: pytest.LogCaptureFixture
) -> None:
    record_of(project, server.url())
    location = f"{place.format(itself=urlsplit(server.url()).netloc)}/file.zip?X-Amz-Signature=canary"
    server.pages = {"/file.zip": Answer(status=302, headers={"Location": location})}
    with pytest.raises(DownloadError) as failure:
        fetched(project)
    assert "canary" not in f"{failure.value}\n{caplog.text}"


GZIP: dict[str, str | None] = {"Content-Encoding": "gzip"}
COMPRESSED: dict[str, tuple[list[Answer], int | None]] = {
    "of no known size": ([Answer(headers=GZIP)], None),
    "of another size": ([Answer(headers=GZIP)], 400_000),
    "of no announced size": ([Answer(headers=GZIP | NO_LENGTH)], len(BODY)),
    "after a cut": ([Answer(drop_after=100_000), Answer(headers=GZIP)], None),
}


@pytest.mark.parametrize("case", COMPRESSED)
def test_compressed_body_that_nothing_could_prove_is_refused(
    case: str, project: Path, server: MisbehavingServer
) -> None:
    server.script, size = list(COMPRESSED[case][0]), COMPRESSED[case][1]
    record_of(project, server.url(), size=size, hash="unverified")
    with pytest.raises(DownloadError, match=r"the server sends it compressed \(gzip\)"):
        fetched(project)


@pytest.mark.parametrize("promise", [{"hash": "unverified"}, {"size": None}], ids=["by its size", "by its hash"])
def test_packed_file_that_a_server_calls_compressed_is_itself(
    promise: dict[str, Any], project: Path, server: MisbehavingServer
) -> None:
    record_of(project, server.url(), **promise)
    server.script = [Answer(headers=GZIP, drop_after=100_000), Answer(headers=GZIP)]
    assert fetched(project) == BODY


def test_host_that_is_not_there_is_named(project: Path) -> None:
    with misbehaving_server(BODY) as gone:
        url = gone.url()
    record_of(project, url)
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1:\d+ cannot be reached"):
        fetched(project)


def test_cut_that_nobody_could_see_is_refused(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url(), size=None, hash="unverified")
    server.script = [Answer(headers=NO_LENGTH, drop_after=100_000)]
    with pytest.raises(DownloadError, match="a cut could not be seen"):
        fetched(project)


def test_file_without_size_and_hash_is_complete_by_its_content_length(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url(), size=None, hash="unverified")
    server.script = [Answer(drop_after=100_000)]
    assert fetched(project) == BODY


def test_file_of_unknown_size_is_complete_if_the_server_has_no_more(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url(), size=None, hash="unverified")
    server.script = [Answer(drop_after=100_000), Answer(status=416, headers={"Content-Range": "bytes */100000"})]
    assert fetched(project) == BODY[:100_000]


def test_file_of_unknown_size_starts_over_if_the_server_has_less(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url(), size=None, hash="unverified")
    server.script = [Answer(drop_after=100_000), Answer(status=416, headers={"Content-Range": "bytes */5"})]
    assert fetched(project) == BODY


def test_hash_of_an_unverified_file_is_said(
    project: Path, server: MisbehavingServer, caplog: pytest.LogCaptureFixture
) -> None:
    record_of(project, server.url(), hash="unverified")
    fetched(project)
    assert HASH in caplog.text
