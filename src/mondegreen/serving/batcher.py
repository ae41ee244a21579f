"""Requests that come at about the same time share a batch; no transcript depends on what it shared it with.

One thread takes short recordings, another one long ones, so that an hour of audio delays nobody's second. A batch is
heard in two halves at once: much of the work is done by one processor at a time. A long recording that nobody waits for
any more ends at its next window, and how far it came tells how long such a recording takes.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mondegreen.config import Seconds, ServeParams
from mondegreen.scoring.phrases import PhraseList

if TYPE_CHECKING:
    from mondegreen.serving.challenger import Asker, Routing
    from mondegreen.serving.champion import Served
    from mondegreen.speech.transcriber import Failure, Transcription

MOST = 32  # recordings of a batch
_HALVES = 2
_TELLING: Seconds = 60.0  # of audio after which the pace of a long recording is one
_RECENT: Seconds = 3600.0  # for which it counts: what slowed a machine down may be over then
_log = logging.getLogger(__name__)


@dataclass
class Heard:
    """What came of a recording, and which model it was that heard it."""

    choice: "Routing"
    result: "Transcription | Failure"
    batch: int  # recordings of its batch, of both halves and of every model

    @property
    def served(self) -> "Served":
        """The model."""
        return self.choice.served

    @property
    def transcription(self) -> "Transcription":
        """The result, of a recording that could be heard."""
        from mondegreen.speech.transcriber import Failure

        assert not isinstance(self.result, Failure)
        return self.result


class Hearing(Future[Heard]):
    """What somebody waits for, who may stop waiting at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.abandoned = False
        self.began: float | None = None  # by time.monotonic

    def cancel(self) -> bool:
        """As of any future; a long recording that is being heard ends at its next window."""
        self.abandoned = True
        return super().cancel()

    def set_running_or_notify_cancel(self) -> bool:
        """As of any future."""
        self.began = time.monotonic()
        return super().set_running_or_notify_cancel()


@dataclass
class _Job:
    path: Path
    seconds: Seconds
    asker: "Asker | None"
    phrases: PhraseList | None = None
    future: Hearing = field(default_factory=Hearing)


class Batcher:
    """Takes recordings from many threads and hears them in batches.

    Args:
        choose: who answers somebody at this moment; asked when a batch begins.
        params: `serve` of params.yaml.
        long: recordings of more seconds go to the thread of long ones.
        failed: told of a canary's challenger that broke; the champion hears its recordings then.
        settle: returns when a batch may begin.
    """

    def __init__(
        self,
        choose: "Callable[[Asker | None], Routing]",
        params: ServeParams,
        long: Seconds,
        failed: "Callable[[Served, BaseException], None]" = lambda served, error: None,
        settle: Callable[[], None] = lambda: None,
    ) -> None:
        self._choose, self._params, self._long, self._failed, self._settle = choose, params, long, failed, settle
        self._inside, self._lock = 0, threading.Lock()
        self._pace: tuple[float, float] | None = None  # seconds for one of a long recording, and when that was seen
        self._lanes = [queue.SimpleQueue[_Job | None]() for _ in range(2)]
        self._halves = ThreadPoolExecutor(_HALVES, "half of a batch")
        self._threads = [threading.Thread(target=self._work, args=(lane,), daemon=True) for lane in self._lanes]
        for thread in self._threads:
            thread.start()

    @property
    def busy(self) -> bool:
        """Whether a recording is being heard, or waits."""
        return self._inside > 0

    def expected(self, seconds: Seconds) -> Seconds | None:
        """How long a recording is heard, at the pace of the last long one; None: it is short, or nobody knows."""
        pace = self._pace
        if seconds <= self._long or pace is None or time.monotonic() - pace[1] > _RECENT:
            return None
        return seconds * pace[0]

    def submit(
        self, path: Path, seconds: Seconds, asker: "Asker | None" = None, phrases: PhraseList | None = None
    ) -> Hearing:
        """Queues a recording. A future that is cancelled before its turn costs nothing more, later a window at most.

        Args:
            phrases: that shall be heard in this recording besides the model's own.
        """
        job = _Job(path, seconds, asker, phrases)
        self._count(1)
        job.future.add_done_callback(lambda _: self._count(-1))
        self._lanes[seconds > self._long].put(job)
        return job.future

    def close(self) -> None:
        """Hears what was taken, then stops."""
        for lane in self._lanes:
            lane.put(None)
        for thread in self._threads:
            thread.join()
        self._halves.shutdown()

    def _work(self, lane: "queue.SimpleQueue[_Job | None]") -> None:
        open_ = True
        while open_:
            first = lane.get()
            if first is None:
                return
            jobs = [first]
            open_ = self._gather(lane, jobs)
            self._settle()
            waiting = [job for job in jobs if job.future.set_running_or_notify_cancel()]
            if waiting:
                self._hear(waiting)

    def _gather(self, lane: "queue.SimpleQueue[_Job | None]", jobs: list[_Job]) -> bool:
        """Adds what comes within the next milliseconds; False when the batcher is closed meanwhile."""
        deadline = time.monotonic() + self._params.batch_wait_ms / 1000
        while len(jobs) < MOST and jobs[0].seconds <= self._long:
            try:
                job = lane.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return True
            if job is None:
                return False
            jobs.append(job)
        return True

    def _count(self, change: int) -> None:
        with self._lock:
            self._inside += change

    def _hear(self, jobs: list[_Job]) -> None:
        """Each model hears its own: what shares a batch is of one model, and of one list of phrases.

        A list is told by all that it says: an order, or a phrase that counts nothing, changes what the model's own do.
        """
        groups: dict[tuple[Served, str], list[tuple[Routing, _Job]]] = {}
        for job in jobs:
            choice = self._choose(job.asker)
            listed = job.phrases.model_dump_json() if job.phrases else ""
            groups.setdefault((choice.served, listed), []).append((choice, job))
        for (model, _), chosen in groups.items():
            if len(chosen) == 1:
                self._heard_by(model, chosen, len(jobs))
                continue
            # The longest first, so that both halves have about the same to do.
            chosen.sort(key=lambda item: -item[1].seconds)
            halves = [chosen[start::_HALVES] for start in range(_HALVES)]
            wait([self._halves.submit(self._heard_by, model, half, len(jobs)) for half in halves])

    def _heard_by(self, model: "Served", chosen: "Sequence[tuple[Routing, _Job]]", size: int) -> None:
        jobs = [job for _, job in chosen]
        try:
            stt, more = model.stt, jobs[0].phrases
            if more:
                stt = stt.with_phrases(stt.phrases.with_more(more) if stt.phrases else more)
            if jobs[0].seconds > self._long:
                stt = stt.telling(partial(self._reached, jobs[0].future, time.monotonic()))
            results = stt.transcribe_many([job.path for job in jobs])
            for (choice, job), result in zip(chosen, results, strict=True):
                job.future.set_result(Heard(choice, result, size))
        except CancelledError as gone:
            jobs[0].future.set_exception(gone)
        except BaseException as error:  # whatever it is, nobody may wait for ever
            left = [job for job in jobs if not job.future.done()]
            if left and chosen[0][0].role == "canary":
                self._failed(model, error)
                champion = self._choose(None)
                return self._heard_by(champion.served, [(champion, job) for job in left], size)
            _log.exception("A batch of %d recordings failed.", len(jobs))
            for job in jobs:
                if not job.future.done():
                    job.future.set_exception(error)

    def _reached(self, hearing: Hearing, began: float, start: Seconds, _length: Seconds) -> None:
        """Between two windows of a long recording."""
        if start >= _TELLING:
            now = time.monotonic()
            self._pace = (now - began) / start, now
        if hearing.abandoned:
            raise CancelledError
