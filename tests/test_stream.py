"""Streams: the items of a dataset that is not here, one by one, and nothing is written."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import random
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from backbeat.datasets.packed.items import Item
from backbeat.datasets.stream import stream
from backbeat.errors import ArchiveError, ConfigError, DownloadError
from misbehaving_server import Answer, MisbehavingServer, misbehaving_server
from one_dataset import HASTY, OTHER_BODY, record_of, staged

FILES = {f"set/{number}.wav": random.Random(number).randbytes(20_000) for number in range(20)}


def _tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in FILES.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return gzip.compress(buffer.getvalue())


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
    return buffer.getvalue()


TAR, ZIP = _tar(), _zip()


@pytest.fixture
def server() -> Iterator[MisbehavingServer]:
    with misbehaving_server(TAR) as running:
        yield running


def record_at(project: Path, server: MisbehavingServer, path: str, body: bytes, **changes: Any) -> None:
    server.body = body
    promise = {"size": len(body), "hash": f"sha256:{hashlib.sha256(body).hexdigest()}"}
    record_of(project, server.url(path), path=path, **promise | changes)


def streamed(project: Path) -> list[tuple[str, bytes]]:
    return [(item.name, item.read()) for item in items(project)]


@contextlib.contextmanager
def _closing(project: Path) -> Iterator[Iterator[Item]]:
    with contextlib.closing(stream(project, "lies", patience=HASTY)) as found:
        yield found


def items(project: Path) -> Iterator[Item]:
    with _closing(project) as found:
        yield from found


def everything(project: Path) -> list[str]:
    return [path.name for path in (project / ".dvc").rglob("*")]


# --- Tars ------------------------------------------------------------------------------------------------------------


def test_remote_tar_comes_in_one_request(project: Path, server: MisbehavingServer) -> None:
    record_at(project, server, "x.tar.gz", TAR)
    assert streamed(project) == list(FILES.items())
    assert server.ranges() == [None]


def test_nothing_is_written(project: Path, server: MisbehavingServer) -> None:
    record_at(project, server, "x.tar.gz", TAR)
    streamed(project)
    assert everything(project) == []


def test_whoever_stops_early_hangs_up(project: Path, server: MisbehavingServer) -> None:
    record_at(project, server, "x.tar.gz", TAR)
    with _closing(project) as found:
        assert next(found).head(5) == FILES["set/0.wav"][:5]


@pytest.mark.parametrize("drops", [[100_000], [1, 200_000, 0]], ids=["once", "three times"])
def test_dropped_connection_goes_on_where_it_broke(project: Path, server: MisbehavingServer, drops: list[int]) -> None:
    record_at(project, server, "x.tar.gz", TAR)
    server.script = [Answer(drop_after=drop) for drop in drops]
    assert streamed(project) == list(FILES.items())
    assert server.ranges()[1] == f"bytes={drops[0]}-"


def test_refusal_with_retry_after_is_tried_again(project: Path, server: MisbehavingServer) -> None:
    record_at(project, server, "x.tar.gz", TAR)
    server.script = [Answer(status=503, headers={"Retry-After": "0"})]
    assert streamed(project) == list(FILES.items())


NOT_STREAMED: dict[str, list[Answer]] = {
    "file changed in between": [Answer(drop_after=100_000), Answer(body=OTHER_BODY)],
    "file changed in between, and a server that does not care": [
        Answer(drop_after=100_000),
        Answer(body=OTHER_BODY, ignore_if_range=True),
    ],
    "ranges ignored": [Answer(drop_after=100_000), Answer(ignore_range=True)],
    "no validator": [Answer(drop_after=100_000, headers={"ETag": None})],
    "weak validator": [Answer(drop_after=100_000, headers={"ETag": 'W/"1"'})],
    "range that begins elsewhere": [
        Answer(drop_after=100_000),
        Answer(headers={"Content-Range": f"bytes 99999-{len(TAR) - 1}/{len(TAR)}"}),
    ],
    "always dropped at the same byte": [Answer(drop_after=100_000), *[Answer(drop_after=0)] * 10],
    "page of HTML": [Answer(headers={"Content-Type": "text/html"})],
    "another size": [Answer(body=OTHER_BODY)],
    "not there": [Answer(status=404)],
}


@pytest.mark.parametrize("script", NOT_STREAMED.values(), ids=NOT_STREAMED)
def test_server_that_lies_ends_the_stream(project: Path, server: MisbehavingServer, script: list[Answer]) -> None:
    # Without a hash, which would notice all of them at the end.
    record_at(project, server, "x.tar.gz", TAR, hash="unverified")
    server.script = list(script)
    with pytest.raises(DownloadError):
        streamed(project)


def test_wrong_hash_is_found_at_the_end(project: Path, server: MisbehavingServer) -> None:
    record_at(project, server, "x.tar.gz", TAR, hash=f"sha256:{'0' * 64}")
    with pytest.raises(DownloadError, match="cannot be streamed"):
        streamed(project)


def test_damaged_tar_is_an_error(project: Path, server: MisbehavingServer) -> None:
    record_at(project, server, "x.tar.gz", TAR[:-100], hash="unverified")
    with pytest.raises(ArchiveError):
        streamed(project)


def test_mirror_is_asked_when_the_first_address_has_nothing(project: Path, server: MisbehavingServer) -> None:
    server.body = TAR
    server.pages = {"/gone": Answer(status=404)}
    size = {"size": len(TAR), "hash": "unverified"}
    record_of(project, server.url("gone"), server.url("x.tar.gz"), path="x.tar.gz", **size)
    assert streamed(project) == list(FILES.items())


REDIRECT = Answer(status=302, headers={"Location": "http://127.0.0.1:9/x.tar.gz?X-Amz-Signature=canary"})


def test_message_does_not_show_where_a_redirect_was_signed_to(
    project: Path, server: MisbehavingServer, caplog: pytest.LogCaptureFixture
) -> None:
    record_at(project, server, "x.tar.gz", TAR)
    server.script = [REDIRECT] * 20
    with pytest.raises(DownloadError) as failure:
        streamed(project)
    assert "canary" not in f"{failure.value}\n{caplog.text}"


GZIP: dict[str, str | None] = {"Content-Encoding": "gzip"}


@pytest.mark.parametrize("before", [[], [Answer(drop_after=100_000)]], ids=["at once", "after a cut"])
def test_compressed_body_that_nothing_could_prove_is_refused(
    before: list[Answer], project: Path, server: MisbehavingServer
) -> None:
    record_at(project, server, "x.npy", TAR, size=None, hash="unverified")
    server.script = [*before, Answer(headers=GZIP)]
    with pytest.raises(DownloadError, match=r"the server sends it compressed \(gzip\)"):
        streamed(project)


def test_packed_file_that_a_server_calls_compressed_is_itself(project: Path, server: MisbehavingServer) -> None:
    record_at(project, server, "x.tar.gz", TAR, hash="unverified")
    server.script = [Answer(headers=GZIP)]
    assert streamed(project) == list(FILES.items())


# --- Zips ------------------------------------------------------------------------------------------------------------


def test_remote_zip_is_read_by_ranges(project: Path, server: MisbehavingServer) -> None:
    record_at(project, server, "x.zip", ZIP)
    assert streamed(project) == list(FILES.items())
    assert None not in server.ranges()


def test_listing_a_remote_zip_reads_its_directory_only(project: Path, server: MisbehavingServer) -> None:
    record_at(project, server, "x.zip", ZIP)
    assert [item.name for item in items(project)] == list(FILES)
    assert len(server.seen) == 1


def test_neighbors_in_a_zip_come_together(project: Path, server: MisbehavingServer) -> None:
    record_at(project, server, "x.zip", ZIP)
    streamed(project)
    assert len(server.seen) <= 4


def test_members_of_the_record_apply(project: Path, server: MisbehavingServer) -> None:
    record_at(project, server, "x.zip", ZIP, members={"names": ["*/7.wav", "*/12.wav"]})
    assert streamed(project) == [(name, FILES[name]) for name in ("set/7.wav", "set/12.wav")]


def test_flipped_bit_in_a_zip_is_an_error(project: Path, server: MisbehavingServer) -> None:
    record_at(project, server, "x.zip", ZIP[:5_000] + bytes([ZIP[5_000] ^ 1]) + ZIP[5_001:])
    with pytest.raises(ArchiveError, match="damaged"):
        streamed(project)


def test_zip_in_parts_is_read_over_all_of_them(project: Path, server: MisbehavingServer) -> None:
    content = bytearray(ZIP)
    end = len(content) - 22
    # Two parts, the directory in the second: all offsets count from the beginning of their part.
    cut = content.index(b"set/10.wav") - 30
    directory = content.index(b"PK\x01\x02")
    at = directory
    while at < end:
        offset = int.from_bytes(content[at + 42 : at + 46], "little")
        if offset >= cut:
            content[at + 34 : at + 36] = (1).to_bytes(2, "little")
            content[at + 42 : at + 46] = (offset - cut).to_bytes(4, "little")
        at += 46 + int.from_bytes(content[at + 28 : at + 30], "little")
    content[end + 4 : end + 8] = b"\1\0\1\0"
    content[end + 16 : end + 20] = (directory - cut).to_bytes(4, "little")
    with misbehaving_server(bytes(content[cut:])) as second:
        record_at(project, server, "x.z01", bytes(content[:cut]))
        path = project / "configs/datasets/lies.yaml"
        record = yaml.safe_load(path.read_text())
        record["files"].append(
            {"path": "x.zip", "urls": [second.url("x.zip")], "size": len(content) - cut, "hash": "unverified"}
        )
        path.write_text(yaml.safe_dump(record, sort_keys=False))
        assert streamed(project) == list(FILES.items())


# --- Everything else -------------------------------------------------------------------------------------------------


def test_remote_file_is_one_item(project: Path, server: MisbehavingServer) -> None:
    record_at(project, server, "x.npy", TAR)
    assert streamed(project) == [("x.npy", TAR)]


def test_dataset_that_is_here_is_read_from_here(project: Path, server: MisbehavingServer) -> None:
    record_at(project, server, "x.tar.gz", TAR)
    staged(project).parent.mkdir(parents=True)
    staged(project).write_bytes(TAR)
    assert streamed(project) == list(FILES.items())
    assert server.seen == []


def test_copy_of_ones_own_is_read_in_place(project: Path) -> None:
    (project / "mine.tar.gz").write_bytes(TAR)
    record_of(project, "file:mine.tar.gz", path="x.tar.gz", size=len(TAR), hash="unverified")
    assert streamed(project) == list(FILES.items())


@pytest.mark.parametrize("url", ["manual://a/form", "generate://mini"])
def test_what_no_server_has_cannot_be_streamed(project: Path, url: str) -> None:
    record_of(project, url, path="x.zip", size=None)
    with pytest.raises(DownloadError, match="an address that starts with"):
        streamed(project)


def test_excluded_dataset_is_not_streamed(project: Path) -> None:
    record_of(project, "https://example.org/x.tar")
    path = project / "configs/datasets/lies.yaml"
    path.write_text(
        path.read_text()
        .replace("homepage:", "excluded: its license\nhomepage:")
        .replace("phase: minimal", "phase: null")
    )
    with pytest.raises(ConfigError, match="excluded"):
        streamed(project)
