"""What an S3 service's refusals and silences mean, in sentences with a next step.

What Backblaze B2 says was read in reports of its users: `InvalidAccessKeyId: The key '…' is not valid` also for a key
of another region, `Malformed Access Key Id` for the account's master key, `AccessDenied: Cannot access bucket` where
the right listBuckets is missing, `AccessDenied: … cap exceeded. See the Caps & Alerts page …` where a limit is reached
that the owner has set, and `InvalidArgument: Unsupported header 'x-amz-checksum-…'`.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from backbeat.errors import CloudError
from backbeat.remote.settings import RemoteSettings

# The right, as Backblaze calls it, that a kind of request needs.
_RIGHTS = {
    "HeadBucket": ("see the bucket", "listBuckets"),
    "GetBucket": ("see the bucket's settings", "readBuckets"),
    "List": ("list", "listFiles"),
    "Head": ("read", "readFiles"),
    "Get": ("read", "readFiles"),
    "Put": ("write", "writeFiles"),
    "Upload": ("write", "writeFiles"),
    "Create": ("write", "writeFiles"),
    "Complete": ("write", "writeFiles"),
    "Copy": ("write", "writeFiles"),
    "Delete": ("delete", "deleteFiles"),
}

# A reason for `unreachable`.
UNKNOWN_HOST = "the name is not known"

_AGAIN = "the same command again: it goes on with what is missing"


@dataclass(frozen=True)
class Cause:
    """Why something could not be done.

    Args:
        says: the reason, as it continues `cannot …: `.
        next_step: what to do.
        expected: what would have been right.
        got: what was found.
    """

    says: str
    next_step: str
    expected: str | None = None
    got: str | None = None

    def error(self, doing: str) -> CloudError:
        """Return it as the error that a person should see; `doing` continues `cannot …`."""
        return CloudError(
            f"cannot {doing}: {self.says}", expected=self.expected, got=self.got, next_step=self.next_step
        )


@dataclass(frozen=True)
class Refusal:
    """What a service answered instead of doing what it was asked.

    Args:
        status: the HTTP status, if known.
        code: S3's name for the error; empty, or the status as text, where there was no body, as for every HEAD.
        message: its sentence.
        operation: what was asked, as S3 calls it, such as `GetObject`.
        region: the region that the service named as the right one.
        date: the service's time, as HTTP writes it.
        keys: where the keys are from, for people.
    """

    status: int | None = None
    code: str = ""
    message: str = ""
    operation: str = ""
    region: str | None = None
    date: str | None = None
    keys: str = "B2_ACCOUNT_ID and B2_APPLICATION_KEY"


def refused(refusal: Refusal, settings: RemoteSettings) -> Cause:
    """Return what a refusal means."""
    code = refusal.code
    # The order matters: a code says more than a status, and some messages more than their code.
    if "cap exceeded" in refusal.message.lower() or code in {"QuotaExceeded", "XMinioStorageFull"}:
        return _cap(refusal.message)
    if "unsupported header" in refusal.message.lower():
        return _checksum_headers(settings)
    if code in _BY_CODE:
        return _filled(_BY_CODE[code], refusal, settings)
    if code == "InvalidAccessKeyId":
        return _unknown_key(refusal, settings)
    if code in {"AuthorizationHeaderMalformed", "PermanentRedirect", "TemporaryRedirect"} or refusal.status == 301:
        return _other_region(refusal, settings)
    if code == "RequestTimeTooSkewed":
        return _skewed(refusal.date)
    if code == "AccessDenied" or refusal.status == 403:
        return _no_right(refusal, settings)
    if refusal.status in _BY_STATUS:
        return _filled(_BY_CODE[_BY_STATUS[refusal.status]], refusal, settings)
    told = f"{code or refusal.status}: {refusal.message}".rstrip(": ")
    return Cause("the service refuses it, and Backbeat does not know why", "backbeat doctor", got=told)


def unreachable(settings: RemoteSettings, reason: str) -> Cause:
    """Return what it means that no connection comes about, with the operating system's reason."""
    host = _host(settings)
    if reason == UNKNOWN_HOST:
        step = "check the network, and endpointurl in .dvc/config: B2's is https://s3.REGION.backblazeb2.com"
        return Cause(f"no address is known for {host}", step)
    if "refused" in reason.lower():
        rehearsal = "start the rehearsal's server: backbeat cloud serve"
        step = rehearsal if settings.is_loopback else "check endpointurl in .dvc/config, and a firewall in between"
        return Cause(f"nothing listens at {_endpoint(settings)}", step)
    return Cause(
        f"there is no connection to {_endpoint(settings)}",
        "check the network, and endpointurl in .dvc/config",
        got=reason or None,
    )


def too_long(settings: RemoteSettings) -> Cause:
    """Return what it means that a connection does not come about in time."""
    step = "check the network, a firewall, and endpointurl in .dvc/config"
    return Cause(f"no connection to {_endpoint(settings)} within {settings.connect_timeout_s:g} s", step)


def silent(settings: RemoteSettings) -> Cause:
    """Return what it means that a service accepts a connection and then says nothing."""
    return Cause(f"{_endpoint(settings)} said nothing for {settings.read_timeout_s:g} s", _AGAIN)


def insecure(settings: RemoteSettings, reason: str) -> Cause:
    """Return what it means that TLS fails."""
    # OpenSSL's sentence says more than its name for the error; where there is only the name, that is it.
    found = re.search(r"certificate verify failed(: [\w '-]+\w)?", reason) or re.search(r"[A-Z][A-Z_]{8,}", reason)
    step = "check this machine's clock and certificates, whether a proxy stands in between, and http or https"
    return Cause(
        f"there is no secure connection to {_endpoint(settings)}", step, got=found[0].lower() if found else None
    )


def ended_early(settings: RemoteSettings) -> Cause:
    """Return what it means that a connection ends before the answer does."""
    return Cause(f"{_endpoint(settings)} ended the connection early", _AGAIN)


def no_keys(got: str) -> Cause:
    """Return what it means that there are no keys, or not all of them."""
    return Cause(
        "there are no keys to it",
        "see .env.example; in a Codespace: add them as secrets, then rebuild",
        "B2_ACCOUNT_ID and B2_APPLICATION_KEY in the environment, or keys in .dvc/config.local",
        got,
    )


# With names in braces, which are filled from the settings and the refusal.
_EXPIRED = Cause("the keys have expired", "make new keys, in place of those from {keys}", "keys that are still valid")
_BUSY = Cause(
    "the service is busy, also after several tries",
    "the same command again in some minutes; if it stays so, with fewer jobs: dvc remote modify --local {name} jobs 4",
)
_CHANGED = Cause(
    "what arrived there is not what was sent", "the same command again; if it stays so, the line damages data"
)
_BY_CODE = {
    "SignatureDoesNotMatch": Cause(
        "the secret key does not belong to the key ID",
        "compare the keys from {keys} with those of one key; if the secret is lost, make a new key",
        "the two parts of one key",
    ),
    "NoSuchBucket": Cause(
        "there is no bucket {bucket} there",
        "correct the url of remote {name} in .dvc/config (backbeat init does), or make the bucket",
        "a bucket of this account, in region {region}",
    ),
    "NoSuchKey": Cause(
        "the bucket does not hold it", "backbeat cloud push in a clone that has it; see backbeat verify --remote"
    ),
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "InvalidToken": _EXPIRED,
    "SlowDown": _BUSY,
    "ServiceUnavailable": _BUSY,
    "TooManyRequests": _BUSY,
    "RequestLimitExceeded": _BUSY,
    "InternalError": Cause(
        "the service failed, also after several tries",
        "the same command again later; Backblaze reports its failures at status.backblaze.com",
    ),
    "BadDigest": _CHANGED,
    "InvalidDigest": _CHANGED,
    "IncompleteBody": _CHANGED,
    "XAmzContentSHA256Mismatch": _CHANGED,
    "RequestTimeout": Cause("the line was too slow for the service to wait", _AGAIN),
}

# What a status means where there is no code that says more.
_BY_STATUS = {
    404: "NoSuchKey",
    429: "SlowDown",
    500: "InternalError",
    502: "SlowDown",
    503: "SlowDown",
    504: "SlowDown",
}


def _filled(cause: Cause, refusal: Refusal, settings: RemoteSettings) -> Cause:
    values = {"bucket": settings.bucket, "keys": refusal.keys, "name": settings.name, "region": settings.region}
    return Cause(
        cause.says.format_map(values),
        cause.next_step.format_map(values),
        cause.expected and cause.expected.format_map(values),
        refusal.code or str(refusal.status),
    )


def _unknown_key(refusal: Refusal, settings: RemoteSettings) -> Cause:
    if "malformed" in refusal.message.lower():
        return Cause(
            "the key ID is none that S3 takes",
            f"make an application key in Backblaze's console, in place of the keys from {refusal.keys}",
            "an application key's ID, 25 characters",
            f"{refusal.code}: {refusal.message}; the account's master key looks like this",
        )
    # The service's sentence holds the key ID.
    return Cause(
        f"the service does not know the key, or not in region {settings.region}",
        f"compare the keys from {refusal.keys}, and region and endpointurl in .dvc/config, with the console",
        f"a key of the account that has {settings.bucket}, at {_endpoint(settings)}",
        refusal.code,
    )


def _other_region(refusal: Refusal, settings: RemoteSettings) -> Cause:
    named = re.search(r"expecting '([\w-]+)'", refusal.message)
    right = refusal.region or (named[1] if named else None)
    return Cause(
        "the bucket is in another region",
        f"dvc remote modify {settings.name} region {right or 'REGION'}; and endpointurl, if it names the region",
        f"region {right}" if right else "the region on the bucket's page in the service's console",
        f"region {settings.region}",
    )


def _skewed(date: str | None) -> Cause:
    step = "set this machine's clock: sudo timedatectl set-ntp true"
    try:
        behind_s = (parsedate_to_datetime(date or "") - dt.datetime.now(dt.UTC)).total_seconds()
    except ValueError:
        return Cause("this machine's clock is wrong", step, "less than 15 minutes from the service's")
    found = f"{abs(behind_s) / 60:.0f} minutes {'behind' if behind_s > 0 else 'ahead of'} the service's"
    return Cause(f"this machine's clock is {found}", step, "less than 15 minutes")


def _no_right(refusal: Refusal, settings: RemoteSettings) -> Cause:
    verb, right = next(
        (named for start, named in _RIGHTS.items() if refusal.operation.startswith(start)), ("do this", "")
    )
    if "cannot access bucket" in refusal.message.lower():
        verb, right = _RIGHTS["HeadBucket"]
    got = refusal.code if refusal.code and not refusal.code.isdigit() else f"{refusal.status}, with no reason"
    if right == "deleteFiles":
        step = "nothing, if this is the key for pushing: without this right no mistake can empty the bucket"
    else:
        step = f"make a key that may, for the bucket {settings.bucket}: the table of keys in docs/cloud.md"
    return Cause(f"the key may not {verb}", step, f"the right {right}" if right else None, got)


def _cap(message: str) -> Cause:
    which = "storage" if "storage" in message.lower() else "downloads" if "download" in message.lower() else "requests"
    step = "raise it in Backblaze's console, on the page Caps & Alerts"
    if which != "storage":
        step += "; or wait: it starts anew at midnight GMT"
    return Cause(f"the account's cap on {which} is reached", step, got=message or None)


def _checksum_headers(settings: RemoteSettings) -> Cause:
    return Cause(
        "the client sent checksum headers, which the service does not know",
        "unset AWS_CONFIG_FILE and AWS_REQUEST_CHECKSUM_CALCULATION, which win over the remote's configpath; or add "
        "both lines of .dvc/aws-b2.ini to your own file",
        f"request_checksum_calculation = when_required, as the configpath of remote {settings.name} has it",
        "a client with its defaults",
    )


def _endpoint(settings: RemoteSettings) -> str:
    return settings.endpoint_url or f"https://s3.{settings.region}.amazonaws.com"


def _host(settings: RemoteSettings) -> str:
    return _endpoint(settings).partition("://")[2].partition("/")[0]
