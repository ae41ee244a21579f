"""From transcriptions to logged inferences: the detector looks, the recording is hashed, a batch is written."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mondegreen.config import Params
from mondegreen.errors import AudioError
from mondegreen.loop.monitoring.inference_log import Inference
from mondegreen.loop.monitoring.tracker import MetadataTracker

if TYPE_CHECKING:
    from mondegreen.cases.detector.detection import ErrorDetector
    from mondegreen.speech.audio import Waveform
    from mondegreen.speech.transcriber import Transcription


class Recorder:
    """Logs what a model transcribed.

    Args:
        tracker: where it is written.
        detector: says what was misheard; None leaves that open.
        max_duration: of recordings that are decoded once more for the detector, seconds; longer ones it judges by
            the transcript alone.
    """

    def __init__(self, tracker: MetadataTracker, detector: "ErrorDetector | None", max_duration: float) -> None:
        self.tracker, self.detector, self.max_duration = tracker, detector, max_duration

    @classmethod
    def open(cls, model_version: str, params: Params, folder: Path = Path("var")) -> "Recorder":
        """The recorder for a model, with live state in `folder`.

        Raises:
            CaseError: the database cannot be opened.
        """
        from mondegreen.cases.detector.detection import ErrorDetector

        tracker = MetadataTracker(folder)
        _ = tracker.engine  # opened now, so that what is wrong is said before an hour of work
        return cls(
            tracker,
            ErrorDetector.load(folder / "detector", model_version, params.detector),
            params.audio.max_duration,
        )

    def record(self, heard: Sequence["Transcription"]) -> None:
        """Writes a batch down; see `write_inferences` for what it raises."""
        self.tracker.log_inferences([self._inference(result) for result in heard])

    def _inference(self, result: "Transcription") -> Inference:
        found = self.detector.detect(result, self._waveform(result)) if self.detector else None
        return Inference(
            audio_path=Path(result.path),
            transcript=result.text,
            model_version=result.model,
            duration=result.duration,
            # Recordings are taken together: each has the share of the work that its length asks for.
            latency=result.real_time_factor * result.duration,
            confidence=result.confidence,
            error_score=found.error_score if found else None,
            error_types=found.error_types if found else (),
            is_error=found.is_error if found else None,
            words=tuple(result.words),
            nbest=tuple(result.nbest),
        )

    def _waveform(self, result: "Transcription") -> "Waveform | None":
        from mondegreen.speech.audio import load_audio

        if result.duration > self.max_duration:
            return None
        try:
            return load_audio(Path(result.path), self.max_duration)
        except (AudioError, OSError):
            return None
