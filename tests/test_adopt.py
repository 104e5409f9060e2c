"""Copies that are on this machine already, taken in."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import yaml

from backbeat.datasets.adopt import adopt
from backbeat.datasets.download import download
from backbeat.errors import BackbeatError, ConfigError, DownloadError
from one_dataset import BODY, HASH, OTHER_BODY, fetched, files_under_final_names, new_project, record_of, staged

MANUAL = "manual://example.org/form"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return new_project(tmp_path)


@pytest.fixture
def copy(project: Path) -> Path:
    copy = project / "inbox" / "from the browser (1).zip"
    copy.parent.mkdir()
    copy.write_bytes(BODY)
    return copy


def record_of_three(project: Path) -> dict[str, bytes]:
    """Write the record `lies` of three files that a person has to fetch, two of which have one name."""
    contents = {f"{folder}/{name}": f"{folder} {name}".encode() for folder, name in THREE}
    record_of(project, MANUAL)
    path = project / "configs" / "datasets" / "lies.yaml"
    record = yaml.safe_load(path.read_text())
    record["files"] = [
        {"path": name, "urls": [MANUAL], "size": len(content), "hash": f"md5:{hashlib.md5(content).hexdigest()}"}
        for name, content in contents.items()
    ]
    path.write_text(yaml.safe_dump(record, sort_keys=False))
    return contents


THREE = [("train", "audio.tar"), ("test", "audio.tar"), ("about", "readme.txt")]


def unpacked(folder: Path, contents: dict[str, bytes]) -> Path:
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_copy_becomes_the_dataset(project: Path, copy: Path) -> None:
    record_of(project, MANUAL)
    adopt(project, "lies", copy)
    assert (project / "data/raw/lies/archive.zip").read_bytes() == BODY


def test_copy_on_the_same_disk_is_linked(project: Path, copy: Path) -> None:
    record_of(project, MANUAL)
    adopt(project, "lies", copy)
    assert staged(project).samefile(copy)


def test_a_person_is_told_how_and_the_way_leads_there(project: Path, copy: Path) -> None:
    record_of(project, MANUAL)
    with pytest.raises(
        DownloadError, match=r"go to example\.org/form, fetch archive\.zip .*backbeat datasets adopt lies"
    ):
        fetched(project)
    adopt(project, "lies", copy)
    assert fetched(project) == BODY


def test_adopted_copy_is_said_with_its_hash(project: Path, copy: Path) -> None:
    record_of(project, MANUAL)
    assert [(file.state, file.hash) for file in adopt(project, "lies", copy)] == [("adopted", HASH)]


def test_copy_without_a_promise_is_said_to_be_unverified(project: Path, copy: Path) -> None:
    record_of(project, MANUAL, size=None, hash="unverified")
    assert [(file.state, file.hash) for file in adopt(project, "lies", copy)] == [("unverified", HASH)]


def test_second_time_it_is_present(project: Path, copy: Path) -> None:
    record_of(project, MANUAL)
    adopt(project, "lies", copy)
    assert [file.state for file in adopt(project, "lies", copy)] == ["present"]


def test_copy_takes_the_place_of_a_cut_one(project: Path, copy: Path) -> None:
    record_of(project, MANUAL)
    staged(project).parent.mkdir(parents=True)
    staged(project).write_bytes(BODY[:1000])
    adopt(project, "lies", copy)
    assert staged(project).read_bytes() == BODY


WRONG: dict[str, tuple[bytes, str]] = {
    "other bytes of the same size": (OTHER_BODY, hashlib.sha256(OTHER_BODY).hexdigest()),
    "cut": (BODY[:-1], "299,999 bytes"),
    "empty": (b"", "0 bytes"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_copy_is_said_to_be_what_it_is(case: str, project: Path, copy: Path) -> None:
    content, fragment = WRONG[case]
    copy.write_bytes(content)
    record_of(project, MANUAL)
    with pytest.raises(DownloadError) as failure:
        adopt(project, "lies", copy)
    assert fragment in (failure.value.got or "")


@pytest.mark.parametrize("case", WRONG)
def test_wrong_copy_gets_no_final_name(case: str, project: Path, copy: Path) -> None:
    copy.write_bytes(WRONG[case][0])
    record_of(project, MANUAL)
    with pytest.raises(DownloadError):
        adopt(project, "lies", copy)
    assert files_under_final_names(project) == []


@pytest.mark.parametrize("case", WRONG)
def test_wrong_copy_is_left_where_it_is(case: str, project: Path, copy: Path) -> None:
    copy.write_bytes(WRONG[case][0])
    record_of(project, MANUAL)
    with pytest.raises(DownloadError):
        adopt(project, "lies", copy)
    assert copy.read_bytes() == WRONG[case][0]


def test_files_of_a_folder_are_told_apart_by_their_folders(project: Path, tmp_path: Path) -> None:
    contents = record_of_three(project)
    adopt(project, "lies", unpacked(tmp_path / "usb stick" / "deep", contents).parent)
    assert {name: (project / "data/raw/lies" / name).read_bytes() for name in contents} == contents


def test_part_of_the_files_is_taken_in_without_linking(project: Path, tmp_path: Path) -> None:
    contents = record_of_three(project)
    del contents["about/readme.txt"]
    adopted = adopt(project, "lies", unpacked(tmp_path / "usb", contents))
    assert [file.state for file in adopted] == ["adopted", "adopted", "missing"]
    assert not (project / "data/raw/lies").exists()


def test_last_missing_file_completes_the_dataset(project: Path, tmp_path: Path) -> None:
    contents = record_of_three(project)
    last = unpacked(tmp_path / "last", {"about/readme.txt": contents.pop("about/readme.txt")})
    adopt(project, "lies", unpacked(tmp_path / "usb", contents))
    adopt(project, "lies", last / "about/readme.txt")
    assert (project / "data/raw/lies/about/readme.txt").exists()


def test_one_wrong_size_in_a_folder_keeps_all_of_it_out(project: Path, tmp_path: Path) -> None:
    contents = record_of_three(project)
    with pytest.raises(DownloadError):
        adopt(project, "lies", unpacked(tmp_path / "usb", contents | {"about/readme.txt": b"another"}))
    assert files_under_final_names(project) == []


REFUSED = {
    "nothing there": ("nothing.zip", "is not there"),
    "file that could be any": ("usb/stray.tar", "could be any of 3 files"),
    "name that two files have": ("usb/train/audio.tar", "could be any of 3 files"),
    "folder without any": ("empty", "has no file of it"),
    "folder with two copies": ("twice", "has about/readme.txt 2 times"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_meant_is_refused(case: str, project: Path, tmp_path: Path) -> None:
    path, fragment = REFUSED[case]
    contents = record_of_three(project)
    unpacked(tmp_path / "usb", contents | {"stray.tar": b"?"})
    unpacked(tmp_path / "twice", {f"{number}/about/readme.txt": b"" for number in (1, 2)})
    (tmp_path / "empty").mkdir()
    with pytest.raises(DownloadError, match=fragment):
        adopt(project, "lies", tmp_path / path)


def test_copy_of_an_archive_is_not_taken_for_some_of_its_members(project: Path, copy: Path) -> None:
    record_of(project, MANUAL, members={"names": ["*.wav"]})
    with pytest.raises(DownloadError, match=r"wants members of archive\.zip, not all of it"):
        adopt(project, "lies", copy)


def test_excluded_dataset_is_refused(project: Path, copy: Path) -> None:
    record_of(project, MANUAL)
    path = project / "configs" / "datasets" / "lies.yaml"
    text = path.read_text().replace("phase: minimal", "phase: null")
    path.write_text(text.replace("homepage:", "excluded: it may not be used\nhomepage:"))
    with pytest.raises(ConfigError, match="it may not be used"):
        adopt(project, "lies", copy)
    assert files_under_final_names(project) == []


def test_a_download_after_adopting_asks_nobody(project: Path, copy: Path) -> None:
    record_of(project, "http://127.0.0.1:1/archive.zip")
    adopt(project, "lies", copy)
    try:
        download(project, "lies")
    except BackbeatError as error:
        pytest.fail(str(error))
