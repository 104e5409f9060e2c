"""Which runs of bytes to ask for, to get many small ones: neighbors together, none too long."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

# What may be asked for without being needed, of all that is needed; and between two runs, however few there are.
WASTE = 0.12
LONGEST_GAP_BYTES = 2**20

# What is held in memory, a few times over.
PIECE_BYTES = 8 * 2**20


@dataclass(frozen=True, order=True)
class Span:
    """The bytes of `[start, end)`."""

    start: int
    end: int

    @property
    def size_bytes(self) -> int:
        """How many they are."""
        return self.end - self.start


def merged(spans: Sequence[Span]) -> list[Span]:
    """Return spans, ordered and apart, with the smallest gaps between them closed.

    A request costs about as much time as some 100 kB do, so that a small gap is better asked for than left out; all
    gaps that are closed are at most `WASTE` of what is needed.
    """
    budget = int(WASTE * sum(span.size_bytes for span in spans))
    gaps = sorted((after.start - before.end, after.start) for before, after in pairwise(spans))
    closed = set()
    for gap_bytes, at in gaps:
        budget -= gap_bytes
        if gap_bytes > LONGEST_GAP_BYTES or budget < 0:
            break
        closed.add(at)
    result: list[Span] = []
    for span in spans:
        if span.start in closed:
            result[-1] = Span(result[-1].start, span.end)
        else:
            result.append(span)
    return result


def in_pieces(spans: Iterable[Span]) -> Iterator[Span]:
    """Yield the same bytes in spans of `PIECE_BYTES` at most."""
    for span in spans:
        for start in range(span.start, span.end, PIECE_BYTES):
            yield Span(start, min(start + PIECE_BYTES, span.end))


def in_batches(spans: Iterable[Span], count: int, size_bytes: int) -> Iterator[list[Span]]:
    """Yield the spans in lists of at most `count`, and of at most `size_bytes` unless one alone is longer."""
    batch: list[Span] = []
    for span in spans:
        if batch and (len(batch) == count or span.end - span.start + sum(s.size_bytes for s in batch) > size_bytes):
            yield batch
            batch = []
        batch.append(span)
    if batch:
        yield batch
