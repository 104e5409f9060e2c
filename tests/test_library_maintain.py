"""Looking the library over: what is lost, damaged, missing or left over, and copies of what nobody can compute."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import typer
import yaml
from typer.testing import CliRunner

from backbeat.cli.library_care import register
from backbeat.cloud.backup import list_backups
from backbeat.errors import LibraryError
from backbeat.library import tables
from backbeat.library.archive import archive
from backbeat.library.ledger import Entry, append, read_ledger
from backbeat.library.maintain import Finding, maintain
from backbeat.library.memo import memo_path, open_memo
from backbeat.library.removal import remove_originals
from backbeat.library.safekeeping import keep_copy, list_copies
from backbeat.library.scan import scan
from backbeat.library.vault import vault_path
from backbeat.remote.bucket import open_bucket
from backbeat.storage.staging import open_staging
from s3_server import REPOSITORY, commit, environment, new_repository, point_at, run, s3_server

app = typer.Typer()
register(app)

REMOVED, KEPT = "kits/kick 1.wav", "kits/kick 2.wav"


def wav(seed: int) -> bytes:
    noise = np.random.default_rng(seed).normal(size=2_000) * np.exp(-np.arange(2_000) / 300) / 4
    stream = io.BytesIO()
    soundfile.write(stream, noise, 44_100, format="WAV", subtype="PCM_16")
    return stream.getvalue()


def write_library(project: Path) -> None:
    """Put two files, the second of which is in production, and their tables into a project."""
    (project / "configs").mkdir(exist_ok=True)
    settings = yaml.safe_load((REPOSITORY / "configs/library.yaml").read_text(encoding="utf-8"))
    settings["sources"] = [{"name": "kits", "path": "samples"}]
    settings["maintain"]["backups_kept"] = 3
    (project / "configs/library.yaml").write_text(yaml.safe_dump(settings))
    (project / "samples").mkdir()
    for number in (1, 2):
        (project / f"samples/kick {number}.wav").write_bytes(wav(number))
    scan(project, workers=1)
    chosen = next(row for row in tables.read_table(project, "scan").to_pylist() if row["sample"] == KEPT)
    curated = {"sample": KEPT, "audio_sha256": chosen["audio_sha256"], "chosen": True}
    tables.write_table(project, "curation", tables.CURATION, [curated])
    archive(project, workers=1)
    remove_originals(project, dry_run=False)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = tmp_path_factory.mktemp("maintain") / "project"
    (project / ".dvc").mkdir(parents=True)
    (project / "params.yaml").touch()
    write_library(project)
    return project


@pytest.fixture
def project(kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    project = shutil.copytree(kept, tmp_path / "project", symlinks=True)
    monkeypatch.chdir(project)
    assert list(read_ledger(project)) == [REMOVED]
    return project


def flac(project: Path) -> Path:
    return vault_path(project, read_ledger(project)[REMOVED].file_sha256)


def found(project: Path, *, rehash: bool = False) -> list[tuple[str, str]]:
    return [(one.kind, one.what) for one in maintain(project, rehash=rehash).findings]


def test_library_in_order_has_no_findings_and_gets_a_copy(project: Path) -> None:
    done = maintain(project, rehash=True)
    assert (done.findings, done.checked, done.rehashed) == ((), 1, 2)
    assert done.copy is not None
    with zipfile.ZipFile(done.copy) as copy:
        assert copy.read("data/library/ledger.csv") == (project / "data/library/ledger.csv").read_bytes()
    assert maintain(project).copy is None


def test_original_whose_flac_is_nowhere_is_lost_and_said_loudly(project: Path) -> None:
    flac(project).unlink()
    result = CliRunner().invoke(app, ["maintain"])
    assert result.exit_code == 1
    assert REMOVED in result.output
    assert "backbeat cloud pull data/library/archive" in result.output


def test_flac_that_only_dvc_has_is_not_lost(project: Path) -> None:
    md5 = read_ledger(project)[REMOVED].flac_md5
    cached = project / ".dvc/cache/files/md5" / md5[:2] / md5[2:]
    cached.parent.mkdir(parents=True)
    flac(project).rename(cached)
    assert found(project) == []
    cached.write_bytes(b"rotten")
    assert found(project) == [("damaged", REMOVED)]


def test_flac_with_a_flipped_bit_is_damaged(project: Path) -> None:
    content = bytearray(flac(project).read_bytes())
    content[-100] ^= 1
    flac(project).chmod(0o644)
    flac(project).write_bytes(content)
    assert found(project, rehash=True) == [("damaged", REMOVED)]


def test_original_that_is_gone_and_not_in_the_ledger_is_missing(project: Path) -> None:
    (project / "samples/kick 2.wav").unlink()
    assert found(project, rehash=True) == [("missing", KEPT)]


def test_original_that_has_changed_is_found_by_hashing(project: Path) -> None:
    (project / "samples/kick 2.wav").write_bytes(wav(3))
    assert found(project) == []
    assert found(project, rehash=True) == [("changed", KEPT)]


def test_source_that_is_not_mounted_is_named_and_the_archive_looked_at_all_the_same(project: Path) -> None:
    shutil.rmtree(project / "samples")
    flac(project).unlink()
    kinds = [kind for kind, _ in found(project, rehash=True)]
    assert kinds == ["lost", "unreachable"]


def test_what_nothing_refers_to_is_named_and_stays(project: Path) -> None:
    staging = open_staging(project)
    used, unused = (staging.entry("production", letter * 64, ".wav") for letter in "ab")
    for path in (used, unused):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    (project / "data/library/production").mkdir()
    (project / "data/library/production/kick.wav").symlink_to(used)
    done = maintain(project)
    assert [(one.kind, Path(one.what).name) for one in done.findings] == [("orphan", unused.name)]
    assert not any(one.is_wrong for one in done.findings)
    assert used.exists()
    assert unused.exists()


@pytest.mark.parametrize("memory", ["memo", "copy"])
def test_archived_original_that_nothing_names_any_more_is_said_loudly_with_the_name_it_had(
    project: Path, memory: str
) -> None:
    left = flac(project)
    maintain(project)
    (project / "data/library/ledger.csv").unlink()
    (project / "data/library/archive.parquet").unlink()
    if memory == "copy":
        memo_path(project).unlink()
    scan(project, workers=1)
    keep_copy(project, kept=3)  # of what is left
    (one,) = maintain(project).findings
    assert (one.kind, Path(one.what).name, one.is_wrong) == ("forgotten", left.name, True)
    assert REMOVED in one.why
    assert left.exists()


def test_new_file_under_the_name_of_an_archived_one_is_named(project: Path) -> None:
    (project / "samples/kick 1.wav").write_bytes(wav(4))
    scan(project, workers=1)
    assert found(project) == [("clash", REMOVED)]


def test_memo_gives_back_what_it_does_not_use(project: Path) -> None:
    with open_memo(project) as memo:
        for number in range(200):
            memo.remember("stage", "old", str(number), bytes(5_000))
        memo.commit()
        memo.forget_others("stage", "new")
    done = maintain(project)
    assert done.freed_bytes > 500_000
    assert memo_path(project).stat().st_size == done.memo_bytes


def test_rehearsal_changes_nothing(project: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in project.rglob("*")}
    done = maintain(project, dry_run=True)
    assert done.copy is not None
    after = {path: path.stat().st_mtime_ns for path in project.rglob("*")}
    assert {path.name for path in before.keys() ^ after.keys()} <= {"memo.sqlite-wal", "memo.sqlite-shm"}
    assert list_copies(project) == []


def test_copies_are_rotated_and_the_newest_stay(project: Path) -> None:
    for day in range(1, 6):
        (project / "data/library/notes.yaml").write_text(f"day: {day}\n")
        keep_copy(project, kept=3, now=dt.datetime(2026, 1, day, tzinfo=dt.UTC))
    assert [path.name[:10] for path in list_copies(project)] == ["2026-01-03", "2026-01-04", "2026-01-05"]
    with zipfile.ZipFile(list_copies(project)[-1]) as copy:
        assert copy.read("data/library/notes.yaml") == b"day: 5\n"


def test_copy_after_one_of_a_clock_that_was_ahead_is_the_newest(project: Path) -> None:
    for name, year in (("then", 2031), ("then 2", 2030), ("now", 2026), ("now 2", 2026)):
        (project / "data/library/notes.yaml").write_text(f"# {name}\n")
        made = keep_copy(project, kept=3, now=dt.datetime(year, 1, 1, tzinfo=dt.UTC))
        assert made == list_copies(project)[-1]
        assert keep_copy(project, kept=3) is None
    assert len(list_copies(project)) == 3


def test_backup_proves_that_the_bucket_has_every_original_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(tmp_path / "home").items():
        monkeypatch.setenv(name, value)
    (tmp_path / "home").mkdir()
    entry_of = b"as a FLAC file"
    project = new_repository(tmp_path / "project", {"data/library/archive": {"kits/kick.wav.flac": entry_of}})
    monkeypatch.chdir(project)
    md5 = hashlib.md5(entry_of).hexdigest()
    append(project, [Entry("kits/kick.wav", "1" * 64, "2" * 64, 9, "3" * 64, md5)])
    with s3_server(tmp_path / "s3") as s3:
        point_at(project, s3.endpoint_url)
        run(project, "dvc", "push", "--quiet")
        with pytest.raises(LibraryError, match=r"not committed"):
            CliRunner().invoke(app, ["backup"], catch_exceptions=False)
        commit(project, "an original is removed")
        result = CliRunner().invoke(app, ["backup"], catch_exceptions=False)
        assert "1 originals that only the archive has" in result.output
        append(project, [Entry("kits/snare.wav", "4" * 64, "5" * 64, 9, "6" * 64, "7" * 32)])
        commit(project, "another one, whose FLAC file no pointer means")
        with pytest.raises(LibraryError, match=r"(?s)kits/snare\.wav.*dvc repro data/library/dvc.yaml:archive"):
            CliRunner().invoke(app, ["backup"], catch_exceptions=False)
        assert len(list_backups(open_bucket(project))) == 1


def test_findings_are_json_for_other_programs(project: Path) -> None:
    flac(project).unlink()
    result = CliRunner().invoke(app, ["maintain", "--json", "--dry-run"])
    (one,) = json.loads(result.stdout)["findings"]
    assert Finding(**one).is_wrong
