"""Extraction is all or nothing: what is crafted to do harm leaves no file, inside the folder or outside of it."""

from __future__ import annotations

import gzip
import io
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import unicodedata
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from backbeat.datasets.download import download
from backbeat.datasets.packed.extraction import extract, unpacked
from backbeat.datasets.packed.extraction_rules import name_fault
from backbeat.datasets.registry import Unpack, load_record
from backbeat.errors import ArchiveError, StorageError
from backbeat.storage.staging import open_staging
from one_dataset import new_project, record_of, wait_for

LIMITS = Unpack(members=10, bytes=10_000)
FILES = {"set/a.wav": b"a" * 3_000, "set/inner.zip": b"PK not looked into", "b.txt": b""}


def tar_of(*members: tuple[str, bytes] | tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return buffer.getvalue()


def zip_of(*members: tuple[str, bytes], mode: int = 0o100644) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of one name twice: that is what is wanted
        for name, content in members:
            info = zipfile.ZipInfo("name")
            info.filename = name
            info.create_system, info.external_attr, info.compress_type = 3, mode << 16, zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return buffer.getvalue()


def special(kind: bytes, name: str = "x", target: str = "target") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def overlapping() -> bytes:
    """Two members of the directory that are the same bytes of the archive."""
    content = bytearray(zip_of(("a.txt", b"a" * 500), ("b.txt", b"a" * 500)))
    second = content.rindex(b"PK\x01\x02")
    content[second + 42 : second + 46] = struct.pack("<L", 0)
    return bytes(content)


def lying_about_sizes() -> bytes:
    """A member of 5,000 bytes that is said to have 10."""
    content = bytearray(zip_of(("a.txt", b"a" * 5_000)))
    directory = content.index(b"PK\x01\x02")
    content[directory + 24 : directory + 28] = struct.pack("<L", 10)
    return bytes(content)


def with_method(method: int) -> bytes:
    content = bytearray(zip_of(("a.txt", b"a" * 500)))
    directory = content.index(b"PK\x01\x02")
    content[directory + 10 : directory + 12] = struct.pack("<H", method)
    return bytes(content)


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


BAD_NAMES = {
    "19 parent folder": "../evil.txt",
    "19 parent folder further in": "a/../../evil.txt",
    "19 absolute": "/tmp/evil.txt",
    "19 drive": "C:/evil.txt",
    "19 drive without slash": "c:evil.txt",
    "19 backslash": "..\\evil.txt",
    "19 empty part": "a//evil.txt",
    "24 control character": "a\x1b[2Jb.txt",
    "24 line end": "a\nb.txt",
    "24 text turned around": "a\u202etxt.exe",
    "24 256 bytes": "x" * 256,
    "24 1,025 bytes": "/".join(["x" * 200] * 6),
    "24 reserved": "set/NUL",
    "24 reserved with an ending": "com1.wav",
    "25 git hook": ".git/hooks/post-checkout",
    "25 git in capitals": "a/.GIT/config",
    "25 dvc configuration": ".dvc/config",
    "25 dvc pipeline": "set/dvc.yaml",
    "25 dvc file": "set/x.dvc",
    "25 git attributes": "set/.gitattributes",
}

# What an archive of either kind must not hold.
BAD_MEMBERS: dict[str, list[tuple[str, bytes]]] = {name: [(bad, b"evil")] for name, bad in BAD_NAMES.items()} | {
    "22 one name twice": [("a.txt", b"1"), ("a.txt", b"2")],
    "22 file and folder of one name": [("a", b"1"), ("a/b.txt", b"2")],
    "22 folder and file of one name": [("a/b.txt", b"2"), ("a", b"1")],
    "23 names that differ in case": [("a.txt", b"1"), ("A.txt", b"2")],
    "23 folders that differ in case": [("a/1.txt", b"1"), ("A/2.txt", b"2")],
    "23 names that differ in Unicode form": [
        (unicodedata.normalize("NFC", "é.txt"), b"1"),
        (unicodedata.normalize("NFD", "é.txt"), b"2"),
    ],
    "23 sharp s": [("straße.txt", b"1"), ("STRASSE.txt", b"2")],
    "26 too many files": [(f"{number}.txt", b"") for number in range(LIMITS.members + 1)],
    "26 too many bytes": [("a.txt", b"a" * LIMITS.bytes), ("b.txt", b"b")],
    "26 too many folders": [("/".join("x" * 200), b"")],
}

BAD_TARS = {
    "20 symbolic link": tar_of(special(tarfile.SYMTYPE)),
    "20 hard link": tar_of(("target", b"1"), special(tarfile.LNKTYPE)),
    "20 pipe": tar_of(special(tarfile.FIFOTYPE)),
    "20 device": tar_of(special(tarfile.CHRTYPE)),
    "21 written through a link": tar_of(special(tarfile.SYMTYPE, "out", "/tmp"), ("out/evil.txt", b"evil")),
    "21 deep links": tar_of(
        special(tarfile.SYMTYPE, "a/b/c/escape", "../../../.."), ("a/b/c/escape/evil.txt", b"evil")
    ),
    "26 bomb": gzip.compress(tar_of(("a.txt", bytes(5_000_000)))),
    "26 folders without end": tar_of(*(special(tarfile.DIRTYPE, f"{number}") for number in range(200))),
    "27 cut off": tar_of(("a.txt", b"a" * 5_000))[:3_000],
    "27 header damaged": flipped(tar_of(("a.txt", b"a"), ("b.txt", b"b")), 1024),
    "27 checksum of gzip": flipped(gzip.compress(tar_of(("a.txt", os.urandom(2_000)))), -6),
}

BAD_ZIPS = {
    "20 symbolic link": zip_of(("x", b"/etc/passwd"), mode=0o120777),
    "20 device": zip_of(("x", b""), mode=0o020666),
    "24 NUL": zip_of(("aXb.txt", b"1")).replace(b"aXb.txt", b"a\0b.txt"),
    "26 ratio": zip_of(("a.txt", bytes(5_000_000))),
    "26 overlapping members": overlapping(),
    "26 sizes that lie": lying_about_sizes(),
    "27 cut off": zip_of(("a.txt", b"a" * 500))[:-30],
    "27 wrong CRC": zip_of(("a.txt", b"a" * 500)).replace(struct.pack("<L", zlib.crc32(b"a" * 500)), b"0000"),
    "27 content damaged": flipped(zip_of(("a.txt", os.urandom(500))), 200),
    "27 wrong compression": with_method(0),
    "27 unknown compression": with_method(99),
}


def _cases() -> list[object]:
    both = {
        f"{name}, {suffix}": (f"x{suffix}", make(*members))
        for name, members in BAD_MEMBERS.items()
        for suffix, make in ((".tar", tar_of), (".zip", zip_of))
    }
    tars = {f"{name}, .tar": ("x.tar.gz", content) for name, content in BAD_TARS.items()}
    zips = {f"{name}, .zip": ("x.zip", content) for name, content in BAD_ZIPS.items()}
    return [pytest.param(*case, id=name) for name, case in (both | tars | zips).items()]


@pytest.mark.parametrize(("name", "content"), _cases())
def test_refused_archive_leaves_nothing(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    (tmp_path / "inside").mkdir()
    with pytest.raises(ArchiveError):
        extract(tmp_path / name, tmp_path / "inside" / "out", LIMITS)
    assert {path.name for path in tmp_path.rglob("*")} == {name, "inside"}


@pytest.mark.parametrize("name", BAD_NAMES.values())
def test_each_bad_name_has_a_fault_of_its_own(name: str) -> None:
    assert name_fault(name) is not None


@pytest.mark.parametrize("name", ["a.wav", "R.E.M/Übung №1 (live)~.mid", ".DS_Store", "x" * 255, "con-brio/aux1.wav"])
def test_ordinary_name_has_no_fault(name: str) -> None:
    assert name_fault(name) is None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.tar", tar_of(special(tarfile.DIRTYPE, "set"), *FILES.items())),
        ("x.tar.gz", gzip.compress(tar_of(*FILES.items()))),
        ("x.tar", tar_of(special(tarfile.DIRTYPE, "./"), *((f"./{name}", body) for name, body in FILES.items()))),
        ("x.zip", zip_of(*FILES.items())),
    ],
    ids=["tar", "tar.gz", "tar of .", "zip"],
)
def test_everything_comes_out(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    extracted = extract(tmp_path / name, tmp_path / "out", LIMITS)
    assert {name: (tmp_path / "out" / name).read_bytes() for name in extracted.names} == FILES


def test_as_much_as_declared_comes_out(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(tar_of(("a.txt", b"a" * LIMITS.bytes)))
    assert extract(tmp_path / "x.tar", tmp_path / "out", LIMITS).size_bytes == LIMITS.bytes


def test_archive_in_an_archive_stays_closed(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(zip_of(("inner.zip", zip_of(("evil.txt", b"1")))))
    assert extract(tmp_path / "x.zip", tmp_path / "out", LIMITS).names == ("inner.zip",)


def test_files_are_ordinary_files(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(zip_of(("run.sh", b"1"), mode=0o104777))
    extract(tmp_path / "x.zip", tmp_path / "out", LIMITS)
    assert (tmp_path / "out/run.sh").stat().st_mode & 0o7133 == 0


def test_folder_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(tar_of(*FILES.items()))
    (tmp_path / "out").mkdir()
    with pytest.raises(StorageError):
        extract(tmp_path / "x.tar", tmp_path / "out", LIMITS)


@pytest.mark.parametrize(
    "meddle",
    [
        pytest.param(lambda out: (out / "b.txt").unlink(), id="29 file missing"),
        pytest.param(lambda out: (out / "more.txt").touch(), id="29 file too many"),
        pytest.param(lambda out: (out / "set/a.wav").write_bytes(b"b" * 3_000), id="29 other bytes"),
    ],
)
def test_what_is_on_the_disk_is_compared(
    meddle: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from backbeat.datasets.packed import extraction

    verify = extraction._verify

    def meddled(folder: Path, *others: object) -> None:
        meddle(folder)
        verify(folder, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(extraction, "_verify", meddled)
    (tmp_path / "x.tar").write_bytes(tar_of(*FILES.items()))
    with pytest.raises(ArchiveError, match="1 of 3 files"):
        extract(tmp_path / "x.tar", tmp_path / "out", LIMITS)


def test_killed_extraction_leaves_a_part_that_the_next_one_replaces(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(tar_of(*((f"{number}.txt", b"x") for number in range(10))))
    hang = "import time, backbeat.datasets.packed.extraction as e; e._verify = lambda *_: time.sleep(60);"
    call = "from pathlib import Path; e.extract(Path('x.tar'), Path('out'), e.Unpack(members=10, bytes=100))"
    with subprocess.Popen([sys.executable, "-c", hang + call], cwd=tmp_path) as child:
        wait_for((tmp_path / "out.part/9.txt").exists)
        child.send_signal(signal.SIGKILL)
    assert not (tmp_path / "out").exists()
    (tmp_path / "out.part/stray").touch()
    extract(tmp_path / "x.tar", tmp_path / "out", LIMITS)
    assert {path.name for path in tmp_path.iterdir()} == {"x.tar", "out"}


# --- For a dataset ---------------------------------------------------------------------------------------------------


def _unpacked(project: Path, content: bytes) -> dict[str, Path]:
    record_of(project, "https://example.org/x", path="audio/x.tar", unpack={"members": 10, "bytes": 10_000})
    record = load_record(project, "lies")
    archive = project / "staged.tar"
    archive.write_bytes(content)
    return unpacked(open_staging(project), record, record.files[0], archive)


def test_unpacked_files_are_named_beside_their_archive(tmp_path: Path) -> None:
    found = _unpacked(new_project(tmp_path), tar_of(*FILES.items()))
    assert {name: path.read_bytes() for name, path in found.items()} == {f"audio/{name}": FILES[name] for name in FILES}


def test_archive_is_unpacked_once(tmp_path: Path) -> None:
    project = new_project(tmp_path)
    first = _unpacked(project, tar_of(*FILES.items()))
    assert _unpacked(project, b"no archive any more") == first


@pytest.mark.skipif(shutil.which("zip") is None, reason="needs Info-ZIP's `zip` to make an archive in parts")
def test_zip_in_parts_is_unpacked_instead_of_linked(tmp_path: Path) -> None:
    project = new_project(tmp_path)
    content = random.Random(1).randbytes(150_000)
    (project / "sound.bin").write_bytes(content)
    subprocess.run(["zip", "-q", "-s", "64k", "x.zip", "sound.bin"], cwd=project, check=True)
    paths = ["x.z01", "x.z02", "x.zip"]
    files = [{"path": path, "urls": [f"file:{path}"], "size": None, "hash": "unverified"} for path in paths]
    files[-1]["unpack"] = {"members": 1, "bytes": 150_000}
    record_of(project, "file:x.zip", record={"files": files})
    download(project, "lies")
    folder = project / "data/raw/lies"
    assert [(path.name, path.read_bytes()) for path in folder.iterdir()] == [("sound.bin", content)]
