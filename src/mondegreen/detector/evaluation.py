"""What the detector is worth on the test set, beside what needs no detector."""

from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from mondegreen.config import DetectorParams
from mondegreen.detector.calibration import ReferencedUtterance
from mondegreen.detector.detector import ERROR_TYPES, Calibration, Detection, ErrorDetector, OperatingThreshold
from mondegreen.detector.measures import Bin, Labels, MeasuredFigure, Scores, measures, reliability
from mondegreen.errors import CaseError
from mondegreen.scoring.metrics import model_of
from mondegreen.scoring.normalizer import NormalizerName, normalizer_id

FEW_RECORDINGS = 12  # percentile intervals of fewer are too narrow
FEW_OF_A_CLASS = 10
WIDE = 0.2
_SLICE_OF = {"target": "test", "retention": "retention/test"}


class _ReportPart(BaseModel):
    model_config = ConfigDict(frozen=True)


class Scorer(_ReportPart):
    """One way to score transcripts: detector, confidence (1 - confidence), everything (1 for each)."""

    name: str
    flagged: int
    measures: dict[str, MeasuredFigure]


class Reached(_ReportPart):
    """What a threshold that was chosen on the calibration data gives on the test data."""

    goal: str
    at: float
    threshold: float | None
    precision: float | None
    recall: float | None


class TypeCount(_ReportPart):
    """How often the detector gave an error type, and how many of those transcripts were misheard."""

    error_type: str
    count: int
    misheard: int


class SliceReport(_ReportPart):
    """A slice of the test set: "test", "retention/test", or "all", both together."""

    name: str
    utterances: int
    recordings: int
    misheard: int
    scorers: list[Scorer]
    reached: list[Reached]
    reliability: list[Bin]
    types: list[TypeCount]

    @property
    def base_rate(self) -> float:
        return self.misheard / self.utterances

    @property
    def both_classes(self) -> bool:
        """Whether some were misheard and some were not; else every precision, or recall, is trivial."""
        return 0 < self.misheard < self.utterances


class Learnt(_ReportPart):
    """What the calibration was fitted on; `roc_auc` and `calibration_error` are cross-fitted."""

    utterances: int
    misheard: int
    cases: int = 0
    recordings: int
    splits: tuple[str, ...]
    regularisation: float
    roc_auc: float
    calibration_error: float


class Evaluation(_ReportPart):
    """The figures for one meaning of "misheard": a WER above `error_wer`."""

    error_wer: float
    threshold: float
    learnt: Learnt | None  # None: not calibrated, and `reason` says why
    reason: str
    slices: list[SliceReport]
    notes: list[str]


class DetectorReport(_ReportPart):
    """`mondegreen detector evaluate`: the configured error_wer first, then the others."""

    model: str
    normalizer: str
    evaluations: list[Evaluation]


def report(
    tested: Sequence[ReferencedUtterance],
    calibrations: Mapping[float, Calibration | CaseError],
    params: DetectorParams,
    normalizer: NormalizerName,
    seed: int,
) -> DetectorReport:
    """Measures every calibration on the test set; where there is none, the uncalibrated rules.

    Args:
        tested: examples of the test split.
        calibrations: by error_wer: the calibration, or why there is none.
        params: threshold and lexicon are read.
        normalizer: that the errors were counted under.
        seed: of the bootstrap.

    Raises:
        CaseError: no test utterance has a human reference.
    """
    if strangers := {item.scored.utterance.split for item in tested} - {"test"}:
        raise ValueError(f"Examples of {sorted(strangers)} measure nothing.")
    if not tested:
        raise CaseError("No utterance of the test set has a human reference.", "Write some, then run `dvc repro`.")
    return DetectorReport(
        model=model_of([item.scored.hypothesis for item in tested]),
        normalizer=normalizer_id(normalizer),
        evaluations=[
            _evaluate(tested, found, params.model_copy(update={"error_wer": error_wer}), seed)
            for error_wer, found in calibrations.items()
        ],
    )


def _evaluate(
    tested: Sequence[ReferencedUtterance], found: Calibration | CaseError, params: DetectorParams, seed: int
) -> Evaluation:
    reason = " ".join((found.problem, found.next_step)) if isinstance(found, CaseError) else ""
    calibration = found if isinstance(found, Calibration) else None
    detector = ErrorDetector(params, calibration, reason)
    slices = [_slice(name, members, detector, seed) for name, members in _slices(tested).items()]
    learnt = Learnt.model_validate(calibration, from_attributes=True) if calibration else None
    return Evaluation(
        error_wer=params.error_wer,
        threshold=params.threshold,
        learnt=learnt,
        reason=reason,
        slices=slices,
        notes=[note for part in slices for note in _notes(part)],
    )


def _slices(tested: Sequence[ReferencedUtterance]) -> dict[str, list[ReferencedUtterance]]:
    found = {
        name: [item for item in tested if item.scored.utterance.domain == domain]
        for domain, name in _SLICE_OF.items()
        if any(item.scored.utterance.domain == domain for item in tested)
    }
    return found | ({"all": list(tested)} if len(found) > 1 else {})


def _slice(name: str, members: Sequence[ReferencedUtterance], detector: ErrorDetector, seed: int) -> SliceReport:
    limit = detector.params.threshold
    misheard = np.array([item.misheard(detector.params.error_wer) for item in members], dtype=bool)
    detections = [detector.detect_measured(item.scored.hypothesis, item.acoustics) for item in members]
    recordings = [item.recording for item in members]
    own = np.array([item.error_score for item in detections])
    scored: dict[str, Scores] = {
        "detector": own,
        "confidence": np.array([1 - item.scored.hypothesis.confidence for item in members]),
        "everything": np.ones(len(members)),
    }
    return SliceReport(
        name=name,
        utterances=len(members),
        recordings=len(set(recordings)),
        misheard=int(misheard.sum()),
        scorers=[
            Scorer(
                name=scorer,
                flagged=int((scores >= limit).sum()),
                measures=measures(misheard, scores, recordings, limit, seed),
            )
            for scorer, scores in scored.items()
        ],
        reached=_reached(detector.calibration.operating if detector.calibration else (), misheard, own),
        reliability=reliability(misheard, own),
        types=_types(detections, misheard),
    )


def _reached(chosen: Sequence[OperatingThreshold], misheard: Labels, scores: Scores) -> list[Reached]:
    rows = []
    for point in chosen:
        flagged = scores >= point.threshold if point.threshold is not None else np.zeros(len(scores), bool)
        hits = int((flagged & misheard).sum())
        rows.append(
            Reached(
                **point.model_dump(),
                precision=round(hits / int(flagged.sum()), 6) if flagged.any() else None,
                recall=round(hits / int(misheard.sum()), 6) if point.threshold is not None and misheard.any() else None,
            )
        )
    return rows


def _types(detections: Sequence[Detection], misheard: Labels) -> list[TypeCount]:
    rows = []
    for kind in ERROR_TYPES:
        given = np.array([kind in item.error_types for item in detections])
        rows.append(TypeCount(error_type=kind, count=int(given.sum()), misheard=int((given & misheard).sum())))
    return rows


def _notes(part: SliceReport) -> list[str]:
    """What keeps a reader from trusting the figures of a slice."""
    notes = []
    if not part.both_classes:
        which = "all" if part.misheard else "none"
        notes.append(
            f"{part.name}: {which} of the {part.utterances} were misheard, so no score is better than another."
        )
    elif (rarer := min(part.misheard, part.utterances - part.misheard)) < FEW_OF_A_CLASS:
        which = "misheard" if part.misheard == rarer else "heard rightly"
        notes.append(
            f"{part.name}: only {rarer} of the {part.utterances} were {which}; the figures hang on single transcripts."
        )
    if part.recordings < FEW_RECORDINGS:
        notes.append(f"{part.name}: {part.recordings} recordings; intervals of so few are too narrow.")
    wide = [
        name
        for name, found in part.scorers[0].measures.items()
        if found.low is not None and found.high is not None and found.high - found.low > WIDE
    ]
    if wide:
        notes.append(
            f"{part.name}: intervals wider than {WIDE:g}: {', '.join(wide)}. More test data would narrow them."
        )
    return notes
