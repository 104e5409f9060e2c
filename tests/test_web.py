"""What every request has in common."""

from __future__ import annotations

import threading
from contextlib import ExitStack

import pytest
import requests
from urllib3.exceptions import ConnectTimeoutError, MaxRetryError

from backbeat.datasets.transport.web import host_slot, why

NO_ANSWER = MaxRetryError(None, "/x.zip?signature=canary", ConnectTimeoutError("it took too long"))  # type: ignore[arg-type]
REASONS: dict[str, tuple[Exception, str]] = {
    "what is behind all tries": (requests.ConnectionError(NO_ANSWER), "it took too long"),
    "without a query": (
        requests.RequestException("no way to 'ftp://a/x?k=canary' at all"),
        "no way to 'ftp://a/x at all",
    ),
    "quotes in the query": (requests.RequestException("(http://a/x?b='&k=(canary))"), "(http://a/x"),
    "nothing but a kind": (ConnectionResetError(), "ConnectionResetError"),
}


@pytest.mark.parametrize("case", REASONS)
def test_reason_is_told_without_keys(case: str) -> None:
    error, told = REASONS[case]
    assert why(error) == told


@pytest.mark.parametrize(("host", "bound"), [("zenodo.org", 2), ("example.org", 4)])
def test_host_is_asked_for_no_more_than_its_share_at_once(host: str, bound: int) -> None:
    entered = threading.Event()

    def one_more() -> None:
        with host_slot(f"https://{host}/another"):
            entered.set()

    thread = threading.Thread(target=one_more)
    with ExitStack() as held:
        for number in range(bound):
            held.enter_context(host_slot(f"https://{host}/{number}"))
        thread.start()
        assert not entered.wait(timeout=0.05)
    thread.join()
    assert entered.is_set()


def test_hosts_do_not_wait_for_each_other() -> None:
    with ExitStack() as held:
        for number in range(2):
            held.enter_context(host_slot(f"https://zenodo.org/{number}"))
        held.enter_context(host_slot("https://example.org/0"))
