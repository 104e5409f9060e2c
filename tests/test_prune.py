"""Making room, and never losing the only copy."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest

from backbeat.datasets.adopt import adopt
from backbeat.datasets.download import alone, download
from backbeat.datasets.prune import Pruned, prune
from backbeat.storage.staging import open_staging
from misbehaving_server import Answer, MisbehavingServer
from one_dataset import BODY, OTHER_BODY, fetched, files_under_final_names, record_of, staged


def what_became(pruned: list[Pruned]) -> list[tuple[str, str]]:
    return [(row.what, row.action) for row in pruned]


def test_entry_that_no_record_refers_to_goes(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url(), hash="unverified")
    fetched(project)
    old = staged(project)
    record_of(project, server.url())
    fetched(project)
    assert what_became(prune(project))[0] == (old.name, "removed")
    assert files_under_final_names(project) == [staged(project)]


def test_unreferenced_entry_in_use_stays(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url(), hash="unverified")
    fetched(project)
    old = staged(project)
    record_of(project, server.url())
    with alone(old, "a download"):
        assert {row.action for row in prune(project)} == {"kept"}
    assert old.is_file()


def test_dataset_whose_publisher_still_has_it_goes(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    fetched(project)
    assert what_became(prune(project, "lies")) == [("lies/archive.zip", "removed")]
    assert (files_under_final_names(project), (project / "data/raw/lies").exists()) == ([], False)


def test_dry_run_removes_nothing(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    fetched(project)
    assert what_became(prune(project, "lies", dry_run=True)) == [("lies/archive.zip", "removed")]
    assert (project / "data/raw/lies/archive.zip").read_bytes() == BODY


def gone(server: MisbehavingServer) -> None:
    server.lies = lambda: Answer(status=404)


def changed(server: MisbehavingServer) -> None:
    server.body = BODY + b"more"


@pytest.mark.parametrize("fate", [gone, changed])
@pytest.mark.parametrize("said", [{}, {"only_copies": True}, {"certain": True}])
def test_only_copy_stays_unless_that_is_said_twice(
    fate: Any, said: dict[str, bool], project: Path, server: MisbehavingServer
) -> None:
    record_of(project, server.url())
    fetched(project)
    fate(server)
    (row,) = prune(project, "lies", **said)
    assert (row.action, row.reason.startswith("the only copy")) == ("kept", True)
    assert files_under_final_names(project) == [staged(project)]


def test_only_copy_goes_if_that_is_said_twice(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    fetched(project)
    gone(server)
    prune(project, "lies", only_copies=True, certain=True)
    assert files_under_final_names(project) == []


@pytest.mark.parametrize("still_there", [True, False])
def test_own_copy_goes_only_while_its_original_is_there(still_there: bool, project: Path) -> None:
    (project / "own.zip").write_bytes(BODY)
    record_of(project, "file:own.zip")
    fetched(project)
    if not still_there:
        (project / "own.zip").unlink()
    (row,) = prune(project, "lies")
    assert row.action == ("removed" if still_there else "kept")


def test_what_a_person_fetched_stays(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    fetched(project)
    record_of(project, "manual://a.place")
    assert what_became(prune(project, "lies")) == [("lies/archive.zip", "kept")]


def test_file_that_another_dataset_uses_stays(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    record_of(project, server.url(), name="others")
    fetched(project)
    (row,) = prune(project, "lies")
    assert (row.action, row.reason) == ("kept", "others is the same file")


@pytest.mark.parametrize("names", [(), ("lies",)])
def test_what_a_process_is_at_work_on_stays(names: tuple[str, ...], project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    part = staged(project).with_name(f"{staged(project).name}.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(BODY[:1000])
    with alone(staged(project), "a download"):
        if not names:
            (project / "configs/datasets/lies.yaml").unlink()
        assert [row.action for row in prune(project, *names)] == ["kept"]
    assert (part.exists(), part.with_name(f"{part.stem}.lock.part").exists()) == (True, True)


def test_what_was_adopted_for_another_version_of_the_record_is_the_only_copy(project: Path) -> None:
    (project / "own.zip").write_bytes(BODY)
    record_of(project, "manual://a.place", hash="unverified", size=None)
    adopt(project, "lies", project / "own.zip")
    (project / "own.zip").unlink()
    record_of(project, "manual://a.place", hash=f"sha256:{'0' * 64}", size=None)
    (row,) = prune(project)
    assert (row.action, row.reason.startswith("the only copy")) == ("kept", True)


def test_publisher_with_a_file_of_another_size_has_no_second_copy(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url(), size=None)
    fetched(project)
    server.body = BODY[:1000]
    (row,) = prune(project, "lies")
    assert (row.action, "1000 bytes there, 300000 expected" in row.reason) == ("kept", True)


def test_own_copy_with_other_bytes_of_the_same_size_is_no_second_copy(project: Path) -> None:
    (project / "own.zip").write_bytes(BODY)
    record_of(project, "file:own.zip")
    fetched(project)
    (project / "own.zip").unlink()
    (project / "own.zip").write_bytes(OTHER_BODY)
    (row,) = prune(project, "lies")
    assert (row.action, "other bytes" in row.reason) == ("kept", True)


def test_files_of_somebody_s_own_stay(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    fetched(project)
    mine = project / "data/raw/lies/mine.txt"
    mine.write_text("precious")
    prune(project, "lies")
    assert mine.read_text() == "precious"


def test_what_an_ended_download_left_goes_with_its_dataset(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    part = staged(project).with_name(f"{staged(project).name}.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(BODY[:1000])
    gone(server)
    prune(project, "lies")
    assert not part.exists()


@pytest.mark.parametrize("names", [(), ("lies",)])
def test_what_was_unpacked_goes_with_its_archive(names: tuple[str, ...], project: Path) -> None:
    with zipfile.ZipFile(project / "own.zip", "w") as archive:
        archive.writestr("a.txt", "something")
    limits = {"unpack": {"members": 1, "bytes": 100}}
    record_of(project, "file:own.zip", size=None, hash="unverified", **limits)
    download(project, "lies")
    folder = open_staging(project).root / "unpacked"
    assert [path.name for path in folder.glob("??/*/*")] == ["a.txt"]
    if not names:
        (project / "configs/datasets/lies.yaml").unlink()
    prune(project, *names)
    assert list(folder.glob("??/*/*")) == []


def test_nothing_to_prune_is_nothing(project: Path) -> None:
    assert prune(project) == []
