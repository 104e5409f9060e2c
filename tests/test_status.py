"""How much of a dataset is here, and whether it is right."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backbeat.datasets.registry import load_record
from backbeat.datasets.status import presence, verify
from backbeat.errors import DownloadError
from misbehaving_server import Answer, MisbehavingServer, misbehaving_server
from one_dataset import BODY, OTHER_BODY, fetched, new_project, record_of, staged


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return new_project(tmp_path)


@pytest.fixture
def server() -> Iterator[MisbehavingServer]:
    with misbehaving_server(BODY) as running:
        yield running


def test_nothing_is_absent(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    assert str(presence(project, load_record(project, "lies"))) == "absent"


def test_a_third_is_partial(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    server.script = [Answer(drop_after=100_000), Answer(status=404)]
    with pytest.raises(DownloadError):
        fetched(project)
    assert str(presence(project, load_record(project, "lies"))) == "partial 33 %"


def test_everything_is_present(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    fetched(project)
    assert str(presence(project, load_record(project, "lies"))) == "present"


@pytest.mark.parametrize(
    ("content", "changes", "state"),
    [
        pytest.param(None, {}, "ok", id="as promised"),
        pytest.param(OTHER_BODY, {}, "corrupt", id="other bytes"),
        pytest.param(BODY[:-1], {}, "corrupt", id="one byte short"),
        pytest.param(None, {"hash": "unverified"}, "unverified", id="no hash"),
    ],
)
def test_verify_says(
    content: bytes | None, changes: dict[str, Any], state: str, project: Path, server: MisbehavingServer
) -> None:
    record_of(project, server.url(), **changes)
    fetched(project)
    if content is not None:
        staged(project).write_bytes(content)
    assert [verdict.state for verdict in verify(project, "lies")] == [state]


def test_verify_says_what_is_absent(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    assert [verdict.state for verdict in verify(project, "lies")] == ["absent"]
