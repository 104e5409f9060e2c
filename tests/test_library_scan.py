"""The scan: every file once, in folders and archives, with the hash of its sound; nothing read twice, nothing lost."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from backbeat.cli.app import app
from backbeat.errors import LibraryError
from backbeat.library import facts, places
from backbeat.library import scan as stage
from backbeat.library.facts import sound_facts
from backbeat.library.flac import pack
from backbeat.library.ledger import Entry, append
from backbeat.library.memo import memo_path
from backbeat.library.scan import Scanned, scan
from backbeat.library.settings import ScanSettings, load_settings
from backbeat.library.sources import list_samples, read_sample, read_samples
from backbeat.library.tables import table_path
from backbeat.library.vault import sha256, store
from library_sources import RATE, library_project, noise, rows_of, sound, stored, write

SETTINGS = ScanSettings(clip_run_samples=3, silent_below_db=-60.0)

FILES = {
    "Kicks/KICK 1.wav": sound(1),
    "Kicks/größer.WAV": sound(2, channels=2),
    "Snares/SD.flac": sound(3, kind="FLAC"),
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write(tmp_path / "samples", FILES)
    return library_project(tmp_path / "project", kits=str(tmp_path / "samples"))


def rescan(project: Path, **options: Any) -> Scanned:
    return scan(project, workers=1, **options)


def zipped(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def tarred(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in files.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return stream.getvalue()


# --- One file --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subtype", "kind"),
    [
        *[("PCM_16", "FLAC"), ("PCM_24", "WAV"), ("PCM_24", "FLAC"), ("PCM_32", "WAV"), ("PCM_16", "AIFF")],
        *[("FLOAT", "WAV"), ("DOUBLE", "WAV"), ("PCM_16", "WAVEX")],
    ],
)
def test_one_sound_has_one_hash_whatever_it_is_stored_as(subtype: str, kind: str) -> None:
    plain = sound_facts(sound(1), "one", SETTINGS)
    other = sound_facts(sound(1, subtype, kind), "other", SETTINGS)
    assert other["audio_sha256"] == plain["audio_sha256"]
    assert (other["peak_db"], other["dc_offset"]) == (plain["peak_db"], plain["dc_offset"])


@pytest.mark.parametrize(
    "other",
    [
        stored(noise(1), rate=48_000),
        stored(np.repeat(noise(1), 2, axis=1)),
        stored(noise(1)[:-1]),
        stored(noise(1) + 2**-23, "PCM_24"),
        stored(noise(1) + 1e-12, "DOUBLE"),
    ],
    ids=["rate", "channels", "length", "the last of 24 bits", "a float that no integer is"],
)
def test_another_sound_has_another_hash(other: bytes) -> None:
    assert sound_facts(other, "other", SETTINGS)["audio_sha256"] != sound_facts(sound(1), "1", SETTINGS)["audio_sha256"]


def test_floats_are_told_apart_to_their_last_bit() -> None:
    one, other = (stored(np.full((10, 1), value), "DOUBLE") for value in (0.1, np.nextafter(0.1, 1)))
    assert sound_facts(one, "1", SETTINGS)["audio_sha256"] != sound_facts(other, "2", SETTINGS)["audio_sha256"]


def test_bits_that_are_not_used_are_not_counted() -> None:
    assert sound_facts(sound(1, "PCM_24"), "padded", SETTINGS)["used_bits"] == 16
    assert sound_facts(stored(noise(1) + 2**-23, "PCM_24"), "full", SETTINGS)["used_bits"] == 24


def test_runs_at_full_scale_are_clipped_and_single_crests_are_not() -> None:
    samples = np.zeros((1_000, 2))
    samples[10:12], samples[100:103, 0], samples[200:205, 1], samples[999, 0] = 0.9999, -1.0, 1.0, 1.0
    found = sound_facts(stored(samples, "PCM_24"), "crests", SETTINGS)
    assert found["clipped_samples"] == 3 + 5


def test_a_long_file_is_measured_in_blocks_as_if_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    samples = np.clip(noise(1, 1_000, 2) * 6 + 0.1, -1, 1 - 2**-15)
    whole = sound_facts(stored(samples, "FLOAT"), "whole", SETTINGS)
    assert whole["clipped_samples"] > 20
    (tmp_path / "long.wav").write_bytes(stored(samples, "FLOAT"))
    monkeypatch.setattr(facts, "BLOCK_SAMPLES", 7)
    in_blocks = sound_facts(tmp_path / "long.wav", "in blocks", SETTINGS)
    # Sums are taken in another order.
    assert in_blocks.pop("dc_offset") == pytest.approx(whole.pop("dc_offset"), rel=1e-9)
    assert in_blocks == whole


def test_silence_and_offset_are_seen() -> None:
    silent = sound_facts(stored(np.zeros((500, 1))), "nothing", SETTINGS)
    assert silent["silent"]
    assert silent["peak_db"] is None
    assert sound_facts(stored(noise(1) * 1e-4), "hiss", SETTINGS)["silent"]
    shifted = sound_facts(stored(noise(1, 3_000, 2) / 2 + [0, 0.25]), "shifted", SETTINGS)
    assert shifted["dc_offset"] == pytest.approx(0.25, abs=0.01)


# --- A library -------------------------------------------------------------------------------------------------------


def test_a_folder_and_archives_of_it_have_the_same_rows(project: Path, tmp_path: Path) -> None:
    write(tmp_path / "samples", {"packs/one.zip": zipped(FILES), "packs/two.tar.gz": tarred(FILES)})
    rescan(project)
    rows = rows_of(project, "scan")
    assert sorted(rows) == sorted(
        f"kits/{prefix}{name}" for name in FILES for prefix in ("", "packs/one.zip/", "packs/two.tar.gz/")
    )
    for name, content in FILES.items():
        inside = rows[f"kits/packs/two.tar.gz/{name}"]
        assert inside["container"] == "packs/two.tar.gz"
        differ = {"sample", "path", "container"}
        alike = [
            {key: value for key, value in rows[f"kits/{prefix}{name}"].items() if key not in differ}
            for prefix in ("", "packs/one.zip/", "packs/two.tar.gz/")
        ]
        assert alike[0] == alike[1] == alike[2]
        assert alike[0]["file_sha256"] == sha256(content)


def test_an_archive_is_a_source_too(tmp_path: Path) -> None:
    write(tmp_path, {"pack.zip": zipped({**FILES, "__MACOSX/._KICK 1.wav": b"\0", "readme.txt": b"hello"})})
    project = library_project(tmp_path / "project", pack=str(tmp_path / "pack.zip"))
    assert rescan(project).files == 3
    row = rows_of(project, "scan")["pack/pack.zip/Kicks/KICK 1.wav"]
    assert read_sample(project, row) == FILES["Kicks/KICK 1.wav"]


def test_bytes_of_samples_come_out_of_folders_and_archives_and_each_archive_is_read_once(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "samples", {"one.zip": zipped(FILES), "two.tar.gz": tarred(FILES)})
    rescan(project)
    opened: list[str] = []
    iterate = places.iterate
    monkeypatch.setattr(places, "iterate", lambda path: (opened.append(path.name), iterate(path))[1])
    got = {row["sample"]: content for row, content in read_samples(project, rows_of(project, "scan").values())}
    assert got == {
        f"kits/{prefix}{name}": content for name, content in FILES.items() for prefix in ("", "one.zip/", "two.tar.gz/")
    }
    # Once for the names and once for the contents.
    assert sorted(opened) == ["one.zip"] * 2 + ["two.tar.gz"] * 2


def test_bytes_that_have_changed_since_the_scan_are_not_given_out(project: Path, tmp_path: Path) -> None:
    rescan(project)
    rows = rows_of(project, "scan")
    write(tmp_path / "samples", {"Kicks/KICK 1.wav": sound(4)})
    with pytest.raises(LibraryError, match="it has changed since it was scanned"):
        read_sample(project, rows["kits/Kicks/KICK 1.wav"])
    assert read_sample(project, rows["kits/Snares/SD.flac"]) == FILES["Snares/SD.flac"]


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_spellings_of_one_name_in_an_archive_are_one_name(pack: Any, project: Path, tmp_path: Path) -> None:
    members = {
        "./a//x.wav": sound(1),
        "./k.wav": sound(2),
        "k.wav": sound(3),
        "./b.wav": sound(4),
        ".//b.wav": sound(5),
    }
    write(tmp_path / "samples", {"pack.zip" if pack is zipped else "pack.tar.gz": pack(members)})
    assert rescan(project).unreadable == 2
    rows = {name.partition("/pack.")[2].partition("/")[2]: row for name, row in rows_of(project, "scan").items()}
    assert "written differently" in rows["./k.wav"]["error"]
    assert "written differently" in rows[".//b.wav"]["error"]
    assert rows["./k.wav"]["file_sha256"] is None
    for name, content in (("a/x.wav", sound(1)), ("k.wav", sound(3)), ("b.wav", sound(4))):
        assert read_sample(project, rows[name]) == content
    assert rescan(project).unreadable == 2


def test_hidden_files_and_other_kinds_are_passed_over(project: Path, tmp_path: Path) -> None:
    others = ["._KICK 1.wav", ".cache/a.wav", "__MACOSX/a.wav", "Kicks/notes.txt", "Kicks/KICK 1.wav.asd"]
    write(tmp_path / "samples", dict.fromkeys(others, b"RIFF"))
    assert rescan(project).files == len(FILES)


def test_links_in_circles_end_and_a_linked_file_is_no_second_copy(project: Path, tmp_path: Path) -> None:
    samples = tmp_path / "samples"
    (samples / "A round").symlink_to(samples, target_is_directory=True)
    (samples / "A link to Kicks").symlink_to(samples / "Kicks", target_is_directory=True)
    (samples / "A link.wav").symlink_to(samples / "Kicks/KICK 1.wav")
    (samples / "gone.wav").symlink_to(samples / "nowhere.wav")
    write(tmp_path / "elsewhere", {"own.wav": sound(9)})
    (samples / "elsewhere").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    rescan(project)
    assert sorted(rows_of(project, "scan")) == sorted([*(f"kits/{name}" for name in FILES), "kits/elsewhere/own.wav"])


def test_what_two_sources_share_belongs_to_the_first(tmp_path: Path) -> None:
    write(tmp_path / "samples", FILES)
    inner, outer = tmp_path / "samples/Kicks", tmp_path / "samples"
    (inner / "link.flac").symlink_to(outer / "Snares/SD.flac")
    project = library_project(tmp_path / "project", kicks=str(inner), all=str(outer))
    rescan(project)
    assert sorted(rows_of(project, "scan")) == ["kicks/KICK 1.wav", "kicks/größer.WAV", "kicks/link.flac"]


def test_a_source_that_is_not_there_is_an_error_and_the_table_stays(project: Path, tmp_path: Path) -> None:
    rescan(project)
    before = table_path(project, "scan").read_bytes()
    shutil.move(tmp_path / "samples", tmp_path / "unmounted")
    with pytest.raises(LibraryError, match="the source kits is not at"):
        rescan(project)
    assert table_path(project, "scan").read_bytes() == before


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (FILES["Kicks/KICK 1.wav"][:2_000], "cut off"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (stored(np.full((10, 1), np.nan), "FLOAT"), "not finite"),
        (stored(noise(1), "IMA_ADPCM"), "unsupported"),
    ],
    ids=["empty", "cut off", "web page", "not a number", "ADPCM"],
)
def test_what_cannot_be_read_is_listed_with_the_reason(
    content: bytes, reason: str, project: Path, tmp_path: Path
) -> None:
    write(tmp_path / "samples", {"bad.wav": content})
    assert rescan(project).unreadable == 1
    row = rows_of(project, "scan")["kits/bad.wav"]
    assert reason in row["error"]
    assert (row["file_sha256"], row["size_bytes"]) == (sha256(content), len(content))
    assert row["audio_sha256"] is None


def test_a_name_that_is_no_text_and_a_damaged_archive_are_listed_too(project: Path, tmp_path: Path) -> None:
    damaged = zipped(FILES)
    odd = os.fsdecode(b"caf\xe9.wav")
    write(tmp_path / "samples", {"broken.zip": damaged[: len(damaged) // 2], odd: FILES["Kicks/KICK 1.wav"]})
    assert rescan(project).unreadable == 2
    rows = rows_of(project, "scan")
    assert "not UTF-8" in rows["kits/caf\\xe9.wav"]["error"]
    assert rows["kits/broken.zip"]["error"]
    # The same content under a good name is good.
    assert rows["kits/Kicks/KICK 1.wav"]["error"] is None
    assert rescan(project).unreadable == 2


# --- Again -----------------------------------------------------------------------------------------------------------


def test_a_second_scan_reads_nothing_and_new_files_cost_themselves(project: Path, tmp_path: Path) -> None:
    write(tmp_path / "samples", {"pack.tar.gz": tarred(FILES)})
    assert rescan(project).read == 2 * len(FILES)
    before = table_path(project, "scan").read_bytes()
    assert rescan(project).read == 0
    assert table_path(project, "scan").read_bytes() == before
    write(tmp_path / "samples", {f"new/{at}.wav": sound(at + 10) for at in range(10)})
    assert rescan(project).read == 10
    assert rescan(project, rehash=True).read == 2 * len(FILES) + 10


def test_a_file_that_changed_is_read_again_even_with_its_old_size_and_time(project: Path, tmp_path: Path) -> None:
    rescan(project)
    place = tmp_path / "samples/Kicks/KICK 1.wav"
    status = place.stat()
    place.write_bytes(sound(8))
    os.utime(place, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert rescan(project).read == 1
    assert rows_of(project, "scan")["kits/Kicks/KICK 1.wav"]["file_sha256"] == sha256(sound(8))


def test_a_killed_scan_goes_on_where_it_was(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = iter(range(100))

    def interrupted(*arguments: Any) -> dict[str, Any]:
        if next(count) == 2:
            raise KeyboardInterrupt
        return sound_facts(*arguments)

    monkeypatch.setattr(stage, "FILES_AT_ONCE", 1)
    monkeypatch.setattr(facts, "sound_facts", interrupted)
    with pytest.raises(KeyboardInterrupt):
        rescan(project)
    assert rescan(project).read == 1


def on_reading(monkeypatch: pytest.MonkeyPatch, action: Callable[[], None]) -> None:
    """Do something while the first file is read."""
    read, pending = sound_facts, [action]

    def reading(*arguments: Any) -> dict[str, Any]:
        if pending:
            pending.pop()()
        return read(*arguments)

    monkeypatch.setattr(facts, "sound_facts", reading)


def test_a_file_that_goes_during_the_scan_is_left_out(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_reading(monkeypatch, (tmp_path / "samples/Snares/SD.flac").unlink)
    found = rescan(project)
    assert (found.files, found.vanished) == (2, 1)


def test_a_file_that_is_written_during_the_scan_is_read_as_it_is_then(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "samples/Kicks/KICK 1.wav"
    on_reading(monkeypatch, lambda: (place.write_bytes(sound(8)), None)[1])
    rescan(project)
    assert rows_of(project, "scan")["kits/Kicks/KICK 1.wav"]["file_sha256"] == sha256(sound(8))


@pytest.mark.parametrize("remembered", [True, False], ids=["remembered", "out of its FLAC"])
def test_an_original_that_only_the_archive_has_keeps_its_row(remembered: bool, project: Path, tmp_path: Path) -> None:
    rescan(project)
    name = "kits/Kicks/KICK 1.wav"
    before = rows_of(project, "scan")[name]
    content = FILES["Kicks/KICK 1.wav"]
    flac = pack(content)
    store(project, sha256(content), flac)
    append(project, [Entry(name, sha256(content), before["audio_sha256"], len(content), sha256(flac), "0" * 32)])
    (tmp_path / "samples/Kicks/KICK 1.wav").unlink()
    if not remembered:
        memo_path(project).unlink()
    assert rescan(project).archived == 1
    after = rows_of(project, "scan")[name]
    assert after == {**before, "tier": "archive"}
    assert read_sample(project, after) == content


def test_samples_are_listed_sorted_by_name(project: Path) -> None:
    listed = [found.sample for found in list_samples(project, load_settings(project))]
    assert listed == sorted(listed)
    assert len(listed) == len(FILES)


def test_the_command_says_how_many_there_are(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    result = CliRunner().invoke(app, ["library", "scan", "--workers", "1", "--json"])
    assert result.exit_code == 0, result.output
    assert '"files": 3' in result.stdout
    assert f'"duration_s": {3 * 3_000 / RATE}'[:20] in result.stdout
