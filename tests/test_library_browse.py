"""The library in a real browser: search, filter, play; and what the server gives away, which is the library alone."""

from __future__ import annotations

import http.client
import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import numpy as np
import pytest
import soundfile

from backbeat.library.browse.sound import part_of, playable
from backbeat.library.catalog import CATALOG_FILE, catalog, change_notes
from browser import browser, opened_page, serious_faults, until
from library_tables import SAMPLES, new_library

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

# A fixture is found by its name in this module.
__all__ = ["browser"]

EVERYTHING = f".count:has-text('{len(SAMPLES)} samples')"

# No table sticks out of the page.
WITHIN = """[...document.querySelectorAll("table, audio")].every(
    one => one.getBoundingClientRect().right <= document.querySelector("main").getBoundingClientRect().right + 1)"""

PROGRAM = "from backbeat.cli.app import main; main()"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = new_library(tmp_path_factory.mktemp("library") / "project")
    catalog(folder)
    change_notes(
        folder, [SAMPLES[5].sample], lambda note: note.model_copy(update={"rating": 4, "tags": ("<i>live</i>",)})
    )
    return folder


@pytest.fixture(scope="module")
def address(project: Path) -> Iterator[str]:
    """Where the command serves the library."""
    command = [sys.executable, "-c", PROGRAM, "library", "browse", "--port", "0"]
    server = subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    yield server.stdout.readline().strip()
    server.terminate()
    assert server.wait(20) in {0, -15}
    server.stdout.close()


def ask(address: str, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=20)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def shows(page: Page, *names: str) -> None:
    """Wait until the samples on the page are these, in this order."""
    from playwright.sync_api import expect

    expect(page.locator("th.name a")).to_have_text(names)


def test_somebody_searches_filters_and_goes_back(browser: Browser, address: str) -> None:
    with opened_page(browser, address) as (page, seen):
        page.wait_for_selector(EVERYTHING)
        page.fill("#search", "dark kick under 300 ms")
        page.press("#search", "Enter")
        shows(page, "Kick 01", "Kick 01 copy")
        assert "dark, kick, at most 300 ms" in page.inner_text(".count")
        page.fill("#search", "")
        page.click("button[type=submit]")
        page.click("section:has(#facet-kind) a:has-text('loop')")
        shows(page, "dusty break", "House 124")
        page.click("section:has(#facet-tempo) a:has-text('90-99 bpm')")
        shows(page, "dusty break")
        page.click(".chip.chosen:has-text('loop')")
        page.wait_for_selector(".chip.chosen:has-text('loop')", state="detached")
        page.click(".chip.chosen:has-text('90-99')")
        page.wait_for_selector(EVERYTHING)
        page.click("th a:has-text('Length')")
        page.wait_for_selector("tbody tr:first-child:has-text('dusty break')")
        page.fill("#search", "banjo")
        page.press("#search", "Enter")
        page.wait_for_selector(".nothing")
    assert (seen.requests, seen.errors) == ([], [])


def test_every_kind_of_file_plays_one_at_a_time(browser: Browser, address: str) -> None:
    with opened_page(browser, address) as (page, seen):
        assert page.evaluate("[...document.querySelectorAll('audio')].every(one => one.preload === 'none')")
        # 16 and 24 bits, floats, stereo, and one that only the archive has.
        for number in range(len(SAMPLES) - 1):
            page.evaluate(f"document.querySelectorAll('audio')[{number}].play()")
            until(page, f"document.querySelectorAll('audio')[{number}].currentTime > 0")
        # A person presses a key on the player; what played before is paused.
        page.evaluate("for (const one of document.querySelectorAll('audio')) { one.pause(); one.currentTime = 0; }")
        page.focus("tr:has-text('808 long') audio")
        page.keyboard.press("Space")
        until(page, "!document.activeElement.paused && document.activeElement.currentTime > 0.05")
        page.evaluate('document.querySelector("tr:nth-child(6) audio").play()')
        until(page, "document.activeElement.paused && !document.activeElement.ended")
        # Seeking asks for a part of the file.
        page.evaluate("document.activeElement.currentTime = 1.5")
        until(page, "!document.activeElement.seeking && document.activeElement.currentTime >= 1.5")
    assert (seen.requests, seen.errors) == ([], [])


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (820, "light"), (390, "dark")])
def test_the_pages_can_be_read_by_everybody_and_fit_the_screen(
    browser: Browser, address: str, width: int, scheme: str
) -> None:
    for path in ("catalog/library?_q=kick&brightness=dark", "-/sample/5"):
        with opened_page(browser, address, width=width, scheme=scheme) as (page, seen):
            page.goto(address + path)
            assert serious_faults(page) == []
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.evaluate(WITHIN)
        assert (seen.requests, seen.errors) == ([], [])


def test_on_a_narrow_screen_the_samples_come_first_and_the_filters_open_on_demand(
    browser: Browser, address: str
) -> None:
    with opened_page(browser, address, width=390) as (page, _):
        assert not page.is_visible("#facet-class")
        page.click("summary")
        page.click("section:has(#facet-class) a:has-text('snare')")
        shows(page, "Snare <b>tight größer")


def test_markup_in_names_and_tags_is_text_and_the_page_of_a_sample_has_its_score(
    browser: Browser, address: str
) -> None:
    with opened_page(browser, f"{address}") as (page, _):
        assert page.locator("main b, main i").count() == 0
        assert page.inner_text(".chip.own") == "<i>live</i>"
        page.click("text=Kick 01 copy")
        page.wait_for_selector("section:has(#of-duplicates):has-text('keeper: the same file')")
        assert page.inner_text("section:has(#of-score) dt:has-text('score') + dd") == "85"


def test_what_cannot_be_read_is_listed_with_the_reason_and_without_a_player(browser: Browser, address: str) -> None:
    with opened_page(browser, address) as (page, seen):
        page.goto(f"{address}catalog/library?_q=broken")
        shows(page, "broken")
        assert "it ends after 4 bytes" in page.inner_text("tbody tr")
        page.click("th.name a")
        page.wait_for_selector("section:has(#of-unreadable):has-text('it ends after 4 bytes')")
        assert page.locator("audio").count() == 0
    assert (seen.requests, seen.errors) == ([], [])


def test_the_server_answers_with_parts_of_samples_and_with_nothing_else(address: str) -> None:
    content = SAMPLES[0].content()
    status, headers, body = ask(address, "/-/sound/1")
    assert (status, headers["content-type"], headers["accept-ranges"]) == (200, "audio/wav", "bytes")
    assert body == content
    status, headers, body = ask(address, "/-/sound/1", Range="bytes=100-199")
    assert (status, headers["content-range"]) == (206, f"bytes 100-199/{len(content)}")
    assert body == content[100:200]
    assert ask(address, "/-/sound/1", Range=f"bytes={len(content)}-")[0] == 416
    for path in ("999", "12", "-1", "../../params.yaml", "%2e%2e%2fparams.yaml", "kits~2Fbroken.wav"):
        assert ask(address, f"/-/sound/{path}")[0] in {302, 404}, path
    assert ask(address, "/library/../plugin.py")[0] == 404
    assert ask(address, "/catalog.db")[0] == 403
    assert b"Traceback" not in ask(address, "/nothing")[2]
    assert ask(address, "/catalog/library.json", Host="rebound.example.org:80")[0] == 403
    refused = ask(address, "/catalog?sql=delete+from+notes")
    assert refused[0] == 400


def test_a_browser_of_another_catalog_does_not_hold_this_one_back(project: Path, address: str) -> None:
    before = ask(address, "/catalog/notes.json?_shape=array")[2]
    content = (project / CATALOG_FILE).read_bytes()
    change_notes(project, [SAMPLES[0].sample], lambda note: note.model_copy(update={"rating": 1}))
    assert ask(address, "/catalog/notes.json?_shape=array&_nocount=1")[2] == before
    (project / CATALOG_FILE).write_bytes(content)


@pytest.mark.parametrize(
    ("asked", "status", "content"),
    [
        (None, 200, b"0123456789"),
        ("bytes=0-", 206, b"0123456789"),
        ("bytes=2-3", 206, b"23"),
        ("bytes=8-99", 206, b"89"),
        ("bytes=-3", 206, b"789"),
        ("bytes=-99", 206, b"0123456789"),
        ("bytes=10-", 416, b""),
        ("bytes=-0", 416, b""),
        ("bytes=5-2", 200, b"0123456789"),
        ("bytes=1-2,4-5", 200, b"0123456789"),
        ("lines=1-2", 200, b"0123456789"),
        ("bytes=-", 200, b"0123456789"),
    ],
)
def test_a_range_is_what_the_standard_says(asked: str | None, status: int, content: bytes) -> None:
    part = part_of(b"0123456789", asked)
    assert (part.status, part.content) == (status, content)


@pytest.mark.parametrize(
    ("file_format", "subtype", "channels", "media_type", "changed"),
    [
        ("WAV", "PCM_24", 2, "audio/wav", False),
        ("WAV", "FLOAT", 1, "audio/wav", False),
        ("FLAC", "PCM_24", 2, "audio/flac", False),
        ("WAV", "PCM_32", 1, "audio/wav", True),
        ("WAV", "DOUBLE", 1, "audio/wav", True),
        ("AIFF", "PCM_16", 2, "audio/wav", True),
        ("WAV", "PCM_16", 6, "audio/wav", True),
    ],
)
def test_what_browsers_do_not_play_becomes_what_they_play(
    file_format: str, subtype: str, channels: int, media_type: str, changed: bool
) -> None:
    stream = io.BytesIO()
    wave = np.linspace(-0.5, 0.5, 6000, dtype=np.float32).reshape(-1, channels)
    soundfile.write(stream, wave, 44_100, format=file_format, subtype=subtype)
    made = playable(stream.getvalue())
    assert made.media_type == media_type
    assert (made.content != stream.getvalue()) == changed
    audio, rate_hz = soundfile.read(io.BytesIO(made.content), dtype="float32", always_2d=True)
    assert rate_hz == 44_100
    np.testing.assert_allclose(audio, wave[:, :2], atol=2**-15)
