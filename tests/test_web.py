"""What every request has in common."""

from __future__ import annotations

import threading
from contextlib import ExitStack

import pytest

from backbeat.datasets.transport.web import host_slot


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
