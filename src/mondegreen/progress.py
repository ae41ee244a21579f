"""What a running stage or command says on stderr: its log, its error, on a terminal a bar with rate and remaining time.

How ctrl-C ends it is here, too: one line and exit code 130, or 0 where it goes on until somebody ends it.
rich is loaded when a bar is shown or a log begins, so that commands with neither do not wait for it.
"""

import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, TypeVar

from mondegreen.errors import MondegreenError, full_disk_told

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

Advance = Callable[[int], None]  # takes how many are done
Item = TypeVar("Item")
logger = logging.getLogger(__name__)


class Advancing:
    """Shows on a bar how many items of a piece of work are done, when called with that; and how far a long one is."""

    def __init__(self, bar: "Bar", what: str, total: int | None) -> None:
        self.done = 0
        self._bar, self._what, self._total = bar, what, total

    def __call__(self, done: int) -> None:
        self.done = done
        self._bar.show(self._what, done, self._total)

    def within(self, share: float, place: str) -> None:
        """Shows the share, 0 to 1, that is done of the item in work, and where in it that is."""
        self._bar.show(f"{self._what}, {place}", self.done + share, self._total)


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Advancing]:
    """A bar on a terminal, and a line in the log at the end; nobody knows the total when it is None."""
    started = time.perf_counter()
    with closing(Bar()) as bar:
        work = Advancing(bar, what, total)
        work(0)
        yield work
    logger.info("%s: %d done in %.1f s", what, work.done, time.perf_counter() - started)


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """A line on a terminal with the time that it takes so far: for seconds of work that counts nothing; no log."""
    with closing(Bar(steady=False, counted=False)) as bar:
        bar.show(what, 0, None)
        yield


def adding(advance: Advance) -> Advance:
    """What takes how many more are done, as reported by work that does not know how many were done before."""
    reached = 0

    def add(more: int) -> None:
        nonlocal reached
        reached += more
        advance(reached)

    return add


def track(items: Sequence[Item], what: str) -> Iterator[Item]:
    """The items, with `progress` over them."""
    with progress(what, len(items)) as advance:
        for done, item in enumerate(items, 1):
            yield item
            advance(done)


def run_stage(main: Callable[[], None]) -> None:
    """Runs a stage, which logs to stderr."""
    log_to_stderr()
    with exit_on_error():
        main()


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Ends the program where the user can act on an error: with its message and its exit code, not a traceback."""
    try:
        with full_disk_told():
            yield
    except MondegreenError as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(error.exit_code) from None


def end_plainly(what: str) -> None:
    """From now on ctrl-C ends the program with a line and exit code 130, also while libraries are loaded."""
    former, formerly_lost = sys.excepthook, sys.unraisablehook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, KeyboardInterrupt):
            raise SystemExit(say_stopped(error, what))
        former(kind, error, trace)

    def lost(found: "sys.UnraisableHookArgs") -> None:
        if isinstance(found.exc_value, KeyboardInterrupt):  # came within a finalizer, as an import runs many: once more
            main = threading.main_thread().ident or 0
            threading.Timer(0.05, signal.pthread_kill, (main, signal.SIGINT)).start()
        else:
            formerly_lost(found)

    sys.excepthook, sys.unraisablehook = hook, lost


def say_stopped(stop: KeyboardInterrupt, what: str = "") -> int:
    """Says in a line what was stopped, and how; the exit code."""
    below = "\n" if sys.stderr.isatty() else ""  # the ^C that a terminal shows
    exec("")  # clears what Python keeps of a press within an exec'd string: `python -m` would end by the signal
    sys.stderr.write(f"{below}stopped ({str(stop) or 'ctrl-C'}){': ' * bool(what)}{what}\n")
    return 1 if str(stop) else 130


@contextmanager
def terminable() -> Iterator[None]:
    """Within it, SIGTERM, as systemd and containers send it, raises KeyboardInterrupt, as ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    former = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


@contextmanager
def until_stopped() -> Iterator[None]:
    """Around what goes on until somebody ends it: SIGTERM and ctrl-C do so, which is no failure."""
    try:
        with terminable():
            yield
    except KeyboardInterrupt as stop:
        say_stopped(stop)


def log_to_stderr(level: int = logging.INFO) -> None:
    """Sends what the project logs to stderr, in place of any log that was set up before."""
    from rich.console import Console
    from rich.logging import RichHandler

    handler = RichHandler(console=Console(stderr=True), show_path=False, log_time_format="%H:%M:%S")
    logging.basicConfig(level=level, format="%(message)s", handlers=[handler], force=True)


class Bar:
    """A line on the terminal for each piece of work, from the first `show` to `close`; elsewhere it does nothing.

    Args:
        steady: one item takes as long as another; else no rate and no remaining time is shown.
        in_bytes: what is counted are bytes.
        counted: else nobody knows how far it is.
    """

    def __init__(self, *, steady: bool = True, in_bytes: bool = False, counted: bool = True) -> None:
        self.on_terminal = sys.stderr.isatty()
        self._steady, self._in_bytes, self._counted = steady, in_bytes, counted
        self._bar: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def show(self, what: str, done: float, total: int | None, piece: str = "") -> None:
        """Shows how far a piece of work is."""
        if not self.on_terminal:
            return
        bar = self._started()
        if piece not in self._tasks:
            self._tasks[piece] = bar.add_task(what, total=total, rate="")
        speed = bar.tasks[self._tasks[piece]].speed
        rate = f"{speed:.2f}/s" if speed else ""
        bar.update(self._tasks[piece], description=what, completed=done, total=total, rate=rate)

    def print(self, line: str) -> None:
        """Writes a line above the bar."""
        if self.on_terminal:
            self._started().console.print(line, markup=False, highlight=False)

    def close(self) -> None:
        """Takes the bar off the terminal."""
        if self._bar:
            self._bar.stop()
            self._bar = None
            self._tasks.clear()

    def _started(self) -> "Progress":
        if self._bar is None:
            from rich import progress as rich
            from rich.console import Console

            columns = [rich.TextColumn("{task.description}", markup=False), rich.BarColumn()]
            if self._counted:
                columns.append(rich.DownloadColumn() if self._in_bytes else rich.MofNCompleteColumn())
            if self._steady:
                rate = rich.TransferSpeedColumn() if self._in_bytes else rich.TextColumn("{task.fields[rate]}")
                columns += [rate, rich.TextColumn("ETA"), rich.TimeRemainingColumn()]
            else:
                columns.append(rich.TimeElapsedColumn())
            console = Console(stderr=True)
            # Lines on stdout pass through the bar only where they meet it; a pipe or a file gets them untouched.
            self._bar = rich.Progress(*columns, console=console, transient=True, redirect_stdout=sys.stdout.isatty())
            self._bar.start()
        return self._bar
