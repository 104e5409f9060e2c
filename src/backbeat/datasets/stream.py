"""Reading the items of a dataset one after the other without downloading it.

A dataset that is here is read where it is. Otherwise, file by file, in the order of the record:

- a tar, and a file that is no archive, as one body over HTTP (see `transport.webstream`); items are read before
  the next one is asked for, and at the end the whole is compared with the record's hash;
- a zip by ranges: its directory, then what is wanted of it, neighbors together; each member's CRC-32 is compared;
- a zip in parts by ranges over all of its parts.

Nothing is written. The addresses of a file are tried in order until one answers. `members` of a record apply.
"""

from __future__ import annotations

import contextlib
import io
import logging
from bisect import bisect_right
from collections.abc import Callable, Generator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

from backbeat.datasets.layouts import pick_members
from backbeat.datasets.packed.containers import dataset_items, files_only, grouped, is_here, is_tar, is_zip, members_of
from backbeat.datasets.packed.items import CHUNK_BYTES, BytesContent, Item, StreamContent
from backbeat.datasets.packed.tars import tar_items
from backbeat.datasets.packed.zipdirectory import ByteSource, Entry, read_directory
from backbeat.datasets.packed.zips import zip_item, zip_items
from backbeat.datasets.registry import Members, Record, RecordFile, load_record, url_scheme
from backbeat.datasets.selection import refuse_excluded
from backbeat.datasets.transport.addresses import resolve
from backbeat.datasets.transport.patience import Patience
from backbeat.datasets.transport.ranges import RemoteFile
from backbeat.datasets.transport.sources import local_path
from backbeat.datasets.transport.webstream import WebStream
from backbeat.errors import BackbeatError, DownloadError

# How much of a remote zip is asked for at once: little at first, in case little is wanted, then more and more.
FIRST_WINDOW_BYTES = 2**18
LARGEST_WINDOW_BYTES = 2**23

# Bytes between two members that cost less than another request.
GAP_BYTES = 2**16

WEB_SCHEMES = frozenset({"http", "https", "hf", "gdrive", "zenodo"})

T = TypeVar("T")

_log = logging.getLogger(__name__)


def stream(project: Path, name: str, *, patience: Patience | None = None) -> Generator[Item]:
    """Yield the items of a dataset, from here if it is here, from its publisher otherwise.

    An item of a tar or of a plain file is read before the next one is asked for, or not at all.

    Args:
        project: the root of the repository.
        name: the name of the record.
        patience: how long to try.

    Raises:
        ConfigError: if there is no such record, it is not valid, or its dataset is excluded.
        DownloadError: if none of the addresses of a file can be streamed.
        ArchiveError: while iterating, if what arrives is damaged.
    """
    record = load_record(project, name)
    if is_here(project, record):
        return dataset_items(project, name)
    refuse_excluded(record)
    return _remote_items(project, record, patience or Patience())


def _remote_items(project: Path, record: Record, patience: Patience) -> Generator[Item]:
    for group in grouped(record.files):
        label = f"{record.name}/{group[-1].path}"
        copies = [copy for file in group if (copy := _copy(project, file)) is not None]
        if len(copies) == len(group):
            members = members_of(copies, group[-1].path)
        elif is_zip(group[-1].path):
            members = _zip_members(record, group, patience)
        else:
            members = _body_members(label, group[-1], patience)
        yield from files_only(members, label)


def _copy(project: Path, file: RecordFile) -> Path | None:
    """Return a copy of a file that its record knows of on this machine."""
    copies = (local_path(project, url) for url in file.urls if url_scheme(url) == "file")
    return next((copy for copy in copies if copy.is_file()), None)


def _body_members(label: str, file: RecordFile, patience: Patience) -> Generator[Item]:
    body = _first_that_answers(label, file, lambda url: WebStream(label, file, url, patience).begin())
    with io.BufferedReader(body, CHUNK_BYTES) as buffered:
        if is_tar(file.path):
            yield from tar_items(buffered, label)
            # What a decompressor leaves unread still counts for the hash.
            while buffered.read(CHUNK_BYTES):
                pass
        else:
            content = StreamContent(buffered.read, label)
            yield Item(file.path, body.size_bytes or 0, content)
            content.over = True


def _zip_members(record: Record, group: Sequence[RecordFile], patience: Patience) -> Generator[Item]:
    with contextlib.ExitStack() as opened:
        parts = []
        for file in group:
            label = f"{record.name}/{file.path}"
            remote = _first_that_answers(label, file, partial(_remote_file, label, file, patience))
            parts.append(opened.enter_context(remote))
        archive = _Joined(parts)
        entries = read_directory(archive, archive.part_sizes if len(parts) > 1 else None)
        yield from _picked_items(archive, entries, record.layout, group[-1].members)


def _picked_items(
    archive: ByteSource, entries: Sequence[Entry], layout: str, members: Members | None
) -> Generator[Item]:
    if members is None:
        yield from zip_items(_ReadAhead(archive, entries), entries)
        return
    by_name = {entry.name: entry for entry in entries}
    picked = pick_members(layout, entries, lambda name: zip_item(archive, by_name[name]).read(), members)
    wanted = [entry for entry in entries if entry.name in picked.names]
    for item in zip_items(_ReadAhead(archive, wanted), wanted):
        content = picked.replaced.get(item.name)
        yield item if content is None else Item(item.name, len(content), BytesContent(content))


def _remote_file(label: str, file: RecordFile, patience: Patience, url: str) -> RemoteFile:
    remote = RemoteFile(resolve(url), patience, label)
    try:
        if remote.size_bytes == (file.size or remote.size_bytes):
            return remote
        raise DownloadError(
            f"{label} is not the file that the record promises",
            expected=f"{file.size:,} bytes",
            got=f"{remote.size_bytes:,} bytes",
            next_step="the publisher has changed the file; compare with their page and correct the record",
        )
    except DownloadError:
        remote.close()
        raise


class _Joined:
    """The parts of an archive on servers, one behind the other."""

    def __init__(self, parts: Sequence[RemoteFile]) -> None:
        self._parts = parts
        self.part_sizes = [part.size_bytes for part in parts]
        self.name, self.size_bytes = parts[-1].name, sum(self.part_sizes)

    def read_at(self, offset: int, count: int) -> bytes:
        """Return `count` bytes from `offset` on, out of as many parts as it takes; fewer only at the end."""
        pieces, start = [], 0
        for part, size_bytes in zip(self._parts, self.part_sizes, strict=True):
            first, last = max(offset, start), min(offset + count, start + size_bytes)
            if first < last:
                pieces.append(part.read_at(first - start, last - first))
            start += size_bytes
        return b"".join(pieces)


class _ReadAhead:
    """An archive of which some members are read in their order: neighbors come with one request."""

    def __init__(self, archive: ByteSource, wanted: Sequence[Entry]) -> None:
        self._archive, self._wanted = archive, wanted
        self._starts = [entry.offset for entry in wanted]
        self._window, self._window_start, self._next_bytes = b"", 0, FIRST_WINDOW_BYTES
        self.name, self.size_bytes = archive.name, archive.size_bytes

    def read_at(self, offset: int, count: int) -> bytes:
        """Return `count` bytes from `offset` on; fewer only at the end."""
        at = offset - self._window_start
        if not 0 <= at <= at + count <= len(self._window):
            self._window = self._archive.read_at(offset, max(count, self._ahead_bytes(offset)))
            self._window_start, at = offset, 0
        return self._window[at : at + count]

    def _ahead_bytes(self, offset: int) -> int:
        index = bisect_right(self._starts, offset) - 1
        end = self._wanted[index].end
        for entry in islice(self._wanted, index + 1, None):
            if entry.offset - end > GAP_BYTES or end - offset > self._next_bytes:
                break
            end = entry.end
        ahead_bytes = min(end - offset, self._next_bytes)
        self._next_bytes = min(2 * self._next_bytes, LARGEST_WINDOW_BYTES)
        return ahead_bytes


def _first_that_answers(label: str, file: RecordFile, ask: Callable[[str], T]) -> T:
    failures: list[BackbeatError] = []
    for url in file.urls:
        if url_scheme(url) not in WEB_SCHEMES:
            continue
        try:
            return ask(url)
        except DownloadError as error:
            failures.append(error)
            _log.warning("%s", error)
    if failures:
        raise failures[-1]
    raise DownloadError(
        f"{label} cannot be streamed",
        expected=f"an address that starts with {', '.join(f'{scheme}:' for scheme in sorted(WEB_SCHEMES))}",
        got=", ".join(file.urls),
        next_step=f"backbeat datasets download {label.partition('/')[0]}, or show, for what a person has to do",
    )
