"""What a revision, an experiment or the workspace has come to, read out of Git."""

import json
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from backbeat.cli.experiments import app
from backbeat.errors import ExperimentError
from backbeat.experiments.compare import compare
from backbeat.experiments.listing import listed
from backbeat.experiments.results import (
    TrainingRun,
    cost_usd,
    default_base,
    experiments,
    read_experiments,
    read_result,
    resolve,
)
from backbeat.remote.policy import load_cloud_config

REPOSITORY = Path(__file__).parents[1]
RUN = {"training_s": 7200, "device": "CPU (x86_64)", "accelerator": "cpu", "devices": 1, "threads": 2}


def git(project: Path, *words: str) -> str:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *identity, *words], cwd=project, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def write(project: Path, *, learning_rate: float, onset_f1: float) -> None:
    (project / "reports").mkdir(exist_ok=True)
    (project / "params.yaml").write_text(f"dataset: egmd_mini\ntrain:\n  learning_rate: {learning_rate}\n")
    (project / "reports/metrics.json").write_text(json.dumps({"test": {"onset_f1": onset_f1}}))
    provenance = {"test_data": "ab", "class_map": "drums7", "evaluate": {"onset_tolerance_s": 0.05}}
    (project / "reports/evaluation.json").write_text(json.dumps({"provenance": provenance}))
    (project / "reports/training_run.json").write_text(json.dumps(RUN))
    lock = {"stages": {"preprocess": {"outs": [{"path": "data/processed/egmd_mini", "md5": "cd.dir"}]}}}
    (project / "dvc.lock").write_text(json.dumps(lock))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/cloud.yaml").write_bytes((REPOSITORY / "configs/cloud.yaml").read_bytes())
    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    write(tmp_path, learning_rate=0.003, onset_f1=0.88)
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    return tmp_path


def as_experiment(project: Path, name: str, **values: float) -> str:
    """Leave the workspace as it was, and a commit where DVC keeps experiments of the present one."""
    baseline = git(project, "rev-parse", "HEAD")
    write(project, **values)
    commit = git(project, "commit-tree", git(project, "stash", "create") + "^{tree}", "-p", baseline, "-m", name)
    git(project, "update-ref", f"refs/exps/{baseline[:2]}/{baseline[2:]}/{name}", commit)
    git(project, "checkout", "--", ".")
    return commit


def test_a_revision_and_the_workspace_are_read_apart(project: Path) -> None:
    write(project, learning_rate=0.001, onset_f1=0.9)
    before, now = read_result(project, "main"), read_result(project, "workspace")
    assert before.revision == git(project, "rev-parse", "HEAD")
    assert now.revision is None
    assert (before.params["train.learning_rate"], now.params["train.learning_rate"]) == (0.003, 0.001)
    assert (before.metrics, now.metrics) == ({"test.onset_f1": 0.88}, {"test.onset_f1": 0.9})
    assert before.data_hash == "cd.dir"
    assert before.evaluated_on is not None
    assert before.evaluated_on.test_data == "ab"
    assert before.training == TrainingRun(**RUN)


def test_an_experiment_is_found_by_its_name(project: Path) -> None:
    commit = as_experiment(project, "slow", learning_rate=0.0001, onset_f1=0.7)
    assert read_result(project, "slow").revision == commit
    assert read_result(project, "slow").metrics["test.onset_f1"] == 0.7
    assert experiments(project) == [(git(project, "rev-parse", "HEAD"), "slow", commit)]


def test_of_two_experiments_of_one_name_the_one_that_began_here_is_meant(project: Path) -> None:
    older = as_experiment(project, "slow", learning_rate=0.0001, onset_f1=0.7)
    git(project, "commit", "--quiet", "--allow-empty", "--message", "second")
    newer = as_experiment(project, "slow", learning_rate=0.0001, onset_f1=0.8)
    assert resolve(project, "slow") == newer != older
    git(project, "commit", "--quiet", "--allow-empty", "--message", "third")
    with pytest.raises(ExperimentError, match="several experiments"):
        resolve(project, "slow")


def test_a_name_of_git_and_of_an_experiment_is_neither(project: Path) -> None:
    commit = as_experiment(project, "slow", learning_rate=0.0001, onset_f1=0.7)
    git(project, "branch", "slow")
    with pytest.raises(ExperimentError, match="'slow' is a revision of Git and an experiment") as refused:
        resolve(project, "slow")
    assert commit[:8] in str(refused.value)
    assert resolve(project, "refs/heads/slow") == git(project, "rev-parse", "HEAD")
    # As `dvc exp branch` makes it.
    git(project, "branch", "--force", "slow", commit)
    assert resolve(project, "slow") == commit


def test_without_a_branch_main_it_is_head(project: Path) -> None:
    assert default_base(project) == "main"
    git(project, "branch", "--move", "trunk")
    as_experiment(project, "main", learning_rate=0.1, onset_f1=0.7)
    assert default_base(project) == "HEAD"


def test_an_experiment_that_cannot_be_read_is_named_and_the_others_are_shown(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_experiment(project, "slow", learning_rate=0.0001, onset_f1=0.7)
    (project / "reports/metrics.json").write_text("{")
    commit = git(project, "commit-tree", git(project, "stash", "create") + "^{tree}", "-p", "HEAD", "-m", "torn")
    git(project, "checkout", "--", ".")
    baseline = git(project, "rev-parse", "HEAD")
    git(project, "update-ref", f"refs/exps/{baseline[:2]}/{baseline[2:]}/torn", commit)
    results, (said,) = read_experiments(project)
    assert [one.name for one in results] == ["slow"]
    assert said.startswith("the experiment torn is left out: reports/metrics.json of torn cannot be read; next: dvc")
    states = {one.name: one.state for one in listed(project)[0]}
    assert states == {"slow": "finished", "torn": "unreadable"}
    monkeypatch.setattr("backbeat.cli.experiments.find_project", lambda: project)
    done = CliRunner().invoke(app, ["compare", "--csv"])
    assert done.exit_code == 0
    assert "warning: the experiment torn is left out" in done.stderr
    assert "\nslow," in done.stdout


def test_parameters_that_were_changed_after_the_evaluation_are_seen(project: Path) -> None:
    provenance = {
        "dataset": "egmd_mini", "test_data": "ab", "class_map": "drums7", "class_of_pitch": "ef",
        "train": {"learning_rate": 0.003}, "evaluate": {"onset_tolerance_s": 0.05},
    }  # fmt: skip
    (project / "reports/evaluation.json").write_text(json.dumps({"provenance": provenance}))
    # Of preprocessing the lock knows; of training it may know less than the provenance of the scores.
    made = {"preprocess": {"hop_samples": 441}, "train": {"learning_rate": 0.1}}
    lock = {"stages": {"preprocess": {"params": {"params.yaml": made}}}}
    (project / "dvc.lock").write_text(json.dumps(lock))
    (project / "params.yaml").write_text(
        "dataset: egmd_mini\ntrain: {learning_rate: 0.003}\npreprocess: {hop_samples: 441}\n"
    )
    result = read_result(project, "workspace")
    assert result.evaluated_on is not None
    assert result.evaluated_on.class_of_pitch == "ef"
    assert compare([result], result).warnings == ()
    (project / "params.yaml").write_text("dataset: egmd\ntrain: {learning_rate: 0.1}\npreprocess: {hop_samples: 512}\n")
    (said,) = compare([], read_result(project, "workspace")).warnings
    assert "other values of dataset, preprocess.hop_samples, train.learning_rate;" in said


@pytest.mark.parametrize("name", ["nothing", "--all", "main:params.yaml"])
def test_what_is_no_revision_is_one_clear_error(project: Path, name: str) -> None:
    with pytest.raises(ExperimentError, match="no revision and no experiment"):
        read_result(project, name)


def test_what_was_never_evaluated_has_no_scores(project: Path) -> None:
    for name in ("metrics", "evaluation", "training_run"):
        (project / f"reports/{name}.json").unlink()
    result = read_result(project, "workspace")
    assert (result.metrics, result.evaluated_on, result.training, result.cost_usd) == ({}, None, None, None)


def test_a_file_that_cannot_be_read_is_named(project: Path) -> None:
    (project / "reports/metrics.json").write_text("{")
    with pytest.raises(ExperimentError, match=r"reports/metrics\.json of workspace"):
        read_result(project, "workspace")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("training_run", {**RUN, "training_s": "long"}),
        ("training_run", {"seconds": 3}),
        ("evaluation", {"provenance": "mine"}),
        ("evaluation", {"provenance": {"class_map": "drums7", "evaluate": {"onset_tolerance_s": "near"}}}),
    ],
)
def test_what_has_other_types_is_one_clear_error(project: Path, file: str, content: object) -> None:
    (project / f"reports/{file}.json").write_text(json.dumps(content))
    with pytest.raises(ExperimentError, match=rf"reports/{file}\.json of workspace cannot be read"):
        read_result(project, "workspace")


def test_cost_is_hours_times_processors_times_price(project: Path) -> None:
    prices = load_cloud_config(project).compute
    assert cost_usd(TrainingRun(**RUN), prices) == pytest.approx(2 * 2 * 0.09)
    on_gpu = TrainingRun(3600, "a GPU", "cuda", 8, 16)
    assert cost_usd(on_gpu, prices) is None
    assert cost_usd(on_gpu, prices.model_copy(update={"gpu_usd_per_hour": 2.5})) == pytest.approx(20)
