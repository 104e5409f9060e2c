"""DVC's messages become Backbeat's; real DVC shows that they are what it prints, and what plain DVC needs at B2."""

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from backbeat.cloud.dvc_errors import explain_dvc
from backbeat.remote.bucket import Bucket
from backbeat.remote.credentials import Credentials
from backbeat.remote.settings import RemoteSettings
from dvc_messages import CHECKSUMS, MESSAGES, NEW_KEY, NO_REASON, Message
from s3_proxy import S3Proxy, s3_proxy
from s3_server import KEY_ID, SECRET, environment, new_repository, point_at, run, s3_server

SETTINGS = RemoteSettings("b2", "your-bucket", "dvc", "http://127.0.0.1:9", "us-west-004")


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.wrong)
def test_a_message_of_dvc_becomes_a_sentence_with_a_next_step(message: Message) -> None:
    assert message.telling in message.printed
    error = explain_dvc(message.printed, 255, SETTINGS, doing="push")
    texts = (error.what, error.expected, error.got, error.next_step)
    assert texts == (f"cannot push: {message.says}", message.expected, message.got, message.next_step)


def test_what_is_missing_because_of_a_refusal_is_not_what_is_said() -> None:
    missing = next(one for one in MESSAGES if "Missing cache files" in one.telling)
    busy = next(one for one in MESSAGES if one.wrong == "Too many requests")
    assert busy.says in explain_dvc(missing.printed + busy.printed, 1, SETTINGS).what


@dataclass
class Clone:
    """A clone with something to push, whose remote is a proxy that refuses checksum headers as B2 does."""

    path: Path
    proxy: S3Proxy

    def dvc(self, verb: str, **variables: str | None) -> subprocess.CompletedProcess[str]:
        given = environment(self.path.parent / "home", {name: text for name, text in variables.items() if text})
        left = {name: text for name, text in given.items() if variables.get(name, text) is not None}
        return run(self.path, "dvc", verb, env=left, check=False)

    def bucket(self, secret: str = SECRET) -> Bucket:
        settings = RemoteSettings("b2", "your-bucket", "dvc", self.proxy.endpoint_url, "us-west-004")
        return Bucket(settings, Credentials(KEY_ID, secret, "a test"), tries=1)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_repository(tmp_path_factory.mktemp("template") / "clone", {"data/x": {"a": b"a" * 999, "b": b"b" * 999}})


@pytest.fixture
def clone(template: Path, tmp_path: Path) -> Iterator[Clone]:
    shutil.copytree(template, tmp_path / "clone", symlinks=True)
    with s3_server(tmp_path / "s3") as server, s3_proxy(server.endpoint_url) as proxy:
        point_at(tmp_path / "clone", proxy.endpoint_url)
        yield Clone(tmp_path / "clone", proxy)


def test_plain_dvc_pushes_and_pulls_with_nothing_but_the_b2_variables(clone: Clone) -> None:
    pushed = clone.dvc("push")
    assert pushed.returncode == 0, pushed.stderr
    shutil.rmtree(clone.path / "data/x")
    shutil.rmtree(clone.path / ".dvc/cache")
    pulled = clone.dvc("pull")
    assert pulled.returncode == 0, pulled.stderr
    assert (clone.path / "data/x/a").read_bytes() == b"a" * 999


def test_a_configuration_of_ones_own_makes_plain_dvc_send_what_b2_refuses(clone: Clone) -> None:
    own = clone.path / "own.ini"
    own.write_text("[default]\n")
    keys = {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET}
    pushed = clone.dvc("push", AWS_CONFIG_FILE=str(own), **keys)
    assert pushed.returncode != 0
    assert clone.proxy.counts["PUT"] > 0
    error = explain_dvc(pushed.stderr, pushed.returncode, SETTINGS)
    assert "checksum headers" in error.what
    assert error.next_step == CHECKSUMS
    # With the lines that the next step names, the same file is good.
    shutil.copy(clone.path / ".dvc" / "aws-b2.ini", own)
    pushed = clone.dvc("push", AWS_CONFIG_FILE=str(own), **keys)
    assert pushed.returncode == 0, pushed.stderr


def test_keys_of_aws_win_over_those_of_b2_in_plain_dvc(clone: Clone) -> None:
    pushed = clone.dvc("push", AWS_ACCESS_KEY_ID="another", AWS_SECRET_ACCESS_KEY="another")
    assert pushed.returncode != 0
    assert clone.proxy.counts["PUT"] == 0
    told = explain_dvc(pushed.stderr, pushed.returncode, SETTINGS)
    assert NO_REASON in told.what
    # Who can ask learns more: a listing's refusal has a reason.
    with_wrong_secret = clone.bucket("another")
    asked = explain_dvc(pushed.stderr, pushed.returncode, with_wrong_secret.settings, with_wrong_secret)
    assert "the secret key does not belong to the key ID" in asked.what
    with_right_keys = clone.bucket()
    asked = explain_dvc(pushed.stderr, pushed.returncode, with_right_keys.settings, with_right_keys)
    assert ("the key may not read" in asked.what, asked.next_step) == (True, NEW_KEY)


def test_no_keys_is_what_plain_dvc_says_too(clone: Clone) -> None:
    pulled = clone.dvc("pull", B2_ACCOUNT_ID=None, B2_APPLICATION_KEY=None)
    error = explain_dvc(pulled.stderr, pulled.returncode, SETTINGS)
    assert "there are no keys" in error.what
    assert error.got == "B2_ACCOUNT_ID not set"


def test_a_missing_bucket_is_found_out_where_dvc_speaks_of_missing_files(clone: Clone) -> None:
    message = next(one for one in MESSAGES if one.wrong.startswith("No such bucket, or nothing"))
    bucket = clone.bucket()
    assert "does not hold all" in explain_dvc(message.printed, 1, bucket.settings, bucket).what
    clone.proxy.heal()
    missing = Bucket(
        RemoteSettings("b2", "missing", "dvc", clone.proxy.endpoint_url, "us-west-004"), bucket.credentials
    )
    assert "there is no bucket missing" in explain_dvc(message.printed, 1, missing.settings, missing).what
