"""Fixtures that are costly to make and that nobody changes."""

from pathlib import Path

import pytest

import tiny_pipeline


@pytest.fixture(scope="session")
def tiny_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with shards of two small kits. Copy it (`symlinks=True`) before changing it."""
    return tiny_pipeline.make_tiny_project(tmp_path_factory.mktemp("tiny") / "project")


@pytest.fixture(scope="session")
def trained_project(tiny_project: Path) -> Path:
    """The same with a trained and evaluated model. Copy it before changing it."""
    from backbeat.transcription.evaluate import evaluate
    from backbeat.transcription.train import Hardware, train

    train(tiny_project, hardware=Hardware(accelerator="cpu", devices="1"))
    evaluate(tiny_project)
    return tiny_project
