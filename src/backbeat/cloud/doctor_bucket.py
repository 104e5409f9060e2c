"""What `backbeat doctor` looks at on the way to the bucket, asking nobody: settings, keys, checksums."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import botocore.session
from botocore.exceptions import BotoCoreError

from backbeat.cloud.examination import Line, line_of
from backbeat.errors import CloudError
from backbeat.remote.credentials import KEY_ID_VARIABLE, Credentials, find_credentials
from backbeat.remote.settings import RemoteSettings, dvc_config, read_remote

_B2_HOST = re.compile(r"s3\.([a-z0-9-]+)\.backblazeb2\.com")

# What the account's own key looks like: the account's number without a counter.
_MASTER_KEY = re.compile(r"[0-9a-f]{12}")

_NO_REMOTE = "dvc remote default b2, or git checkout .dvc/config; then backbeat init"

_OWN_CLIENT = (
    "make an OAuth client of your own in Google's console, then: dvc remote modify --local {name} gdrive_client_id … "
    "and gdrive_client_secret …; or take B2: dvc remote default b2"
)

_PLAIN_SOURCES = {
    "env": "AWS_ACCESS_KEY_ID",
    "shared-credentials-file": "~/.aws/credentials",
    "config-file": "AWS's config file",
    "custom-process": "credential_process",
}


def chosen(project: Path) -> tuple[RemoteSettings | None, list[Line]]:
    """Return the default remote where it is a bucket that somebody chose, and what there is to say of it."""
    config = dvc_config(project)
    name = str(config.get("core", {}).get("remote") or "")
    values = config.get("remote", {}).get(name)
    if not name or values is None:
        return None, [Line("bucket", "warning", "no default remote: nothing can be pushed or pulled", _NO_REMOTE)]
    if str(values.get("url", "")).startswith("gdrive://"):
        return None, [_google_drive(name, values)]
    try:
        settings = read_remote(project)
    except CloudError as error:
        return None, [line_of("bucket", error)]
    if not settings.is_chosen:
        return None, [Line("bucket", "warning", f"not set up: {settings.url} is the template's", "backbeat init")]
    return settings, list(_bucket(settings, values))


def credentials(project: Path, settings: RemoteSettings) -> Iterator[Line]:
    """Are there keys, do they look like keys, and does plain `dvc pull` find the same ones?"""
    try:
        keys = find_credentials(project, settings)
    except CloudError as error:
        unread = (project / ".env").is_file() and not os.environ.get(KEY_ID_VARIABLE)
        line = line_of("keys", error)
        yield replace(line, next_step="set -a; . ./.env; set +a") if unread else line
        return
    if is_b2(settings) and _MASTER_KEY.fullmatch(keys.key_id):
        step = "make an application key for this bucket: B2's page Application Keys; see docs/cloud.md"
        yield Line("keys", "fails", f"from {keys.source}: the account's master key, which S3 refuses", step)
        return
    yield Line("keys", "ok", f"from {keys.source}")
    yield from _plain_dvc(project, settings, keys)


def checksums(project: Path, settings: RemoteSettings) -> Iterator[Line]:
    """Does plain DVC send the checksum headers that B2 refuses? As botocore itself reads its settings."""
    session = plain_session(settings)
    sent = session.get_config_variable("request_checksum_calculation")
    shadow = os.environ.get("AWS_CONFIG_FILE")
    own = settings.config_path
    named = own.relative_to(project) if own is not None and own.is_relative_to(project) else own
    where = f"AWS_CONFIG_FILE, {shadow}" if shadow else f"{named or '~/.aws/config'}"
    if sent == "when_required":
        yield Line("checksums", "ok", f"only when required, from {_checksum_source(where)}")
        return
    if os.environ.get("AWS_REQUEST_CHECKSUM_CALCULATION"):
        step = "unset AWS_REQUEST_CHECKSUM_CALCULATION"
    elif shadow:
        step = f"unset AWS_CONFIG_FILE, or write request_checksum_calculation = when_required into {shadow}"
    else:
        step = f"dvc remote modify {settings.name} configpath aws-b2.ini"
    found = f"sent with every request, from {_checksum_source(where)}"
    if is_b2(settings):
        yield Line("checksums", "fails", f"{found}; B2 refuses these, so every dvc push fails", step)
    else:
        yield Line("checksums", "warning", f"{found}; some services refuse these", step)


def is_b2(settings: RemoteSettings) -> bool:
    """Return whether the service is Backblaze's."""
    return (urlsplit(settings.endpoint_url or "").hostname or "").endswith(".backblazeb2.com")


def plain_session(settings: RemoteSettings) -> Any:
    """Return botocore as DVC without Backbeat has it: the remote's `configpath`, unless AWS_CONFIG_FILE is set."""
    session = botocore.session.Session()
    if "AWS_CONFIG_FILE" not in os.environ and settings.config_path is not None:
        session.set_config_variable("config_file", str(settings.config_path))
    # Metadata services of clouds that this is not would be waited for.
    provider = session.get_component("credential_provider")
    for method in ("container-role", "iam-role"):
        provider.remove(method)
    return session


def _google_drive(name: str, values: dict[str, Any]) -> Line:
    if values.get("gdrive_client_id") and values.get("gdrive_client_secret"):
        found = f"{name} is Google Drive, with an OAuth client of your own; doctor asks S3 services only"
        return Line("bucket", "ok", found)
    # dvc#10516: Google has blocked the application that DVC has built in; service accounts have no room of their own.
    found = f"{name} is Google Drive, and Google blocks DVC's built-in application"
    return Line("bucket", "fails", found, _OWN_CLIENT.format(name=name))


def _bucket(settings: RemoteSettings, values: dict[str, Any]) -> Iterator[Line]:
    address = urlsplit(settings.endpoint_url or "")
    modify = f"dvc remote modify {settings.name}"
    host = _B2_HOST.fullmatch(address.hostname or "")
    if settings.endpoint_url and address.scheme not in {"http", "https"}:
        found = f"endpointurl {settings.endpoint_url} does not begin with https://"
        yield Line("bucket", "fails", found, f"{modify} endpointurl https://…")
    elif not settings.region:
        found = "there is no region: DVC asks the bucket for it, which keys for one bucket may not"
        yield Line("bucket", "fails", found, f"{modify} region {host[1] if host else '…'}")
    elif host and host[1] != settings.region:
        found = f"region {settings.region}, but the endpoint is that of {host[1]}; B2 then calls right keys wrong"
        yield Line("bucket", "fails", found, "backbeat init --region …, as the bucket's page at Backblaze says")
    else:
        at = settings.endpoint_url or "Amazon"
        yield Line("bucket", "ok", f"{settings.url}, {settings.region}, {at}")
    if str(values.get("verify", "")).lower() != "true":
        found = f"verify is off: DVC takes whatever {settings.name} returns, damaged objects too"
        yield Line("verification", "warning", found, f"{modify} verify true")


def _plain_dvc(project: Path, settings: RemoteSettings, keys: Credentials) -> Iterator[Line]:
    explicit = dvc_config(project).get("remote", {}).get(settings.name, {})
    given = os.environ.get(KEY_ID_VARIABLE)
    if explicit.get("access_key_id"):
        if given and given != explicit["access_key_id"]:
            found = f"the keys in .dvc/config.local win over {KEY_ID_VARIABLE}, which is another"
            step = f"dvc remote modify --local --unset {settings.name} access_key_id, and secret_access_key"
            yield Line("plain dvc", "warning", found, step)
        return
    try:
        found_keys = plain_session(settings).get_credentials()
        plain = found_keys.get_frozen_credentials() if found_keys is not None else None
    except BotoCoreError as error:
        step = "unset AWS_PROFILE and half-set AWS_… variables"
        yield Line("plain dvc", "warning", f"finds no keys: {_first_line(error)}", step)
        return
    if plain is None:
        step = "unset AWS_CONFIG_FILE" if "AWS_CONFIG_FILE" in os.environ else "see .dvc/aws-b2.ini"
        yield Line("plain dvc", "warning", f"finds no keys; `backbeat cloud` has those of {keys.source}", step)
    elif (plain.access_key, plain.secret_key) != (keys.key_id, keys.secret):
        source = _PLAIN_SOURCES.get(found_keys.method, found_keys.method)
        step = {
            "env": "unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN",
            "shared-credentials-file": "backbeat cloud push and pull; or: export AWS_SHARED_CREDENTIALS_FILE=/dev/null",
        }.get(found_keys.method, "unset AWS_CONFIG_FILE")
        yield Line("plain dvc", "warning", f"takes other keys, from {source}, not those of {keys.source}", step)


def _checksum_source(where: str) -> str:
    return "AWS_REQUEST_CHECKSUM_CALCULATION" if os.environ.get("AWS_REQUEST_CHECKSUM_CALCULATION") else where


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
