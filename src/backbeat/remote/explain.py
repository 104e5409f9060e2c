"""What the S3 client's errors mean."""

from __future__ import annotations

from collections.abc import Mapping

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004 - botocore's: whatever is wrong with a connection
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    ProxyConnectionError,
    ReadTimeoutError,
    SSLError,
)
from urllib3.exceptions import HTTPError, NameResolutionError
from urllib3.exceptions import ReadTimeoutError as SilentBodyError

from backbeat.errors import CloudError
from backbeat.remote import causes
from backbeat.remote.causes import Cause, Refusal
from backbeat.remote.settings import RemoteSettings


def explain(
    error: ClientError | BotoCoreError | HTTPError,
    settings: RemoteSettings,
    doing: str,
    keys: str = "B2_ACCOUNT_ID and B2_APPLICATION_KEY",
) -> CloudError:
    """Return the error that a person should see.

    Args:
        error: what the S3 client raised.
        settings: the remote that was asked.
        doing: what was tried, as it continues `cannot …`.
        keys: where the keys are from, for people.
    """
    if isinstance(error, ClientError):
        return causes.refused(_refusal_of(error, keys), settings).error(doing)
    return _silence(error, settings).error(doing)


def _refusal_of(error: ClientError, keys: str) -> Refusal:
    told: Mapping[str, str] = error.response.get("Error", {})
    metadata = error.response.get("ResponseMetadata", {})
    headers = metadata.get("HTTPHeaders", {})
    return Refusal(
        metadata.get("HTTPStatusCode"),
        str(told.get("Code", "")),
        str(told.get("Message", "")),
        error.operation_name,
        told.get("Region") or headers.get("x-amz-bucket-region"),
        headers.get("date"),
        keys,
    )


def _silence(error: BotoCoreError | HTTPError, settings: RemoteSettings) -> Cause:
    # The more special ones first: botocore derives them from one another.
    if isinstance(error, ProxyConnectionError):
        return Cause("the proxy does not answer", "check HTTPS_PROXY and NO_PROXY in the environment")
    if isinstance(error, ConnectTimeoutError):
        return causes.too_long(settings)
    if isinstance(error, ReadTimeoutError | SilentBodyError):
        return causes.silent(settings)
    if isinstance(error, SSLError):
        return causes.insecure(settings, str(error))
    if isinstance(error, EndpointConnectionError):
        inner = error.kwargs.get("error")
        # The sentence of the one that nobody can look up depends on the system and its language.
        reason = causes.UNKNOWN_HOST if isinstance(inner, NameResolutionError) else str(inner)
        return causes.unreachable(settings, reason)
    if isinstance(error, NoCredentialsError | PartialCredentialsError | CredentialRetrievalError):
        return causes.no_keys(str(error))
    if isinstance(error, ConnectionError | HTTPClientError | IncompleteReadError | HTTPError):
        return causes.ended_early(settings)
    return Cause("the S3 client refuses it", "backbeat doctor", got=f"{type(error).__name__}: {error}")
