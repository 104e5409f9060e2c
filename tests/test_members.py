"""Members of a zip on a server: the right ones, as a valid zip, for little more than their bytes."""

from __future__ import annotations

import csv
import io
import logging
import multiprocessing
import os
import random
import shutil
import signal
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from backbeat.datasets.download import download
from backbeat.datasets.layouts import pick_members
from backbeat.datasets.packed.zipdirectory import LocalBytes, read_directory
from backbeat.datasets.registry import Members, load_record
from backbeat.datasets.transport.memberplan import Arithmetic
from backbeat.datasets.transport.members import plan_members
from backbeat.datasets.transport.partial import part_path
from backbeat.drums.egmd import Sequence, read_index
from backbeat.errors import BackbeatError, ConfigError, DownloadError, StorageError
from misbehaving_server import Answer, misbehaving_server
from one_dataset import HASTY, files_under_final_names, record_of, staged, wait_for
from range_server import RangeServer, range_server
from small_project import PERFORMANCES, ROOT, TABLE, contents_of, write_zip

EXCERPT = Path(__file__).parents[2] / "shared" / "data" / "e-gmd-excerpt.zip"
DICE = random.Random(1)
ALL = {f"root/{i:04}.wav": DICE.randbytes(DICE.randrange(1, 12_000)) for i in range(5_000)}
PICKED = sorted(DICE.sample(sorted(ALL), 40))


def zipped(contents: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return stream.getvalue()


@pytest.fixture(scope="module")
def large() -> bytes:
    """An archive of 5,000 members of up to 12 kB."""
    return zipped(ALL)


@pytest.fixture
def server(large: bytes) -> Iterator[RangeServer]:
    with range_server(large) as running:
        yield running


def want(project: Path, server: RangeServer, layout: str = "none", **members: Any) -> None:
    record_of(project, server.url, size=len(server.body), hash="unverified", members=members)
    record = project / "configs/datasets/lies.yaml"
    record.write_text(record.read_text().replace("layout: none", f"layout: {layout}"))


def fetched(project: Path) -> zipfile.ZipFile:
    download(project, "lies", patience=HASTY)
    return zipfile.ZipFile(project / "data/raw/lies/archive.zip")


def contents(project: Path) -> dict[str, bytes]:
    with fetched(project) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def place_of(body: bytes, name: str) -> int:
    """Return where the content of a member begins."""
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        return archive.getinfo(name).header_offset + 30 + len(name)


# --- What it costs ---------------------------------------------------------------------------------------------------


@pytest.fixture
def scattered(project: Path, server: RangeServer) -> RangeServer:
    """The server, after 40 of its 5,000 members have been fetched."""
    want(project, server, names=PICKED)
    fetched(project).close()
    return server


def directory_bytes(body: bytes) -> int:
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        return len(body) - archive.start_dir


def test_scattered_members_move_little_more_than_their_bytes(scattered: RangeServer) -> None:
    with zipfile.ZipFile(io.BytesIO(scattered.body)) as archive:
        needed_bytes = sum(archive.getinfo(name).compress_size for name in PICKED)
    assert scattered.body_bytes <= 1.15 * needed_bytes + directory_bytes(scattered.body)


def test_scattered_members_take_a_dozen_requests_per_hundred(scattered: RangeServer) -> None:
    assert scattered.requests <= 12 * len(PICKED) / 100


def test_members_are_those_that_were_put_in(project: Path, server: RangeServer) -> None:
    want(project, server, names=PICKED)
    assert contents(project) == {name: ALL[name] for name in PICKED}


def test_result_is_a_valid_zip(project: Path, server: RangeServer) -> None:
    want(project, server, names=PICKED)
    with fetched(project) as archive:
        assert archive.testzip() is None


def test_members_are_in_the_order_of_the_archive(project: Path) -> None:
    names = ["z", "a", "m", "b"]
    with range_server(zipped({name: name.encode() * 99 for name in names})) as server:
        want(project, server, names=["b", "a", "z"])
        assert list(contents(project)) == ["z", "a", "b"]


def test_arithmetic_is_what_the_server_counts(
    project: Path, server: RangeServer, caplog: pytest.LogCaptureFixture
) -> None:
    want(project, server, names=PICKED)
    with caplog.at_level(logging.INFO, "backbeat.datasets.transport.members"):
        fetched(project).close()
    assert "40 of 5,000 members: " in caplog.text
    assert f" asked in {server.requests} requests (1.0" in caplog.text


def test_plan_asks_for_the_directory_alone(project: Path, server: RangeServer) -> None:
    want(project, server, names=PICKED)
    record = load_record(project, "lies")
    plan_members(project, record, record.files[0], HASTY)
    assert server.body_bytes <= directory_bytes(server.body) + 64


def test_plan_is_what_fetching_then_takes(project: Path, server: RangeServer) -> None:
    want(project, server, names=PICKED)
    record = load_record(project, "lies")
    planned = plan_members(project, record, record.files[0], HASTY)
    server.requests = 0
    fetched(project).close()
    assert (planned.requests, planned.members, planned.of_members) == (server.requests, 40, 5_000)


@pytest.mark.parametrize("many", ["whole", "first", "refused"])
def test_server_without_many_ranges_gives_the_same(many: str, project: Path, server: RangeServer) -> None:
    server.many = many
    want(project, server, names=PICKED)
    assert contents(project) == {name: ALL[name] for name in PICKED}


# --- Archives of all kinds -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_member_longer_than_a_piece_is_fetched(method: int, project: Path) -> None:
    big = random.Random(3).randbytes(9 * 2**20)
    with range_server(zipped({"a": b"a", "big": big, "b": b"b"}, method)) as server:
        want(project, server, names=["b*"])
        assert contents(project) == {"big": big, "b": b"b"}


def test_members_with_data_descriptors_are_fetched(project: Path) -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *_: Any) -> int:
            raise io.UnsupportedOperation

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in "abc":
            archive.writestr(name, name.encode() * 999)
    with range_server(pipe.getvalue()) as server:
        want(project, server, names=["a", "c"])
        assert contents(project) == {"a": b"a" * 999, "c": b"c" * 999}


def test_bytes_before_the_archive_are_left_out(project: Path, large: bytes) -> None:
    with range_server(b"#!/bin/sh\n" + large) as server:
        want(project, server, names=PICKED)
        assert contents(project) == {name: ALL[name] for name in PICKED}


def test_member_of_an_archive_on_this_machine_is_copied(project: Path, large: bytes, server: RangeServer) -> None:
    (project / "own.zip").write_bytes(large)
    record_of(project, "file:own.zip", size=len(large), hash="unverified", members={"names": PICKED})
    assert contents(project) == {name: ALL[name] for name in PICKED}


# --- Servers and archives that are damaged ---------------------------------------------------------------------------


def test_member_that_came_damaged_is_asked_for_once_more(project: Path, server: RangeServer) -> None:
    server.flip = {place_of(server.body, PICKED[7]): 1}
    want(project, server, names=PICKED)
    assert contents(project) == {name: ALL[name] for name in PICKED}


def test_member_that_stays_damaged_is_named(project: Path, server: RangeServer) -> None:
    server.flip = {place_of(server.body, PICKED[7]): 99}
    want(project, server, names=PICKED)
    with pytest.raises(DownloadError, match=f"{PICKED[7]} in lies/archive.zip is damaged"):
        fetched(project)


def test_name_that_came_damaged_is_noticed(project: Path, server: RangeServer) -> None:
    with zipfile.ZipFile(io.BytesIO(server.body)) as archive:
        first_letter_at = archive.getinfo(PICKED[7]).header_offset + 30
    server.flip = {first_letter_at: 99}
    want(project, server, names=PICKED)
    with pytest.raises(DownloadError, match="one with another name"):
        fetched(project)


def test_damage_leaves_nothing_under_a_final_name(project: Path, server: RangeServer) -> None:
    server.flip = {place_of(server.body, PICKED[7]): 99}
    want(project, server, names=PICKED)
    for _ in range(2):
        with pytest.raises(DownloadError):
            fetched(project)
    assert files_under_final_names(project) == []


def test_damaged_member_does_not_stay_in_the_partial_file(project: Path, server: RangeServer) -> None:
    server.flip = {place_of(server.body, PICKED[7]): 99}
    want(project, server, names=PICKED)
    with pytest.raises(DownloadError):
        fetched(project)
    proven_bytes = sum(30 + len(name) + len(ALL[name]) for name in PICKED[:7])
    assert part_path(staged(project)).stat().st_size == proven_bytes


def planned(project: Path) -> Arithmetic:
    record = load_record(project, "lies")
    return plan_members(project, record, record.files[0], HASTY)


@pytest.mark.parametrize("place", ["http://127.0.0.1:9", "ftp://127.0.0.1"])
@pytest.mark.parametrize("ask", [planned, fetched])
def test_message_does_not_show_where_a_redirect_was_signed_to(
    ask: Callable[[Path], object], place: str, project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with misbehaving_server(b"") as server:
        server.pages = {"/file.zip": Answer(status=302, headers={"Location": f"{place}/x?X-Amz-Signature=canary"})}
        record_of(project, server.url(), size=None, hash="unverified", members={"names": ["*"]})
        with pytest.raises(DownloadError) as failure:
            ask(project)
    assert "canary" not in f"{failure.value}\n{caplog.text}"


@pytest.mark.parametrize("change_at", [1, 2, 3])
def test_file_that_changes_is_started_over(change_at: int, project: Path, server: RangeServer) -> None:
    other = {name: content[::-1] for name, content in ALL.items()}
    server.change_at, server.other_body = change_at, zipped(other)
    want(project, server, names=PICKED)
    assert contents(project) == {name: other[name] for name in PICKED}


def test_archive_of_another_size_is_refused(project: Path, server: RangeServer) -> None:
    want(project, server, names=PICKED)
    server.body = zipped({"root/0000.wav": b"another"})
    with pytest.raises(DownloadError, match="is not the archive of the record"):
        fetched(project)


def test_what_is_no_zip_is_refused(project: Path) -> None:
    with range_server(bytes(100_000)) as server:
        want(project, server, names=["*"])
        with pytest.raises(DownloadError, match=r"archive\.zip is not a whole zip archive"):
            fetched(project)


def test_full_disk_is_told_before_a_member_is_asked_for(
    project: Path, server: RangeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    want(project, server, names=PICKED)
    usage = shutil.disk_usage(project)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2**20))
    with pytest.raises(StorageError, match="not enough space"):
        fetched(project)
    assert server.requests == 2


# --- Killed and begun again ------------------------------------------------------------------------------------------


def download_once(project: Path) -> None:
    download(project, "lies", patience=HASTY)


@pytest.fixture
def killed(project: Path, large: bytes) -> Iterator[RangeServer]:
    """The server, after a download was killed that had the first members."""
    with range_server(large) as server:
        server.stall_at = 6  # the tail, the directory, and four requests for twenty members each
        want(project, server, names=["root/???5.wav"])
        child = multiprocessing.get_context("spawn").Process(target=download_once, args=(project,))
        child.start()
        wait_for(lambda: server.stalled.is_set() or not child.is_alive())
        assert child.is_alive()
        wait_for(lambda: len(whole_members(project)) >= 40)
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        server.stall_at = None
        server.go_on.set()
        yield server


EXPECTED = {name: content for name, content in ALL.items() if name.endswith("5.wav")}


def whole_members(project: Path) -> list[str]:
    """Return which of them are in the partial file."""
    part = part_path(staged(project))
    left_bytes = part.stat().st_size if part.is_file() else 0
    names = []
    for name, content in EXPECTED.items():
        left_bytes -= 30 + len(name) + len(content)
        if left_bytes >= 0:
            names.append(name)
    return names


def test_killed_download_comes_out_right(killed: RangeServer, project: Path) -> None:
    assert contents(project) == EXPECTED


def test_killed_download_asks_only_for_what_is_missing(killed: RangeServer, project: Path) -> None:
    missing = EXPECTED.keys() - set(whole_members(project))
    killed.body_bytes = 0
    fetched(project).close()
    missing_bytes = sum(len(EXPECTED[name]) for name in missing)
    assert (len(missing) <= 460, killed.body_bytes <= 1.15 * missing_bytes + directory_bytes(killed.body)) == (
        True,
        True,
    )


def test_what_a_kill_has_left_is_proven(killed: RangeServer, project: Path) -> None:
    with part_path(staged(project)).open("r+b") as part:
        part.seek(5_000)
        part.write(bytes(3_000))
    assert contents(project) == EXPECTED


def test_bytes_of_another_version_are_not_kept(killed: RangeServer, project: Path) -> None:
    other = {name: content[::-1] for name, content in ALL.items()}
    killed.body = zipped(other)
    assert contents(project) == {name: other[name] for name in EXPECTED}


def test_success_leaves_only_lock_and_check_beside_the_file(killed: RangeServer, project: Path) -> None:
    fetched(project).close()
    final = staged(project)
    beside = {path.name for path in final.parent.iterdir()}
    assert beside == {final.name, f"{final.name}.lock.part", f"{final.name}.checked.part"}


# --- E-GMD -----------------------------------------------------------------------------------------------------------

NARROWINGS: dict[str, dict[str, Any]] = {
    "kits": {"kits": [2]},
    "splits": {"splits": ["train"]},
    "drummers": {"drummers": ["drummer2"]},
    "kits and splits": {"kits": [1, 10], "splits": ["train", "test"]},
    "everything": {"kits": [10], "splits": ["validation"], "drummers": ["drummer2"], "names": ["*_beat_*"]},
    "all kits": {"kits": [1, 2, 10]},
}


def fits(sequence: Sequence, narrowing: dict[str, Any]) -> bool:
    return (
        sequence.kit in narrowing.get("kits", [sequence.kit])
        and sequence.split in narrowing.get("splits", [sequence.split])
        and sequence.drummer in narrowing.get("drummers", [sequence.drummer])
    )


def told(sequences: list[Sequence]) -> list[Any]:
    """Return all of the sequences but where their bytes are."""
    return [
        (
            s.id,
            s.performance,
            s.drummer,
            s.style,
            s.tempo_bpm,
            s.duration_s,
            s.split,
            s.kit_name,
            s.wav.crc32,
            s.midi.crc32,
        )
        for s in sequences
    ]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    notes = {f"{ROOT}/README": b"read me", f"{ROOT}/LICENSE": b"CC0"}
    (tmp_path / "whole").mkdir()
    return write_zip(tmp_path / "whole" / "small.zip", notes | contents_of((1, 2, 10)))


@pytest.mark.parametrize("case", NARROWINGS)
def test_index_of_a_part_is_part_of_the_index(case: str, project: Path, small: Path) -> None:
    with range_server(small.read_bytes()) as server:
        want(project, server, "egmd", **NARROWINGS[case])
        download(project, "lies", patience=HASTY)
    expected = [sequence for sequence in read_index(small) if fits(sequence, NARROWINGS[case])]
    assert told(read_index(project / "data/raw/lies/archive.zip")) == told(expected)


def test_papers_come_along(project: Path, small: Path) -> None:
    with range_server(small.read_bytes()) as server:
        want(project, server, "egmd", kits=[2])
        assert {f"{ROOT}/README", f"{ROOT}/LICENSE", TABLE} < contents(project).keys()


def test_columns_that_nobody_needs_are_kept(project: Path, tmp_path: Path) -> None:
    whole = contents_of()
    rows = [{"mood": "fine", **row} for row in csv.DictReader(io.StringIO(whole[TABLE].decode()))]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    with range_server(zipped(whole | {TABLE: text.getvalue().encode()})) as server:
        want(project, server, "egmd", kits=[2])
        assert contents(project)[TABLE].startswith(b"mood,drummer,")


@pytest.mark.skipif(not EXCERPT.is_file(), reason="the excerpt of E-GMD is not beside this checkout")
def test_kit_of_the_excerpt_is_a_fifth_of_it(project: Path) -> None:
    with range_server(EXCERPT.read_bytes()) as server:
        want(project, server, "egmd", kits=[3])
        download(project, "lies", patience=HASTY)
    expected = [sequence for sequence in read_index(EXCERPT) if sequence.kit == 3]
    assert told(read_index(project / "data/raw/lies/archive.zip")) == told(expected)


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "unknown kit": ("egmd", {"kits": [2, 7]}, "no kit 7\n  expected: some of 1, 2, 10\n  got: 7"),
    "unknown drummer": ("egmd", {"drummers": ["Bonham"]}, "no drummer Bonham\n  expected: some of drummer1, drummer2"),
    "nothing that fits all": ("egmd", {"splits": ["test"], "drummers": ["drummer1"]}, "no row of"),
    "names and kits that exclude each other": ("egmd", {"kits": [2], "names": ["*_1.*"]}, "no row of"),
    "pattern that fits nothing": ("none", {"names": ["*.wav", "*.flac"]}, "no member fits the pattern *.flac"),
    "kits without a table": ("audio-folder", {"kits": [1]}, "expected: layout egmd\n  got: audio-folder"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_narrowing_that_cannot_be_meant_is_refused(case: str, small: Path) -> None:
    layout, members, fragment = REFUSED[case]
    entries = read_directory(LocalBytes(small))

    def read(name: str) -> bytes:
        with zipfile.ZipFile(small) as archive:
            return archive.read(name)

    with pytest.raises(ConfigError) as refusal:
        pick_members(layout, entries, read, Members(**members))
    assert fragment in str(refusal.value)


@pytest.mark.parametrize("ask", [planned, fetched])
def test_pattern_that_fits_nothing_is_a_fault_of_the_record(
    ask: Callable[[Path], object], project: Path, server: RangeServer
) -> None:
    want(project, server, names=["*.flac"])
    with pytest.raises(ConfigError, match=r"no member fits the pattern \*\.flac"):
        ask(project)


def test_unknown_split_is_refused(small: Path) -> None:
    rows = contents_of(performances=[one for one in PERFORMANCES if one.split != "test"])
    with pytest.raises(ConfigError, match="no split test\n  expected: some of train, validation"):
        pick_members("egmd", read_directory(LocalBytes(small)), rows.__getitem__, Members(splits=("test",)))


@pytest.mark.parametrize("members", [{"drummers": ["drummer1"]}, {"names": ["*"]}])
def test_made_archive_is_narrowed_by_kits_and_splits_alone(members: dict[str, Any], project: Path) -> None:
    record_of(project, "generate://mini", size=None, hash="unverified", members=members)
    with pytest.raises(BackbeatError, match="cannot be made"):
        fetched(project)
