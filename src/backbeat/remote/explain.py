"""What an S3 service's refusals and silences mean, in sentences with a next step."""

from __future__ import annotations

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
    SSLError,
)
from urllib3.exceptions import HTTPError

from backbeat.errors import CloudError
from backbeat.remote.settings import RemoteSettings


def explain(error: ClientError | BotoCoreError | HTTPError, settings: RemoteSettings, doing: str) -> CloudError:
    """Return the error that a person should see.

    Args:
        error: what the S3 client raised.
        settings: the remote that was asked.
        doing: what was tried, as it continues `cannot …`.
    """
    got, next_step = _refusal(error, settings) if isinstance(error, ClientError) else _silence(error, settings)
    return CloudError(f"cannot {doing}", got=got, next_step=next_step)


def _refusal(error: ClientError, settings: RemoteSettings) -> tuple[str, str]:
    code = str(error.response.get("Error", {}).get("Code", ""))
    message = str(error.response.get("Error", {}).get("Message", ""))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    place = f"region {settings.region} at {settings.endpoint_url}"
    told = f"{code}: {message}".rstrip(": ")
    if code in {"InvalidAccessKeyId", "SignatureDoesNotMatch"}:
        return told, f"check the keys, and whether the bucket is in {place}; a wrong region looks like a wrong key"
    if code == "NoSuchBucket":
        return told, f"check the name {settings.bucket} in .dvc/config, or make the bucket"
    if code in {"ExpiredToken", "ExpiredTokenException"}:
        return told, "get new keys"
    if code == "RequestTimeTooSkewed":
        return told, "set this machine's clock"
    if status == 403:
        return told, "the key has no right to do this: see the table of keys in docs/cloud.md"
    return told, "backbeat doctor"


def _silence(error: BotoCoreError | HTTPError, settings: RemoteSettings) -> tuple[str, str]:
    if isinstance(error, EndpointConnectionError | ConnectTimeoutError):
        return f"no connection to {settings.endpoint_url}", "check the network and endpointurl in .dvc/config"
    if isinstance(error, ReadTimeoutError):
        return f"no answer from {settings.endpoint_url} in {settings.read_timeout_s:g} s", "try again later"
    if isinstance(error, SSLError):
        return str(error), "check the system's certificates, and whether a proxy stands in between"
    return f"{type(error).__name__}: {error}", "try again; backbeat doctor"
