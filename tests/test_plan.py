"""What a plan says before anything moves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backbeat.datasets.plan import Plan, plan
from backbeat.datasets.selection import Wish
from backbeat.errors import DownloadError
from misbehaving_server import Answer, MisbehavingServer
from one_dataset import BODY, fetched, record_of

LIES = Wish(("lies",))


def planned(project: Path, **options: Any) -> Plan:
    return plan(project, LIES, **options)


@pytest.mark.parametrize(
    ("url", "action", "to_fetch_bytes"),
    [
        ("https://example.org/archive.zip", "fetch", 300_000),
        ("zenodo://1/archive.zip", "fetch", 300_000),
        ("file:own.zip", "copy", 0),
        ("generate://mini", "make", 0),
        ("manual://a.place", "person", 0),
    ],
)
def test_file_that_is_not_here(url: str, action: str, to_fetch_bytes: int, project: Path) -> None:
    record_of(project, url)
    (file,) = planned(project).files
    assert (file.action, file.to_fetch_bytes) == (action, to_fetch_bytes)


def test_file_that_is_here_is_not_fetched(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    fetched(project)
    (file,) = planned(project).files
    assert (file.action, file.to_fetch_bytes) == ("have", 0)


def test_file_that_is_here_in_part_is_resumed(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    server.script = [Answer(drop_after=100_000), Answer(status=404)]
    with pytest.raises(DownloadError):
        fetched(project)
    (file,) = planned(project).files
    assert (file.action, file.to_fetch_bytes) == ("resume", 200_000)


def test_plan_moves_nothing(project: Path, server: MisbehavingServer) -> None:
    record_of(project, server.url())
    planned(project)
    assert server.seen == []


def test_time_is_that_at_the_given_speed(project: Path) -> None:
    record_of(project, "https://example.org/archive.zip")
    assert planned(project, mbps=8).duration_s == pytest.approx(0.3)


def test_time_is_that_at_the_speed_of_the_last_download(
    project: Path, server: MisbehavingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backbeat.datasets.bandwidth.TELLING_BYTES", len(BODY))
    record_of(project, server.url())
    fetched(project)
    record_of(project, server.url("another.zip"), hash="unverified")
    duration_s = planned(project).duration_s
    assert duration_s is not None
    assert 0 < duration_s < 60


def test_time_is_not_guessed(project: Path) -> None:
    record_of(project, "https://example.org/archive.zip")
    assert planned(project).duration_s is None


def test_approximate_size_stands_in_for_one_that_is_not_published(project: Path) -> None:
    record_of(project, "https://example.org/a", size=None, record={"approximate_size": 5_000})
    assert (planned(project).to_fetch_bytes, planned(project).approximate, planned(project).unknown) == (
        5_000,
        True,
        (),
    )


def test_size_that_nobody_knows_is_said_to_be_unknown(project: Path) -> None:
    record_of(project, "https://example.org/a", size=None, hash="unverified")
    assert planned(project).unknown == ("lies/archive.zip",)


def test_space_that_will_be_left(project: Path) -> None:
    record_of(project, "https://example.org/archive.zip")
    found = planned(project)
    assert found.free_bytes - found.free_after_bytes == len(BODY)


@pytest.mark.parametrize(
    ("license_", "caution"),
    [
        ({"id": "CC-BY-NC-4.0", "commercial": False, "redistribute": True}, "non-commercial"),
        ({"id": "per-item", "commercial": None, "redistribute": False}, "a license for each item"),
        ({"id": "unknown", "commercial": None, "redistribute": False}, "license not stated"),
        ({"id": "X", "commercial": True, "redistribute": False}, "no redistribution"),
    ],
)
def test_license_is_flagged(license_: dict[str, Any], caution: str, project: Path) -> None:
    terms = {"id": license_["id"], "url": "https://example.org", **license_, "note": None}
    ordered = {key: terms[key] for key in ("id", "url", "commercial", "redistribute", "note")}
    record_of(project, "https://example.org/a", record={"license": ordered})
    assert caution in planned(project).cautions["lies"]


def test_what_cannot_be_proven_is_flagged(project: Path) -> None:
    record_of(project, "https://example.org/a", hash="unverified")
    assert planned(project).cautions["lies"] == ("no published hash",)


def test_what_needs_a_person_is_listed(project: Path) -> None:
    record_of(project, "manual://a.place")
    assert [file.source for file in planned(project).by_hand] == ["manual://a.place"]
