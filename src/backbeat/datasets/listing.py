"""What a new record is going to list: the files of one's own at a path, or what an address stands for."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from backbeat.datasets.registry import UNVERIFIED, url_scheme
from backbeat.datasets.transport.addresses import hub_file, zenodo_file
from backbeat.datasets.transport.sources import local_path
from backbeat.datasets.transport.upstream import look, zenodo_files
from backbeat.errors import ConfigError, DownloadError

MOST_FILES = 200

_ZENODO_RECORD = re.compile(r"(?:zenodo://|https?://zenodo\.org/records?/)(\d+)/?")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listed:
    """A file that shall be in the record, as far as it is known, and where its bytes are, if they are here."""

    path: str
    url: str
    size: int | None = None
    hash: str = UNVERIFIED
    place: Path | None = None

    def entry(self) -> dict[str, Any]:
        """Return what the record says of it."""
        return {"path": self.path, "urls": [self.url], "size": self.size, "hash": self.hash}


def list_own(project: Path, source: str) -> list[Listed]:
    """Return the files at a path, or at a `file:` address.

    Raises:
        ConfigError: if there are none, too many, or empty ones.
    """
    given = local_path(project, source) if source.startswith("file:") else Path(source)
    if not given.exists():
        raise ConfigError(
            f"{given} is not there",
            expected="a file, a folder, or an address as in a record",
            got="nothing",
            next_step="correct the path; an address begins with https:, hf:, zenodo:, gdrive:, file: or manual:",
        )
    root = given.absolute().parent if given.is_file() else given.absolute()
    paths = [given.absolute()] if given.is_file() else _files_below(root)
    if not root.is_relative_to(project.absolute()):
        _log.warning("%s is outside of the project: the addresses of the record mean it on this machine only", root)
    return [
        Listed(path.relative_to(root).as_posix(), file_url(project, path), path.stat().st_size, place=path)
        for path in paths
    ]


def _files_below(folder: Path) -> list[Path]:
    paths = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not paths:
        raise ConfigError(f"{folder} has no files", expected="files whose names do not begin with a dot", got="none")
    for path in paths:
        if not path.stat().st_size:
            raise ConfigError(f"{path} is empty", expected="at least one byte", got="0", next_step="remove it")
    if len(paths) > MOST_FILES:
        raise ConfigError(
            f"{folder} has {len(paths):,} files",
            expected=f"up to {MOST_FILES}, each of which gets an entry in the record",
            got=f"{len(paths):,}",
            next_step=f"pack it, uncompressed so that members can be read in place: (cd {folder} && zip -0 -q -r "
            f"../{folder.name}.zip .), then name {folder.name}.zip as the source; it need not be unpacked again",
        )
    return paths


def file_url(project: Path, path: Path) -> str:
    """Return the address of a file on this machine; within the project it means the same on every machine."""
    if path.is_relative_to(project.absolute()):
        return f"file:{quote(path.relative_to(project.absolute()).as_posix())}"
    return path.as_uri()


def list_address(source: str, *, measured_later: bool) -> list[Listed]:
    """Return the files that an address stands for, with the size and hash that are published.

    Args:
        source: an address as in a record, or one of a whole Zenodo record.
        measured_later: whether the file is going to be fetched: what is said of its size is not needed then.

    Raises:
        DownloadError: if nothing can be learned about it.
    """
    scheme, whole = url_scheme(source), _ZENODO_RECORD.fullmatch(source)
    if whole or scheme == "zenodo":
        record, name = (whole[1], None) if whole else zenodo_file(source)
        files = zenodo_files(record)
        if name is not None and name not in files:
            raise DownloadError(
                f"record {record} on Zenodo has no {name}", expected=f"one of {', '.join(files)}", got=name
            )
        return [
            Listed(file, f"zenodo://{record}/{quote(file)}", upstream.size_bytes, upstream.hash or UNVERIFIED)
            for file, upstream in files.items()
            if name in {None, file}
        ]
    if scheme in {"manual", "generate"}:
        return [Listed(Path(unquote(source)).name, source)]
    upstream = look(source)
    if scheme == "hf":
        file = hub_file(source)
        pinned = replace(file, revision=upstream.revision or file.revision)
        return [Listed(Path(file.name).name, str(pinned), upstream.size_bytes, upstream.hash or UNVERIFIED)]
    called = upstream.name or Path(unquote(urlsplit(source).path)).name
    # A server's answer to HEAD may be wrong where its file is right.
    return [Listed(called or "data", source, None if measured_later else upstream.size_bytes)]
