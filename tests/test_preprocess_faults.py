"""Preprocessing in a bad world: damaged members, killed runs, rotten shards, full disks. It heals, or it says why."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from backbeat.drums import plan
from backbeat.drums import preprocess as stage
from backbeat.drums.preprocess import REPORT_FILE, preprocess
from backbeat.drums.shards import Shard
from backbeat.errors import ArchiveError, StorageError
from backbeat.storage.staging import SPARE_BYTES, open_staging
from one_dataset import wait_for
from small_project import (
    FIRST_WAV,
    PERFORMANCES,
    ROOT,
    TABLE,
    Contents,
    Performance,
    archive_of,
    contents_of,
    damage,
    leftovers,
    midi,
    new_project,
    processed,
    set_params,
    staged,
    wav,
    write_zip,
)

# Many small shards: enough of them that a run can be killed between two.
MANY_KITS = range(11, 23)
SHORT = tuple(Performance(1, number, split, 0.3) for number, split in enumerate(("train", "validation", "test")))


@pytest.fixture
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a slice of every recording."""
    monkeypatch.setattr(plan, "SLICE_BYTES", (1, 1))


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a run that nothing happens to makes of the archive of two kits."""
    project = new_project(tmp_path_factory.mktemp("expected") / "project")
    preprocess(project, workers=1)
    return processed(project)


# --- Members that cannot be used -------------------------------------------------------------------------------------

SECOND = PERFORMANCES[0].stem(2)
SECOND_WAV, SECOND_MIDI = f"{ROOT}/{SECOND}.wav", f"{ROOT}/{SECOND}.midi"
NAN = wav(np.array([0.1, np.nan, 0.1] * 1_000, np.float32), subtype="FLOAT")

# What is put in, what is damaged once it is in, and what the message says.
BAD_MEMBERS: dict[str, tuple[Contents, str | None, str]] = {
    "recording with a wrong checksum": ({}, SECOND_WAV, f"{SECOND_WAV} in small.zip is damaged"),
    "MIDI file with a wrong checksum": ({}, SECOND_MIDI, f"{SECOND_MIDI} in small.zip is damaged"),
    "recording with a NaN": ({SECOND_WAV: NAN}, None, f"{SECOND_WAV} has samples that are not finite"),
    "recording without samples": ({SECOND_WAV: wav(np.zeros(0))}, None, f"{SECOND_WAV} has no samples"),
    "recording cut off": ({SECOND_WAV: contents_of()[SECOND_WAV][:5_000]}, None, f"{SECOND_WAV} is cut off"),
    "web page for a recording": ({SECOND_WAV: b"<html></html>"}, None, f"{SECOND_WAV} is not sound"),
    "MIDI file without notes": ({SECOND_MIDI: midi(())}, None, f"{SECOND_MIDI} has no notes"),
    "empty MIDI file": ({SECOND_MIDI: b""}, None, f"{SECOND_MIDI} is not a MIDI file"),
}

every_bad_member = pytest.mark.parametrize("case", BAD_MEMBERS)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of one kit, preprocessed; kit 2 is still to come."""
    project = new_project(tmp_path / "project", contents_of((1,)))
    preprocess(project, workers=1)
    return project


def add_bad_kit(project: Path, case: str) -> None:
    changes, damaged, _ = BAD_MEMBERS[case]
    write_zip(archive_of(project), contents_of() | changes)
    if damaged is not None:
        damage(archive_of(project), damaged)


@every_bad_member
def test_bad_member_is_counted_and_named(case: str, project: Path) -> None:
    add_bad_kit(project, case)
    with pytest.raises(ArchiveError, match="1 members of the archive cannot be used") as failure:
        preprocess(project, workers=1)
    assert BAD_MEMBERS[case][2] in str(failure.value)


@every_bad_member
def test_failed_stage_leaves_what_was_there(case: str, project: Path) -> None:
    before = processed(project), (project / REPORT_FILE).read_bytes()
    add_bad_kit(project, case)
    with pytest.raises(ArchiveError):
        preprocess(project, workers=1)
    assert (processed(project), (project / REPORT_FILE).read_bytes()) == before


@every_bad_member
def test_bad_member_within_the_tolerance_is_left_out_and_listed(case: str, project: Path) -> None:
    add_bad_kit(project, case)
    set_params(project, bad_members_allowed=1)
    report = preprocess(project, workers=1).report
    assert (list(report["skipped"]), report["totals"]["sequences"]) == ([SECOND], 2 * len(PERFORMANCES) - 1)
    assert report["skipped"][SECOND].startswith(BAD_MEMBERS[case][2])


def test_shard_lists_what_is_left_out_of_it(project: Path) -> None:
    add_bad_kit(project, "recording with a NaN")
    set_params(project, bad_members_allowed=1)
    preprocess(project, workers=1)
    skipped = {name: list(shard.attributes["skipped"]) for name, shard in all_shards(project).items()}
    assert {name: ids for name, ids in skipped.items() if ids} == {"train/kit-02.h5": [SECOND]}


def test_other_shards_are_those_of_a_whole_archive(project: Path, expected: dict[str, bytes]) -> None:
    add_bad_kit(project, "recording with a NaN")
    set_params(project, bad_members_allowed=1)
    preprocess(project, workers=1)
    assert {name for name, content in processed(project).items() if content != expected[name]} == {"train/kit-02.h5"}


@pytest.mark.parametrize("workers", [1, 2])
def test_bad_member_is_left_out_by_any_number_of_workers(workers: int, project: Path, one_by_one: None) -> None:
    add_bad_kit(project, "recording with a NaN")
    set_params(project, bad_members_allowed=1)
    assert list(preprocess(project, workers=workers).report["skipped"]) == [SECOND]


def test_one_more_than_allowed_is_too_many_and_all_are_named(project: Path) -> None:
    bad = {FIRST_WAV: b"", SECOND_WAV: b"", SECOND_MIDI: b"", f"{ROOT}/{PERFORMANCES[1].stem(1)}.wav": b""}
    write_zip(archive_of(project), contents_of() | bad)
    set_params(project, bad_members_allowed=2)
    with pytest.raises(ArchiveError, match="3 members of the archive cannot be used") as failure:
        preprocess(project, workers=1)
    named = [name for name in bad if name in str(failure.value)]
    assert named == [FIRST_WAV, SECOND_MIDI, f"{ROOT}/{PERFORMANCES[1].stem(1)}.wav"]


def test_archive_fetched_anew_heals_a_failed_run(project: Path, expected: dict[str, bytes]) -> None:
    add_bad_kit(project, "recording with a wrong checksum")
    with pytest.raises(ArchiveError):
        preprocess(project, workers=1)
    write_zip(archive_of(project), contents_of())
    preprocess(project, workers=1)
    assert processed(project) == expected


def test_archive_fetched_anew_fills_in_what_was_left_out(project: Path, expected: dict[str, bytes]) -> None:
    add_bad_kit(project, "recording with a wrong checksum")
    set_params(project, bad_members_allowed=1)
    preprocess(project, workers=1)
    write_zip(archive_of(project), contents_of())
    assert (preprocess(project, workers=1).report["skipped"], processed(project)) == ({}, expected)


def test_tolerance_raised_knowingly_lets_a_failed_run_go_on(project: Path) -> None:
    add_bad_kit(project, "MIDI file without notes")
    with pytest.raises(ArchiveError):
        preprocess(project, workers=1)
    set_params(project, bad_members_allowed=1)
    assert (preprocess(project, workers=1).made, leftovers(project)) == (3, [])


def test_tolerance_lowered_again_counts_what_was_left_out_before(project: Path) -> None:
    add_bad_kit(project, "recording with a NaN")
    set_params(project, bad_members_allowed=1)
    preprocess(project, workers=1)
    set_params(project, bad_members_allowed=0)
    with pytest.raises(ArchiveError, match="1 members of the archive cannot be used"):
        preprocess(project, workers=1)


def test_table_that_is_damaged_is_an_error_at_any_tolerance(project: Path) -> None:
    damage(archive_of(project), TABLE)
    set_params(project, bad_members_allowed=100)
    with pytest.raises(ArchiveError, match=f"{TABLE} in small.zip is damaged"):
        preprocess(project, workers=1)


# --- Killed runs -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def expected_of_many(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    project = new_project(tmp_path_factory.mktemp("many") / "project", contents_of(MANY_KITS, SHORT))
    preprocess(project, workers=1)
    return processed(project)


@pytest.mark.parametrize(("kind", "count"), [("slices", 3), ("slices", 20), ("shards", 3)])
def test_killed_run_goes_on_with_what_is_finished(
    kind: str,
    count: int,
    tmp_path: Path,
    one_by_one: None,
    monkeypatch: pytest.MonkeyPatch,
    expected_of_many: dict[str, bytes],
) -> None:
    project = new_project(tmp_path / "killed", contents_of(MANY_KITS, SHORT))
    kill_at(project, kind, count)
    finished = {*staged(project, "slices"), *staged(project, "shards")}
    for path in finished:
        Shard(path).check()
    assert not (project / "data" / "processed").exists()

    made = watch_targets(monkeypatch)
    result = preprocess(project, workers=1)
    assert (set(made) & finished, result.made < 3 * len(MANY_KITS)) == (set(), kind == "shards")
    assert processed(project) == expected_of_many
    assert leftovers(project) == []


def test_run_killed_with_all_shards_finished_leaves_nothing_behind(
    tmp_path: Path, one_by_one: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = new_project(tmp_path / "project")
    stop_before_shards(project, monkeypatch)
    slices = {path: path.read_bytes() for path in staged(project, "slices")}
    preprocess(project, workers=1)
    for path, content in slices.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    assert (preprocess(project, workers=1).made, leftovers(project)) == (0, [])


def test_file_that_a_killed_run_was_writing_is_removed(
    tmp_path: Path, one_by_one: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = new_project(tmp_path / "project")
    stop_before_shards(project, monkeypatch)
    for path in staged(project, "slices"):
        path.with_name(f"{path.name}.12345-0a1b2c3d.part").touch()
    preprocess(project, workers=1)
    assert leftovers(project) == []


def test_slice_that_is_damaged_is_made_again(
    tmp_path: Path, one_by_one: None, monkeypatch: pytest.MonkeyPatch, expected: dict[str, bytes]
) -> None:
    project = new_project(tmp_path / "project")
    stop_before_shards(project, monkeypatch)
    for path in staged(project, "slices"):
        rot(path)
    preprocess(project, workers=1)
    assert processed(project) == expected


def test_slices_of_a_run_for_less_do_not_stand_for_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: dict[str, bytes]
) -> None:
    """A slice holds only the kits that are missing when it is made; others may be missing the next time."""
    project = new_project(tmp_path / "project", contents_of((1,)))
    preprocess(project, workers=1)
    write_zip(archive_of(project), contents_of())
    stop_before_shards(project, monkeypatch)
    for path in staged(project, "shards"):
        path.unlink()
    preprocess(project, workers=1)
    assert processed(project) == expected


# --- Rotten shards ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spoil", ["bit", "truncated", "empty", "other file"])
def test_damaged_shard_is_made_again(spoil: str, tmp_path: Path, expected: dict[str, bytes]) -> None:
    project = new_project(tmp_path / "project")
    preprocess(project, workers=1)
    SPOIL[spoil](staged(project, "shards")[2])
    result = preprocess(project, workers=1)
    assert (result.reused, result.made, processed(project)) == (5, 1, expected)


def test_damaged_object_of_the_cache_can_be_replaced_by_dvc(tmp_path: Path) -> None:
    """DVC's cache holds the same file by another name, read-only; DVC looks at it again only when it is writable."""
    project = new_project(tmp_path / "project")
    preprocess(project, workers=1)
    shard = staged(project, "shards")[0]
    cached = tmp_path / "cache-object"
    os.link(shard, cached)
    rot(shard)
    cached.chmod(0o444)
    preprocess(project, workers=1)
    assert (shard.samefile(cached), cached.stat().st_mode & 0o200) == (False, 0o200)


# --- Disks -----------------------------------------------------------------------------------------------------------


def test_too_little_space_is_refused_before_the_first_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = new_project(tmp_path / "project")
    usage = shutil.disk_usage(project)._replace(free=SPARE_BYTES + 1_000)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(StorageError, match="not enough space for spectrograms"):
        preprocess(project, workers=1)
    assert (open_staging(project).root.exists(), (project / "data" / "processed").exists()) == (False, False)


def test_what_is_there_already_needs_no_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = new_project(tmp_path / "project")
    preprocess(project, workers=1)
    usage = shutil.disk_usage(project)._replace(free=SPARE_BYTES)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    assert preprocess(project, workers=1).made == 0


@pytest.mark.parametrize("part", [0, 0.3, 0.9, 0.999], ids=lambda part: f"{part:.1%} of the largest shard")
def test_file_that_cannot_grow_is_one_error(part: float, tmp_path: Path, expected: dict[str, bytes]) -> None:
    """A limit on the size of files fails in the same places as a full disk, and needs no rights to set up."""
    project = new_project(tmp_path / "project")
    limit_bytes = int(part * max(map(len, expected.values())))
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit_bytes}, {limit_bytes}))"
    run = start(project, limited)
    _, errors = run.communicate(timeout=30)
    message = errors.decode()
    assert (message.count("backbeat.errors.StorageError: cannot write"), "Exception ignored" in message) == (1, False)
    assert_nothing_is_half_written(project)
    preprocess(project, workers=1)
    assert processed(project) == expected


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Give a function that makes a project whose cache is on a disk of its own, of that many bytes."""
    project = tmp_path / "project"
    cache = project / ".dvc" / "cache"

    def make(size_bytes: int) -> Path:
        new_project(project)
        cache.mkdir()
        options = ["-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(cache)]
        mounted = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
        if mounted.returncode:
            pytest.skip(f"no disk of its own can be mounted: {mounted.stderr.strip()}")
        return project

    yield make
    if cache.is_mount():
        subprocess.run(["umount", str(cache)], check=True)


@pytest.mark.skipif(shutil.which("mount") is None or os.geteuid() != 0, reason="only root may mount a disk")
@pytest.mark.parametrize("size_kib", [8, 100, 160, 240])
def test_disk_that_fills_up_is_one_error_and_heals(
    size_kib: int,
    small_disk: Callable[[int], Path],
    monkeypatch: pytest.MonkeyPatch,
    one_by_one: None,
    expected: dict[str, bytes],
) -> None:
    project = small_disk(size_kib * 1024)
    monkeypatch.setattr(stage, "require_space", lambda *_: None)  # somebody else takes the space meanwhile
    with pytest.raises(StorageError, match=f"cannot write {project}(.|\n)*No space left on device"):
        preprocess(project, workers=1)
    assert_nothing_is_half_written(project)
    cache = project / ".dvc" / "cache"
    subprocess.run(["mount", "-o", "remount,size=10m", str(cache)], check=True)
    preprocess(project, workers=1)
    assert (processed(project), leftovers(project)) == (expected, [])


# --- How the tests do it ---------------------------------------------------------------------------------------------


def all_shards(project: Path) -> dict[str, Shard]:
    folder = project / "data" / "processed" / "small"
    return {name: Shard(folder / name) for name in processed(project)}


def assert_nothing_is_half_written(project: Path) -> None:
    assert list(project.rglob("*.part")) == []
    assert not (project / "data" / "processed").exists()
    for kind in ("slices", "shards"):
        for path in staged(project, kind):
            Shard(path).check()


def start(project: Path, first: str = "", workers: int = 1) -> subprocess.Popen[bytes]:
    """Run the stage in processes of their own, a slice for every recording."""
    code = f"""{first}
from pathlib import Path
from backbeat.drums import plan, preprocess
plan.SLICE_BYTES = (1, 1)
preprocess.preprocess(Path({str(project)!r}), workers={workers})
"""
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, start_new_session=True)


def kill_at(project: Path, kind: str, count: int) -> None:
    """Run the stage on two workers, and kill them all as soon as so many slices or shards are finished."""
    run = start(project, workers=2)
    wait_for(lambda: run.poll() is not None or len(staged(project, kind)) >= count, patience_s=30)
    os.killpg(run.pid, signal.SIGKILL)
    _, errors = run.communicate(timeout=30)
    assert run.returncode == -signal.SIGKILL, errors.decode()


def watch_targets(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return a list that every slice and shard is added to when it is made."""
    made: list[Path] = []

    def watched(make: Callable[[Any], Path]) -> Callable[[Any], Path]:
        def make_and_note(task: Any) -> Path:
            made.append(task.target)
            return make(task)

        return make_and_note

    for name in ("make_slice", "make_shard"):
        monkeypatch.setattr(stage, name, watched(getattr(stage, name)))
    return made


def stop_before_shards(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the stage until all slices are finished."""

    def stop(task: Any) -> Path:
        raise RuntimeError("stopped before shards")

    with monkeypatch.context() as context:
        context.setattr(stage, "make_shard", stop)
        with pytest.raises(RuntimeError, match="stopped before shards"):
            preprocess(project, workers=1)


def rot(path: Path) -> None:
    """Flip a bit in the first chunk of frames."""
    with h5py.File(path) as file:
        chunk = file["logmel"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset + chunk.size // 2] ^= 1
    path.write_bytes(content)


SPOIL: dict[str, Callable[[Path], object]] = {
    "bit": rot,
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "empty": lambda path: os.truncate(path, 0),
    "other file": lambda path: path.write_text(json.dumps({})),
}
