"""The shadow: the challenger hears what the champion has answered already. Nobody waits for it, nobody reads its text.

One recording at a time, only while the champion has nothing to hear, in a thread that yields to every other one. What
cannot be heard soon is not heard and counted: under load the shadow is the first to go.
"""

import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path

from prometheus_client import Counter

from mondegreen.config import Seconds
from mondegreen.serving.challenger import Choice
from mondegreen.serving.champion import Served
from mondegreen.serving.spool import BESIDE, Answer, Spool
from mondegreen.speech.channels import channel_of, named_channel
from mondegreen.speech.transcriber import Failure

_MOST = 16  # recordings that wait
_LOOK = 0.01  # seconds between two looks whether the champion is free
_NICE = 19  # of Linux: the threads of the champion go first
_log = logging.getLogger(__name__)


class Shadow:
    """Takes answers of the champion, and puts a pair into the spool when the challenger has heard the recording too.

    Args:
        busy: whether the champion hears somebody, or somebody waits for it.
        longest: seconds; longer recordings would be in the way for too long.
        counts: with the label `state`: heard, dropped, failed.
    """

    def __init__(self, spool: Spool, busy: Callable[[], bool], longest: Seconds, counts: Counter) -> None:
        self._spool, self._busy, self._longest, self._counts = spool, busy, longest, counts
        self._waiting: queue.Queue[tuple[Answer, Served, Path] | None] = queue.Queue(_MOST)
        self._closing = False
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def take(self, answer: Answer, choice: Choice) -> None:
        """Remembers an answer; to be called before the spool has it, whose recording it then is. Never waits."""
        heard = answer.transcription
        if choice.shadow is None:
            return
        if self._closing or self._spool.state.problem or self._waiting.full() or heard.duration > self._longest:
            return self._count("dropped")
        kept, number = self._spool.place(answer.request_id + BESIDE, answer.file.name), channel_of(heard.path)[1]
        try:
            os.link(answer.file, kept)
            self._waiting.put_nowait((answer, choice.shadow, named_channel(kept, number)))
        except (OSError, queue.Full):  # a disk without links, or another request was faster
            self._spool.forget(kept)
            self._count("dropped")

    def close(self) -> None:
        """Lets go of what waits."""
        self._closing = True
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        if hasattr(os, "setpriority"):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        while job := self._waiting.get():
            answer, shadow, recording = job
            while self._busy() and not self._closing:
                time.sleep(_LOOK)
            try:
                done = not self._closing and self._hear(answer, shadow, recording)
                self._count("heard" if done else "dropped")
            except Exception:
                _log.exception("%s, as shadow, broke.", shadow.name)
                self._count("failed")
                done = False
            if not done:
                self._spool.forget(recording)

    def _hear(self, answer: Answer, shadow: Served, recording: Path) -> bool:
        (result,) = shadow.stt.transcribe_many([recording])
        if isinstance(result, Failure):
            raise RuntimeError(result.error)
        beside = answer.transcription.model_copy(update={"path": str(recording)})
        pair = answer.model_copy(update={"transcription": result, "shadow": shadow.name, "beside": beside})
        self._spool.add(pair)
        return True

    def _count(self, state: str) -> None:
        self._counts.labels(state).inc()
