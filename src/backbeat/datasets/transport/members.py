"""Some members of a zip, out of an archive on a server or on this machine, as a valid zip in the original order.

- The directory says where everything is and will be (see `transport.memberplan`).
- Neighbors are asked for together (see `transport.spans` and `backbeat.datasets.transport.ranges`). Each member's bytes
  are copied as they are, from its local header to its data descriptor, while its CRC-32 is compared. A damaged one is
  asked for once more.
- A new directory behind them makes it a zip. Only then does it take its name.
- A killed run goes on after the last whole member, if the server says that the file is still the same one. What is
  here is proven first: each member has its checksum.
- A file that changes on the server while it is read is started over, once.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO

from backbeat.datasets.packed.zipwriting import write_directory
from backbeat.datasets.registry import Members, Record, RecordFile, load_record, url_scheme
from backbeat.datasets.transport.membercheck import MemberCheck
from backbeat.datasets.transport.memberplan import Arithmetic, LocalSpans, MemberPlan, Piece, SpanSource, plan_of
from backbeat.datasets.transport.partial import part_path
from backbeat.datasets.transport.patience import Patience
from backbeat.datasets.transport.sources import Wanted, local_path
from backbeat.datasets.transport.spans import Span, in_pieces
from backbeat.errors import ArchiveError, DownloadError
from backbeat.progress import Advance, progress
from backbeat.provenance import digest_of
from backbeat.storage.staging import disk_errors, publish, require_space

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Note:
    """What the bytes that are here already are a part of."""

    url: str
    validator: str
    members: str


def fetch_members(wanted: Wanted, url: str) -> Arithmetic:
    """Bring the members that a record picks out of the archive at one address, and give them their final name.

    Args:
        wanted: a file with `members`.
        url: where the whole archive is: `http:`, `https:`, `hf:`, `gdrive:`, `zenodo:` or `file:`.

    Returns:
        What it took.

    Raises:
        ConfigError: if the narrowings do not fit the archive.
        DownloadError: if it cannot be had from there, is damaged, or is not the archive of the record.
        StorageError: if the disk is or would be full.
    """
    from backbeat.datasets.transport.ranges import VersionChangedError

    layout = load_record(wanted.project, wanted.dataset).layout
    try:
        try:
            return _fetch(wanted, url, layout)
        except VersionChangedError as error:
            _log.warning("%s\nstarting over", error)
            return _fetch(wanted, url, layout)
    except ArchiveError as error:
        raise DownloadError(
            f"{wanted.label}: its members cannot be had: {error.what}",
            expected=error.expected,
            got=error.got,
            next_step="remove members from the record to get the whole archive, whose hash says if it is the right one",
        ) from error


def plan_members(project: Path, record: Record, file: RecordFile, patience: Patience | None = None) -> Arithmetic:
    """Return what fetching the members of a file would take; of the archive, only the directory (and a table) is read.

    Raises:
        ConfigError: if the narrowings do not fit the archive.
        DownloadError: if it cannot be had from the first address, or is not the archive of the record.
        ArchiveError: if it is no whole zip archive.
    """
    wanted = Wanted(record.name, file, Path(), project, patience or Patience())
    with _opened(wanted, file.urls[0]) as source:
        plan = _planned(wanted, source, record.layout)
        spans = plan.spans()
        asked_bytes = source.traffic.asked_bytes + sum(span.size_bytes for span in spans)
        return plan.arithmetic(asked_bytes, source.traffic.requests + -(-len(spans) // 20))


def _fetch(wanted: Wanted, url: str, layout: str) -> Arithmetic:
    with _opened(wanted, url) as source:
        plan = _planned(wanted, source, layout)
        part = part_path(wanted.final)
        note = None
        if source.validator is not None:
            members = digest_of([(piece.entry.crc32, piece.offset) for piece in plan.pieces])
            note = _Note(url, source.validator, members)
        with disk_errors(wanted.final):
            done = _kept(part, plan, note, source.name)
            have_bytes = plan.pieces[done].offset if done < len(plan.pieces) else plan.size_bytes
            require_space(wanted.final.parent, plan.size_bytes + plan.directory_bytes - have_bytes, wanted.label)
            label = f"{wanted.label}: members"
            with (
                part.open("r+b") as out,
                progress(label, plan.size_bytes, unit="bytes", done=have_bytes) as advance,
            ):
                out.truncate(have_bytes)
                out.seek(have_bytes)
                _copy_all(source, plan, done, out, advance)
                write_directory(out, [replace(piece.entry, offset=piece.offset) for piece in plan.pieces])
            publish(part, wanted.final)
        _note_path(part).unlink(missing_ok=True)
        arithmetic = plan.arithmetic(source.traffic.asked_bytes, source.traffic.requests)
        _log.info("%s: %s", wanted.label, arithmetic)
        return arithmetic


def _opened(wanted: Wanted, url: str) -> AbstractContextManager[SpanSource]:
    if url_scheme(url) == "file":
        path = local_path(wanted.project, url)
        if not path.is_file():
            step = f"put it there, or correct urls in configs/datasets/{wanted.dataset}.yaml"
            raise DownloadError(f"{wanted.dataset}: {path} is not there", expected="a zip", next_step=step)
        return nullcontext(LocalSpans(path))
    from backbeat.datasets.transport.ranges import RemoteFile

    return RemoteFile(wanted.address_of(url), wanted.patience, wanted.label)


def _planned(wanted: Wanted, source: SpanSource, layout: str) -> MemberPlan:
    if wanted.file.size not in {None, source.size_bytes}:
        raise DownloadError(
            f"{wanted.label} is not the archive of the record",
            expected=f"{wanted.file.size:,} bytes",
            got=f"{source.size_bytes:,}",
            next_step="the publisher has changed the file; compare with their page and correct the record",
        )
    return plan_of(source, wanted.file.members or Members(names=("*",)), layout)


def _kept(part: Path, plan: MemberPlan, note: _Note | None, archive: str) -> int:
    """Return how many members are here already, after making sure that there is a file to go on with."""
    part.parent.mkdir(parents=True, exist_ok=True)
    if note is None or _read_note(part) != note or not part.is_file():
        part.unlink(missing_ok=True)
        _note_path(part).unlink(missing_ok=True)
        part.touch(exist_ok=False)
        if note is not None:
            _note_path(part).write_text(json.dumps(asdict(note)), encoding="utf-8")
        return 0
    size_bytes = part.stat().st_size
    whole = sum(piece.offset + piece.size_bytes <= size_bytes for piece in plan.pieces)
    return _proven(part, plan.pieces[:whole], archive)


def _proven(part: Path, pieces: Sequence[Piece], archive: str) -> int:
    """Return how many members are right, from the first on."""
    source = LocalSpans(part)
    for count, piece in enumerate(pieces):
        here = in_pieces([Span(piece.offset, piece.offset + piece.size_bytes)])
        try:
            _prove(piece, (chunk for _, chunk in source.read_spans(list(here))), archive)
        except ArchiveError:
            return count
    return len(pieces)


def _prove(piece: Piece, chunks: Iterator[bytes], archive: str, out: BinaryIO | None = None) -> None:
    check = MemberCheck(piece.entry, archive)
    for chunk in chunks:
        for _ in check.feed(chunk):
            pass
        if out is not None:
            out.write(chunk)
    check.finish()


def _copy_all(source: SpanSource, plan: MemberPlan, done: int, out: BinaryIO, advance: Advance) -> None:
    arriving = _Arriving(source.read_spans(list(in_pieces(plan.spans(done)))))
    for piece in plan.pieces[done:]:
        try:
            _copy(source, piece, arriving, out)
        except BaseException:
            out.truncate(piece.offset)
            raise
        advance(piece.size_bytes)


def _copy(source: SpanSource, piece: Piece, arriving: _Arriving, out: BinaryIO) -> None:
    if piece.content is not None:
        out.write(piece.content)
        return
    try:
        _prove(piece, arriving.through(piece.span), source.name, out)
    except ArchiveError as error:
        _log.warning("%s; asking for it once more", error)
        out.seek(piece.offset)
        again = source.read_spans(list(in_pieces([piece.span])))
        _prove(piece, (chunk for _, chunk in again), source.name, out)


class _Arriving:
    """Runs of bytes as one stream, of which parts are taken in their order and the rest is skipped."""

    def __init__(self, spans: Iterator[tuple[Span, bytes]]) -> None:
        self._spans = spans
        self._start, self._chunk = 0, b""

    def through(self, span: Span) -> Iterator[bytes]:
        """Yield the bytes of a span that is in the stream, as they come."""
        at = span.start
        while at < span.end:
            if at >= self._start + len(self._chunk):
                got, self._chunk = next(self._spans)
                self._start = got.start
                continue
            piece = self._chunk[at - self._start : span.end - self._start]
            at += len(piece)
            yield piece


def _note_path(part: Path) -> Path:
    return part.with_name(f"{part.name.removesuffix('.part')}.members.part")


def _read_note(part: Path) -> _Note | None:
    try:
        return _Note(**json.loads(_note_path(part).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
