"""Work that waits, done a little ahead of whoever takes its results in order."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


def ahead(function: Callable[[ItemT], ResultT], items: Iterable[ItemT], count: int) -> Iterator[tuple[ItemT, ResultT]]:
    """Apply a function to items in `count` threads and yield item and result in order; the first error ends it.

    Threads end with the process, so that Ctrl-C does not wait for a server that is silent.
    """
    waiting: deque[tuple[ItemT, queue.SimpleQueue[ResultT | BaseException]]] = deque()

    def work(item: ItemT, done: queue.SimpleQueue[ResultT | BaseException]) -> None:
        try:
            done.put(function(item))
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is taken
            done.put(error)

    def oldest() -> tuple[ItemT, ResultT]:
        item, done = waiting.popleft()
        result = done.get()
        if isinstance(result, BaseException):
            raise result
        return item, result

    for item in items:
        if len(waiting) == count:
            yield oldest()
        waiting.append((item, queue.SimpleQueue()))
        threading.Thread(target=work, args=waiting[-1], daemon=True).start()
    while waiting:
        yield oldest()
