"""Fixtures of many modules: a project with a server to fetch from, and what is costly to make and nobody changes."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import tiny_pipeline
from cloud_world import CloudWorld, cloud_world, enter
from misbehaving_server import MisbehavingServer, misbehaving_server
from one_dataset import BODY, new_project

# Several processes test at once: threads of each that wait for one another by spinning made a training of 3 s last 57.
# What the tests start inherits it.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with an empty registry, which reaches servers of this machine without a proxy."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return new_project(tmp_path)


@pytest.fixture
def server() -> Iterator[MisbehavingServer]:
    """A server of `one_dataset.BODY`."""
    with misbehaving_server(BODY) as running:
        yield running


@pytest.fixture(scope="session")
def tiny_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with shards of two small kits. Copy it (`symlinks=True`) before changing it."""
    return tiny_pipeline.make_tiny_project(tmp_path_factory.mktemp("tiny") / "project")


@pytest.fixture(scope="session")
def trained_project(tiny_project: Path) -> Path:
    """The same with a trained and evaluated model. Copy it before changing it."""
    from backbeat.transcription.evaluate import evaluate
    from backbeat.transcription.train import train
    from backbeat.transcription.trainer import Hardware

    train(tiny_project, hardware=Hardware(accelerator="cpu", devices="1"))
    evaluate(tiny_project)
    return tiny_project


@pytest.fixture(scope="session")
def all_of_the_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CloudWorld]:
    """An S3 server, a proxy before it, and a repository; use `world`."""
    with cloud_world(tmp_path_factory.mktemp("cloud")) as made:
        yield made


@pytest.fixture
def world(all_of_the_cloud: CloudWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CloudWorld:
    """The same, with the proxy behaving, for a newcomer with the keys."""
    enter(all_of_the_cloud, tmp_path / "home", monkeypatch)
    return all_of_the_cloud
