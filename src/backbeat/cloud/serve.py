"""A real S3 server on this machine, by rclone, to rehearse with no account: push, pull, restore, a Codespace's start.

Signatures are checked. Buckets are the folders of one folder; look at them, but change them through S3 only.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from backbeat.errors import CloudError
from backbeat.remote.rclone import program

# Known to everybody, and good for nothing else: the server listens on this machine only.
REHEARSAL_KEY_ID = "rehearsal"
REHEARSAL_SECRET = "rehearsal-on-this-machine"  # noqa: S105

START_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Serving:
    """A running server.

    Args:
        endpoint_url: its address.
        folder: where its buckets are.
        process: rclone.
    """

    endpoint_url: str
    folder: Path
    process: subprocess.Popen[bytes]


@contextlib.contextmanager
def serve(
    folder: Path,
    buckets: tuple[str, ...],
    *,
    port: int = 0,
    key_id: str = REHEARSAL_KEY_ID,
    secret: str = REHEARSAL_SECRET,
) -> Iterator[Serving]:
    """Serve the folders of `folder` as buckets until the block ends.

    Args:
        folder: where the buckets are; made if it is not there.
        buckets: buckets to make if they are not there.
        port: where to listen; 0 takes one that is free.
        key_id: the identifier of the one key that is accepted.
        secret: that key.

    Raises:
        CloudError: if rclone is not installed, or does not begin to answer.
    """
    for bucket in buckets:
        (folder / bucket).mkdir(parents=True, exist_ok=True)
    port = _free_port(port)
    # The key is on no command line; the folder is read anew every second, so that two clients see one another.
    environment = {**os.environ, "RCLONE_CONFIG": os.devnull, "RCLONE_AUTH_KEY": f'"{key_id},{secret}"'}
    command = [str(program()), "serve", "s3", "--addr", f"127.0.0.1:{port}", "--dir-cache-time", "1s", str(folder)]
    # A file without a name: it is in nobody's way, and gone however the server ends.
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait_for(port, process, log)
            yield Serving(f"http://127.0.0.1:{port}", folder, process)
        finally:
            process.terminate()
            process.wait()


def _free_port(port: int) -> int:
    # Asked for before rclone is started: who answers on a port that is taken is somebody else.
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            raise CloudError(
                f"port {port} of this machine cannot be used", got=str(error.strerror), next_step="name another --port"
            ) from error
        return int(listener.getsockname()[1])


def _wait_for(port: int, process: subprocess.Popen[bytes], log: BinaryIO) -> None:
    until = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    log.seek(0)
    raise CloudError(
        f"the S3 server did not start on port {port}",
        expected="an answer",
        got=log.read().decode(errors="replace")[-500:] or "silence",
        next_step="try again",
    )
