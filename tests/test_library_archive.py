"""The archive: originals as FLAC, removed when that is proven, and back to the byte whatever happens meanwhile."""

from __future__ import annotations

import hashlib
import io
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import types
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from backbeat.errors import CloudError, LibraryError
from backbeat.library import tables
from backbeat.library.archive import archive
from backbeat.library.flac import pack, unpack
from backbeat.library.ledger import Entry, append, read_ledger
from backbeat.library.removal import Removal, remove_originals
from backbeat.library.restore import restore
from backbeat.library.vault import restored_bytes, vault_path
from backbeat.storage.exclusive import exclusive
from library_errands import archive_and_remove, bring_back

REPOSITORY = Path(__file__).parents[1]

CHOSEN = "kits/Kicks/Kick 01.wav"
FLOAT = "kits/Hats/CH.wav"
INSIDE = "kits/pack.zip/Snares/SD.wav"
LONG = f"kits/{'long ' * 46}.wav"  # 234 bytes

KILLS = 4
MANY_KILLS = 30


def sound(seed: int, subtype: str = "PCM_16", frames: int = 1_000) -> bytes:
    """A file of noise that decays, with a chunk behind its samples as editors leave them."""
    noise = np.random.default_rng(seed).normal(size=frames) * np.exp(-np.arange(frames) / 200) / 4
    stream = io.BytesIO()
    soundfile.write(stream, noise, 44_100, format="WAV", subtype=subtype)
    return stream.getvalue() + b"LIST\x04\0\0\0cut?"


FILES = {
    CHOSEN: sound(1),
    FLOAT: sound(2, "FLOAT"),
    "kits/Kicks/Kick 02.wav": sound(3, "PCM_24"),
    "kits/Kicks/Kick 02 copy.wav": sound(3, "PCM_24"),
    "kits/Snares/SD 8 bit.wav": sound(4, "PCM_U8", 777),
    "kits/Snares/größer.wav": sound(5),
    INSIDE: sound(6),
    LONG: sound(7),
}
ARCHIVED = sorted(set(FILES) - {CHOSEN, FLOAT, LONG})


def write_project(folder: Path, files: dict[str, bytes]) -> Path:
    """Make a library of these files with what scan and curate would have written about them."""
    for below in (".dvc", "configs", "samples"):
        (folder / below).mkdir(parents=True)
    (folder / "params.yaml").touch()
    settings = yaml.safe_load((REPOSITORY / "configs/library.yaml").read_text(encoding="utf-8"))
    settings["sources"] = [{"name": "kits", "path": "samples"}]
    (folder / "configs/library.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    for sample, content in files.items():
        path = place_of(folder, sample)
        if ".zip" in sample:
            with zipfile.ZipFile(folder / "samples/pack.zip", "w") as pack:
                pack.writestr(sample.partition(".zip/")[2], content)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    scan(folder, files)
    chosen = {"sample": CHOSEN, "audio_sha256": sha256(FILES[CHOSEN][:-12]), "chosen": True}
    tables.write_table(folder, "curation", tables.CURATION, [chosen])
    return folder


def scan(project: Path, files: dict[str, bytes]) -> None:
    rows = [
        {
            "sample": sample,
            "source": "kits",
            "path": sample.removeprefix("kits/"),
            "container": "pack.zip" if ".zip" in sample else None,
            "tier": "original",
            "file_sha256": sha256(content),
            "size_bytes": len(content),
            "audio_sha256": sha256(content[:-12]),
        }
        for sample, content in files.items()
    ]
    tables.write_table(project, "scan", tables.SCAN, rows)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def place_of(project: Path, sample: str) -> Path:
    return project / "samples" / sample.removeprefix("kits/")


def kept_for(done: list[Removal]) -> dict[str, str | None]:
    return {one.sample: one.reason for one in done if one.action == "kept"}


@pytest.fixture(scope="module")
def archived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library whose originals are all there and archived. Copy it before changing it."""
    project = write_project(tmp_path_factory.mktemp("library") / "project", FILES)
    archive(project, workers=1)
    return project


@pytest.fixture
def project(archived: Path, tmp_path: Path) -> Path:
    project = shutil.copytree(archived, tmp_path / "project", symlinks=True)
    archive(project, workers=1)  # links lead to its own store
    return project


def test_what_is_not_in_production_is_archived_and_what_flac_cannot_hold_is_kept_with_the_reason(project: Path) -> None:
    rows = {row["sample"]: row for row in tables.read_table(project, "archive").to_pylist()}
    assert sorted(sample for sample, row in rows.items() if row["state"] == "archived") == ARCHIVED
    assert rows[LONG]["reason"] == "its name is too long to be restored: more than 233 bytes"
    assert (rows[CHOSEN]["reason"], rows[FLOAT]["reason"]) == (
        "its sound is in production",
        "its samples are floating-point",
    )
    linked_files = {str(path.relative_to(project / "data/library/archive")): path for path in _files(project)}
    assert {name: sha256(path.read_bytes()) for name, path in linked_files.items()} == {
        f"{sample}.flac": rows[sample]["flac_sha256"] for sample in ARCHIVED
    }
    assert {sample: unpack(linked_files[f"{sample}.flac"].read_bytes()) for sample in ARCHIVED} == {
        sample: FILES[sample] for sample in ARCHIVED
    }


def _files(project: Path) -> list[Path]:
    return [path for path in (project / "data/library/archive").rglob("*") if path.is_file()]


def test_a_file_that_is_there_twice_is_one_flac_file_and_nothing_is_made_again(project: Path) -> None:
    entries = list(vault_path(project, "0" * 64).parents[1].glob("??/*"))
    assert len(entries) == len(ARCHIVED) - 1
    assert archive(project, workers=1).made == 0


def test_a_dry_run_says_what_would_go_and_removes_nothing(project: Path) -> None:
    done = remove_originals(project)
    would = [one.sample for one in done if one.action == "would be removed"]
    assert would == [sample for sample in ARCHIVED if sample != INSIDE]
    assert sum(one.freed_bytes for one in done) == sum(len(FILES[sample]) for sample in would)
    assert all(place_of(project, sample).exists() for sample in would)
    assert read_ledger(project) == {}


def test_removed_originals_come_back_to_the_byte_and_leave_the_ledger(project: Path) -> None:
    done = remove_originals(project, dry_run=False)
    assert kept_for(done) == {INSIDE: "it is inside an archive file"}
    gone = [one.sample for one in done if one.action == "removed"]
    assert sorted(read_ledger(project)) == gone
    assert not any(place_of(project, sample).exists() for sample in gone)
    assert kept_for(remove_originals(project, dry_run=False))[gone[0]] == "only the archive has it already"
    assert {one.action for one in restore(project)} == {"restored"}
    assert {sample: place_of(project, sample).read_bytes() for sample in gone} == {
        sample: FILES[sample] for sample in gone
    }
    assert read_ledger(project) == {}


def changed(project: Path, path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"!")


def linked(project: Path, path: Path) -> None:
    path.rename(path.with_suffix(".real"))
    path.symlink_to(path.with_suffix(".real"))


def folder_linked(project: Path, path: Path) -> None:
    path.parent.rename(project / "elsewhere")
    path.parent.symlink_to(project / "elsewhere")


def gone(project: Path, path: Path) -> None:
    path.unlink()


def in_git(project: Path, path: Path) -> None:
    for words in (["init", "-q"], ["add", path.name]):
        subprocess.run(["git", "-C", path.parent, *words], check=True)


def in_dvc(project: Path, path: Path) -> None:
    (project / ".dvc/config").write_text("[core]\nno_scm = true\n")
    pointer = path.parent.with_name(f"{path.parent.name}.dvc")
    pointer.write_text(f"outs:\n- md5: {'0' * 32}.dir\n  path: {path.parent.name}\n")


def flac_damaged(project: Path, path: Path) -> None:
    vault = vault_path(project, sha256(FILES[ODD]))
    content = bytearray(vault.read_bytes())
    content[-30] ^= 1
    vault.write_bytes(content)


def flac_gone(project: Path, path: Path) -> None:
    vault_path(project, sha256(FILES[ODD])).unlink()


def flac_is_a_link_to_it(project: Path, path: Path) -> None:
    vault = vault_path(project, sha256(FILES[ODD]))
    vault.unlink()
    vault.symlink_to(path)


ODD = "kits/Snares/größer.wav"

REASONS: dict[Callable[[Path, Path], None], str] = {
    changed: "it has changed since it was archived",
    linked: "it is reached through a link",
    folder_linked: "it is reached through a link",
    gone: "it is not there any more",
    in_git: "Git or DVC tracks it",
    in_dvc: "Git or DVC tracks it",
    flac_damaged: "its FLAC file was damaged: `backbeat library archive` makes it anew",
    flac_gone: "its FLAC file is not in the staging store",
    flac_is_a_link_to_it: "its FLAC file is not in the staging store",
}


@pytest.mark.parametrize("fate", REASONS)
def test_an_original_stays_that_is_not_proven_or_not_ours_to_remove(
    fate: Callable[[Path, Path], None], project: Path
) -> None:
    path = place_of(project, ODD)
    fate(project, path)
    before = path.read_bytes() if path.exists() else None
    assert kept_for(remove_originals(project, dry_run=False))[ODD] == REASONS[fate]
    assert (path.read_bytes() if path.exists() else None) == before
    assert ODD not in read_ledger(project)


def test_a_flac_file_found_damaged_is_made_anew_by_the_next_run(project: Path) -> None:
    vault = vault_path(project, sha256(FILES[ODD]))
    before = vault.stat()
    flac_damaged(project, place_of(project, ODD))
    os.utime(vault, ns=(before.st_atime_ns, before.st_mtime_ns))  # as a disk does it
    remove_originals(project, dry_run=False)
    assert archive(project, workers=1).made == 1
    assert kept_for(remove_originals(project, dry_run=False)).keys() == {INSIDE, *ARCHIVED} - {ODD}


def test_an_original_stays_of_whose_name_the_ledger_has_another_file(project: Path) -> None:
    append(project, [entry_of(ODD)])
    for dry_run in (True, False):
        assert kept_for(remove_originals(project, dry_run=dry_run))[ODD] == "the ledger has another file of this name"
    assert place_of(project, ODD).read_bytes() == FILES[ODD]


def test_both_names_of_one_file_go_and_free_it_once(project: Path) -> None:
    one, other = (place_of(project, f"kits/Kicks/Kick 02{suffix}.wav") for suffix in ("", " copy"))
    other.unlink()
    other.hardlink_to(one)
    done = [row for row in remove_originals(project, dry_run=False) if "Kick 02" in row.sample]
    assert [row.action for row in done] == ["removed"] * 2
    assert sum(row.freed_bytes for row in done) == len(FILES["kits/Kicks/Kick 02.wav"])


def test_a_new_file_under_the_name_of_an_archived_one_is_kept_and_hides_it_from_nobody(project: Path) -> None:
    remove_originals(project, dry_run=False)
    new = sound(99)
    place_of(project, ODD).write_bytes(new)
    scan(project, {**FILES, ODD: new})
    archive(project, workers=1)
    (row,) = [row for row in tables.read_table(project, "archive").to_pylist() if row["sample"] == ODD]
    assert (row["state"], row["reason"]) == ("kept", "the archive has another file of this name")
    assert unpack((project / f"data/library/archive/{ODD}.flac").read_bytes()) == FILES[ODD]


def test_names_in_the_way_of_each_other_and_files_that_are_no_samples_are_kept(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backbeat.library.archive._MOST_BYTES", 2**20)
    names = ["kits/k.wav", "kits/k.wav.flac/x.wav", "kits/pack.zip/../../../x.wav", "kits/z.wav"]
    scan(project, {name: sound(n, frames=600_000 if name == "kits/z.wav" else 90) for n, name in enumerate(names, 1)})
    place_of(project, names[0]).write_bytes(sound(1, frames=90))
    tables.write_table(project, "curation", tables.CURATION, [])
    archive(project, workers=1)
    assert [row["reason"] for row in tables.read_table(project, "archive").to_pylist()] == [
        None,
        "its name is in the way of another one's",
        "its name leads out of its folder",
        "it is too long for a sample: more than 1 MB",
    ]


def cached(project: Path, flac_md5: str) -> Path:
    path = project / ".dvc/cache/files/md5" / flac_md5[:2] / flac_md5[2:]
    path.parent.mkdir(parents=True)
    return path


def test_a_damaged_flac_file_takes_the_place_of_no_good_one(project: Path) -> None:
    remove_originals(project, dry_run=False)
    entry = read_ledger(project)[ODD]
    vault = vault_path(project, entry.file_sha256)
    shutil.copy(vault, cached(project, entry.flac_md5))
    flac_damaged(project, place_of(project, ODD))
    archive(project, workers=1)
    assert sha256((project / f"data/library/archive/{ODD}.flac").read_bytes()) == entry.flac_sha256
    flac_damaged(project, place_of(project, ODD))
    shutil.rmtree(project / ".dvc/cache/files")
    with pytest.raises(LibraryError, match="größer"):
        archive(project, workers=1)


def test_another_flac_file_of_the_same_original_will_do_and_the_table_says_which(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove_originals(project, dry_run=False)
    other = pack(FILES[ODD]).replace(b"reference libFLAC", b"something libFLAC")
    assert unpack(other) == FILES[ODD]
    entry = read_ledger(project)[ODD]
    vault_path(project, entry.file_sha256).unlink()
    linked = project / f"data/library/archive/{ODD}.flac"
    linked.unlink()
    linked.write_bytes(other)  # as DVC has it from another clone
    assert restored_bytes(project, entry) == FILES[ODD]
    archive(project, workers=1)
    (row,) = [row for row in tables.read_table(project, "archive").to_pylist() if row["sample"] == ODD]
    assert (row["flac_sha256"], linked.read_bytes()) == (sha256(other), other)


def test_the_stage_misses_what_the_ledger_has_lost_but_not_what_was_restored(project: Path) -> None:
    remove_originals(project, dry_run=False)
    ledger = project / "data/library/ledger.csv"
    content = ledger.read_bytes()
    ledger.unlink()
    scan(project, {})
    with pytest.raises(LibraryError, match="8 bit"):  # noted by the removal itself
        archive(project, workers=1)
    ledger.write_bytes(content)
    (one,) = restore(project, [ODD])
    place_of(project, ODD).unlink()
    left = {sample: content for sample, content in FILES.items() if sample != ODD}
    scan(project, left)
    assert (one.unlisted, archive(project, workers=1).only) == (True, len(ARCHIVED) - 2)
    content = ledger.read_bytes()
    ledger.write_bytes(b"".join(line for line in content.splitlines(True) if b"8 bit" not in line))
    del left["kits/Snares/SD 8 bit.wav"]
    scan(project, left)
    with pytest.raises(LibraryError, match="Snares/SD 8 bit"):
        archive(project, workers=1)
    ledger.write_bytes(content)
    assert archive(project, workers=1).only == len(ARCHIVED) - 2


def test_restoring_goes_on_after_a_name_that_the_disk_does_not_take(project: Path) -> None:
    remove_originals(project, dry_run=False)
    append(project, [replace(read_ledger(project)[ODD], sample=f"kits/{'n' * 250}.wav")])
    done = {one.action for one in restore(project)}
    assert done == {"restored", "refused"}
    assert len(read_ledger(project)) == 1


def test_restoring_replaces_no_other_file_and_goes_elsewhere_on_request(project: Path, tmp_path: Path) -> None:
    remove_originals(project, dry_run=False)
    place_of(project, ODD).write_bytes(b"mine")
    (one,) = restore(project, [ODD])
    assert (one.action, place_of(project, ODD).read_bytes()) == ("refused", b"mine")
    restore(project, [ODD], to=tmp_path / "out")
    assert (tmp_path / "out" / ODD).read_bytes() == FILES[ODD]
    assert ODD in read_ledger(project)


def test_what_only_the_archive_has_stays_archived_when_its_sound_comes_into_production(project: Path) -> None:
    remove_originals(project, dry_run=False)
    chosen = {"sample": ODD, "audio_sha256": sha256(FILES[ODD][:-12]), "chosen": True}
    tables.write_table(project, "curation", tables.CURATION, [chosen])
    archive(project, workers=1)
    rows = tables.read_table(project, "archive").to_pylist()
    assert [row["sample"] for row in rows] == sorted(FILES)
    assert {row["state"] for row in rows if row["sample"] == ODD} == {"archived"}


def test_only_one_process_at_a_time_removes(project: Path) -> None:
    with exclusive(project, "push"), pytest.raises(CloudError, match="another"):
        remove_originals(project, dry_run=False)


def test_the_stage_carries_over_what_only_the_archive_has_and_fails_before_it_would_lose_it(project: Path) -> None:
    remove_originals(project, dry_run=False)
    tables.write_table(project, "scan", tables.SCAN, [])
    assert archive(project, workers=1).only == len(ARCHIVED) - 1
    links = _files(project)
    entry = read_ledger(project)[ODD]
    in_dvc = cached(project, entry.flac_md5)
    vault_path(project, entry.file_sha256).rename(in_dvc)  # only DVC has it
    assert archive(project, workers=1).only == len(ARCHIVED) - 1
    assert vault_path(project, entry.file_sha256).read_bytes() == in_dvc.read_bytes()
    in_dvc.unlink()
    vault_path(project, entry.file_sha256).unlink()
    before = (project / "data/library/archive.parquet").read_bytes()
    with pytest.raises(LibraryError, match="größer"):
        archive(project, workers=1)
    assert (project / "data/library/archive.parquet").read_bytes() == before
    assert len(_files(project)) == len(links) - 1  # the link is there, and leads nowhere


def entry_of(sample: str) -> Entry:
    return Entry(sample, "a" * 64, "b" * 64, 7, "c" * 64, "d" * 32)


def test_a_line_of_the_ledger_that_a_crash_cut_short_is_passed_over_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    append(tmp_path, [entry_of('kits/with, "comma".wav'), entry_of("kits/b.wav")])
    path = tmp_path / "data/library/ledger.csv"
    whole = path.read_bytes()
    for cut in range(1, 100):
        path.write_bytes(whole[:-cut])
        names = ['kits/with, "comma".wav', *(["kits/b.wav"] if cut == 1 else [])]
        assert list(read_ledger(tmp_path)) == names
        append(tmp_path, [entry_of("kits/c.wav")])
        assert list(read_ledger(tmp_path)) == [*names, "kits/c.wav"]
    path.write_bytes(whole.replace(b"a" * 64, b"a" * 63))
    with pytest.raises(LibraryError, match="line 2"):
        append(tmp_path, [entry_of("kits/c.wav")])
    with pytest.raises(LibraryError, match="ledger"):
        append(tmp_path / "other", [entry_of("kits/two\nlines.wav")])


def test_a_merged_ledger_is_read_or_says_what_to_do_with_it(tmp_path: Path) -> None:
    append(tmp_path, [entry_of("kits/a.wav"), entry_of("kits/a.wav")])
    assert list(read_ledger(tmp_path)) == ["kits/a.wav"]
    path = tmp_path / "data/library/ledger.csv"
    whole = path.read_bytes()
    path.write_bytes(whole + b"<<<<<<< HEAD\n")
    with pytest.raises(LibraryError, match=r"(?s)line 4.*keep the lines of both sides"):
        read_ledger(tmp_path)
    path.write_bytes(whole)
    append(tmp_path, [replace(entry_of("kits/a.wav"), file_sha256="e" * 64)])
    with pytest.raises(LibraryError, match="two different lines"):
        read_ledger(tmp_path)


processes = multiprocessing.get_context("forkserver")


def unrecoverable(project: Path, files: dict[str, bytes]) -> list[str]:
    """Return the samples whose bytes are neither at their place nor can be had out of the archive."""
    lost = []
    ledger = read_ledger(project)
    for sample, content in files.items():
        path = place_of(project, sample)
        if not (path.is_file() and path.read_bytes() == content):
            try:
                found = restored_bytes(project, ledger[sample])
            except (KeyError, LibraryError):
                found = b""
            if found != content:
                lost.append(sample)
    return lost


def one_run(target: Callable[..., None], project: Path, delay_s: float | None, changes: int | None) -> bool:
    """Do something in a child, which is killed after so long or before so many changes; return whether it was."""
    child = processes.Process(target=target, args=(project, changes))
    child.start()
    child.join(delay_s)
    child.kill()
    child.join()
    return child.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("kills", [KILLS, pytest.param(MANY_KILLS, marks=pytest.mark.slow)])
def test_no_sample_is_lost_however_often_it_is_killed(
    kills: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What every child needs is loaded once; the server that forks them finds it by this variable alone.
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    # A child would import the program that started it, which is pytest here, and take a second for that.
    monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))
    processes.set_forkserver_preload(["library_errands"])
    files = {f"kits/{n:02d}.wav": sound(n, ("PCM_16", "PCM_24", "PCM_U8")[n % 3], 300 + n) for n in range(24)}
    project = write_project(tmp_path / "project", files)
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    dice = random.Random(seed)
    done = number = 0
    while done < kills:
        number += 1
        assert number < 6 * kills
        # Half of them at any moment, half at the worst: between one change to the disk and the next.
        when = (dice.uniform(0.02, 0.3), None) if number % 2 else (None, dice.randrange(1, 120))
        done += one_run(bring_back if number % 5 == 4 else archive_and_remove, project, *when)
        assert unrecoverable(project, files) == []
    restore(project)
    archive(project, workers=1)
    assert {one.action for one in remove_originals(project, dry_run=False)} == {"removed"}
    assert {one.action for one in restore(project)} == {"restored"}
    assert {sample: place_of(project, sample).read_bytes() for sample in files} == files
    assert read_ledger(project) == {}
