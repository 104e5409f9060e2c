"""A project with one dataset, `lies`, and a bucket on this machine: what the tests of the mirror work on."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest
import yaml

from backbeat.cloud.mirror import plan_push
from backbeat.cloud.mirror_push import push
from backbeat.remote.bucket import Bucket, open_bucket
from backbeat.remote.credentials import Credentials
from backbeat.remote.settings import RemoteSettings
from one_dataset import BODY, fetched, record_of
from s3_server import BUCKET, KEY_ID, REPOSITORY, SECRET, S3Server, environment, point_at
from template_settings import as_template


def bucket_project(folder: Path, endpoint_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a project whose remote is the bucket at this address, with keys in the environment and an empty registry."""
    (folder / "home").mkdir(parents=True, exist_ok=True)
    for name in os.environ:
        if name.startswith(("AWS_", "B2_", "RCLONE_")):
            monkeypatch.delenv(name)
    for name, value in environment(folder / "home").items():
        monkeypatch.setenv(name, value)
    project = folder / "project"
    (project / ".dvc").mkdir(parents=True)
    (project / "configs" / "datasets").mkdir(parents=True)
    for name in (".dvc/config", ".dvc/aws-b2.ini", "configs/cloud.yaml", "params.yaml"):
        shutil.copy(REPOSITORY / name, project / name)
    as_template(project)
    point_at(project, endpoint_url)
    return project


def with_own_copy(project: Path, body: bytes = BODY) -> Path:
    """Write `body` beside the project, as what a record's `file:` address names."""
    copy = project.parent / "copy.zip"
    copy.write_bytes(body)
    return copy


def pushed(project: Path, **changes: object) -> None:
    """Have `lies` here, and in the mirror; the record's changes are those of `record_of`."""
    record_of(project, with_own_copy(project).as_uri(), **changes)
    fetched(project)
    push(project, plan_push(project))


def forget_everything(project: Path) -> None:
    """Leave a project as a clone is: nothing in the staging store, nothing linked."""
    shutil.rmtree(project / ".dvc" / "cache")
    shutil.rmtree(project / "data", ignore_errors=True)


def set_cloud(project: Path, section: str, key: str, value: object) -> None:
    """Change a value of the project's `configs/cloud.yaml`."""
    path = project / "configs" / "cloud.yaml"
    values = yaml.safe_load(path.read_text())
    values[section][key] = value
    path.write_text(yaml.safe_dump(values))


def flip(path: Path, at: int = 1000) -> None:
    """Turn one bit of a file in place."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def spoil(project: Path, key: str, damage: str) -> None:
    """Have an object of the bucket be `truncated`, `flipped` or `deleted`; through S3, as rclone wants it."""
    bucket = open_bucket(project)
    if damage == "deleted":
        bucket.client.delete_object(Bucket=bucket.settings.bucket, Key=key)
        return
    content = bytearray(bucket.read(key))
    content[len(content) // 2] ^= 1
    damaged = bytes(content) if damage == "flipped" else bytes(content[:-1])
    bucket.put(key, damaged, hashlib.md5(damaged).hexdigest())


def empty(s3: S3Server) -> None:
    """Delete everything in the bucket, through S3."""
    settings = RemoteSettings("b2", BUCKET, "dvc", s3.endpoint_url, "us-west-004")
    bucket = Bucket(settings, Credentials(KEY_ID, SECRET, "a test"))
    for one in list(bucket.list()):
        bucket.client.delete_object(Bucket=BUCKET, Key=one.key)
