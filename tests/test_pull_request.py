"""What a pull request is told: true, harmless whatever a fork holds, and in one comment that is ours."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt

from backbeat.experiments.pull_request import MOST_CHARACTERS, Data, State, comment, scores_of
from backbeat.experiments.results import Evaluated, Result, TrainingRun, resolve

REPOSITORY = Path(__file__).parents[1]
CI = REPOSITORY / ".ci"

RESULT = Result(
    name="base 1234567",
    revision="1" * 40,
    params={"dataset": "egmd_mini", "train.learning_rate": 0.003, "train.steps": 600},
    metrics={"test.onset_f1": 0.88, "held_out_kits.onset_f1": 0.87},
    dataset="egmd_mini",
    data_hash="a" * 32,
    evaluated_on=Evaluated("b" * 64, "drums7", 0.05),
    training=TrainingRun(120, "CPU (x86_64)", "cpu", 1, 2),
    cost_usd=0.01,
)
SHARDS, MODEL = "data/processed/egmd_mini", "models"
BASE = State(
    result=RESULT,
    data={SHARDS: Data("a.dir", 22, 4_000_000), MODEL: Data("b.dir", 1, 700_000)},
    classes={"kick": 0.9, "snare": 0.8},
    thresholds={"0.1": 0.7, "0.2": 0.8},
)


def head(base: State = BASE, **changes: Any) -> State:
    """Return what a pull request could make of the base."""
    of_state = {key: changes.pop(key) for key in ("data", "classes", "thresholds") if key in changes}
    for name in ("params", "metrics"):
        changes[name] = {**getattr(base.result, name), **changes.get(name, {})}
    return dataclasses.replace(
        base, result=dataclasses.replace(base.result, name="head 7654321", **changes), **of_state
    )


def test_it_says_first_what_became_of_the_score_and_then_what_was_changed() -> None:
    text = comment(
        BASE,
        head(
            params={"train.learning_rate": 0.001},
            metrics={"test.onset_f1": 0.891},
            data={
                SHARDS: Data("c.dir", 24, 4_400_000),
                MODEL: Data("d.dir", 1, 700_000),
                "new.wav": Data("e", None, 9),
            },
            classes={"kick": 0.95, "snare": 0.75},
        ),
        [],
    )
    assert text.startswith("**Onset F1 on the test split: 0.880 → 0.891 (+0.011↑).**\n")
    assert "`learning_rate 0.003 -> 0.001`" in text
    assert "steps" not in text
    assert f"- `{SHARDS}`: 22 files, 4.0 MB → 24 files, 4.4 MB\n" in text
    assert f"- `{MODEL}`: 1 file, 700.0 kB, with other contents\n" in text
    assert "- `new.wav`: new, 9 bytes" in text
    # The picture that differs, folded; not the one that does not.
    assert re.findall(r"(?:bar|line) \[.*\]", text) == ["bar [0.900, 0.800]", "line [0.950, 0.750]"]
    assert text.count("<details>") == text.count("</details>") == 1
    assert "WARNING" not in text


def test_where_nothing_of_it_changes_it_is_one_line() -> None:
    assert comment(BASE, head(), []) == "Parameters, scores and data stay as they are.\n"
    assert "> [!WARNING]\n> `train would run`" in comment(BASE, head(), ["train would run"])


def test_other_test_data_and_missing_scores_are_said() -> None:
    elsewhere = head(metrics={"test.onset_f1": 0.99}, evaluated_on=Evaluated("c" * 64, "drums7", 0.05))
    assert "> [!WARNING]\n> head 7654321 cannot be compared" in comment(BASE, elsewhere, [])
    without = dataclasses.replace(BASE, result=dataclasses.replace(RESULT, name="head 7654321", metrics={}))
    assert comment(BASE, without, []).startswith("**There are no scores.**")
    assert comment(without, head(), []).startswith("**Onset F1 on the test split: 0.880.** Where this began")


def test_what_is_left_out_of_it_and_what_has_no_scores_is_said() -> None:
    many = head(params={f"train.p{number}": number for number in range(30)})
    assert "\n10 more parameters differ than the table shows.\n" in comment(BASE, many, [])
    twenty = head(params={f"train.p{number}": number for number in range(20)})
    assert "more parameters" not in comment(BASE, twenty, [])
    bare = dataclasses.replace(BASE, result=dataclasses.replace(RESULT, metrics={}))
    text = comment(bare, dataclasses.replace(bare, result=dataclasses.replace(bare.result, name="head 7654321")), [])
    assert text.startswith("**There are no scores.**")
    assert "scores and data stay" not in text


def test_it_warns_of_what_a_comparison_warns_of() -> None:
    on = dataclasses.replace(RESULT.evaluated_on, params={"train.learning_rate": 0.003, "train.held_out_kits": [4]})  # type: ignore[type-var]
    base = dataclasses.replace(BASE, result=dataclasses.replace(RESULT, evaluated_on=on))
    kits = dataclasses.replace(on, params={**on.params, "train.held_out_kits": [5]})
    text = comment(base, head(base, evaluated_on=kits, metrics={"held_out_kits.onset_f1": 0.95}), [])
    assert "> [!WARNING]\n> head 7654321 held out other kits" in text
    assert "| 0.880 = | 0.950 |" in text
    text = comment(base, head(base, params={"train.learning_rate": 0.1}), [])
    assert "> [!WARNING]\n> the scores of head 7654321 are not of its parameters" in text
    # Also where it is nothing that the table shows.
    old = dataclasses.replace(on, params={**on.params, "train.steps": 500})
    base = dataclasses.replace(BASE, result=dataclasses.replace(RESULT, evaluated_on=old))
    assert "other values of train.steps; next: dvc repro" in comment(base, head(base), [])


ATTACKS = (
    "a | b\n| c |",
    "`code` ``` fence",
    "<img src=x onerror=alert(1)>",
    "@everyone and @octocat",
    "[link](https://example.org) ![picture](https://example.org/x.png)",
    "</details>\n\n# A heading\n\n- [x] done",
    "<!-- results of this pull request -->",
)


TAG = re.compile(r"<[^>]*>")
INLINE = {"text", "code_inline", "strong_open", "strong_close", "softbreak", "html_inline"}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_value_of_a_fork_is_text_and_nothing_else(attack: str) -> None:
    text = comment(
        BASE,
        head(
            params={"train.precision": attack, attack: 1},
            metrics={"test.onset_f1": 0.891},
            dataset=attack,
            evaluated_on=Evaluated("c" * 64, attack, 0.05),
            training=TrainingRun(1, attack, "cpu", 1, 1),
            data={attack: Data(attack, 1, 1)},
            classes=scores_of([{"class": attack, "f1": 0.5}], "class", "f1"),
        ),
        [attack],
    )
    # As GitHub reads it: blocks, and what is inside of them.
    blocks = MarkdownIt("commonmark").enable("table").parse(text)
    inner = [token for block in blocks for token in block.children or []]
    tags = [tag for token in [*blocks, *inner] if token.type.startswith("html_") for tag in TAG.findall(token.content)]
    assert sorted(set(tags) - {"<br>"}) == ["</details>", "</summary>", "<details>", "<summary>"]
    assert len(tags) - tags.count("<br>") == 4
    assert {token.type for token in inner} <= INLINE
    assert not re.search(r"@\w", "".join(token.content for token in inner if token.type == "text"))
    assert re.search(r'^    x-axis \["[\w. ?-]*"\]$', text, re.MULTILINE)
    kinds = [token.type for token in blocks]
    assert "heading_open" not in kinds
    assert kinds.count("bullet_list_open") == kinds.count("fence") == 1
    assert kinds.count("td_open") == 2 * kinds.count("th_open")


def test_what_is_too_long_is_cut_and_still_differs() -> None:
    long = head(params={"train.note": "x" * 1_000_000}, metrics={"test.onset_f1": 0.9})
    longer = head(long, params={"train.note": "x" * 1_000_000 + "y"})
    text = comment(long, longer, ["z" * 1_000_000])
    assert len(text) < 4_000
    assert "(1000001 characters" in text
    other = head(long, params={"train.note": "x" * 999_999 + "y"})
    assert "stay as they are" not in comment(long, other, [])
    shown = re.findall(r"SHA-256 [0-9a-f]+", comment(long, other, []))
    assert len(set(shown)) == 2
    many = {f"train.p{number:05}": number for number in range(10_000)}
    paths = {f"data/{number}": Data("a", 1, 1) for number in range(10_000)}
    classes = {str(number): 0.5 for number in range(10_000)}
    assert len(comment(BASE, head(params=many, data=paths, classes=classes, thresholds=classes), [])) < MOST_CHARACTERS


def test_a_plot_that_is_none_is_not_drawn() -> None:
    assert scores_of({"class": "kick"}, "class", "f1") == {}
    rows = [{"class": "kick", "f1": value} for value in (float("nan"), 2, "1", None, True)]
    assert scores_of([*rows[:4], 7, {"f1": 0.5}], "class", "f1") == {"None": 0.5}
    # A series without gaps needs the same classes on both sides.
    text = comment(BASE, head(classes={"kick": 0.5, "hi_hat": 0.5}, metrics={"test.onset_f1": 0.5}), [])
    assert "bar [" not in text
    assert "line [0.500, 0.500]" in text


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with two branches: one trains at another rate, the other then changes code and does not run it."""
    folder = tmp_path_factory.mktemp("pull-request")
    for name in (".dvc/config", "configs/cloud.yaml", "params.yaml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, folder / name)
    stages = {"train": {"cmd": "true", "deps": ["code.py"], "params": ["train.learning_rate"], "outs": ["models"]}}
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    (folder / "code.py").write_text("first = 1\n")
    (folder / ".gitignore").write_text("/models\n")
    (folder / "reports").mkdir()
    git(folder, "init", "--quiet", "--initial-branch=main")
    ran(folder, rate=0.003, f1=0.88, model="1")
    git(folder, "checkout", "--quiet", "-b", "rate")
    (folder / "params.yaml").write_text((folder / "params.yaml").read_text().replace("rate: 0.003 ", "rate: 0.001 "))
    (folder / "reports" / "training_run.json").write_text(json.dumps(dataclasses.asdict(RESULT.training)))  # type: ignore[arg-type]
    ran(folder, rate=0.001, f1=0.9, model="2")
    git(folder, "checkout", "--quiet", "-b", "code")
    (folder / "code.py").write_text("second = 2\n")
    committed(folder)
    # What came to main since is nothing that the branches did.
    git(folder, "checkout", "--quiet", "main")
    ran(folder, rate=0.003, f1=0.5, model="3")
    return folder


def ran(folder: Path, *, rate: float, f1: float, model: str) -> None:
    """Write what a run would have left, and commit it."""
    code = (folder / "code.py").read_bytes()
    (folder / "reports" / "metrics.json").write_text(json.dumps({"test": {"onset_f1": f1}}))
    locked = {
        "cmd": "true",
        "deps": [{"path": "code.py", "hash": "md5", "md5": hashlib.md5(code).hexdigest(), "size": len(code)}],
        "params": {"params.yaml": {"train.learning_rate": rate}},
        "outs": [{"path": "models", "hash": "md5", "md5": f"{model * 32}.dir", "size": 700, "nfiles": 1}],
    }
    (folder / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": {"train": locked}}))
    committed(folder)


def committed(folder: Path) -> None:
    git(folder, "add", "--all")
    git(folder, "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "--message", "a run")


def git(folder: Path, *words: str) -> None:
    subprocess.run(["git", *words], cwd=folder, check=True)


def test_it_is_made_of_two_revisions_without_their_data(project: Path, tmp_path: Path) -> None:
    """By the script that the workflow calls, as a program."""
    text = subprocess.run(
        [sys.executable, CI / "pull_request_comment.py", "main", "code"],
        cwd=project, stdout=subprocess.PIPE, text=True, check=True,
        env={**os.environ, "HOME": str(tmp_path), "DVC_SITE_CACHE_DIR": str(tmp_path)},
    ).stdout  # fmt: skip
    assert text.startswith("**Onset F1 on the test split: 0.880 → 0.900 (+0.020↑).**\n")
    assert "`learning_rate 0.003 -> 0.001`" in text
    assert "- `models`: 1 file, 700 bytes, with other contents" in text
    assert "`2 min 00 s`" in text
    assert "`dvc.lock is not that of this code: train would run; next: dvc repro, then commit dvc.lock`" in text


def test_a_lock_that_is_of_this_code_is_not_complained_about(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path))
    commit = resolve(project, "rate")
    assert runpy.run_path(str(CI / "pull_request_comment.py"))["stale_stages"](project, commit) == []


def test_what_cannot_be_read_is_said(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    text = runpy.run_path(str(CI / "pull_request_comment.py"))["main"]("main", "nowhere")
    assert text.startswith("**The results cannot be compared.**\n\n`there is no revision")


# --------------------------------------------------------------------------------------------------------------------
# The half that may write, with a `gh` that answers from a file and writes down what it is asked.

GH = """#!{python}
import json, pathlib, sys
world = json.loads(pathlib.Path({answers!r}).read_text())
path = next(word for word in sys.argv[2:] if word.startswith("repos/"))
with open({asked!r}, "a") as log:
    method = sys.argv[sys.argv.index("--method") + 1] if "--method" in sys.argv else "GET"
    log.write(json.dumps([method, path, sys.stdin.read()]) + "\\n")
if path.endswith("/zip"):
    sys.stdout.buffer.write(pathlib.Path({archive!r}).read_bytes())
else:
    print(json.dumps([answer for start, answer in world.items() if path.startswith(start)]))
"""
SHA = "a" * 40
OURS = {"id": 5, "user": {"login": "github-actions[bot]"}, "body": "<!-- results of this pull request -->\n\nold"}
THEIRS = {**OURS, "id": 4, "user": {"login": "mallory"}}


def posted(
    folder: Path, content: bytes, *, pulls: list[Any] | None = None, comments: tuple[Any, ...] = (), **variables: str
) -> tuple[int, list[list[str]]]:
    """Run the script; return its exit code and what it wrote to GitHub: method, path and body."""
    archive, answers, asked = (folder / name for name in ("archive.zip", "answers.json", "asked.txt"))
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("comment.md", content)
    one = {"id": 9, "size_in_bytes": archive.stat().st_size, "expired": False}
    answers.write_text(
        json.dumps({
            "repos/o/r/pulls?": [{"number": 3, "head": {"sha": SHA}}] if pulls is None else pulls,
            "repos/o/r/actions/runs/77/artifacts": {"artifacts": [one]},
            "repos/o/r/issues/3/comments": list(comments),
        })
    )  # fmt: skip
    asked.write_text("")
    (folder / "bin").mkdir(exist_ok=True)
    script = GH.format(python=sys.executable, answers=str(answers), asked=str(asked), archive=str(archive))
    (folder / "bin" / "gh").write_text(script)
    (folder / "bin" / "gh").chmod(0o755)
    environment = {
        "PATH": str(folder / "bin"), "GITHUB_REPOSITORY": "o/r", "HEAD_SHA": SHA, "HEAD_OWNER": "somebody",
        "HEAD_BRANCH": "a&b=c", "RUN_ID": "77", **variables,
    }  # fmt: skip
    done = subprocess.run([sys.executable, CI / "post_comment.py"], env=environment, check=False, capture_output=True)
    calls = [json.loads(line) for line in asked.read_text().splitlines()]
    assert all("head=somebody%3Aa%26b%3Dc" in path for _, path, _ in calls if "/pulls?" in path)
    return done.returncode, [call for call in calls if call[0] != "GET"]


def test_there_is_one_comment_and_it_is_replaced(tmp_path: Path) -> None:
    code, ((method, path, body),) = posted(tmp_path, b"fine")
    assert (code, method, path) == (0, "POST", "repos/o/r/issues/3/comments")
    assert json.loads(body)["body"].startswith("<!-- results of this pull request -->\n\n<sub>Written by")
    code, ((method, path, _),) = posted(tmp_path, b"fine", comments=(THEIRS, OURS))
    assert (code, method, path) == (0, "PATCH", "repos/o/r/issues/comments/5")


def test_what_a_fork_wrote_calls_nobody_and_hides_nothing(tmp_path: Path) -> None:
    _, ((_, _, body),) = posted(tmp_path, "@octocat <!-- \u202e\x1b[31m pull request 4 --> é".encode() + b"\xff")
    text = json.loads(body)["body"].split("\n\n")[2]
    assert text == "@\u200boctocat &lt;!-- [31m pull request 4 --> é\ufffd"


def test_it_fits_and_says_who_wrote_it_whatever_the_text_does(tmp_path: Path) -> None:
    _, ((_, _, body),) = posted(tmp_path, b"<!--" * 15_000 + b"```\n<details>")
    text = json.loads(body)["body"]
    assert len(text) < 65_536
    assert text.index("Written by the code of this pull request") < text.index("&lt;!--")


@pytest.mark.parametrize(
    ("content", "wrong", "expected_code"),
    [
        # A newer commit has its own run; two pull requests of one branch have two bases.
        (b"fine", {"pulls": []}, 0),
        (b"fine", {"pulls": [{"number": 3, "head": {"sha": "b" * 40}}]}, 0),
        (b"fine", {"pulls": [{"number": 3, "head": {"sha": SHA}}, {"number": 4, "head": {"sha": SHA}}]}, 0),
        (b"x" * 1_000_000, {}, 1),
        (b"fine", {"HEAD_SHA": "main"}, 1),
        (b"fine", {"RUN_ID": "77/../../8"}, 1),
    ],
)
def test_nothing_is_written_where_something_is_not_as_it_should_be(
    tmp_path: Path, content: bytes, wrong: dict[str, Any], expected_code: int
) -> None:
    assert posted(tmp_path, content, **wrong) == (expected_code, [])
