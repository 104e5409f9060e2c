"""What can be wrong with a bucket, its keys and the way there: how to bring it about, and what is then said.

`tests/test_explain.py` brings each about and compares; the tables of `docs/cloud.md` are made from the same lists.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from unittest import mock

import botocore.session
import pytest

from backbeat.remote.bucket import Bucket, open_bucket
from backbeat.remote.credentials import Credentials, find_credentials
from backbeat.remote.settings import load_remote
from local_server import local_server
from s3_proxy import BROKEN, EXPIRED, SLOW_DOWN, Fault, S3Proxy, refusal
from s3_server import KEY_ID, REPOSITORY, SECRET, point_at
from template_settings import as_template

KEY = "dvc/files/md5/aa/bb"
BODY = bytes(range(256)) * 400
BODY_MD5 = hashlib.md5(BODY).hexdigest()

SEE_CAPS = "cap exceeded. See the Caps & Alerts page to increase your cap."
CAPPED_DOWNLOAD = f"Cannot download file, download bandwidth or transaction (Class B) {SEE_CAPS}"
CAPPED_STORAGE = f"Cannot upload files, storage {SEE_CAPS}"


@dataclass
class Rig:
    """A project whose bucket is behind a proxy that misbehaves."""

    folder: Path
    proxy: S3Proxy

    @property
    def project(self) -> Path:
        return self.folder / "project"

    def bucket(self, *, key_id: str = KEY_ID, secret: str = SECRET, **settings: Any) -> Bucket:
        """Return the bucket with other keys or settings than the right ones."""
        found = load_remote(self.project)
        source = find_credentials(self.project, found).source
        return Bucket(replace(found, **settings), Credentials(key_id, secret, source), tries=1)


@dataclass(frozen=True)
class Failure:
    """Something that is wrong, and what is said about it.

    Args:
        wrong: what is wrong, for the table; also the name of the test.
        bring_about: does something that fails of it.
        what: the error's first line, with ENDPOINT for the address and N for a time-out.
        next_step: what it says to do.
        expected: what it says would be right.
        got: what it says was there.
    """

    wrong: str
    bring_about: Callable[[Rig], object]
    what: str
    next_step: str
    expected: str | None = None
    got: str | None = None


def new_rig(folder: Path, proxy: S3Proxy) -> Rig:
    """Make a project with the template's remote behind `proxy`; its bucket is empty."""
    rig = Rig(folder, proxy)
    (rig.project / ".dvc").mkdir(parents=True)
    for name in ("config", "aws-b2.ini"):
        shutil.copy(REPOSITORY / ".dvc" / name, rig.project / ".dvc" / name)
    as_template(rig.project)
    point_at(rig.project, proxy.endpoint_url)
    return rig


def _listed(bucket: Bucket) -> object:
    return list(bucket.list("dvc/"))


def _put(bucket: Bucket, md5_hex: str = BODY_MD5) -> None:
    bucket.put("dvc/new", BODY, md5_hex)


def _answered(fault: Fault, doing: Callable[[Bucket], object] = _listed) -> Callable[[Rig], object]:
    def bring_about(rig: Rig) -> object:
        rig.proxy.spoil(fault)
        return doing(rig.bucket())

    return bring_about


def _not_allowed(kinds: set[str], doing: Callable[[Bucket], object]) -> Callable[[Rig], object]:
    def bring_about(rig: Rig) -> object:
        rig.proxy.refused = kinds
        return doing(rig.bucket())

    return bring_about


def _without(*names: str) -> Callable[[Rig], object]:
    def bring_about(rig: Rig) -> object:
        for name in names:
            del os.environ[name]
        return open_bucket(rig.project)

    return bring_about


def _clock_off(rig: Rig) -> object:
    rig.proxy.clock_shift_s = 3 * 3600
    return _listed(rig.bucket())


def _hanging(rig: Rig) -> object:
    rig.proxy.hanging = True
    return _listed(rig.bucket(read_timeout_s=0.2))


def _hanging_in_the_middle(rig: Rig) -> object:
    rig.proxy.spoil(Fault(then="hang", after=1000))
    return rig.bucket(read_timeout_s=0.2).read(KEY)


def _never_connected(rig: Rig) -> object:
    with socket.socket() as deaf, contextlib.ExitStack() as stack:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        # The one place in the queue is taken; who comes now waits at the door.
        stack.enter_context(socket.create_connection(deaf.getsockname()))
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        rig.proxy.endpoint_url = url
        return _listed(rig.bucket(endpoint_url=url, connect_timeout_s=0.2))


def _closed_port(rig: Rig) -> object:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        rig.proxy.endpoint_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    return _listed(rig.bucket(endpoint_url=rig.proxy.endpoint_url))


def _plain_http(rig: Rig) -> object:
    rig.proxy.endpoint_url = rig.proxy.endpoint_url.replace("http:", "https:")
    return _listed(rig.bucket(endpoint_url=rig.proxy.endpoint_url))


def _untrusted(rig: Rig) -> object:
    if shutil.which("openssl") is None:
        pytest.skip("a certificate is made by openssl")
    certificate, key = rig.folder / "certificate.pem", rig.folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1", "-days", "1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with local_server(BaseHTTPRequestHandler) as http:
        http.socket = context.wrap_socket(http.socket, server_side=True)
        rig.proxy.endpoint_url = f"https://127.0.0.1:{http.server_port}"
        return _listed(rig.bucket(endpoint_url=rig.proxy.endpoint_url))


def _dead_proxy(rig: Rig) -> object:
    with mock.patch.dict(os.environ, {"HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": "", "no_proxy": ""}):
        return _listed(rig.bucket())


def _defaults(rig: Rig) -> object:
    bucket = rig.bucket()
    session = botocore.session.Session()
    session.set_credentials(KEY_ID, SECRET)
    at = {"region_name": "us-west-004", "endpoint_url": rig.proxy.endpoint_url}
    with mock.patch.object(bucket, "_client", session.create_client("s3", **at)):
        return _put(bucket)


def _shortened(rig: Rig) -> object:
    rig.proxy.spoil(Fault(short_by=10), "GET")
    return rig.bucket().fetch(KEY, rig.folder / "fetched", BODY_MD5)


@contextlib.contextmanager
def small_disk(at: Path, size: str) -> Iterator[Path]:
    """Have a file system of this size at a folder; the test is skipped where that is not allowed."""
    at.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", at], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        yield at
    finally:
        subprocess.run(["umount", at], check=True)


def _full_disk(rig: Rig) -> object:
    with small_disk(rig.folder / "disk", "64k") as disk:
        try:
            return rig.bucket().fetch(KEY, disk / "fetched")
        finally:
            assert not any(disk.iterdir())


def _placeholder(rig: Rig) -> object:
    (rig.project / ".dvc" / "config.local").unlink()
    return open_bucket(rig.project)


B2_KEYS = "B2_ACCOUNT_ID and B2_APPLICATION_KEY"
COMPARE_KEYS = f"compare the keys from {B2_KEYS}, and region and endpointurl in .dvc/config, with the console"
SEE_KEYS = "see .env.example; in a Codespace: add them as secrets, then rebuild"
BOTH_KEYS = f"{B2_KEYS} in the environment, or keys in .dvc/config.local"
NO_BUCKET = "correct the url of remote b2 in .dvc/config (backbeat init does), or make the bucket"
FEWER_JOBS = (
    "the same command again in some minutes; if it stays so, with fewer jobs: dvc remote modify --local b2 jobs 4"
)
CHECKSUMS = (
    "unset AWS_CONFIG_FILE and AWS_REQUEST_CHECKSUM_CALCULATION, which win over the remote's configpath; or add both "
    "lines of .dvc/aws-b2.ini to your own file"
)
AGAIN = "the same command again: it goes on with what is missing"
NEW_KEY = "make a key that may, for the bucket your-bucket: the table of keys in docs/cloud.md"
LIST, READ, WRITE = (
    "cannot list s3://your-bucket/dvc/: ",
    f"cannot read s3://your-bucket/{KEY}: ",
    ("cannot write s3://your-bucket/dvc/new: "),
)
ANOTHER_REGION = "dvc remote modify b2 region eu-central-1; and endpointurl, if it names the region"

FAILURES = [
    Failure(
        "No bucket was chosen yet",
        _placeholder,
        "no bucket was chosen yet",
        "backbeat init; or rehearse without an account: backbeat cloud serve",
        "the url of remote b2 in .dvc/config",
        "the template's s3://your-bucket/dvc",
    ),
    Failure(
        "No keys",
        _without("B2_ACCOUNT_ID", "B2_APPLICATION_KEY"),
        "there are no keys to the bucket",
        SEE_KEYS,
        BOTH_KEYS,
        f"{B2_KEYS} not set",
    ),
    Failure(
        "Half a key",
        _without("B2_APPLICATION_KEY"),
        "there are no keys to the bucket",
        SEE_KEYS,
        BOTH_KEYS,
        "B2_ACCOUNT_ID in the environment, and no B2_APPLICATION_KEY",
    ),
    Failure(
        "A wrong key ID",
        lambda rig: _listed(rig.bucket(key_id="0" * 25)),
        f"{LIST}the service does not know the key, or not in region us-west-004",
        COMPARE_KEYS,
        "a key of the account that has your-bucket, at ENDPOINT",
        "InvalidAccessKeyId",
    ),
    Failure(
        "A wrong region, at Backblaze",
        _answered(refusal(403, "InvalidAccessKeyId", f"The key '{KEY_ID}' is not valid")),
        f"{LIST}the service does not know the key, or not in region us-west-004",
        COMPARE_KEYS,
        "a key of the account that has your-bucket, at ENDPOINT",
        "InvalidAccessKeyId",
    ),
    Failure(
        "The account's master key",
        _answered(refusal(403, "InvalidAccessKeyId", "Malformed Access Key Id")),
        f"{LIST}the key ID is none that S3 takes",
        f"make an application key in Backblaze's console, in place of the keys from {B2_KEYS}",
        "an application key's ID, 25 characters",
        "InvalidAccessKeyId: Malformed Access Key Id; the account's master key looks like this",
    ),
    Failure(
        "A wrong secret",
        lambda rig: _listed(rig.bucket(secret="0" * 31)),
        f"{LIST}the secret key does not belong to the key ID",
        f"compare the keys from {B2_KEYS} with those of one key; if the secret is lost, make a new key",
        "the two parts of one key",
        "SignatureDoesNotMatch",
    ),
    Failure(
        "Keys that have expired",
        _answered(EXPIRED),
        f"{LIST}the keys have expired",
        f"make new keys, in place of those from {B2_KEYS}",
        "keys that are still valid",
        "ExpiredToken",
    ),
    Failure(
        "A wrong region, at Amazon",
        _answered(
            Fault(400, "AuthorizationHeaderMalformed", "the region is wrong", {"Region": "eu-central-1"}),
        ),
        f"{LIST}the bucket is in another region",
        ANOTHER_REGION,
        "region eu-central-1",
        "region us-west-004",
    ),
    Failure(
        "A bucket of another endpoint, at Amazon",
        _answered(Fault(301, "PermanentRedirect", "", headers={"x-amz-bucket-region": "eu-central-1"})),
        f"{LIST}the bucket is in another region",
        ANOTHER_REGION,
        "region eu-central-1",
        "region us-west-004",
    ),
    Failure(
        "No such bucket",
        lambda rig: _listed(rig.bucket(bucket="no-such-bucket")),
        "cannot list s3://no-such-bucket/dvc/: there is no bucket no-such-bucket there",
        NO_BUCKET,
        "a bucket of this account, in region us-west-004",
        "NoSuchBucket",
    ),
    Failure(
        "No such bucket, found out by asking about an object",
        lambda rig: rig.bucket(bucket="no-such-bucket").head(KEY),
        f"cannot look at s3://no-such-bucket/{KEY}: there is no bucket no-such-bucket there",
        NO_BUCKET,
        "a bucket of this account, in region us-west-004",
        "NoSuchBucket",
    ),
    Failure(
        "No such object",
        lambda rig: rig.bucket().read("dvc/none"),
        "cannot read s3://your-bucket/dvc/none: the bucket does not hold it",
        "backbeat cloud push in a clone that has it; see backbeat verify --remote",
        None,
        "NoSuchKey",
    ),
    Failure(
        "A key without listBuckets",
        _answered(refusal(403, "AccessDenied", "Cannot access bucket"), lambda bucket: bucket.read(KEY)),
        f"{READ}the key may not see the bucket",
        NEW_KEY,
        "the right listBuckets",
        "AccessDenied",
    ),
    Failure(
        "A key without listFiles",
        _not_allowed({"LIST"}, _listed),
        f"{LIST}the key may not list",
        NEW_KEY,
        "the right listFiles",
        "AccessDenied",
    ),
    Failure(
        "A key without listFiles, asked about an object that is not there",
        _not_allowed({"LIST", "HEAD"}, lambda bucket: bucket.head("dvc/none")),
        "cannot look at s3://your-bucket/dvc/none: the key may not list",
        NEW_KEY,
        "the right listFiles",
        "AccessDenied",
    ),
    Failure(
        "A key without readFiles",
        _not_allowed({"GET"}, lambda bucket: bucket.read(KEY)),
        f"{READ}the key may not read",
        NEW_KEY,
        "the right readFiles",
        "AccessDenied",
    ),
    Failure(
        "A key without readFiles, asked about an object",
        _not_allowed({"HEAD"}, lambda bucket: bucket.head(KEY)),
        f"cannot look at s3://your-bucket/{KEY}: the key may not read",
        NEW_KEY,
        "the right readFiles",
        "403, with no reason",
    ),
    Failure(
        "A push with the key for pulling",
        _not_allowed({"PUT"}, _put),
        f"{WRITE}the key may not write",
        NEW_KEY,
        "the right writeFiles",
        "AccessDenied",
    ),
    Failure(
        "This machine's clock",
        _clock_off,
        f"{LIST}this machine's clock is 180 minutes behind the service's",
        "set this machine's clock: sudo timedatectl set-ntp true",
        "less than 15 minutes",
    ),
    Failure(
        "The account's cap on downloads",
        _answered(refusal(403, "AccessDenied", CAPPED_DOWNLOAD), lambda bucket: bucket.read(KEY)),
        f"{READ}the account's cap on downloads is reached",
        "raise it in Backblaze's console, on the page Caps & Alerts; or wait: it starts anew at midnight GMT",
        None,
        CAPPED_DOWNLOAD,
    ),
    Failure(
        "The account's cap on storage",
        _answered(refusal(403, "AccessDenied", CAPPED_STORAGE), _put),
        f"{WRITE}the account's cap on storage is reached",
        "raise it in Backblaze's console, on the page Caps & Alerts",
        None,
        CAPPED_STORAGE,
    ),
    Failure(
        "A client with other checksums than the remote's",
        _defaults,
        f"{WRITE}the client sent checksum headers, which the service does not know",
        CHECKSUMS,
        "request_checksum_calculation = when_required, as the configpath of remote b2 has it",
        "a client with its defaults",
    ),
    Failure(
        "Too many requests (503)",
        _answered(SLOW_DOWN),
        f"{LIST}the service is busy, also after several tries",
        FEWER_JOBS,
        None,
        "SlowDown",
    ),
    Failure(
        "Too many requests (429)",
        _answered(refusal(429, "TooManyRequests")),
        f"{LIST}the service is busy, also after several tries",
        FEWER_JOBS,
        None,
        "TooManyRequests",
    ),
    Failure(
        "The service itself",
        _answered(BROKEN),
        f"{LIST}the service failed, also after several tries",
        "the same command again later; Backblaze reports its failures at status.backblaze.com",
        None,
        "InternalError",
    ),
    Failure(
        "No network, or a wrong name",
        lambda rig: _listed(rig.bucket(endpoint_url="https://s3.nowhere.invalid")),
        f"{LIST}no address is known for s3.nowhere.invalid",
        "check the network, and endpointurl in .dvc/config: B2's is https://s3.REGION.backblazeb2.com",
    ),
    Failure(
        "Nobody listens there",
        _closed_port,
        f"{LIST}nothing listens at ENDPOINT",
        "start the rehearsal's server: backbeat cloud serve",
    ),
    Failure(
        "A connection that does not come about",
        _never_connected,
        f"{LIST}no connection to ENDPOINT within N s",
        "check the network, a firewall, and endpointurl in .dvc/config",
    ),
    Failure(
        "A service that accepts and says nothing",
        _hanging,
        f"{LIST}ENDPOINT said nothing for N s",
        AGAIN,
    ),
    Failure(
        "A service that falls silent in the middle",
        _hanging_in_the_middle,
        f"{READ}ENDPOINT said nothing for N s",
        AGAIN,
    ),
    Failure(
        "HTTPS_PROXY or HTTP_PROXY is not what it should be",
        _dead_proxy,
        f"{LIST}the proxy does not answer",
        "check HTTPS_PROXY and NO_PROXY in the environment",
    ),
    Failure(
        "No TLS there",
        _plain_http,
        f"{LIST}there is no secure connection to ENDPOINT",
        "check this machine's clock and certificates, whether a proxy stands in between, and http or https",
        None,
        "wrong_version_number",
    ),
    Failure(
        "A certificate that this machine does not trust",
        _untrusted,
        f"{LIST}there is no secure connection to ENDPOINT",
        "check this machine's clock and certificates, whether a proxy stands in between, and http or https",
        None,
        "certificate verify failed: self-signed certificate",
    ),
    Failure(
        "A connection that is closed in the middle",
        _answered(Fault(then="close", after=1000), lambda bucket: bucket.read(KEY)),
        f"{READ}ENDPOINT ended the connection early",
        AGAIN,
    ),
    Failure(
        "A connection that is reset in the middle",
        _answered(Fault(then="reset", after=1000), lambda bucket: bucket.read(KEY)),
        f"{READ}ENDPOINT ended the connection early",
        AGAIN,
    ),
    Failure(
        "An answer that is too short, and says that it is not",
        _shortened,
        f"{READ}what arrived is not what it should be",
        "the same again; if it stays so: backbeat verify --remote",
        f"MD5 {BODY_MD5}",
        f"MD5 {hashlib.md5(BODY[:-10]).hexdigest()}, 102,390 bytes",
    ),
    Failure(
        "What arrives there is not what was sent",
        lambda rig: _put(rig.bucket(), "0" * 32),
        f"{WRITE}what arrived there is not what was sent",
        "the same command again; if it stays so, the line damages data",
        None,
        "BadDigest",
    ),
    Failure(
        "This machine's disk is full",
        _full_disk,
        "cannot write DISK/fetched",
        "free some space, or move DVC's cache: backbeat storage setup --disk /another/disk",
        "a writable disk with room for it",
        "No space left on device (65,536 bytes free in DISK)",
    ),
]
