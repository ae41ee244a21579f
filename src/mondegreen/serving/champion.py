"""The model that serves: it follows an alias of the registry without a pause and without a restart.

A new version is loaded beside the one that answers, hears a second of noise, and takes over between two batches. One
that cannot be loaded changes nothing but what /readyz says. Without a registry the champion's verified backup serves.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mondegreen.config import Params, Seconds
from mondegreen.errors import MondegreenError
from mondegreen.scoring.phrases import read_phrases

if TYPE_CHECKING:
    from mondegreen.speech.transcriber import BaselineSTTModel

_SAMPLES = 16_000  # one second
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


def load(uri: str, name: str, params: Params) -> Served:
    """A model that is ready to answer. Raises MondegreenError, and whatever a damaged one raises."""
    from mondegreen.speech.transcriber import load_transcriber

    listed = read_phrases(Path(params.serve.phrases)) if params.serve.phrases else None
    stt = load_transcriber(uri, params, cached=False, phrases=listed)
    noise = np.random.default_rng(0).normal(0, 0.1, _SAMPLES).astype(np.float32)
    stt.transcribe_waveforms([noise])  # what is slow or breaks the first time does so before anybody waits
    return Served(name, stt)


class Champion:
    """What answers now, and the thread that looks for what is to answer next.

    Args:
        model: `models:/name@alias` is followed; a folder, a hub name or a fixed version stays.
        params: of the project.
        every: seconds between two looks at the alias.
        on_change: told the new model and what is wrong ("" when nothing is) after each look that changed either.
    """

    def __init__(
        self,
        model: str,
        params: Params,
        every: Seconds,
        on_change: "Callable[[Served, str], None]" = lambda served, problem: None,
    ) -> None:
        self.model, self.params, self.every = model, params, every
        self._on_change = on_change
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self.problem = ""  # why what is in production by the registry does not serve; "" when it does
        self.current = self._first()

    def start(self) -> None:
        """Begins to follow the alias."""
        self._on_change(self.current, self.problem)
        if self.follows:
            self._thread.start()

    @property
    def follows(self) -> bool:
        """Whether an alias says what serves."""
        return "@" in self.model and self.model.startswith("models:/")

    def stop(self) -> None:
        """Looks no more; what serves goes on."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def look(self) -> None:
        """One look at the alias; loads and switches when another version holds it."""
        before = self.current, self.problem
        try:
            wanted = self._wanted()
            if wanted != self.current.name:
                self.current = load(f"models:/{wanted}", wanted, self.params)
                _log.warning("%s serves now.", wanted)
            self.problem = ""
        except MondegreenError as error:
            self.problem = error.problem
        except Exception as error:  # a damaged version may fail in many ways, and none of them may end the service
            self.problem = f"{type(error).__name__}: {error}"
        if (self.current, self.problem) != before:
            if self.problem:
                _log.error("%s goes on serving: %s", self.current.name, self.problem)
            self._on_change(self.current, self.problem)

    def _first(self) -> Served:
        """Raises MondegreenError when neither the registry nor a backup has a model that can be loaded."""
        name = self.model
        if self.follows:
            try:
                name = self._wanted()
                return load(f"models:/{name}", name, self.params)
            except MondegreenError as error:
                self.problem = error.problem
                name = self.model  # by its alias, so that the last known champion's backup may answer
        return load(self.model, name.removeprefix("models:/"), self.params)

    def _wanted(self) -> str:
        from mondegreen.registry.resolving import holder

        return holder(self.model)

    def _follow(self) -> None:
        while not self._stop.wait(self.every):
            self.look()
