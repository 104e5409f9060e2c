"""The mirror as a read-only file system, for looking into archives that do not fit on the disk.

It is an offer, never a condition: FUSE is missing in many containers, and what is read again and again is better
fetched. What is read is kept on the disk of DVC's cache, within a bound.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from backbeat.cloud.prices import GB, load_cloud_config
from backbeat.datasets.transport.mirrored import ROOT
from backbeat.errors import CloudError
from backbeat.remote.bucket import open_bucket
from backbeat.remote.rclone import REMOTE, program, rclone_environment
from backbeat.storage.staging import open_staging

DEVICE = Path("/dev/fuse")
MOUNTS = Path("/proc/self/mounts")
FILE_SYSTEM = "fuse.rclone"

# In the staging store, whose `.part` entries may be removed when no process is running.
CACHE = "mount.part"
LOG = "mount.log.part"

START_TIMEOUT_S = 60
UNMOUNT_TIMEOUT_S = 60

_INSTEAD = "fetch what you need instead: backbeat cloud mirror pull DATASET, or dvc pull"


@dataclass(frozen=True)
class Mounted:
    """A line of the system's table of mounts.

    Args:
        path: where.
        file_system: what kind.
    """

    path: str
    file_system: str


def mount_point(project: Path) -> Path:
    """Return where the mirror is mounted if nothing else is said: beside the clone, where Git and DVC do not look."""
    return project.resolve().with_name(f"{project.resolve().name}-mirror")


def mount(project: Path, path: Path | None = None) -> Path:
    """Mount the mirror; a process stays behind that serves it until it is unmounted.

    Args:
        project: the root of the repository.
        path: an empty folder, or a new one; default: `mount_point`.

    Returns:
        Where it is mounted now, be it before or by this.

    Raises:
        CloudError: if this machine has no FUSE, the folder is in use, the mirror is empty or the bucket refuses.
    """
    at = _normal(path or mount_point(project))
    require_fuse()
    there = mounted_at(at)
    if there is not None and there.file_system == FILE_SYSTEM and _answers(at):
        return at
    _require_free(at, there)
    config = load_cloud_config(project).limits
    bucket = open_bucket(project)
    settings = bucket.settings
    if not list(islice(bucket.list(f"{ROOT}/"), 1)):
        raise CloudError(
            "the mirror is empty", expected="something to mount", next_step="backbeat cloud mirror push DATASET"
        )
    staging = open_staging(project).root
    staging.mkdir(parents=True, exist_ok=True)
    at.mkdir(parents=True, exist_ok=True)
    log = staging / LOG
    log.unlink(missing_ok=True)
    command = [str(program()), "mount", f"{REMOTE}:{settings.bucket}/{ROOT}", str(at), "--read-only"]
    command += ["--vfs-cache-mode", "full", "--cache-dir", str(staging / CACHE)]
    command += ["--vfs-cache-max-size", _bytes(config.mount_cache_gb)]
    command += ["--vfs-cache-min-free-space", _bytes(config.mount_spare_gb)]
    command += ["--vfs-read-chunk-size", "32M", "--vfs-read-chunk-streams", "4", "--dir-cache-time", "72h"]
    command += ["--log-file", str(log), "--daemon", "--daemon-wait", f"{START_TIMEOUT_S}s"]
    done = subprocess.run(
        command,
        env=rclone_environment(settings, bucket.credentials),
        stdin=subprocess.DEVNULL,
        # The process that stays behind would hold pipes open, and with them whoever reads them.
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=2 * START_TIMEOUT_S,
        check=False,
    )
    if done.returncode or mounted_at(at) is None:
        told = log.read_text(encoding="utf-8", errors="replace")[-500:].strip() if log.is_file() else ""
        raise CloudError(
            f"the mirror could not be mounted at {at}",
            got=told or f"rclone ended with {done.returncode}",
            next_step=_INSTEAD,
        )
    return at


def unmount(project: Path, path: Path | None = None) -> Path:
    """Unmount the mirror, also where the process that served it has died.

    Raises:
        CloudError: if nothing of the kind is mounted there, or a program has something open in it.
    """
    at = _normal(path or mount_point(project))
    there = mounted_at(at)
    if there is None or there.file_system != FILE_SYSTEM:
        ours = [one.path for one in _mounts() if one.file_system == FILE_SYSTEM]
        raise CloudError(
            f"no mirror is mounted at {at}",
            expected=f"one of {', '.join(ours)}" if ours else None,
            got="nothing" if there is None else f"a file system {there.file_system}",
            next_step="name one of those" if ours else "nothing needs to be done",
        )
    program_ = _fusermount()
    command = [program_, "-u", str(at)] if program_ else ["umount", str(at)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=UNMOUNT_TIMEOUT_S, check=False)
    if done.returncode:
        raise CloudError(
            f"{at} could not be unmounted",
            got=done.stderr.strip() or f"{command[0]} ended with {done.returncode}",
            next_step="leave the folder and close what is open in it (fuser -vm shows it), then try again",
        )
    return at


def require_fuse() -> None:
    """Refuse a machine where nothing can be mounted, and say what to do instead.

    Raises:
        CloudError: naming what is missing.
    """
    if not DEVICE.exists():
        raise CloudError(
            "this machine has no FUSE: nothing can be mounted",
            expected=f"{DEVICE} (for a container: --device /dev/fuse --cap-add SYS_ADMIN)",
            got="no such device",
            next_step=_INSTEAD,
        )
    if _fusermount() is None:
        raise CloudError(
            "this machine has no FUSE tools: nothing can be mounted",
            expected="fusermount3 or fusermount on PATH",
            got="neither",
            next_step=f"install the package fuse3, or {_INSTEAD}",
        )


def mounted_at(path: Path) -> Mounted | None:
    """Return what is mounted at a folder; None if nothing, or the system does not say."""
    wanted = str(_normal(path))
    return next((one for one in reversed(_mounts()) if one.path == wanted), None)


def _normal(path: Path) -> Path:
    # A folder whose server has died cannot even be looked at: its parent is resolved, and its name is kept.
    return path.resolve() if path.name in {"", ".."} else path.parent.resolve() / path.name


def _mounts() -> list[Mounted]:
    try:
        lines = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []
    fields = [line.split(" ") for line in lines]
    return [Mounted(_unescaped(path), kind) for _, path, kind, *_ in fields]


def _unescaped(path: str) -> str:
    for code, letter in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        path = path.replace(code, letter)
    return path


def _require_free(at: Path, there: Mounted | None) -> None:
    if there is not None:
        dead = there.file_system == FILE_SYSTEM
        raise CloudError(
            f"{at} is in use",
            expected="a folder where nothing is mounted",
            got="a mount whose process has died" if dead else f"a file system {there.file_system}",
            next_step=f"backbeat cloud unmount {shlex.quote(str(at))}" if dead else "name another folder",
        )
    if at.is_symlink() or (at.exists() and not at.is_dir()) or (at.is_dir() and any(at.iterdir())):
        raise CloudError(
            f"{at} cannot be mounted upon",
            expected="an empty folder, or none yet",
            got="a folder with something in it" if at.is_dir() and not at.is_symlink() else "something else",
            next_step="name another folder: backbeat cloud mount PATH",
        )


def _answers(at: Path) -> bool:
    try:
        next(at.iterdir(), None)
    except OSError:
        return False
    return True


def _fusermount() -> str | None:
    return shutil.which("fusermount3") or shutil.which("fusermount")


def _bytes(gb: float) -> str:
    return f"{int(gb * GB)}B"
