"""Rules for pipelines: what DVC would refuse after hours is refused before, and nothing else is."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import stored_project
from backbeat.storage.pipeline_rules import Output, check, output_findings, setting_findings
from backbeat.storage.setup import CACHE_TYPE
from stored_project import REPOSITORY, run


@pytest.fixture(autouse=True, scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in stored_project.isolate(tmp_path_factory.mktemp("home")).items():
            patch.setenv(name, value)
        yield


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A DVC repository without a pipeline."""
    folder = tmp_path / "project"
    (folder / ".dvc").mkdir(parents=True)
    (folder / ".dvc/config").write_text(f'[core]\n    no_scm = true\n[cache]\n    type = "{CACHE_TYPE}"\n')
    shutil.copy(REPOSITORY / "params.yaml", folder)
    return folder


def pipeline(project: Path, text: str, file: str = "dvc.yaml") -> None:
    (project / file).parent.mkdir(parents=True, exist_ok=True)
    (project / file).write_text(text)


def stage(*outputs: str, options: str = "") -> str:
    lines = "".join(f"      - {output}{options}\n" for output in outputs)
    return f"stages:\n  make:\n    cmd: touch ran\n    outs:\n{lines}"


def test_this_repository_keeps_the_rules() -> None:
    assert check(REPOSITORY) == []


@pytest.mark.parametrize(
    ("output", "why"),
    [
        ("/mnt/hdd/out", "absolute"),
        ("~/out", "absolute"),
        ("C:\\out", "absolute"),
        ("s3://bucket/out", "absolute"),
        ("../out", "outside"),
        ("data/../../out", "outside"),
        ("..", "outside"),
        ("linked/out", "linked is a link to a folder"),
        ("linked", "it is a link to a folder"),
        ("data/linked/deep/out.bin", "data/linked is a link"),
    ],
)
def test_output_that_cannot_be_is_found(output: str, why: str) -> None:
    (found,) = output_findings([Output("dvc.yaml", "make", output, ".")], {"linked", "data/linked"}.__contains__)
    assert why in found.why
    assert (found.file, found.stage, found.output) == ("dvc.yaml", "make", output)
    assert found.next_step


@pytest.mark.parametrize(
    "output", ["data/processed/x", "..data/x", "models", "data/a/../b", "unlinked/x", "a b/ü.bin", "linkedx"]
)
def test_output_within_the_repository_is_no_finding(output: str) -> None:
    assert output_findings([Output("dvc.yaml", "make", output, ".")], {"linked"}.__contains__) == []


def test_output_is_relative_to_its_file_and_wdir() -> None:
    assert output_findings([Output("data/dvc.yaml", "make", "data/raw/x", "data/..")], lambda _: False) == []
    (found,) = output_findings([Output("data/dvc.yaml", "make", "../../x", "data")], lambda _: False)
    assert "outside" in found.why


def test_output_that_is_not_pushed_is_found_unless_it_is_not_cached() -> None:
    outputs = [Output("dvc.yaml", "make", "a", ".", pushed=False), Output("dvc.yaml", "b", "b", ".", False, False)]
    assert [one.output for one in output_findings(outputs, lambda _: False)] == ["a"]


@pytest.mark.parametrize(
    ("types", "wrong"),
    [
        ("hardlink,symlink", False),
        (["hardlink", "symlink"], False),
        ("symlink,hardlink", False),
        ("hardlink", False),
        ("reflink,hardlink,symlink,copy", True),
        ("hardlink,symlink,copy", True),
        (["reflink", "hardlink"], True),
        ("copy", True),
        ("symlink", True),
        (None, True),
    ],
)
def test_copying_link_types_are_found(types: object, wrong: bool) -> None:
    settings = {".dvc/config": {"cache": {"type": types} if types else {}}}
    assert bool(setting_findings(settings, lambda _: True)) == wrong


def test_local_link_type_wins_and_is_what_is_named() -> None:
    settings = {".dvc/config": {"cache": {"type": CACHE_TYPE}}, ".dvc/config.local": {"cache": {"type": "copy"}}}
    assert [one.file for one in setting_findings(settings, lambda _: True)] == [".dvc/config.local"]
    assert setting_findings(dict(reversed(settings.items())), lambda _: True) == []


@pytest.mark.parametrize("key", ["version_aware", "worktree"])
def test_remote_with_versions_is_found(key: str) -> None:
    settings = {".dvc/config": {"cache": {"type": CACHE_TYPE}, "remote": {"b2": {key: True}, "x": {key: False}}}}
    (found,) = setting_findings(settings, lambda _: True)
    assert found.output == f"remote b2: {key}"


def test_disk_that_is_not_mounted_is_found(project: Path, tmp_path: Path) -> None:
    run(project, "dvc", "config", "--local", "cache.dir", str(tmp_path / "hdd/backbeat/cache"))
    (found,) = check(project)
    assert "not there" in found.why
    (tmp_path / "hdd/backbeat").mkdir(parents=True)
    assert check(project) == []


@pytest.mark.parametrize(("folder", "wrong"), [("models/cache", True), (".", True), ("..", True), (".dvc/own", False)])
def test_cache_in_the_working_tree_or_around_it_is_found(folder: str, wrong: bool, project: Path) -> None:
    run(project, "dvc", "config", "--local", "cache.dir", str((project / folder).resolve()))
    found = [one for one in check(project) if "not there" not in one.why]
    assert [one.file for one in found] == ([".dvc/config.local"] if wrong else [])


def test_nothing_runs_and_nothing_is_made(project: Path) -> None:
    pipeline(project, stage("/mnt/out"))
    before = sorted(path for path in project.rglob("*") if ".dvc" not in path.parts)
    assert len(check(project)) == 1
    assert sorted(path for path in project.rglob("*") if ".dvc" not in path.parts) == before


def test_interpolation_matrix_and_foreach_are_resolved(project: Path) -> None:
    pipeline(
        project,
        "vars:\n  - where: /mnt\n"
        "stages:\n"
        "  one:\n    cmd: x\n    outs:\n      - ${where}/${dataset}\n"
        "  many:\n    matrix:\n      name: [a, b]\n    cmd: x\n    outs:\n      - out/${item.name}\n"
        "  each:\n    foreach:\n      - ok\n      - ../../far\n    do:\n"
        "      cmd: x\n      outs:\n        - data/${item}\n",
    )
    assert [(one.stage, one.output) for one in check(project)] == [
        ("each@../../far", "data/../../far"),
        ("one", "/mnt/egmd_mini"),
    ]


def test_parameter_that_is_not_there_is_a_finding_and_no_end(project: Path) -> None:
    pipeline(project, stage("${no.such}") + "  other:\n    cmd: x\n    outs:\n      - /mnt/x\n")
    found = check(project)
    assert [one.stage for one in found] == ["make", "other"]
    assert "no.such" in found[0].why


@pytest.mark.parametrize("text", ["stages: [", "stages:\n  x:\n    outs: {a: ${b}, [}\n", "- a\n- b\n", "stages: 3\n"])
def test_file_that_cannot_be_read_is_a_finding(text: str, project: Path) -> None:
    pipeline(project, text)
    assert [one.file for one in check(project)] == ["dvc.yaml"]


@pytest.mark.parametrize("key", ["metrics", "plots"])
def test_metrics_and_plots_are_outputs(key: str, project: Path) -> None:
    text = f"stages:\n  make:\n    cmd: x\n    {key}:\n      - /mnt/x.json:\n          cache: false\n"
    pipeline(project, text)
    (found,) = check(project)
    assert "dvc.lock" in found.why


def test_files_in_folders_and_pointers_count_environments_do_not(project: Path) -> None:
    pipeline(project, stage("/mnt/a"), "data/library/dvc.yaml")
    pipeline(project, "outs:\n- path: /mnt/b\n  md5: 0\n", "data/b.wav.dvc")
    pipeline(project, stage("/mnt/c"), ".venv/lib/dvc.yaml")
    assert [one.file for one in check(project)] == ["data/b.wav.dvc", "data/library/dvc.yaml"]


def test_linked_folder_is_found_and_a_linked_file_is_not(project: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "file.bin").touch()
    (project / "data").symlink_to(tmp_path / "elsewhere")
    (project / "model.bin").symlink_to(tmp_path / "file.bin")
    pipeline(project, stage("data/processed", "model.bin"))
    (found,) = check(project)
    assert found.output == "data/processed"


def test_command_refuses_and_dvc_would_have_run_the_stage(project: Path, tmp_path: Path) -> None:
    """Why the rule is there: DVC itself runs the command before it refuses."""
    pipeline(project, stage(str(tmp_path / "out")))
    shown = run(project, "backbeat", "storage", "check", check=False)
    assert "dvc.yaml: make, " in shown
    assert not (project / "ran").exists()
    done = subprocess.run(["backbeat", "storage", "check", "--json"], cwd=project, capture_output=True, check=False)
    assert done.returncode == 1
    assert json.loads(done.stdout)[0]["stage"] == "make"
    assert "ERROR" in run(project, "dvc", "repro", check=False)
    assert (project / "ran").exists()
