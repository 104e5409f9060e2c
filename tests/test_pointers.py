"""What the pointers need: artifacts by their names, and the objects that they consist of."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from backbeat.cloud.pointers import Artifact, Needed, artifacts, as_targets, cache_path, objects, parse_listing
from backbeat.errors import CloudError
from cloud_world import EXPECTED, FILES, CloudWorld, oid_of

PIPELINE = """\
stages:
  preprocess:
    cmd: "true"
    outs: [data/processed/egmd]
  train:
    cmd: "true"
    outs:
      - models
      - reports/metrics.json:
          cache: false
  never:
    cmd: "true"
    outs: [data/never]
"""
LIBRARY = 'stages:\n  archive:\n    cmd: "true"\n    wdir: ../..\n    outs: [data/library/archive.zip]\n'

EGMD = json.dumps(
    [{"md5": oid_of(name.encode()), "relpath": name} for name in ("test/1.h5", "train/1.h5", "train/2.h5")]
).encode()
EGMD_OID = f"{oid_of(EGMD)}.dir"


def lock(path: str, oid: str) -> str:
    return f"    outs:\n    - path: {path}\n      hash: md5\n      md5: {oid}\n      size: 9\n"


@pytest.fixture
def project(world: CloudWorld, tmp_path: Path) -> Path:
    """A repository with a pipeline in two files, of which one stage never ran, and with `dvc add`ed data."""
    root = world.repository(tmp_path / "a")
    (root / "dvc.yaml").write_text(PIPELINE)
    (root / "dvc.lock").write_text(
        "schema: '2.0'\nstages:\n  preprocess:\n    cmd: 'true'\n"
        + lock("data/processed/egmd", EGMD_OID)
        + "  train:\n    cmd: 'true'\n"
        + lock("models", EGMD_OID)
    )
    (root / "data/library").mkdir()
    (root / "data/library/dvc.yaml").write_text(LIBRARY)
    (root / "data/library/dvc.lock").write_text(
        "schema: '2.0'\nstages:\n  archive:\n    cmd: 'true'\n" + lock("data/library/archive.zip", oid_of(b"zip"))
    )
    return root


def test_artifacts_are_what_dvc_caches_in_the_order_of_their_paths(project: Path) -> None:
    assert [(one.path, one.stage, one.oid is not None) for one in artifacts(project)] == [
        ("data/kits", "data/kits.dvc", True),
        ("data/library/archive.zip", "data/library/dvc.yaml:archive", True),
        ("data/never", "never", False),
        ("data/pair", "data/pair.dvc", True),
        ("data/processed/egmd", "preprocess", True),
        ("model.bin", "model.bin.dvc", True),
        ("models", "train", True),
    ]


@pytest.mark.parametrize(
    ("target", "meant"),
    [
        ("egmd", ["data/processed/egmd"]),
        ("train", ["models"]),
        ("models/", ["models"]),
        ("data/library/dvc.yaml:archive", ["data/library/archive.zip"]),
        ("data/processed", ["data/processed/egmd"]),
        ("data/processed/egmd/train", ["data/processed/egmd/train"]),
        ("model.bin.dvc", ["model.bin"]),
    ],
)
def test_target_means_a_dataset_a_stage_or_a_path(target: str, meant: list[str], project: Path) -> None:
    assert [one.target for one in artifacts(project, [target])] == meant


def test_who_asks_for_a_whole_gets_no_part_of_it_as_well(project: Path) -> None:
    assert [one.target for one in artifacts(project, ["data/processed/egmd/train", "egmd"])] == ["data/processed/egmd"]


def test_target_that_means_nothing_names_what_there_is(project: Path) -> None:
    with pytest.raises(CloudError, match="nonsense") as unknown:
        artifacts(project, ["nonsense"])
    assert "data/processed/egmd" in str(unknown.value)


def test_broken_pipeline_is_an_error_with_a_sentence(project: Path) -> None:
    (project / "dvc.yaml").write_text("stages: [")
    with pytest.raises(CloudError, match="cannot read the pipeline"):
        artifacts(project)


def test_broken_memory_of_dvc_does_not_matter(project: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "home" / "site", ignore_errors=True)
    (tmp_path / "home" / "site").write_bytes(b"no folder")
    assert len(artifacts(project)) == 7


def test_folder_is_its_list_and_its_files(project: Path) -> None:
    (egmd,) = artifacts(project, ["egmd"])
    found = objects(egmd, lambda _: EGMD)
    assert found[0] == Needed(EGMD_OID, "data/processed/egmd")
    assert [one.path.removeprefix("data/processed/egmd/") for one in found[1:]] == [
        "test/1.h5",
        "train/1.h5",
        "train/2.h5",
    ]


def test_part_of_a_folder_is_its_list_and_those_files(project: Path) -> None:
    (part,) = artifacts(project, ["data/processed/egmd/train"])
    assert [one.path for one in objects(part, lambda _: EGMD)[1:]] == [
        "data/processed/egmd/train/1.h5",
        "data/processed/egmd/train/2.h5",
    ]
    (none,) = artifacts(project, ["data/processed/egmd/tra"])
    with pytest.raises(CloudError, match="nothing called tra"):
        objects(none, lambda _: EGMD)


def test_what_was_never_made_names_its_stage(project: Path) -> None:
    (never,) = artifacts(project, ["never"])
    with pytest.raises(CloudError, match="never made") as refused:
        objects(never, lambda _: b"")
    assert "dvc repro never" in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"[]", EGMD[:-1], EGMD + b"\n"])
def test_list_with_another_md5_is_never_believed(content: bytes) -> None:
    with pytest.raises(CloudError, match="damaged"):
        parse_listing(content, EGMD_OID)


def test_objects_of_a_real_folder_are_where_dvc_has_them(project: Path) -> None:
    (kits,) = artifacts(project, ["kits"])
    found = objects(kits, lambda oid: cache_path(project, oid).read_bytes())
    assert {one.path: cache_path(project, one.oid).read_bytes() for one in found[1:]} == {
        path: content for path, content in EXPECTED.items() if path.startswith("data/kits/")
    }
    assert len(found) == len(FILES["data/kits"]) + 1


def test_file_is_one_object(project: Path) -> None:
    artifact = Artifact("model.bin", "model.bin.dvc", oid_of(b"x"), 1)
    assert objects(artifact, lambda _: b"") == [Needed(oid_of(b"x"), "model.bin")]
    assert Needed(oid_of(b"x"), "model.bin").name == f"files/md5/{oid_of(b'x')[:2]}/{oid_of(b'x')[2:]}"


@pytest.mark.parametrize("word", ["", "  "])
def test_empty_word_is_no_target(word: str, project: Path) -> None:
    for means in (artifacts, as_targets):
        with pytest.raises(CloudError, match="a target is empty"):
            means(project, [word])


@pytest.mark.parametrize(
    ("folder", "typed", "meant"),
    [
        ("", "models/", "models"),
        ("", "egmd", "egmd"),
        ("", "data/library/dvc.yaml:archive", "data/library/dvc.yaml:archive"),
        ("", "{project}/models", "models"),
        ("data", "{project}/models", "models"),
        ("data", "processed/egmd", "data/processed/egmd"),
        ("data", "data/processed/egmd", "data/processed/egmd"),
        ("data", "../models", "models"),
        ("data", "models", "models"),
        ("data", ".", "data"),
        ("data/processed/egmd", "train", "train"),
        ("data/kits", "a.h5", "data/kits/a.h5"),
    ],
)
def test_path_is_relative_to_where_it_was_typed(folder: str, typed: str, meant: str, project: Path) -> None:
    at = project / folder
    at.mkdir(parents=True, exist_ok=True)
    found = as_targets(project, [typed.format(project=project)], at)
    assert found == [meant]
    assert artifacts(project, found)


@pytest.mark.parametrize("typed", ["/", "../elsewhere", "/etc/passwd"])
def test_path_outside_of_the_project_is_refused(typed: str, project: Path) -> None:
    with pytest.raises(CloudError, match="outside of the project"):
        as_targets(project, [typed], project)
