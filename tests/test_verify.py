"""Hashing again what is here: all of it, quickly, and on from where a killed run was."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from backbeat.datasets import verify as verifying
from backbeat.datasets.status import status
from backbeat.datasets.verify import verify
from misbehaving_server import MisbehavingServer
from one_dataset import BODY, OTHER_BODY, fetched, record_of, staged


@pytest.mark.parametrize(
    ("content", "changes", "state"),
    [
        pytest.param(None, {}, "ok", id="as promised"),
        pytest.param(OTHER_BODY, {}, "corrupt", id="other bytes"),
        pytest.param(BODY[:-1], {}, "corrupt", id="one byte short"),
        pytest.param(None, {"hash": "unverified"}, "unverified", id="no hash"),
        pytest.param(OTHER_BODY, {"hash": "unverified"}, "corrupt", id="no hash, and not what arrived"),
    ],
)
def test_verify_says(
    content: bytes | None, changes: dict[str, Any], state: str, project: Path, server: MisbehavingServer
) -> None:
    record_of(project, server.url(), **changes)
    fetched(project)
    if content is not None:
        rot(project, content)
    assert [verdict.state for verdict in verify(project, "lies")] == [state]


def test_verify_says_what_is_absent(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    assert [verdict.state for verdict in verify(project, "lies")] == ["absent"]


def test_quick_believes_the_last_hash_of_an_untouched_file(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    fetched(project)
    rot(project, OTHER_BODY)
    assert [verdict.state for verdict in verify(project, "lies", quick=True)] == ["ok"]


def test_quick_does_not_believe_it_of_a_touched_file(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    fetched(project)
    os.utime(staged(project))
    assert [verdict.state for verdict in verify(project, "lies", quick=True)] == ["unchecked"]


def test_verified_file_has_the_day_in_its_status(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    fetched(project)
    os.utime(staged(project))
    before = status(project, "lies")[0].state
    verify(project, "lies")
    assert (before, status(project, "lies")[0].state) == ("present", "verified")


def test_corrupt_file_is_corrupt_in_its_status(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    fetched(project)
    rot(project, OTHER_BODY)
    verify(project, "lies")
    assert status(project, "lies")[0].state == "corrupt"


def test_run_that_died_goes_on_with_the_files_it_had_not_done(
    project: Path, server: MisbehavingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("lies", "others"):
        record_of(project, server.url(f"{name}.zip"), name=name, hash="unverified")
        fetched(project, name)
    hash_file, hashed = verifying.hash_file, []

    def dies_at_the_second(path: Path, *rest: Any) -> str:
        hashed.append(path)
        if len(hashed) == 2:
            raise KeyboardInterrupt
        return hash_file(path, *rest)

    monkeypatch.setattr(verifying, "hash_file", dies_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        verify(project, "lies", "others", jobs=1)
    verdicts = verify(project, "lies", "others", jobs=1)
    assert [verdict.state for verdict in verdicts] == ["unverified", "unverified"]
    assert hashed == [hashed[0], hashed[1], hashed[1]]


def test_run_after_a_complete_one_hashes_everything_again(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    fetched(project)
    verify(project, "lies")
    rot(project, OTHER_BODY)
    assert [verdict.state for verdict in verify(project, "lies")] == ["corrupt"]


def rot(project: Path, content: bytes) -> None:
    """Change the bytes under an unchanged time, as a disk does."""
    stat = staged(project).stat()
    staged(project).write_bytes(content)
    os.utime(staged(project), ns=(stat.st_atime_ns, stat.st_mtime_ns))
