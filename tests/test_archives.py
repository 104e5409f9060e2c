"""Reading members of a zip in place: the right bytes or one error that names the member."""

from __future__ import annotations

import random
import struct
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backbeat.datasets.packed.archives import list_members, read_member
from backbeat.errors import ArchiveError
from small_project import damage

NOISE = random.Random(1).randbytes(5_000)
CONTENTS = {"root/b.wav": NOISE, "root/a.wav": bytes(50_000) + NOISE[:1_000], "root/empty": b"", "top.csv": b"a,b\n"}

CENTRAL = b"PK\x01\x02"
# Where fields are in an entry of the central directory.
FLAGS, CRC, STORED, SIZE, LOCAL_OFFSET, NAME = 8, 16, 20, 24, 42, 46


@pytest.fixture(params=["stored", "deflated"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write(tmp_path / "some.zip", CONTENTS, getattr(zipfile, f"ZIP_{request.param.upper()}"))


@pytest.fixture
def deflated(tmp_path: Path) -> Path:
    return write(tmp_path / "some.zip", CONTENTS, zipfile.ZIP_DEFLATED)


def write(path: Path, contents: dict[str, bytes], method: int) -> Path:
    with zipfile.ZipFile(path, "w", method) as opened:
        for name, content in contents.items():
            opened.writestr(name, content)
    return path


def all_contents(archive: Path) -> dict[str, bytes]:
    return {name: read_member(archive, member) for name, member in list_members(archive).items()}


def set_central(archive: Path, field: int, form: str, value: int, entry: int = 0) -> None:
    """Change a field of the central directory, where the archive says what its members are."""
    content = bytearray(archive.read_bytes())
    at = content.index(CENTRAL)
    for _ in range(entry):
        at = content.index(CENTRAL, at + 4)
    struct.pack_into(form, content, at + field, value)
    archive.write_bytes(content)


def refusal_of(archive: Path) -> str:
    with pytest.raises(ArchiveError) as refusal:
        all_contents(archive)
    return str(refusal.value)


# --- Whole archives --------------------------------------------------------------------------------------------------


def test_members_have_the_bytes_that_were_put_in(archive: Path) -> None:
    assert all_contents(archive) == CONTENTS


def test_members_are_in_the_order_of_the_archive(archive: Path) -> None:
    assert list(list_members(archive)) == list(CONTENTS)


def test_folders_are_no_members(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "some.zip", "w") as opened:
        opened.mkdir("root")
        opened.writestr("root/file", b"content")
    assert list(list_members(tmp_path / "some.zip")) == ["root/file"]


def test_archive_behind_other_bytes_is_read(deflated: Path) -> None:
    deflated.write_bytes(b"#!/bin/sh\nexit\n" + deflated.read_bytes())
    assert all_contents(deflated) == CONTENTS


def test_archive_written_to_a_pipe_is_read(tmp_path: Path) -> None:
    class Pipe:
        """What cannot be rewound: sizes come behind the content."""

        def __init__(self, path: Path) -> None:
            self.stream = path.open("wb")

        def write(self, content: bytes) -> int:
            return self.stream.write(content)

        def flush(self) -> None:
            self.stream.flush()

    pipe = Pipe(tmp_path / "some.zip")
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as opened:  # type: ignore[call-overload]
        for name, content in CONTENTS.items():
            opened.writestr(name, content)
    pipe.stream.close()
    assert all_contents(tmp_path / "some.zip") == CONTENTS


# --- Damaged archives ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_truncated_archive_is_no_archive(archive: Path, part: float) -> None:
    archive.write_bytes(archive.read_bytes()[: int(part * archive.stat().st_size)])
    assert "some.zip is not a whole zip archive" in refusal_of(archive)


def test_missing_archive_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match=r"nothing\.zip is not a whole zip archive"):
        list_members(tmp_path / "nothing.zip")


def test_web_page_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "some.zip").write_bytes(b"<!DOCTYPE html><html></html>")
    assert "is not a whole zip archive" in refusal_of(tmp_path / "some.zip")


def test_changed_content_is_noticed_by_its_member(archive: Path) -> None:
    damage(archive, "root/b.wav")
    assert "root/b.wav in some.zip is damaged" in refusal_of(archive)


def test_wrong_checksum_is_told_with_the_right_one(archive: Path) -> None:
    set_central(archive, CRC, "<I", 0x12345678)
    assert "expected: CRC-32 12345678" in refusal_of(archive)


def test_damage_says_what_to_type(archive: Path) -> None:
    damage(archive, "root/b.wav")
    assert "next: fetch the archive again" in refusal_of(archive)


def test_other_members_are_read_all_the_same(archive: Path) -> None:
    damage(archive, "root/b.wav")
    members = list_members(archive)
    assert read_member(archive, members["root/a.wav"]) == CONTENTS["root/a.wav"]


def test_bomb_is_stopped_one_byte_behind_what_it_declared(deflated: Path) -> None:
    set_central(deflated, SIZE, "<I", 1_000, entry=1)
    assert "root/a.wav in some.zip is damaged\n  expected: 1,000 bytes\n  got: 1,001" in refusal_of(deflated)


def test_bomb_gets_no_memory(tmp_path: Path) -> None:
    path = write(tmp_path / "bomb.zip", {"zeros": bytes(50 * 2**20)}, zipfile.ZIP_DEFLATED)
    set_central(path, SIZE, "<I", 1_000)
    tracemalloc.start()
    try:
        refusal_of(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_content_shorter_than_declared_is_noticed(deflated: Path) -> None:
    set_central(deflated, SIZE, "<I", 60_000, entry=1)
    assert "expected: 60,000 bytes\n  got: 51,000" in refusal_of(deflated)


def test_member_beyond_the_end_is_noticed_before_it_is_read(archive: Path) -> None:
    set_central(archive, STORED, "<I", 2**32 - 2)
    tracemalloc.start()
    try:
        assert "root/b.wav in some.zip is damaged\n  expected: content within" in refusal_of(archive)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("byte", [0x00, 0xFF], ids=["empty", "not UTF-8"])
def test_name_that_is_none_is_damage(byte: int, archive: Path) -> None:
    set_central(archive, FLAGS, "<H", 0x800)  # says that names are UTF-8
    set_central(archive, NAME, "<B", byte)
    assert "some.zip is not a whole zip archive" in refusal_of(archive)


def test_offset_that_leads_elsewhere_is_noticed(archive: Path) -> None:
    set_central(archive, LOCAL_OFFSET, "<I", 1, entry=0)
    assert "expected: a local file header" in refusal_of(archive)


def test_offset_of_another_member_is_noticed(archive: Path) -> None:
    set_central(archive, LOCAL_OFFSET, "<I", list_members(archive)["root/a.wav"].offset, entry=0)
    assert "root/b.wav in some.zip is damaged" in refusal_of(archive)


def test_encrypted_member_is_refused(archive: Path) -> None:
    content = bytearray(archive.read_bytes())
    content[6] |= 1  # the flags of the first local header
    archive.write_bytes(content)
    assert "expected: plain content\n  got: encrypted content" in refusal_of(archive)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA], ids=["bzip2", "lzma"])
def test_other_compression_is_refused_by_its_number(method: int, tmp_path: Path) -> None:
    path = write(tmp_path / "some.zip", CONTENTS, method)
    assert f"got: compression method {method}" in refusal_of(path)


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    with warnings.catch_warnings(), zipfile.ZipFile(tmp_path / "some.zip", "w") as opened:
        warnings.simplefilter("ignore")  # zipfile warns, and does it
        opened.writestr("root/a.wav", b"one")
        opened.writestr("root/a.wav", b"other")
    assert "two members of one name\n  expected: unique names\n  got: root/a.wav" in refusal_of(tmp_path / "some.zip")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_anywhere_gives_right_bytes_or_an_error_of_ours(tmp_path: Path, data: st.DataObject) -> None:
    path = write(tmp_path / "some.zip", {f"root/{i}.wav": NOISE[: 100 * i] for i in range(1, 5)}, zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3), label="damages")):
        # The directory at the end is what decides.
        at = data.draw(st.one_of(st.integers(0, len(content) - 1), st.integers(-320, -1)), label="at")
        content[at] = data.draw(st.integers(0, 255), label="byte")
    path.write_bytes(content[: data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))), label="cut")])
    try:
        found = all_contents(path)
    except ArchiveError:
        return
    assert set(found.values()) <= {NOISE[: 100 * i] for i in range(5)}
