"""Logging beside transcribing: whatever happens to the log, the transcripts are printed."""

from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from mondegreen.config import Params
    from mondegreen.loop.monitoring.recorder import Recorder
    from mondegreen.speech.transcriber import Failure, Transcription


class InferenceLog:
    """Takes transcriptions as they are printed and writes them down a group at a time, the last ones at the end.

    A thread writes, so that the next group is transcribed while the disk syncs this one.

    Args:
        model_version: digest of the model that transcribes; None to log nothing.
        params: of params.yaml; None for the defaults.
        group: inferences of one transaction.
    """

    def __init__(self, model_version: str | None, params: "Params | None", group: int) -> None:
        self.group, self.lost = group, 0
        self._heard: list[Transcription] = []
        self._logging = model_version is not None
        self._recorder = self._open(model_version, params) if model_version else None
        self._thread = ThreadPoolExecutor(1)
        self._writing: tuple[Future[None], int] | None = None

    def __enter__(self) -> "InferenceLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._write()
        self._wait()
        self._thread.shutdown()
        if self.lost:
            typer.echo(f"warning: {self.lost} inferences were not logged in full.", err=True)

    def add(self, result: "Transcription | Failure") -> None:
        """Takes one result; a recording without a transcript is no inference."""
        from mondegreen.speech.transcriber import Transcription

        if self._logging and isinstance(result, Transcription):
            self._heard.append(result)
            if len(self._heard) >= self.group:
                self._write()

    def _write(self) -> None:
        """Hands the group to the thread, once the one before is written."""
        self._wait()
        heard, self._heard = self._heard, []
        if heard and self._recorder is None:
            self.lost += len(heard)
        elif heard and self._recorder:
            self._writing = self._thread.submit(self._recorder.record, heard), len(heard)

    def _wait(self) -> None:
        if self._writing is None:
            return
        (written, size), self._writing = self._writing, None
        try:
            written.result()
        except Exception as error:
            if not self.lost:
                self._warn(error)
            self.lost += size

    def _open(self, model_version: str, params: "Params | None") -> "Recorder | None":
        from mondegreen.config import Params
        from mondegreen.loop.monitoring.recorder import Recorder

        try:
            return Recorder.open(model_version, params or Params())
        except Exception as error:
            self._warn(error)
            return None

    def _warn(self, error: Exception) -> None:
        typer.echo(f"warning: inferences are not logged: {error}", err=True)
