"""The hubs and what they do instead of sending a file, played by servers on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backbeat.datasets.transport.hubs import cached_file, explain_html, explain_status, follow_form
from backbeat.errors import DownloadError
from misbehaving_server import Answer, MisbehavingServer, misbehaving_server
from one_dataset import BODY, OTHER_BODY, fetched, files_under_final_names, new_project, record_of

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ON_THE_HUB = f"hf://datasets/someone/sounds@{COMMIT}/deep/archive.zip"
ON_DRIVE = "gdrive://1xC37"
DRIVE_PATH = "/download?id=1xC37&export=download&confirm=t"
HTML: dict[str, str | None] = {"Content-Type": "text/html; charset=utf-8"}

QUOTA = b"""<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head><body>
<p class="uc-error-caption">Sorry, you can&#39;t view or download this file at this time.</p>
<p>Too many users have viewed or downloaded this file recently.</p></body></html>"""
SIGN_IN = b"""<!doctype html><html><body><form action="https://accounts.google.com/v3/signin/x" method="post">
<input type="hidden" name="continue" value="x"></form></body></html>"""


def interstitial(action: str) -> bytes:
    return f"""<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title></head><body>
<p>archive.zip (9G) is too large for Google to scan for viruses.</p>
<form id="download-form" action="{action}" method="get"><input type="submit" value="Download anyway"/>
<input type="hidden" name="id" value="1xC37"><input type="hidden" name="export" value="download">
<input type="hidden" name="confirm" value="t"><input type="hidden" name="uuid" value="d5-&amp;6"></form>
</body></html>""".encode()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hugging face"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_TOKEN", "hf_canary")
    return new_project(tmp_path)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[MisbehavingServer]:
    with misbehaving_server(BODY) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url("").rstrip("/"))
        yield running


@pytest.fixture
def drive(monkeypatch: pytest.MonkeyPatch) -> Iterator[MisbehavingServer]:
    with misbehaving_server(BODY) as running:
        monkeypatch.setattr("backbeat.datasets.transport.addresses.GOOGLE_DRIVE", running.url("").rstrip("/"))
        monkeypatch.setattr("backbeat.datasets.transport.hubs.GOOGLE_DRIVE", running.url("").rstrip("/"))
        yield running


def in_cache(project: Path, content: bytes) -> Path:
    """Put a file into the cache as the hub's own program does: a blob, and a link to it in a snapshot."""
    repo = project / "hugging face" / "hub" / "datasets--someone--sounds"
    blob, link = repo / "blobs" / "b10b", repo / "snapshots" / COMMIT / "deep" / "archive.zip"
    for path in (blob, link):
        path.parent.mkdir(parents=True)
    blob.write_bytes(content)
    link.symlink_to("../../../blobs/b10b")
    return blob


# --- Hugging Face ----------------------------------------------------------------------------------------------------


def test_file_comes_from_the_hub(project: Path, hub: MisbehavingServer) -> None:
    record_of(project, ON_THE_HUB)
    assert fetched(project) == BODY


def test_hub_is_asked_for_the_pinned_revision(project: Path, hub: MisbehavingServer) -> None:
    record_of(project, ON_THE_HUB)
    fetched(project)
    assert {seen.path for seen in hub.seen} == {f"/datasets/someone/sounds/resolve/{COMMIT}/deep/archive.zip"}


@pytest.fixture
def cdn(hub: MisbehavingServer) -> Iterator[MisbehavingServer]:
    """The host that the hub redirects to."""
    with misbehaving_server(BODY) as running:
        path = f"/datasets/someone/sounds/resolve/{COMMIT}/deep/archive.zip"
        hub.pages[path] = Answer(status=302, headers={"Location": running.url("b10b?signature=1")})
        yield running


def test_hub_sees_the_token(project: Path, hub: MisbehavingServer, cdn: MisbehavingServer) -> None:
    record_of(project, ON_THE_HUB)
    fetched(project)
    assert {seen.authorization for seen in hub.seen} == {"Bearer hf_canary"}


def test_where_it_redirects_to_never_sees_the_token(
    project: Path, hub: MisbehavingServer, cdn: MisbehavingServer
) -> None:
    record_of(project, ON_THE_HUB)
    cdn.script = [Answer(drop_after=100_000)]
    fetched(project)
    assert [seen.authorization for seen in cdn.seen] == [None, None]


def test_download_through_a_redirect_goes_on_where_it_was(
    project: Path, hub: MisbehavingServer, cdn: MisbehavingServer
) -> None:
    record_of(project, ON_THE_HUB)
    cdn.script = [Answer(drop_after=100_000)]
    fetched(project)
    assert cdn.ranges() == [None, "bytes=100000-"]


def test_gated_repository_says_what_to_accept(project: Path, hub: MisbehavingServer) -> None:
    record_of(project, ON_THE_HUB)
    hub.script = [Answer(status=403, headers={"X-Error-Code": "GatedRepo"})]
    with pytest.raises(DownloadError, match=r"accept the terms at .*/datasets/someone/sounds, then set HF_TOKEN"):
        fetched(project)


def test_token_is_in_no_message(project: Path, hub: MisbehavingServer, caplog: pytest.LogCaptureFixture) -> None:
    record_of(project, ON_THE_HUB)
    hub.script = [Answer(status=503), Answer(status=401)]
    with pytest.raises(DownloadError) as failure:
        fetched(project)
    assert "canary" not in f"{failure.value}{caplog.text}"


def test_cached_file_is_the_blob(project: Path) -> None:
    assert cached_file(ON_THE_HUB) is None
    blob = in_cache(project, BODY)
    assert cached_file(ON_THE_HUB) == blob


def test_cache_of_another_revision_is_not_taken(project: Path) -> None:
    in_cache(project, BODY)
    assert cached_file(ON_THE_HUB.replace(COMMIT, "f" * 40)) is None


def test_cache_may_be_anywhere(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blob = in_cache(project, BODY)
    moved = project / "elsewhere"
    (project / "hugging face" / "hub").rename(moved)
    monkeypatch.setenv("HF_HUB_CACHE", str(moved))
    assert cached_file(ON_THE_HUB) == moved / blob.relative_to(project / "hugging face" / "hub")


def test_cached_file_is_not_fetched(project: Path, hub: MisbehavingServer) -> None:
    record_of(project, ON_THE_HUB)
    in_cache(project, BODY)
    assert (fetched(project), hub.seen) == (BODY, [])


@pytest.mark.parametrize("content", [OTHER_BODY, BODY[:-1]], ids=["other bytes", "cut"])
def test_wrong_file_in_the_cache_is_fetched_after_all(content: bytes, project: Path, hub: MisbehavingServer) -> None:
    record_of(project, ON_THE_HUB)
    in_cache(project, content)
    assert fetched(project) == BODY


STATUSES = {
    "terms not accepted": (ON_THE_HUB, 403, "GatedRepo", "accept the terms"),
    "private or not there": (ON_THE_HUB, 401, "RepoNotFound", "set HF_TOKEN"),
    "no such revision": (ON_THE_HUB, 404, "RevisionNotFound", "there is no revision 0123"),
    "no such file": (ON_THE_HUB, 404, "EntryNotFound", "there is no deep/archive.zip"),
    "gone from Zenodo": ("zenodo://123/a.zip", 410, "", "look at https://zenodo.org/records/123:"),
    "not shared": (ON_DRIVE, 404, "", "shared with everybody"),
}


@pytest.mark.parametrize("case", STATUSES)
def test_refusal_says_what_to_do(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url, status, code, fragment = STATUSES[case]
    assert fragment in (explain_status(url, status, {"X-Error-Code": code}) or "")


@pytest.mark.parametrize("url", [ON_THE_HUB, "zenodo://123/a.zip", ON_DRIVE, "https://example.org/a.zip"])
def test_fault_of_the_server_is_not_explained_away(url: str) -> None:
    assert explain_status(url, 500, {}) is None


# --- Google Drive ----------------------------------------------------------------------------------------------------


def test_question_about_viruses_is_answered(project: Path, drive: MisbehavingServer) -> None:
    record_of(project, ON_DRIVE)
    drive.pages[DRIVE_PATH] = Answer(status=200, body=interstitial("/download"), headers=HTML)
    assert fetched(project) == BODY


def test_answer_is_what_the_form_says(project: Path, drive: MisbehavingServer) -> None:
    record_of(project, ON_DRIVE)
    drive.pages[DRIVE_PATH] = Answer(status=200, body=interstitial(drive.url("download")), headers=HTML)
    fetched(project)
    assert drive.seen[-1].path == "/download?id=1xC37&export=download&confirm=t&uuid=d5-%266"


def test_form_that_leads_to_another_host_is_not_followed(drive: MisbehavingServer) -> None:
    assert follow_form(ON_DRIVE, interstitial("https://evil.example.org/download")) is None


def test_form_that_asks_something_else_is_not_followed(drive: MisbehavingServer) -> None:
    assert (
        follow_form(ON_DRIVE, b'<html><form action="/search"><input type="hidden" name="q" value="x"></form>') is None
    )


def test_forms_of_other_hosts_are_not_followed() -> None:
    assert follow_form("https://example.org/a.zip", interstitial("/download")) is None


PAGES = {
    "quota": (QUOTA, "Google Drive's quota page", "wait a day"),
    "sign in": (SIGN_IN, "Google's sign-in page", "ask its owner"),
}


@pytest.mark.parametrize("case", PAGES)
def test_page_is_called_what_it_is(case: str, project: Path, drive: MisbehavingServer) -> None:
    page, got, next_step = PAGES[case]
    record_of(project, ON_DRIVE)
    drive.script = [Answer(status=200, body=page, headers=HTML)]
    with pytest.raises(DownloadError) as failure:
        fetched(project)
    assert (got in (failure.value.got or ""), next_step in (failure.value.next_step or "")) == (True, True)


@pytest.mark.parametrize("case", PAGES)
def test_page_gets_no_final_name(case: str, project: Path, drive: MisbehavingServer) -> None:
    record_of(project, ON_DRIVE, size=None, hash="unverified")
    drive.script = [Answer(status=200, body=PAGES[case][0], headers=HTML)]
    with pytest.raises(DownloadError):
        fetched(project)
    assert files_under_final_names(project) == []


def test_quota_is_a_thing_of_drive_alone() -> None:
    assert explain_html("https://example.org/a.zip", QUOTA) is None


def test_page_for_browsers_only_is_known_anywhere() -> None:
    page = b"<html><head><title>Just a moment...</title></head></html>"
    got, next_step = explain_html("https://datadryad.org/a.tar.gz", page) or ("", "")
    assert ("only browsers" in got, "datasets adopt" in next_step) == (True, True)


# --- Zenodo ----------------------------------------------------------------------------------------------------------


def test_file_comes_from_zenodo(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with misbehaving_server(BODY) as zenodo:
        monkeypatch.setattr("backbeat.datasets.transport.addresses.ZENODO", zenodo.url("").rstrip("/"))
        record_of(project, "zenodo://123/an%20archive.zip")
        assert (fetched(project), zenodo.seen[0].path) == (BODY, "/records/123/files/an%20archive.zip?download=1")
