"""The whole pipeline under DVC, in a copy of this repository with a tiny data set: what runs when what changes."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from template_settings import as_template
from tiny_pipeline import REPOSITORY, TINY, set_params

BIN = Path(sys.executable).parent
STAGES = ("preprocess", "train", "evaluate")
RECORD = "configs/datasets/egmd_mini.yaml"


def run(project: Path, *command: str, check: bool = True) -> str:
    """Run a command in the project as a person would, with this environment's programs first on PATH."""
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1", "COLUMNS": "120"}
    done = subprocess.run(
        command, cwd=project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0 or not check, done.stdout
    return done.stdout


def repro(project: Path, *options: str) -> list[str]:
    """Run `dvc repro` and return the stages that ran."""
    return re.findall(r"Running stage '(?:data/dvc\.yaml:)?([a-z@_]+)'", run(project, "dvc", "repro", *options))


def clone(folder: Path, *, kits: list[int], library: bool = False) -> Path:
    """Copy the repository's own files into a new Git repository, with a small data set and a small model.

    Args:
        folder: where to.
        kits: of the data set.
        library: whether to have the pipeline of the sample library, too; where its stages have not run, a plain
            `dvc pull` ends with an error, as with any stage of which DVC knows no result.
    """
    listed = run(REPOSITORY, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    for name in filter(None, listed):
        if (REPOSITORY / name).is_file() and not name.startswith(("reports/", "tests/")) and name != "dvc.lock":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, folder / name)
    as_template(folder)
    (folder / "data" / "dvc.lock").unlink(missing_ok=True)
    (folder / "data/library/dvc.lock").unlink(missing_ok=True)
    if not library:
        (folder / "data/library/dvc.yaml").unlink()
    set_params(folder, {key: value for key, value in TINY.items() if key != "held_out_kits"})
    set_params(folder, {"held_out_kits": "[2] #"})
    set_kits(folder, kits)
    run(folder, "git", "init", "-q", "--initial-branch=main")
    run(folder, "git", "add", "-A")
    run(folder, "git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "start")
    return folder


def set_kits(project: Path, kits: list[int]) -> None:
    """Let the record ask for these kits, as a person would who edits it."""
    record = yaml.safe_load((project / RECORD).read_text())
    record["files"][0]["members"] = {"kits": kits}
    (project / RECORD).write_text(yaml.safe_dump(record, sort_keys=False))


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone in which the pipeline has run once. The tests below change it, in their order."""
    folder = clone(tmp_path_factory.mktemp("clone") / "project", kits=[1, 2])
    assert repro(folder) == ["download@egmd_mini", *STAGES]
    return folder


def test_everything_that_was_promised_is_there(project: Path) -> None:
    reports = ("metrics.json", "evaluation.json", "preprocess.json", "training/plots/metrics/train/loss.tsv")
    plots = ("transcription.png", "f1_by_kit.png", "f1_by_class.json", "precision_recall.json")
    for name in (*reports, *(f"plots/{plot}" for plot in plots)):
        assert (project / "reports" / name).stat().st_size > 0
    assert (project / "models/transcriber.safetensors").stat().st_size < 2_000_000
    assert "kits held out" in run(project, "backbeat", "metrics")


def test_git_sees_pointers_and_reports_only(project: Path) -> None:
    new = {line[3:] for line in run(project, "git", "status", "--short").splitlines()}
    assert new <= {"dvc.lock", "data/dvc.lock", "reports/"}


def test_one_file_is_in_staging_cache_and_workspace(project: Path) -> None:
    """Hard links: the bytes of a shard are on the disk once, under three names."""
    shards = files_of(project / "data/processed")
    assert shards
    for shard in shards:
        assert shard.stat().st_nlink == 3


def test_raw_data_is_linked_not_copied(project: Path) -> None:
    (archive,) = (project / "data/raw/egmd_mini").iterdir()
    assert archive.is_symlink()
    assert ".dvc/cache/staging" in str(archive.resolve())


def test_nothing_changed_runs_nothing(project: Path) -> None:
    assert repro(project) == []


def test_a_license_note_runs_nothing(project: Path) -> None:
    record = project / RECORD
    record.write_text(record.read_text().replace("note: null", "note: a new note"))
    assert "new note" in record.read_text()
    assert repro(project) == []


def test_the_plots_render(project: Path) -> None:
    shown = run(project, "dvc", "plots", "show", "--out", "shown")
    assert "index.html" in shown
    assert "Onset F1 on validation" in (project / "shown/index.html").read_text()


def test_a_learning_rate_leaves_the_shards_as_they_are(project: Path) -> None:
    set_params(project, {"learning_rate": "0.002"})
    # What follows train is known when train has run.
    assert repro(project, "--dry") == ["train"]


@pytest.mark.slow
def test_a_class_map_runs_train_and_evaluate_only(project: Path) -> None:
    set_params(project, {"classes": "adtof5"})
    assert repro(project) == ["train", "evaluate"]


def test_a_model_of_another_class_map_is_one_clear_error(project: Path) -> None:
    set_params(project, {"classes": "hits3"})
    before = (project / "reports/metrics.json").read_bytes()
    shown = run(project, "backbeat", "evaluate", check=False)
    assert "was trained on another class map" in shown
    assert "Traceback" not in shown
    assert (project / "reports/metrics.json").read_bytes() == before
    set_params(project, {"classes": "adtof5"})


@pytest.mark.slow
def test_a_kit_added_re_makes_only_its_own_shards(project: Path) -> None:
    set_kits(project, [1, 2, 3])
    shown = run(project, "dvc", "repro")
    assert "9 shards: 6 re-used, 3 made" in shown
    assert len(files_of(project / "data/processed")) == 9


def test_a_damaged_shard_is_made_anew(project: Path) -> None:
    """Damage behind DVC's back, through the link, as a container running as root can do."""
    shard, shards = files_of(project / "data/processed/egmd_mini/train")[0], files_of(project / "data/processed")
    whole = shard.read_bytes()
    shard.chmod(0o644)
    with shard.open("r+b") as stream:
        stream.seek(len(whole) // 2)
        stream.write(bytes(byte ^ 0xFF for byte in whole[len(whole) // 2 :][:64]))
    shown = run(project, "dvc", "repro", "--force", "--single-item", "preprocess")
    assert f"{len(shards) - 1} re-used, 1 made" in shown
    assert shard.read_bytes() == whole


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (("step_db: 0.5", "step_db: half"), "preprocess.features.step_db"),
        (("hop_samples: 441", "hop_samples: 0.01"), "preprocess.features.hop_samples"),
        (("seed: 1", "sede: 1"), "train.sede"),
    ],
    ids=["type", "unit", "unknown key"],
)
def test_a_wrong_parameter_is_one_clear_error(project: Path, edit: tuple[str, str], message: str) -> None:
    params = project / "params.yaml"
    before = params.read_text()
    params.write_text(before.replace(*edit))
    shown = run(project, "backbeat", "preprocess", check=False)
    params.write_text(before)
    assert message in shown
    assert "Traceback" not in shown


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    """A second file system, on a loop mount."""
    image, place = tmp_path / "disk.img", tmp_path / "disk"
    place.mkdir()
    with image.open("wb") as stream:
        stream.truncate(256 * 2**20)
    made = (
        subprocess.run(["mkfs.ext4", "-q", image], capture_output=True, check=False)
        if shutil.which("mkfs.ext4")
        else None
    )
    if made is None or made.returncode:
        pytest.skip("no mkfs.ext4 to make a second file system with")
    if subprocess.run(["mount", "-o", "loop", image, place], capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a second file system")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


@pytest.mark.slow
def test_with_the_cache_on_another_disk_the_workspace_holds_only_links(other_disk: Path, tmp_path: Path) -> None:
    project = clone(tmp_path / "project", kits=[1, 2])
    run(project, "dvc", "config", "--local", "cache.dir", str(other_disk / "cache"))
    assert repro(project, "preprocess") == ["download@egmd_mini", "preprocess"]
    for folder in ("data/raw", "data/processed"):
        held = [path for path in (project / folder).rglob("*") if not path.is_dir() and path.name != ".gitignore"]
        assert held
        for path in held:
            assert path.is_symlink()
            assert path.resolve().is_relative_to(other_disk)
    # On the other disk a shard is there once: staging and cache are two names of one file.
    for shard in files_of(project / "data/processed"):
        assert shard.stat().st_nlink == 2
    assert not (project / ".dvc/cache").exists()
