"""What the bucket costs, as it is and as it would be."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.stub import Stubber
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from backbeat.cli.cloud import app
from backbeat.cloud.cost import Stored, Wish, cost, look, plan
from backbeat.cloud.prices import GB, load_cloud_config
from backbeat.remote.bucket import Bucket, open_bucket
from backbeat.remote.credentials import Credentials
from backbeat.remote.settings import RemoteSettings
from mirrored import bucket_project
from s3_server import REPOSITORY, run, s3_server
from template_settings import as_template

PRICES = load_cloud_config(REPOSITORY).prices
CONTENTS = {"dvc/files/md5/ab/cd": 500, "mirror/raw/egmd/e-gmd.zip": 4000, "backups/one.json": 30, "notes.txt": 2}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project whose bucket holds `CONTENTS`."""
    folder = tmp_path_factory.mktemp("cost")
    with pytest.MonkeyPatch.context() as patch, s3_server(folder / "s3") as s3:
        project = bucket_project(folder, s3.endpoint_url, patch)
        for key, size_bytes in CONTENTS.items():
            content = b"x" * size_bytes
            open_bucket(project).put(key, content, hashlib.md5(content).hexdigest())
        run(project, "git", "init", "--quiet")
        yield project


def test_parts_of_the_bucket_are_counted_apart(project: Path) -> None:
    present = cost(project, Wish()).present
    assert present is not None
    assert present.parts == (
        Stored("mirror", 1, 4000),
        Stored("DVC", 1, 500),
        Stored("backups", 1, 30),
        Stored("other", 1, 2),
    )
    assert (present.size_bytes, present.free_left_bytes) == (4532, 10 * GB - 4532)


def test_versions_that_are_hidden_are_a_part_of_the_bill() -> None:
    bucket = Bucket(RemoteSettings("b2", "mine", "dvc", "http://127.0.0.1:9", "here"), Credentials("k", "s", "a test"))
    versions = [
        {"Key": "dvc/a", "Size": 7, "IsLatest": True, "VersionId": "2"},
        {"Key": "dvc/a", "Size": 40 * GB, "IsLatest": False, "VersionId": "1"},
    ]
    with Stubber(bucket.client) as stub:
        stub.add_response("list_object_versions", {"Versions": versions, "IsTruncated": False}, {"Bucket": "mine"})
        present = look(PRICES, bucket)
    assert present.parts == (Stored("hidden versions", 1, 40 * GB), Stored("DVC", 1, 7))
    assert present.usd_per_month == pytest.approx(30 / 1000 * PRICES.storage_usd_per_tb_month)


def test_key_that_may_not_list_versions_is_told_that_they_are_not_counted() -> None:
    bucket = Bucket(RemoteSettings("b2", "mine", "dvc", "http://127.0.0.1:9", "here"), Credentials("k", "s", "a test"))
    with Stubber(bucket.client) as stub:
        stub.add_client_error("list_object_versions", "AccessDenied", http_status_code=403)
        stub.add_response("list_objects_v2", {"Contents": [{"Key": "dvc/a", "Size": 7}], "IsTruncated": False})
        present = look(PRICES, bucket)
    assert (present.hidden_seen, present.parts) == (False, (Stored("DVC", 1, 7),))


def test_month_of_codespaces_is_priced_by_hand() -> None:
    # 20 GB stored: 10 are billed. 5 machines, 4 pulls of 8 GB: 160 GB leave, 60 are free.
    found = plan(PRICES, Wish(stored_gb=20, codespaces=5, pulls_per_month=4, pull_gb=8), 0, 0)
    assert (found.storage_usd, found.egress_usd) == (pytest.approx(0.0695), pytest.approx(1.00))
    assert found.usd_per_month == pytest.approx(1.0695)
    assert found.reads == 20 * 159


@given(st.floats(0, 1e5), st.integers(0, 100), st.integers(0, 100), st.floats(0, 1e4), st.integers(1, 10))
def test_more_of_anything_that_moves_never_costs_less(
    stored: float, codespaces: int, pulls: int, pull: float, more: int
) -> None:
    before = plan(PRICES, Wish(stored, codespaces, pulls, pull), 0, 0)
    for wish in (
        Wish(stored, codespaces + more, pulls, pull),
        Wish(stored, codespaces, pulls + more, pull),
        Wish(stored, codespaces, pulls, pull + more),
    ):
        assert plan(PRICES, wish, 0, 0).usd_per_month >= before.usd_per_month >= 0


def test_what_is_not_said_is_what_there_is() -> None:
    found = plan(PRICES, Wish(codespaces=2, pulls_per_month=3), 5 * GB, GB)
    assert (found.stored_bytes, found.egress_bytes) == (5 * GB, 6 * GB)


def test_plan_is_priced_without_a_bucket(project: Path, tmp_path: Path) -> None:
    for name in (".dvc/config", "configs/cloud.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text((REPOSITORY / name).read_text())
    as_template(tmp_path)
    run(tmp_path, "git", "init", "--quiet")
    found = cost(tmp_path, Wish(stored_gb=1010))
    assert found.present is None
    assert "no bucket was chosen" in (found.unseen or "")
    assert found.planned.storage_usd == pytest.approx(6.95)


def test_old_price_list_is_said_to_be_old(project: Path) -> None:
    day = PRICES.as_of
    assert not cost(project, Wish(), today=day).outdated
    assert cost(project, Wish(), today=day + dt.timedelta(days=400)).outdated


def test_table_fits_80_columns_and_names_the_date_of_the_prices(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    done = CliRunner().invoke(app, ["cost", "--stored-gb", "123456", "--codespaces", "1234", "--pull-gb", "96.4"])
    assert done.exit_code == 0, done.output
    assert max(map(len, done.output.splitlines())) <= 80
    assert f"prices of {PRICES.as_of}" in done.stdout


def test_json_has_the_sums(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    values = json.loads(CliRunner().invoke(app, ["cost", "--stored-gb", "1010", "--json"]).stdout)
    assert values["planned_usd_per_month"] == pytest.approx(6.95)
    assert [part["what"] for part in values["present"]["parts"]] == ["mirror", "DVC", "backups", "other"]
