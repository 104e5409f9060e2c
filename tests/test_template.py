"""A project gets another name: the rules, a small project that is renamed whole, kills, and this one."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner, Result

from backbeat.cli.app import app
from backbeat.cli.init_name import steps_after
from backbeat.errors import ConfigError
from backbeat.template import owned, tree
from backbeat.template.experiments import experiments
from backbeat.template.fresh import DESCRIPTION, described, emptied, with_holder, with_value
from backbeat.template.left import is_left
from backbeat.template.naming import MOST_LETTERS, TEMPLATE, TEMPLATE_VERSION, Naming, check_name
from backbeat.template.plan import Owner, Renaming, plan_owner, refuse_taken
from backbeat.template.renaming import KEPT, occurrences, renamed, renamed_document
from backbeat.template.tree import write
from template_settings import as_template

REPOSITORY = Path(__file__).parents[1]
HERE, THERE = Naming("backbeat"), Naming("flam-lab")

TEXTS = {
    "import backbeat": "import flam_lab",
    "from backbeat import errors": "from flam_lab import errors",
    "from backbeat.cli.app import main": "from flam_lab.cli.app import main",
    'backbeat = "backbeat.cli.app:main"': 'flam-lab = "flam_lab.cli.app:main"',
    "src/backbeat/cli/app.py": "src/flam_lab/cli/app.py",
    'PROJECT / "src" / "backbeat"': 'PROJECT / "src" / "flam_lab"',
    'root_package = "backbeat"': 'root_package = "flam_lab"',
    "python -m backbeat.cloud.dvc_child": "python -m flam_lab.cloud.dvc_child",
    'metadata("backbeat")["Requires-Python"]': 'metadata("flam-lab")["Requires-Python"]',
    'f"backbeat.{name}".startswith("backbeat.")': 'f"flam_lab.{name}".startswith("flam_lab.")',
    r"(?!backbeat\.).*": r"(?!flam_lab\.).*",
    '"backbeat[train,cluster]"': '"flam-lab[train,cluster]"',
    "cmd: backbeat preprocess": "cmd: flam-lab preprocess",
    "next: `backbeat doctor`.": "next: `flam-lab doctor`.",
    "It is called backbeat. It is": "It is called flam-lab. It is",
    "git@example.org:somebody/backbeat.git": "git@example.org:somebody/flam-lab.git",
    'prefix="backbeat-dvc-"': 'prefix="flam-lab-dvc-"',
    ".backbeat-restore, /mnt/hdd/backbeat": ".flam-lab-restore, /mnt/hdd/flam-lab",
    "BACKBEAT_DATA_DIR and $BACKBEAT": "FLAM_LAB_DATA_DIR and $FLAM_LAB",
    "except BackbeatError:": "except FlamLabError:",
    "Backbeat's own, no Backbeat project": "Flam Lab's own, no Flam Lab project",
    r'"what\nbackbeat doctor"': r'"what\nflam-lab doctor"',
    "a_backbeat_name, backbeat_too": "a_flam_lab_name, flam_lab_too",
    "afrobeat, offbeats, downbeat": "afrobeat, offbeats, downbeat",
    **{f"{text} 1": f"{text} 1" for text in KEPT},
}

FILES = {
    "params.yaml": "a: 1  # src/NAME/drums.py\n",
    "pyproject.toml": """\
[project]
name = "NAME"
version = "1.2.3"
description = "A template"

[tool.ruff]
line-length = 60
src = ["src", "tests"]

[tool.ruff.lint]
select = ["E", "I"]
""",
    "src/NAME/__init__.py": '"""Title: what it is."""\n',
    "src/NAME/drums.py": '"""Drums, which are NAME\'s, of at most sixty letters."""\n\nHITS = 1\n',
    "src/NAME/zoo.py": "from NAME.drums import HITS\n\n__all__ = [\"HITS\"]\n",
    "tests/middle.py": "",
    "tests/test_drums.py": "import middle\nimport NAME\n\nprint(middle, NAME)\n",
    "bin/start": "#!/bin/sh\nexec NAME\n",
    "README.md": "# Title\n\nA template\nfor drums.\n\n```sh\nNAME init --name snare-lab\n```\n",
    "LICENSE": "MIT License\n\nCopyright (c) 2026 The Title authors\n\nPermission.\n",
    "CHANGELOG.md": "# Changelog\n\nNewest first.\n\n## Unreleased\n\n- Much.\n\n## 1.2.3\n\n- More.\n",
    "docs/experiments.md": "# Title\n\n| a |\n|---|\n| guide |\n\n## Diary\n\nWhat.\n\n| a |\n|---|\n| b |\n| c |\n\n"
    "### Runs\n\n| a |\n|---|\n| d |\n\nTrue.\n\n## More\n",
    "dvc.yaml": "stages:\n  train:\n    cmd: NAME train\n    deps: [src/NAME/drums.py]\n    outs: [model.txt]\n",
    ".gitignore": "__pycache__/\n*.part\n/model.txt\n",
    ".ci/comment.py": "import sys\n\nimport NAME\nimport pytest\n\nprint(NAME, pytest, sys)\n",
}  # fmt: skip


def git(project: Path, *arguments: str) -> str:
    who = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    return subprocess.run(["git", *who, *arguments], cwd=project, check=True, capture_output=True, text=True).stdout


def commit(project: Path) -> None:
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "--message", "x")


def files_of(project: Path) -> dict[str, bytes]:
    """Return all that Git would take."""
    listed = git(project, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    return {name: (project / name).read_bytes() for name in sorted(set(listed)) if (project / name).is_file()}


def rename(project: Path, name: str, **chosen: str) -> Renaming:
    renaming = plan_owner(project, Owner(name, **chosen), lambda _: {})
    write(project, renaming.files, renaming.gone, renaming.package)
    return renaming


def init(*arguments: str, answers: str | None = None) -> Result:
    return CliRunner().invoke(app, ["init", *arguments], input=answers)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small project that still has the template's name, whatever this one is called now."""
    for name, folder in {"HOME": "home", "DVC_GLOBAL_CONFIG_DIR": "global", "DVC_SYSTEM_CONFIG_DIR": "system"}.items():
        monkeypatch.setenv(name, str(tmp_path / folder))
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    monkeypatch.delenv("B2_BUCKET_NAME", raising=False)
    monkeypatch.setattr(owned, "TEMPLATE_VERSION", "1.2.3")
    template = Naming(TEMPLATE)
    folder = tmp_path / "project"
    for name, text in FILES.items():
        path = folder / name.replace("NAME", TEMPLATE)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("NAME", TEMPLATE).replace("Title", template.title))
    (folder / "noise.bin").write_bytes(b"\0" + TEMPLATE.encode())
    (folder / "bin/start").chmod(0o755)
    for name in (".dvc/config", ".dvc/.gitignore", "configs/cloud.yaml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, folder / name)
    as_template(folder)
    git(tmp_path, "init", "--quiet", str(folder))
    commit(folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("text", TEXTS)
def test_each_kind_of_place_gets_the_form_of_the_name_that_belongs_there(text: str) -> None:
    assert renamed(text, HERE, THERE) == TEXTS[text]


@pytest.mark.parametrize("text", TEXTS)
def test_a_name_goes_on_to_the_next_one_and_back(text: str) -> None:
    beyond = Naming("paradiddle")
    assert renamed(renamed(TEXTS[text], THERE, beyond), beyond, HERE) == text


def test_in_code_the_package_has_no_hyphen_wherever_it_stands_and_the_program_has_one() -> None:
    # Put together here: in this text, the word that stands for itself is in a string.
    package, program = HERE.package, HERE.program
    code = f'import {package}\n\nhelp({package})\nprint("{program}")  # not ({program})\n'
    wanted = 'import flam_lab\n\nhelp(flam_lab)\nprint("flam-lab")  # not (flam-lab)\n'
    assert renamed_document("tests/a.py", code, HERE, THERE) == wanted


def test_in_documents_columns_stay_where_they_are() -> None:
    lines = (
        "    backbeat push          moves\n    backbeat init          names\n| `backbeat` | x |\n  Backbeat is  two\n"
    )
    one, two, *_ = renamed_document("docs/a.md", lines, HERE, Naming("x" * (len(HERE.program) + 4))).splitlines()
    assert one.index("moves") == two.index("names") == lines.index("moves")
    narrow = renamed_document("docs/a.md", lines, HERE, Naming("x" * 40)).splitlines()
    assert narrow[0].endswith("x push  moves")
    assert renamed_document("a.sh", lines, HERE, THERE) == renamed(lines, HERE, THERE)


@pytest.mark.parametrize(
    ("name", "got"),
    [
        ("Drums", "Drums"), ("d", "d"), ("d" * (MOST_LETTERS + 1), "ddd"), ("-drums", "-drums"), ("a--b", "a--b"),
        ("9-drums", "9-drums"), ("a_b", "a_b"), ("a-b\n", "a-b"), ("class", "Python"), ("match", "Python"),
        ("json", "module"), ("test", "program"), ("numpy", "numpy"), ("dvc", "dvc"), ("import-linter", "import-linter"),
        ("make", "program"), ("ls", "program"),
    ],
)  # fmt: skip
def test_names_that_are_somebody_elses_or_no_names_are_refused(name: str, got: str) -> None:
    with pytest.raises(ConfigError, match="cannot be the project's name") as refused:
        check_name(name, REPOSITORY)
    assert got in str(refused.value.got)


def test_a_project_is_renamed_whole_and_begun_anew(project: Path) -> None:
    before = files_of(project)
    renaming = rename(project, "flam-lab", license_holder="Ada Example", description='Drums, "mine"')
    after = files_of(project)
    assert {name for name in after if "flam" in name} == {
        f"src/flam_lab/{name}.py" for name in ("__init__", "drums", "zoo")
    }
    assert not (project / "src" / TEMPLATE).exists()
    assert not (project / tree.WORK).exists()
    texts = {name: content.decode() for name, content in after.items() if name != "noise.bin"}
    said = tomllib.loads(texts["pyproject.toml"])["project"]
    assert said == {"name": "flam-lab", "version": "0.1.0", "description": 'Drums, "mine"'}
    assert texts["src/flam_lab/zoo.py"].startswith("from flam_lab.drums import HITS\n")
    assert texts["LICENSE"].splitlines()[2:4] == [
        f"Copyright (c) {git(project, 'log', '-1', '--format=%cd', '--date=format:%Y').strip()} Ada Example",
        f"Copyright (c) 2026 The {Naming(TEMPLATE).title} authors",
    ]
    assert texts["README.md"].startswith('# Flam Lab\n\nDrums, "mine"\n\n```sh\nflam-lab init --name snare-lab\n')
    begun = f"- Begun from the {Naming(TEMPLATE).title} template, version 1.2.3.\n"
    assert texts["CHANGELOG.md"] == f"# Changelog\n\nNewest first.\n\n## Unreleased\n\n{begun}"
    assert texts["docs/experiments.md"].endswith("| guide |\n\n## Diary\n\nWhat.\n\n| a |\n|---|\n\n## More\n")
    assert (project / "bin/start").stat().st_mode & 0o111
    assert after["noise.bin"] == b"\0" + TEMPLATE.encode()
    told = [content.decode() for name, content in before.items() if name != "noise.bin"]
    assert renaming.places == sum(occurrences(text, Naming(TEMPLATE)) for text in told)


def test_imports_are_sorted_anew_and_what_no_formatter_breaks_is_allowed(project: Path) -> None:
    rename(project, "an-uncommonly-long-name-for-drums")
    assert (
        (project / "tests/test_drums.py")
        .read_text()
        .startswith("import an_uncommonly_long_name_for_drums\nimport middle\n")
    )
    configured = tomllib.loads((project / "pyproject.toml").read_text())["tool"]["ruff"]
    assert (configured["line-length"], configured["lint"]["ignore"]) == (60, ["E501"])
    for command in (["check"], ["format", "--check"]):
        subprocess.run([sys.executable, "-m", "ruff", *command, "--no-cache", "."], cwd=project, check=True)
    commit(project)
    rename(project, "flam")
    assert "ignore" not in (project / "pyproject.toml").read_text()


def test_the_second_time_nothing_changes_and_another_name_later_begins_nothing_anew(project: Path) -> None:
    rename(project, "flam-lab", license_holder="Ada Example")
    before = files_of(project)
    assert not plan_owner(project, Owner("flam-lab", "Ada Example"), lambda _: {}).files
    commit(project)
    rename(project, "ruff-drag-lab", license_holder="Bob Example")
    assert "version 1.2.3" in (project / "CHANGELOG.md").read_text()
    assert (project / "LICENSE").read_text().count("Copyright") == 2
    commit(project)
    rename(project, "flam-lab", license_holder="Ada Example")
    assert files_of(project) == before


def test_a_rename_wants_a_clone_without_changes(project: Path) -> None:
    (project / "new.txt").write_text("x")
    before = files_of(project)
    with pytest.raises(ConfigError, match="without changes") as refused:
        rename(project, "flam-lab")
    assert refused.value.got == "new.txt"
    assert files_of(project) == before


@pytest.mark.parametrize("name", ["middle", "hits", "newest", "tests"])
def test_a_name_that_the_project_has_for_something_else_is_refused(project: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="something else") as refused:
        rename(project, name)
    assert refused.value.got


def test_a_name_in_an_example_in_the_documents_is_free(project: Path) -> None:
    rename(project, "snare-lab")
    assert "snare-lab init --name snare-lab" in (project / "README.md").read_text()


def add(project: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)
    commit(project)


def test_what_git_does_not_know_in_the_package_moves_along(project: Path) -> None:
    old, new = project / "src" / TEMPLATE, project / "src/flam_lab"
    add(project, {".gitignore": f"*.part\n__pycache__/\n/src/{TEMPLATE}/mine\n"})
    for name in ("mine", "notes/deep.part", "__pycache__/drums.pyc"):
        (old / name).parent.mkdir(exist_ok=True)
        (old / name).write_text(name)
    (old / "link.part").symlink_to("mine")
    new.mkdir()
    (new / "mine").write_text("another")
    before = files_of(project)
    with pytest.raises(ConfigError, match="there already"):
        rename(project, "flam-lab")
    # Nor is it taken for something to commit: both the old and the new name are ignored.
    (new / "mine").unlink()
    assert files_of(project).keys() == before.keys() - {"src/flam_lab/mine"}
    assert any("mine" in line for line in rename(project, "flam-lab").said)
    assert {name: (new / name).read_text() for name in ("mine", "notes/deep.part")} == {
        "mine": "mine", "notes/deep.part": "notes/deep.part",
    }  # fmt: skip
    assert (new / "link.part").readlink() == Path("mine")
    assert not old.exists()
    assert not (new / "__pycache__").exists()
    assert not any("mine" in name or ".part" in name for name in files_of(project))


def test_links_lead_where_they_led(project: Path) -> None:
    old = project / "src" / TEMPLATE
    links = {
        "kit.py": f"src/{TEMPLATE}/zoo.py",
        "lib": f"src/{TEMPLATE}",
        "away": "/usr/share",
        "docs/up": "../LICENSE",
    }
    for name, target in links.items():
        (project / name).symlink_to(target)
    (old / "inner.py").symlink_to(f"../{TEMPLATE}/drums.py")
    (old / "outer.md").symlink_to("../../README.md")
    commit(project)
    rename(project, "flam-lab")
    assert {name: str((project / name).readlink()) for name in links} == {
        "kit.py": "src/flam_lab/zoo.py", "lib": "src/flam_lab", "away": "/usr/share", "docs/up": "../LICENSE",
    }  # fmt: skip
    assert (project / "src/flam_lab/inner.py").resolve() == project / "src/flam_lab/drums.py"
    assert (project / "src/flam_lab/outer.md").resolve() == project / "README.md"
    commit(project)
    assert git(project, "ls-files", "-s").count("120000") == 6


def test_submodules_are_refused_by_name(project: Path) -> None:
    git(project, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},parts/sub")
    git(project, "commit", "--quiet", "--message", "x")
    with pytest.raises(ConfigError, match="submodules") as refused:
        rename(project, "flam-lab")
    assert refused.value.got == "parts/sub"


def test_data_of_dvc_keeps_its_paths_wherever_they_are_named(project: Path) -> None:
    name = TEMPLATE
    kept = {
        f"data/{name}.zip.dvc": f"outs:\n- md5: {'0' * 32}\n  path: {name}.zip\n",
        "data/.gitignore": f"/{name}.zip\n",
        "use.py": f'ARCHIVE = "data/{name}.zip"\n',
    }
    add(
        project,
        kept
        | {"dvc.yaml": f"stages:\n  a:\n    cmd: {name} a\n    outs:\n      - {name}-out:\n          cache: true\n"},
    )
    (project / f"data/{name}.zip").write_text("raw")
    rename(project, "flam-lab")
    after = files_of(project)
    assert {path: after[path].decode() for path in kept} == kept
    assert f"cmd: flam-lab a\n    outs:\n      - {name}-out:\n" in after["dvc.yaml"].decode()
    assert f"data/{name}.zip" not in after


def test_an_output_that_is_called_as_the_project_is_refused(project: Path) -> None:
    add(project, {"data/x.dvc": f"outs:\n- path: {TEMPLATE}\n"})
    with pytest.raises(ConfigError, match="output of DVC") as refused:
        rename(project, "flam-lab")
    assert refused.value.got == f"data/{TEMPLATE}"


def test_addresses_buckets_and_people_are_not_renamed(project: Path) -> None:
    name, title = TEMPLATE, Naming(TEMPLATE).title
    config = (
        project / ".dvc/config"
    ).read_text() + f"['remote \"old\"']\n    url = s3://{name}-old/{name}\n    profile = {name}\n"
    left = {
        "configs/datasets/own.yaml": f"repo: jo/{name}-takes\n",
        "docs/where.md": f"[x](https://example.org/{name}/a) gdrive://{name}/b hf://jo/{name}\n",
        "LICENSE": f"Copyright (c) 2026 {title} GmbH\nCopyright (c) 2026 The {title} authors\n",
    }
    add(project, left | {".dvc/config": config, "docs/what.md": f"See https://example.org/{name} of `{name}`.\n"})
    said = f"{title} drums, by {name}"
    told = (project / "pyproject.toml").read_text().replace("A template", said)
    add(project, {"pyproject.toml": told, "README.md": f"# {title}\n\n{said}\n"})
    assert init("--name", "flam-lab", "--yes").exit_code == 0
    assert {path: (project / path).read_text() for path in left} == left
    assert (project / "docs/what.md").read_text() == f"See https://example.org/{name} of `flam-lab`.\n"
    assert (project / ".dvc/config").read_text() == config.replace("s3://your-bucket/dvc", "s3://your-bucket/flam-lab")
    assert (project / "README.md").read_text() == f"# Flam Lab\n\n{said}\n"
    assert tomllib.loads((project / "pyproject.toml").read_text())["project"]["description"] == said


def test_a_history_of_its_own_stays(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owned, "TEMPLATE_VERSION", "0.1.0")
    renaming = rename(project, "flam-lab")
    assert tomllib.loads((project / "pyproject.toml").read_text())["project"]["version"] == "1.2.3"
    assert "- Much." in (project / "CHANGELOG.md").read_text()
    assert "| b |" in (project / "docs/experiments.md").read_text()
    assert any("stays" in line and "1.2.3" in line for line in renaming.said)


def test_what_was_about_the_template_is_about_a_project_afterwards(project: Path) -> None:
    says = "A repository\ntemplate for drums."
    told = (project / "pyproject.toml").read_text().replace("A template", "A repository template")
    add(project, {
        "pyproject.toml": told,
        "README.md": f"# X\n\n{says}\n\nMore.\n\n## Make it yours\n\nUse this.\n\n## Data\n\nHere.\n",
        "docs/index.md": f"# X\n\n{says}\n",
        "docs/make-it-yours.md": "# X\n\n## Name it\n\nSo.\n",
    })  # fmt: skip
    said = rename(project, "flam-lab").said
    assert (project / "README.md").read_text() == f"# X\n\n{DESCRIPTION}\n\nMore.\n\n## Data\n\nHere.\n"
    assert (project / "docs/index.md").read_text() == f"# X\n\n{DESCRIPTION}\n"
    assert (project / "docs/make-it-yours.md").read_text() == "# X\n"
    assert tomllib.loads((project / "pyproject.toml").read_text())["project"]["description"] == DESCRIPTION
    assert {"pyproject.toml: version 1.2.3 -> 0.1.0", "README.md: no longer described as a template"} <= set(said)


def test_the_version_of_the_template_is_the_one_it_says() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert project["name"] != TEMPLATE or project["version"] == TEMPLATE_VERSION


@pytest.mark.parametrize("ending", ["\f", "\u2028", "\x1c"])
def test_lines_of_code_are_counted_as_python_counts_them(ending: str) -> None:
    package = HERE.package
    code = f'"""A.{ending}B."""\nimport {package}\n\nhelp({package})\n'
    wanted = code.replace(package, THERE.package)
    assert renamed_document("a.py", code, HERE, THERE) == wanted
    assert renamed_document("a.pyi", code, HERE, THERE) == wanted


def test_notebooks_are_named_since_nobody_reads_their_code(project: Path) -> None:
    add(project, {"look.ipynb": f'{{"cells": ["import {TEMPLATE}"]}}\n', "other.ipynb": "{}\n"})
    renaming = rename(project, "flam-lab")
    assert [line.partition(":")[0] for line in renaming.said if ".ipynb" in line] == ["look.ipynb"]


def test_a_rename_that_was_killed_at_its_end_and_committed_is_done(project: Path) -> None:
    init("--name", "flam-lab", "--yes")
    commit(project)
    (project / tree.WORK / "package").mkdir(parents=True)
    assert "nothing to change" in init("--name", "flam-lab", "--yes").stdout
    assert not (project / tree.WORK).exists()


def test_names_of_files_need_not_be_text(project: Path) -> None:
    (project / os.fsdecode(b"caf\xe9.txt")).write_text("x")
    with pytest.raises(ConfigError, match="without changes") as refused:
        rename(project, "flam-lab")
    assert refused.value.got == "caf\N{REPLACEMENT CHARACTER}.txt"
    assert "--include-untracked" in str(refused.value.next_step)
    commit(project)
    rename(project, "flam-lab")
    assert (project / os.fsdecode(b"caf\xe9.txt")).exists()


def test_a_license_that_is_not_there_gets_no_holder(project: Path) -> None:
    (project / "LICENSE").unlink()
    commit(project)
    with pytest.raises(ConfigError, match="no LICENSE"):
        rename(project, "flam-lab", license_holder="Ada Example")


@pytest.mark.parametrize("budget", ["nan", "-5"])
def test_a_budget_is_checked_with_a_name_alone(project: Path, budget: str) -> None:
    error = init("--yes", "--name", "flam-lab", "--budget-usd", budget).exception
    assert isinstance(error, ConfigError)
    assert "--budget-usd" in str(error.next_step)


class Killed(BaseException):
    """The process is no more."""


def killed(*_: object) -> None:
    raise Killed


@pytest.mark.parametrize("moment", ["first file", "half of them", "last file", "package"])
def test_a_killed_rename_is_completed_by_the_same_command_and_undone_by_git(
    project: Path, moment: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    twin = tmp_path / "twin"
    shutil.copytree(project, twin)
    committed = files_of(project)
    renaming = rename(twin, "flam-lab", license_holder="Ada Example")
    files = len(renaming.files)
    last = {"first file": 1, "half of them": files // 2, "last file": files, "package": files + 1}[moment]
    writes = 0

    def publish(part: Path, final: Path) -> None:
        nonlocal writes
        writes += 1
        if writes == last:
            raise Killed
        part.replace(final)

    def rmtree(folder: Path, *, ignore_errors: bool = False) -> None:
        if not ignore_errors:
            raise Killed

    with monkeypatch.context() as killing:
        killing.setattr(tree, "publish", publish)
        killing.setattr(tree, "shutil", SimpleNamespace(rmtree=rmtree))
        with pytest.raises(Killed):
            rename(project, "flam-lab", license_holder="Ada Example")
    # Until the last moment, the program that was killed can be started again.
    assert (project / "src" / TEMPLATE / "zoo.py").exists() == (moment != "package")
    half = files_of(project)
    rename(project, "flam-lab", license_holder="Ada Example")
    assert files_of(project) == files_of(twin)
    assert not (project / tree.WORK).exists()
    if moment == "half of them":
        assert half not in (committed, files_of(twin))
    git(project, "add", "--all")
    git(project, "reset", "--quiet", "--hard")
    assert files_of(project) == committed


def test_what_was_made_is_still_up_to_date_under_the_new_name(project: Path) -> None:
    def dvc(*arguments: str) -> str:
        command = [sys.executable, "-m", "dvc", *arguments]
        return subprocess.run(command, cwd=project, check=True, capture_output=True, text=True).stdout

    (project / "model.txt").write_text("trained")
    dvc("commit", "--force")
    commit(project)
    rename(project, "flam-lab")
    assert "cmd: flam-lab train" in (project / "dvc.lock").read_text()
    assert "up to date" in dvc("repro", "--dry")
    # What was out of date stays so.
    git(project, "add", "--all")
    git(project, "reset", "--quiet", "--hard")
    drums = project / f"src/{TEMPLATE}/drums.py"
    told = hashlib.md5(drums.read_bytes()).hexdigest()
    drums.write_text(drums.read_text().replace("HITS = 1", "HITS = 2"))
    commit(project)
    rename(project, "flam-lab")
    assert told in (project / "dvc.lock").read_text()


def test_the_command_needs_no_bucket_and_says_what_is_left_to_do(project: Path) -> None:
    done = init("--name", "flam-lab", "--license-holder", "Ada Example", "--yes")
    assert done.exit_code == 0, done.output
    assert f"package: src/{TEMPLATE} -> src/flam_lab" in done.stdout
    assert "s3://your-bucket/flam-lab" in (project / ".dvc/config").read_text()
    steps = [line.split("#")[0].strip() for line in done.stderr.splitlines() if line.startswith("  ")]
    assert steps[2:] == [
        "make setup", f".venv/bin/python -m pip uninstall --yes {TEMPLATE}", "make check test",
        ".venv/bin/flam-lab doctor",
    ]  # fmt: skip
    for step in steps[:2]:
        subprocess.run(["sh", "-c", step], cwd=project, check=True, capture_output=True, env={
            **os.environ, "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@example.org",
            "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@example.org",
        })  # fmt: skip
    assert git(project, "status", "--porcelain") == ""
    assert "nothing to change" in init("--name", "flam-lab", "--license-holder", "Ada Example", "--yes").stdout


def test_bucket_and_name_are_one_change(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("--name", "flam-lab", "--bucket", "flam-lab-data", "--region", "eu-central-003", "--budget-usd", "5")

    monkeypatch.setattr(tree, "write", killed)
    with pytest.raises(Killed):
        init(*options)
    monkeypatch.setattr(tree, "write", write)
    assert git(project, "status", "--porcelain") == ""
    shown = json.loads(init(*options, "--json").stdout)
    assert (shown["name"]["before"], shown["name"]["after"]) == (TEMPLATE, "flam-lab")
    assert "s3://flam-lab-data/flam-lab" in (project / ".dvc/config").read_text()
    assert "usd_per_month: 5.0" in (project / "configs/cloud.yaml").read_text()
    assert json.loads(init(*options, "--json").stdout)["name"]["files"] == []


def test_experiments_of_before_are_named_and_go_only_when_asked_to(project: Path) -> None:
    head = git(project, "rev-parse", "HEAD").strip()
    git(project, "update-ref", f"refs/exps/{head[:2]}/{head[2:]}/wide-one", head)
    assert "wide-one" in init("--name", "flam-lab", "--yes").stderr
    assert experiments(project) == ["wide-one"]
    with pytest.MonkeyPatch.context() as full:
        full.setattr(tree, "write", killed)
        with pytest.raises(Killed):
            init("--yes", "--description", "Drums", "--forget-experiments")
    assert experiments(project) == ["wide-one"]
    assert "removed: wide-one" in init("--yes", "--name", "flam-lab", "--forget-experiments").stdout
    assert experiments(project) == []


def test_a_holder_is_added_once_and_replaced_by_the_next(project: Path) -> None:
    text = (project / "LICENSE").read_text()
    ada = with_holder(text, "Ada Example", 2030)
    assert with_holder(ada, "Ada Example", 2031) == ada
    assert "2031 Example\n" in with_holder(ada, "Example", 2031)
    assert with_holder(ada, "Bob", 2031) == with_holder(text, "Bob", 2031)
    with pytest.raises(ConfigError, match="copyright line"):
        with_holder("Public domain.", "Ada", 2030)


def test_a_description_that_is_no_line_of_its_own_is_refused() -> None:
    with pytest.raises(ConfigError, match="description"):
        with_value("[project]\ndescription = '''x\n'''\n", "description", "y")
    assert described("No heading.\n", "x") == "No heading.\n"
    assert emptied("No diary.\n") == "No diary.\n"


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], Renaming]:
    """This project's files as they are now, and the plan to call it something else."""
    folder = tmp_path_factory.mktemp("ours") / "project"
    files = files_of(REPOSITORY)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    git(folder.parent, "init", "--quiet", str(folder))
    commit(folder)
    return files, plan_owner(folder, Owner("-".join(("paradiddle", "laboratory"))), lambda _: {})


def test_nothing_here_would_keep_its_name_but_what_files_are_recognized_by(
    ours: tuple[dict[str, bytes], Renaming],
) -> None:
    files, renaming = ours
    after = {name: content for name, content in files.items() if name not in renaming.gone} | {
        name: file.content for name, file in renaming.files.items()
    }
    word = re.compile(re.escape(renaming.before.program).encode(), re.IGNORECASE)
    # Somebody's own words and addresses stay, too.
    description = tomllib.loads(files["pyproject.toml"].decode())["project"]["description"]
    kept = re.compile("|".join([*map(re.escape, KEPT), re.escape(description), r"://\S+"]).encode())
    texts = {name: content for name, content in after.items() if not is_left(name) and not name.endswith(".gitignore")}
    assert {name for name in files if is_left(name)} >= {".dvc/config", "LICENSE"}
    assert [name for name, content in texts.items() if word.search(kept.sub(b"", content))] == []
    assert [name for name in after if word.search(name.encode())] == []
    for name in after:
        if name.endswith(".py"):
            compile(after[name], name, "exec")
    for name, constant in (("drums/shards.py", b"FORMAT"), ("transcription/weights.py", b"_HEADER_KEY")):
        said = re.compile(rb"^%b = .*$" % constant, re.MULTILINE)
        (before,) = said.findall(files[f"src/{renaming.before.package}/{name}"])
        assert said.findall(after[f"src/{renaming.after.package}/{name}"]) == [before]


def test_the_name_in_the_documents_can_be_had(ours: tuple[dict[str, bytes], Renaming]) -> None:
    files, renaming = ours
    names = re.findall(r"^\S+ init .*--name (\S+)", files["docs/make-it-yours.md"].decode(), re.MULTILINE)
    # Once the project has a name of its own, the documents do not say any more how it gets one.
    assert names or renaming.before.program != TEMPLATE
    for name in names:
        check_name(name, REPOSITORY)
        refuse_taken({path: tree.Tracked(content) for path, content in files.items()}, Naming(name))


def test_what_is_left_to_do_is_in_the_documents_as_it_is_printed(ours: tuple[dict[str, bytes], Renaming]) -> None:
    files, renaming = ours
    if renaming.before.program == TEMPLATE:
        printed = steps_after(replace(renaming, after=Naming("-".join(("my", "drums")))), []).splitlines()
        steps = [line.split("  #")[0].strip() for line in printed if line.startswith("  ")]
        assert "\n".join(steps) in files["docs/make-it-yours.md"].decode()


def test_what_was_up_to_date_here_would_be_and_what_was_not_would_not(ours: tuple[dict[str, bytes], Renaming]) -> None:
    files, renaming = ours
    after = files | {name: file.content for name, file in renaming.files.items()}

    def current(lock: bytes, of: dict[str, bytes]) -> list[bool]:
        entries = re.findall(r"- path: (src/\S+)\n +hash: md5\n +md5: (\w+)\n +size: (\d+)", lock.decode())
        assert entries
        return [(hashlib.md5(of[path]).hexdigest(), str(len(of[path]))) == (md5, size) for path, md5, size in entries]

    assert any(current(files["dvc.lock"], files))
    assert current(after["dvc.lock"], after) == current(files["dvc.lock"], files)
