"""The documents as a site: built without a warning, complete, and of use in a browser, without any network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from html import unescape
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from typer.core import TyperGroup
from typer.main import get_command

from backbeat.cli.app import app
from browser import browser, opened_page, serious_faults, until

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# A fixture is found by its name in this module.
__all__ = ["browser"]

REPOSITORY = Path(__file__).parents[1]
DOCS = REPOSITORY / "docs"


def build(docs: Path, site: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Build a site as `make site` does, with what this environment installs."""
    command = [
        *(sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going", "--nitpicky"),
        *(*options, "--doctree-dir", site.parent / "doctrees", docs, site),
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole site but for the Python modules, which `make check` builds, too: they import PyTorch."""
    folder = tmp_path_factory.mktemp("site") / "html"
    built = build(DOCS, folder, "--tag", "without_modules")
    assert built.returncode == 0, built.stderr
    return folder


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Where the site is served as on GitHub Pages: below a folder."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=site.parent))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/html/"
    server.shutdown()
    server.server_close()


def text_of(page: Path) -> str:
    return unescape(re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8")))


def test_every_page_can_be_reached_from_the_index(site: Path) -> None:
    seen: set[Path] = set()
    waiting = [site / "index.html"]
    while waiting:
        page = waiting.pop()
        if page not in seen:
            seen.add(page)
            links = re.findall(r'<a [^>]*href="([^":#]+\.html)', page.read_text(encoding="utf-8"))
            waiting += [Path(os.path.normpath(page.parent / link)) for link in links]
    assert {site / document.relative_to(DOCS).with_suffix(".html") for document in DOCS.rglob("*.md")} <= seen


def test_every_command_and_option_of_the_program_is_in_the_reference(site: Path) -> None:
    page = text_of(site / "reference" / "commands.html")

    def walk(command: object, path: str) -> Iterator[str]:
        if isinstance(command, TyperGroup):
            for name, below in command.commands.items():
                yield from walk(below, f"{path} {name}")
        else:
            yield f"\n{path} "
            yield from (f"{option}" for parameter in command.params for option in parameter.opts if option[0] == "-")  # type: ignore[attr-defined]

    missing = [one for one in walk(get_command(app), "backbeat") if one not in page]
    assert missing == []


def test_every_parameter_and_preset_is_in_the_reference_with_its_bounds(site: Path) -> None:
    page = (site / "reference" / "parameters.html").read_text(encoding="utf-8")

    def missing(values: dict[str, object], section: str) -> Iterator[str]:
        own = page[page.index(f'<section id="{section.replace(".", "-") or "parameters"}"') :]
        for key, value in values.items():
            if isinstance(value, dict):
                yield from missing(value, f"{section}.{key}".strip("."))
            elif f">{key}</span>" not in own.partition("</table>")[0]:
                yield f"{section}.{key}"

    assert list(missing(yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8")), "")) == []
    text = " ".join(text_of(site / "reference" / "parameters.html").split())
    assert "window_frames 400 frames whole, from 50 to 6,000 4 s: two bars at 120 bpm." in text
    presets = text_of(site / "reference" / "presets.html")
    assert all(preset.stem in presets for preset in (REPOSITORY / "configs" / "experiments").glob("*.yaml"))


def test_every_variable_of_the_environment_is_in_the_reference(site: Path) -> None:
    page = text_of(site / "reference" / "environment.html")
    sources = [*(REPOSITORY / "src").rglob("*.py"), REPOSITORY / ".devcontainer" / "start.sh"]
    # In quotation marks, or as a shell reads it: what is read, not what is spoken of.
    read = {
        name
        for source in sources
        for name in re.findall(r"""["'{]((?:BACKBEAT|B2)_[A-Z_]+[A-Z])\b""", source.read_text(encoding="utf-8"))
    }
    assert read
    assert [name for name in sorted(read) if name not in page] == []


@pytest.mark.slow
def test_the_same_documents_give_the_same_bytes(site: Path, tmp_path: Path) -> None:
    again = tmp_path / "html"
    assert build(DOCS, again, "--tag", "without_modules").returncode == 0
    for page in sorted(path for path in site.rglob("*") if path.is_file()):
        assert (again / page.relative_to(site)).read_bytes() == page.read_bytes(), page.name


def test_a_link_to_a_heading_that_is_not_there_fails(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "index.md").write_text("# A page\n\n[elsewhere](#no-such-heading)\n")
    built = build(docs, tmp_path / "html", "--conf-dir", str(DOCS))
    assert built.returncode == 1
    assert "no-such-heading" in built.stderr


@pytest.mark.parametrize(("name", "scheme"), [("tutorial", "light"), ("reference/parameters", "dark")])
def test_pages_ask_for_nothing_elsewhere_and_can_be_used_by_everybody(
    browser: Browser, address: str, name: str, scheme: str
) -> None:
    with opened_page(browser, address, width=390, scheme=scheme) as (page, seen):
        for one in ("index.html", f"{name}.html"):
            page.goto(address + one)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), one
        assert serious_faults(page) == []
    assert seen.requests == []
    assert seen.errors == []


def test_the_search_finds_a_word(browser: Browser, address: str) -> None:
    with opened_page(browser, address) as (page, seen):
        page.goto(f"{address}search.html?q=Fletcher")
        until(page, "document.querySelectorAll('#search-results li a').length > 0")
        assert "format.html" in page.inner_html("#search-results")
    assert seen.errors == []


def test_the_site_works_without_a_server(browser: Browser, site: Path) -> None:
    start = site.as_uri() + "/"
    with opened_page(browser, start + "index.html") as (page, seen):
        page.unroute_all()
        page.click("text=Commands >> nth=0")
        assert page.url == f"{start}reference/commands.html"
        assert page.title().startswith("Commands")
    assert [url for url in seen.requests if not url.startswith(start)] == []
