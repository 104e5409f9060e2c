"""The proxy does what the other tests count on: nothing at all until it is told, and then exactly that."""

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

import botocore.session
import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

import s3_proxy
from backbeat.errors import CloudError
from backbeat.remote.bucket import Bucket
from backbeat.remote.credentials import Credentials
from backbeat.remote.settings import RemoteSettings
from s3_proxy import DENIED, Fault, S3Proxy
from s3_server import KEY_ID, SECRET, S3Server, s3_server

BODY = bytes(range(256)) * 800
MD5 = hashlib.md5(BODY).hexdigest()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3") / "buckets") as running:
        yield running


@pytest.fixture
def proxy(server: S3Server) -> Iterator[S3Proxy]:
    with s3_proxy.s3_proxy(server.endpoint_url) as running:
        yield running


def bucket(proxy: S3Proxy, read_timeout_s: float = 20) -> Bucket:
    settings = RemoteSettings("b2", "your-bucket", "", proxy.endpoint_url, "us-west-004", read_timeout_s=read_timeout_s)
    return Bucket(settings, Credentials(KEY_ID, SECRET, "a test"), tries=1)


def test_without_switches_everything_goes_through_and_is_counted(proxy: S3Proxy) -> None:
    asking = bucket(proxy)
    asking.put("a/one", BODY, MD5)
    assert asking.read("a/one") == BODY
    found = asking.head("a/one")
    assert found is not None
    assert (found.size_bytes, found.etag) == (len(BODY), MD5)
    assert [one.key for one in asking.list("a/")] == ["a/one"]
    asking.client.delete_object(Bucket="your-bucket", Key="a/one")
    assert proxy.counts == {"PUT": 1, "GET": 1, "HEAD": 1, "LIST": 1, "DELETE": 1}
    assert proxy.methods["GET"] == 2
    assert proxy.up_bytes == len(BODY)
    assert proxy.down_bytes > len(BODY)


def test_bodies_in_chunks_with_trailing_checksums_go_through_and_are_refused_like_b2(
    proxy: S3Proxy, server: S3Server, tmp_path: Path
) -> None:
    session = botocore.session.Session()
    session.set_credentials(KEY_ID, SECRET)
    by_default = session.create_client("s3", region_name="us-west-004", endpoint_url=proxy.endpoint_url)
    path = tmp_path / "body"
    path.write_bytes(BODY)
    with path.open("rb") as body, pytest.raises(ClientError, match="Unsupported header 'x-amz-"):
        by_default.put_object(Bucket="your-bucket", Key="chunked", Body=body)
    proxy.like_b2 = False
    with path.open("rb") as body:
        by_default.put_object(Bucket="your-bucket", Key="chunked", Body=body)
    assert (server.bucket / "chunked").read_bytes() == BODY


def test_a_put_that_is_cut_stores_nothing_and_one_whose_answer_is_lost_everything(
    proxy: S3Proxy, server: S3Server
) -> None:
    asking = bucket(proxy)
    for name, after in (("cut", 70_000), ("lost", len(BODY))):
        proxy.heal()
        proxy.spoil(Fault(then="reset", after=after), "PUT")
        with pytest.raises(CloudError):
            asking.put(name, BODY, MD5)
    proxy.heal()
    assert (asking.head("cut"), asking.head("lost") is None) == (None, False)


def test_what_arrives_is_wrong_in_the_one_place_that_was_named(proxy: S3Proxy) -> None:
    asking = bucket(proxy)
    asking.put("flip", BODY, MD5)
    proxy.spoil(Fault(flip_at=70_000), "GET", key="flip", first=1, times=1)
    answers = [asking.read("flip") for _ in range(3)]
    assert [answer == BODY for answer in answers] == [True, False, True]
    assert [place for place in range(len(BODY)) if answers[1][place] != BODY[place]] == [70_000]
    proxy.spoil(Fault(short_by=9), "GET")
    assert asking.read("flip") == BODY[:-9]


def test_what_is_refused_is_not_done(proxy: S3Proxy, server: S3Server) -> None:
    asking = bucket(proxy)
    asking.put("kept", BODY, MD5)
    proxy.refused = {"DELETE"}
    with pytest.raises(ClientError, match="AccessDenied"):
        asking.client.delete_object(Bucket="your-bucket", Key="kept")
    proxy.heal()
    assert asking.head("kept") is not None
    proxy.rules.append(lambda asked: DENIED if asked.kind == "PUT" and asked.seen >= 1 else None)
    asking.put("twice", BODY, MD5)
    with pytest.raises(CloudError, match="may not write"):
        asking.put("twice", BODY, MD5)


def test_what_hangs_is_let_go(proxy: S3Proxy) -> None:
    proxy.hanging = True
    impatient = bucket(proxy, read_timeout_s=0.1)
    with pytest.raises(CloudError) as raised:
        impatient.read("none")
    assert isinstance(raised.value.__cause__, ReadTimeoutError)
    proxy.heal()
    assert bucket(proxy).head("none") is None


def test_a_narrow_line_is_shared_by_all_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    slept: list[float] = []
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(time, "sleep", slept.append)
    line = s3_proxy._Line()
    for _ in range(3):
        line.wait(500, 1000.0)
    line.wait(500, None)
    # Nobody's clock went on: the third waits for what the two before it take.
    assert slept == [0.5, 1.0, 1.5]
