"""Records that the program writes: from addresses, and from files of one's own."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import json
import tarfile
import zipfile
from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner, Result

from backbeat.cli import dataset_care
from backbeat.datasets.download import download
from backbeat.datasets.layouts import guess_layout
from backbeat.datasets.new import Description, new
from backbeat.datasets.record_text import record_text
from backbeat.datasets.refresh import refresh
from backbeat.datasets.registry import Record, load_record
from backbeat.errors import BackbeatError, ConfigError, DownloadError
from misbehaving_server import Answer, MisbehavingServer
from one_dataset import BODY, HASH, HASTY, new_project

ROOT = Path(__file__).parents[1]
MINE = Description("My drums", "CC0-1.0", commercial=True, redistribute=True)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (tmp_path / "project").mkdir()
    project = new_project(tmp_path / "project")
    (project / "data").mkdir()
    (project / "data" / "dvc.yaml").write_text((ROOT / "data" / "dvc.yaml").read_text())
    return project


@pytest.fixture
def kits(project: Path) -> Path:
    """A folder in the project with two recordings and what does not belong to it."""
    folder = project / "own kits"
    for name, content in {"snare/hit #1.wav": b"one", "kick/hit.wav": b"two", ".DS_Store": b"?"}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def made(project: Path, source: str | Path, description: Description = MINE, *, fetch: bool = True) -> Record:
    new(project, "mine", str(source), description, fetch=fetch, patience=HASTY)
    return load_record(project, "mine")


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


# --- From files of one's own -----------------------------------------------------------------------------------------


def test_every_file_of_a_folder_has_an_entry(project: Path, kits: Path) -> None:
    files = made(project, kits).files
    assert [(file.path, file.size, file.hash) for file in files] == [
        ("kick/hit.wav", 3, sha256(b"two")),
        ("snare/hit #1.wav", 3, sha256(b"one")),
    ]


def test_folder_in_the_project_means_the_same_on_every_machine(project: Path, kits: Path) -> None:
    assert made(project, kits).files[1].urls == ("file:own%20kits/snare/hit%20%231.wav",)


def test_folder_elsewhere_means_something_here(project: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "elsewhere.zip").write_bytes(BODY)
    record = made(project, tmp_path / "elsewhere.zip")
    assert (record.files[0].urls[0], "on this machine only" in caplog.text) == (
        f"file://{tmp_path}/elsewhere.zip",
        True,
    )


def test_it_downloads_like_any_other(project: Path, kits: Path) -> None:
    made(project, kits)
    download(project, "mine")
    assert (project / "data/raw/mine/snare/hit #1.wav").read_bytes() == b"one"


def test_it_refreshes_like_any_other(project: Path, kits: Path) -> None:
    made(project, kits)
    assert {freshness.state for freshness in refresh(project, ["mine"])} == {"first seen"}


def test_it_has_a_download_stage(project: Path, kits: Path) -> None:
    made(project, kits)
    stages = yaml.safe_load((project / "data" / "dvc.yaml").read_text())["stages"]
    assert stages["download"]["matrix"]["dataset"] == ["mine"]


def test_hashed_files_are_verified_today(project: Path, kits: Path) -> None:
    assert made(project, kits).verified_on == dt.datetime.now(dt.UTC).date()


def test_what_a_person_said_is_in_the_record(project: Path, kits: Path) -> None:
    record = made(project, kits)
    assert (record.title, record.license.id, record.license.redistribute) == ("My drums", "CC0-1.0", True)


def test_non_commercial_license_is_taken_at_its_name(project: Path, kits: Path) -> None:
    assert made(project, kits, Description("My drums", "CC-BY-NC-4.0")).license.commercial is False


def too_many(folder: Path) -> None:
    for number in range(201):
        (folder / f"{number}.wav").write_bytes(b"1")


def empty_file(folder: Path) -> None:
    (folder / "empty.wav").touch()


def nothing(folder: Path) -> None:
    (folder / ".hidden").touch()


FOLDERS = {
    "too many files": (too_many, r"201 files(.|\n)*zip -0"),
    "an empty file": (empty_file, r"empty\.wav is empty"),
    "no files": (nothing, "has no files"),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_folder_that_makes_no_record_is_refused(case: str, project: Path, tmp_path: Path) -> None:
    make, fragment = FOLDERS[case]
    (tmp_path / "folder").mkdir()
    make(tmp_path / "folder")
    with pytest.raises(ConfigError, match=fragment):
        made(project, tmp_path / "folder")


@pytest.mark.parametrize(
    ("name", "description", "fragment"),
    [
        pytest.param("My Takes", MINE, "name", id="name that no record may have"),
        pytest.param("mine", Description("", "CC0-1.0"), "title", id="no title"),
        pytest.param("mine", Description("My drums", "unknown", redistribute=True), "license", id="unknown license"),
    ],
)
def test_what_makes_no_valid_record_is_refused_before_anything_is_fetched(
    name: str, description: Description, fragment: str, project: Path, server: MisbehavingServer
) -> None:
    with pytest.raises(ConfigError, match=fragment):
        new(project, name, server.url(), description, patience=HASTY)
    assert [seen.method for seen in server.seen] == ["HEAD"]


def test_existing_record_is_not_overwritten(project: Path, kits: Path) -> None:
    made(project, kits)
    before = (project / "configs/datasets/mine.yaml").read_bytes()
    with pytest.raises(ConfigError, match="mine is a dataset already"):
        made(project, kits, Description("Another", "CC0-1.0"))
    assert (project / "configs/datasets/mine.yaml").read_bytes() == before


def test_source_that_is_not_there_is_named(project: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.zip is not there"):
        made(project, project / "nothing.zip")


# --- From addresses --------------------------------------------------------------------------------------------------


def test_fetched_file_has_size_and_hash(project: Path, server: MisbehavingServer) -> None:
    file = made(project, server.url("deep/my%20kit.zip")).files[0]
    assert (file.path, file.size, file.hash) == ("my kit.zip", len(BODY), HASH)


def test_bytes_are_fetched_once(project: Path, server: MisbehavingServer) -> None:
    made(project, server.url())
    server.seen.clear()
    download(project, "mine", patience=HASTY)
    assert ((project / "data/raw/mine/file.zip").read_bytes(), server.seen) == (BODY, [])


def test_broken_transfer_goes_on_the_next_time(project: Path, server: MisbehavingServer) -> None:
    server.script = [Answer(), Answer(drop_after=100_000), *[Answer(status=403)] * 2]
    with pytest.raises(DownloadError):
        made(project, server.url())
    made(project, server.url())
    assert server.ranges()[-1] == "bytes=100000-"


def test_failed_fetch_leaves_no_record(project: Path, server: MisbehavingServer) -> None:
    server.script = [Answer(), *[Answer(status=403)] * 4]
    with pytest.raises(DownloadError):
        made(project, server.url())
    assert list((project / "configs/datasets").iterdir()) == []


def test_without_fetching_it_is_unverified(project: Path, server: MisbehavingServer) -> None:
    record = made(project, server.url(), fetch=False)
    assert (record.files[0].size, record.files[0].hash, record.verified_on) == (len(BODY), "unverified", None)


def test_without_fetching_no_body_is_asked_for(project: Path, server: MisbehavingServer) -> None:
    made(project, server.url(), fetch=False)
    assert [seen.method for seen in server.seen] == ["HEAD"]


def test_name_that_the_server_gives_wins(project: Path, server: MisbehavingServer) -> None:
    server.script = [Answer(headers={"Content-Disposition": 'attachment; filename="../../kit.zip"'})]
    assert made(project, server.url("download?id=5"), fetch=False).files[0].path == "kit.zip"


def test_branch_of_the_hub_is_pinned(project: Path, server: MisbehavingServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.url("").rstrip("/"))
    linked = {"X-Linked-Size": "300000", "X-Linked-Etag": f'"{HASH[7:]}"', "X-Repo-Commit": "c0ffee"}
    server.script = [Answer(headers=dict(linked))]
    file = made(project, "hf://datasets/a/b@main/deep/d%20e.npy", fetch=False).files[0]
    assert (file.path, file.urls, file.hash) == ("d e.npy", ("hf://datasets/a/b@c0ffee/deep/d%20e.npy",), HASH)


@pytest.mark.parametrize("source", ["zenodo://123", "https://zenodo.org/records/123"])
def test_record_of_zenodo_is_all_of_its_files(
    source: str, project: Path, server: MisbehavingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backbeat.datasets.transport.addresses.ZENODO", server.url("").rstrip("/"))
    md5 = f"md5:{hashlib.md5(BODY).hexdigest()}"
    files = [{"key": "a b.zip", "size": len(BODY), "checksum": md5}, {"key": "c.csv", "size": len(BODY)}]
    server.pages["/api/records/123"] = Answer(status=200, body=json.dumps({"files": files}).encode())
    record = made(project, source)
    assert [(file.path, file.urls[0], file.hash) for file in record.files] == [
        ("a b.zip", "zenodo://123/a%20b.zip", md5),
        ("c.csv", "zenodo://123/c.csv", HASH),
    ]


def test_place_that_needs_a_person_is_written_down(project: Path) -> None:
    record = made(project, "manual://example.org/form/lyrics.csv")
    assert (record.files[0].path, record.files[0].size, record.verified_on) == ("lyrics.csv", None, None)


# --- Layouts ---------------------------------------------------------------------------------------------------------

LAYOUTS = {
    "egmd": ["e-gmd/e-gmd.csv", "e-gmd/drummer1/session1/1_funk_80_beat_4-4_12.wav", "e-gmd/drummer1/session1/1.midi"],
    "audio-folder": ["a/metadata.csv", "a/score.mid", "a/B.WAV"],
    "midi-folder": ["lmd/0/a.mid", "lmd/match_scores.json"],
    "npy": ["features.npy"],
    "table": ["songs.csv", "README"],
    "none": ["README", "video.mp4"],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout_is_guessed_from_names(layout: str) -> None:
    assert guess_layout(LAYOUTS[layout]) == layout


def zipped(path: Path, names: list[str]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "1")


def tarred(path: Path, names: list[str]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 1
            archive.addfile(member, io.BytesIO(b"1"))


@pytest.mark.parametrize(("name", "pack"), [("a.zip", zipped), ("a.tar.gz", tarred)])
def test_layout_is_guessed_from_members(name: str, pack: object, project: Path) -> None:
    assert callable(pack)
    pack(project / name, LAYOUTS["midi-folder"])
    assert made(project, project / name).layout == "midi-folder"


def test_archive_that_is_none_has_no_layout(project: Path) -> None:
    (project / "a.zip").write_bytes(BODY)
    assert made(project, project / "a.zip").layout == "none"


# --- The text --------------------------------------------------------------------------------------------------------


def test_text_is_that_of_the_record_written_by_hand() -> None:
    by_hand = (ROOT / "configs/datasets/egmd_mini.yaml").read_text()
    assert record_text(load_record(ROOT, "egmd_mini")) == by_hand


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "configs/datasets").glob("*.yaml")))
def test_text_is_read_back_as_the_same_record(name: str, project: Path) -> None:
    record = load_record(ROOT, name)
    (project / f"configs/datasets/{name}.yaml").write_text(record_text(record))
    assert load_record(project, name) == record


AWKWARD = [
    "no",
    "2026-01-01",
    "a: b # c",
    "two\nlines",
    "'quoted' \"twice\"",
    "ü — 鼓",
    "  spaced  ",
    "word " * 50,
    "1e3",
]


@pytest.mark.parametrize("text", AWKWARD)
def test_any_text_survives(text: str, project: Path, kits: Path) -> None:
    assert made(project, kits, Description(text, "CC0-1.0", notes=text)).notes == text


# --- The command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def commands(project: Path, monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    monkeypatch.chdir(project)
    app = typer.Typer()
    dataset_care.register(app)
    return app


def run(app: typer.Typer, *arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_new_prints_the_record_as_json(commands: typer.Typer, kits: Path) -> None:
    result = run(commands, "new", "mine", str(kits), "--title", "Mine", "--license", "CC0-1.0", "--json")
    assert json.loads(result.stdout)["license"]["id"] == "CC0-1.0"


def test_new_asks_nobody_where_there_is_nobody(commands: typer.Typer, kits: Path) -> None:
    with pytest.raises(BackbeatError, match="--title and --license"):
        run(commands, "new", "mine", str(kits))


def test_new_takes_the_unknown_for_unknown(commands: typer.Typer, project: Path, kits: Path) -> None:
    run(commands, "new", "mine", str(kits), "--yes")
    assert load_record(project, "mine").license.id == "unknown"


def test_new_asks_on_a_terminal(
    commands: typer.Typer, project: Path, kits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backbeat.cli.dataset_care.on_terminal", lambda: True)
    CliRunner().invoke(
        commands, ["new", "mine", str(kits)], input="My kits\nCC-BY-4.0\n\ny\nn\n", catch_exceptions=False
    )
    record = load_record(project, "mine")
    assert (record.title, record.license.id, record.license.commercial, record.license.redistribute) == (
        *("My kits", "CC-BY-4.0"),
        *(True, False),
    )


def test_adopt_prints_what_was_taken_in(commands: typer.Typer, project: Path, kits: Path) -> None:
    made(project, kits)
    result = run(commands, "adopt", "mine", str(kits), "--json")
    assert [one["state"] for one in json.loads(result.stdout)] == ["adopted", "adopted"]


def test_refresh_exits_with_1_if_something_has_changed(commands: typer.Typer, project: Path, kits: Path) -> None:
    made(project, kits)
    (kits / "kick/hit.wav").write_bytes(b"another")
    result = run(commands, "refresh", "mine")
    assert (result.exit_code, "own copy changed" in result.stdout) == (1, True)


def test_refresh_of_what_is_unchanged_exits_with_0(commands: typer.Typer, project: Path, kits: Path) -> None:
    made(project, kits)
    assert run(commands, "refresh").exit_code == 0
