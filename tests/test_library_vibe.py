"""Words from a language model: a real endpoint on this machine that is slow, busy, wrong or dear."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import typer
import yaml
from typer.testing import CliRunner

from backbeat.cli.library_vibe import register
from backbeat.errors import BackbeatError, LibraryError
from backbeat.library.catalog import catalog
from backbeat.library.endpoint import URL_VARIABLE
from backbeat.library.find import Wish, find
from backbeat.library.settings import ModelPrice, load_settings
from backbeat.library.spend import SPEND_FILE, Spend, append_spend, read_spend, tidy_spend
from backbeat.library.tables import SCAN, write_table
from backbeat.library.vibe import plan_vibe, vibe
from backbeat.library.words import WORDS_FILE, read_bought
from fake_model import INPUT_USD, OUTPUT_USD, FakeModel, Fault, fake_model
from library_tables import new_library
from s3_server import REPOSITORY

app = typer.Typer()
register(app)

KEY = "sk-test-" + "k" * 24
MODEL = "fake/model"
SOUNDS = 42
PER_REQUEST = 4

DESCRIBED = pa.schema(
    [(name, pa.string()) for name in ("audio_sha256", "kind", "sound_class", "brightness", "error")]
    + [("attack_s", pa.float64())]
)


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with tables of 42 sounds, one of them in two files and one that could not be described."""
    project = tmp_path_factory.mktemp("vibe") / "project"
    (project / ".dvc").mkdir(parents=True)
    (project / "params.yaml").touch()
    values = yaml.safe_load((REPOSITORY / "configs/library.yaml").read_text(encoding="utf-8"))
    prices = {"input_usd_per_million": float(INPUT_USD), "output_usd_per_million": float(OUTPUT_USD)}
    values["vibe"] |= {"model": MODEL, "sounds_per_request": PER_REQUEST, "requests_per_minute": 60_000.0,
                       "timeout_s": 5.0, "tries": 3, "usd_per_run": 5.0, "usd_per_day": 5.0}  # fmt: skip
    values["vibe"]["prices"]["models"] = {MODEL: prices}
    (project / "configs").mkdir()
    (project / "configs/library.yaml").write_text(yaml.safe_dump(values))
    scan = [{"sample": f"box/kick {number:02d}.wav", "audio_sha256": f"{number:064x}"} for number in range(SOUNDS)]
    write_table(project, "scan", SCAN, [*scan, {"sample": "box/again.wav", "audio_sha256": f"{7:064x}"}])
    rows = [
        {"audio_sha256": f"{number:064x}", "kind": "one-shot", "sound_class": "kick", "brightness": "dark",
         "attack_s": 0.0012345}
        for number in range(SOUNDS)
    ]  # fmt: skip
    write_table(project, "descriptors", DESCRIBED, [*rows, {"audio_sha256": "f" * 64, "error": "silent"}])
    return project


@pytest.fixture
def project(described: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy = Path(shutil.copytree(described, tmp_path / "project"))
    monkeypatch.chdir(copy)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("OPENROUTER_API_KEY", KEY)
    return copy


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeModel]:
    with fake_model() as running:
        monkeypatch.setenv(URL_VARIABLE, running.url)
        yield running


def spent(project: Path) -> Decimal:
    return sum((row.usd for row in read_spend(project)), Decimal(0))


def worst_of_one(project: Path) -> Decimal:
    """Return the worst case of one request of the usual size."""
    return plan_vibe(project, limit=PER_REQUEST).worst_usd


def set_vibe(project: Path, **changes: Any) -> None:
    path = project / "configs/library.yaml"
    values = yaml.safe_load(path.read_text())
    values["vibe"] |= changes
    path.write_text(yaml.safe_dump(values))


def test_every_sound_is_named_once_and_paid_to_the_cent(project: Path, model: FakeModel) -> None:
    model.always = "slow"
    done = vibe(project)
    assert (done.wanted, done.answered, done.failed, done.stopped) == (SOUNDS, SOUNDS, {}, None)
    assert set(model.asked.values()) == {1}
    assert len(model.asked) == len(read_bought(project)) == SOUNDS
    words = read_bought(project)[f"{7:064x}"]
    assert (words.text, words.tags, words.source) == ("a dark hit", ("warm", "lo-fi"), MODEL)
    assert spent(project) == done.usd == model.billed_usd
    assert model.most_at_once > 1
    # What is tracked has one row for the day; a second run has nothing to ask.
    assert len((project / SPEND_FILE).read_text().splitlines()) == 2
    assert (vibe(project).wanted, len(model.bodies)) == (0, -(-SOUNDS // PER_REQUEST))


def test_question_has_features_and_the_name_of_the_file(project: Path, model: FakeModel) -> None:
    vibe(project, limit=1)
    (body,) = model.bodies
    (sound,) = json.loads(body["messages"][1]["content"])["sounds"]
    assert sound == {"id": 1, "name": "again", "kind": "one-shot", "sound_class": "kick", "brightness": "dark",
                     "attack_s": 0.00123}  # fmt: skip


@pytest.mark.parametrize("fault", ["429 in seconds", "429 at a date"])
def test_busy_endpoint_is_asked_again_when_it_says(fault: Fault, project: Path, model: FakeModel) -> None:
    set_vibe(project, parallel=1)
    model.script = [fault]
    done = vibe(project, limit=8)
    assert (done.answered, done.requests) == (8, 2)
    # A date has whole seconds: of two seconds, more than one is left.
    assert model.times_s[1] - model.times_s[0] >= 1
    assert spent(project) == model.billed_usd


@pytest.mark.parametrize("fault", ["not JSON", "one too few", "markup"])
def test_malformed_answer_is_asked_for_once_more_with_what_was_wrong(
    fault: Fault, project: Path, model: FakeModel
) -> None:
    model.script = [fault]
    done = vibe(project, limit=PER_REQUEST)
    assert (done.answered, done.requests, done.failed) == (PER_REQUEST, 2, {})
    assert "earlier answer was refused" in model.bodies[1]["messages"][0]["content"]
    assert spent(project) == model.billed_usd


def test_answer_that_stays_malformed_fails_its_sounds_and_no_others(project: Path, model: FakeModel) -> None:
    set_vibe(project, parallel=1)
    model.script = ["markup", "markup", "in a fence"]
    done = vibe(project, limit=2 * PER_REQUEST)
    assert (done.answered, len(done.failed), done.requests) == (PER_REQUEST, PER_REQUEST, 3)
    assert "sounds.0.text" in next(iter(done.failed.values()))
    assert "<b>" not in (project / WORDS_FILE).read_text()
    assert spent(project) == model.billed_usd


@pytest.mark.parametrize("fault", ["dropped", "cut off", "500"])
def test_request_without_known_outcome_is_booked_at_its_worst(fault: Fault, project: Path, model: FakeModel) -> None:
    set_vibe(project, parallel=1)
    worst_usd = worst_of_one(project)
    model.script = [fault]
    done = vibe(project, limit=2 * PER_REQUEST)
    assert (done.answered, len(done.failed), done.unanswered) == (PER_REQUEST, PER_REQUEST, 1)
    assert done.usd == spent(project) > worst_usd
    assert spent(project) >= model.billed_usd
    assert "counted as spent" in next(iter(done.failed.values()))


def test_answer_without_usage_is_booked_at_its_worst(project: Path, model: FakeModel) -> None:
    worst_usd = worst_of_one(project)
    model.script = ["no usage"]
    assert vibe(project, limit=PER_REQUEST).answered == PER_REQUEST
    assert spent(project) == worst_usd


def test_parallel_requests_stop_at_the_budget_to_the_cent(project: Path, model: FakeModel) -> None:
    set_vibe(project, parallel=8)
    model.always = "slow"
    budget_usd = worst_of_one(project) * Decimal("2.5")
    done = vibe(project, budget_usd=budget_usd)
    assert done.stopped == "budget"
    assert 0 < done.answered < SOUNDS
    assert budget_usd - worst_of_one(project) < spent(project) <= budget_usd
    assert spent(project) == model.billed_usd
    # Day by day it goes on, and nothing is asked twice.
    while vibe(project, budget_usd=budget_usd).answered:
        pass
    assert len(read_bought(project)) == SOUNDS
    assert set(model.asked.values()) == {1}
    assert spent(project) == model.billed_usd


def test_budget_of_the_day_counts_what_other_runs_have_spent(project: Path, model: FakeModel) -> None:
    today = dt.datetime.now(dt.UTC).date()
    tidy_spend(project)
    append_spend(project, Spend(today - dt.timedelta(days=2), MODEL, Decimal(1000)))
    append_spend(project, Spend(today, "another/model", Decimal("4.99999")))
    done = vibe(project)
    assert (done.stopped, done.answered, model.bodies) == ("budget", 0, [])


def test_request_that_costs_more_than_its_worst_case_is_recorded_and_ends_the_run(
    project: Path, model: FakeModel
) -> None:
    set_vibe(project, parallel=1)
    model.script = ["costly"]
    done = vibe(project)
    assert (done.stopped, done.answered, len(model.bodies)) == ("costlier than its worst case", PER_REQUEST, 1)
    assert spent(project) == model.billed_usd > Decimal("2.5")


def test_killed_run_goes_on_and_asks_again_only_what_was_under_way(project: Path, model: FakeModel) -> None:
    set_vibe(project, parallel=2)
    model.script = [*["slow"] * 3, "hangs"]
    command = [sys.executable, "-c", "from backbeat.library.vibe import vibe; import pathlib; vibe(pathlib.Path('.'))"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env={**os.environ, "PYTHONWARNINGS": "ignore"}) as child:
        assert model.hanging.wait(30)
        with pytest.raises(LibraryError, match=r"another run"):
            vibe(project)
        os.kill(child.pid, signal.SIGKILL)
    bought = set(read_bought(project))
    model.go_on.set()
    # Torn in the middle of a line, as a kill leaves it.
    for name, torn in ((WORDS_FILE, '{"audio_sha256": "0'), (SPEND_FILE, "2026-11-")):
        with (project / name).open("a") as stream:
            stream.write(torn)
    done = vibe(project)
    assert done.wanted == SOUNDS - len(bought)
    assert len(read_bought(project)) == SOUNDS
    asked_twice = [name for name, count in model.asked.items() if count > 1]
    assert PER_REQUEST <= len(asked_twice) <= 2 * PER_REQUEST
    assert max(model.asked.values()) == 2
    assert spent(project) >= model.billed_usd
    assert 1 <= sum(row.unanswered for row in read_spend(project)) <= 2


def test_only_changed_asks_again_where_the_model_is_another(project: Path, model: FakeModel) -> None:
    vibe(project, limit=PER_REQUEST)
    prices = {name: {"input_usd_per_million": 1, "output_usd_per_million": 1} for name in (MODEL, "fake/better")}
    set_vibe(project, model="fake/better", prices={"as_of": dt.date(2026, 1, 1), "source": "here", "models": prices})
    assert vibe(project, limit=0).wanted == SOUNDS - PER_REQUEST
    assert vibe(project, changed=True).answered == SOUNDS
    assert {words.source for words in read_bought(project).values()} == {"fake/better"}


@pytest.mark.parametrize("fault", ["401", "503", None])
def test_endpoint_that_refuses_ends_the_run_and_costs_nothing(
    fault: Fault | None, project: Path, model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_vibe(project, tries=2, longest_wait_s=0.01)
    model.always = fault
    if fault is None:
        monkeypatch.setenv(URL_VARIABLE, "http://127.0.0.1:9/v1")
    with pytest.raises(LibraryError) as failure:
        vibe(project)
    assert KEY not in str(failure.value)
    assert "\x1b" not in str(failure.value)
    assert spent(project) == 0
    assert read_bought(project) == {}


def test_key_goes_to_the_endpoint_and_nowhere_else(project: Path, model: FakeModel) -> None:
    result = CliRunner().invoke(app, ["vibe"])
    assert result.exit_code == 0, result.output
    assert model.authorizations == {f"Bearer {KEY}"}
    assert KEY not in result.output
    assert not [path for path in project.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


def test_key_over_an_open_line_is_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(URL_VARIABLE, "http://model.example/v1")
    with pytest.raises(BackbeatError, match=r"http://… of a server on this machine"):
        vibe(project)


def test_without_a_key_words_come_by_rule(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENROUTER_API_KEY")
    result = CliRunner().invoke(app, ["vibe"])
    assert result.exit_code == 0
    assert "OPENROUTER_API_KEY" in result.output
    assert "by rule" in result.output
    assert "next: export OPENROUTER_API_KEY=" in result.output


def test_a_corrected_class_is_what_is_asked_about(project: Path, model: FakeModel) -> None:
    note = f"box/kick 00.wav:\n  audio_sha256: '{0:064x}'\n  class: tom\n"
    (project / "data/library/notes.yaml").write_text(note)
    vibe(project, limit=2)
    asked = json.loads(model.bodies[0]["messages"][1]["content"])["sounds"]
    assert {one["name"]: one["sound_class"] for one in asked} == {"again": "kick", "kick 00": "tom"}


def test_after_it_what_was_said_by_rule_is_found_as_well_and_at_once(
    tmp_path: Path, model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = new_library(tmp_path / "library")
    monkeypatch.chdir(project)
    monkeypatch.setenv("OPENROUTER_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    catalog(project)
    assert CliRunner().invoke(app, ["vibe"]).exit_code == 0
    names = {text: [Path(hit.sample).stem for hit in find(project, Wish(text)).hits] for text in
             ("short bright hat", '"bright closed"', "warm 808")}  # fmt: skip
    assert names == {"short bright hat": ["CH 1"], '"bright closed"': ["CH 1"], "warm 808": ["808 long"]}


def test_rehearsal_says_the_price_and_asks_nobody(project: Path, model: FakeModel) -> None:
    result = CliRunner().invoke(app, ["vibe", "--dry-run", "--json"])
    planned = json.loads(result.stdout)
    assert (planned["sounds"], planned["requests"]) == (SOUNDS, -(-SOUNDS // PER_REQUEST))
    assert 0 < float(planned["estimated_usd"]) < float(planned["worst_usd"])
    assert model.bodies == []


def test_spend_is_reported_by_day_and_model(project: Path, model: FakeModel) -> None:
    vibe(project, limit=PER_REQUEST)
    result = CliRunner().invoke(app, ["spend", "--json"])
    (row,) = json.loads(result.stdout)
    assert (row["model"], row["requests"], Decimal(row["usd"])) == (MODEL, 1, model.billed_usd)


def test_prices_are_what_is_written_in_the_configuration() -> None:
    prices = load_settings(REPOSITORY).vibe.prices.models
    assert prices["openai/gpt-4o-mini"] == ModelPrice(
        input_usd_per_million=Decimal("0.15"), output_usd_per_million=Decimal("0.6")
    )
