"""A project with one dataset, `lies`, of one file: what the tests of downloading work on."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from backbeat.datasets.download import download
from backbeat.datasets.places import staged_path
from backbeat.datasets.registry import Record, load_record
from backbeat.datasets.transport.patience import Patience
from backbeat.storage.staging import open_staging

BODY = random.Random(1).randbytes(300_000)
OTHER_BODY = random.Random(2).randbytes(300_000)
HASH = f"sha256:{hashlib.sha256(BODY).hexdigest()}"

HASTY = Patience(
    tries=4, unreachable_tries=2, first_wait_s=0.001, longest_wait_s=0.01, connect_timeout_s=5, idle_timeout_s=5
)


def new_project(folder: Path) -> Path:
    """Make a folder a project with an empty registry."""
    (folder / ".dvc").mkdir()
    (folder / "configs" / "datasets").mkdir(parents=True)
    (folder / "params.yaml").touch()
    return folder


def record_of(
    project: Path, *urls: str, name: str = "lies", record: dict[str, Any] | None = None, **changes: Any
) -> None:
    """Write a record of one file that is at these addresses; `changes` are to the file, `record` to the rest."""
    file = {"path": "archive.zip", "urls": list(urls), "size": len(BODY), "hash": HASH} | changes
    values = {
        "name": name,
        "title": "A dataset that is hard to get",
        "phase": "minimal",
        "priority": 3,
        "collections": {},
        "layout": "none",
        "purpose": "tests",
        "license": {
            "id": "CC0-1.0",
            "url": "https://creativecommons.org/publicdomain/zero/1.0/",
            "commercial": True,
            "redistribute": True,
            "note": None,
        },
        "homepage": None,
        "citation": None,
        "notes": None,
        "verified_on": None,
        "files": [file],
    }
    values |= record or {}
    in_order = {key: values[key] for key in Record.model_fields if key in values}
    (project / "configs" / "datasets" / f"{name}.yaml").write_text(yaml.safe_dump(in_order, sort_keys=False))


def fetched(project: Path, name: str = "lies", **options: Any) -> bytes:
    """Download, and return what is under the final name."""
    download(project, name, patience=HASTY, **options)
    return (project / "data/raw" / name / "archive.zip").read_bytes()


def staged(project: Path) -> Path:
    return staged_path(open_staging(project), load_record(project, "lies").files[0])


def files_under_final_names(project: Path) -> list[Path]:
    folder = open_staging(project).root / "raw"
    return [path for path in folder.glob("??/*") if path.suffix != ".part"]


def wait_for(condition: Callable[[], bool], patience_s: float = 20) -> None:
    deadline_s = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline_s, "nothing happened"
        time.sleep(0.01)
