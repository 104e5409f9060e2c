"""Files with more than one address."""

from __future__ import annotations

from pathlib import Path

import pytest

from backbeat.datasets.transport.partial import part_path
from backbeat.errors import DownloadError
from misbehaving_server import Answer, MisbehavingServer
from one_dataset import BODY, fetched, record_of, staged


def test_mirror_is_asked_when_the_first_address_fails(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url("first.zip"), server.url("mirror.zip"))
    server.script = [Answer(status=404)]
    fetched(project)
    assert [seen.path for seen in server.seen] == ["/first.zip", "/mirror.zip"]


def test_bytes_of_one_address_are_not_continued_from_another(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url("first.zip"), server.url("mirror.zip"))
    server.script = [Answer(drop_after=100_000), Answer(status=404)]
    fetched(project)
    assert [(seen.path, seen.range) for seen in server.seen][2] == ("/mirror.zip", None)


def test_mirror_that_fails_too_keeps_what_the_first_address_gave(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url("first.zip"), server.url("mirror.zip"))
    server.script = [Answer(drop_after=100_000), Answer(status=404), Answer(status=404)]
    with pytest.raises(DownloadError):
        fetched(project)
    assert part_path(staged(project)).read_bytes() == BODY[:100_000]


def test_every_address_that_failed_is_in_the_message(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url("first.zip"), server.url("mirror.zip"))
    server.script = [Answer(status=404), Answer(status=403)]
    with pytest.raises(DownloadError, match=r"(?s)first\.zip: HTTP 404.*mirror\.zip: HTTP 403"):
        fetched(project)
