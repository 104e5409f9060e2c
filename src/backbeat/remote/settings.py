"""Which bucket, as DVC is told in `.dvc/config` and `.dvc/config.local`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dvc.config import Config

from backbeat.errors import CloudError

# What the template ships: a name that is nobody's bucket.
PLACEHOLDER_BUCKET = "your-bucket"

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True)
class RemoteSettings:
    """An S3 remote of DVC.

    Args:
        name: what DVC calls it.
        bucket: the bucket, or `your-bucket` where none was chosen yet.
        prefix: the folder in it that is DVC's; may be empty.
        endpoint_url: the address of the S3 service; None is Amazon's.
        region: the service's region.
        config_path: the file of AWS settings that the remote names.
        connect_timeout_s: how long to wait for a connection.
        read_timeout_s: how long to wait for the next bytes.
    """

    name: str
    bucket: str
    prefix: str
    endpoint_url: str | None = None
    region: str | None = None
    config_path: Path | None = None
    connect_timeout_s: float = 15.0
    read_timeout_s: float = 60.0

    @property
    def url(self) -> str:
        """The remote's address as DVC writes it."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    @property
    def is_loopback(self) -> bool:
        """Whether the service is on this machine: a rehearsal."""
        return urlsplit(self.endpoint_url or "").hostname in LOOPBACK_HOSTS

    @property
    def is_chosen(self) -> bool:
        """Whether somebody has said which bucket; a rehearsal takes the placeholder."""
        return self.bucket != PLACEHOLDER_BUCKET or self.is_loopback

    def key(self, path: str) -> str:
        """Return the key of something below DVC's folder in the bucket."""
        return f"{self.prefix}/{path}" if self.prefix else path


def dvc_config(project: Path) -> dict[str, Any]:
    """Return DVC's configuration for `project`, all levels merged, the local one first.

    Raises:
        CloudError: if it cannot be parsed.
    """
    try:
        return dict(Config(dvc_dir=str(project / ".dvc"), validate=False))
    except Exception as error:
        raise CloudError(
            f"{project / '.dvc'} has a configuration that cannot be read",
            got=str(error),
            next_step="correct .dvc/config or .dvc/config.local",
        ) from error


def load_remote(project: Path, name: str | None = None) -> RemoteSettings:
    """Return the settings of a remote, by default of DVC's default remote.

    `B2_BUCKET_NAME` takes the place of the template's placeholder, never of a bucket that was chosen.

    Raises:
        CloudError: if there is no such remote, it is not an S3 one, no bucket was chosen yet, or its address is none.
    """
    settings = read_remote(project, name)
    if not settings.is_chosen:
        raise CloudError(
            "no bucket was chosen yet",
            expected=f"the url of remote {settings.name} in .dvc/config",
            got=f"the template's {settings.url}",
            next_step="backbeat init; or rehearse without an account: backbeat cloud serve",
        )
    if settings.endpoint_url and urlsplit(settings.endpoint_url).scheme not in {"http", "https"}:
        raise CloudError(
            f"remote {settings.name} has an endpointurl that is no address",
            expected="https:// at its beginning",
            got=settings.endpoint_url,
            next_step=f"dvc remote modify {settings.name} endpointurl https://{settings.endpoint_url}",
        )
    return settings


def read_remote(project: Path, name: str | None = None) -> RemoteSettings:
    """Return the settings of a remote, also when its bucket is still the placeholder.

    Raises:
        CloudError: if there is no such remote, or it is not an S3 one.
    """
    config = dvc_config(project)
    remotes: Mapping[str, Mapping[str, Any]] = config.get("remote", {})
    chosen = name or config.get("core", {}).get("remote")
    if not chosen or chosen not in remotes:
        raise CloudError(
            f"there is no remote {chosen}" if chosen else "no default remote is configured",
            expected=f"one of {', '.join(sorted(remotes))}" if remotes else "a remote in .dvc/config",
            next_step="backbeat init",
        )
    values = remotes[chosen]
    address = urlsplit(str(values.get("url", "")))
    if address.scheme != "s3" or not address.netloc:
        raise CloudError(
            f"remote {chosen} is not an S3 bucket",
            expected="an url s3://BUCKET/FOLDER",
            got=str(values.get("url")),
            next_step=f"move bytes with dvc itself (dvc push -r {chosen}), or name an S3 remote",
        )
    bucket = address.netloc
    if bucket == PLACEHOLDER_BUCKET:
        bucket = os.environ.get("B2_BUCKET_NAME") or bucket
    config_path = values.get("configpath")
    return RemoteSettings(
        name=str(chosen),
        bucket=bucket,
        prefix=address.path.strip("/"),
        endpoint_url=values.get("endpointurl"),
        region=values.get("region"),
        config_path=project / ".dvc" / config_path if config_path else None,
        connect_timeout_s=_seconds(values, "connect_timeout", 15.0),
        read_timeout_s=_seconds(values, "read_timeout", 60.0),
    )


def _seconds(values: Mapping[str, Any], name: str, default: float) -> float:
    try:
        return float(values.get(name, default))
    except ValueError as error:
        raise CloudError(
            f"{name} of a remote in .dvc/config is no number", expected="seconds", got=str(values[name])
        ) from error
