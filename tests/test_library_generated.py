"""The generated library: the same bytes from the same numbers, and of everything something."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from backbeat.library.generated import generate, make, truth_path
from backbeat.library.generated.copies import KINDS
from backbeat.library.generated.plan import plan_library
from backbeat.library.generated.voices import VOICES


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def truth(folder: Path) -> dict[str, dict[str, Any]]:
    return dict(json.loads(truth_path(folder).read_text(encoding="utf-8")))


def test_the_same_numbers_give_the_same_bytes_for_any_number_of_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(make, "FAMILIES_AT_ONCE", 8)
    for workers in (1, 2):
        generate(tmp_path / f"{workers}/samples", 40, seed=4, workers=workers)
    one, two = (digests(tmp_path / f"{workers}/samples") for workers in (1, 2))
    assert one == two
    assert set(truth(tmp_path / "1/samples")) == set(one)
    assert len(one) == 40
    # Of the files that cannot be read some are the same, whatever the seed.
    generate(tmp_path / "3/samples", 10, seed=5, workers=1)
    assert not set(digests(tmp_path / "3/samples").values()) & set(one.values())


def test_a_folder_that_is_there_is_left_as_it_is_and_a_killed_run_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "samples"

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(make, "_unreadable", killed)
        with pytest.raises(KeyboardInterrupt):
            generate(folder, 30, workers=1)
    assert not folder.exists()
    (tmp_path / "samples.part/left over.wav").write_bytes(b"")
    generate(folder, 30, workers=1)
    assert set(digests(folder)) == set(truth(folder))
    (folder / "own.wav").write_bytes(b"")
    generate(folder, 40, workers=1)
    assert "own.wav" in digests(folder)


def test_a_library_has_everything_that_is_to_be_found_in_it() -> None:
    families = plan_library(2_000, 1)
    paths = [file.path for family in families for file in (family.original, *family.copies)]
    assert len({path.lower() for path in paths}) == 2_000
    assert {getattr(family.sound, "sound_class", None) for family in families} >= set(VOICES)
    copies = Counter(file.copy for family in families for file in family.copies)
    assert set(copies) == set(KINDS)
    assert sum(copies.values()) == 240
    assert {family.bit_depth for family in families} == {16, 24, 32}
    assert {family.sample_rate_hz for family in families} == {44_100, 48_000}
    keys = {getattr(family.sound, "key", None) for family in families} - {None}
    assert len(keys) > 20
    assert {"clipped", "dc", "silent", "tiny", "chunks", "empty", "cut off"} <= {family.fault for family in families}
    assert sum(family.variation_of is not None for family in families) > 100
    assert any(not path.isascii() for path in paths)
