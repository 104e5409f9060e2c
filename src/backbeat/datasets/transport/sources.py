"""Where the bytes of a file can come from: one function per kind of address.

Each takes what is wanted and one address, and either gives the complete, proven file its final name or raises and
leaves nothing under that name.

- `http:`, `https:`, `zenodo:`, `gdrive:`: see `backbeat.datasets.transport.transfer`, `addresses` and `hubs`.
- `hf:`: the same, unless the Hugging Face cache of this machine has the file: then it is taken like one of your own.
- `mirror:`: the same, from the project's own bucket: see `backbeat.datasets.transport.mirrored`.
- `file:`: a copy of your own. On the disk of the staging store it becomes a hard link, since copying an archive
  of 96 GB takes its time and its space a second time; then the two names share their bytes, so the file may be
  replaced or deleted but must not be edited in place (`backbeat datasets verify` would notice). On another disk it
  is copied.
- `generate:`: made here, the same bytes every time.
- `manual:`: a person has to fetch it; the error says from where, and how to hand it over then.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from backbeat.datasets.checks import note_check
from backbeat.datasets.registry import RecordFile, url_scheme
from backbeat.datasets.transport.addresses import Address, resolve
from backbeat.datasets.transport.hashing import algorithm_of, hash_file, require_promised
from backbeat.datasets.transport.partial import Partial
from backbeat.datasets.transport.patience import Patience
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
        address_of: says what to ask for to get the bytes of an address; asked anew for each attempt.
        bytes_per_s: how fast a whole file may come at most; None for as fast as it does.
    """

    dataset: str
    file: RecordFile
    final: Path
    project: Path
    patience: Patience
    address_of: Callable[[str], Address] = resolve
    bytes_per_s: float | None = None

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
    if wanted.file.members is not None and scheme not in {"generate", "manual"}:
        from backbeat.datasets.transport.members import fetch_members

        fetch_members(wanted, url)
        note_check(wanted.final, wanted.file.hash, good=True, source=url, source_bytes=wanted.file.size)
    else:
        found = _SOURCES[scheme](wanted, url)
        note_check(wanted.final, found, good=True, source=url, source_bytes=wanted.final.stat().st_size)


def _from_web(wanted: Wanted, url: str) -> str:
    # Only this source needs an HTTP client, which takes a while to load.
    from backbeat.datasets.transport.transfer import Transfer

    with Partial(wanted.final, algorithm_of(wanted.file)) as part:
        Transfer(wanted.dataset, wanted.file, url, part, wanted.patience, wanted.address_of, wanted.bytes_per_s).run()
        try:
            require_promised(wanted.file, wanted.dataset, part.size_bytes, part.digest(), url)
        except DownloadError:
            part.remove()
            raise
        if not part.is_what_was_written():
            raise DownloadError(
                f"{wanted.label}: what had arrived was changed by another program",
                expected=f"{part.path} with {part.size_bytes:,} bytes, written by this process",
                got="another file, or none",
                next_step=f"backbeat datasets download {wanted.dataset}",
            )
        with disk_errors(wanted.final):
            publish(part.path, wanted.final)
        part.forget_origin()
        return f"{algorithm_of(wanted.file)}:{part.digest()}"


def _from_hugging_face(wanted: Wanted, url: str) -> str:
    from backbeat.datasets.transport.hubs import cached_file

    cached = cached_file(url)
    if cached is not None:
        try:
            return take_local(wanted, cached)
        except DownloadError as error:
            _log.warning("%s\nfetching it instead of taking it from the Hugging Face cache", error)
    return _from_web(wanted, url)


def _from_file(wanted: Wanted, url: str) -> str:
    # A link's target is what gets linked: a link could be pointed elsewhere at any time.
    source = local_path(wanted.project, url).resolve()
    if not source.is_file():
        raise DownloadError(
            f"{wanted.dataset}: {source} is not there",
            expected="a file, as the record says",
            got="a folder" if source.is_dir() else "nothing",
            next_step=f"put it there, or correct urls in configs/datasets/{wanted.dataset}.yaml",
        )
    return take_own(wanted, source)


def take_own(wanted: Wanted, source: Path) -> str:
    """Do `take_local` with a file that its owner may want to edit, which must not be done to a link."""
    found = take_local(wanted, source)
    if wanted.final.samefile(source):
        _log.warning("%s: linked, not copied: replace %s if you must, never edit it", wanted.label, source)
    return found


def take_local(wanted: Wanted, source: Path) -> str:
    """Give the bytes of a file on this machine the final name: linked on the same disk, else copied; proven first.

    Returns:
        Their hash, as a record writes it.

    Raises:
        DownloadError: if it is not what the record promises; nothing is under the final name then.
        StorageError: if the disk is or would be full.
    """
    algorithm = algorithm_of(wanted.file)
    with new_file(wanted.final) as part:
        if _hard_linked(source, part):
            digest = hash_file(part, algorithm, f"{wanted.label}: checking")
        else:
            require_space(part.parent, source.stat().st_size, wanted.label)
            with part.open("xb") as copy:
                digest = hash_file(source, algorithm, f"{wanted.label}: copying", copy_to=copy)
        require_promised(wanted.file, wanted.dataset, part.stat().st_size, digest)
    return f"{algorithm}:{digest}"


def _generated(wanted: Wanted, _url: str) -> str:
    from backbeat.datasets.mini import write_archive

    picked: dict[str, Any] = {}
    if wanted.file.members is not None:
        picked = wanted.file.members.narrowings
        if others := sorted(picked.keys() - {"kits", "splits"}):
            raise DownloadError(
                f"{wanted.dataset}: members by {' and '.join(others)} cannot be made",
                expected="members by kits or splits",
                got=", ".join(picked),
                next_step=f"correct members in configs/datasets/{wanted.dataset}.yaml",
            )
    algorithm = algorithm_of(wanted.file)
    with new_file(wanted.final) as part:
        write_archive(part, **picked)
        digest = hash_file(part, algorithm, f"{wanted.label}: checking")
        require_promised(wanted.file, wanted.dataset, part.stat().st_size, digest)
    return f"{algorithm}:{digest}"


def _by_hand(wanted: Wanted, url: str) -> str:
    size = "of unknown size" if wanted.file.promised_bytes is None else f"of {wanted.file.promised_bytes:,} bytes"
    name = Path(wanted.file.path).name
    raise DownloadError(
        f"{wanted.dataset}: {wanted.file.path} has to be fetched by a person",
        expected=f"a file {size}, {wanted.file.hash}",
        got="an address that needs a login, a form or a browser",
        next_step=f"go to {unquote(url.removeprefix('manual://'))}, fetch {name} (the notes of `backbeat datasets show "
        f"{wanted.dataset}` may say more), then: backbeat datasets adopt {wanted.dataset} path/to/{name}",
    )


# Each returns the hash of what it has brought, as a record writes it.
_SOURCES: dict[str, Callable[[Wanted, str], str]] = {
    "https": _from_web,
    "http": _from_web,
    "hf": _from_hugging_face,
    "zenodo": _from_web,
    "gdrive": _from_web,
    "mirror": _from_web,
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
