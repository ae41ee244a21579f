"""Many questions at once, answers in the order of the questions."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import TypeVar

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")

_AHEAD = 4  # questions begun for each one that is yielded, so that a slow one holds nobody up


def in_order(
    work: Callable[[Asked], Answer], items: Iterable[Asked], at_once: int, stop: threading.Event
) -> Iterator[Answer]:
    """Yields work(item) for each item, in order; `work` itself keeps to `at_once` where that matters.

    The threads are daemons: ctrl-C ends the program without waiting for a server that hangs. `stop` is set when the
    caller takes no more.
    """
    pending: deque[Future[Answer]] = deque()
    try:
        for item in items:
            pending.append(_begun(work, item))
            if len(pending) >= at_once * _AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        stop.set()


def _begun(work: Callable[[Asked], Answer], item: Asked) -> "Future[Answer]":
    future: Future[Answer] = Future()

    def run() -> None:
        try:
            future.set_result(work(item))
        except BaseException as error:  # the caller raises it
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future
