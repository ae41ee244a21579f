"""`MetadataTracker`: what production does, written down and read back."""

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from sqlalchemy import Engine, select

from mondegreen.cases.origin import FIELDS
from mondegreen.cases.records import AUDIT, NewCase, checked
from mondegreen.config import AuditParams, MonitorParams
from mondegreen.db import open_database, plain, reading, transaction, upserting
from mondegreen.errors import AudioError, CloudError, MondegreenError, StoreAwayError, UsageError
from mondegreen.monitoring.partly_logged import lacking
from mondegreen.monitoring.sampling import AuditSampling
from mondegreen.records import Alternative, Word
from mondegreen.scoring.normalizer import NormalizerName
from mondegreen.speech.channels import content_digest
from mondegreen.tables import InferenceRow

# What reads the inferences back is imported where it is used: whoever only logs need not load it.
if TYPE_CHECKING:
    from mondegreen.cases.store import DataManager
    from mondegreen.detector.detector import Detection, ErrorDetector
    from mondegreen.monitoring.records import Drift, InferenceStatistics, MonitorReport, ProductionReport
    from mondegreen.speech.transcriber import Transcription

TREND_DAYS = 30
_WORDS = 500  # of a case that are kept; nobody corrects an hour of speech in one field
_LONGEST = timedelta(days=36_525)
_COLUMNS = {
    *("model_version", "duration", "latency", "confidence", "error_score", "is_error"),
    *("request_id", "served", "caller", "speaker", "recording", "channel", "role", "canary", "batch"),
}
_Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Inference(BaseModel):
    """One transcription in production.

    Args:
        audio_path: the recording; its bytes are hashed unless `audio_sha256` is given, and kept when it was misheard.
        transcript: the hypothesis of the model.
        model_version: the model's digest.
        duration: seconds of audio.
        latency: seconds of work for this recording; its share of the work where several were taken together.
        confidence: the model's, 0 to 1.
        error_score: the detector's, 0 to 1.
        error_types: the detector's.
        is_error: the detector's decision; None when no detector looked.
        calibrated: whether that decision was fitted to this model. Where it was not, what looks misheard is kept as a
            failed case all the same, and counts in no error rate.
        audio_sha256: hex digest of the file's bytes.
        at: when it was transcribed; now when not given.
        words: with their times and confidences, kept with a failed case for the person who corrects it.
        nbest: what else may have been said, kept likewise.
        request_id: a server's id of the request; logged again under the same id, it counts once.
        served: the registered version that answered, such as fine-tuned-stt/3.
        caller: who asked, an opaque id of the caller's own.
        speaker: who spoke.
        recording: what the audio is a piece of; with the speaker it keeps what judges out of training.
        channel: of the recording that was heard.
        role: of the version that answered, while a canary may run: champion or canary.
        canary: the ledger's entry of the canary that the answer takes part in.
        batch: recordings of the batch that it was heard in; None: not known. Work compares where it is 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    audio_path: Path
    transcript: str
    model_version: str = Field(min_length=1)
    duration: _Amount
    latency: _Amount
    confidence: _Share | None = None
    error_score: _Share | None = None
    error_types: tuple[str, ...] = ()
    is_error: bool | None = None
    calibrated: bool = True
    audio_sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    at: AwareDatetime | None = None
    words: tuple[Word, ...] = ()
    nbest: tuple[Alternative, ...] = ()
    request_id: str | None = Field(None, min_length=1, max_length=64)
    served: str | None = None
    caller: str | None = None
    speaker: str | None = None
    recording: str | None = None
    channel: str | None = None
    role: Literal["champion", "canary"] | None = None
    canary: int | None = None
    batch: int | None = Field(None, ge=1)


class MetadataTracker:
    """Records inferences and tells how the service does.

    Args:
        local_storage_dir: the folder of live state.
        use_gcs: failed recordings go to a bucket, see `DataManager`.
        data_manager: keeps failed cases; one over the same folder when not given.
        sampling: draws the audit sample; None draws none.
        storage: more arguments for that `DataManager`.

    Raises:
        UsageError: `use_gcs`, and no bucket is named or Google's client is not installed.
        CloudError: `use_gcs`, and there are no credentials.
    """

    def __init__(
        self,
        local_storage_dir: str | Path = "var",
        use_gcs: bool = False,
        *,
        data_manager: "DataManager | None" = None,
        sampling: AuditSampling | None = None,
        **storage: Any,
    ) -> None:
        self.folder = Path(local_storage_dir)
        self._sampling = sampling if sampling and sampling.params.rate else None
        self._manager = data_manager
        self._storage = {"use_gcs": use_gcs, **storage}
        if use_gcs:
            from mondegreen.gcs import Bucket, gcp_settings

            Bucket(gcp_settings())  # what is missing is said now, not at the first failed case

    @cached_property
    def engine(self) -> Engine:
        """The database. Raises CaseError when it cannot be opened."""
        return self._manager.engine if self._manager else open_database(self.folder)

    @cached_property
    def cases(self) -> "DataManager":
        """Where failed cases go."""
        from mondegreen.cases.store import DataManager

        return self._manager or DataManager(str(self.folder), **self._storage)

    def log_inference(self, audio_path: str | Path, transcript: str, **fields: Any) -> str | None:
        """Records one transcription; `fields` are those of `Inference`.

        Returns:
            The id of the failed case when `is_error` is set and the audit did not draw it, else None.

        Raises:
            UsageError: a field has a value that cannot be.
            CaseError: the database refuses, or the recording cannot be stored.
        """
        inference = checked(Inference, audio_path=Path(audio_path), transcript=transcript, **fields)
        return self.log_inferences([inference])[0]

    def log_inferences(self, inferences: Iterable[Inference]) -> list[str | None]:
        """Stores what is to be kept with its audio in one transaction, then all inferences in another.

        Kept is what the audit draws, whatever the detector says of it, and of the rest what was misheard, as a failed
        case. What the audit draws is no failed case: it judges and never teaches.

        A case that cannot be stored does not take the rest with it: they are written, then the error is raised. The
        cases come first, so that after a crash in between no inference points nowhere; the same recording finds its
        case again, and the same inference is drawn again. A disk or a bucket that takes no recording just now is no
        fault of a recording's: nothing is written then, so that all of it may be logged again.

        Returns:
            The id of the failed case of each inference, None where it is none.

        Raises:
            CaseError: the database refuses, or what keeps the recordings does; no inference is written.
            PartlyLoggedError: some recordings are gone or cannot be kept; the rest is written, and what it says is not
                to be logged again.
        """
        given, now = list(inferences), datetime.now(UTC)
        problems: list[tuple[Path, str]] = []
        logged = [found for inference in given if (found := self._drawn(inference, problems))]
        self._store_cases(logged, problems)
        rows = [row_of(item, now) for item in logged]
        if rows:
            with transaction(self.engine) as session:
                adding = upserting(session, InferenceRow).on_conflict_do_nothing(index_elements=["request_id"])
                session.execute(adding, rows)
        if problems:
            raise lacking(problems, len(given), len(given) - len(rows))
        return [None if item.drawn else item.case_id for item in logged]

    def _drawn(self, inference: Inference, problems: list[tuple[Path, str]]) -> "LoggedInference | None":
        """The inference with its hash and its luck; None when its recording is gone and nobody knows its hash."""
        try:
            sha256 = inference.audio_sha256 or content_digest(inference.audio_path)
        except OSError as error:
            problems.append((inference.audio_path, f"{error.strerror}."))
            return None
        found = LoggedInference(inference.model_copy(update={"audio_sha256": sha256}))
        if self._sampling:
            found.inclusion = self._sampling.probability(inference.error_score)
            key = inference.request_id or f"{sha256}\0{inference.model_version}"
            found.drawn = self._sampling.draws(key, found.inclusion)
        return found

    def logged(self, request_ids: Sequence[str]) -> set[str]:
        """Which of these requests are written down already. Raises CaseError."""
        table = plain(InferenceRow)
        with reading(self.engine) as session:
            return set(session.scalars(select(table.c.request_id).where(table.c.request_id.in_(request_ids))))

    def _store_cases(self, logged: "Sequence[LoggedInference]", problems: list[tuple[Path, str]]) -> None:
        """All that are kept at once; one by one when that fails, so that one bad recording stands alone."""
        kept = [item for item in logged if item.drawn or item.inference.is_error]
        if not kept:
            return
        try:
            for item, case_id in zip(kept, self._stored(kept), strict=True):
                item.case_id = case_id
        except StoreAwayError:
            raise
        except MondegreenError:
            for item in kept:
                try:
                    (item.case_id,) = self._stored([item])
                except StoreAwayError:
                    raise
                except MondegreenError as error:
                    problems.append((item.inference.audio_path, error.problem))

    def _stored(self, kept: "Sequence[LoggedInference]") -> list[str]:
        """The ids of their cases. Raises StoreAwayError for what is no fault of a recording's."""
        try:
            return self.cases.store_failed_cases([_case(item) for item in kept])
        except CloudError as error:  # of the bucket
            raise StoreAwayError(error.problem, error.next_step) from error
        except OSError as error:  # of this machine, such as its folder for temporary files; audio has its own errors
            raise StoreAwayError(
                f"Recordings cannot be kept: {error}.", "Make room, or check the permissions, and log them again."
            ) from error

    def get_inference_statistics(self, time_window_hours: float = 24) -> dict[str, Any]:
        """The window that ends now, as a dict of `InferenceStatistics`.

        `count`, `measured`, `errors`, `error_detection_rate` (errors / measured), `mean_confidence`, `latency` (`p50`,
        `p95`, `p99`, seconds), `real_time_factor`, `correction_rate` (of the window's failed cases), `models` (the
        same by model version), … A number that was not measured is NaN, and `reason` says why there is no rate.
        """
        from mondegreen.monitoring.records import printable

        found = self.statistics(_window(hours=time_window_hours))
        nobody = f"no calibrated detector looked at the {found.count} inferences" if found.count else "no inference"
        reason = "" if found.measured else f"{nobody} in the last {time_window_hours:g} hours"
        return printable(found.model_dump()) | {"reason": reason}

    def get_performance_trend(self, metric: str, time_window_days: float = TREND_DAYS) -> dict[str, Any]:
        """A metric over the window that ends now, as a dict of `Trend`.

        Args:
            metric: "wer" or "cer": of the candidates of the rounds in MLflow, on the test set; "error_rate",
                "confidence" or "latency" (seconds): means of each day (UTC) of the inferences.
            time_window_days: its length.

        Returns:
            `values` (time and value, oldest first), `latest`, `mean`, `slope` (least squares, a day), `improvement`:
            by how much the latest value is better than the first, absolute; positive is better whatever the metric
            (0.05 for "wer": 5 points fewer errors). With fewer than two values `slope` and `improvement` are NaN and
            `reason` says so.
        """
        from mondegreen.monitoring.records import printable
        from mondegreen.monitoring.statistics import performance_trends

        now = datetime.now(UTC)
        since = now - _window(days=time_window_days)
        return printable(performance_trends(self.engine, [metric], since, now)[0].model_dump())

    def statistics(self, window: timedelta, now: datetime | None = None) -> "InferenceStatistics":
        """The numbers of the window that ends now."""
        from mondegreen.monitoring.statistics import window_statistics

        now = now or datetime.now(UTC)
        return window_statistics(self.engine, now - window, now)

    def drift(self, window: timedelta, params: MonitorParams | None = None, now: datetime | None = None) -> "Drift":
        """The window against the first week of the model that did most of its work."""
        from mondegreen.monitoring.drift import measure_drift

        now = now or datetime.now(UTC)
        return measure_drift(self.engine, now - window, now, (params or MonitorParams()).min_inferences)

    def production_wer(
        self,
        window: timedelta,
        audit: AuditParams | None = None,
        normalizer: NormalizerName = "spoken",
        now: datetime | None = None,
    ) -> "ProductionReport":
        """The WER in production by the audit sample, over the window or audit.window_days, whichever is longer."""
        from mondegreen.monitoring.production import production_wer

        return production_wer(self.engine, audit or AuditParams(), normalizer, window, now or datetime.now(UTC))

    def monitor(
        self,
        window: timedelta = timedelta(hours=24),
        params: MonitorParams | None = None,
        *,
        audit: AuditParams | None = None,
        normalizer: NormalizerName = "spoken",
        send: bool = True,
        now: datetime | None = None,
    ) -> "MonitorReport":
        """Everything: statistics, drift, the WER of the audit sample (counted after `normalizer`), trends, and the
        checks; alerts go to the log and, with `send`, the webhook."""
        from mondegreen.monitoring.alerts import measure, notify
        from mondegreen.monitoring.records import MonitorReport
        from mondegreen.monitoring.statistics import METRICS, curve_edges, performance_trends, time_steps

        now, params = now or datetime.now(UTC), params or MonitorParams()
        found, drift, production, checks = measure(self.engine, window, params, audit or AuditParams(), normalizer, now)
        alerts = [check for check in checks if check.status == "alert"]
        start = now - max(window, timedelta(days=TREND_DAYS))
        return MonitorReport(
            database=self.engine.url.render_as_string(hide_password=True),
            statistics=found,
            buckets=time_steps(self.engine, curve_edges(now - window, now)),
            drift=drift,
            production=production,
            checks=checks,
            trends=performance_trends(self.engine, METRICS, start, now),
            delivery=notify(self.engine, alerts, params if send else params.model_copy(update={"webhook": None}), now),
        )


def _window(**length: float) -> timedelta:
    """A length of time that can be subtracted from now."""
    (unit, value), *_ = length.items()
    if not math.isfinite(value) or not 0 < value <= _LONGEST / timedelta(**{unit: 1}):
        raise UsageError(f"A window of {value} {unit} is not possible.", "Give a positive number, up to a century.")
    return timedelta(**length)


def inference_of(
    result: "Transcription",
    detector: "ErrorDetector | None",
    max_duration: float,
    origin: Mapping[str, str] | None = None,
) -> Inference:
    """A transcription as it is logged.

    Args:
        detector: says whether it was misheard; None leaves that open.
        max_duration: see `detect`.
        origin: speaker, recording and channel, where they are known.
    """
    found = detect(detector, result, max_duration) if detector else None
    return Inference(
        audio_path=Path(result.path),
        transcript=result.text,
        model_version=result.model,
        duration=result.duration,
        # Recordings are taken together: each has the share of the work that its length asks for.
        latency=result.real_time_factor * result.duration,
        confidence=result.confidence,
        words=tuple(result.words),
        nbest=tuple(result.nbest),
        **(vars(found) if found else {}),
        **(origin or {}),
    )


def detect(detector: "ErrorDetector", result: "Transcription", max_duration: float) -> "Detection":
    """What the detector says of a transcription.

    Args:
        max_duration: of recordings that are decoded once more for it, seconds; longer ones, and those that are gone,
            it judges by the transcript alone.
    """
    from mondegreen.speech.audio import load_audio

    waveform = None
    if result.duration <= max_duration:
        with suppress(AudioError, OSError):
            waveform = load_audio(Path(result.path), max_duration, max_missing_share=1)  # it was heard
    return detector.detect(result, waveform)


@dataclass
class LoggedInference:
    """An inference on its way into the database."""

    inference: Inference  # with its hash
    inclusion: float | None = None  # probability of the draw; None: nobody draws
    drawn: bool = False
    case_id: str | None = None  # of the failed case, or of the audit's when it was drawn


def _case(item: LoggedInference) -> NewCase:
    inference = item.inference
    return checked(
        NewCase,
        original_transcript=inference.transcript,
        metadata={
            "confidence": inference.confidence,
            "words": [word.model_dump() for word in inference.words[:_WORDS]],
            "nbest": [alternative.model_dump() for alternative in inference.nbest],
            **inference.model_dump(include={*FIELDS, "served", "caller"}, exclude_none=True),
            **({} if inference.calibrated else {"calibrated": False}),
        },
        source=AUDIT if item.drawn else "production",
        **inference.model_dump(include={"audio_path", "error_types", "error_score", "model_version", "duration"}),
    )


def row_of(item: LoggedInference, now: datetime) -> dict[str, Any]:
    """The columns of an inference.

    What an uncalibrated detector decided is no measurement: it leaves a score, and `is_error` open.
    """
    inference = item.inference
    return inference.model_dump(include=_COLUMNS) | {
        "at": inference.at or now,
        "audio_sha256": inference.audio_sha256,
        "words": len(inference.transcript.split()),
        "inclusion": item.inclusion,
        "case_id": None if item.drawn else item.case_id,
        "audit_id": item.case_id if item.drawn else None,
        **({} if inference.calibrated else {"is_error": None}),
    }
