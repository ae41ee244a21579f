"""Requests that come at about the same time share a batch; no transcript depends on what it shared it with.

One thread hears short recordings, another one long ones, so that an hour of audio delays nobody's second.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mondegreen.config import Seconds, ServeParams

if TYPE_CHECKING:
    from mondegreen.serving.champion import Served
    from mondegreen.speech.transcriber import Failure, Transcription

MOST = 32  # recordings of a batch
_log = logging.getLogger(__name__)


@dataclass
class Heard:
    """What came of a recording, and which model it was that heard it."""

    served: "Served"
    result: "Transcription | Failure"
    batch: int  # recordings that were heard together


@dataclass
class _Job:
    path: Path
    seconds: Seconds
    future: "Future[Heard]" = field(default_factory=Future)


class Batcher:
    """Takes recordings from many threads and hears them in batches.

    Args:
        current: the model that serves at this moment; asked once a batch.
        params: `serve` of params.yaml.
        long: recordings of more seconds go to the thread of long ones.
    """

    def __init__(self, current: "Callable[[], Served]", params: ServeParams, long: Seconds) -> None:
        self._current, self._params, self._long = current, params, long
        self._lanes = [queue.SimpleQueue[_Job | None]() for _ in range(2)]
        self._threads = [threading.Thread(target=self._work, args=(lane,), daemon=True) for lane in self._lanes]
        for thread in self._threads:
            thread.start()

    def submit(self, path: Path, seconds: Seconds) -> "Future[Heard]":
        """Queues a recording. A future that is cancelled before its turn costs nothing more."""
        job = _Job(path, seconds)
        self._lanes[seconds > self._long].put(job)
        return job.future

    def close(self) -> None:
        """Hears what was taken, then stops."""
        for lane in self._lanes:
            lane.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self, lane: "queue.SimpleQueue[_Job | None]") -> None:
        open_ = True
        while open_:
            first = lane.get()
            if first is None:
                return
            jobs = [first]
            open_ = self._gather(lane, jobs)
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

    def _hear(self, jobs: list[_Job]) -> None:
        try:
            served = self._current()
            results = served.stt.transcribe_many([job.path for job in jobs])
            for job, result in zip(jobs, results, strict=True):
                job.future.set_result(Heard(served, result, len(jobs)))
        except BaseException as error:  # whatever it is, nobody may wait for ever
            _log.exception("A batch of %d recordings failed.", len(jobs))
            for job in jobs:
                if not job.future.done():
                    job.future.set_exception(error)
