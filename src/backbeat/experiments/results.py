"""What one state of the project has come to: parameters, scores, data and cost of a revision, an experiment, or of now.

Everything is read out of files that Git tracks (`params.yaml`, `dvc.lock`, `reports/`), so that it is known of every
revision without its data. An experiment of DVC is a Git commit under `refs/exps/`, found by its name.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from backbeat.config import parse_yaml
from backbeat.errors import BackbeatError, ExperimentError
from backbeat.remote.policy import ComputePrices, load_cloud_config

WORKSPACE = "workspace"

PARAMS_FILE = "params.yaml"
LOCK_FILE = "dvc.lock"
METRICS_FILE = "reports/metrics.json"
EVALUATION_FILE = "reports/evaluation.json"
TRAINING_FILE = "reports/training_run.json"

SECONDS_PER_HOUR = 3600

T = TypeVar("T")


@dataclass(frozen=True)
class TrainingRun:
    """How long training took, and on what: `reports/training_run.json`."""

    training_s: int
    device: str
    accelerator: str
    devices: int
    threads: int


@dataclass(frozen=True)
class Evaluated:
    """What scores were taken on, and with which parameters.

    Args:
        test_data: digest of the test recordings and their annotations.
        class_map: which classes were told apart.
        onset_tolerance_s: how close an onset had to be, in seconds.
        class_of_pitch: digest of what the class map holds; None where that was not written down.
        params: parameters that the scores come from, flat like those of a result; some, where not all are known.
    """

    test_data: str | None
    class_map: str
    onset_tolerance_s: float
    class_of_pitch: str | None = None
    params: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """What one state of the project has come to.

    Args:
        name: as it was asked for: a revision, an experiment, or `workspace`.
        revision: the full commit hash; None is the workspace.
        params: `params.yaml`, flat: `train.learning_rate`.
        metrics: `reports/metrics.json`, flat: `test.onset_f1`; empty where nothing was evaluated.
        dataset: the dataset's name.
        data_hash: DVC's hash of the shards in `dvc.lock`; None where there are none.
        evaluated_on: what the scores were taken on; None where nothing was evaluated.
        training: what training took; None where that was not written down.
        cost_usd: what that would cost by `configs/cloud.yaml` of the workspace; None where no price is known.
    """

    name: str
    revision: str | None
    params: Mapping[str, object]
    metrics: Mapping[str, float]
    dataset: str
    data_hash: str | None
    evaluated_on: Evaluated | None
    training: TrainingRun | None
    cost_usd: float | None


def read_result(project: Path, name: str) -> Result:
    """Read what a revision, an experiment or the workspace has come to.

    Raises:
        ExperimentError: if there is no such revision, or one of its files cannot be read.
    """
    return _read(project, resolve(project, name), name)


def read_experiments(project: Path) -> tuple[list[Result], list[str]]:
    """Return what every finished experiment of this clone has come to, and a sentence on each that cannot be read.

    Raises:
        ConfigError: if the prices of the workspace cannot be read.
    """
    results, unreadable = [], []
    listed = experiments(project)
    if listed:
        # The workspace's own fault is none of an experiment.
        load_cloud_config(project)
    for _, name, commit in listed:
        try:
            results.append(_read(project, commit, name))
        except BackbeatError as error:
            unreadable.append(f"the experiment {name} is left out: {error.what}; next: dvc exp remove {name}")
    return results, unreadable


def _read(project: Path, revision: str | None, name: str) -> Result:
    params = _mapping(project, revision, name, PARAMS_FILE)
    if not params:
        step = "name a revision of this project, an experiment (dvc exp list), or workspace"
        raise ExperimentError(f"{name} has no {PARAMS_FILE}", next_step=step)
    dataset = str(params.get("dataset"))
    training = _training(_mapping(project, revision, name, TRAINING_FILE), name)
    evaluation = _mapping(project, revision, name, EVALUATION_FILE)
    lock = _mapping(project, revision, name, LOCK_FILE)
    metrics = dict(flat(_mapping(project, revision, name, METRICS_FILE)))
    return Result(
        name=name,
        revision=revision,
        params=dict(flat(params)),
        metrics={key: float(value) for key, value in metrics.items() if isinstance(value, int | float)},
        dataset=dataset,
        data_hash=_data_hash(lock, f"data/processed/{dataset}"),
        evaluated_on=_evaluated(evaluation, lock, name),
        training=training,
        cost_usd=cost_usd(training, load_cloud_config(project).compute) if training else None,
    )


def resolve(project: Path, name: str) -> str | None:
    """Return the commit of a Git revision or of an experiment; None for the workspace.

    Of experiments that share a name, the one that began at the present commit is meant.

    Raises:
        ExperimentError: if there is none, if Git and DVC call different commits by that name, or if several
            experiments have it and none began here.
    """
    if name == WORKSPACE:
        return None
    revision = git_commit(project, name)
    named = {baseline: commit for baseline, found, commit in experiments(project) if found == name}
    if revision is not None:
        others = sorted({*named.values()} - {revision})
        if others:
            raise ExperimentError(
                f"{name!r} is a revision of Git and an experiment",
                got=f"{revision[:8]} and {', '.join(commit[:8] for commit in others)}",
                next_step=f"name the commit instead, or drop the experiment: dvc exp remove {name}",
            )
        return revision
    if not named:
        step = "dvc exp list --all-commits shows experiments, git log revisions"
        raise ExperimentError(f"there is no revision and no experiment called {name!r}", next_step=step)
    head = (_git(project, "rev-parse", "HEAD") or b"").decode().strip()
    if len(named) > 1 and head not in named:
        raise ExperimentError(
            f"several experiments are called {name!r}",
            expected="one that began at the present commit",
            got=", ".join(f"{commit[:8]} (of {baseline[:8]})" for baseline, commit in sorted(named.items())),
            next_step="name its commit instead",
        )
    return named[head] if head in named else next(iter(named.values()))


def git_commit(project: Path, name: str) -> str | None:
    """Return the commit that Git means by a name: of a branch, a tag, an abbreviated hash; None if it means none."""
    revision = _git(project, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    return None if revision is None else revision.decode().strip()


def default_base(project: Path) -> str:
    """Return what results are compared with if nothing is said: `main`, or `HEAD` where there is no such branch."""
    return "main" if git_commit(project, "main") else "HEAD"


def experiments(project: Path) -> list[tuple[str, str, str]]:
    """Return (baseline commit, name, commit) of every finished experiment of this clone, sorted."""
    listed = _git(project, "for-each-ref", "--format=%(refname) %(objectname)", "refs/exps") or b""
    found = []
    for line in listed.decode().splitlines():
        reference, commit = line.split(" ")
        parts = reference.split("/")
        # refs/exps/<two digits>/<38 digits>/<name>; what else is there is DVC's own.
        if len(parts) == 5 and len(parts[2] + parts[3]) == len(commit):
            found.append((parts[2] + parts[3], parts[4], commit))
    return sorted(found)


def read_file(project: Path, revision: str | None, path: str) -> bytes | None:
    """Return a file of a commit, or of the workspace where `revision` is None; None where it is not there."""
    if revision is None:
        return (project / path).read_bytes() if (project / path).is_file() else None
    return _git(project, "cat-file", "blob", f"{revision}:{path}")


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield nested mappings as `a.b.c` and their values; lists stay whole."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def cost_usd(run: TrainingRun, prices: ComputePrices) -> float | None:
    """Return what a training run would cost on rented machines, in US dollars; None where no price is known."""
    on_cpu = run.accelerator == "cpu"
    price = prices.cpu_usd_per_core_hour if on_cpu else prices.gpu_usd_per_hour
    processors = run.devices * run.threads if on_cpu else run.devices
    return None if price is None else run.training_s / SECONDS_PER_HOUR * processors * price


def _mapping(project: Path, revision: str | None, name: str, path: str) -> dict[str, Any]:
    content = read_file(project, revision, path)
    if content is None:
        return {}
    if not path.endswith(".json"):
        values = parse_yaml(content, f"{path} of {name}")
    else:
        try:
            values = json.loads(content)
        except ValueError as error:
            raise ExperimentError(f"{path} of {name} cannot be read", got=str(error)) from error
    if not isinstance(values, dict):
        raise ExperimentError(f"{path} of {name} cannot be read", expected="a mapping", got=type(values).__name__)
    return values


def _training(values: Mapping[str, Any], name: str) -> TrainingRun | None:
    return _typed(TrainingRun, values, f"{TRAINING_FILE} of {name}") if values else None


def _evaluated(evaluation: Mapping[str, Any], lock: Mapping[str, Any], name: str) -> Evaluated | None:
    provenance = evaluation.get("provenance")
    if not provenance:
        return None
    where = f"the provenance in {EVALUATION_FILE} of {name}"
    said = _typed(dict[str, Any], provenance, where)
    evaluate = _typed(dict[str, Any], said.get("evaluate"), where)
    names = ("test_data", "class_map", "class_of_pitch")
    values = {name: said.get(name) for name in names} | {"onset_tolerance_s": evaluate.get("onset_tolerance_s")}
    # The lock knows of preprocessing, too; of training and evaluation it knows what ran last, which may be less.
    made_with = {key: said[key] for key in ("dataset", "train") if key in said} | {"evaluate": evaluate}
    return _typed(Evaluated, values | {"params": _locked_params(lock) | dict(flat(made_with))}, where)


def _typed(kind: type[T], values: Any, where: str) -> T:
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise ExperimentError(f"{where} cannot be read", got=faults) from error


def _locked_params(lock: Mapping[str, Any]) -> dict[str, object]:
    """Return the values of `params.yaml` with which the stages in `dvc.lock` ran, flat."""
    stages = lock.get("stages", {}).values()
    return {key: value for stage in stages for key, value in flat(stage.get("params", {}).get(PARAMS_FILE, {}))}


def _data_hash(lock: Mapping[str, Any], folder: str) -> str | None:
    for out in (out for stage in lock.get("stages", {}).values() for out in stage.get("outs", [])):
        if out.get("path") == folder:
            return str(out["md5"])
    return None


def _git(project: Path, *words: str) -> bytes | None:
    """Return what Git prints, or None where it fails: the thing asked for is not there."""
    try:
        done = subprocess.run(["git", "-C", str(project), *words], capture_output=True, check=False)
    except FileNotFoundError:
        raise ExperimentError("git is not installed", next_step="install it: comparisons read revisions") from None
    return done.stdout if done.returncode == 0 else None
