"""The mirror as a file system, where this machine has FUSE."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

import backbeat.cloud.mount as module
from backbeat.cloud.mount import mount, mount_point, mounted_at, unmount
from backbeat.errors import CloudError
from mirrored import bucket_project, pushed
from one_dataset import BODY, wait_for
from s3_server import SECRET, s3_server

HAS_FUSE = Path("/dev/fuse").exists() and os.access("/dev/fuse", os.R_OK | os.W_OK)
needs_fuse = pytest.mark.skipif(
    not (HAS_FUSE and (shutil.which("fusermount3") or shutil.which("fusermount"))), reason="this machine has no FUSE"
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with s3_server(tmp_path / "s3") as s3:
        project = bucket_project(tmp_path, s3.endpoint_url, monkeypatch)
        yield project
        if mounted_at(mount_point(project)) is not None:
            unmount(project)


def server_of(at: Path) -> int:
    """Return the process that serves a mount point."""
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = line.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"mount" in words and os.fsencode(at) in words:
            return int(line.parent.name)
    raise AssertionError("nobody serves it")


@needs_fuse
def test_files_of_the_mirror_are_read_under_their_names(project: Path) -> None:
    pushed(project)
    at = mount(project)
    assert sorted(path.relative_to(at).as_posix() for path in at.rglob("*")) == [
        "raw",
        "raw/lies",
        "raw/lies.json",
        "raw/lies/archive.zip",
    ]
    assert (at / "raw/lies/archive.zip").read_bytes() == BODY
    with pytest.raises(OSError, match="Read-only"):
        (at / "raw" / "new").write_bytes(b"")
    cached = [path for path in (project / ".dvc/cache/staging/mount.part").rglob("archive.zip") if path.is_file()]
    assert cached != []
    assert SECRET not in Path(f"/proc/{server_of(at)}/cmdline").read_text()
    assert mount(project) == at
    unmount(project)
    assert (list(at.iterdir()), mounted_at(at)) == ([], None)


@needs_fuse
def test_mount_whose_process_has_died_is_named_and_can_be_unmounted(project: Path) -> None:
    pushed(project)
    at = mount(project)
    os.kill(server_of(at), signal.SIGKILL)
    wait_for(lambda: not module._answers(at))
    with pytest.raises(CloudError, match=r"a mount whose process has died"):
        mount(project)
    unmount(project)
    assert mount(project) == at
    unmount(project)


@needs_fuse
def test_mount_that_is_in_use_stays_and_says_so(project: Path) -> None:
    pushed(project)
    at = mount(project)
    with (at / "raw/lies/archive.zip").open("rb"), pytest.raises(CloudError, match=r"could not be unmounted"):
        unmount(project)
    assert (at / "raw/lies.json").is_file()


@needs_fuse
def test_empty_mirror_is_not_mounted(project: Path) -> None:
    with pytest.raises(CloudError, match=r"the mirror is empty"):
        mount(project)
    assert not mount_point(project).exists()


@pytest.fixture
def with_fuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have this machine look as if it could mount."""
    monkeypatch.setattr(module, "require_fuse", lambda: None)


@pytest.mark.parametrize("case", ["a folder with files", "a file", "a link", "another mount"])
def test_place_that_is_taken_is_refused_before_anything_is_asked(case: str, tmp_path: Path, with_fuse: None) -> None:
    at = tmp_path / "at"
    if case == "a folder with files":
        at.mkdir()
        (at / "notes.txt").touch()
    elif case == "a file":
        at.touch()
    elif case == "a link":
        at.symlink_to(tmp_path)
    else:
        at = Path("/proc")
    with pytest.raises(CloudError, match=r"cannot be mounted upon|is in use"):
        mount(tmp_path, at)


def test_machine_without_fuse_is_told_what_to_do_instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DEVICE", tmp_path / "no-fuse")
    with pytest.raises(CloudError, match=r"(?s)no FUSE.*backbeat cloud mirror pull") as failure:
        mount(tmp_path)
    assert "dvc pull" in (failure.value.next_step or "")


def test_machine_without_its_tools_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DEVICE", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CloudError, match=r"fusermount3"):
        mount(tmp_path)


def test_place_is_said_without_detours(tmp_path: Path) -> None:
    (tmp_path / "clone").mkdir()
    with pytest.raises(CloudError, match=rf"no mirror is mounted at {tmp_path}/mirror\n"):
        unmount(tmp_path, tmp_path / "clone" / ".." / "mirror")
    with pytest.raises(CloudError, match=rf"no mirror is mounted at {tmp_path}\n"):
        unmount(tmp_path, tmp_path / "clone" / "..")


def test_what_is_no_mirror_is_not_unmounted(tmp_path: Path) -> None:
    for at in (Path("/proc"), tmp_path):
        with pytest.raises(CloudError, match=r"no mirror is mounted"):
            unmount(tmp_path, at)
