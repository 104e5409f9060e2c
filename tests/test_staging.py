"""The staging store: complete files under final names, links out of it, and disks that are too small."""

from __future__ import annotations

import errno
import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from backbeat.errors import StorageError
from backbeat.storage.staging import (
    SPARE_BYTES,
    Staging,
    cache_dir,
    disk_errors,
    link_folder,
    new_file,
    open_staging,
    require_space,
)

Usage = namedtuple("Usage", ["total", "used", "free"])  # noqa: PYI024 - shutil's own is private


def files_in(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


# --- Where it is -----------------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "project" / ".dvc").mkdir(parents=True)
    return tmp_path / "project"


def test_store_is_in_the_cache_of_dvc(project: Path) -> None:
    assert open_staging(project).root == project / ".dvc" / "cache" / "staging"


def test_absolute_cache_dir_is_taken_as_it_is(project: Path, tmp_path: Path) -> None:
    (project / ".dvc" / "config").write_text(f"[cache]\n    dir = {tmp_path}/disk\n")
    assert cache_dir(project) == tmp_path / "disk"


def test_relative_cache_dir_starts_at_the_file_that_says_it(project: Path, tmp_path: Path) -> None:
    (project / ".dvc" / "config").write_text("[cache]\n    dir = ../../disk\n")
    assert cache_dir(project) == tmp_path / "disk"


def test_local_configuration_goes_before_that_of_the_repository(project: Path, tmp_path: Path) -> None:
    (project / ".dvc" / "config").write_text(f"[cache]\n    dir = {tmp_path}/everyone\n")
    (project / ".dvc" / "config.local").write_text(f"[cache]\n    dir = {tmp_path}/me\n")
    assert cache_dir(project) == tmp_path / "me"


def test_folder_without_dvc_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="is not the root of a DVC repository"):
        cache_dir(tmp_path)


def test_configuration_that_cannot_be_read_is_named(project: Path) -> None:
    (project / ".dvc" / "config.local").write_text("[cache\n")
    with pytest.raises(StorageError, match=r"the configuration in .* cannot be read"):
        cache_dir(project)


def test_cache_dir_that_was_changed_is_noticed(project: Path, tmp_path: Path) -> None:
    before = cache_dir(project)
    (project / ".dvc" / "config.local").write_text(f"[cache]\n    dir = {tmp_path / 'other'}\n")
    assert cache_dir(project) == tmp_path / "other" != before


def test_entry_is_named_by_kind_and_digest() -> None:
    assert Staging(Path("/disk")).entry("shards", "abcdef", ".h5") == Path("/disk/shards/ab/abcdef.h5")


# --- New files -------------------------------------------------------------------------------------------------------


def test_file_gets_its_name_when_it_is_complete(tmp_path: Path) -> None:
    with new_file(tmp_path / "deep" / "final") as part:
        part.write_text("all of it")
        assert not (tmp_path / "deep" / "final").exists()
    assert files_in(tmp_path) == {"deep/final": "all of it"}


def write_half(final: Path) -> None:
    with new_file(final) as part:
        part.write_text("half of it")
        raise ValueError("half")


def test_failure_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="half"):
        write_half(tmp_path / "final")
    assert files_in(tmp_path) == {}


def test_failure_leaves_the_file_of_before(tmp_path: Path) -> None:
    (tmp_path / "final").write_text("of before")
    with pytest.raises(ValueError, match="half"):
        write_half(tmp_path / "final")
    assert files_in(tmp_path) == {"final": "of before"}


def test_two_writers_of_one_name_do_not_meet(tmp_path: Path) -> None:
    with new_file(tmp_path / "final") as one, new_file(tmp_path / "final") as other:
        assert one != other
        one.write_text("the same")
        other.write_text("the same")
    assert files_in(tmp_path) == {"final": "the same"}


def test_unfinished_file_has_a_name_that_may_be_removed(tmp_path: Path) -> None:
    with new_file(tmp_path / "final") as part:
        part.touch()
        assert part.suffix == ".part"


def test_content_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def watched_fsync(number: int) -> None:
        events.append(f"fsync {Path(f'/proc/self/fd/{number}').readlink().name.partition('.')[0]}")
        fsync(number)

    def watched_replace(part: Path, final: Path) -> Path:
        events.append("rename")
        return replace(part, final)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(Path, "replace", watched_replace)
    (tmp_path / "folder").mkdir()
    with new_file(tmp_path / "folder" / "final") as part:
        part.touch()
    assert events == ["fsync final", "rename", "fsync folder"]


# --- Disks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS], ids=os.strerror)
def test_complaint_about_the_disk_names_the_file(number: int, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=f"cannot write {tmp_path}/file"), disk_errors(tmp_path / "file"):
        raise OSError(number, os.strerror(number))


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(ConnectionResetError), disk_errors(tmp_path):
        raise ConnectionResetError(errno.ECONNRESET, "reset")


def test_enough_space_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, SPARE_BYTES + 1_000))
    require_space(tmp_path, 1_000, "anything")


def test_one_byte_too_little_is_refused_with_both_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, SPARE_BYTES + 999))
    with pytest.raises(StorageError, match=f"{SPARE_BYTES + 1_000:,} bytes free\n  got: {SPARE_BYTES + 999:,}"):
        require_space(tmp_path / "not" / "yet" / "there", 1_000, "anything")


# --- Links -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def staged(tmp_path: Path) -> Path:
    path = tmp_path / "staging" / "entry"
    path.parent.mkdir()
    path.write_text("content")
    return path


def test_folder_holds_links_to_the_staged_files(tmp_path: Path, staged: Path) -> None:
    link_folder(tmp_path / "out", {"train/kit-01.h5": staged})
    assert (tmp_path / "out/train/kit-01.h5").readlink() == staged


def test_links_of_before_are_gone(tmp_path: Path, staged: Path) -> None:
    link_folder(tmp_path / "out", {"old": staged})
    link_folder(tmp_path / "out", {"new": staged})
    assert files_in(tmp_path / "out") == {"new": "content"}


def test_nothing_is_linked_as_an_empty_folder(tmp_path: Path) -> None:
    link_folder(tmp_path / "out", {})
    assert list((tmp_path / "out").iterdir()) == []


def test_failure_to_link_leaves_the_links_of_before(
    tmp_path: Path, staged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link_folder(tmp_path / "out", {"old": staged})

    def full(link: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "symlink_to", full)
    with pytest.raises(StorageError, match="cannot write"):
        link_folder(tmp_path / "out", {"new": staged})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "staging"]
    assert files_in(tmp_path / "out") == {"old": "content"}
