"""The questions about downloading: our speed against curl's over loopback, and how memory grows with the file.

Everything is on a memory file system where there is one: what is compared are the programs, not the disk that both of
them wait for. The server is a process of its own that hands whole files to the kernel.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

from backbeat.datasets.download import download
from bench.measure import Result, compare, timed

FILE_BYTES = 1_000_000_000
SMALL_BYTES = 100_000_000
MEMORY_DISK = Path("/dev/shm")

_SERVER = """
import http.server, os, sys

class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        with open(self.translate_path(self.path), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            self.send_response(200)
            self.send_header("Content-Length", str(size))
            self.send_header("ETag", '"1"')
            self.end_headers()
            self.wfile.flush()
            sent = 0
            while sent < size:
                sent += os.sendfile(self.connection.fileno(), file.fileno(), sent, size - sent)
    def log_message(self, *_): pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""

_ONE_DOWNLOAD = """
import re, sys
from pathlib import Path
from backbeat.datasets.download import download
download(Path(sys.argv[1]), sys.argv[2])
# Not getrusage: its peak is that of the process it was forked from, if that was larger.
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024)
"""


def downloads(folder: Path, runs: int) -> Iterator[Result]:
    """One file over loopback, its hash compared, against `curl -o`; and peak memory for ten times the file."""
    os.environ["NO_PROXY"] = "127.0.0.1"
    with fast_folder(folder) as fast, _served(fast) as address:
        project = _project(fast)
        for name, size_bytes in (("large", FILE_BYTES), ("small", SMALL_BYTES)):
            write_random(fast / name, size_bytes)
        for algorithm in ("sha256", "md5", "sha1"):
            _record(project, "large", f"{address}/large", fast / "large", algorithm)
            curl = lambda: FILE_BYTES / 1e6 / timed(lambda: _curl(f"{address}/large", fast / "got"))  # noqa: E731

            def curl_and_sum(algorithm: str = algorithm) -> float:
                def work() -> None:
                    _curl(f"{address}/large", fast / "got")
                    subprocess.run([f"{algorithm}sum", fast / "got"], check=True, stdout=subprocess.DEVNULL)

                return FILE_BYTES / 1e6 / timed(work)

            def ours() -> float:
                shutil.rmtree(project / ".dvc" / "cache", ignore_errors=True)
                return FILE_BYTES / 1e6 / timed(lambda: download(project, "large"))

            peers = {"curl -o, which checks nothing": curl, f"curl -o, then {algorithm}sum": curl_and_sum}
            for peer_name, peer in peers.items():
                case = f"{peer_name}; ours checks {algorithm}"
                yield compare("download", case, ours, peer, unit="MB/s", bar=0.8, kind="at least", runs=runs)
        _record(project, "small", f"{address}/small", fast / "small", "sha256")
        case = f"peak memory for {FILE_BYTES // 10**6:,} MB, for {SMALL_BYTES // 10**6:,} MB"
        large, small = (lambda: _peak_megabytes(project, "large")), (lambda: _peak_megabytes(project, "small"))
        yield compare("download", case, large, small, unit="MB", bar=1.1, kind="at most", runs=runs)


@contextlib.contextmanager
def fast_folder(folder: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=MEMORY_DISK if MEMORY_DISK.is_dir() else folder) as fast:
        yield Path(fast)


@contextlib.contextmanager
def _served(folder: Path) -> Iterator[str]:
    server = subprocess.Popen([sys.executable, "-c", _SERVER], cwd=folder, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{int(server.stdout.readline())}"
    finally:
        server.kill()
        server.communicate()


def _project(folder: Path) -> Path:
    project = folder / "project"
    (project / ".dvc").mkdir(parents=True)
    (project / "configs" / "datasets").mkdir(parents=True)
    return project


def _record(project: Path, name: str, url: str, file: Path, algorithm: str) -> None:
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, algorithm).hexdigest()
    text = textwrap.dedent(f"""\
        name: {name}
        title: Random bytes
        phase: null
        priority: 1
        collections: {{}}
        layout: none
        purpose: measuring
        license: {{id: unknown, url: null, commercial: null, redistribute: false, note: null}}
        homepage: null
        citation: null
        notes: null
        verified_on: null
        files: [{{path: {name}, urls: ["{url}"], size: {file.stat().st_size}, hash: "{algorithm}:{digest}"}}]
        """)

    (project / "configs" / "datasets" / f"{name}.yaml").write_text(text)


def write_random(path: Path, size_bytes: int) -> None:
    with path.open("wb") as file:
        for start in range(0, size_bytes, 2**24):
            file.write(os.urandom(min(2**24, size_bytes - start)))


def _curl(url: str, target: Path) -> None:
    subprocess.run(["curl", "--silent", "--fail", "-o", target, url], check=True)


def _peak_megabytes(project: Path, name: str) -> float:
    shutil.rmtree(project / ".dvc" / "cache", ignore_errors=True)
    command = [sys.executable, "-c", _ONE_DOWNLOAD, project, name]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout) / 1e6
