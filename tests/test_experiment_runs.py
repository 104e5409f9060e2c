"""Experiments and their repetition under the real DVC, with stages that take no time; and the real pipeline, slowly."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from backbeat.errors import ExperimentError
from backbeat.experiments.listing import listed
from backbeat.experiments.queue import tasks
from backbeat.experiments.results import experiments
from backbeat.experiments.run import enqueue, follow, plan, run
from backbeat.experiments.verify import verify
from test_end_to_end import clone
from toy_pipeline import make_toy, scores_of, shell, state_of, toy_environment, witnessed

Toy = tuple[Path, Path]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """A project that has run once, and its home. Nobody changes it."""
    folder = tmp_path_factory.mktemp("toy")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in toy_environment(folder / "home").items():
            patch.setenv(name, value)
        return make_toy(folder / "project"), folder / "home"


@pytest.fixture
def toy(made: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """The same, to be changed, with its home as the environment says."""
    shutil.copytree(made[0].parent, tmp_path / "toy", symlinks=True)
    for name, value in toy_environment(tmp_path / "toy/home").items():
        monkeypatch.setenv(name, value)
    # Commands set it themselves.
    monkeypatch.delenv("PYTHONPATH")
    (tmp_path / "toy/home/witness").write_text("")
    return tmp_path / "toy/project", tmp_path / "toy/home"


def test_an_experiment_is_called_like_its_preset_and_leaves_the_workspace_alone(toy: Toy) -> None:
    project, home = toy
    before = contents(project)
    (planned,) = plan(project, ["tiny"], ["train.steps=120"])
    run(project, planned)
    assert contents(project) == before
    ((_, name, commit),) = experiments(project)
    assert name == "tiny"
    # The last word is that of -S.
    assert scores_of(project, commit)["onset_f1"] == 0.12
    # Shards are not made again; what is, is made by the copy's own code.
    stages, code = zip(*witnessed(home), strict=True)
    assert stages == ("train", "evaluate")
    assert all(path.is_relative_to(project / ".dvc/tmp/exps") for path in code)
    with pytest.raises(ExperimentError, match="tiny is there already") as refused:
        plan(project, ["tiny"])
    assert "--name tiny-2" in str(refused.value)
    with pytest.raises(ExperimentError, match="Git knows main already"):
        plan(project, ["tiny"], name="main")
    ((one,), unreadable) = listed(project)
    assert not unreadable
    assert (one.name, one.state, one.onset_f1) == ("tiny", "finished", "0.120")


def test_the_queue_wants_to_know_who_is_at_work(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    project, _ = toy
    for role in ("AUTHOR", "COMMITTER"):
        for what in ("NAME", "EMAIL"):
            monkeypatch.delenv(f"GIT_{role}_{what}")
    with pytest.raises(ExperimentError, match=r"who you are(.|\n)*git config user\.email"):
        enqueue(project, plan(project, ["tiny"]))
    assert not tasks(project)


@pytest.mark.slow
def test_a_queued_experiment_runs_the_code_that_it_was_queued_with(toy: Toy) -> None:
    project, _ = toy
    queued = enqueue(project, plan(project, ["tiny", "laptop"]))
    assert [task.name for task in queued] == ["tiny", "laptop"]
    with pytest.raises(ExperimentError, match=r"tiny is in the queue"):
        plan(project, ["tiny"])
    code = project / "src/toy.py"
    code.write_text(code.read_text().replace("VERSION = 1", "VERSION = 2"))
    said: list[str] = []
    follow(project, queued, say=said.append)
    assert {"tiny: success", "laptop: success"} <= set(said)
    commits = {name: commit for _, name, commit in experiments(project)}
    assert {name: scores_of(project, commit)["version"] for name, commit in commits.items()} == {"tiny": 1, "laptop": 1}
    assert "VERSION = 2" in code.read_text()


@pytest.mark.slow
def test_a_failed_experiment_of_the_queue_shows_the_end_of_its_log(toy: Toy) -> None:
    project, _ = toy
    queued = enqueue(project, plan(project, ["tiny"], ["train.seed=13"]))
    with pytest.raises(ExperimentError, match="tiny failed") as failed:
        follow(project, queued, say=lambda line: None)
    assert "the seed brings bad luck" in str(failed.value)
    assert [(task.name, task.status) for task in tasks(project)] == [("tiny", "Failed")]
    assert not experiments(project)


def test_a_commit_is_repeated_by_its_own_code_and_not_from_memory(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    project, home = toy
    code = project / "src/toy.py"
    code.write_text(code.read_text() + "\nsys.exit('the code of the workspace')\n")
    before = state_of(project)
    # Within the tolerance; the shards are the same.
    monkeypatch.setenv("TOY_LUCK", "0.004")
    found = verify(project, "HEAD", tolerance=0.005)
    assert found.reproduced
    outcomes = {one.path: one.outcome for one in found.artifacts}
    assert outcomes == {
        "data/processed/egmd_mini": "same bytes",
        "models": "same bytes",
        "reports/training_run.json": "not compared",
        "reports/metrics.json": "within tolerance",
        "reports/evaluation.json": "same bytes",
    }
    stages, ran = zip(*witnessed(home), strict=True)
    assert stages == ("preprocess", "train", "evaluate")
    assert all(path.is_relative_to(project / ".dvc/tmp") for path in ran)
    assert state_of(project) == before
    assert not list((project / ".dvc/tmp").glob("verify.*"))


@pytest.mark.slow
def test_other_shards_and_other_scores_are_no_reproduction(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    project, _ = toy
    monkeypatch.setenv("TOY_SHARD", "another")
    monkeypatch.setenv("TOY_LUCK", "0.006")
    found = verify(project, "main", tolerance=0.005)
    assert not found.reproduced
    assert {one.path for one in found.artifacts if one.outcome == "differs"} == {
        "data/processed/egmd_mini", "reports/metrics.json",
    }  # fmt: skip
    (scores,) = [one for one in found.artifacts if one.kind == "scores"]
    assert "0.0060, in test.onset_f1" in scores.note


@pytest.mark.slow
def test_without_raw_data_only_what_follows_the_shards_is_repeated(toy: Toy) -> None:
    project, home = toy
    record = project / "configs/datasets/egmd_mini.yaml"
    record.write_text(record.read_text().replace("generate://mini", "https://example.org/mini.zip"))
    shell(project, "git", "commit", "--quiet", "--all", "--message", "raw data from elsewhere")
    found = verify(project, "HEAD", tolerance=0)
    assert [stage for stage, _ in witnessed(home)] == ["train", "evaluate"]
    assert found.artifacts[0].outcome == "not repeated"
    assert found.reproduced


def test_what_cannot_be_repeated_is_one_clear_error(toy: Toy) -> None:
    project, _ = toy
    with pytest.raises(ExperimentError, match="no commit"):
        verify(project, "workspace", tolerance=0)
    shell(project, "git", "rm", "--quiet", "reports/metrics.json")
    shell(project, "git", "commit", "--quiet", "--message", "no scores")
    with pytest.raises(ExperimentError, match="nothing to be compared with"):
        verify(project, "HEAD", tolerance=0)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_repetition_that_is_ended_leaves_nothing(toy: Toy, how: signal.Signals) -> None:
    project, home = toy
    code = project / "src/toy.py"
    code.write_text(code.read_text().replace("def write(", "import time; time.sleep(60)\ndef write("))
    shell(project, "git", "commit", "--quiet", "--all", "--message", "slow")
    before = state_of(project)
    program = Path(sys.executable).parent / "backbeat"
    started = subprocess.Popen([program, "experiments", "verify", "HEAD"], cwd=project, start_new_session=True)
    try:
        wait_for(lambda: "preprocess" in (home / "witness").read_text())
        assert len(list((project / ".dvc/tmp").glob("verify.*"))) == 1
        started.send_signal(how)
        assert started.wait(30) in {130, 143}
    finally:
        started.kill()
        started.wait()
    assert not list((project / ".dvc/tmp").glob("verify.*"))
    assert state_of(project) == before


@pytest.mark.slow
def test_an_experiment_of_the_real_pipeline_comes_out_the_same_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in toy_environment(tmp_path / "home").items():
        monkeypatch.setenv(name, value)
    project = clone(tmp_path / "project", kits=[1, 2])
    before = contents(project)
    shell(project, "backbeat", "experiments", "run", "tiny", "-S", "train.held_out_kits=[2]", "--jobs", "1")
    assert contents(project) == before
    found = json.loads(shown(project, "backbeat", "experiments", "verify", "tiny", "--tolerance", "0", "--json"))
    outcomes = {one["path"]: one["outcome"] for one in found["artifacts"]}
    assert outcomes["data/processed/egmd_mini"] == outcomes["reports/metrics.json"] == "same bytes"
    assert contents(project) == before


def shown(project: Path, *words: str) -> str:
    """Return what a command prints to standard output."""
    return subprocess.run(words, cwd=project, stdout=subprocess.PIPE, text=True, check=True).stdout


def contents(project: Path) -> dict[str, bytes]:
    """Return the files of a workspace; DVC writes some of them anew when it sets changes aside."""
    paths = [path for path in project.rglob("*") if path.is_file() and not {".git", ".dvc"} & set(path.parts)]
    return {str(path): path.read_bytes() for path in paths}


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(300):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it never came")
