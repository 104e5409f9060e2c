"""The keys to the bucket: where they come from, and how programs that are started get them.

In the order in which DVC would use them: keys in `.dvc/config.local`, which win over everything; `B2_ACCOUNT_ID` and
`B2_APPLICATION_KEY`; then whatever AWS's own rules find (its variables, `~/.aws`). Keys reach other programs through
their environment only: command lines can be read by everybody on the machine.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import botocore.session
from botocore.exceptions import BotoCoreError

from backbeat.errors import CloudError
from backbeat.remote.causes import no_keys
from backbeat.remote.settings import RemoteSettings, dvc_config

KEY_ID_VARIABLE = "B2_ACCOUNT_ID"
SECRET_VARIABLE = "B2_APPLICATION_KEY"  # noqa: S105 - the name of a variable


# What would lead another program to other keys, or to the checksum headers that B2 refuses.
_IN_THE_WAY = {
    "AWS_DEFAULT_PROFILE",
    "AWS_PROFILE",
    "AWS_REQUEST_CHECKSUM_CALCULATION",
    "AWS_RESPONSE_CHECKSUM_VALIDATION",
    "AWS_SESSION_TOKEN",
}

SHORTEST_KEY = 16


@dataclass(frozen=True)
class Credentials:
    """Keys to a bucket; what prints them prints where they are from.

    Args:
        key_id: the identifier of the key, which is not secret, but nobody's business.
        secret: the key.
        source: where they were found, for people.
        token: the third part of keys that expire.
    """

    key_id: str = field(repr=False)
    secret: str = field(repr=False)
    source: str
    token: str | None = field(default=None, repr=False)


def find_credentials(project: Path, settings: RemoteSettings) -> Credentials:
    """Return the keys for a remote.

    Raises:
        CloudError: if there are none.
    """
    explicit = dvc_config(project).get("remote", {}).get(settings.name, {})
    local = _pair(explicit, ("access_key_id", "secret_access_key"), ".dvc/config.local")
    if local:
        return Credentials(*local, ".dvc/config.local", explicit.get("session_token"))
    given = _pair(os.environ, (KEY_ID_VARIABLE, SECRET_VARIABLE), "the environment")
    if given:
        return Credentials(*given, f"{KEY_ID_VARIABLE} and {SECRET_VARIABLE}")
    return _found_by_aws_rules()


def child_environment(credentials: Credentials, settings: RemoteSettings) -> dict[str, str]:
    """Return the environment for a program that speaks S3, such as DVC: this one, with these keys and settings."""
    environment = {name: value for name, value in os.environ.items() if name not in _IN_THE_WAY}
    environment["AWS_ACCESS_KEY_ID"] = credentials.key_id
    environment["AWS_SECRET_ACCESS_KEY"] = credentials.secret
    if credentials.token:
        environment["AWS_SESSION_TOKEN"] = credentials.token
    if settings.config_path is not None:
        # A file of the user's own would win over the remote's, and with it the checksum headers that B2 refuses.
        environment["AWS_CONFIG_FILE"] = str(settings.config_path)
    return environment


def redacted(text: str, credentials: Credentials) -> str:
    """Return `text` without the keys, should some program have printed them."""
    for secret in filter(None, (credentials.secret, credentials.token, credentials.key_id)):
        # No service's keys are shorter; those of a rehearsal are words.
        if len(secret) >= SHORTEST_KEY:
            text = text.replace(secret, "***")
    return text


def _pair(values: Mapping[str, str], names: tuple[str, str], where: str) -> tuple[str, str] | None:
    """Return the two parts of a key; None if neither is there. Half a key is a mistake: no other one is meant."""
    there = [name for name in names if values.get(name)]
    if len(there) == 1:
        (missing,) = {*names} - {*there}
        raise _none_found(f"{there[0]} in {where}, and no {missing}")
    for name in there:
        if values[name] != values[name].strip():
            # It would go into a header, and the service would call it malformed.
            raise CloudError(f"{name} begins or ends with a blank or a line end", next_step=f"set it again in {where}")
    return (values[names[0]], values[names[1]]) if there else None


def _found_by_aws_rules(environment: Mapping[str, str] = os.environ) -> Credentials:
    session = botocore.session.Session()
    # Asking the metadata service of a cloud that this is not would wait for its time-out.
    session.set_config_variable("metadata_service_num_attempts", 0)
    provider = session.get_component("credential_provider")
    for method in ("ec2-credentials-file", "boto-config", "container-role", "iam-role"):
        provider.remove(method)
    try:
        found = session.get_credentials()
        frozen = found.get_frozen_credentials() if found is not None else None
    except BotoCoreError as error:
        raise _none_found(str(error)) from error
    if frozen is None or not frozen.access_key or not frozen.secret_key:
        missing = [name for name in (KEY_ID_VARIABLE, SECRET_VARIABLE) if not environment.get(name)]
        raise _none_found(f"{' and '.join(missing)} not set")
    return Credentials(frozen.access_key, frozen.secret_key, _AWS_SOURCES.get(found.method, found.method), frozen.token)


_AWS_SOURCES = {
    "env": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "shared-credentials-file": "AWS's shared credentials file",
    "config-file": "AWS's config file",
    "custom-process": "AWS's credential_process",
}


def _none_found(got: str) -> CloudError:
    cause = no_keys(got)
    return CloudError("there are no keys to the bucket", expected=cause.expected, got=got, next_step=cause.next_step)
