"""Refusals and silences of the bucket, each brought about for real, and the sentences that they become."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from backbeat.errors import BackbeatError
from backbeat.remote.bucket import open_bucket
from backbeat.remote.credentials import child_environment
from bucket_failures import BODY, BODY_MD5, FAILURES, KEY, Failure, Rig, new_rig
from s3_proxy import Fault, S3Proxy, s3_proxy
from s3_server import KEY_ID, SECRET, s3_server


@pytest.fixture(scope="module")
def shared_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Proxy]:
    """A proxy whose bucket has one object, `KEY`."""
    with s3_server(tmp_path_factory.mktemp("s3") / "buckets") as server, s3_proxy(server.endpoint_url) as proxy:
        path = server.bucket / KEY
        path.parent.mkdir(parents=True)
        path.write_bytes(BODY)
        yield proxy


@pytest.fixture
def rig(shared_proxy: S3Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    for name in os.environ:
        if name.startswith(("AWS_", "B2_")) or name.lower() in {"http_proxy", "https_proxy"}:
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("B2_ACCOUNT_ID", KEY_ID)
    monkeypatch.setenv("B2_APPLICATION_KEY", SECRET)
    address = shared_proxy.endpoint_url
    yield new_rig(tmp_path, shared_proxy)
    shared_proxy.heal()
    shared_proxy.endpoint_url = address


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.wrong)
def test_a_failure_has_a_sentence_of_its_own_and_a_next_step(rig: Rig, failure: Failure) -> None:
    with pytest.raises(BackbeatError) as raised:
        failure.bring_about(rig)
    texts = (raised.value.what, raised.value.expected, raised.value.got, raised.value.next_step)
    places = {rig.proxy.endpoint_url: "ENDPOINT", str(rig.folder / "disk"): "DISK", " 0.2 s": " N s"}
    for place, name in places.items():
        texts = tuple(text and text.replace(place, name) for text in texts)
    assert texts == (failure.what, failure.expected, failure.got, failure.next_step)
    assert KEY_ID not in str(raised.value)
    assert SECRET not in str(raised.value)


def test_nothing_is_left_of_what_could_not_be_fetched(rig: Rig) -> None:
    for fault in (Fault(short_by=10), Fault(flip_at=5), Fault(then="close", after=1000)):
        rig.proxy.heal()
        rig.proxy.spoil(fault, "GET")
        with pytest.raises(BackbeatError, match="cannot read"):
            rig.bucket().fetch(KEY, rig.folder / "fetched", BODY_MD5)
    assert [path.name for path in rig.folder.iterdir()] == ["project"]


def test_an_object_that_is_not_there_is_none_and_no_error(rig: Rig) -> None:
    bucket = rig.bucket()
    assert bucket.head("dvc/none") is None
    listings = rig.proxy.counts["LIST"]
    # That the bucket is there is asked once.
    assert bucket.head("dvc/neither") is None
    assert rig.proxy.counts["LIST"] == listings


def test_what_aws_finds_in_the_environment_changes_nothing_for_us_nor_for_programs_that_we_start(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "of-somebody-else")
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_supported")
    bucket = rig.bucket()
    bucket.put("dvc/mine", BODY, BODY_MD5)
    given = child_environment(bucket.credentials, bucket.settings)
    assert {name: text for name, text in given.items() if name.startswith("AWS_")} == {
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_CONFIG_FILE": str(rig.project / ".dvc" / "aws-b2.ini"),
    }


def test_a_pasted_line_end_is_named_before_anybody_is_asked(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("B2_APPLICATION_KEY", f"{SECRET}\n")
    with pytest.raises(BackbeatError, match="B2_APPLICATION_KEY begins or ends with a blank") as raised:
        open_bucket(rig.project)
    assert SECRET not in str(raised.value)


def test_keys_in_the_local_configuration_win_and_are_looked_for_in_pairs(rig: Rig) -> None:
    local = rig.project / ".dvc" / "config.local"
    with local.open("a") as written:
        written.write("    access_key_id = one\n")
    with pytest.raises(BackbeatError, match="no keys") as raised:
        open_bucket(rig.project)
    assert raised.value.got == "access_key_id in .dvc/config.local, and no secret_access_key"
    with local.open("a") as written:
        written.write("    secret_access_key = two\n")
    assert open_bucket(rig.project).credentials.source == ".dvc/config.local"


def test_a_time_out_that_is_no_number_is_named(rig: Rig) -> None:
    with (rig.project / ".dvc" / "config.local").open("a") as written:
        written.write("    read_timeout = soon\n")
    with pytest.raises(BackbeatError, match="read_timeout of a remote"):
        open_bucket(rig.project)


def test_an_address_without_a_scheme_is_named(rig: Rig) -> None:
    local = rig.project / ".dvc" / "config.local"
    local.write_text(
        "['remote \"b2\"']\n    url = s3://somebody/dvc\n    endpointurl = s3.us-west-004.backblazeb2.com\n"
    )
    with pytest.raises(BackbeatError, match="no address") as raised:
        open_bucket(rig.project)
    assert "https://s3.us-west-004.backblazeb2.com" in (raised.value.next_step or "")
