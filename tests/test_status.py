"""How much of a dataset is here, and whether it is right."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from backbeat.datasets.registry import load_record
from backbeat.datasets.status import presence, status
from backbeat.errors import DownloadError
from misbehaving_server import Answer, MisbehavingServer
from one_dataset import OTHER_BODY, fetched, record_of, staged


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


def state(project: Path) -> str:
    return status(project, "lies")[0].text


def test_status_of_a_third_has_the_percentage(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    server.script = [Answer(drop_after=100_000), Answer(status=404)]
    with pytest.raises(DownloadError):
        fetched(project)
    assert state(project) == "partial 33 %"


def test_status_of_what_was_just_proven_has_the_day(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    fetched(project)
    assert re.fullmatch(r"verified on \d{4}-\d\d-\d\d", state(project))


def test_status_of_a_file_of_the_wrong_size_is_corrupt(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    fetched(project)
    os.truncate(staged(project), 10)
    assert state(project) == "corrupt"


def test_status_of_what_the_record_wants_no_more_is_stale(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    fetched(project)
    record_of(project, server.url(), size=len(OTHER_BODY), hash=f"sha256:{'0' * 64}")
    assert state(project) == "stale"


def test_status_of_an_excluded_dataset(project: Path) -> None:
    record_of(project, "https://example.org/a", record={"phase": None, "excluded": "its license"})
    assert state(project) == "excluded"


def test_status_of_the_whole_registry_is_sorted_by_name(project: Path) -> None:
    for name in ("second", "first"):
        record_of(project, "https://example.org/a", name=name)
    assert [line.dataset for line in status(project)] == ["first", "second"]
