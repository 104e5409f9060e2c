"""DVC as a program of its own: with the keys in its environment alone, watched, and ended when it hangs.

What DVC is told beside the project's configuration stands in a folder that is thrown away afterwards, at the lowest of
DVC's levels: one more remote, which is the project's own with its bucket chosen and `verify` on, whoever removed that.
It ends with this program, also when that is killed (`dvc_child`); the next run then throws the folder away.
"""

from __future__ import annotations

import contextlib
import os
import pty
import shutil
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dvc.dirs import system_config_dir

from backbeat.cloud.life import signs
from backbeat.errors import CloudError
from backbeat.remote.credentials import Credentials, child_environment, redacted
from backbeat.remote.settings import RemoteSettings, dvc_config
from backbeat.storage.work import folder_of_this_run

# What the remote is called that only the program sees.
REMOTE = "backbeat-transfer"

CHILD = "backbeat.cloud.dvc_child"

# What a remote may say beside where it is and how it is proven. Keys go through the environment.
_KEPT_SETTINGS = ("jobs", "read_timeout", "connect_timeout", "ssl_verify", "use_ssl", "sse", "sse_kms_key_id", "acl")

# How often it is looked at, and how long it may take to end when it is told to.
LOOK_EVERY_S = 0.5
GRACE_S = 10.0

# The end of what it says, for a message.
MOST_OUTPUT_BYTES = 2**16


@dataclass(frozen=True)
class Ended:
    """How DVC ended: its exit code, and the end of what it printed, without keys."""

    code: int
    output: str


@dataclass(frozen=True)
class Connection:
    """Which bucket DVC is to use, and the keys to it."""

    settings: RemoteSettings
    credentials: Credentials


def run_dvc(
    project: Path,
    arguments: Sequence[str],
    *,
    connection: Connection | None = None,
    fresh_site_cache: bool = False,
    idle_timeout_s: float,
    look: Callable[[], None] = lambda: None,
) -> Ended:
    """Run `dvc` with these arguments until it ends; if this process is told to end, DVC is ended before.

    Args:
        project: the root of the repository.
        arguments: what follows `dvc`; `--remote backbeat-transfer` is added where there is a connection.
        connection: the bucket, for commands that use one.
        fresh_site_cache: whether DVC gets an empty folder for what it remembers.
        idle_timeout_s: how long it may move no byte.
        look: called every now and then, to show progress.

    Raises:
        CloudError: if it hangs.
    """
    with folder_of_this_run(project, "backbeat-dvc") as folder, _noting_sigterm() as told:
        environment = dict(os.environ) if connection is None else _environment(project, connection, folder)
        if fresh_site_cache:
            environment["DVC_SITE_CACHE_DIR"] = str(folder / "site")
        environment |= {"DVC_NO_ANALYTICS": "1", "PYTHONUNBUFFERED": "1"}
        remote = [] if connection is None else ["--remote", REMOTE]
        command = [sys.executable, "-m", CHILD, str(os.getpid()), arguments[0], *remote, *arguments[1:]]
        with _started(command, project, environment) as (process, output):
            _watch(process, f"dvc {arguments[0]}", connection, idle_timeout_s, look, told)
        text = output.decode(errors="replace").strip()
        return Ended(process.returncode, text if connection is None else redacted(text, connection.credentials))


def _environment(project: Path, connection: Connection, folder: Path) -> dict[str, str]:
    settings = connection.settings
    given = dvc_config(project).get("remote", {}).get(settings.name, {})
    values = {
        "url": settings.url,
        "verify": "true",
        "jobs": 10,
        **{name: given[name] for name in _KEPT_SETTINGS if given.get(name) is not None},
    }
    if settings.endpoint_url:
        values["endpointurl"] = settings.endpoint_url
    if settings.region:
        values["region"] = settings.region
    if settings.config_path:
        values["configpath"] = settings.config_path.absolute()
    theirs = Path(os.environ.get("DVC_SYSTEM_CONFIG_DIR") or system_config_dir()) / "config"
    with contextlib.suppress(OSError):
        (folder / "config").write_text(theirs.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    with (folder / "config").open("a", encoding="utf-8") as config:
        config.write(f"['remote \"{REMOTE}\"']\n")
        config.writelines(f'    {name} = "{value}"\n' for name, value in values.items())
    return {**child_environment(connection.credentials, settings), "DVC_SYSTEM_CONFIG_DIR": str(folder)}


@contextlib.contextmanager
def _started(
    command: list[str], project: Path, environment: dict[str, str]
) -> Iterator[tuple[subprocess.Popen[bytes], bytearray]]:
    """Start a program; yield it and what it prints, which a terminal sees at once."""
    shown = sys.stderr.isatty()
    # A program draws bars on a terminal only; what it draws still has to be read for what went wrong.
    reading, writing = pty.openpty() if shown else os.pipe()
    if shown:
        width, height = shutil.get_terminal_size()
        termios.tcsetwinsize(writing, (height, width))
    process = subprocess.Popen(
        command, cwd=project, env=environment, stdin=subprocess.DEVNULL, stdout=writing, stderr=writing
    )
    os.close(writing)
    output = bytearray()
    reader = threading.Thread(target=_read, args=(reading, output, shown), daemon=True)
    reader.start()
    try:
        yield process, output
    finally:
        _end(process)
        reader.join(GRACE_S)


def _read(descriptor: int, output: bytearray, shown: bool) -> None:
    # A pseudo-terminal whose other end is closed gives an error, a pipe gives nothing.
    with contextlib.suppress(OSError):
        while piece := os.read(descriptor, 2**14):
            if shown:
                sys.stderr.buffer.write(piece)
                sys.stderr.buffer.flush()
            output += piece
            del output[:-MOST_OUTPUT_BYTES]
    os.close(descriptor)


def _watch(
    process: subprocess.Popen[bytes],
    doing: str,
    connection: Connection | None,
    idle_timeout_s: float,
    look: Callable[[], None],
    told: Sequence[int],
) -> None:
    alive_at, last = time.monotonic(), signs(process.pid)
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(LOOK_EVERY_S)
        if process.returncode is not None:
            return
        if told:
            raise SystemExit(128 + told[0])
        look()
        now = signs(process.pid)
        if now is None or last is None or now.is_life_since(last):
            alive_at, last = time.monotonic(), now
        elif time.monotonic() - alive_at > idle_timeout_s:
            where = "this machine" if connection is None else f"an answer from {_host(connection.settings)}"
            raise CloudError(
                f"`{doing}` has moved no byte for {idle_timeout_s:g} s and was ended",
                expected=where,
                got="silence",
                next_step="check the network, then repeat the command: it goes on with what is finished; patience is "
                "`idle_timeout_s` in configs/cloud.yaml",
            )


def _host(settings: RemoteSettings) -> str:
    return settings.endpoint_url or "Amazon S3"


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def _noting_sigterm() -> Iterator[Sequence[int]]:
    """Note a SIGTERM instead of ending at once: raised while the program is being started, it would leave it alone."""
    told: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield told
        return
    before = signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    try:
        yield told
    finally:
        signal.signal(signal.SIGTERM, before)
    if told:
        raise SystemExit(128 + told[0])
