"""The model that serves: it follows an alias of the registry without a pause and without a restart.

A new version is loaded beside the one that answers, hears a second of noise, and takes over between two batches. While
it is loaded no batch begins: nobody who asks then is answered by a version that has left production, and the work has
the processor to itself. That ends after serve.switch_seconds; and a version that cannot be loaded is waited for once,
is tried again later and later, and changes nothing but what /readyz says. Where its export for ONNX Runtime is not
there yet, torch hears until it is made. Without a registry the champion's verified backup serves.
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mondegreen.config import Params, Seconds
from mondegreen.errors import MondegreenError, told
from mondegreen.scoring.phrases import read_phrases
from mondegreen.serving.followers import Following
from mondegreen.serving.loading import Attempts, Exporting

if TYPE_CHECKING:
    from mondegreen.speech.transcriber import BaselineSTTModel

_SAMPLES = 16_000  # one second
_LAST: Seconds = 10.0  # for a look that is going on when it is to stop
_SILENT: Seconds = 30.0  # after which a registry that was asked and says nothing counts as away
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Served:
    """A model in memory. `name`: the registered version such as fine-tuned-stt/3, else what it was named by."""

    name: str
    stt: "BaselineSTTModel"

    @property
    def digest(self) -> str:
        """Of the weights; in every record."""
        return self.stt.digest


@dataclass(frozen=True)
class Loading:
    """A version that is to answer. `until`: by time.monotonic, for how long batches wait for it."""

    name: str
    until: float
    since: datetime = field(default_factory=lambda: datetime.now(UTC))


def load(uri: str, name: str, params: Params, export: bool = True) -> Served:
    """A model that is ready to answer. Raises MondegreenError, and whatever a damaged one raises.

    Args:
        export: for ONNX Runtime first, where that was not done; else torch computes it then.
    """
    from mondegreen.speech.ngram_files import read_lm
    from mondegreen.speech.transcriber import load_transcriber

    listed = read_phrases(Path(params.serve.phrases)) if params.serve.phrases else None
    lm = read_lm(Path(params.serve.lm)) if params.serve.lm else None
    stt = load_transcriber(uri, params, cached=False, phrases=listed, lm=lm, export=export)
    noise = np.random.default_rng(0).normal(0, 0.1, _SAMPLES).astype(np.float32)
    stt.transcribe_waveforms([noise])  # what is slow or breaks the first time does so before anybody waits
    return Served(name, stt)


class Champion:
    """What answers now, and the thread that looks for what is to answer next.

    Args:
        model: `models:/name@alias` is followed; a folder, a hub name or a fixed version stays.
        params: of the project.
        every: seconds between two looks at the alias.
        on_change: told whenever what serves, what is loaded or what is wrong has changed.
    """

    def __init__(
        self,
        model: str,
        params: Params,
        every: Seconds,
        on_change: "Callable[[Champion], None]" = lambda champion: None,
    ) -> None:
        self.model, self.params, self.every = model, params, every
        self._on_change = on_change
        self._stop, self._settled = threading.Event(), threading.Event()
        self._settled.set()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self.attempts, self._exporting = Attempts(every, params), Exporting(params)
        self._computed = ""  # the version that is computed as it shall be, or as well as can be
        self.loading: Loading | None = None
        self._asked: float | None = None  # since when, by time.monotonic, the registry has been asked
        self._problem = ""
        self.current, self.since = self._first(), datetime.now(UTC)

    def start(self) -> None:
        """Begins to follow the alias."""
        self._on_change(self)
        if self.follows:
            self._thread.start()

    @property
    def problem(self) -> str:
        """Why what is in production by the registry does not serve, or why nobody knows that; "" when it serves."""
        asked = self._asked
        if asked is not None and (silent := time.monotonic() - asked) > _SILENT:
            return f"The registry, asked who holds {self.model}, has not answered for {silent:.0f} s."
        return self._problem

    @property
    def follows(self) -> bool:
        """Whether an alias says what serves."""
        return "@" in self.model and self.model.startswith("models:/")

    def stop(self) -> None:
        """Looks no more; what serves goes on. A registry that does not answer is not waited for."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_LAST)
        self._exporting.close()

    def look(self) -> None:
        """One look at the alias; loads and switches when another version holds it."""
        before = self.current, self._problem, self.attempts.last
        try:
            self._asked = time.monotonic()
            wanted = self._wanted()
            self._asked = None
            if wanted == self.current.name:
                self.attempts.forget()
                self._relieve_torch()
            elif self.attempts.due(wanted):
                self._switch(wanted)
            self._problem = self.attempts.problem
        except MondegreenError as error:
            self._problem = error.problem
        except Exception as error:  # whatever it is, it may not end the service
            self._problem = f"{type(error).__name__}: {error}"
        self._asked = None
        if (self.current, self._problem, self.attempts.last) != before:
            if self._problem:
                _log.error("%s goes on serving: %s", self.current.name, self.attempts.said(self._problem))
            self._on_change(self)

    def settle(self) -> None:
        """Waits while another version is loaded, for as long as that one is waited for."""
        if loading := self.loading:
            self._settled.wait(max(0.0, loading.until - time.monotonic()))

    def following(self) -> Following:
        """What a deployment on this machine reads of it."""
        return Following(
            pid=os.getpid(),
            follows=self.model,
            serves=self.current.name,
            since=self.since,
            loading=self.loading.name if self.loading else "",
            problem=self.problem,
            failed=self.attempts.failed,
            next_try=self.attempts.next_try,
        )

    def _switch(self, name: str) -> None:
        """Loads a version and lets it answer; one that cannot be loaded is remembered in `attempts`."""
        patience = 0.0 if name == self.attempts.failed else self.params.serve.switch_seconds
        began, files = time.monotonic(), self.attempts.files(name)
        self._settled.clear()
        self.loading = Loading(name, began + patience)
        self._on_change(self)
        if patience:
            _log.warning("%s is being loaded; who asks now waits for it, %g s at most.", name, patience)
        try:
            self.current, self.since = self._loaded(name), datetime.now(UTC)
            self.attempts.forget()
            _log.warning("%s serves now, after %.1f s.", name, time.monotonic() - began)
        except Exception as error:  # a damaged version may fail in many ways
            self.attempts.failure(name, files, told(error))
        finally:
            self.loading = None
            self._problem = self.attempts.problem  # whoever is told that a version failed is told why
            self._settled.set()
            self._on_change(self)

    def _loaded(self, name: str) -> Served:
        asked_for = self.params.transcribe.runtime == "onnx"
        return load(f"models:/{name}", name, self.params, export=asked_for)

    def _relieve_torch(self) -> None:
        """Has the export of what serves made where it is due; then ONNX Runtime computes it, and nobody waited."""
        name = self.current.name
        if name == self._computed or self.current.stt.model.runtime == "onnx" or self._exporting.runs_for(name):
            return
        due = self._exporting.is_due(name)
        if due and self._exporting.name != name:
            return self._exporting.begin(name)
        self._computed = name  # once, whatever comes of it: nothing is loaded anew at every look
        if due:
            _log.error("torch goes on computing %s: its export was not made.", name)
        elif self._exporting.name == name:
            self.current = self._loaded(name)

    def _first(self) -> Served:
        """Raises MondegreenError when neither the registry nor a backup has a model that can be loaded."""
        name = self.model
        if self.follows:
            try:
                name = self._wanted()
                return load(f"models:/{name}", name, self.params)
            except MondegreenError as error:
                self._problem = error.problem
                name = self.model  # by its alias, so that the last known champion's backup may answer
        return load(self.model, name.removeprefix("models:/"), self.params)

    def _wanted(self) -> str:
        from mondegreen.registry.resolving import holder

        return holder(self.model)

    def _follow(self) -> None:
        while not self._stop.wait(self.every):
            self.look()
