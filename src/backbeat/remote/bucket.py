"""A bucket over S3: list, look, read, fetch, put. Nothing here deletes."""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from backbeat.errors import CloudError
from backbeat.remote.credentials import Credentials, find_credentials, redacted
from backbeat.remote.explain import explain
from backbeat.remote.settings import RemoteSettings, load_remote
from backbeat.storage.staging import new_file

# As many as DVC opens.
CONNECTIONS = 10

# The first try and those after it; botocore waits up to 20 s between two.
TRIES = 5

BLOCK_BYTES = 2**20


@dataclass(frozen=True)
class StoredObject:
    """What a listing says about an object.

    Args:
        key: its whole name in the bucket.
        size_bytes: its size.
        etag: the MD5 of its content in hexadecimal, if it was sent in one piece; else something else.
    """

    key: str
    size_bytes: int
    etag: str


class Bucket:
    """A bucket, with the keys to it."""

    def __init__(self, settings: RemoteSettings, credentials: Credentials, *, tries: int = TRIES) -> None:
        self.settings = settings
        self.credentials = credentials
        self._client = _client(settings, credentials, tries)
        self._was_listed = False

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """Yield every object whose key begins with `prefix`, a thousand for each request, in the order of keys.

        Raises:
            CloudError: if the bucket cannot be listed, with the reason.
        """
        with self._explained(f"list s3://{self.settings.bucket}/{prefix}"):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.settings.bucket, Prefix=prefix)
            for page in pages:
                self._was_listed = True
                for entry in page.get("Contents", ()):
                    yield StoredObject(entry["Key"], int(entry["Size"]), entry.get("ETag", "").strip('"'))

    def head(self, key: str) -> StoredObject | None:
        """Return what is known of an object; None if there is none.

        Raises:
            CloudError: if the service does not answer, or refuses.
        """
        doing = f"look at {self._url(key)}"
        with self._explained(doing):
            try:
                answer = self._client.head_object(Bucket=self.settings.bucket, Key=key)
            except ClientError as error:
                status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
                # The answer to a HEAD has no body that says why: without the right to list, a missing object is
                # refused, and in a bucket that is not there every object is missing.
                if status in {400, 403} or (status == 404 and not self._was_listed):
                    self.require_listing(doing)
                if status == 404:
                    return None
                raise
            return StoredObject(key, int(answer["ContentLength"]), answer.get("ETag", "").strip('"'))

    def require_listing(self, doing: str) -> None:
        """Ask for one name, to learn whether this bucket is there and these keys are good.

        Args:
            doing: what this is needed for, as it continues `cannot …`.

        Raises:
            CloudError: if it cannot be listed, with the reason.
        """
        with self._explained(doing):
            self._client.list_objects_v2(Bucket=self.settings.bucket, Prefix=self.settings.prefix, MaxKeys=1)
        self._was_listed = True

    def read(self, key: str) -> bytes:
        """Return the content of a small object.

        Raises:
            CloudError: if there is none, or it cannot be read.
        """
        with self._explained(f"read {self._url(key)}"):
            return bytes(self._client.get_object(Bucket=self.settings.bucket, Key=key)["Body"].read())

    def md5(self, key: str) -> str:
        """Return the MD5 of an object's content in hexadecimal, after reading all of it.

        Raises:
            CloudError: if there is none, or it cannot be read.
        """
        digest = hashlib.md5(usedforsecurity=False)
        with self._explained(f"read {self._url(key)}"):
            body = self._client.get_object(Bucket=self.settings.bucket, Key=key)["Body"]
            for block in iter(lambda: body.read(BLOCK_BYTES), b""):
                digest.update(block)
        return digest.hexdigest()

    def fetch(self, key: str, to: Path, md5_hex: str | None = None) -> str:
        """Write the content of an object to a file, which is there when all of it is; return its MD5.

        Args:
            key: the object.
            to: the file; nothing is left there if the object cannot be read.
            md5_hex: the MD5 that it must have, in hexadecimal; None takes what comes.

        Raises:
            CloudError: if there is none, it cannot be read, or it is not what it must be.
            StorageError: if the disk is full.
        """
        digest = hashlib.md5(usedforsecurity=False)
        with new_file(to) as part, self._explained(f"read {self._url(key)}"):
            body = self._client.get_object(Bucket=self.settings.bucket, Key=key)["Body"]
            with part.open("wb") as written:
                for block in iter(lambda: body.read(BLOCK_BYTES), b""):
                    digest.update(block)
                    written.write(block)
            if md5_hex not in {None, digest.hexdigest()}:
                raise CloudError(
                    f"cannot read {self._url(key)}: what arrived is not what it should be",
                    expected=f"MD5 {md5_hex}",
                    got=f"MD5 {digest.hexdigest()}, {part.stat().st_size:,} bytes",
                    next_step="the same again; if it stays so: backbeat verify --remote",
                )
        return digest.hexdigest()

    def put(self, key: str, content: Path | bytes, md5_hex: str) -> None:
        """Write an object in one piece; the service refuses it if what arrives has another MD5.

        Raises:
            CloudError: if it is refused, with the reason.
        """
        check = base64.b64encode(bytes.fromhex(md5_hex)).decode()
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._explained(f"write {self._url(key)}"))
            body = content if isinstance(content, bytes) else stack.enter_context(content.open("rb"))
            self._client.put_object(Bucket=self.settings.bucket, Key=key, Body=body, ContentMD5=check)

    def presigned_url(self, key: str, valid_s: int) -> str:
        """Return an address at which anybody can read this one object for `valid_s` seconds."""
        return str(
            self._client.generate_presigned_url(
                "get_object", Params={"Bucket": self.settings.bucket, "Key": key}, ExpiresIn=valid_s
            )
        )

    @property
    def client(self) -> Any:
        """The S3 client of botocore, for what one command alone asks of a bucket."""
        return self._client

    def _url(self, key: str) -> str:
        return f"s3://{self.settings.bucket}/{key}"

    @contextlib.contextmanager
    def _explained(self, doing: str) -> Iterator[None]:
        try:
            yield
        # Bodies are read through urllib3, whose errors botocore does not always wrap.
        except (ClientError, BotoCoreError, HTTPError) as error:
            explained = explain(error, self.settings, doing, self.credentials.source)
            # A service's own sentence may hold the key's identifier.
            if explained.got is not None:
                explained.got = redacted(explained.got, self.credentials)
            raise explained from error


def open_bucket(project: Path, name: str | None = None, *, tries: int = TRIES) -> Bucket:
    """Return the bucket of a remote, by default of DVC's default remote; nothing is asked of it yet.

    Raises:
        CloudError: if no bucket was chosen, or there are no keys.
    """
    settings = load_remote(project, name)
    return Bucket(settings, find_credentials(project, settings), tries=tries)


def _client(settings: RemoteSettings, credentials: Credentials, tries: int) -> Any:
    # Nothing from ~/.aws or AWS_PROFILE: what this client does is what the remote's settings say.
    session = botocore.session.Session(session_vars={"profile": (None, None, None, None)})
    session.set_config_variable("config_file", str(settings.config_path or ""))
    session.set_config_variable("credentials_file", "")
    session.set_credentials(credentials.key_id, credentials.secret, credentials.token)
    return session.create_client(
        "s3",
        region_name=settings.region,
        endpoint_url=settings.endpoint_url,
        config=Config(
            connect_timeout=settings.connect_timeout_s,
            read_timeout=settings.read_timeout_s,
            max_pool_connections=CONNECTIONS,
            retries={"total_max_attempts": tries, "mode": "standard"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
