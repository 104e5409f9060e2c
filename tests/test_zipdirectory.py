"""The central directory of a zip, against what the standard library and Info-ZIP write; and archives that lie."""

from __future__ import annotations

import io
import random
import shutil
import struct
import subprocess
import tracemalloc
import zipfile
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backbeat.datasets.packed.zipdirectory import TAIL_BYTES, ByteSource, Entry, LocalBytes, SplitBytes, read_directory
from backbeat.datasets.packed.zipwriting import stored_anew, write_directory
from backbeat.errors import ArchiveError

NOISE = random.Random(1).randbytes(200_000)
CONTENTS = {
    "root/": b"",
    "root/b.wav": NOISE[:5_000],
    "root/a.wav": bytes(50_000),
    "root/empty": b"",
    "t.csv": b"a,b\n",
}


class Bytes:
    """Bytes in memory, and what was read of them."""

    def __init__(self, content: bytes) -> None:
        self.name, self.content, self.size_bytes = "some.zip", content, len(content)
        self.reads: list[tuple[int, int]] = []

    def read_at(self, offset: int, count: int) -> bytes:
        self.reads.append((offset, count))
        return self.content[offset : offset + count]


def zipped(contents: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED, comment: bytes = b"") -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
        archive.comment = comment
    return stream.getvalue()


def told(entries: list[Entry]) -> list[Any]:
    return [(e.name, e.offset, e.crc32, e.stored_bytes, e.size_bytes, e.method, e.is_dir) for e in entries]


def told_by_zipfile(archive: Path | io.BytesIO) -> list[Any]:
    with zipfile.ZipFile(archive) as opened:
        infos = sorted(opened.infolist(), key=lambda info: info.header_offset)
    return [
        (i.filename, i.header_offset, i.CRC, i.compress_size, i.file_size, i.compress_type, i.is_dir()) for i in infos
    ]


def refusal_of(source: ByteSource) -> str:
    with pytest.raises(ArchiveError) as refusal:
        read_directory(source)
    return str(refusal.value)


# --- What others have written ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [b"", b"#!/bin/sh\nexit\n"], ids=["alone", "behind a program"])
@pytest.mark.parametrize("comment", [b"", b"hello", b"x" * 0xFFFF])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_entries_are_those_of_the_standard_library(method: int, comment: bytes, before: bytes) -> None:
    content = before + zipped(CONTENTS, method, comment)
    assert told(read_directory(Bytes(content))) == told_by_zipfile(io.BytesIO(content))


@settings(max_examples=100, deadline=None)
@given(
    contents=st.dictionaries(
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=30),
        st.binary(max_size=300),
        max_size=20,
    ),
    method=st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]),
    before=st.binary(max_size=50),
)
def test_random_archives_are_read_as_by_the_standard_library(
    contents: dict[str, bytes], method: int, before: bytes
) -> None:
    content = before + zipped(contents, method)
    assert told(read_directory(Bytes(content))) == told_by_zipfile(io.BytesIO(content))


@pytest.mark.parametrize("name", ["Schlagzeug für Anfänger.wav", "鼓.wav", "plain.wav"])
def test_names_are_in_the_encoding_that_the_flag_says(name: str) -> None:
    assert [entry.name for entry in read_directory(Bytes(zipped({name: b"x"})))] == [name]


def test_name_without_the_flag_is_of_the_old_encoding() -> None:
    content = zipped({"aaa.wav": b"x"}).replace(b"aaa.wav", b"\x81\x84\x94.wav")
    assert [entry.name for entry in read_directory(Bytes(content))] == ["üäö.wav"]


def test_member_ends_where_the_next_one_begins() -> None:
    entries = read_directory(Bytes(zipped(CONTENTS)))
    assert [entry.end for entry in entries[:-1]] == [entry.offset for entry in entries[1:]]


def test_last_member_ends_where_the_directory_begins() -> None:
    content = zipped(CONTENTS)
    assert read_directory(Bytes(content))[-1].end == content.index(b"PK\x01\x02")


def test_permissions_are_told() -> None:
    assert read_directory(Bytes(zipped({"a": b""})))[0].unix_mode == 0o600


def test_encryption_is_told() -> None:
    content = bytearray(zipped({"a": b"x"}))
    content[content.index(b"PK\x01\x02") + 8] |= 1
    assert read_directory(Bytes(bytes(content)))[0].is_encrypted


def test_end_within_a_comment_is_no_end() -> None:
    content = zipped(CONTENTS, comment=b"PK\x05\x06" + bytes(18) + b"!")
    assert [entry.name for entry in read_directory(Bytes(content))] == list(CONTENTS)


def test_small_directory_is_read_with_the_tail() -> None:
    source = Bytes(zipped({"a": NOISE}, zipfile.ZIP_STORED))
    read_directory(source)
    assert source.reads == [(source.size_bytes - TAIL_BYTES, TAIL_BYTES)]


def test_large_directory_is_read_as_one_piece() -> None:
    source = Bytes(zipped({f"{i:060}": b"" for i in range(2_000)}))
    read_directory(source)
    assert source.reads[1:] == [(source.content.index(b"PK\x01\x02"), 2_000 * 106)]


def test_empty_archive_has_no_members() -> None:
    assert read_directory(Bytes(zipped({}))) == []


# --- Zip64 -----------------------------------------------------------------------------------------------------------


def test_more_members_than_sixteen_bits_count_are_read() -> None:
    content = zipped({f"{i}": b"" for i in range(70_000)}, zipfile.ZIP_STORED)
    assert len(read_directory(Bytes(content))) == 70_000


@pytest.fixture(scope="module")
def huge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sparse archive: a member of more than 4 GiB, and one behind it."""
    path = tmp_path_factory.mktemp("huge") / "huge.zip"
    size_bytes = 2**32 + 5
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("large", b"")
        archive.writestr("small", b"behind it")
    entries = read_directory(Bytes(stream.getvalue()))
    local = stream.getvalue()
    large = Entry(0, 0, "large", 0, size_bytes, size_bytes, 0, 0, entries[0].record)
    small = Entry(35 + size_bytes, 0, "small", entries[1].crc32, 9, 9, 0, 0, entries[1].record)
    with path.open("wb") as out:
        out.write(local[: entries[1].offset])
        out.seek(small.offset)
        out.write(local[entries[1].offset : entries[1].end])
        write_directory(out, [large, small])
    return path


def test_sizes_beyond_32_bits_are_those_of_the_standard_library(huge: Path) -> None:
    assert told(read_directory(LocalBytes(huge))) == told_by_zipfile(huge)


def test_member_behind_4_gib_is_where_it_says(huge: Path) -> None:
    with zipfile.ZipFile(huge) as archive:
        assert archive.read("small") == b"behind it"


def test_zip64_archive_behind_other_bytes_is_read() -> None:
    content = zipped({f"{i}": b"" for i in range(66_000)}, zipfile.ZIP_STORED)
    assert read_directory(Bytes(b"before" + content))[0].offset == 6


def test_sizes_that_the_standard_library_made_wide_are_read() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive, archive.open("a", "w", force_zip64=True) as member:
        member.write(b"content")
    assert read_directory(Bytes(stream.getvalue()))[0].size_bytes == 7


# --- Archives in several parts ---------------------------------------------------------------------------------------


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    """What Info-ZIP makes of three members of 64 KiB, with parts of 64 KiB."""
    if shutil.which("zip") is None:
        pytest.skip("zip is not installed")
    for name in "abc":
        (tmp_path / name).write_bytes(random.Random(name).randbytes(2**16))
    subprocess.run(["zip", "-0", "-q", "-s", "64k", "some.zip", "a", "b", "c"], cwd=tmp_path, check=True)
    return [*sorted(tmp_path.glob("some.z0*")), tmp_path / "some.zip"]


def content_of(source: ByteSource, entry: Entry) -> bytes:
    header = source.read_at(entry.offset, 30)
    start = entry.offset + 30 + sum(struct.unpack("<2H", header[26:]))
    return source.read_at(start, entry.stored_bytes)


def test_members_of_a_split_archive_are_found(parts: list[Path]) -> None:
    source = SplitBytes(parts)
    entries = read_directory(source, [part.stat().st_size for part in parts])
    found = {entry.name: content_of(source, entry) for entry in entries}
    assert found == {name: random.Random(name).randbytes(2**16) for name in "abc"}


def test_one_part_is_no_archive(parts: list[Path]) -> None:
    assert "expected: an archive in 1 part\n  got: the last of 4" in refusal_of(LocalBytes(parts[-1]))


def test_missing_part_is_noticed(parts: list[Path]) -> None:
    left = [parts[0], *parts[2:]]
    with pytest.raises(ArchiveError, match="expected: an archive in 3 parts\n  got: the last of 4"):
        read_directory(SplitBytes(left), [part.stat().st_size for part in left])


@pytest.mark.parametrize("offset", range(9))
@pytest.mark.parametrize("count", [0, 1, 3, 4, 9, 10**9])
def test_parts_are_read_as_one(offset: int, count: int, tmp_path: Path) -> None:
    for name, content in {"1": b"abc", "2": b"", "3": b"de", "4": b"fgh"}.items():
        (tmp_path / name).write_bytes(content)
    source = SplitBytes([tmp_path / name for name in "1234"])
    assert source.read_at(offset, count) == b"abcdefgh"[offset : offset + count]


# --- Archives that lie -----------------------------------------------------------------------------------------------

END = b"PK\x05\x06"


def at_end(field: int, form: str, value: int) -> Callable[[bytearray], None]:
    return lambda content: struct.pack_into(form, content, content.rindex(END) + field, value)


def in_record(number: int, field: int, form: str, value: int) -> Callable[[bytearray], None]:
    def change(content: bytearray) -> None:
        at = -1
        for _ in range(number + 1):
            at = content.index(b"PK\x01\x02", at + 1)
        struct.pack_into(form, content, at + field, value)

    return change


def first_name(name: bytes) -> Callable[[bytearray], None]:
    return lambda content: content.__setitem__(slice(None), content.replace(b"root/b.wav", name))


LIES: dict[str, tuple[Callable[[bytearray], Any], str]] = {
    "more members than there are": (at_end(10, "<H", 6), "got: 270 bytes for 6 members"),
    "fewer members than there are": (at_end(10, "<H", 4), "expected: 4 members\n  got: 5 in the directory"),
    "directory longer than the archive": (at_end(12, "<L", 2**31), "a directory that lies within"),
    "directory behind its own end": (at_end(16, "<L", 2**31), "a directory that lies within"),
    "directory too short for its members": (at_end(12, "<L", 99), "a directory of a possible size"),
    "later disk": (at_end(4, "<H", 3), "an archive in 1 part"),
    "member on another disk": (in_record(1, 34, "<H", 3), "root/b.wav in one of 1 parts"),
    "member behind the directory": (in_record(1, 42, "<L", 2**31), "root/b.wav in some.zip is damaged"),
    "member over the next one": (in_record(1, 20, "<L", 6_000), "root/b.wav in some.zip is damaged"),
    "member in the place of another": (in_record(2, 42, "<L", 35), "in some.zip is damaged"),
    "wide size without a field": (in_record(1, 24, "<L", 2**32 - 1), "a zip64 field of all that is in it"),
    "name longer than the directory": (in_record(4, 28, "<H", 60_000), "the whole record of"),
    "record that is none": (in_record(1, 0, "<L", 7), "a record in the directory"),
    "NUL in a name": (first_name(b"root/b\0wav"), "got: 'root/b\\x00wav'"),
    "name that is there twice": (
        first_name(b"root/a.wav"),
        "two members of one name\n  expected: unique names\n  got: root/a",
    ),
    "bytes behind the end": (lambda content: content.extend(b"!"), "with its central directory at the end"),
}


@pytest.mark.parametrize("lie", LIES)
def test_lie_is_refused_by_what_is_wrong(lie: str) -> None:
    spoil, fragment = LIES[lie]
    content = bytearray(zipped(CONTENTS, zipfile.ZIP_STORED))
    spoil(content)
    assert fragment in refusal_of(Bytes(bytes(content)))


def test_absurd_sizes_get_no_memory(tmp_path: Path) -> None:
    content = bytearray(zipped({f"{i}": b"" for i in range(66_000)}, zipfile.ZIP_STORED)[-200:])
    at = content.rindex(b"PK\x06\x06")
    struct.pack_into("<4Q", content, at + 24, 2**40, 2**40, 2**60, 2**61)
    (tmp_path / "some.zip").write_bytes(content)
    tracemalloc.start()
    try:
        assert "a directory that lies within" in refusal_of(LocalBytes(tmp_path / "some.zip"))
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damage_anywhere_gives_entries_within_the_archive_or_an_error_of_ours(data: st.DataObject) -> None:
    content = bytearray(zipped({f"root/{i}.wav": NOISE[: 100 * i] for i in range(1, 5)}))
    for _ in range(data.draw(st.integers(1, 4), label="damages")):
        at = data.draw(st.one_of(st.integers(0, len(content) - 1), st.integers(-320, -1)), label="at")
        content[at] = data.draw(st.integers(0, 255), label="byte")
    try:
        entries = read_directory(Bytes(bytes(content)))
    except ArchiveError:
        return
    assert all(0 <= entry.offset + 30 + entry.stored_bytes <= entry.end <= len(content) for entry in entries)


# --- Writing ---------------------------------------------------------------------------------------------------------


def rewritten(content: bytes, names: Collection[str]) -> io.BytesIO:
    """Return an archive of some members of another one, made as fetching members makes it."""
    out, kept = io.BytesIO(), []
    for entry in read_directory(Bytes(content)):
        if entry.name in names:
            kept.append((entry, out.tell()))
            out.write(content[entry.offset : entry.end])
    write_directory(out, [replace(entry, offset=offset) for entry, offset in kept])
    return out


def test_written_directory_is_read_by_the_standard_library() -> None:
    with zipfile.ZipFile(rewritten(zipped(CONTENTS), ["root/a.wav", "t.csv"])) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {
            name: CONTENTS[name] for name in ("root/a.wav", "t.csv")
        }


def test_whole_archive_is_written_again_byte_for_byte() -> None:
    content = zipped(CONTENTS)
    assert rewritten(content, CONTENTS).getvalue() == content


def test_many_members_are_written_so_that_they_can_be_counted() -> None:
    names = {f"{i}" for i in range(70_000)}
    out = rewritten(zipped(dict.fromkeys(names, b""), zipfile.ZIP_STORED), names)
    assert {entry.name for entry in read_directory(Bytes(out.getvalue()))} == names


@pytest.mark.parametrize("name", ["t.csv", "Übung.csv"])
def test_member_that_takes_the_place_of_another_is_read(name: str) -> None:
    entry = read_directory(Bytes(zipped({name: b"a,b\n" * 99})))[0]
    made, content = stored_anew(entry, b"c,d\n")
    out = io.BytesIO()
    out.write(content)
    write_directory(out, [replace(made, offset=0)])
    with zipfile.ZipFile(out) as archive:
        assert (archive.testzip(), archive.read(name)) == (None, b"c,d\n")
