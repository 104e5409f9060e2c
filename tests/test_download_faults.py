"""Disks that fill up and processes that die in the middle of a download."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from backbeat.datasets.transport.hashing import in_background
from backbeat.datasets.transport.partial import part_path
from backbeat.errors import StorageError
from misbehaving_server import Answer, MisbehavingServer
from one_dataset import BODY, OTHER_BODY, fetched, files_under_final_names, record_of, staged, wait_for


def test_full_disk_is_refused_before_anything_is_asked_for(
    project: Path, server: MisbehavingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_of(project, server.url())
    usage = shutil.disk_usage(project)._replace(free=1_000)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(StorageError, match="1,000 bytes free"):
        fetched(project)
    assert server.seen == []


def test_disk_that_fills_up_keeps_what_has_arrived(project: Path, server: MisbehavingServer, tmp_path: Path) -> None:
    record_of(project, server.url())
    # A limit on the size of files fails in the same place as a full disk, and needs no rights to set up.
    limited = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000));"
    )
    child = run_child(project, limited)
    _, errors = child.communicate(timeout=20)
    assert (b"StorageError" in errors, part_path(staged(project)).read_bytes()) == (True, BODY[:100_000])


def test_killed_download_goes_on_where_it_was(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    server.script = [Answer(stall_after=200_000)]
    child = run_child(project)
    wait_for(lambda: part_path(staged(project)).is_file() and part_path(staged(project)).stat().st_size == 200_000)
    child.send_signal(signal.SIGKILL)
    child.communicate(timeout=20)
    assert fetched(project) == BODY
    assert server.ranges() == [None, "bytes=200000-"]


def test_download_killed_after_the_last_byte_needs_no_byte_more(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    part = part_path(staged(project))
    part.parent.mkdir(parents=True)
    part.write_bytes(BODY)
    fetched(project)
    assert server.seen == []


def test_torn_note_about_the_origin_means_to_start_over(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    final = staged(project)
    final.parent.mkdir(parents=True)
    part_path(final).write_bytes(OTHER_BODY[:100_000])
    final.with_name(f"{final.name}.origin.part").write_text('{"url": "http')
    assert fetched(project) == BODY


def test_second_process_waits_and_finds_the_file_there(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    server.script = [Answer(stall_after=100_000)]
    first = run_child(project)
    assert server.stalled.wait(timeout=20)
    second = run_child(project)
    assert second.stderr is not None
    assert b"another process is fetching it" in second.stderr.readline()
    server.go_on.set()
    outputs = [child.communicate(timeout=20) for child in (first, second)]
    assert (first.returncode, second.returncode, server.ranges()) == (0, 0, [None, "bytes=100000-"]), outputs


def run_child(project: Path, first: str = "") -> subprocess.Popen[bytes]:
    code = f"""{first}
from pathlib import Path
from backbeat.datasets.download import download
download(Path({str(project)!r}), "lies")
"""
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)


def test_partial_file_that_another_program_replaced_gets_no_name(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    server.script = [Answer(stall_after=200_000)]
    child = run_child(project)
    wait_for(lambda: part_path(staged(project)).is_file() and part_path(staged(project)).stat().st_size == 200_000)
    part_path(staged(project)).unlink()
    part_path(staged(project)).write_bytes(BODY[:1000])
    server.go_on.set()
    child.communicate(timeout=20)
    assert files_under_final_names(project) == []


def test_hash_that_breaks_is_an_error_and_not_a_wait_without_end() -> None:
    class Broken:
        def update(self, data: object) -> None:
            raise MemoryError

        def hexdigest(self) -> str:
            return ""

    def hash_a_lot() -> None:
        with in_background(Broken()) as chunks:
            for _ in range(100):
                chunks.put(b"chunk")

    with pytest.raises(MemoryError):
        hash_a_lot()


def test_own_file_in_the_folder_of_raw_data_is_not_removed(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    mine = project / "data/raw/lies/mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("precious")
    with pytest.raises(StorageError, match=r"(?s)mine\.txt.*datasets adopt lies PATH"):
        fetched(project)
    assert (mine.read_text(), server.seen) == ("precious", [])


def test_folder_of_raw_data_that_is_a_link_is_replaced(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    (project / "elsewhere").mkdir()
    (project / "data/raw").mkdir(parents=True)
    (project / "data/raw/lies").symlink_to(project / "elsewhere")
    assert fetched(project) == BODY
    assert list((project / "elsewhere").iterdir()) == []
