"""`backbeat init`: what it writes, what it leaves alone, and what it refuses."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from backbeat.cli.app import app
from backbeat.cloud.choices import choose
from backbeat.cloud.init import present
from backbeat.errors import ConfigError
from backbeat.remote.policy import load_cloud_config
from backbeat.remote.settings import read_remote
from s3_server import REPOSITORY
from template_settings import as_template

# Not in an address: that is nothing to rename.
NAME = "backbeat"
ALL = ("--name", NAME, "--bucket", "drum-bucket", "--region", "eu-central-003", "--budget-usd", "5")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The template's files."""
    for name, folder in {"HOME": "home", "DVC_GLOBAL_CONFIG_DIR": "global", "DVC_SYSTEM_CONFIG_DIR": "system"}.items():
        monkeypatch.setenv(name, str(tmp_path / folder))
    monkeypatch.delenv("B2_BUCKET_NAME", raising=False)
    project = tmp_path / "project"
    for name in (".dvc/config", ".dvc/aws-b2.ini", "configs/cloud.yaml", "params.yaml", "pyproject.toml"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, project / name)
    as_template(project)
    monkeypatch.chdir(project)
    return project


def init(*arguments: str, answers: str | None = None) -> Result:
    return CliRunner().invoke(app, ["init", *arguments], input=answers)


def texts(project: Path) -> dict[str, str]:
    return {str(path.relative_to(project)): path.read_text() for path in sorted(project.rglob("*")) if path.is_file()}


def changed_lines(before: str, after: str) -> list[tuple[str, str]]:
    old, new = before.splitlines(), after.splitlines()
    assert len(old) == len(new)
    return [(one, other) for one, other in zip(old, new, strict=True) if one != other]


def test_it_changes_the_lines_it_is_about_and_not_one_comment(project: Path) -> None:
    before = texts(project)
    assert init(*ALL).exit_code == 0
    after = texts(project)
    assert after.keys() == before.keys()
    assert [new for _, new in changed_lines(before[".dvc/config"], after[".dvc/config"])] == [
        f"    url = s3://drum-bucket/{NAME}",
        "    endpointurl = https://s3.eu-central-003.backblazeb2.com",
        "    region = eu-central-003",
    ]
    ((old, new),) = changed_lines(before["configs/cloud.yaml"], after["configs/cloud.yaml"])
    assert new.split() == ["usd_per_month:", "5.0", *old.split()[2:]]
    assert new.index("#") == old.index("#")
    assert {name for name in before if before[name] != after[name]} == {".dvc/config", "configs/cloud.yaml"}


def test_dvc_and_the_commands_read_what_was_written(project: Path) -> None:
    init(*ALL)
    settings = read_remote(project)
    assert settings.url == f"s3://drum-bucket/{NAME}"
    assert settings.endpoint_url == "https://s3.eu-central-003.backblazeb2.com"
    assert load_cloud_config(project).budgets.usd_per_month == 5


def test_the_second_run_changes_nothing_and_says_so(project: Path) -> None:
    init(*ALL)
    before = {path: path.stat().st_mtime_ns for path in project.rglob("*")}
    done = init(*ALL)
    assert "nothing to change" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in project.rglob("*")} == before


def test_what_changed_is_shown_with_before_and_after(project: Path) -> None:
    assert f"url: s3://your-bucket/dvc -> s3://drum-bucket/{NAME}" in init(*ALL).stdout


def test_json_has_choices_and_changes(project: Path) -> None:
    shown = json.loads(init(*ALL, "--json").stdout)
    assert shown["choices"]["bucket"] == "drum-bucket"
    assert [change["what"] for change in shown["changes"]] == ["url", "endpointurl", "region", "usd_per_month"]


def test_it_says_where_the_keys_go(project: Path) -> None:
    shown = init(*ALL).stdout
    assert "B2_ACCOUNT_ID" in shown
    assert ".env.example" in shown
    assert "--local b2 access_key_id" in shown


def test_with_yes_what_is_not_given_stays(project: Path) -> None:
    init(*ALL)
    assert init("--yes", "--bucket", "other-drums").exit_code == 0
    now = present(project)
    assert (now.bucket, now.name, now.region, now.budget_usd) == ("other-drums", "backbeat", "eu-central-003", 5.0)


def test_the_bucket_of_the_environment_stands_in_for_the_templates(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("B2_BUCKET_NAME", "from-outside")
    init("--yes")
    assert present(project).bucket == "from-outside"


def test_the_bucket_of_the_environment_never_replaces_one_that_was_chosen(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    init(*ALL)
    monkeypatch.setenv("B2_BUCKET_NAME", "from-outside")
    init("--yes")
    assert present(project).bucket == "drum-bucket"


def test_with_nobody_to_ask_the_options_that_are_missing_are_named(project: Path) -> None:
    before = texts(project)
    error = init("--bucket", "drum-bucket", "--region", "us-west-004").exception
    assert isinstance(error, ConfigError)
    assert error.expected == "--name, --budget-usd"
    assert "--yes" in str(error.next_step)
    assert texts(project) == before


def test_with_yes_and_no_bucket_anywhere_the_option_is_named(project: Path) -> None:
    error = init("--yes").exception
    assert isinstance(error, ConfigError)
    assert "--bucket" in str(error.next_step)


def test_on_a_terminal_it_asks_for_what_is_missing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backbeat.cli.init.on_terminal", lambda: True)
    done = init("--name", "backbeat", answers="drum-bucket\neu-central-003\n2.5\n\ny\n")
    assert done.exit_code == 0, done.output
    now = present(project)
    assert (now.bucket, now.name, now.region, now.budget_usd) == ("drum-bucket", "backbeat", "eu-central-003", 2.5)
    assert now.endpoint_url == "https://s3.eu-central-003.backblazeb2.com"


def test_enter_at_every_question_changes_nothing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = project / ".dvc/config"
    config.write_text(config.read_text().replace("s3://your-bucket/dvc", "s3://jos-bucket/dvc"))
    before = texts(project)
    monkeypatch.setattr("backbeat.cli.init.on_terminal", lambda: True)
    assert "nothing to change" in init(answers="\n" * 6).output
    assert "nothing to change" in init("--yes", "--name", NAME).output
    assert texts(project) == before


def test_what_stays_in_the_old_bucket_is_said_before_the_question(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    init(*ALL)
    monkeypatch.setattr("backbeat.cli.init.on_terminal", lambda: True)
    said = init("--bucket", "other-drums", answers="\n\n\n\nn\n").output
    assert "only there" in said
    assert said.index("only there") < said.index("write this?")


def test_on_a_terminal_the_templates_bucket_is_no_default(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backbeat.cli.init.on_terminal", lambda: True)
    assert "your-bucket" not in init(answers="\n").output.partition("->")[0]


def test_who_says_no_has_changed_nothing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backbeat.cli.init.on_terminal", lambda: True)
    before = texts(project)
    assert init(answers="backbeat\ndrum-bucket\nus-west-004\n1\n\nn\n").exit_code == 1
    assert texts(project) == before


@pytest.mark.parametrize(
    ("option", "value", "what"),
    [
        ("--bucket", "drums", "bucket"),
        ("--bucket", "d" * 64, "bucket"),
        ("--bucket", "Drum-Bucket", "bucket"),
        ("--bucket", "drum_bucket", "bucket"),
        ("--bucket", "drum.bucket", "bucket"),
        ("--bucket", "-drum-bucket", "bucket"),
        ("--bucket", "drum-bucket-", "bucket"),
        ("--bucket", "b2-drums", "bucket"),
        ("--bucket", "drum-bucket\nurl=x", "bucket"),
        ("--bucket", "your-bucket", "bucket"),
        ("--region", "us-west-2", "region"),
        ("--region", "us-west-004.backblazeb2.com", "region"),
        ("--region", "US-WEST-004", "region"),
        ("--budget-usd", "-1", "budget"),
        ("--budget-usd", "nan", "budget"),
        ("--budget-usd", "inf", "budget"),
        ("--name", "my drums", "name"),
        ("--name", "../drums", "name"),
        ("--endpoint", "s3.us-west-004.backblazeb2.com", "endpoint"),
        ("--endpoint", "https://who@example.org", "endpoint"),
        ("--endpoint", "https://example.org/path", "endpoint"),
        ("--endpoint", "ftp://example.org", "endpoint"),
    ],
)
def test_what_no_service_would_take_is_refused_before_anything_is_written(
    project: Path, option: str, value: str, what: str
) -> None:
    before = texts(project)
    error = init(*ALL, option, value).exception
    assert isinstance(error, ConfigError)
    assert what in error.what
    assert option in str(error.next_step)
    assert texts(project) == before


def test_an_endpoint_of_another_region_is_refused(project: Path) -> None:
    error = init(*ALL, "--endpoint", "https://s3.us-west-004.backblazeb2.com").exception
    assert isinstance(error, ConfigError)
    assert "region" in error.what


def test_a_rehearsal_takes_the_templates_bucket_and_stays_when_repeated(project: Path) -> None:
    rehearsal = ("--yes", "--endpoint", "http://127.0.0.1:9000")
    assert init(*rehearsal).exit_code == 0
    assert present(project).endpoint_url == "http://127.0.0.1:9000"
    assert "nothing to change" in init("--yes").stdout


def test_another_region_leads_back_to_backblaze(project: Path) -> None:
    init("--yes", "--endpoint", "http://127.0.0.1:9000")
    assert choose(present(project), region="eu-central-003").endpoint_url == "https://s3.eu-central-003.backblazeb2.com"


def test_a_service_of_ones_own_has_regions_of_its_own(project: Path) -> None:
    assert init(*ALL, "--endpoint", "https://minio.example.org", "--region", "us-east-1").exit_code == 0
    assert read_remote(project).region == "us-east-1"


def test_options_that_are_not_there_yet_are_added_below_the_remote(project: Path) -> None:
    config = project / ".dvc/config"
    config.write_text("[core]\n    remote = mine # the one\n['remote \"mine\"']\n    url = s3://a-bucket/x  # old\n")
    assert init(*ALL).exit_code == 0
    # The folder of a bucket that was chosen stays as long as the name does.
    assert "url = s3://drum-bucket/x  # old\n" in config.read_text()
    assert read_remote(project).region == "eu-central-003"


@pytest.mark.parametrize(
    "text",
    [
        "[core]\n",
        "[core]\n    remote = b2\n",
        "[core\n",
        "[core]\n    remote = b2\n['remote \"b2\"']\n    url = gdrive://x\n",
    ],
)
def test_a_configuration_that_cannot_be_edited_is_refused(project: Path, text: str) -> None:
    (project / ".dvc/config").write_text(text)
    before = texts(project)
    assert isinstance(init(*ALL).exception, ConfigError)
    assert texts(project) == before


def test_an_edit_that_would_change_something_else_is_found_out(project: Path) -> None:
    config = project / ".dvc/config"
    note = "    note = '''\n    url = s3://an-example/of-it\n    '''\n"
    config.write_text(config.read_text().replace("    url = s3://your", f"{note}    url = s3://your"))
    before = texts(project)
    error = init(*ALL).exception
    assert isinstance(error, ConfigError)
    assert "cannot be edited" in error.what
    assert texts(project) == before


def test_a_budget_that_is_not_on_a_line_of_its_own_is_refused(project: Path) -> None:
    path = project / "configs/cloud.yaml"
    path.write_text(path.read_text().replace("  usd_per_month: 1.0 ", "  ? usd_per_month\n  : 1.0 "))
    before = texts(project)
    error = init(*ALL).exception
    assert isinstance(error, ConfigError)
    assert "usd_per_month" in error.what
    assert texts(project) == before


def test_what_this_machine_says_otherwise_is_pointed_out(project: Path) -> None:
    (project / ".dvc/config.local").write_text("['remote \"b2\"']\n    endpointurl = http://127.0.0.1:9000\n")
    assert "endpointurl" in init(*ALL).stderr


def test_a_disk_is_set_up_with_it(project: Path, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet"], cwd=project, check=True)
    disk = tmp_path / "disk"
    done = init(*ALL, "--disk", str(disk))
    assert done.exit_code == 0, done.output
    assert str(disk / "cache") in (project / ".dvc/config.local").read_text()
    assert "nothing to change" in init(*ALL, "--disk", str(disk)).stdout


def test_a_disk_that_cannot_be_used_is_refused_before_anything_is_written(project: Path) -> None:
    subprocess.run(["git", "init", "--quiet"], cwd=project, check=True)
    before = (project / ".dvc/config").read_text()
    assert init(*ALL, "--disk", str(project)).exit_code == 1
    assert (project / ".dvc/config").read_text() == before
