"""Parts of a file on a server: the right bytes, few requests, and no patience for servers that lie."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backbeat.datasets.packed.zipdirectory import TAIL_BYTES
from backbeat.datasets.transport.addresses import Address
from backbeat.datasets.transport.ranges import RemoteFile, VersionChangedError
from backbeat.datasets.transport.spans import LONGEST_GAP_BYTES, WASTE, Span, in_batches, in_pieces, merged
from backbeat.errors import DownloadError
from one_dataset import HASTY
from range_server import RangeServer, range_server

BODY = random.Random(1).randbytes(400_000)
OTHER_BODY = random.Random(2).randbytes(400_000)
SPANS = [Span(at, at + 500) for at in range(1_000, 300_000, 7_000)]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[RangeServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with range_server(BODY) as running:
        yield running


@pytest.fixture
def remote(server: RangeServer) -> Iterator[RemoteFile]:
    with RemoteFile(Address(server.url), HASTY, "some/some.zip") as opened:
        yield opened


def contents(remote: RemoteFile, spans: list[Span] = SPANS) -> list[bytes]:
    found = list(remote.read_spans(spans))
    assert [span for span, _ in found] == spans
    return [content for _, content in found]


def right(spans: list[Span] = SPANS) -> list[bytes]:
    return [BODY[span.start : span.end] for span in spans]


# --- One run of bytes ------------------------------------------------------------------------------------------------

PLACES = {
    "beginning": (0, 1_000),
    "middle": (200_000, 1_000),
    "into the tail": (len(BODY) - TAIL_BYTES - 500, 1_000),
    "tail": (len(BODY) - 100, 50),
    "beyond the end": (len(BODY) - 100, 1_000),
    "behind the end": (len(BODY) + 100, 1_000),
    "all": (0, len(BODY)),
}


@pytest.mark.parametrize("suffixes", [True, False])
@pytest.mark.parametrize("place", PLACES)
def test_bytes_are_those_of_the_file(place: str, suffixes: bool, server: RangeServer, remote: RemoteFile) -> None:
    server.suffixes = suffixes
    offset, count = PLACES[place]
    assert remote.read_at(offset, count) == BODY[offset : offset + count]


@pytest.mark.parametrize("suffixes", [True, False])
def test_size_is_that_of_the_file(suffixes: bool, server: RangeServer, remote: RemoteFile) -> None:
    server.suffixes = suffixes
    assert remote.size_bytes == len(BODY)


def test_tail_is_asked_for_once(server: RangeServer, remote: RemoteFile) -> None:
    remote.read_at(len(BODY) - 1_000, 1_000)
    remote.read_at(len(BODY) - 5_000, 1_000)
    assert server.asked == [f"bytes=-{TAIL_BYTES}"]


def test_what_the_tail_has_is_not_asked_for_again(server: RangeServer, remote: RemoteFile) -> None:
    start = len(BODY) - TAIL_BYTES
    remote.read_at(start - 500, 1_000)
    assert server.asked[1:] == [f"bytes={start - 500}-{start - 1}"]


def test_later_requests_carry_the_version(server: RangeServer, remote: RemoteFile) -> None:
    remote.read_at(0, 10)
    assert server.if_range == [None, server.version]


def test_token_is_sent(server: RangeServer) -> None:
    with RemoteFile(Address(server.url, {"Authorization": "Bearer abc"}), HASTY, "some") as remote:
        remote.read_at(0, 10)
    assert server.authorization == ["Bearer abc", "Bearer abc"]


# --- Several runs of bytes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("many", ["parts", "whole", "first", "refused"])
def test_spans_are_those_of_the_file_in_their_order(many: str, server: RangeServer, remote: RemoteFile) -> None:
    server.many = many
    assert contents(remote) == right()


def test_many_ranges_are_asked_for_at_once(server: RangeServer, remote: RemoteFile) -> None:
    contents(remote)
    # Two are on their way at the same time.
    assert sorted(asked.count(",") + 1 for asked in server.asked[1:] if asked) == [3, 20, 20]


@pytest.mark.parametrize("many", ["whole", "first", "refused"])
def test_server_without_many_ranges_is_asked_for_them_once(many: str, server: RangeServer, remote: RemoteFile) -> None:
    server.many = many
    contents(remote)
    contents(remote)
    assert sum("," in (asked or "") for asked in server.asked) == 1


def test_host_that_is_known_to_send_everything_is_not_asked_for_many(
    server: RangeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backbeat.datasets.transport.ranges.HOSTS_OF_ONE_RANGE", ("0.0.1",))
    with RemoteFile(Address(server.url), HASTY, "some/some.zip") as remote:
        assert (contents(remote), any("," in (asked or "") for asked in server.asked)) == (right(), False)


def test_answer_of_everything_is_not_read(server: RangeServer, remote: RemoteFile) -> None:
    server.many = "whole"
    contents(remote)
    assert remote.traffic.received_bytes == TAIL_BYTES + sum(span.size_bytes for span in SPANS)


def test_spans_in_the_tail_cost_no_request(server: RangeServer, remote: RemoteFile) -> None:
    spans = [Span(len(BODY) - at, len(BODY) - at + 10) for at in (5_000, 4_000, 3_000)]
    assert (contents(remote, spans), server.requests) == (right(spans), 1)


def test_no_spans_cost_nothing_but_the_tail(server: RangeServer, remote: RemoteFile) -> None:
    assert (contents(remote, []), server.requests) == ([], 1)


def test_traffic_is_what_the_server_counts(server: RangeServer, remote: RemoteFile) -> None:
    contents(remote)
    assert (remote.traffic.requests, remote.traffic.received_bytes) == (server.requests, server.body_bytes)


def test_asked_bytes_are_those_of_the_ranges(remote: RemoteFile) -> None:
    contents(remote)
    assert remote.traffic.asked_bytes == TAIL_BYTES + sum(span.size_bytes for span in SPANS)


@pytest.mark.parametrize(("many", "most"), [("parts", 3), ("whole", 6)])
def test_no_more_than_a_few_requests_are_ahead_of_the_reader(
    many: str, most: int, server: RangeServer, remote: RemoteFile
) -> None:
    server.many = many
    with closing(remote.read_spans(SPANS * 5)) as found:  # type: ignore[type-var]
        for _ in range(1 if many == "whole" else 21):
            next(found)
    assert server.requests <= most + 1


# --- Servers that misbehave, and the bytes are right in the end ------------------------------------------------------


@pytest.mark.parametrize("many", ["parts", "whole"])
@pytest.mark.parametrize("drop", [0, 100, 3_000])
def test_broken_connections_are_mended(many: str, drop: int, server: RangeServer, remote: RemoteFile) -> None:
    server.many = many
    server.drops = [None, drop, None, drop, drop]
    assert contents(remote) == right()


def test_broken_body_goes_on_where_it_broke(server: RangeServer, remote: RemoteFile) -> None:
    server.drops = [None, 3_000]
    assert (remote.read_at(0, 10_000), server.asked[1:]) == (BODY[:10_000], ["bytes=0-9999", "bytes=3000-9999"])


def test_parts_that_came_are_not_asked_for_again(server: RangeServer, remote: RemoteFile) -> None:
    server.drops = [None, 3_000]
    contents(remote, SPANS[:10])
    assert server.asked[2] == "bytes=" + ",".join(f"{span.start}-{span.end - 1}" for span in SPANS[4:10])


def test_cuts_without_end_do_not_matter_while_bytes_come(server: RangeServer, remote: RemoteFile) -> None:
    server.drops = [None, *[1_000] * 9]
    assert remote.read_at(0, 10_000) == BODY[:10_000]


@pytest.mark.parametrize("at", [0, 1, 2])
def test_busy_server_is_asked_again(at: int, server: RangeServer, remote: RemoteFile) -> None:
    server.refuse, server.refuse_at = 2, at
    assert contents(remote) == right()


def test_wrong_content_range_is_asked_for_again(server: RangeServer, remote: RemoteFile) -> None:
    remote.read_at(len(BODY) - 1, 1)
    server.shift = [1]
    assert (remote.read_at(0, 1_000), server.asked[1:]) == (BODY[:1_000], ["bytes=0-999"] * 2)


def test_wrong_content_range_of_a_part_is_not_used(server: RangeServer, remote: RemoteFile) -> None:
    remote.read_at(len(BODY) - 1, 1)
    server.shift = [0, 0, 1]
    assert contents(remote, SPANS[:5]) == right(SPANS[:5])
    assert server.asked[2:] == ["bytes=" + ",".join(f"{span.start}-{span.end - 1}" for span in SPANS[2:5])]


@pytest.mark.parametrize("validator", [None, "X-Version"])
def test_file_without_a_version_is_read_all_the_same(
    validator: str | None, server: RangeServer, remote: RemoteFile
) -> None:
    server.validator = validator
    assert (contents(remote), remote.validator) == (right(), None)


# --- Servers that are given up ---------------------------------------------------------------------------------------


def test_server_without_ranges_is_refused(server: RangeServer, remote: RemoteFile) -> None:
    server.ranges = False
    with pytest.raises(DownloadError, match=r"does not serve parts; remove members"):
        remote.read_at(0, 10)


def test_body_of_a_server_without_ranges_is_not_read(server: RangeServer, remote: RemoteFile) -> None:
    server.ranges = False
    with pytest.raises(DownloadError):
        remote.read_at(0, 10)
    assert remote.traffic.received_bytes == 0


@pytest.mark.parametrize("change_at", [1, 2])
@pytest.mark.parametrize("many", ["parts", "whole"])
def test_changed_file_is_noticed(many: str, change_at: int, server: RangeServer, remote: RemoteFile) -> None:
    server.many, server.change_at, server.other_body = many, change_at, OTHER_BODY
    with pytest.raises(VersionChangedError, match=r"some/some\.zip has changed on the server"):
        contents(remote)


def test_file_that_grew_is_noticed_without_a_version(server: RangeServer, remote: RemoteFile) -> None:
    server.validator, server.change_at, server.other_body = None, 1, OTHER_BODY + b"more"
    with pytest.raises(DownloadError, match="Content-Range bytes 0-9/400004"):
        remote.read_at(0, 10)


def test_server_that_stays_busy_is_given_up(server: RangeServer, remote: RemoteFile) -> None:
    server.refuse = 1_000
    with pytest.raises(DownloadError, match=r"HTTP 503 Service Unavailable \(4 times in a row\)"):
        remote.read_at(0, 10)


def test_host_that_is_not_there_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    remote = RemoteFile(Address("http://127.0.0.1:9/some.zip"), HASTY, "some/some.zip")
    with closing(remote), pytest.raises(DownloadError, match="2 times in a row"):
        remote.read_at(0, 10)


def test_compressed_parts_are_refused(server: RangeServer, remote: RemoteFile) -> None:
    server.encoding = "gzip"
    with pytest.raises(DownloadError, match=r"the server sends it compressed \(gzip\)"):
        remote.read_at(0, 10)


# --- Which spans -----------------------------------------------------------------------------------------------------

ordered_spans = st.lists(st.tuples(st.integers(0, 3_000_000), st.integers(1, 100_000)), min_size=1).map(
    lambda pairs: [
        Span(sum(a + b for a, b in pairs[:at]) + gap, sum(a + b for a, b in pairs[: at + 1]))
        for at, (gap, _) in enumerate(pairs)
    ]
)


@given(ordered_spans)
def test_merged_spans_hold_all_that_is_needed(spans: list[Span]) -> None:
    result = merged(spans)
    assert all(any(outer.start <= span.start and span.end <= outer.end for outer in result) for span in spans)


@given(ordered_spans)
def test_merged_spans_waste_little(spans: list[Span]) -> None:
    asked, needed = (sum(span.size_bytes for span in some) for some in (merged(spans), spans))
    assert asked <= (1 + WASTE) * needed


def test_neighbors_are_merged_across_small_gaps_alone() -> None:
    size = LONGEST_GAP_BYTES * 20
    spans = [Span(0, size), Span(size + 10, 2 * size), Span(2 * size + LONGEST_GAP_BYTES + 1, 4 * size)]
    assert merged(spans) == [Span(0, 2 * size), spans[2]]


@given(ordered_spans)
def test_pieces_are_the_same_bytes(spans: list[Span]) -> None:
    pieces = list(in_pieces(spans))
    assert sum(piece.size_bytes for piece in pieces) == sum(span.size_bytes for span in spans)


@given(ordered_spans, st.integers(1, 5), st.integers(1, 200_000))
def test_batches_are_the_spans(spans: list[Span], count: int, size_bytes: int) -> None:
    assert [span for batch in in_batches(spans, count, size_bytes) for span in batch] == spans


@given(ordered_spans, st.integers(1, 5), st.integers(1, 200_000))
def test_batches_are_within_their_limits(spans: list[Span], count: int, size_bytes: int) -> None:
    for batch in in_batches(spans, count, size_bytes):
        assert len(batch) <= count
        assert len(batch) == 1 or sum(span.size_bytes for span in batch) <= size_bytes
