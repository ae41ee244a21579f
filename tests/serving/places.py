"""What works in the places of `serve_workers`, each as `python -m tests.serving.places KIND FOLDER`, which exits as the
command would."""

import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType

from mondegreen.errors import MondegreenError, RegistryError, UsageError
from mondegreen.serving.metrics import SHARED, ServiceMetrics
from mondegreen.serving.workers import serve_workers

Ready = Callable[[], None]


def no_champion(folder: Path, ready: Ready) -> None:
    raise RegistryError("No version is @champion.", "Deploy one.")


def no_params(folder: Path, ready: Ready) -> None:
    raise UsageError("params.yaml is no YAML.", "Correct it.")


def answers(folder: Path, ready: Ready) -> None:
    """Its metrics lie where the file under its process says; one request is inside until it ends."""

    def end(number: int, frame: FrameType | None) -> None:
        sys.exit(0)

    signal.signal(signal.SIGTERM, end)
    ServiceMetrics().inside.set(1)
    (folder / f".{os.getpid()}").write_text(os.environ[SHARED])
    (folder / f".{os.getpid()}").rename(folder / str(os.getpid()))
    ready()
    while True:
        signal.pause()


def begins_late(folder: Path, ready: Ready) -> None:
    """The first process finds no champion, when another one takes requests."""
    try:
        (folder / ".first").open("x").close()
    except FileExistsError:
        answers(folder, ready)
    while not any(path.name.isdecimal() for path in folder.iterdir()):
        signal.sigtimedwait([], 0.05)
    no_champion(folder, ready)


def main(kind: str, folder: str) -> int:
    try:
        serve_workers(2, partial(globals()[kind], Path(folder)))
    except MondegreenError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
