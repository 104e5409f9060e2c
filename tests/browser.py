"""A real browser without a window, for tests of pages: the Chromium that is installed, driven by playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


def find_chromium() -> str | None:
    """Return where the browser is: $CHROMIUM, or the first of the usual names on PATH."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, PROGRAMS)), None)


# Not for the session: while it is open, its event loop is that of the thread, and nobody else can run one.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = find_chromium()
    if program is None:
        pytest.skip(f"no browser: neither $CHROMIUM nor {', '.join(PROGRAMS)} on PATH")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(
            executable_path=program, args=["--autoplay-policy=no-user-gesture-required", "--mute-audio"]
        )
        yield opened
        opened.close()


@dataclass
class Complaints:
    """What a page asked for beside itself, and what it complained about."""

    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@contextmanager
def opened_page(
    browser: Browser, url: str, *, width: int = 1280, scheme: str = "light"
) -> Iterator[tuple[Page, Complaints]]:
    """Open a page of this machine; whatever else it asks for is refused and written down."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.set_default_timeout(10_000)
    seen = Complaints()
    page.on("request", lambda one: seen.requests.append(one.url) if not one.url.startswith((url, "data:")) else None)
    page.on("console", lambda one: seen.errors.append(one.text) if one.type in {"error", "warning"} else None)
    page.on("pageerror", lambda one: seen.errors.append(str(one)))
    page.route("**/*", lambda one: one.continue_() if one.request.url.startswith((url, "data:")) else one.abort())
    page.goto(url)
    yield page, seen
    page.close()


def until(page: Page, condition: str) -> None:
    """Wait until a condition in the page holds; playwright's own way of waiting breaks a content security policy."""
    for _ in range(200):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never came true: {condition}")


def serious_faults(page: Page, *, only: str | None = None) -> list[str]:
    """Return what axe-core finds to be serious or critical, by all rules or one: rule and first element of each."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    options = {"resultTypes": ["violations"], **({"runOnly": [only]} if only else {})}
    found = axe.Axe().run(page, options=options).response["violations"]
    return [
        f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found if one["impact"] in {"serious", "critical"}
    ]
