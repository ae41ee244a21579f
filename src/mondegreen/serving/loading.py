"""A version on its way into the server: tried again when it could not be loaded, its export made beside the server.

The next try comes later each time, at once when the version's files change. An export for ONNX Runtime takes a core for
seconds or minutes. Nobody who asks may wait for that, so that torch hears meanwhile: the texts are the same, and only
those are used that were verified. It is made in a process of its own, this module's, which yields to the server.
"""

import hashlib
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mondegreen.config import Params, Seconds

_LONGEST: Seconds = 300.0  # between two tries
_DOUBLINGS = 20  # of the first pause; more than the longest one allows
_NICE = 10  # of Linux: it goes on under load, and whoever hears goes first
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FailedLoad:
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
        self.last: FailedLoad | None = None
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
        self.last = FailedLoad(name, files, problem, tries, time.monotonic() + pause, at)

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


class Exporting:
    """The export of one version at a time.

    Args:
        params: say which library hears.
    """

    def __init__(self, params: Params) -> None:
        self._params = params
        self._process: subprocess.Popen[bytes] | None = None
        self.name = ""  # the version whose export is being made, or was

    def is_due(self, name: str) -> bool:
        """Whether torch computes a version until its export is made, which a server does not wait for.

        Raises:
            MondegreenError: it cannot be loaded at all.
        """
        from mondegreen.speech.runtime import export_due

        return export_due(f"models:/{name}", self._params.transcribe.runtime)

    def begin(self, name: str) -> None:
        """Makes the export of a version; one that is being made for another version ends."""
        self.close()
        self.name = name
        command = [sys.executable, "-m", __name__, f"models:/{name}"]
        try:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
        except OSError as error:
            _log.error("The export of %s cannot be made, torch hears: %s", name, error)

    def runs_for(self, name: str) -> bool:
        """Whether the export of a version is being made now."""
        return self.name == name and self._process is not None and self._process.poll() is None

    def close(self) -> None:
        """Ends it; what it left is begun anew by the next one."""
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._process = None


def main(name: str) -> int:
    """The process: 0 when the export is there and verified, else 1 and the reason on stderr."""
    from mondegreen.errors import MondegreenError
    from mondegreen.speech.onnx_model import NoExport
    from mondegreen.speech.onnx_store import open_export

    log_with_times()
    os.nice(_NICE)
    try:
        open_export(name)
    except (NoExport, MondegreenError) as error:
        _log.error("ONNX Runtime does not compute %s: %s", name, error)
        return 1
    return 0


def log_with_times() -> None:
    """Each line with its time in UTC, as /readyz and the ledger say times, and with the process that said it."""
    shown = logging.Formatter("%(asctime)s UTC [%(process)d] %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S")
    shown.converter = time.gmtime
    handler = logging.StreamHandler()
    handler.setFormatter(shown)
    logging.basicConfig(handlers=[handler], force=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
