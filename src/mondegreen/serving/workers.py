"""Several processes that share a socket, each with a model of its own: started, started anew, stopped together.

Until one of them takes requests, none is started anew: what keeps all of them from it, a registry without a champion
say, is said once by each and ends the server, as it ends a single process.
"""

import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext, SpawnProcess
from types import FrameType

from prometheus_client.multiprocess import mark_process_dead

from mondegreen.config import Seconds
from mondegreen.errors import MondegreenError, UsageError
from mondegreen.serving.metrics import SHARED

Serving = Callable[[Callable[[], None]], None]
_LOOK: Seconds = 0.1  # between two looks at them
_PAUSE: Seconds = 1.0  # before one that ended is started anew; it doubles each time that it ended soon
_LONGEST: Seconds = 60.0  # of these pauses; and whoever has run for longer did not end soon
_DOUBLINGS = 20  # more than the longest pause allows
_log = logging.getLogger(__name__)


class Worker:
    """One place among them: the process that works there now, and how often one has ended there soon.

    Args:
        run: see `serve_workers`.
        shared: the folder of the metrics.
    """

    def __init__(self, run: Serving, shared: str, context: SpawnContext) -> None:
        self._run, self._shared, self._context = run, shared, context
        self._process: SpawnProcess | None = None
        self._stopped = False
        self._soon, self._began, self._due = 0, 0.0, 0.0
        self.ready = False  # whether one of its processes took requests
        self.exit_code: int | None = None  # of the last one; None while it runs

    def start(self) -> None:
        """Starts a process, which `stop` may have been asked to end meanwhile."""
        self._told, tell = self._context.Pipe(duplex=False)
        with tell:
            process = self._context.Process(target=_work, args=(self._run, tell))
            former = signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the process, which ctrl-C reaches beside us
            try:
                process.start()
            finally:
                signal.signal(signal.SIGINT, former)
        self._process, self._began, self.exit_code = process, time.monotonic(), None
        if self._stopped:
            process.terminate()

    def stop(self) -> None:
        """Sends SIGTERM, once: a second one would end it while it writes down what it took."""
        if not self._stopped:
            self._stopped = True
            if self._process:
                with suppress(ProcessLookupError):  # it ended just now
                    self._process.terminate()

    def join(self) -> None:
        """Waits for its end."""
        if self._process:
            self._process.join()

    def look(self) -> None:
        """Sees whether it takes requests, and whether it has ended."""
        process = self._process
        if process is None or self.exit_code is not None:
            return
        with suppress(EOFError, OSError):
            self.ready = self.ready or (self._told.poll() and bool(self._told.recv_bytes()))
        if process.is_alive():
            return
        self.exit_code = process.exitcode
        mark_process_dead(process.pid, self._shared)  # type: ignore[no-untyped-call]
        self._told.close()
        now = time.monotonic()
        self._soon = self._soon + 1 if now - self._began < _LONGEST else 0
        self._due = now + self.pause

    @property
    def pause(self) -> Seconds:
        """Before the next process is started."""
        return min(_LONGEST, _PAUSE * 2.0 ** min(max(0, self._soon - 1), _DOUBLINGS))

    def start_anew(self) -> None:
        """Starts another process in the place of one that has ended, when it is due."""
        if self.exit_code is None or time.monotonic() < self._due:
            return
        _log.error("A worker has ended (exit code %d); another one is started.", self.exit_code)
        try:
            self.start()
        except OSError as error:  # no memory or no processes just now; the others go on
            _log.error("None can be started, it is tried again: %s", error)
            self._soon += 1
            self._due = time.monotonic() + self.pause


def serve_workers(count: int, run: Serving) -> None:
    """Serves until SIGINT or SIGTERM, which stops all of them; one that ends is started anew, later each time.

    Args:
        run: serves and calls what it is given once it takes requests; a function of a module, with its arguments
            bound by functools.partial.

    Raises:
        MondegreenError: all of them ended before one took requests.
    """
    context, stopping = multiprocessing.get_context("spawn"), False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True
        for worker in workers:
            worker.stop()

    with tempfile.TemporaryDirectory(prefix="mondegreen-metrics-") as shared:
        os.environ[SHARED] = shared  # read by prometheus_client when a worker imports it
        workers = [Worker(run, shared, context) for _ in range(count)]
        former = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            _watch(workers, lambda: stopping)
        finally:
            for worker in workers:
                worker.stop()
            for worker in workers:
                worker.join()
            for number, handler in former.items():
                signal.signal(number, handler)
            del os.environ[SHARED]


def _watch(workers: Sequence[Worker], stopping: Callable[[], bool]) -> None:
    for worker in workers:
        worker.start()
    while not stopping():
        time.sleep(_LOOK)
        for worker in workers:
            worker.look()
        codes = [worker.exit_code for worker in workers]
        if any(worker.ready for worker in workers):
            for worker in workers:
                worker.start_anew()
        elif None not in codes and not stopping():
            kind = UsageError if set(codes) == {UsageError.exit_code} else MondegreenError
            raise kind(f"None of the {len(workers)} workers could begin to serve.", "Each has said above what to do.")


def _work(run: Serving, tell: Connection) -> None:
    """The process: an error that the user can act on is its message and its exit code, as at the command line."""

    def ready() -> None:
        with suppress(OSError):  # who started it is gone
            tell.send_bytes(b"ready")

    try:
        run(ready)
    except MondegreenError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
