"""Real performances through sampled kits: the same stages, unchanged, on data that this project did not make."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from test_end_to_end import REPOSITORY, clone, run
from tiny_pipeline import set_params

EXCERPT = REPOSITORY.parent / "shared" / "data" / "e-gmd-excerpt.zip"


@pytest.mark.slow
@pytest.mark.skipif(not EXCERPT.exists(), reason=f"{EXCERPT.name} is not beside the repository")
def test_the_pipeline_learns_to_transcribe_real_performances(tmp_path: Path) -> None:
    project = clone(tmp_path / "project", kits=[1])
    shutil.copy(REPOSITORY / "params.yaml", project / "params.yaml")
    record = yaml.safe_load((project / "configs/datasets/egmd_mini.yaml").read_text())
    record |= {"name": "egmd_excerpt", "title": "Excerpt", "purpose": "drum transcription"}
    record["files"] = [{"path": EXCERPT.name, "urls": [f"file://{EXCERPT}"], "size": EXCERPT.stat().st_size,
                        "hash": "unverified"}]  # fmt: skip
    (project / "configs/datasets/egmd_excerpt.yaml").write_text(yaml.safe_dump(record, sort_keys=False))
    downloads = project / "data/dvc.yaml"
    downloads.write_text(downloads.read_text().replace("- egmd_mini\n", "- egmd_mini\n        - egmd_excerpt\n"))
    set_params(project, {"dataset": "egmd_excerpt"})

    print(run(project, "dvc", "repro"))

    report = json.loads((project / "reports/preprocess.json").read_text())
    assert report["totals"]["sequences"] == 130
    assert not any(kit["unmapped_pitches"] for kit in report["kits"].values())
    metrics = json.loads((project / "reports/metrics.json").read_text())
    print(run(project, "backbeat", "metrics"))
    assert metrics["test"]["onset_f1"] >= 0.85
