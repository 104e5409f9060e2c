"""New packs in feeds: read from a server on this machine, as strangers write them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

from backbeat.cli.library_vibe import register
from backbeat.config import load_yaml, validated
from backbeat.datasets.registry import Record
from backbeat.errors import ConfigError
from backbeat.library.discover import discover
from backbeat.library.feeds import parse_feed
from backbeat.library.packs import is_public, pack_of
from backbeat.library.settings import Feed
from local_server import local_server
from s3_server import REPOSITORY

app = typer.Typer()
register(app)

HERE = Feed(name="here", url="http://feed.example/x")

ATOM = """<?xml version="1.0" encoding="UTF-8"?><feed xmlns="http://www.w3.org/2005/Atom"><title>r/drumkits</title>
<entry><id>ID_one</id><title>[KIT] Dusty "Breaks": #1 &amp; more</title><updated>2026-11-01T10:00:00+00:00</updated>
<link href="ADDRESS/r/one"/><content type="html">&lt;p&gt;120 MB, CC0.
&lt;a href="ADDRESS/dusty%20breaks.zip"&gt;
link&lt;/a&gt; &lt;script&gt;CC BY&lt;/script&gt;&lt;/p&gt;</content></entry>
<entry><id>ID_two</id><title>Huge \u202epack: {a: *b}\n\u2028 - yes</title><updated>2026-11-02T10:00:00+00:00</updated>
<link href="https://www.example.com/two"/><content type="html">12,5 GB of samples, royalty free</content></entry>
<entry><id>ID_three</id><title>Asking for feedback [red]on[/red] my kit</title>
<link href="javascript:alert(1)"/><content type="html">&lt;a href="file:///etc/passwd"&gt;x&lt;/a&gt;</content></entry>
</feed>"""

RSS = """<?xml version="1.0"?><rss version="2.0"><channel><title>x</title>
<item><title>One &lt;b&gt;kit&lt;/b&gt;</title>
<link>/one</link><guid isPermaLink="false">https://www.example.com/1</guid>
<pubDate>Sun, 01 Nov 2026 23:30:00 -0500</pubDate>
<enclosure url="https://cdn.example/one.zip" length="5" type="application/zip"/></item></channel></rss>"""

JSON_FEED = json.dumps({
    "version": "https://jsonfeed.org/version/1.1",
    "items": [{"id": "https://www.example.com/1", "title": "One kit", "url": "https://www.example.com/one",
               "date_published": "2026-11-02T04:30:00Z",
               "content_html": "<p>CC-BY-NC</p><script>CC0</script>",
               "attachments": [{"url": "https://cdn.example/one.zip"}]}, "nonsense"],
})  # fmt: skip


class Site:
    """What is served, by path, and what was asked for."""

    def __init__(self) -> None:
        self.pages: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.url = ""

    def publish(self, text: str, **headers: str) -> None:
        body = text.replace("ADDRESS", self.url).replace("ID_", "https://www.example.com/").encode()
        self.pages["/feed"] = (200, {name.replace("_", "-"): value for name, value in headers.items()}, body)


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        site: Site = self.server.state  # type: ignore[attr-defined]
        site.asked.append((self.command, self.path, dict(self.headers)))
        status, headers, body = site.pages.get(self.path, (404, {}, b""))
        if "ETag" in headers and self.headers.get("If-None-Match") == headers["ETag"]:
            status, body = 304, b""
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    running = Site()
    with local_server(_Handler, running) as http:
        running.url = f"http://127.0.0.1:{http.server_address[1]}"
        yield running


@pytest.fixture
def project(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    (folder / ".dvc").mkdir(parents=True)
    (folder / "params.yaml").touch()
    (folder / "configs").mkdir()
    values = yaml.safe_load((REPOSITORY / "configs/library.yaml").read_text(encoding="utf-8"))
    values["discover"] |= {"feeds": [{"name": "here", "url": f"{site.url}/feed"}], "largest_feed_mb": 0.1}
    (folder / "configs/library.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.chdir(folder)
    return folder


def test_pack_is_new_once_and_the_feed_is_asked_conditionally(project: Path, site: Site) -> None:
    site.publish(ATOM, ETag='"one"')
    titles = [one.pack.entry.title for one in discover(project).found]
    assert titles == [
        '[KIT] Dusty "Breaks": #1 & more',
        "Huge pack: {a: *b} - yes",
        "Asking for feedback [red]on[/red] my kit",
    ]
    assert discover(project).found == ()
    *_, (_, _, headers) = [asked for asked in site.asked if asked[1] == "/feed"]
    assert headers["If-None-Match"] == '"one"'
    assert "backbeat" in headers["User-Agent"]
    site.publish(ATOM.replace("ID_three", "ID_four"), ETag='"two"')
    assert [one.pack.entry.id for one in discover(project).found] == ["https://www.example.com/four"]


def test_hints_are_those_of_the_text(project: Path, site: Site) -> None:
    site.publish(ATOM)
    one, two, three = (found.pack for found in discover(project).found)
    assert (one.license_hints, one.said_bytes, one.entry.published) == (("CC0",), 120_000_000, "2026-11-01")
    assert (two.license_hints, two.size_bytes) == (("royalty-free",), 12_500_000_000)
    assert (three.license_hints, three.size_bytes, three.entry.link, three.entry.links) == ((), None, None, ())


@pytest.mark.parametrize("text", [RSS, JSON_FEED])
def test_formats_of_feeds_say_the_same(text: str) -> None:
    (entry,) = parse_feed(Feed(name="here", url="https://www.example.com/feed"), text.encode())
    assert (entry.id, entry.title, entry.link) == (
        "https://www.example.com/1",
        "One kit",
        "https://www.example.com/one",
    )
    assert entry.published == "2026-11-02"
    pack = pack_of("here", entry)
    assert pack.file_url == "https://cdn.example/one.zip"
    assert pack.license_hints == (() if text is RSS else ("CC BY-NC",))


def test_drafts_are_valid_records_that_register_nothing(
    project: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backbeat.library.packs.is_public", lambda host: host == "127.0.0.1")
    site.publish(ATOM, ETag='"one"')
    site.pages["/dusty%20breaks.zip"] = (200, {}, b"z" * 1234)
    discover(project)
    # What was listed before, without a draft, gets one; what is too large or links nothing does not.
    one, two, three = discover(project, save=True).found
    assert (two.draft, two.no_draft) == (None, "larger than 5 GB")
    assert (three.draft, three.no_draft) == (None, "it names no size and no license, and links no archive file")
    assert one.draft == "data/library/drafts/kit_dusty_breaks_1_more.yaml"
    record = validated(Record, load_yaml(project / one.draft), one.draft)
    assert record.title == '[KIT] Dusty "Breaks": #1 & more'
    assert (record.license.id, record.license.commercial, record.license.redistribute) == ("unknown", None, False)
    (file,) = record.files
    assert (file.path, file.urls, file.size, file.hash) == (
        "dusty breaks.zip", (f"{site.url}/dusty%20breaks.zip",), 1234, "unverified"
    )  # fmt: skip
    assert not (project / "configs/datasets").exists()
    assert {method for method, path, _ in site.asked if path.endswith(".zip")} == {"HEAD"}
    assert discover(project, save=True).found == ()


def test_pack_without_a_file_is_fetched_by_a_person(project: Path, site: Site) -> None:
    site.publish(ATOM.replace("12,5 GB", "1.5 GB"))
    drafted = discover(project, save=True).found[1].draft
    assert drafted is not None
    record = validated(Record, load_yaml(project / drafted), drafted)
    assert record.files[0].urls == ("manual://www.example.com/two",)
    assert (record.title, record.approximate_size) == ("Huge pack: {a: *b} - yes", 1_500_000_000)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "10.1.2.3", "169.254.169.254", "::1", "::ffff:10.0.0.1", ""]
)
def test_hosts_of_this_network_are_not_public(host: str) -> None:
    assert not is_public(host)


def test_stranger_cannot_send_us_to_a_host_of_this_network(
    project: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.publish(ATOM)
    assert discover(project).found[0].pack.file_bytes is None
    # A public server that redirects to one that is not.
    monkeypatch.setattr("backbeat.library.packs.is_public", lambda host: host == "127.0.0.1")
    site.pages["/dusty%20breaks.zip"] = (302, {"Location": f"{site.url.replace('127.0.0.1', 'localhost')}/secret"}, b"")
    site.publish(ATOM.replace("ID_", "https://www.example.com/other_"))
    assert discover(project).found[0].pack.file_bytes is None
    assert [path for _, path, _ in site.asked] == ["/feed", "/feed", "/dusty%20breaks.zip"]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("<html><body>log in</body></html>", "neither RSS"),
        ('{"version": "1"}', "no JSON Feed"),
        (f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "{"a" * 20}">]>{RSS[21:]}', "declares entities"),
        (RSS + " " * 200_000, "more than 100,000 bytes"),
        (None, "HTTP 404"),
    ],
)
def test_feed_that_is_none_is_named_and_the_others_are_read(
    body: str | None, why: str, project: Path, site: Site
) -> None:
    if body is not None:
        site.publish(body)
    site.pages["/other"] = (200, {}, RSS.encode())
    path = project / "configs/library.yaml"
    values = yaml.safe_load(path.read_text())
    values["discover"]["feeds"].append({"name": "other", "url": f"{site.url}/other"})
    path.write_text(yaml.safe_dump(values))
    done = discover(project)
    assert [one.pack.feed for one in done.found] == ["other"]
    assert why in done.failed["here"]


def test_table_obeys_no_stranger(project: Path, site: Site) -> None:
    site.publish(ATOM)
    result = CliRunner().invoke(app, ["discover"], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert "[red]on[/red]" in result.output
    assert not [letter for letter in result.output if not letter.isprintable() and letter != "\n"]


def test_titles_and_links_are_whole_in_a_narrow_terminal(project: Path, site: Site) -> None:
    site.publish(ATOM.replace("https://www.example.com/two", f"https://www.example.com/{'long' * 30}"))
    lines = CliRunner().invoke(app, ["discover"], env={"COLUMNS": "80"}).output.splitlines()
    assert "Huge pack: {a: *b} - yes" in lines
    assert f"  https://www.example.com/{'long' * 30}" in lines


def test_unknown_feed_is_refused(project: Path) -> None:
    with pytest.raises(ConfigError, match=r"no feed elsewhere"):
        discover(project, feed="elsewhere")
