"""Exports for ONNX Runtime that a server needs, made beside it: in a process of their own, which yields to the server.

An export takes a core for seconds or minutes. Nobody who asks may wait for that, so that torch hears meanwhile: the
texts are the same, and only those are used that were verified.
"""

import logging
import os
import subprocess
import sys

from mondegreen.config import Params

_NICE = 10  # of Linux: it goes on under load, and whoever hears goes first
_log = logging.getLogger(__name__)


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
    from mondegreen.serving.log import log_with_times
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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
