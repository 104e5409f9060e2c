"""The page about results, in a real browser; and what it says where something is absent or must not be handed on."""

import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from markupsafe import escape
from typer.testing import CliRunner

from backbeat.cli.app import app
from backbeat.datasets.registry import load_record
from backbeat.drums.egmd import find_archive, read_index
from backbeat.errors import ExperimentError
from backbeat.experiments.results import EVALUATION_FILE, read_result
from backbeat.report.content import THRESHOLDS_FILE, Headline, standing, threshold_chart
from backbeat.report.evaluation import Evaluation, read_evaluation
from backbeat.report.hits import Excerpt, Hit, match_hits, worst_stretch
from backbeat.report.listening import Absent, listen, with_sound
from backbeat.report.make import Page, make_report
from backbeat.report.sound import SAMPLE_RATE_HZ, mp3_excerpt
from backbeat.transcription.decode import Peaks
from backbeat.transcription.metrics import count_onsets
from browser import browser, opened_page, serious_faults, until
from small_project import wav
from tiny_pipeline import set_params

__all__ = ["browser"]  # a fixture

# What would be an element, were it not escaped.
ODD_NAME = "odd<i>name"
ODD_TITLE = "Drums <script>window.broken = 1</script> & <b>more</b>"
RECORD = "configs/datasets/egmd_mini.yaml"


def git(project: Path, *words: str) -> None:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *identity, *words], cwd=project, capture_output=True, check=True)


def edit(path: Path, pattern: str, replacement: str) -> None:
    text, count = re.subn(pattern, replacement, path.read_text(), flags=re.MULTILINE)
    assert count == 1
    path.write_text(text)


@pytest.fixture(scope="module")
def project(trained_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with results in the workspace, on main (better ones), and on a branch with an odd name."""
    folder = tmp_path_factory.mktemp("report") / "project"
    shutil.copytree(trained_project, folder, symlinks=True)
    edit(folder / RECORD, "^title: .*", f"title: '{ODD_TITLE}'")
    (folder / ".gitignore").write_text("/data/\n/models/\n/.dvc/cache/\n/reports/report.html\n")
    git(folder, "init", "--quiet", "--initial-branch=main")
    metrics, text = folder / "reports/metrics.json", (folder / "reports/metrics.json").read_text()
    for branch, f1, rate in (("main", 0.75, "0.003"), (ODD_NAME, 0.25, "0.01")):
        git(folder, "checkout", "--quiet", "-B", branch)
        values = json.loads(text)
        values["test"]["onset_f1"] = f1
        metrics.write_text(json.dumps(values))
        set_params(folder, {"learning_rate": rate})
        git(folder, "add", "-A")
        git(folder, "commit", "--quiet", "--message", branch)
    git(folder, "checkout", "--quiet", "main")
    metrics.write_text(text)
    return folder


@pytest.fixture(scope="module")
def made(project: Path) -> Page:
    return make_report(project, ["workspace", ODD_NAME])


@pytest.fixture(scope="module")
def url(made: Page) -> str:
    return made.path.as_uri()


@pytest.fixture
def copy(project: Path, tmp_path: Path) -> Path:
    return shutil.copytree(project, tmp_path / "project", symlinks=True)


def evaluation_of(project: Path) -> Evaluation:
    return read_evaluation(project, read_result(project, "workspace"))


def set_evaluation(project: Path, **changes: object) -> None:
    file = project / EVALUATION_FILE
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_the_page_renders_and_asks_nobody_for_anything(browser, url: str, project: Path) -> None:
    evaluation = evaluation_of(project)
    with opened_page(browser, url) as (page, seen):
        page.wait_for_function(
            "[...document.querySelectorAll('img, audio')].every(one => one.complete ?? one.duration)"
        )
        assert page.locator(".headlines .number").first.inner_text() == f"{evaluation.test.onset_f1:.3f}"
        scores = page.locator(".sequence .score .number").all_inner_texts()
        worst = [
            f"{one['onset_f1']:.3f}" for one in json.loads((project / EVALUATION_FILE).read_text())["worst_sequences"]
        ]
        assert scores[1:] == worst
        assert page.locator("img").evaluate_all("all => all.every(one => one.naturalWidth > 0)")
        assert page.locator(".chart svg").count() == 5
        assert page.get_by_text("Of the parameters, those that differ").count() == 1
    assert seen.requests == []
    assert seen.errors == []


def test_one_sound_plays_at_a_time_and_the_line_moves_with_it(browser, url: str) -> None:
    with opened_page(browser, url) as (page, _):
        first, second = (page.locator(".sequence").nth(index) for index in (0, 1))
        length_s = float(first.locator(".picture").get_attribute("data-length"))
        first.locator(".play").click()
        until(page, "document.querySelector('audio').currentTime > 0.1")
        until(page, "parseFloat(document.querySelector('.playhead').style.left) > 0")
        assert first.locator("audio").evaluate("one => one.duration") == pytest.approx(length_s, abs=0.05)
        assert first.locator(".play").get_attribute("aria-pressed") == "true"
        second.locator(".play").click()
        until(page, "document.querySelectorAll('audio')[1].currentTime > 0")
        assert first.locator("audio").evaluate("one => one.paused")
        assert first.locator(".play").get_attribute("aria-pressed") == "false"


def test_a_click_into_the_picture_and_its_keys_go_to_a_place(browser, url: str) -> None:
    with opened_page(browser, url) as (page, _):
        picture, audio = page.locator(".picture").first, page.locator("audio").first
        until(page, "document.querySelector('audio').readyState > 0")
        length_s, box = float(picture.get_attribute("data-length")), picture.bounding_box()
        picture.click(position={"x": box["width"] / 4, "y": 20})
        assert audio.evaluate("one => one.currentTime") == pytest.approx(length_s / 4, abs=0.02)
        page.keyboard.press("ArrowRight")
        assert audio.evaluate("one => one.currentTime") == pytest.approx(length_s / 4 + 0.25, abs=0.02)
        page.keyboard.press("Home")
        page.keyboard.press("ArrowLeft")
        assert picture.get_attribute("aria-valuenow") == "0.00"
        assert page.locator(".playhead").first.evaluate("one => one.style.left") == "0%"
        page.keyboard.press(" ")
        until(page, "!document.querySelector('audio').paused")


def test_the_comparison_sorts_by_the_column_that_is_clicked(browser, url: str) -> None:
    with opened_page(browser, url) as (page, _):
        rows = page.locator(".sortable tbody th")
        assert rows.all_inner_texts() == ["main", "workspace", ODD_NAME]
        header = page.locator(".sortable thead th").nth(1)
        header.get_by_role("button").click()
        assert header.get_attribute("aria-sort") == "ascending"
        scores = [float(text.split()[0]) for text in page.locator(".sortable tbody td:nth-child(2)").all_inner_texts()]
        assert scores == sorted(scores)
        assert rows.last.inner_text() == "main"
        header.get_by_role("button").press("Enter")
        assert header.get_attribute("aria-sort") == "descending"
        assert rows.first.inner_text() == "main"


def test_a_phone_shows_it_without_sideways_scrolling(browser, url: str) -> None:
    with opened_page(browser, url, width=360) as (page, _):
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        page.locator("summary").evaluate_all("all => all.forEach(one => one.click())")
        assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_everybody_can_use_it_by_day_and_by_night(browser, url: str) -> None:
    with opened_page(browser, url) as (page, _):
        page.locator("summary").evaluate_all("all => all.forEach(one => one.click())")
        assert serious_faults(page) == []
        page.emulate_media(color_scheme="dark")
        assert serious_faults(page, only="color-contrast") == []


def test_the_theme_can_be_chosen(browser, url: str) -> None:
    def paper(page) -> str:
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    with opened_page(browser, url, scheme="light") as (page, _):
        light = paper(page)
        page.locator("#theme").click(click_count=2)
        assert page.locator("#theme").inner_text() == "Theme: dark"
        assert paper(page) != light


def test_names_stay_names(browser, url: str) -> None:
    with opened_page(browser, url) as (page, _):
        assert page.locator("h1").inner_text() == ODD_TITLE
        assert page.evaluate("window.broken") is None
        assert page.locator("script").count() == 1
        assert page.locator("main i, main b").count() == 0
        # In the legends of the charts, too.
        assert page.locator(".chart svg text", has_text=ODD_NAME).count() == 3


def test_equal_inputs_give_equal_bytes(made: Page, project: Path, tmp_path: Path) -> None:
    again = make_report(project, ["workspace", ODD_NAME], output=tmp_path / "again.html")
    assert again.path.read_bytes() == made.path.read_bytes()
    assert again.absent == ()


def embedded(page: Page) -> tuple[int, int]:
    """Return how many pictures and sounds are in a page."""
    html = page.path.read_bytes()
    return html.count(b'"data:image/'), html.count(b'"data:audio/')


def test_what_must_not_be_handed_on_is_not_in_the_page(copy: Path) -> None:
    """What counts is the dataset that was evaluated, whatever the parameters say by now."""
    edit(copy / RECORD, "redistribute: true", "redistribute: false")
    edit(copy / "params.yaml", "^dataset: egmd_mini", "dataset: egmd")
    page = make_report(copy)
    assert embedded(page) == (0, 0)
    html = page.path.read_text()
    assert "does not allow its data to be handed on" in html
    assert f"<h1>{escape(ODD_TITLE)}</h1>" in html
    (warning,) = [one for one in page.warnings if "other values of dataset" in one]
    assert warning in html
    set_evaluation(copy, worst_sequences=[])
    assert embedded(make_report(copy, embed_restricted=True)) == (1, 1)


def test_without_raw_data_there_are_pictures_and_the_command_that_brings_sound(copy: Path) -> None:
    shutil.rmtree(copy / "data/raw")
    set_evaluation(copy, worst_sequences=[])
    page = make_report(copy)
    assert embedded(page) == (1, 0)
    ((part, step),) = [(one.part, one.next_step) for one in page.absent]
    assert (part, step) == ("sound", "dvc repro data/dvc.yaml:download@egmd_mini")
    assert step in page.path.read_text()


def test_a_recording_that_was_replaced_is_not_heard_beside_the_old_picture(project: Path) -> None:
    first, second, *_ = read_index(find_archive(project / "data/raw/egmd_mini"))
    excerpt = Excerpt(
        id=first.id, why="typical", kit=1, kit_name="", held_out=False, style="", onset_f1=0.5, duration_s=0.5,
        start_s=0, length_s=0.5, classes=(), hits=(), wav_crc32=first.wav.crc32, png=b"",
    )  # fmt: skip
    replaced = replace(excerpt, id=second.id, wav_crc32=second.wav.crc32 ^ 1)
    shown, (absent,) = with_sound(project, "egmd_mini", (excerpt, replaced))
    assert [one.mp3 is not None for one in shown] == [True, False]
    assert absent.part == f"sound of {second.id}"
    assert "does not hold the recordings that were evaluated" in absent.reason


@pytest.mark.parametrize(
    ("gone", "step"), [("models/transcriber.safetensors", "dvc pull models"), ("data/processed", "dvc pull")]
)
def test_what_is_not_there_is_said_with_what_brings_it(copy: Path, gone: str, step: str) -> None:
    (shutil.rmtree if (copy / gone).is_dir() else Path.unlink)(copy / gone)
    shown, (absent,) = listen(copy, evaluation_of(copy), load_record(copy, "egmd_mini"), embed_restricted=False)
    assert (shown, absent.part) == ((), "spectrograms and sound")
    assert step in absent.next_step


def test_what_is_not_what_was_evaluated_is_not_shown(project: Path, copy: Path) -> None:
    edit(copy / "configs/drums.yaml", '^  "41": tom_low', '  "41": kick')
    evaluation, record = evaluation_of(project), load_record(project, "egmd_mini")
    said = evaluation.provenance
    for place, evaluated, what in (
        (project, replace(said, model="0" * 64), "model"),
        (copy, said, "class map"),
        (copy, replace(said, class_of_pitch=None), "class map"),  # as older evaluations have it
    ):
        shown, (absent,) = listen(place, replace(evaluation, provenance=evaluated), record, embed_restricted=False)
        assert shown == ()
        assert absent.reason == f"The {what} here and what was evaluated are not the same."


@pytest.mark.parametrize(
    ("broken", "fault"),
    [
        ({"provenance": {"dataset": "egmd_mini"}}, "provenance.train: Field required"),
        ({"test": {"sequences": 1, "onset_f1": 0.5}}, "test.onset_f1_by_class: Field required"),
        ({"by_kit": {"no number": {"sequences": 1, "onset_f1": 0.5, "onset_f1_by_class": {}}}}, "by_kit.no number"),
    ],
)
def test_an_evaluation_that_lacks_something_is_said_to(copy: Path, broken: dict, fault: str) -> None:
    result = read_result(copy, "workspace")
    set_evaluation(copy, **broken)
    with pytest.raises(ExperimentError) as refused:
        read_evaluation(copy, result)
    assert fault in refused.value.got
    assert refused.value.next_step == "dvc repro evaluate"


def test_thresholds_without_scores_are_said_to_be_so(project: Path, tmp_path: Path) -> None:
    (tmp_path / THRESHOLDS_FILE).parent.mkdir(parents=True)
    (tmp_path / THRESHOLDS_FILE).write_text('[{"threshold": 0.5}]')
    with pytest.raises(ExperimentError) as refused:
        threshold_chart(tmp_path, read_result(project, "workspace"), evaluation_of(project))
    assert "0.precision: Field required" in refused.value.got


def test_an_experiment_that_cannot_be_read_is_a_warning(copy: Path) -> None:
    shutil.rmtree(copy / "reports")
    for name, params in (("broken", "dataset: ["), ("whole", (copy / "params.yaml").read_text())):
        (copy / "params.yaml").write_text(params)
        git(copy, "commit", "--quiet", "--all", "--message", name)
        git(copy, "update-ref", f"refs/exps/ab/{'c' * 38}/{name}", "HEAD")
    page = make_report(copy, every_experiment=True)
    assert any("broken" in one and "dvc exp remove broken" in one for one in page.warnings)
    assert ">whole</th>" in page.path.read_text()


def test_what_was_never_evaluated_has_a_page_all_the_same(browser, copy: Path) -> None:
    shutil.rmtree(copy / "reports")
    page = make_report(copy)
    with opened_page(browser, page.path.as_uri()) as (shown, seen):
        assert "was not evaluated" in shown.locator("main").inner_text()
        assert shown.evaluate("document.documentElement.scrollWidth") == 1280
    assert seen.errors == []


def test_the_command_says_how_large_the_page_is(
    made: Page, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    absent = Absent("sound", "It is gone.", "dvc repro")
    monkeypatch.setattr(
        "backbeat.report.make.make_report",
        lambda *_, **__: Page(tmp_path / "a.html", 1_234_567, 11, (absent,), ("It is old.",)),
    )
    shown = CliRunner().invoke(app, ["report", "main"])
    assert shown.stdout.endswith("a.html  1.2 MB, 11 sequences\n")
    assert shown.stderr == "warning: It is old.\nno sound: It is gone. next: dvc repro\n"


def test_what_the_differences_are_to_is_said_of_what_can_be_compared(project: Path) -> None:
    main = read_result(project, "main")
    one = Headline("onset F1", 0.5, 0.1, "better")
    equal, alone = replace(one, difference=0.0, verdict="same"), replace(one, difference=None, verdict=None)
    for shown, against, expected in (
        ([one, equal, alone], main, "Differences are to main."),
        ([equal, equal], main, "Every score here equals that of main."),
        ([equal, alone], main, "Every score that can be compared equals that of main."),
        ([alone], main, "These scores cannot be compared with those of main."),
        ([alone], replace(main, metrics={}), "main has no scores to compare with."),
    ):
        assert standing(shown, against) == expected


def peaks(*places: tuple[float, int]) -> Peaks:
    times, classes = (np.array(column) for column in zip(*places, strict=True))
    return Peaks(np.rint(times * 100).astype(np.int64), times, classes, np.ones(len(times)), np.ones(len(times)))


def test_hits_are_matched_as_the_evaluation_matches_them() -> None:
    rng = np.random.default_rng(1)
    reference = [(np.sort(rng.uniform(0, 5, 30)), np.ones(30)) for _ in range(3)]
    estimate = peaks(*((float(at), index) for index in range(3) for at in np.sort(rng.uniform(0, 5, 40))))
    counts = count_onsets(reference, estimate, 0.05)
    hits = match_hits(reference, estimate, 0.05)
    for kind, expected in (("found", counts.found), ("missed", counts.missed), ("extra", counts.wrong)):
        assert [sum((hit.kind, hit.class_index) == (kind, index) for hit in hits) for index in range(3)] == list(
            expected
        )


def test_of_a_long_sequence_the_stretch_with_the_most_errors_is_shown() -> None:
    hits = [Hit(float(at), 0, "found") for at in range(60)]
    hits += [Hit(at, 0, "missed") for at in (3.0, 30.0, 31.0, 44.0)]
    assert worst_stretch(hits, 60.0, 20.0) == (29.0, 20.0)
    assert worst_stretch(hits, 12.0, 20.0) == (0.0, 12.0)
    assert worst_stretch(hits[:60], 60.0, 20.0) == (0.0, 20.0)


def test_a_sound_stands_where_it_stood_in_the_recording() -> None:
    """A click 1.5 s into a recording at another rate is 0.5 s into the excerpt that begins at 1 s."""
    samples = np.zeros(3 * 48_000, np.float32)
    samples[round(1.5 * 48_000)] = 0.9
    decoded, rate = soundfile.read(io.BytesIO(mp3_excerpt(wav(samples, 48_000), "click", 1.0, 1.25)))
    assert (rate, len(decoded)) == (SAMPLE_RATE_HZ, round(1.25 * SAMPLE_RATE_HZ))
    assert np.abs(decoded).argmax() == pytest.approx(0.5 * SAMPLE_RATE_HZ, abs=3)
