"""The mirror: copies of raw archives in the project's own bucket, which downloads try before they ask the publisher.

An address of the mirror is `mirror://raw/<dataset>/<file>`. It exists in this program alone, never in a record, and is
what messages, notes and partial files say. What is really asked for is signed anew for each attempt, so that a long
download never meets an address that has expired, and nobody sees a signature, which is a key to the file.

- Nothing is asked of anybody where no bucket was chosen, there are no keys, or `configs/cloud.yaml` says not to.
- Of each file that has a hash one question is asked: whether the bucket has it, in the right size. A bucket that does
  not answer or refuses is not asked again, and the publisher is.
- What comes is proven by the record's hash like what comes from anywhere; members by the CRC-32 in the archive.
- Bytes that have come from the publisher already are not thrown away for a fresh start from the mirror.
- What a command takes from the mirror stays within the budget `pull_gb`; the rest comes from the publisher.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from backbeat.datasets.registry import UNVERIFIED, RecordFile, url_scheme
from backbeat.datasets.transport.addresses import Address, resolve
from backbeat.datasets.transport.hashing import MIRROR_SCHEME as SCHEME
from backbeat.datasets.transport.hashing import algorithm_of
from backbeat.datasets.transport.partial import Partial
from backbeat.errors import CloudError

if TYPE_CHECKING:
    from backbeat.remote.bucket import Bucket

# Where the mirror is in the bucket.
ROOT = "mirror"
RAW = "raw"

# The longest that S3 signs an address for: members are fetched from one address all the time.
VALID_S = 7 * 24 * 3600

# How long the question may take whether the mirror has a file; the publisher is there if it does not answer.
QUESTION_TIMEOUT_S = 10.0
QUESTION_TRIES = 2

_log = logging.getLogger(__name__)


class Mirror:
    """The mirror in the bucket of a project, looked for when it is first needed.

    Args:
        project: the root of the repository.
        bucket: where it is; default: what the project's settings and the environment say, if the mirror is wanted.
    """

    def __init__(self, project: Path, bucket: Bucket | None = None) -> None:
        self._project = project
        self._bucket = bucket
        self._is_open = bucket is not None
        self._left_bytes: float = float("inf")
        self._lock = threading.Lock()

    def address_of(self, dataset: str, file: RecordFile, final: Path) -> str | None:
        """Return the address of a file in the mirror; None if it is not to be had there, or not worth it.

        Args:
            dataset: the name of the record.
            file: what the record promises.
            final: where it will be in the staging store; what has arrived of it so far is beside that.
        """
        # Bytes of one's own are nearer, and those without a hash could be anything.
        if file.hash == UNVERIFIED or url_scheme(file.urls[0]) in {"file", "generate"}:
            return None
        url = mirror_url(dataset, file.path)
        origin = Partial(final, algorithm_of(file)).origin()
        if origin is not None and origin.url != url:
            return None
        with self._lock:
            self._open()
            if self._bucket is None:
                return None
            return url if self._has(self._bucket, url, file) else None

    def resolve(self, url: str) -> Address:
        """Return what to ask for to get the bytes of an address, which need not be one of the mirror."""
        if url_scheme(url) != SCHEME or self._bucket is None:
            return resolve(url)
        return Address(self._bucket.presigned_url(key_of(url), VALID_S))

    def _has(self, bucket: Bucket, url: str, file: RecordFile) -> bool:
        try:
            found = bucket.head(key_of(url))
        except CloudError as error:
            _log.warning("the mirror is left out: %s", ": ".join(part for part in (error.what, error.got) if part))
            self._bucket = None
            return False
        if found is None:
            return False
        if found.size_bytes != (file.size or found.size_bytes):
            _log.warning(
                "%s is left out: %s bytes, not %s; see backbeat cloud mirror check",
                url,
                f"{found.size_bytes:,}",
                f"{file.size:,}",
            )
            return False
        if found.size_bytes > self._left_bytes:
            _log.warning("%s is left out: the budget pull_gb in configs/cloud.yaml does not allow it", url)
            return False
        self._left_bytes -= found.size_bytes
        return True

    def _open(self) -> None:
        if self._is_open:
            return
        self._is_open = True
        from backbeat.remote.policy import CLOUD_FILE, GB, load_cloud_config
        from backbeat.remote.settings import load_remote

        if not (self._project / CLOUD_FILE).is_file():
            return
        config = load_cloud_config(self._project)
        if not config.mirror.tried_first:
            return
        try:
            settings = load_remote(self._project)
            # Loading an S3 client takes a while, which is for those who have a bucket.
            from backbeat.remote.bucket import Bucket
            from backbeat.remote.credentials import find_credentials

            credentials = find_credentials(self._project, settings)
        except CloudError:
            return
        timeouts_s = (settings.connect_timeout_s, settings.read_timeout_s)
        connect_s, read_s = (min(limit, QUESTION_TIMEOUT_S) for limit in timeouts_s)
        hasty = replace(settings, connect_timeout_s=connect_s, read_timeout_s=read_s)
        self._bucket = Bucket(hasty, credentials, tries=QUESTION_TRIES)
        if config.budgets.pull_gb is not None:
            self._left_bytes = config.budgets.pull_gb * GB


def mirror_url(dataset: str, path: str) -> str:
    """Return the address in the mirror of a file of a dataset."""
    return f"{SCHEME}://{RAW}/{dataset}/{quote(path)}"


def key_of(url: str) -> str:
    """Return the key in the bucket of an address in the mirror."""
    return f"{ROOT}/{unquote(url.removeprefix(f'{SCHEME}://'))}"
