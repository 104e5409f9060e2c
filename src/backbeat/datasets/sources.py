"""Where the bytes of a file can come from: one function per kind of address.

Each takes what is wanted and one address, and either gives the complete, proven file its final name or raises and
leaves nothing under that name.

- `http:`, `https:`: see `backbeat.datasets.transfer`.
- `file:`: a copy of your own. On the disk of the staging store it becomes a hard link, since copying an archive
  of 96 GB takes its time and its space a second time; then the two names share their bytes, so the file may be
  replaced or deleted but must not be edited in place (`backbeat datasets verify` would notice). On another disk it
  is copied.
- `generate:`: made here, the same bytes every time.
- `manual:`: a person has to fetch it; the error says from where and what to do then.
- `hf:`, `gdrive:` and `zenodo:` can be written in a record but not be fetched yet.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from backbeat.datasets.hashing import algorithm_of, hash_file, require_promised
from backbeat.datasets.partial import Partial
from backbeat.datasets.patience import Patience
from backbeat.datasets.registry import RecordFile, url_scheme
from backbeat.errors import DownloadError
from backbeat.storage.staging import disk_errors, new_file, publish, require_space

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """One file of one dataset, and where it shall be.

    Args:
        dataset: the name of the record.
        file: what the record promises.
        final: the path in the staging store.
        project: the root of the repository, which `file:` addresses may be relative to.
        patience: how long to try.
    """

    dataset: str
    file: RecordFile
    final: Path
    project: Path
    patience: Patience

    @property
    def label(self) -> str:
        """What the file is called in messages."""
        return f"{self.dataset}/{self.file.path}"


def fetch(wanted: Wanted, url: str) -> None:
    """Bring the file from one address and give it its final name.

    Raises:
        DownloadError: if it cannot be had from there, or is not what the record promises.
        StorageError: if the disk is or would be full.
    """
    scheme = url_scheme(url)
    source = _SOURCES.get(scheme)
    if source is None:
        raise DownloadError(
            f"{wanted.dataset}: {wanted.file.path} cannot be fetched from {url}",
            expected=f"one of {', '.join(f'{known}:' for known in _SOURCES)}",
            got=f"{scheme}:, which is not supported yet",
            next_step="fetch it by hand and put file:///where/it/is first in the urls of the record",
        )
    if wanted.file.members is not None and scheme != "generate":
        raise DownloadError(
            f"{wanted.dataset}: members of {wanted.file.path} cannot be picked from {scheme}: yet",
            expected="members only on generate: addresses",
            got=url,
            next_step=f"remove members from configs/datasets/{wanted.dataset}.yaml to get the whole file",
        )
    source(wanted, url)


def _from_web(wanted: Wanted, url: str) -> None:
    # Only this source needs an HTTP client, which takes a while to load.
    from backbeat.datasets.transfer import Transfer

    with Partial(wanted.final, algorithm_of(wanted.file)) as part:
        Transfer(wanted.dataset, wanted.file, url, part, wanted.patience).run()
        try:
            require_promised(wanted.file, wanted.dataset, part.size_bytes, part.digest())
        except DownloadError:
            part.remove()
            raise
        part.close()
        with disk_errors(wanted.final):
            publish(part.path, wanted.final)
        part.forget_origin()


def _from_file(wanted: Wanted, url: str) -> None:
    # A link's target is what gets linked: a link could be pointed elsewhere at any time.
    source = local_path(wanted.project, url).resolve()
    if not source.is_file():
        raise DownloadError(
            f"{wanted.dataset}: {source} is not there",
            expected="a file, as the record says",
            got="a folder" if source.is_dir() else "nothing",
            next_step=f"put it there, or correct urls in configs/datasets/{wanted.dataset}.yaml",
        )
    algorithm = algorithm_of(wanted.file)
    with new_file(wanted.final) as part:
        if _hard_linked(source, part):
            _log.warning("%s: linked, not copied: replace %s if you must, never edit it", wanted.label, source)
            digest = hash_file(part, algorithm, f"{wanted.label}: checking")
        else:
            require_space(part.parent, source.stat().st_size, wanted.label)
            with part.open("xb") as copy:
                digest = hash_file(source, algorithm, f"{wanted.label}: copying", copy_to=copy)
        require_promised(wanted.file, wanted.dataset, part.stat().st_size, digest)


def _generated(wanted: Wanted, _url: str) -> None:
    from backbeat.datasets.mini import write_archive

    picked: dict[str, Any] = {}
    if wanted.file.members is not None:
        picked = {key: value for key, value in wanted.file.members if value is not None}
    with new_file(wanted.final) as part:
        write_archive(part, **picked)
        digest = hash_file(part, algorithm_of(wanted.file), f"{wanted.label}: checking")
        require_promised(wanted.file, wanted.dataset, part.stat().st_size, digest)


def _by_hand(wanted: Wanted, url: str) -> None:
    size = "of unknown size" if wanted.file.promised_bytes is None else f"of {wanted.file.promised_bytes:,} bytes"
    raise DownloadError(
        f"{wanted.dataset}: {wanted.file.path} has to be fetched by a person",
        expected=f"a file {size}, {wanted.file.hash}",
        got=f"an address that needs a login, a form or a browser: {url.removeprefix('manual://')}",
        next_step=f"fetch it, then put file:///where/it/is first in urls in configs/datasets/{wanted.dataset}.yaml",
    )


_SOURCES: dict[str, Callable[[Wanted, str], None]] = {
    "https": _from_web,
    "http": _from_web,
    "file": _from_file,
    "generate": _generated,
    "manual": _by_hand,
}


def local_path(project: Path, url: str) -> Path:
    """Return the path that a `file:` address stands for; one without `//` is relative to the project."""
    return project / unquote(url.removeprefix("file:").removeprefix("//"))


def _hard_linked(source: Path, link: Path) -> bool:
    link.unlink(missing_ok=True)
    try:
        os.link(source, link)
    except OSError:
        # Another disk, a file system without hard links, or a file of another user: all of them can be copied.
        return False
    return True
