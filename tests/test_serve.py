"""The S3 server to rehearse with: one command, what it prints is what works, and its key is nobody's to read."""

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from backbeat.cloud.serve import REHEARSAL_SECRET, serve
from backbeat.errors import CloudError
from s3_server import environment, new_repository, run

BACKBEAT = Path(sys.executable).with_name("backbeat")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_repository(
        tmp_path_factory.mktemp("serve") / "project", {"data/drums": {"kick": b"boom", "snare": b"tock"}}
    )


def test_what_the_server_says_is_all_that_another_clone_needs(project: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    bare = {name: value for name, value in environment(home).items() if not name.startswith("B2_")}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    server = subprocess.Popen(
        [BACKBEAT, "cloud", "serve", tmp_path / "buckets", "--port", port], cwd=project, env=bare,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert server.stdout is not None
    try:
        said = ""
        while "to end the rehearsal" not in said:
            line = server.stdout.readline()
            assert line, said
            said += line
        commands = re.findall(r"^  (.*)$", said, flags=re.MULTILINE)
        run(tmp_path, "git", "clone", "--quiet", str(project), str(tmp_path / "clone"))
        pushed = run(project, "sh", "-ec", "\n".join([*commands, "dvc push"]), env=bare)
        assert "3 files pushed" in pushed.stdout
        run(tmp_path / "clone", "sh", "-ec", "\n".join([*commands, "dvc pull"]), env=bare)
        assert (tmp_path / "clone" / "data" / "drums" / "kick").read_bytes() == b"boom"
    finally:
        server.terminate()
        server.stdout.close()
        assert server.wait(timeout=20) == 130


def test_what_lies_beside_the_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "buckets.log").write_text("somebody's")
    with serve(tmp_path / "buckets", ("one",)):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["buckets", "buckets.log"]
    assert (tmp_path / "buckets.log").read_text() == "somebody's"


def test_a_server_that_does_not_start_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RCLONE_TIMEOUT", "no time")
    with pytest.raises(CloudError, match=r"(?s)did not start.*got: .*no time"), serve(tmp_path / "one", ("one",)):
        pass


def test_the_key_is_in_no_list_of_processes(tmp_path: Path) -> None:
    with serve(tmp_path / "buckets", ("one",)) as running:
        line = Path(f"/proc/{running.process.pid}/cmdline").read_bytes()
    assert b"serve" in line
    assert REHEARSAL_SECRET.encode() not in line


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    with serve(tmp_path / "one", ("one",)) as running:
        port = int(running.endpoint_url.rpartition(":")[2])
        with (
            pytest.raises(CloudError, match=f"port {port} of this machine cannot be used"),
            serve(tmp_path / "two", ("two",), port=port),
        ):
            pass
    assert running.process.returncode is not None


def test_the_server_ends_with_the_block(tmp_path: Path) -> None:
    with serve(tmp_path / "one", ("one",)) as running:
        assert running.process.poll() is None
    assert running.process.poll() is not None
