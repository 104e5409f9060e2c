"""Files that do not come over HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest

from backbeat.errors import DownloadError
from one_dataset import BODY, OTHER_BODY, fetched, files_under_final_names, new_project, record_of, staged


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return new_project(tmp_path)


@pytest.fixture
def own_copy(project: Path) -> Path:
    copy = project / "inbox" / "own copy.zip"
    copy.parent.mkdir()
    copy.write_bytes(BODY)
    return copy


def test_own_file_on_the_same_disk_is_hard_linked(project: Path, own_copy: Path) -> None:
    record_of(project, f"file://{own_copy}".replace(" ", "%20"))
    fetched(project)
    assert staged(project).samefile(own_copy)


def test_own_file_may_be_named_relative_to_the_project(project: Path, own_copy: Path) -> None:
    record_of(project, "file:inbox/own%20copy.zip")
    assert fetched(project) == BODY


def test_own_file_on_another_disk_is_copied(project: Path, own_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, link: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", refuse)
    record_of(project, "file:inbox/own%20copy.zip")
    assert (fetched(project), staged(project).samefile(own_copy)) == (BODY, False)


def test_wrong_own_file_gets_no_final_name(project: Path, own_copy: Path) -> None:
    own_copy.write_bytes(OTHER_BODY)
    record_of(project, "file:inbox/own%20copy.zip")
    with pytest.raises(DownloadError):
        fetched(project)
    assert files_under_final_names(project) == []


def test_wrong_own_file_is_itself_left_alone(project: Path, own_copy: Path) -> None:
    own_copy.write_bytes(OTHER_BODY)
    record_of(project, "file:inbox/own%20copy.zip")
    with pytest.raises(DownloadError):
        fetched(project)
    assert own_copy.read_bytes() == OTHER_BODY


def test_missing_own_file_is_named(project: Path) -> None:
    record_of(project, "file:inbox/nothing.zip")
    with pytest.raises(DownloadError, match=r"nothing\.zip is not there"):
        fetched(project)


def test_file_that_a_killed_process_was_making_is_removed(project: Path, own_copy: Path) -> None:
    record_of(project, "file:inbox/own%20copy.zip")
    leftover = staged(project).with_name(f"{staged(project).name}.12345.part")
    leftover.parent.mkdir(parents=True)
    leftover.touch()
    fetched(project)
    assert not leftover.exists()


def test_generated_archive_gets_the_members_of_the_record(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_archive(destination: Path, **picked: object) -> None:
        destination.write_text(repr(picked))

    monkeypatch.setattr("backbeat.datasets.mini.write_archive", write_archive)
    members = {"kits": [3, 1], "splits": ["test"]}
    record_of(project, "generate://mini", size=None, hash="unverified", members=members)
    assert fetched(project) == b"{'kits': (3, 1), 'splits': ('test',)}"


def test_what_needs_a_person_says_so(project: Path) -> None:
    record_of(project, "manual://example.org/form")
    with pytest.raises(DownloadError, match="has to be fetched by a person"):
        fetched(project)
