"""Beside the champion: the challenger of a canary, loaded while it runs, who of the two answers whom, and the shadow.

A challenger that cannot be loaded answers nobody: the champion answers everything then, /readyz and the log say so, and
those answers take no part in the comparison. It is tried again later and later. The same while its export is made.

The shadow hears what the champion has answered already. Nobody waits for it, nobody reads its text: one recording at a
time, only while the champion has nothing to hear, in a thread that yields to every other one. What cannot be heard soon
is not heard and counted: under load the shadow is the first to go.
"""

import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from prometheus_client import Counter

from mondegreen.config import Seconds
from mondegreen.db import open_database
from mondegreen.errors import MondegreenError, told
from mondegreen.registry.canary import Canary, running
from mondegreen.registry.ledger import Ledger
from mondegreen.serving.champion import Champion, Served, load
from mondegreen.serving.loading import Attempts, Exporting
from mondegreen.serving.spool import BESIDE, Answer, Spool
from mondegreen.speech.channels import channel_of, named_channel
from mondegreen.speech.transcriber import Failure

Role = Literal["champion", "canary"]
_log = logging.getLogger(__name__)
_MOST = 16  # recordings that wait for the shadow
_LOOK = 0.01  # seconds between two looks whether the champion is free
_NICE = 19  # of Linux: the threads of the champion go first


@dataclass(frozen=True)
class Routing:
    """Who answers a request. `canary`: the ledger's entry of the one that it counts in; `shadow`: who hears it too."""

    served: Served
    role: Role = "champion"
    canary: int | None = None
    shadow: Served | None = None


@dataclass(frozen=True)
class Asker:
    """Whom a request is from, and what it is about; the same part falls to it each time."""

    caller: str | None
    audio_sha256: str


class Challenger:
    """Follows the ledger of the champion's model.

    Args:
        champion: names the model that is followed; with a fixed one there is no canary.
        folder: of live state.
    """

    def __init__(self, champion: Champion, folder: Path) -> None:
        self._champion, self._folder = champion, folder
        name, _, alias = champion.model.removeprefix("models:/").partition("@")
        self._name = name if champion.follows and alias == "champion" else ""
        self._ledger: Ledger | None = None
        self._active: tuple[Canary, Served] | None = None
        self.attempts = Attempts(champion.every, champion.params)
        self._exporting = Exporting(champion.params)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self.canary: Canary | None = None  # the one that runs by the ledger
        self.problem = ""  # why it does not answer although it should
        self._broken: tuple[int, str] | None = None  # the canary whose challenger broke, and how

    def start(self) -> None:
        """Begins to look; the first requests do not wait for that."""
        if self._name:
            self._thread.start()

    def stop(self) -> None:
        """Looks no more; what serves goes on."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._exporting.close()

    def look(self) -> None:
        """One look at the ledger; loads the challenger of a canary that began, lets go of one that ended."""
        before = self.canary, self.problem, bool(self._active), self.attempts.last
        try:
            self._ledger = self._ledger or Ledger(open_database(self._folder), self._name)
            self.canary = running(self._ledger)
            self._active = self._loaded(self.canary) if self.canary else None
            if not self.canary:
                self.attempts.forget()
            self.problem = self.attempts.problem
        except MondegreenError as error:
            self.problem = error.problem
        except Exception as error:  # whatever it is, it may not end the service
            self.problem = f"{type(error).__name__}: {error}"
        if (self.canary, self.problem, bool(self._active), self.attempts.last) != before:
            self._say()

    def choose(self, asker: Asker | None) -> Routing:
        """Who answers, by what is loaded at this moment.

        Args:
            asker: None: somebody who asks for the champion by its name or number.
        """
        champion, active = self._champion.current, self._active
        if active is None or asker is None:
            return Routing(champion)
        canary, challenger = active
        if champion.name != f"{self._name}/{canary.champion}":
            return Routing(champion)  # not whom the canary compares with, as just after a deployment
        part = canary.part(asker.caller, asker.audio_sha256)
        if part == "canary":
            return Routing(challenger, "canary", canary.entry)
        return Routing(champion, canary=canary.entry, shadow=challenger if part == "shadow" else None)

    def failed(self, served: Served, error: BaseException) -> None:
        """The challenger broke while it heard somebody: it hears nobody until the next canary."""
        active = self._active
        if active and active[1] is served:
            self.problem = f"{served.name} broke: {type(error).__name__}: {error}"
            self._broken, self._active = (active[0].entry, self.problem), None
            self._say()

    def _loaded(self, canary: Canary) -> tuple[Canary, Served] | None:
        if self._broken and canary.entry == self._broken[0]:
            raise MondegreenError(self._broken[1], "Stop the canary, and see the log.")
        name = f"{self._name}/{canary.version}"
        if self._active and self._active[1].name == name:
            return canary, self._active[1]
        self._active = None
        if not self.attempts.due(name):
            return None
        files = self.attempts.files(name)
        try:
            served = self._load(name)
        except Exception as error:  # a damaged version may fail in many ways
            self.attempts.failure(name, files, told(error))
            return None
        self.attempts.forget()
        return (canary, served) if served else None

    def _load(self, name: str) -> Served | None:
        """None while its export is made: nobody waits for it."""
        if self._exporting.runs_for(name):
            return None
        if self._exporting.name != name and self._exporting.is_due(name):
            self._exporting.begin(name)
            return None
        asked_for = self._champion.params.transcribe.runtime == "onnx"
        return load(f"models:/{name}", name, self._champion.params, export=asked_for)

    def _say(self) -> None:
        if self.problem:
            _log.error("The canary: %s", self.attempts.said(self.problem))
        elif self.canary and self._active:
            shares = f"{self.canary.share:.1%} of the callers, and hears {self.canary.shadow:.1%}"
            _log.warning("%s answers %s beside the champion.", self._active[1].name, shares)
        elif self.canary:
            _log.warning("The challenger's export is being made: until then the champion answers everybody.")
        else:
            _log.warning("The canary is over: the champion answers everybody.")

    def _follow(self) -> None:
        self.look()
        while not self._stop.wait(self._champion.every):
            self.look()


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

    def take(self, answer: Answer, choice: Routing) -> None:
        """Remembers an answer; to be called before the spool has it, whose recording it then is. Never waits."""
        heard = answer.transcription
        if choice.shadow is None:
            return
        if self._closing or self._spool.state.problem or self._waiting.full() or heard.duration > self._longest:
            return self._count("dropped")
        number = channel_of(heard.path)[1]
        try:
            kept = self._spool.place(answer.request_id + BESIDE, answer.file.name)
        except OSError:  # a full disk: nobody's answer may fail for the shadow's sake
            return self._count("dropped")
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
