"""Beside the champion: the challenger of a canary, loaded while it runs, and who of the two answers whom.

A challenger that cannot be loaded answers nobody: the champion answers everything then, /readyz and the log say so, and
those answers take no part in the comparison. It is tried again later and later. The same while its export is made.
"""

import logging
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mondegreen.db import open_database
from mondegreen.errors import MondegreenError
from mondegreen.registry.canary import Canary, running
from mondegreen.registry.ledger import Ledger
from mondegreen.serving.champion import Champion, Served, load
from mondegreen.serving.loading import Attempts, Exporting

Role = Literal["champion", "canary"]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choice:
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

    def choose(self, asker: Asker | None) -> Choice:
        """Who answers, by what is loaded at this moment.

        Args:
            asker: None: somebody who asks for the champion by its name or number.
        """
        champion, active = self._champion.current, self._active
        if active is None or asker is None:
            return Choice(champion)
        canary, challenger = active
        if champion.name != f"{self._name}/{canary.champion}":
            return Choice(champion)  # not whom the canary compares with, as just after a deployment
        part = canary.part(asker.caller, asker.audio_sha256)
        if part == "canary":
            return Choice(challenger, "canary", canary.entry)
        return Choice(champion, canary=canary.entry, shadow=challenger if part == "shadow" else None)

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
            said = error.problem if isinstance(error, MondegreenError) else f"{type(error).__name__}: {error}"
            self.attempts.failure(name, files, said)
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
