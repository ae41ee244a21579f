"""Many questions at once, begun in their order, and answers in the same order."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TypeVar

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")

THREADS = "mondegreen-asking"
_AHEAD = 4  # questions in hand for each thread, so that a slow one holds nobody up


def in_order(
    work: Callable[[Asked], Answer], items: Iterable[Asked], at_once: int, stop: threading.Event
) -> Iterator[Answer]:
    """Yields work(item) for each item, in order, `at_once` of them at work.

    The threads are daemons: ctrl-C ends the program without waiting for a server that hangs. `stop` is set when the
    caller takes no more; what was not begun then is left.
    """
    jobs: SimpleQueue[tuple[Asked, Future[Answer]] | None] = SimpleQueue()
    for _ in range(at_once):
        threading.Thread(target=_work_off, args=(work, jobs, stop), name=THREADS, daemon=True).start()
    pending: deque[Future[Answer]] = deque()
    try:
        for item in items:
            pending.append(Future())
            jobs.put((item, pending[-1]))
            if len(pending) >= at_once * _AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        stop.set()
        for _ in range(at_once):
            jobs.put(None)


def _work_off(
    work: Callable[[Asked], Answer],
    jobs: "SimpleQueue[tuple[Asked, Future[Answer]] | None]",
    stop: threading.Event,
) -> None:
    while (job := jobs.get()) is not None and not stop.is_set():
        item, future = job
        try:
            future.set_result(work(item))
        except BaseException as error:  # the caller raises it
            future.set_exception(error)
