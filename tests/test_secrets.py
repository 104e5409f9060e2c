"""Keys: found before they are committed, and in nothing that the commands print.

All keys here are made when the tests run, so that this file holds none.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import random
import shutil
import string
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml
from typer.testing import CliRunner

from backbeat.cli.app import app
from backbeat.cloud import doctor
from backbeat.cloud.mount import mount_point, mounted_at, unmount
from backbeat.cloud.serve import serve
from backbeat.remote.credentials import Credentials
from mirrored import with_own_copy
from one_dataset import BODY, fetched, record_of
from refusing_proxy import RefusingProxy, refusing_proxy
from s3_server import BUCKET, REPOSITORY, commit, environment, new_repository, point_at, run, s3_server
from template_settings import as_template

BACKBEAT = str(Path(sys.executable).with_name("backbeat"))

_DRAW = random.Random(5)
_HEX = "0123456789abcdef"
_LETTERS = string.ascii_letters + string.digits


def drawn(letters: str, count: int) -> str:
    return "".join(_DRAW.choice(letters) for _ in range(count))


# By kind; the shapes are those of the services.
SECRETS = {
    "B2 key ID": "005" + drawn(_HEX, 12) + "0000000007",
    "B2 application key": "K005" + drawn(_LETTERS + "+/", 27),
    "AWS key ID": "AKIA" + drawn(string.ascii_uppercase + string.digits, 16),
    "Hugging Face token": "hf_" + drawn(_LETTERS, 34),
    "private key": "-----BEGIN " + "OPENSSH PRIVATE KEY-----",
    "RSA private key": "-----BEGIN " + "RSA PRIVATE KEY-----",
}

# Each with a secret in place of {}: as a value, in a comment, within other text, in files that tools like to skip.
PLACES = {
    ".dvc/config": "[core]\n    remote = b2\n['remote \"b2\"']\n    url = s3://x/y\n    secret_access_key = {}\n",
    "commented/.dvc/config": "[core]\n    remote = b2\n    # secret_access_key = {}\n",
    ".dvc/aws-b2.ini": "[default]\naws_secret_access_key = {}\n",
    ".env.example": "# as an example\nB2_APPLICATION_KEY={}\n",
    "workflow.yaml": "jobs:\n  test:\n    env:\n      B2_APPLICATION_KEY: {}\n",
    "comment.yaml": "jobs: 1\n# was {}\n",
    "behind.yaml": "jobs: 1  # {}\n",
    "script.yaml": "run: |\n  export B2={}\n  dvc pull\n",
    "broken.yaml": "run: [\n  {}\n",
    "notebook.ipynb": '{{"cells": [{{"source": ["key = \\"{}\\"\\n"]}}]}}\n',
    "call.py": "bucket = Bucket('{}')\n",
    "identifier.py": "key_id = '{}'\n",
    "page.md": "Take {} for it.\n",
    "dvc.lock": "stages:\n  a:\n    cmd: B2={} make\n",
    "requirements.lock": "# {}\nnumpy==1.0\n",
    "style.css": "/* {} */\n",
    "Makefile": "a:\n\tcurl -u {} example.org\n",
    "address.txt": "https://me:{}@example.org\n",
}

# What looks like a secret and is none.
HASHES = {
    "dvc.lock": f"outs:\n- path: a\n  md5: {drawn(_HEX, 32)}.dir\n- md5: {drawn(_HEX, 32)}\n",
    "report.json": json.dumps({"digest": drawn(_HEX, 64), "data": drawn(_HEX, 64)}, indent=2),
    "record.yaml": f"hash: sha256:{drawn(_HEX, 64)}\n",
    "bare.yaml": f"  - md5: {drawn(_HEX, 32)}\n",
    "requirements.lock": f"numpy==1.0 \\\n    --hash=sha256:{drawn(_HEX, 64)}\n",
}


def hook(*files: str | Path) -> set[str]:
    """Run the hook as pre-commit would; return the files in which it has found something."""
    config = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())
    (secrets,) = [one for one in config["repos"][0]["hooks"] if one["id"] == "secrets"]
    command = [*secrets["entry"].split(), *secrets["args"], "--json", *map(str, files)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    found = set(json.loads(done.stdout)["results"]) if done.stdout else set()
    assert done.returncode == bool(found), done.stderr
    return found


def write(folder: Path, texts: dict[str, str], secret: str = "") -> dict[str, str]:
    """Write the files; return for each path, as the hook names it, what it was called."""
    paths: dict[str, str] = {}
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.format(secret) if secret else text)
        paths[str(path)] = name
    return paths


@pytest.mark.parametrize("kind", SECRETS)
def test_a_secret_is_found_wherever_it_is_written(tmp_path: Path, kind: str) -> None:
    paths = write(tmp_path, PLACES, SECRETS[kind])
    assert sorted(set(paths.values()) - {paths[found] for found in hook(*paths)}) == []


def test_amazons_secret_which_has_no_shape_is_found_by_its_name(tmp_path: Path) -> None:
    secret = drawn(_LETTERS + "/+", 40)
    texts = {
        ".dvc/config": "['remote \"b2\"']\n    secret_access_key = {}\n",
        "a.ini": "[default]\naws_secret_access_key = {}\n",
        "a.py": "aws_secret_access_key = '{}'\n",
        "a.yaml": "aws_secret_access_key: {}\n",
    }
    paths = write(tmp_path, texts, secret)
    assert hook(*paths) == set(paths)


def test_hashes_are_no_secrets(tmp_path: Path) -> None:
    assert hook(*write(tmp_path, HASHES)) == set()


@pytest.mark.parametrize(
    "line",
    [
        "md5: {hash} {key}",
        "ERROR: failed to transfer '{hash}' - {key}\nmore",
        "hash: {key}",
        "data = '{key}'  # {hash}",
        "token = '{hash}'",
        'secret = "{hash}"; md5 = "{hash}"',
    ],
)
def test_what_is_excused_is_a_line_of_nothing_but_a_hash(tmp_path: Path, line: str) -> None:
    text = line.format(hash=drawn(_HEX, 32), key=SECRETS["B2 application key"])
    (path,) = write(tmp_path, {"a.py": f"{text}\n"})
    assert hook(path) == {path}


def test_the_tree_is_clean() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    files = [name for name in listed.stdout.split("\0") if name and (REPOSITORY / name).is_file()]
    assert len(files) > 300
    assert hook(*files) == set()


def test_the_example_of_an_environment_holds_no_values() -> None:
    lines = (REPOSITORY / ".env.example").read_text().splitlines()
    assignments = [line.lstrip("# ") for line in lines if line.lstrip("# ").partition("=")[0].isupper()]
    assert {line.partition("=")[0] for line in assignments} >= {"B2_ACCOUNT_ID", "B2_APPLICATION_KEY", "B2_BUCKET_NAME"}
    assert [line.partition("=")[2] for line in assignments] == [""] * len(assignments)


def test_git_ignores_where_keys_may_be() -> None:
    paths = [".env", ".dvc/config.local"]
    done = subprocess.run(["git", "check-ignore", *paths], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.stdout.split() == paths


# Canaries: made-up keys everywhere, and none in what is printed.


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[RefusingProxy]:
    with s3_server(tmp_path / "buckets") as server, refusing_proxy(server.endpoint_url) as running:
        yield running


@pytest.fixture
def canaries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proxy: RefusingProxy) -> list[str]:
    """A project with a wrong key in every place that is looked at; returns all of them."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "B2_"))]:
        monkeypatch.delenv(name)
    for name, folder in {"HOME": "home", "DVC_GLOBAL_CONFIG_DIR": "global", "DVC_SYSTEM_CONFIG_DIR": "system",
                         "DVC_SITE_CACHE_DIR": "site"}.items():  # fmt: skip
        monkeypatch.setenv(name, str(tmp_path / folder))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    project = tmp_path / "project"
    for name in (".dvc/config", ".dvc/aws-b2.ini", "configs/cloud.yaml", "params.yaml",
                 "configs/datasets/egmd_mini.yaml", "data/dvc.yaml"):  # fmt: skip
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, project / name)
    as_template(project)
    monkeypatch.chdir(project)
    # What asks nobody for keys, and takes seconds.
    slow = {"GPU", "dvc.lock"}
    here = doctor.checks_here
    monkeypatch.setattr(doctor, "checks_here", lambda project: [one for one in here(project) if one.name not in slow])
    keys = [drawn(_LETTERS, 31) for _ in range(8)]
    for name, key in zip(("B2_ACCOUNT_ID", "B2_APPLICATION_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
                          "AWS_SESSION_TOKEN"), keys, strict=False):  # fmt: skip
        monkeypatch.setenv(name, key)
    point_at(project, proxy.endpoint_url)
    with (project / ".dvc/config.local").open("a") as local:
        local.write(
            f"    access_key_id = {keys[5]}\n    secret_access_key = {keys[6]}\n    session_token = {keys[7]}\n"
        )
    return keys


def printed(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments)
    return f"{done.output}\n{done.exception!r}\n{done.exception}"


COMMANDS = [
    ("doctor",),
    ("doctor", "--json"),
    ("doctor", "--offline"),
    ("init", "--yes", "--bucket", "drum-bucket"),
    ("init", "--yes", "--bucket", "x"),
    ("datasets", "list"),
]


@pytest.mark.parametrize("arguments", COMMANDS)
def test_no_command_prints_a_key_of_this_clone(canaries: list[str], arguments: tuple[str, ...]) -> None:
    shown = printed(*arguments)
    assert len(shown) > 80
    assert [key for key in canaries if key in shown] == []


@pytest.mark.parametrize("arguments", COMMANDS)
def test_no_command_prints_a_key_of_the_environment(
    canaries: list[str], proxy: RefusingProxy, arguments: tuple[str, ...]
) -> None:
    point_at(Path.cwd(), proxy.endpoint_url)
    shown = printed(*arguments)
    assert [key for key in canaries if key in shown] == []


def test_a_service_that_repeats_the_key_is_not_repeated(canaries: list[str], proxy: RefusingProxy) -> None:
    said = "".join(f"<Message>{key} is wrong</Message>" for key in canaries[5:7])
    answer = f"<Error><Code>{canaries[5]}</Code>{said}</Error>".encode()
    proxy.answers.update(dict.fromkeys(("doctor", "max-keys=1", "encoding-type=url"), (400, answer)))
    shown = printed("doctor")
    assert "fails" in shown
    assert [key for key in canaries if key in shown] == []


# The whole way through a bucket; each with where it is run.
ROUND = [
    ("project", "cloud", "push", "--yes"),
    ("project", "cloud", "mirror", "push", "--yes"),
    ("project", "cloud", "backup"),
    ("project", "cloud", "restore", "--to", "../restored"),
    ("clone", "cloud", "pull", "--yes", "models"),
    ("clone", "codespace", "start"),
    ("clone", "cloud", "mirror", "pull", "--yes"),
]
MOUNTING = [("clone", "cloud", "mount"), ("clone", "cloud", "unmount")]
HAS_FUSE = os.access("/dev/fuse", os.R_OK | os.W_OK) and bool(shutil.which("fusermount3") or shutil.which("fusermount"))


@pytest.mark.slow
def test_no_key_is_printed_listed_or_left_behind_on_the_way_through_a_bucket(tmp_path: Path) -> None:
    keys = SECRETS["B2 key ID"], SECRETS["B2 application key"]
    # As they are, and as addresses and headers would have them.
    shapes = {shape for key in keys for shape in (key, quote(key, safe=""), base64.b64encode(key.encode()).decode())}
    (tmp_path / "tmp").mkdir()
    variables = environment(
        tmp_path / "home",
        {"B2_ACCOUNT_ID": keys[0], "B2_APPLICATION_KEY": keys[1], "TMPDIR": str(tmp_path / "tmp")},
    )
    with serve(tmp_path / "buckets", (BUCKET,), key_id=keys[0], secret=keys[1]) as server, sampled() as lines:
        project = new_repository(
            tmp_path / "project", {"data/processed/egmd_mini": {"kit": b"boom"}, "models": {"model": b"weights"}}
        )
        (project / "configs" / "datasets").mkdir()
        (project / ".gitignore").write_text("/data/raw/\n")
        record_of(project, with_own_copy(project).as_uri())
        commit(project, "a record")
        fetched(project)
        run(project, "git", "clone", "--quiet", ".", "../clone")
        for name in ("project", "clone"):
            point_at(tmp_path / name, server.endpoint_url)
        try:
            for name, *arguments in ROUND + MOUNTING * HAS_FUSE:
                done = run(tmp_path / name, BACKBEAT, *arguments, env=variables)
                said = done.stdout + done.stderr
                assert said.strip() != "", arguments
                assert [shape for shape in shapes if shape in said] == [], arguments
        finally:
            if mounted_at(mount_point(tmp_path / "clone")) is not None:
                unmount(tmp_path / "clone")
    # All of that was done, and seen.
    assert (tmp_path / "restored/data/raw/lies/archive.zip").read_bytes() == BODY
    assert (tmp_path / "clone/data/raw/lies/archive.zip").read_bytes() == BODY
    assert (tmp_path / "clone/data/processed/egmd_mini/kit").read_bytes() == b"boom"
    words = {word.rpartition(b"/")[2] for line in lines for word in line.split(b"\0")}
    assert words >= {b"backbeat", b"dvc", b"rclone", b"serve", b"copyto", *([b"--daemon"] if HAS_FUSE else [])}
    assert [line for line in lines if any(shape.encode() in line for shape in shapes)] == []
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.relative_to(tmp_path).parts[0] for path in left} >= {"project", "clone", "restored", "home"}
    contents = {path: path.read_bytes() for path in left}
    assert [path for path, content in contents.items() if any(shape.encode() in content for shape in shapes)] == []


@contextlib.contextmanager
def sampled() -> Iterator[set[bytes]]:
    """Look at the command lines of all processes again and again; yield those that were seen."""
    lines: set[bytes] = set()
    is_over = threading.Event()

    def look() -> None:
        while not is_over.wait(0.04):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    lines.add(path.read_bytes())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield lines
    finally:
        is_over.set()
        thread.join()


def test_keys_do_not_show_in_what_holds_them() -> None:
    keys = Credentials("identifier-of-a-key", "secret-of-a-key", "a test", "token-of-a-key")
    assert repr(keys) == "Credentials(source='a test')"
