"""From one clone to another through Git and a bucket: the same bytes, and no more of them than were asked for."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from s3_proxy import S3Proxy, s3_proxy
from s3_server import REPOSITORY, commit, environment, point_at, run, s3_server
from template_settings import as_template
from test_end_to_end import clone
from tiny_pipeline import set_params

PROCESSED = "data/processed/egmd_mini"
MODELS = "models"

STAND_IN_DOWNLOAD = """
stages:
  download:
    wdir: ..
    cmd: python stage.py download
    outs:
      - data/raw/egmd_mini:
          cache: false
"""
STAND_IN_PIPELINE = """
stages:
  preprocess:
    cmd: python stage.py preprocess
    deps: [data/raw/egmd_mini, stage.py]
    outs: [data/processed/egmd_mini]
  train:
    cmd: python stage.py train
    deps: [data/processed/egmd_mini]
    params: [train.learning_rate]
    outs: [models]
  evaluate:
    cmd: python stage.py evaluate
    deps: [data/processed/egmd_mini, models]
    metrics: [{reports/metrics.json: {cache: false}}]
"""
STAND_IN_STAGE = """
import hashlib, pathlib, sys

def write(name, *seed):
    path = pathlib.Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(hashlib.shake_256(repr(seed).encode()).digest(200_000))

raw, processed, model = "data/raw/egmd_mini/drums.zip", "data/processed/egmd_mini", "models/model.bin"
match sys.argv[1]:
    case "download":
        write(raw)
    case "preprocess":
        content = pathlib.Path(raw).read_bytes()
        for split in ("test", "train", "validation"):
            for kit in (1, 2):
                write(f"{processed}/{split}/kit-0{kit}.h5", content, split, kit)
    case "train":
        shards = [path.read_bytes() for path in sorted(pathlib.Path(processed).rglob("*.h5"))]
        write(model, shards, pathlib.Path("params.yaml").read_bytes())
    case "evaluate":
        pathlib.Path("reports").mkdir(exist_ok=True)
        size = len(pathlib.Path(model).read_bytes())
        pathlib.Path("reports/metrics.json").write_text(f'{{"size": {size}}}')
"""


@dataclass(frozen=True)
class Walk:
    """A clone that has made and pushed everything, what was pushed to, and a proxy that counts what it is asked."""

    first: Path
    bare: Path
    proxy: S3Proxy
    folder: Path

    def another(self, name: str) -> Path:
        """Clone what was pushed, and have it told nothing but where the service is."""
        fresh = self.folder / name / "clone"
        fresh.parent.mkdir()
        subprocess.run(["git", "clone", "--quiet", self.bare, fresh], check=True)
        point_at(fresh, self.proxy.endpoint_url)
        self.proxy.forget()
        return fresh


def stand_in(folder: Path) -> Path:
    """Make a repository with a pipeline of the same shape whose stages take no time."""
    for name in (
        ".dvc/config",
        ".dvc/aws-b2.ini",
        ".dvc/.gitignore",
        ".devcontainer/start.sh",
        "configs/cloud.yaml",
        "params.yaml",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, folder / name)
    as_template(folder)
    (folder / "data").mkdir()
    (folder / "data" / "dvc.yaml").write_text(STAND_IN_DOWNLOAD)
    (folder / "dvc.yaml").write_text(STAND_IN_PIPELINE)
    (folder / "stage.py").write_text(STAND_IN_STAGE)
    (folder / ".gitignore").write_text("/data/raw/\n/data/processed/\n/models/\n")
    run(folder, "git", "init", "--quiet", "--initial-branch", "main")
    return folder


@pytest.fixture(scope="module", params=["stand-in", pytest.param("real", marks=pytest.mark.slow)])
def walk(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    folder = tmp_path_factory.mktemp("walk")
    with s3_server(folder / "buckets") as server, s3_proxy(server.endpoint_url) as proxy:
        place = folder / "first" / "clone"
        first = stand_in(place) if request.param == "stand-in" else clone(place, kits=[1, 2])
        point_at(first, proxy.endpoint_url)
        run(first, "dvc", "repro", timeout_s=600)
        run(first, "backbeat", "cloud", "push", "--yes")
        commit(first, "results")
        bare = folder / "bare.git"
        subprocess.run(["git", "init", "--quiet", "--bare", bare], check=True)
        run(first, "git", "push", "--quiet", str(bare), "HEAD:refs/heads/main")
        subprocess.run(["git", "-C", bare, "symbolic-ref", "HEAD", "refs/heads/main"], check=True)
        yield Walk(first, bare, proxy, folder)


@pytest.fixture(scope="module")
def second(walk: Walk) -> Path:
    """A clone on a machine with an empty cache, after a plain `dvc pull`."""
    fresh = walk.another("second")
    run(fresh, "dvc", "pull")
    return fresh


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.md5(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".gitignore"
    }


def listing_bytes(walk: Walk) -> int:
    """Return the size of the list of files of the processed folder, which a clone needs to know one of them."""
    (out, *_) = yaml.safe_load((walk.first / "dvc.lock").read_text())["stages"]["preprocess"]["outs"]
    assert out["path"] == PROCESSED
    oid = out["md5"]
    return (walk.first / ".dvc/cache/files/md5" / oid[:2] / oid[2:]).stat().st_size


def fetched(walk: Walk) -> set[str]:
    """Return the names of the objects that the bucket was asked for."""
    return {"".join(asked.key.split("/")[-2:]) for asked in walk.proxy.asked if asked.kind == "GET"}


def stages_run(said: str) -> list[str]:
    return re.findall(r"Running stage '([^']+)'", said)


@pytest.mark.parametrize("folder", [PROCESSED, MODELS])
def test_a_pull_gives_the_bytes_that_were_made(walk: Walk, second: Path, folder: str) -> None:
    made = contents(walk.first / folder)
    assert made
    assert contents(second / folder) == made


def test_the_raw_archive_is_neither_there_nor_needed(walk: Walk, second: Path) -> None:
    assert not (second / "data/raw/egmd_mini").exists()
    before = (second / "dvc.lock").read_bytes()
    said = run(second, "dvc", "repro", "--allow-missing").stdout
    assert stages_run(said) == []
    assert (second / "dvc.lock").read_bytes() == before


def test_what_is_there_already_is_pushed_with_a_handful_of_requests(walk: Walk) -> None:
    walk.proxy.forget()
    run(walk.first, "backbeat", "cloud", "push", "--yes")
    assert sum(walk.proxy.counts.values()) <= 5
    assert walk.proxy.up_bytes == 0


def test_a_changed_training_pulls_the_processed_data_alone(walk: Walk) -> None:
    fresh = walk.another("third")
    set_params(fresh, {"learning_rate": "0.002"})
    said = run(fresh, "dvc", "repro", "--pull", "--allow-missing", timeout_s=300).stdout
    assert stages_run(said) == ["train", "evaluate"]
    shards = contents(walk.first / PROCESSED)
    assert contents(fresh / PROCESSED) == shards
    # The shards and the list of them: no model, no raw data.
    assert {name for name in fetched(walk) if not name.endswith(".dir")} == set(shards.values())
    assert not (fresh / "data/raw/egmd_mini").exists()


@pytest.mark.parametrize("by", ["dvc pull", "backbeat cloud pull"])
def test_one_kit_is_that_kits_bytes_and_no_more(walk: Walk, by: str) -> None:
    fresh = walk.another(by.replace(" ", "-"))
    kit = f"{PROCESSED}/validation/kit-01.h5"
    run(fresh, *by.split(), kit)
    assert (fresh / kit).read_bytes() == (walk.first / kit).read_bytes()
    assert contents(fresh / PROCESSED).keys() == {"validation/kit-01.h5"}
    asked = {name for name in fetched(walk) if not name.endswith(".dir")}
    assert asked == {contents(walk.first / PROCESSED)["validation/kit-01.h5"]}
    # DVC reads the list of files several times over, and there is what a listing of the bucket says.
    assert walk.proxy.down_bytes <= (fresh / kit).stat().st_size + 10 * listing_bytes(walk) + 20_000


def test_a_container_starts_training_after_one_command(walk: Walk) -> None:
    fresh = walk.another("container")
    home = fresh.parent / "home"
    home.mkdir()
    said = run(fresh, "sh", ".devcontainer/start.sh", "data", env=environment(home, {"CODESPACES": "true"})).stdout
    assert contents(fresh / PROCESSED) == contents(walk.first / PROCESSED)
    assert contents(fresh / MODELS) == contents(walk.first / MODELS)
    assert "next: dvc repro --pull --allow-missing" in said
    assert stages_run(run(fresh, "dvc", "repro", "--pull", "--allow-missing").stdout) == []
