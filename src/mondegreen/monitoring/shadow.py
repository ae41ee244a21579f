"""Shadow: champion and another version transcribe the same recordings. Where do they disagree? No references."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import Engine, func, select

from mondegreen.cases.blobs import BlobStore
from mondegreen.config import Params
from mondegreen.db import reading
from mondegreen.errors import CaseError, UsageError
from mondegreen.monitoring.records import Bounds, MonitorRecord
from mondegreen.monitoring.statistics import wilson
from mondegreen.monitoring.tracker import detect
from mondegreen.progress import Advance
from mondegreen.records import Rate
from mondegreen.scoring.normalizer import normalize
from mondegreen.scoring.wer import ErrorCounts, count_words, read_pair
from mondegreen.tables import CaseRow, InferenceRow

if TYPE_CHECKING:
    from mondegreen.speech.transcriber import BaselineSTTModel

LoadModel = Callable[[str], "BaselineSTTModel"]
SELECTED = (
    "The service keeps the recordings that looked misheard, so the champion's error rate here is far above its real "
    "one and another model looks better by that choice alone: read the disagreement, and compare error rates on "
    "recordings that nobody chose (--audio)."
)


class ShadowedModel(MonitorRecord):
    """What one model did with the recordings."""

    model: str  # as it was named
    digest: str
    heard: int  # recordings with a transcript
    empty: int  # of these, with no word in it
    errors: int  # of these, misheard by its detector
    error_rate: float | None  # None where the detector is not calibrated: what it flags is no share then
    calibrated: bool  # whether its detector knows this model
    real_time_factor: float | None  # seconds of work for a second of audio


class Disagreement(MonitorRecord):
    """A recording that the two transcribe differently."""

    path: str
    champion: str
    candidate: str
    errors: int  # words that differ


class ShadowReport(MonitorRecord):
    """Disagreement between two models over the same recordings."""

    recordings: int  # both transcribed
    failed: int  # could not be used by one or the other
    missing: int  # the service knows of them, and kept no audio
    audio_seconds: float
    champion: ShadowedModel
    candidate: ShadowedModel
    disagreement: Rate | None  # the champion's transcript stands for the reference; None when it holds no word
    changed: int  # recordings whose normalised transcripts differ
    share_changed: float | None
    changed_interval: Bounds | None  # Wilson, 95 %
    only_champion_misheard: int
    only_candidate_misheard: int
    p_value: float | None  # exact McNemar over those two, two-sided; None when there are none, or not calibrated
    examples: tuple[Disagreement, ...]  # those that differ most
    notes: tuple[str, ...]


class _Hypothesis(NamedTuple):
    text: str
    misheard: bool
    duration: float
    work: float


def kept_recordings(
    engine: Engine, blobs: BlobStore, since: datetime | None, limit: int | None = None
) -> tuple[list[Path], int]:
    """Recordings of inferences and cases since then whose audio is in the store, newest first; and how many are not."""
    latest: dict[str, int] = {}
    with reading(engine) as session:
        for table, when in ((InferenceRow, InferenceRow.at), (CaseRow, CaseRow.last_seen)):
            query = select(table.audio_sha256, func.max(when)).group_by(table.audio_sha256)
            for digest, at in session.execute(query if since is None else query.where(when >= since)):
                latest[digest] = max(latest.get(digest, 0), int(at.timestamp()))
    found: list[Path] = []
    missing = 0
    for digest in sorted(latest, key=lambda key: (-latest[key], key)):
        if limit is not None and len(found) >= limit:
            break
        try:
            found.append(blobs.path(digest))
        except CaseError:
            missing += 1
    return found, missing


def newest(recordings: Iterable[Path], limit: int | None) -> list[Path]:
    """So many of the recordings, those that were written last first; all as they come when `limit` is None.

    One that is not there counts as the newest: whoever hears it says so.
    """
    if limit is None:
        return list(recordings)
    return sorted(recordings, key=lambda path: -path.stat().st_mtime if path.exists() else -math.inf)[:limit]


def shadow(
    recordings: Sequence[Path],
    champion: str,
    candidate: str,
    load: LoadModel,
    params: Params,
    detectors: Path,
    *,
    missing: int = 0,
    notes: Sequence[str] = (),
    on_progress: Advance = lambda done: None,
) -> ShadowReport:
    """Transcribes with both, one after the other, so that one model is in memory at a time. Nothing is logged.

    Args:
        champion: a model's name, such as models:/fine-tuned-stt@champion.
        load: name to model.
        detectors: the folder of the error detectors' calibrations.

    Raises:
        UsageError: there is no recording.
    """
    if not recordings:
        raise UsageError(
            "There is no recording to listen to.",
            "Ask for an earlier --since, or name recordings: --audio FOLDER. `mondegreen transcribe --log` keeps those "
            "that look misheard.",
        )
    old, before = _transcribe(champion, recordings, load, params, detectors, on_progress)
    new, after = _transcribe(
        candidate, recordings, load, params, detectors, lambda done: on_progress(len(recordings) + done)
    )
    return _compare(recordings, (old, new), (before, after), params, missing, notes)


def _transcribe(
    model: str, recordings: Sequence[Path], load: LoadModel, params: Params, folder: Path, on_progress: Advance
) -> tuple[ShadowedModel, list[_Hypothesis | None]]:
    """What a model makes of the recordings, None where one cannot be used."""
    from mondegreen.detector.detector import ErrorDetector
    from mondegreen.speech.transcriber import Failure

    loaded = load(model)
    detector = ErrorDetector.load(folder, loaded.digest, params.detector)
    found: list[_Hypothesis | None] = []
    for result in loaded.transcribe_many(recordings):
        if isinstance(result, Failure):
            found.append(None)
        else:
            misheard = detect(detector, result, params.audio.max_duration).is_error
            work = result.real_time_factor * result.duration
            found.append(_Hypothesis(result.text, misheard, result.duration, work))
        on_progress(len(found))
    there = [one for one in found if one]
    errors, seconds = sum(one.misheard for one in there), sum(one.duration for one in there)
    side = ShadowedModel(
        model=model,
        digest=loaded.digest,
        heard=len(there),
        empty=sum(not normalize(one.text, params.score.normalizer) for one in there),
        errors=errors,
        error_rate=errors / len(there) if there and detector.calibrated else None,
        calibrated=detector.calibrated,
        real_time_factor=sum(one.work for one in there) / seconds if seconds else None,
    )
    return side, found


def _compare(
    recordings: Sequence[Path],
    sides: Sequence[ShadowedModel],
    texts: Sequence[Sequence[_Hypothesis | None]],
    params: Params,
    missing: int,
    notes: Sequence[str],
) -> ShadowReport:

    from scipy.stats import binomtest  # a second of work: imported where it is used

    pairs = [(path, old, new) for path, old, new in zip(recordings, *texts, strict=True) if old and new]
    total, examples = ErrorCounts.zero(), []
    for path, old, new in pairs:
        counts = count_words(*read_pair(old.text, new.text, params.score.normalizer))
        total += counts
        if counts.errors:
            examples.append(Disagreement(path=str(path), champion=old.text, candidate=new.text, errors=counts.errors))
    comparable = all(side.calibrated for side in sides)
    worse = sum(new.misheard and not old.misheard for _, old, new in pairs)
    better = sum(old.misheard and not new.misheard for _, old, new in pairs)
    return ShadowReport(
        recordings=len(pairs),
        failed=len(recordings) - len(pairs),
        missing=missing,
        audio_seconds=sum(old.duration for _, old, _ in pairs),
        champion=sides[0],
        candidate=sides[1],
        disagreement=total.to_rate() if total.reference_length else None,
        changed=len(examples),
        share_changed=len(examples) / len(pairs) if pairs else None,
        changed_interval=wilson(len(examples), len(pairs)) if pairs else None,
        only_champion_misheard=better,
        only_candidate_misheard=worse,
        p_value=float(binomtest(worse, worse + better).pvalue) if worse + better and comparable else None,
        examples=tuple(sorted(examples, key=lambda example: (-example.errors, example.path))[:10]),
        notes=(*notes, *_calibration_notes(sides)),
    )


def _calibration_notes(sides: Sequence[ShadowedModel]) -> Iterator[str]:
    if which := [side.model for side in sides if not side.calibrated]:
        yield (
            f"The error detector is not calibrated for {' and '.join(which)}: error rates do not compare. "
            "Run `mondegreen detector calibrate` for it."
        )
