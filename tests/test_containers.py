"""One reader for tars, zips, zips in parts and plain files; damage never passes for the end."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from backbeat.datasets.packed.containers import dataset_items, iterate
from backbeat.errors import ArchiveError, DownloadError
from one_dataset import new_project, record_of, staged

# More than one piece of a mebibyte, and nothing that compresses away.
LARGE = bytes(range(256)) * 6_000
FILES = {"folder/b.wav": b"second name, first place", "a.wav": LARGE, "folder/empty.txt": b""}

COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    ".tar": bytes,
    ".tar.gz": gzip.compress,
    ".tar.bz2": bz2.compress,
    ".tar.xz": lzma.compress,
}


def tar_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(_folder("folder"))
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def _folder(name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = tarfile.DIRTYPE
    return info


def zip_of(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("folder/", b"")
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def read_all(path: Path) -> list[bytes]:
    with contextlib.closing(iterate(path)) as items:
        return [item.read() for item in items]


ARCHIVES = {f"x{suffix}": compress(tar_of(FILES)) for suffix, compress in COMPRESSIONS.items()} | {
    "x.zip": zip_of(FILES),
    "stored.zip": zip_of(FILES, zipfile.ZIP_STORED),
}


@pytest.fixture(params=ARCHIVES)
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / request.param
    path.write_bytes(ARCHIVES[request.param])
    return path


def test_items_come_in_the_order_of_the_archive_with_their_bytes(archive: Path) -> None:
    assert [(item.name, item.read()) for item in iterate(archive)] == list(FILES.items())


def test_items_say_their_size_before_they_are_read(archive: Path) -> None:
    assert [item.size_bytes for item in iterate(archive)] == [len(content) for content in FILES.values()]


def test_items_need_not_be_read(archive: Path) -> None:
    assert [item.name for item in iterate(archive)] == list(FILES)


def test_head_is_the_beginning(archive: Path) -> None:
    assert [item.head(10) for item in iterate(archive)] == [content[:10] for content in FILES.values()]


def test_head_takes_nothing_from_what_is_read_then(archive: Path) -> None:
    for item in iterate(archive):
        item.head(3)
        item.head(12)
        assert item.read() == FILES[item.name]


def test_cut_archive_is_an_error(archive: Path) -> None:
    content = archive.read_bytes()
    archive.write_bytes(content[: len(content) // 2])
    with pytest.raises(ArchiveError):
        read_all(archive)


def test_archive_without_its_last_kilobyte_is_an_error(archive: Path) -> None:
    content = archive.read_bytes()
    # Of a plain tar that is padding; its end is two blocks of zeros before that.
    archive.write_bytes(content[: -1024 if archive.suffix != ".tar" else -tarfile.RECORDSIZE])
    with pytest.raises(ArchiveError):
        read_all(archive)


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("name", [name for name in ARCHIVES if name != "x.tar"])
def test_flipped_bit_is_an_error(name: str, place: float, tmp_path: Path) -> None:
    content = bytearray(ARCHIVES[name])
    content[int(len(content) * place)] ^= 0x10
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ArchiveError):
        read_all(tmp_path / name)


def test_flipped_bit_in_a_header_of_a_tar_is_not_its_end(tmp_path: Path) -> None:
    content = bytearray(tar_of(FILES))
    content[content.index(b"a.wav")] ^= 1
    (tmp_path / "x.tar").write_bytes(content)
    with pytest.raises(ArchiveError, match=r"after folder/b\.wav"):
        list(iterate(tmp_path / "x.tar"))


def test_content_behind_the_end_of_a_tar_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(tar_of(FILES) + tar_of(FILES))
    with pytest.raises(ArchiveError, match="damaged"):
        list(iterate(tmp_path / "x.tar"))


def test_error_names_member_and_place(tmp_path: Path) -> None:
    content = bytearray(zip_of({"first": b"1" * 50, "second": b"2" * 50}, zipfile.ZIP_STORED))
    content[content.index(b"2222")] ^= 1
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(ArchiveError, match=r"second at byte \d+ of x\.zip"):
        read_all(tmp_path / "x.zip")


def test_unknown_compression_in_a_zip_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(zip_of(FILES, zipfile.ZIP_BZIP2))
    with pytest.raises(ArchiveError) as error:
        read_all(tmp_path / "x.zip")
    assert error.value.got == "compression method 12"


def test_header_of_a_tar_cannot_make_room_for_what_is_not_there(tmp_path: Path) -> None:
    info = tarfile.TarInfo("long name")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2**40
    (tmp_path / "x.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + b"x" * 1024)
    with pytest.raises(ArchiveError) as error:
        list(iterate(tmp_path / "x.tar"))
    assert error.value.got == f"a header announces {2**40:,} bytes"


def test_links_in_a_tar_are_no_items(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo(f"link {kind!r}")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    assert list(iterate(tmp_path / "x.tar")) == []


def test_item_of_a_tar_that_has_gone_by_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(tar_of(FILES))
    items = list(iterate(tmp_path / "x.tar"))
    with pytest.raises(ValueError, match="gone by"):
        items[0].read()


def test_any_other_file_is_one_item(tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(LARGE)
    assert [(item.name, item.read()) for item in iterate(tmp_path / "x.npy")] == [("x.npy", LARGE)]


def test_archive_in_an_archive_stays_closed(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(tar_of({"inner.zip": zip_of(FILES)}))
    assert [item.name for item in iterate(tmp_path / "x.tar")] == ["inner.zip"]


# --- Zips in parts ---------------------------------------------------------------------------------------------------


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    if shutil.which("zip") is None:
        pytest.skip("needs Info-ZIP's `zip` to make an archive in parts")
    (tmp_path / "in").mkdir()
    for name, content in {"a.wav": LARGE, "b.wav": LARGE[::-1], "c.wav": b"small"}.items():
        (tmp_path / "in" / name).write_bytes(content)
    subprocess.run(
        ["zip", "-q", "-0", "-s", "1m", "../x.zip", "a.wav", "b.wav", "c.wav"], cwd=tmp_path / "in", check=True
    )
    shutil.rmtree(tmp_path / "in")
    return sorted(tmp_path.glob("x.z*"))


def test_zip_in_parts_is_one_archive(parts: list[Path]) -> None:
    assert len(parts) == 3
    items = [(item.name, item.read()) for item in iterate(parts[-1])]
    assert items == [("a.wav", LARGE), ("b.wav", LARGE[::-1]), ("c.wav", b"small")]


def test_zip_without_one_of_its_parts_is_an_error(parts: list[Path]) -> None:
    parts[0].unlink()
    with pytest.raises(ArchiveError):
        read_all(parts[-1])


def test_part_of_a_zip_is_no_archive(parts: list[Path]) -> None:
    with pytest.raises(ArchiveError, match="one part"):
        list(iterate(parts[0]))


def test_parts_of_a_dataset_are_read_once_wherever_they_are_staged(parts: list[Path], tmp_path: Path) -> None:
    project = new_project(tmp_path)
    files = [{"path": part.name, "urls": [f"file://{part}"], "size": None, "hash": "unverified"} for part in parts]
    record_of(project, "https://example.org/unused")
    _replace_files(project, files)
    raw = project / "data/raw/lies"
    raw.mkdir(parents=True)
    for part in parts:
        part.rename(raw / part.name)
    assert [item.name for item in dataset_items(project, "lies")] == ["a.wav", "b.wav", "c.wav"]


def _replace_files(project: Path, files: list[dict[str, object]]) -> None:
    import yaml

    path = project / "configs/datasets/lies.yaml"
    record = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(record | {"files": files}, sort_keys=False))


# --- Datasets --------------------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return new_project(tmp_path)


def test_staged_dataset_is_read(project: Path) -> None:
    record_of(project, "https://example.org/x", path="sounds/x.tar.gz")
    staged(project).parent.mkdir(parents=True)
    staged(project).write_bytes(ARCHIVES["x.tar.gz"])
    assert [item.name for item in dataset_items(project, "lies")] == list(FILES)


def test_pulled_dataset_is_read(project: Path) -> None:
    record_of(project, "https://example.org/x", path="sounds/x.tar.gz")
    (project / "data/raw/lies/sounds").mkdir(parents=True)
    (project / "data/raw/lies/sounds/x.tar.gz").write_bytes(ARCHIVES["x.tar.gz"])
    assert [item.name for item in dataset_items(project, "lies")] == list(FILES)


def test_absent_dataset_says_what_to_type(project: Path) -> None:
    record_of(project, "https://example.org/x")
    with pytest.raises(DownloadError, match="backbeat datasets download lies"):
        dataset_items(project, "lies")
