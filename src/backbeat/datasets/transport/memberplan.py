"""What to take out of an archive, from where to where, and what that costs: planned before the first member is fetched.

The directory is read, and from it (and, for E-GMD, from the table) follows everything. The same archive and the same
narrowings always make the same plan.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Protocol

from backbeat.datasets.layouts import pick_members
from backbeat.datasets.packed.zipdirectory import ByteSource, Entry, LocalBytes, read_directory
from backbeat.datasets.packed.zipwriting import stored_anew
from backbeat.datasets.registry import Members
from backbeat.datasets.transport.membercheck import MemberCheck
from backbeat.datasets.transport.spans import Span, in_pieces, merged
from backbeat.datasets.transport.traffic import Traffic
from backbeat.errors import ArchiveError

# What a local header may be longer than its name, and a data descriptor after it. More than that between two members
# is no part of either.
MOST_AROUND_BYTES = 30 + 0xFFFF + 24

# E-GMD's table has 9 MB. It is held in memory.
LARGEST_TABLE_BYTES = 2**28


class SpanSource(ByteSource, Protocol):
    """An archive that several runs of bytes can be had of."""

    @property
    def validator(self) -> str | None:
        """What tells this version of it from others; None if nothing does."""

    @property
    def traffic(self) -> Traffic:
        """What has been asked for so far."""

    def read_spans(self, spans: Sequence[Span]) -> Iterator[tuple[Span, bytes]]:
        """Yield runs of bytes in their order."""


class LocalSpans(LocalBytes):
    """An archive on this machine; its date and size tell its version."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.validator = f"{path.stat().st_mtime_ns} {self.size_bytes}"
        self.traffic = Traffic()

    def read_spans(self, spans: Sequence[Span]) -> Iterator[tuple[Span, bytes]]:
        """Yield runs of bytes in their order."""
        for span in spans:
            yield span, self.read_at(span.start, span.size_bytes)


@dataclass(frozen=True)
class Arithmetic:
    """Bytes asked for against bytes needed.

    Args:
        members: how many are picked.
        of_members: how many the archive has, without folders.
        member_bytes: what the picked ones take in the archive.
        directory_bytes: what its directory takes.
        asked_bytes: what has been asked for, or would have to be, for both.
        requests: how many it took, or would take of a server that sends several ranges at once.
    """

    members: int
    of_members: int
    member_bytes: int
    directory_bytes: int
    asked_bytes: int
    requests: int

    @property
    def needed_bytes(self) -> int:
        """What nobody could do with less of."""
        return self.member_bytes + self.directory_bytes

    def __str__(self) -> str:
        return (
            f"{self.members:,} of {self.of_members:,} members: {self.needed_bytes:,} bytes needed, "
            f"{self.asked_bytes:,} asked in {self.requests:,} requests ({self.asked_bytes / self.needed_bytes:.2f}x)"
        )


@dataclass(frozen=True)
class Piece:
    """One member of the new archive.

    Args:
        entry: its entry in the old one, or the one that takes its place.
        span: where it is in the old one.
        content: its bytes where they do not come from there.
        offset: where it will be.
        size_bytes: how long it will be, from its header to its data descriptor.
    """

    entry: Entry
    span: Span
    content: bytes | None
    offset: int
    size_bytes: int


@dataclass(frozen=True)
class MemberPlan:
    """All of the new archive.

    Args:
        pieces: its members, in their order.
        of_members: how many the old archive has, without folders.
        directory_bytes: what the directory of the old archive takes.
    """

    pieces: tuple[Piece, ...]
    of_members: int
    directory_bytes: int

    @property
    def size_bytes(self) -> int:
        """Where the new directory will be."""
        return self.pieces[-1].offset + self.pieces[-1].size_bytes

    def arithmetic(self, asked_bytes: int, requests: int) -> Arithmetic:
        """Return what was needed against what was asked for."""
        member_bytes = sum(piece.span.size_bytes for piece in self.pieces)
        return Arithmetic(len(self.pieces), self.of_members, member_bytes, self.directory_bytes, asked_bytes, requests)

    def spans(self, done: int = 0) -> list[Span]:
        """Return what to ask for when so many members are here, neighbors together."""
        return merged([piece.span for piece in self.pieces[done:] if piece.content is None])


def plan_of(source: SpanSource, members: Members, layout: str) -> MemberPlan:
    """Return what to take out of an archive.

    Args:
        source: the archive.
        members: what is wanted of it.
        layout: of the record.

    Raises:
        ConfigError: if the narrowings do not fit the archive.
        ArchiveError: if it is no whole zip archive, or a wanted member could not be proven.
        DownloadError: if the directory cannot be had.
    """
    entries = read_directory(source)
    named = {entry.name: entry for entry in entries}
    picked = pick_members(layout, entries, lambda name: _content(source, named[name]), members)
    sizes, chosen = [], []
    for entry in entries:
        if entry.name not in picked.names:
            continue
        MemberCheck(entry, source.name)  # refuses what could not be proven before anything is fetched
        content = None
        span = Span(entry.offset, min(entry.end, entry.offset + entry.stored_bytes + MOST_AROUND_BYTES))
        if entry.name in picked.replaced:
            entry, content = stored_anew(entry, picked.replaced[entry.name])  # noqa: PLW2901 - it takes its place
        chosen.append((entry, span, content))
        sizes.append(span.size_bytes if content is None else len(content))
    offsets = accumulate(sizes, initial=0)
    pieces = tuple(Piece(*one, at, size) for one, at, size in zip(chosen, offsets, sizes, strict=False))
    of_members = sum(not entry.is_dir for entry in entries)
    return MemberPlan(pieces, of_members, source.size_bytes - entries[-1].end)


def _content(source: SpanSource, entry: Entry) -> bytes:
    if entry.size_bytes > LARGEST_TABLE_BYTES:
        got = f"{entry.size_bytes:,} bytes"
        raise ArchiveError(f"{entry.name} is no table", expected=f"at most {LARGEST_TABLE_BYTES:,} bytes", got=got)
    check = MemberCheck(entry, source.name)
    content = bytearray()
    for _, chunk in source.read_spans(list(in_pieces([Span(entry.offset, entry.end)]))):
        content += b"".join(check.feed(chunk))
    check.finish()
    return bytes(content)
