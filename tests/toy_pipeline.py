"""A project with the parameters and outputs of this one, and stages that take no time: for what surrounds them.

Its code is `src/toy.py`. Each run of a stage adds a line to the file that `TOY_WITNESS` names: the stage, and where the
code lies that ran.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]

_CODE = """
import json, os, pathlib, sys, yaml

VERSION = 1
stage, params = sys.argv[1], yaml.safe_load(open("params.yaml"))
with open(os.environ["TOY_WITNESS"], "a") as witness:
    witness.write(f"{stage} {pathlib.Path(__file__).absolute()}\\n")
if params["train"]["seed"] == 13:
    sys.exit("the seed brings bad luck")

def write(name, content):
    pathlib.Path(name).parent.mkdir(parents=True, exist_ok=True)
    pathlib.Path(name).write_text(content)

if stage == "preprocess":
    write("data/processed/egmd_mini/train/kit-01.h5", str(params["preprocess"]) + os.environ.get("TOY_SHARD", ""))
if stage == "train":
    write("models/model", str(params["train"]))
    run = {"training_s": 60, "device": "CPU", "accelerator": "cpu", "devices": 1, "threads": 2}
    write("reports/training_run.json", json.dumps(run))
if stage == "evaluate":
    f1 = params["train"]["steps"] / 1000 + float(os.environ.get("TOY_LUCK", 0))
    write("reports/metrics.json", json.dumps({"test": {"onset_f1": f1, "onsets": 664, "version": VERSION}}))
    tested = {"test_data": "ab" * 32, "class_map": "drums7", "evaluate": {"onset_tolerance_s": 0.05}}
    write("reports/evaluation.json", json.dumps({"provenance": tested}))
"""

_STAGES = """
stages:
  preprocess:
    cmd: python -m toy preprocess
    deps: [src/toy.py]
    params: [dataset, preprocess]
    outs:
      - data/processed/egmd_mini
  train:
    cmd: python -m toy train
    deps: [src/toy.py, data/processed/egmd_mini]
    params: [train]
    outs:
      - models
      - reports/training_run.json: {cache: false}
  evaluate:
    cmd: python -m toy evaluate
    deps: [src/toy.py, models]
    params: [evaluate, train.steps]
    metrics:
      - reports/metrics.json: {cache: false}
    outs:
      - reports/evaluation.json: {cache: false}
"""


def make_toy(folder: Path) -> Path:
    """Make the project, run its pipeline once, and commit what came out; the environment has to be set."""
    for name in (".dvc/config", ".dvc/.gitignore", ".gitignore", "params.yaml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, folder / name)
    shutil.copytree(REPOSITORY / "configs", folder / "configs")
    (folder / "src").mkdir()
    (folder / "src/toy.py").write_text(_CODE)
    (folder / "dvc.yaml").write_text(_STAGES)
    shell(folder, "git", "init", "--quiet", "--initial-branch", "main")
    shell(folder, "git", "add", "--all")
    shell(folder, sys.executable, "-m", "dvc", "repro", "--quiet")
    shell(folder, "git", "add", "--all")
    shell(folder, "git", "commit", "--quiet", "--message", "start")
    return folder


def toy_environment(home: Path) -> dict[str, str]:
    """Return the variables that keep DVC and Git within a folder, and give stages their code and their witness."""
    home.mkdir(parents=True, exist_ok=True)
    who = {f"GIT_{role}_{what}": "t@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    dvc = {
        f"DVC_{what}": str(home / what.lower()) for what in ("SITE_CACHE_DIR", "GLOBAL_CONFIG_DIR", "SYSTEM_CONFIG_DIR")
    }
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**who, **dvc, "HOME": str(home), "PATH": path, "PYTHONPATH": "src", "TOY_WITNESS": str(home / "witness")}


def shell(project: Path, *words: str) -> str:
    done = subprocess.run(words, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout
    return done.stdout


def witnessed(home: Path) -> list[tuple[str, Path]]:
    """Return the stages that ran, and the file of the code that ran."""
    lines = (home / "witness").read_text().splitlines()
    return [(stage, Path(path)) for stage, path in (line.split(" ", 1) for line in lines)]


def state_of(project: Path) -> dict[str, object]:
    """Return what a command could have touched in a project, its cache and its links included, but for .dvc/tmp."""
    files = {
        str(path.relative_to(project)): (path.read_bytes(), path.stat().st_ino)
        for path in sorted(project.rglob("*"))
        if path.is_file() and not {".git", "tmp"} & set(path.relative_to(project).parts)
    }
    return {
        "files": files,
        "status": shell(project, "git", "status", "--short"),
        "head": shell(project, "git", "log", "--all"),
    }


def scores_of(project: Path, revision: str) -> dict[str, float]:
    values: dict[str, dict[str, float]] = json.loads(shell(project, "git", "show", f"{revision}:reports/metrics.json"))
    return values["test"]
