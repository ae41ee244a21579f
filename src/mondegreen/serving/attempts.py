"""When a version that could not be loaded is tried again: later each time, at once when its files change."""

import hashlib
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mondegreen.config import Params, Seconds

_LONGEST: Seconds = 300.0  # between two tries
_DOUBLINGS = 20  # of the first pause; more than the longest one allows


@dataclass(frozen=True)
class Failure:
    """The last try of a version. `files`: what they looked like before it. `due`: by time.monotonic."""

    name: str
    files: str
    problem: str
    tries: int
    due: float
    at: datetime  # when it is due


class Attempts:
    """Remembers the version that failed last.

    Args:
        every: seconds until the second try; the pauses double.
        params: name what is loaded beside the model's own files.
    """

    def __init__(self, every: Seconds, params: Params) -> None:
        self.last: Failure | None = None
        self._every = every
        self._others = [Path(path) for path in (params.serve.phrases, params.serve.lm) if path]

    @property
    def failed(self) -> str:
        """The version that could not be loaded when it was tried last; ""."""
        return self.last.name if self.last else ""

    @property
    def problem(self) -> str:
        """Why not; ""."""
        return self.last.problem if self.last else ""

    @property
    def next_try(self) -> datetime | None:
        """When it is tried again, unless its files change before."""
        return self.last.at if self.last else None

    def due(self, name: str) -> bool:
        """Whether a version is to be tried now. Raises RegistryError: where its files lie cannot be asked."""
        last = self.last
        return not last or last.name != name or time.monotonic() >= last.due or self.files(name) != last.files

    def files(self, name: str) -> str:
        """Changes with whatever of a version is on this machine, which is looked at and not read.

        Raises:
            RegistryError: the registry cannot be asked where that is.
        """
        from mondegreen.registry.resolving import places_of

        return _look_of([*places_of(f"models:/{name}"), *self._others])

    def failure(self, name: str, files: str, problem: str) -> None:
        """A version could not be loaded.

        Args:
            files: of it, as they were before they were read.
        """
        tries = self.last.tries + 1 if self.last and (self.last.name, self.last.files) == (name, files) else 1
        pause = min(_LONGEST, self._every * 2 ** min(tries - 1, _DOUBLINGS))
        at = datetime.now(UTC) + timedelta(seconds=pause)
        self.last = Failure(name, files, problem, tries, time.monotonic() + pause, at)

    def forget(self) -> None:
        """What is to serve does."""
        self.last = None

    def said(self, problem: str) -> str:
        """A problem, and when the next try is where it is the last failure's."""
        if not self.last or problem != self.last.problem:
            return problem
        return f"{problem} It is tried again at {self.last.at:%H:%M:%S} UTC, or when its files change."


def _look_of(places: Iterable[Path]) -> str:
    found = hashlib.sha256()
    for place in places:
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            try:
                state = path.stat()
            except OSError:  # it went away, or cannot be seen: that is a look, too
                continue
            found.update(f"{path}\0{state.st_ino} {state.st_size} {state.st_mtime_ns}\n".encode())
    return found.hexdigest()
