"""How much there is and how it has grown: counted from the catalog, remembered by Git, drawn."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from backbeat.cli.app import app
from backbeat.library.catalog import CATALOG_FILE, catalog, read_catalog
from backbeat.library.spend import Spend, append_spend, tidy_spend
from backbeat.library.stats import REPORT_FILE, Grown, Stats, read_stats
from backbeat.library.stats_plot import draw_stats
from library_tables import SAMPLES, new_library, write_tables

DAYS = ("2026-01-05", "2026-01-05", "2026-03-01")


def git(project: Path, *words: str, day: str = DAYS[0]) -> None:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    at = {"GIT_AUTHOR_DATE": f"{day}T12:00:00", "GIT_COMMITTER_DATE": f"{day}T12:00:00"}
    subprocess.run(["git", *identity, *words], cwd=project, capture_output=True, check=True, env={**os.environ, **at})


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that grew twice on one day and once later, and has cost something."""
    folder = new_library(tmp_path_factory.mktemp("library") / "project")
    git(folder, "init", "--quiet")
    for day, count in zip(DAYS, (3, 6, len(SAMPLES)), strict=True):
        write_tables(folder, SAMPLES[:count])
        catalog(folder)
        git(folder, "add", REPORT_FILE)
        git(folder, "commit", "--quiet", "--message", day, day=day)
    tidy_spend(folder)
    for usd in ("0.25", "0.0125"):
        append_spend(folder, Spend(dt.date(2026, 2, 1), "a-model", Decimal(usd)))
    return folder


@pytest.fixture(scope="module")
def stats(project: Path) -> Stats:
    with read_catalog(project) as db:
        return read_stats(project, db, project / CATALOG_FILE)


def test_everything_is_counted(project: Path, stats: Stats) -> None:
    now, readable = stats.now, [one for one in SAMPLES if not one.error]
    assert (now.samples, now.unreadable, now.sounds, now.described) == (12, 1, 10, 1.0)
    assert now.hours == pytest.approx(sum(one.duration_ms for one in readable) / 3_600_000, abs=1e-4)
    assert now.size_bytes == sum(len(one.content()) for one in SAMPLES)
    assert [(part.tier, part.samples) for part in now.parts] == [("original", 11), ("archive", 1)]
    scores = [one.score for one in readable if one.score is not None]
    assert now.mean_score == pytest.approx(sum(scores) / len(scores), abs=0.01)
    assert (now.copies, now.near, now.chosen) == (1, 0, sum(score >= 70 for score in scores))
    assert now.classes["kick"] == 4
    assert sum(now.classes.values()) == len(readable)
    assert stats.catalog_bytes == (project / CATALOG_FILE).stat().st_size
    assert stats.spent_usd == {"2026-02-01": Decimal("0.2625")}


def test_the_history_of_the_figures_is_how_it_has_grown(stats: Stats) -> None:
    hours = [sum(one.duration_ms for one in SAMPLES[:count]) / 3_600_000 for count in (6, 12)]
    assert [(one.day, one.samples) for one in stats.growth] == [("2026-01-05", 6), ("2026-03-01", 12)]
    assert [one.hours for one in stats.growth] == pytest.approx(hours, abs=1e-4)


def test_the_command_prints_draws_and_gives_json(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    shown = CliRunner().invoke(app, ["library", "stats", "--plot", str(tmp_path / "stats.png")])
    assert (tmp_path / "stats.png").read_bytes().startswith(b"\x89PNG")
    for fact in ("12, 1 of them unreadable", "2026-03-01", "0.2625 USD", "archive"):
        assert fact in shown.stdout
    printed = json.loads(CliRunner().invoke(app, ["library", "stats", "--json"]).stdout)
    assert printed["now"]["samples"] == 12


def test_the_picture_is_the_same_for_the_same_figures_and_another_for_others(stats: Stats, tmp_path: Path) -> None:
    grown = replace(stats, growth=(*stats.growth, Grown("2026-04-01", 20, 1.0)))
    for name, drawn in (("one", stats), ("again", stats), ("more", grown), ("first", replace(stats, growth=()))):
        draw_stats(tmp_path / name, drawn)
    one, again, more, first = ((tmp_path / name).read_bytes() for name in ("one", "again", "more", "first"))
    assert one == again
    assert len({one, more, first}) == 3
