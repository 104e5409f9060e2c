"""What `backbeat doctor` asks the S3 service: is it there, what does its clock say, what may this key, what is kept."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from typing import Any

import requests
from botocore.exceptions import BotoCoreError, ClientError

from backbeat.cloud.doctor_bucket import is_b2
from backbeat.cloud.examination import Line, line_of
from backbeat.errors import CloudError
from backbeat.remote.bucket import Bucket
from backbeat.remote.explain import explain
from backbeat.remote.settings import RemoteSettings

# The one object that trying leaves in the bucket where the key may write and, as it should be, not delete.
PROBE = ".backbeat/doctor"
_CONTENT = b"Written by `backbeat doctor` to see what its key may do. Nothing needs this object.\n"

# S3 services refuse signatures that are older or younger than this.
MOST_SKEW_S = 15 * 60
_SUSPECT_SKEW_S = 5 * 60

_CONNECT_S, _ANSWER_S = 5.0, 10.0

# These refuse the key itself, not what it was used for.
_NO_KEYS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "RequestTimeTooSkewed", "ExpiredToken"}

_PUSH_KEY = "to push: a key with listBuckets, listFiles, readFiles, writeFiles, as the table in docs/cloud.md says"

_LIFECYCLE_STEP = "at Backblaze, the bucket's Lifecycle Settings: keep only the last version of the file"


def endpoint(settings: RemoteSettings) -> Iterator[Line]:
    """Does the service answer at all, and is its clock ours? Asked without keys: any answer will do."""
    url = settings.endpoint_url or f"https://s3.{settings.region}.amazonaws.com"
    try:
        answer = requests.head(url, timeout=(_CONNECT_S, _ANSWER_S), allow_redirects=False)
    except requests.exceptions.SSLError:
        step = "check the system's certificates, and whether a proxy stands in between"
        yield Line("service", "fails", f"{url} has a certificate that this machine does not trust", step)
        return
    except requests.exceptions.RequestException as error:
        step = "check the network, a proxy, and endpointurl in .dvc/config; without network: --offline"
        yield Line("service", "fails", f"{url} does not answer ({type(error).__name__})", step)
        return
    now = dt.datetime.now(dt.UTC)
    yield Line("service", "ok", f"{url} answers")
    yield from _clock(answer.headers.get("Date"), now)


def explained(look: Callable[[Bucket], Iterator[Line]], bucket: Bucket) -> Iterator[Line]:
    """Yield what a check yields, with the service's refusals and silences as sentences.

    Raises:
        CloudError: for those.
    """
    try:
        yield from look(bucket)
    except (ClientError, BotoCoreError) as error:
        raise explain(error, bucket.settings, f"examine {bucket.settings.url}") from error


def listing(bucket: Bucket) -> Iterator[Line]:
    """May this key list? Without that every pull fails, with a message that speaks of something else."""
    first = next(iter(bucket.list(bucket.settings.key("files/md5/"))), None)
    held = "holds objects of DVC" if first else "holds no object of DVC yet"
    yield Line("list", "ok", f"{bucket.settings.url} can be listed, and {held}")


def rights(bucket: Bucket) -> Iterator[Line]:
    """May this key write, overwrite, read and, which it should not, delete? Tried with one small object."""
    key = bucket.settings.key(PROBE)
    try:
        # The first time twice: writing what is not there yet says nothing about overwriting.
        versions = [_write(bucket, key) for _ in range(1 if _is_there(bucket, key) else 2)]
    except ClientError as error:
        if _status(error) != 403 or _code(error) in _NO_KEYS:
            raise
        yield Line("write", "warning", "this key may not write: right for pulling, too little for a push", _PUSH_KEY)
        yield from _reading(bucket)
        return
    yield Line("write", "ok", f"this key may write and overwrite ({PROBE})")
    if bucket.read(key) == _CONTENT:
        yield Line("read", "ok", "what was written is what is read")
    else:
        yield Line("read", "fails", f"{PROBE} comes back with other bytes than were written", "ask the service why")
    yield from _deleting(bucket, key, versions)


def lifecycle(bucket: Bucket) -> Iterator[Line]:
    """Is there a rule for what was overwritten or hidden, and is billed until somebody removes it?"""
    try:
        rules = bucket.client.get_bucket_lifecycle_configuration(Bucket=bucket.settings.bucket).get("Rules", [])
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") != "NoSuchLifecycleConfiguration":
            yield Line("lifecycle", "warning", f"cannot be seen with this key ({_code(error)})", _LIFECYCLE_STEP)
            return
        rules = []
    ours = [rule for rule in rules if rule.get("Status") == "Enabled" and _covers(rule, bucket.settings.prefix)]
    missing = [] if any("NoncurrentVersionExpiration" in rule for rule in ours) else ["hidden versions are kept"]
    if not any("AbortIncompleteMultipartUpload" in rule for rule in ours):
        missing.append("unfinished large files are kept")
    if missing:
        found = f"{' and '.join(missing)}, and billed, for good"
        step = f"{_LIFECYCLE_STEP}; and a rule that cancels unfinished large files"
        yield Line("lifecycle", "warning", found, step)
    else:
        yield Line("lifecycle", "ok", "hidden versions and unfinished large files are removed")


def versioning(bucket: Bucket) -> Iterator[Line]:
    """Can what a mistake overwrote be had back?"""
    if is_b2(bucket.settings):
        yield Line("versions", "ok", "always kept at Backblaze, until the lifecycle rule removes them")
        return
    try:
        status = bucket.client.get_bucket_versioning(Bucket=bucket.settings.bucket).get("Status")
    except ClientError as error:
        step = "ask whoever runs the service"
        yield Line("versions", "warning", f"cannot be seen with this key ({_code(error)})", step)
        return
    if status == "Enabled":
        yield Line("versions", "ok", "kept")
    else:
        step = "turn on versioning of the bucket"
        yield Line("versions", "warning", "not kept: what is overwritten or deleted is gone", step)


def _clock(date: str | None, now: dt.datetime) -> Iterator[Line]:
    try:
        theirs = parsedate_to_datetime(date or "")
    except ValueError:
        yield Line("clock", "warning", "the service does not say what time it is", "compare with another clock")
        return
    skew_s = (now - theirs).total_seconds()
    if abs(skew_s) < _SUSPECT_SKEW_S:
        yield Line("clock", "ok", "within minutes of the service's")
        return
    found = f"{abs(skew_s) / 60:.0f} minutes {'ahead of' if skew_s > 0 else 'behind'} the service's"
    beyond = abs(skew_s) > MOST_SKEW_S
    limit = f"{MOST_SKEW_S // 60} minutes"
    reason = f"beyond {limit} every request is refused"
    yield Line("clock", "fails" if beyond else "warning", f"{found}; {reason}", "set this machine's clock")


def _is_there(bucket: Bucket, key: str) -> bool:
    try:
        return bucket.head(key) is not None
    except CloudError:
        # A refused HEAD has no body that says why; the write that follows is refused with one.
        return False


def _write(bucket: Bucket, key: str) -> str | None:
    """Write the probe; return the version that it became, where the service keeps versions."""
    answer = bucket.client.put_object(Bucket=bucket.settings.bucket, Key=key, Body=_CONTENT)
    version = answer.get("VersionId")
    return str(version) if version else None


def _reading(bucket: Bucket) -> Iterator[Line]:
    first = next(iter(bucket.list(bucket.settings.key("files/md5/"))), None)
    if first is None:
        yield Line("read", "ok", "there is nothing to read yet")
        return
    try:
        bucket.client.get_object(Bucket=bucket.settings.bucket, Key=first.key, Range="bytes=0-0")["Body"].read()
    except ClientError as error:
        yield line_of("read", explain(error, bucket.settings, "read what is there"))
        return
    yield Line("read", "ok", "an object can be read")


def _deleting(bucket: Bucket, key: str, versions: list[str | None]) -> Iterator[Line]:
    try:
        for version in versions:
            which: dict[str, Any] = {"VersionId": version} if version else {}
            bucket.client.delete_object(Bucket=bucket.settings.bucket, Key=key, **which)
    except ClientError as error:
        if _status(error) == 403:
            yield Line("delete", "ok", "refused, as it should be: what is pushed stays")
        else:
            yield Line("delete", "warning", f"cannot be tried ({_code(error)})", "see the key's rights")
        return
    step = "make a key without deleteFiles for pushing; docs/cloud.md has the table"
    yield Line("delete", "warning", "this key may delete: a mistake or a thief can empty the bucket", step)


def _covers(rule: dict[str, Any], prefix: str) -> bool:
    of = rule.get("Filter", {}).get("Prefix", rule.get("Prefix", "")) or ""
    return f"{prefix}/".startswith(of)


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code") or _status(error))
