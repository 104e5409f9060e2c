"""A container's start, by the very script that a Codespace runs, in clones of a repository that has a bucket."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from backbeat.cloud import codespace
from backbeat.cloud.serve import serve
from s3_proxy import s3_proxy
from s3_server import KEY_ID, REPOSITORY, SECRET, commit, environment, new_repository, run

BUCKET = "drums-of-mine"
SHARDS = {f"{split}/kit-01.h5": split.encode() * 4_000 for split in ("test", "train", "validation")}
FILES = {
    "data/processed/egmd_mini": SHARDS,
    "data/processed/other": {"train/kit-01.h5": b"much more" * 10_000},
    "models": {"transcriber.safetensors": b"weights" * 1_000},
}
SECRETS = {"B2_ACCOUNT_ID", "B2_APPLICATION_KEY", "B2_BUCKET_NAME"}
A_CODESPACE = {"CODESPACES": "true", "GITHUB_REPOSITORY": "somebody/backbeat"}


@dataclass(frozen=True)
class Origin:
    """A repository to clone, and the address of the service that has its data."""

    repository: Path
    endpoint_url: str

    def clone(self, folder: Path, endpoint_url: str | None = None, **settings: object) -> Path:
        """Clone it; where the bucket's service is, is the only thing a clone is told beside its environment."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["git", "clone", "--quiet", self.repository, folder], check=True)
        lines = {"endpointurl": endpoint_url or self.endpoint_url, **settings}
        text = "".join(f"    {name} = {value}\n" for name, value in lines.items())
        (folder / ".dvc" / "config.local").write_text(f"['remote \"b2\"']\n{text}")
        return folder


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Origin]:
    folder = tmp_path_factory.mktemp("origin")
    with serve(folder / "buckets", (BUCKET,), key_id=KEY_ID, secret=SECRET) as serving:
        made = new_repository(folder / "made", FILES)
        (made / ".devcontainer").mkdir()
        shutil.copy(REPOSITORY / ".devcontainer" / "start.sh", made / ".devcontainer")
        commit(made, "container")
        (made / ".dvc" / "config.local").write_text(
            f"['remote \"b2\"']\n    endpointurl = {serving.endpoint_url}\n    url = s3://{BUCKET}/dvc\n"
        )
        run(made, "dvc", "push", "--quiet")
        yield Origin(made, serving.endpoint_url)


def start(project: Path, phase: str = "data", *, without: Collection[str] = (), **extra: str) -> str:
    """Run the container's script as a Codespace does; return all that it says."""
    home = project.parent / "home"
    home.mkdir(exist_ok=True)
    variables = environment(home, {"B2_BUCKET_NAME": BUCKET, **A_CODESPACE, **extra})
    done = subprocess.run(
        ["sh", ".devcontainer/start.sh", phase],
        cwd=project,
        env={name: value for name, value in variables.items() if name not in without},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "Traceback" not in done.stdout
    assert SECRET not in done.stdout
    return done.stdout


def is_here(project: Path, name: str) -> bool:
    return all(
        (project / name / inner).is_file() and (project / name / inner).read_bytes() == content
        for inner, content in FILES[name].items()
    )


@contextlib.contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path]:
    """Mount a memory disk, which stands for the small disk of a working tree."""
    place.mkdir(parents=True)
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("no right to mount a second file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def test_a_start_brings_the_small_set_and_plain_dvc_brings_the_rest(origin: Origin, tmp_path: Path) -> None:
    project = origin.clone(tmp_path / "clone")
    said = start(project)
    assert is_here(project, "data/processed/egmd_mini")
    assert is_here(project, "models")
    assert not (project / "data/processed/other").exists()
    assert "next: dvc repro --pull --allow-missing" in said
    # Nothing but the keys is needed from now on: no variable names the bucket.
    run(project, "dvc", "pull", "data/processed/other/train")
    assert is_here(project, "data/processed/other")


@pytest.mark.slow
def test_a_second_start_finds_everything_as_it_was(origin: Origin, tmp_path: Path) -> None:
    project = origin.clone(tmp_path / "clone")
    with s3_proxy(origin.endpoint_url) as proxy:
        local = project / ".dvc" / "config.local"
        local.write_text(local.read_text().replace(origin.endpoint_url, proxy.endpoint_url))
        start(project)
        settings = local.read_text()
        proxy.forget()
        start(project)
        assert local.read_text() == settings
        assert proxy.counts["GET"] == 0
    assert is_here(project, "models")


@pytest.mark.parametrize(
    "missing", [SECRETS, {"B2_APPLICATION_KEY"}, {"B2_BUCKET_NAME"}], ids=lambda names: str(len(names))
)
def test_a_missing_secret_is_named_with_the_place_where_to_add_it(
    origin: Origin, tmp_path: Path, missing: set[str]
) -> None:
    project = origin.clone(tmp_path / "clone")
    if "B2_BUCKET_NAME" in missing:
        # On loopback the placeholder is as good a name as any.
        (project / ".dvc" / "config.local").unlink()
    said = start(project, without=missing)
    (advice,) = [line for line in said.splitlines() if "https://github.com/settings/codespaces" in line]
    assert {name for name in SECRETS if name in advice} == missing
    assert "somebody/backbeat" in said
    assert "make repro" in said
    assert not (project / "models").exists()


def test_outside_of_a_codespace_the_environment_is_the_place(origin: Origin, tmp_path: Path) -> None:
    project = origin.clone(tmp_path / "clone")
    said = start(project, without={"B2_ACCOUNT_ID", *A_CODESPACE})
    assert "set B2_ACCOUNT_ID in the container's environment" in said
    assert "github.com" not in said


def test_a_wrong_key_is_said_before_anything_is_pulled(origin: Origin, tmp_path: Path) -> None:
    project = origin.clone(tmp_path / "clone")
    said = start(project, B2_APPLICATION_KEY="another-key-than-the-right-one0")
    assert re.search(r"^keys: .*SignatureDoesNotMatch$", said, re.MULTILINE)
    assert "data: nothing was pulled" in said
    assert "B2_APPLICATION_KEY" in said
    assert "another-key" not in said


def test_a_bucket_that_never_answers_does_not_hold_up_the_container(origin: Origin, tmp_path: Path) -> None:
    with s3_proxy(origin.endpoint_url) as proxy:
        proxy.hanging = True
        project = origin.clone(tmp_path / "clone", proxy.endpoint_url, read_timeout=1)
        said = start(project)
    assert re.search(r"^keys: .*said nothing for", said, re.MULTILINE)
    assert "data: nothing was pulled" in said


def test_a_name_that_is_no_bucket_is_not_written_down(origin: Origin, tmp_path: Path) -> None:
    project = origin.clone(tmp_path / "clone")
    said = start(project, B2_BUCKET_NAME="s3://drums/")
    assert "the name alone" in said
    assert "s3://" not in (project / ".dvc/config.local").read_text()


def test_settings_that_cannot_be_read_and_a_folder_that_is_no_project_are_sentences(
    origin: Origin, tmp_path: Path
) -> None:
    project = origin.clone(tmp_path / "clone")
    (project / ".dvc/config.local").write_text("['remote \"b2\"'\n  url = \n")
    said = start(project)
    assert "disk: " in said
    assert "correct .dvc/config or .dvc/config.local" in said
    assert "next: backbeat codespace start" not in said
    (tmp_path / "nowhere").mkdir()
    said = run(tmp_path / "nowhere", "backbeat", "codespace", "start").stdout
    assert "project: no Backbeat project" in said


def test_whatever_breaks_in_a_step_is_its_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = new_repository(tmp_path / "project", {"models": {"a": b"a"}})

    def breaks(*_: object) -> None:
        raise ZeroDivisionError("of nobody's making")

    monkeypatch.setattr(codespace, "cache_dir", breaks)
    steps = codespace.start(project, how="nothing", environment={}, disks=(tmp_path,))
    assert (steps[0].state, steps[0].text) == ("failed", "ZeroDivisionError: of nobody's making")


def test_a_full_disk_is_said_and_the_settings_stay(origin: Origin, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "8m") as disk:
        project = origin.clone(disk / "clone")
        settings = (project / ".dvc/config.local").read_text()
        with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
            while filler.write(bytes(4096)):
                pass
        (tmp_path / "home").mkdir()
        said = start(project, TMPDIR=str(disk))
        assert "free some space" in said
        assert (project / ".dvc/config.local").read_text() == settings


def test_a_container_without_git_or_a_repository_starts(origin: Origin, tmp_path: Path) -> None:
    project = origin.clone(tmp_path / "clone")
    shutil.rmtree(project / ".git")
    said = start(project)
    assert "git" in said


@pytest.mark.slow
def test_the_cache_goes_to_the_larger_disk_and_comes_back_when_that_is_emptied(origin: Origin, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.mkdir()
    with small_disk(tmp_path / "disk", "512m") as disk:
        project = origin.clone(disk / "clone")
        said = start(project, TMPDIR=str(large))
        assert f"DVC's cache is {large}/backbeat/cache" in said
        assert "gone when the container stops" in said
        shard = project / "data/processed/egmd_mini/train/kit-01.h5"
        assert shard.resolve().is_relative_to(large)
        shutil.rmtree(large / "backbeat")
        assert not shard.exists()
        start(project, TMPDIR=str(large))
        assert is_here(project, "data/processed/egmd_mini")
        assert is_here(project, "models")
        assert "up to date" in run(project, "dvc", "status", "data/processed/egmd_mini.dvc", "models.dvc").stdout


@pytest.mark.slow
def test_what_was_pulled_by_hand_comes_back_too(origin: Origin, tmp_path: Path) -> None:
    project = origin.clone(tmp_path / "clone")
    start(project, "data", BACKBEAT_CODESPACE_PULL="data/processed/other")
    assert is_here(project, "data/processed/other")
    assert not (project / "models").exists()
    # Hard links outlive an emptied cache; symbolic links are what there is between two disks.
    shard = project / "data/processed/other/train/kit-01.h5"
    oid = "0" * 32
    shard.unlink()
    shard.symlink_to(project / ".dvc/cache/files/md5" / oid[:2] / oid[2:])
    start(project)
    assert is_here(project, "data/processed/other")


@pytest.mark.slow
def test_what_only_the_emptied_disk_had_does_not_keep_the_rest_away(origin: Origin, tmp_path: Path) -> None:
    """A model that was trained here and never pushed; a raw archive in the staging store."""
    project = origin.clone(tmp_path / "clone")
    pointer = project / "models.dvc"
    pointer.write_text(re.sub(r"md5: [0-9a-f]{32}", f"md5: {'0' * 32}", pointer.read_text()))
    gone = project / ".dvc/cache/gone"
    for name in ("models/transcriber.safetensors", "data/raw/egmd_mini/drums.zip"):
        (project / name).parent.mkdir(parents=True)
        (project / name).symlink_to(gone)
    said = start(project)
    assert is_here(project, "data/processed/egmd_mini")
    assert "models" in said
    assert not (project / "data/raw/egmd_mini").exists()


def test_nothing_is_pulled_where_nothing_is_wanted(origin: Origin, tmp_path: Path) -> None:
    project = origin.clone(tmp_path / "clone")
    start(project, BACKBEAT_CODESPACE_PULL="nothing")
    assert not (project / "models").exists()
    assert BUCKET in (project / ".dvc/config.local").read_text()


def test_a_cache_with_something_in_it_stays_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = new_repository(tmp_path / "project", {"models": {"a": b"a"}})
    monkeypatch.setattr(codespace, "roomier_disk", lambda *_: pytest.fail("looked for another disk"))
    steps = codespace.start(project, how="nothing", environment={}, disks=(tmp_path,))
    assert steps[0].state == "as it was"


def test_a_phase_is_chosen_by_a_variable_too(tmp_path: Path) -> None:
    """With programs that only tell that they were called."""
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    for name in ("make", "backbeat"):
        (bin_ / name).write_text(f'#!/bin/sh\necho "$0 $*" >> {tmp_path}/called\nexit 3\n')
        (bin_ / name).chmod(0o755)
    shutil.copytree(REPOSITORY / ".devcontainer", tmp_path / "clone" / ".devcontainer")
    calls = {}
    for phase in ("setup", "data", "all", None, "neither"):
        (tmp_path / "called").write_text("")
        variables = {"PATH": f"{bin_}:{os.environ['PATH']}", "BACKBEAT_AUTO_DOWNLOAD": "1"} | (
            {"BACKBEAT_PHASE": phase} if phase else {}
        )
        script = ["sh", str(tmp_path / "clone/.devcontainer/start.sh")]
        done = subprocess.run(script, env=variables, capture_output=True, text=True, check=False)
        assert done.returncode == 0
        called = (tmp_path / "called").read_text().replace(f"{bin_}/", "").splitlines()
        calls[phase] = [call.split()[0] for call in called]
        assert len(called) == done.stderr.count("next: ")
    assert calls["setup"] == ["make"]
    assert calls["data"] == ["backbeat", "backbeat"]
    assert calls["all"] == calls[None] == ["make", "backbeat", "backbeat"]
    assert calls["neither"] == []


def test_the_command_prints_json(origin: Origin, tmp_path: Path) -> None:
    project = origin.clone(tmp_path / "clone")
    shown = run(project, "backbeat", "codespace", "start", "--nothing", "--json").stdout
    steps = json.loads(shown)
    assert [step["name"] for step in steps] == ["disk", "bucket", "data"]
