"""What the documents say is what happens: every command in them is run, every link leads somewhere."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from test_end_to_end import BIN, clone, files_of, run

REPOSITORY = Path(__file__).parents[1]
DOCUMENTS = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# Commands of other machines, disks or networks, that train for minutes, serve until they are ended, or name samples of
# somebody's own: their options are checked instead. Blocks marked `account` need one.
NOT_RUN = {"cluster", "network", "account", "disk", "training", "browser", "samples"}
GROUPS = {"cloud", "codespace", "datasets", "exp", "experiments", "library", "storage"}

# As many samples as these tests make; people get more.
FEW_SAMPLES = 24

# A block marked `server` goes on beside those marked `rehearsal`.
SERVER, REHEARSAL = "server", "rehearsal"

# Blocks that follow from each other: tests/test_examples.py runs them.
EXAMPLE = "example"
PORT = "9000"


def blocks(language: str) -> list[tuple[str, str, str]]:
    """Return (document, mark, content) of every fenced block of a language."""
    found = []
    for document in DOCUMENTS:
        for name, mark, content in BLOCK.findall(document.read_text(encoding="utf-8")):
            if name == language:
                found.append((str(document.relative_to(REPOSITORY)), mark.strip(), content))
    return found


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with a small data set, in which this environment stands in for the one that `make setup` makes."""
    folder = clone(tmp_path_factory.mktemp("newcomer") / "project", kits=[1, 2], library=True)
    (folder / ".venv").symlink_to(BIN.parent)
    library = folder / "configs/library.yaml"
    text, changed = re.subn(r"generate: \d+", f"generate: {FEW_SAMPLES}", library.read_text(encoding="utf-8"))
    assert changed == 1
    library.write_text(text, encoding="utf-8")
    return folder


def run_blocks(folder: Path, wanted: Callable[[str, str], bool]) -> None:
    """Run the blocks that are wanted by document and mark, in the order of the documents, equal ones once."""
    done = set()
    author = {"GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@example.org"}
    committer = {"GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@example.org"}
    for document, mark, content in blocks("sh"):
        if not wanted(document, mark) or content in done:
            continue
        done.add(content)
        # The environment is there; and tests that run the tests would never end.
        script = content.replace("make repro", "make -o .venv/.installed repro")
        script = re.sub(r"^make (test|bench|test-slow|check)$", r"make -n \1", script, flags=re.MULTILINE)
        shown = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script], cwd=folder, capture_output=True, text=True, check=False,
            env={**os.environ, **author, **committer, "PATH": f"{BIN}:{os.environ['PATH']}"},
        )  # fmt: skip
        assert shown.returncode == 0, f"{document}:\n{content}\n{shown.stdout}\n{shown.stderr}"


@pytest.mark.slow
def test_every_command_in_the_documents_runs(newcomer: Path) -> None:
    run_blocks(newcomer, lambda _, mark: mark not in NOT_RUN | {SERVER, REHEARSAL, EXAMPLE})
    assert (newcomer / "out/demo.mid").exists()


@pytest.mark.slow
def test_what_the_tutorial_trains_is_trained(newcomer: Path) -> None:
    run(newcomer, "dvc", "repro")
    run_blocks(newcomer, lambda document, mark: (document, mark) == ("docs/tutorial.md", "training"))
    assert "tiny" in run(newcomer, "dvc", "exp", "list", "--name-only")
    assert "up to date" in run(newcomer, "dvc", "repro")


@pytest.mark.slow
def test_the_rehearsal_in_the_readme_goes_as_it_is_written(newcomer: Path, tmp_path: Path) -> None:
    ((_, _, server),) = [block for block in blocks("sh") if block[1] == SERVER]
    ((_, _, rehearsal),) = [block for block in blocks("sh") if block[1] == REHEARSAL]
    run(newcomer, "dvc", "repro")
    run(newcomer, "dvc", "repro", "data/library/dvc.yaml")
    # Two runs of the tests on one machine, or anybody else, may have the port that people are told.
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "B2_"))},
        "HOME": str(tmp_path), "NO_PROXY": "127.0.0.1", "PATH": f"{BIN}:{os.environ['PATH']}",
        "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@example.org",
        "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@example.org",
    }  # fmt: skip
    serving = subprocess.Popen(
        [*server.split(), "--port", port], cwd=newcomer, env=environment, stdout=subprocess.DEVNULL
    )
    try:
        wait_for(int(port))
        shown = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", rehearsal.replace(PORT, port)], cwd=newcomer, env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
    finally:
        serving.terminate()
        serving.wait()
    assert shown.returncode == 0, shown.stdout
    assert "Running stage" not in shown.stdout
    second = newcomer.parent / "second-clone"
    assert [path.read_bytes() for path in files_of(second / "data/processed")] == [
        path.read_bytes() for path in files_of(newcomer / "data/processed")
    ]
    assert not any((second / "data/raw").rglob("*"))


def wait_for(port: int) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise AssertionError("nobody serves")


def test_options_of_commands_for_other_machines_exist() -> None:
    options: dict[tuple[str, ...], set[str]] = {}
    for _, mark, content in blocks("sh"):
        for line in content.splitlines() if mark in NOT_RUN else []:
            program, *words = line.split()
            given = {word for word in words if word.startswith("--")}
            if given and program in {"backbeat", "dvc"}:
                command = (program, *words[: 2 if words[0] in GROUPS else 1])
                options[command] = options.get(command, set()) | given
    for command, given in options.items():
        usage = run(REPOSITORY, *command, "--help")
        assert all(option in usage for option in given), (command, given)


def test_the_format_is_read_as_it_is_described(newcomer: Path, tmp_path: Path) -> None:
    """The Python in the specification, run on a shard, gives what the package reads."""
    run(newcomer, "dvc", "repro", "preprocess")
    shutil.copy(files_of(newcomer / "data/processed")[0], tmp_path / "kit-01.h5")
    (content,) = [content for name, _, content in blocks("python") if name == "docs/format.md"]
    check = (
        "from pathlib import Path; from backbeat.drums.shards import Shard;"
        "shard = Shard(Path('kit-01.h5')); assert np.array_equal(frames, shard.read(0, shard.frames))"
    )
    run(tmp_path, sys.executable, "-c", f"{content}\n{check}")


def test_the_python_in_the_reference_runs(newcomer: Path) -> None:
    run(newcomer, "dvc", "repro", "preprocess")
    (content,) = [content for name, _, content in blocks("python") if name == "docs/reference/python.md"]
    run(newcomer, sys.executable, "-c", f"{content}\nassert values.shape == (400, 80)")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (document.parent / target).exists(), target


def test_what_commands_print_in_the_documents_is_what_they_print_now() -> None:
    run(REPOSITORY, sys.executable, "docs/refresh.py", "--check")


def test_the_tree_in_the_readme_is_the_tree() -> None:
    """Every folder of the repository and of the package is explained, and nothing that is not there."""
    (tree,) = [content for name, _, content in blocks("") if name == "README.md" and "params.yaml " in content]
    named = {word for line in tree.splitlines() for word in re.findall(r"^ *([\w./-]+/)", line)} | {"bench/"}
    packages = {f"{path.parent.name}/" for path in (REPOSITORY / "src/backbeat").glob("*/__init__.py")}
    assert packages <= named
    for name in named - packages:
        assert any((REPOSITORY / parent / name).is_dir() for parent in ("", "configs")), name
