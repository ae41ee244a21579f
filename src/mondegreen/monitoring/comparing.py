"""Two versions on what the service logged: error score, disagreement and latency, each with its evidence.

What two made of one recording is written down as a shadow pair, in numbers.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from sqlalchemy import ColumnElement, Engine, case, select
from sqlalchemy.orm import Session

from mondegreen.config import DeployParams, Params
from mondegreen.db import reading, transaction, upserting
from mondegreen.monitoring.evidence import (
    Indices,
    Scales,
    evidence,
    least_loss,
    loss,
    matched,
    one_after_the_other,
    reach,
    side_by_side,
    slowdown,
)
from mondegreen.monitoring.records import MonitorRecord
from mondegreen.monitoring.statistics import Values
from mondegreen.monitoring.tracker import inference_of
from mondegreen.registry.canary import Canary, unit_of
from mondegreen.scoring.wer import count_words, read_pair
from mondegreen.scoring.wording import confidence, percent, points, unsigned
from mondegreen.tables import InferenceRow, ShadowPairRow

if TYPE_CHECKING:
    from mondegreen.detector.detector import ErrorDetector
    from mondegreen.speech.transcriber import Transcription

Metric = Literal["shadow error score", "shadow disagreement", "error score", "latency"]
_MOST = 50_000  # inferences of a former champion that are looked at, the newest ones
_ROWS = 10_000  # read at once
Flags = npt.NDArray[np.bool_]
_LOSSES, _SLOWDOWNS = (-0.999, 1.0), (-0.9, 9.0)  # between which a lower bound is looked for
NOT_ALIKE = "Error scores do not compare: the detector is calibrated for one of the two only."
NOT_ALONE = "Work does not compare: of one of the two no recording is known to have been heard alone."


class ShadowPair(MonitorRecord):
    """A row of `shadow_pairs`; see there."""

    request_id: str
    at: datetime
    canary: int
    served: str
    shadow: str
    errors: int
    words: int
    served_score: float | None
    shadow_score: float | None
    comparable: bool


def pair_of(
    heard: "tuple[Transcription, Transcription]",
    detectors: "Sequence[ErrorDetector | None]",
    params: Params,
    **origin: object,
) -> ShadowPair:
    """Compares what the two heard.

    Args:
        heard: what was answered, and what the shadow heard, of the same recording, which is still there.
        detectors: of each of the two; None where there is none.
        origin: request_id, at, canary, and the versions' names: served, shadow.
    """
    counts = count_words(*read_pair(heard[0].text, heard[1].text, params.score.normalizer))
    both = [
        inference_of(one, detector, params.audio.max_duration) for one, detector in zip(heard, detectors, strict=True)
    ]
    return ShadowPair.model_validate(
        {
            "errors": counts.errors,
            "words": counts.reference_length,
            "served_score": both[0].error_score,
            "shadow_score": both[1].error_score,
            "comparable": both[0].calibrated == both[1].calibrated,
            **origin,
        }
    )


def log_pairs(engine: Engine, pairs: Sequence[ShadowPair]) -> None:
    """Writes pairs down, each once however often it is called with it. Raises CaseError."""
    if pairs:
        with transaction(engine) as session:
            adding = upserting(session, ShadowPairRow).on_conflict_do_nothing(index_elements=["request_id"])
            session.execute(adding, [pair.model_dump() for pair in pairs])


class VersionComparison(MonitorRecord):
    """One quantity under two versions, and whether the later one lost more than the margin."""

    metric: Metric
    before: float | None  # mean over the callers; of a disagreement None
    after: float
    lost: float  # absolute; of a latency relative
    lower_bound: float  # of what was lost: one-sided at `level`, valid however often somebody looks
    margin: float
    level: float
    evidence: float  # the largest there was so far
    needed: float
    reach: float  # what the evidence could be at most, with so many callers
    callers: int  # or recordings without one, of the later version
    inferences: int

    @property
    def worse(self) -> bool:
        """Whether a loss of more than the margin is proven."""
        return self.evidence >= self.needed

    @property
    def too_few(self) -> bool:
        """Whether nothing could be proven with so many callers, whatever they had heard."""
        return self.reach < self.needed

    @property
    def text(self) -> str:
        """Values, loss with its bound, what is allowed, and the evidence."""
        if self.metric == "latency":
            values = f"{self.before:.3g} -> {self.after:.3g} s for a second of audio"
            lost, least, allowed = map(percent, (self.lost, self.lower_bound, self.margin))
        else:
            values = percent(self.after) if self.before is None else f"{percent(self.before)} -> {percent(self.after)}"
            lost, least, allowed = points(self.lost), points(self.lower_bound), unsigned(self.margin)
        return (
            f"{self.metric} {values} over {self.callers:,} callers, a loss of {lost}, at least {least} "
            f"({confidence(self.level)}, at any time); {allowed} are allowed, evidence {self.evidence:.3g} of the "
            f"{self.needed:.4g} that would prove more"
        )


class Compared(NamedTuple):
    """What was compared, of how many inferences of the later version, and what cannot be."""

    comparisons: tuple[VersionComparison, ...]
    inferences: int
    notes: tuple[str, ...]


class _Rows(NamedTuple):
    """Inferences in the order in which they were logged; (num_inferences,) each."""

    units: Indices  # of the caller
    later: Flags  # of the later version
    score: Values  # the detector's; NaN where there is none
    calibrated: Flags
    work: Values  # seconds for a second of audio; NaN unless nothing else was in its batch

    def of(self, kept: Flags) -> "_Rows":
        return _Rows(
            self.units[kept], self.later[kept], self.score[kept], self.calibrated[kept], self.work[kept]
        )  # fmt: skip


class _Side(NamedTuple):
    """A quantity, for the callers of each side."""

    scales: Scales
    before: float | None
    after: float
    callers: int
    inferences: int


def compare_canary(engine: Engine, canary: Canary, params: DeployParams) -> Compared:
    """The challenger of a canary against the champion: callers side by side, and shadow pairs. Raises CaseError."""
    rows = _inferences(engine, InferenceRow.canary == canary.entry, InferenceRow.role == "canary")
    pairs = _shadow_pairs(engine, canary.entry)
    (alike, unlike), (timed, untimed) = _alike(rows), _alone(rows)
    scored = pairs[(pairs[:, 4] == 1) & ~np.isnan(pairs[:, 1:3]).any(axis=1)]
    sides: dict[Metric, _Side] = {
        "error score": _beside(alike, alike.score, canary.share),
        "latency": _beside(timed, timed.work, canary.share),
        "shadow error score": _itself(scored[:, 0], scored[:, 1], scored[:, 2]),
        "shadow disagreement": _itself(pairs[:, 0], None, pairs[:, 3]),
    }
    tests = 2 * (canary.share > 0) + 2 * (canary.shadow > 0)
    return Compared(_judge(sides, params, tests), int(rows.later.sum()) + len(pairs), unlike + untimed)


class Deployed(NamedTuple):
    """A version as the log knows it: a server writes the name, whatever it adds to the version's own list and LM."""

    served: str  # such as fine-tuned-stt/3
    digest: str  # as registered, of what was logged without a name

    @property
    def answers(self) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
        """Which inferences are its own: by the name, and by the digest."""
        nameless = InferenceRow.served.is_(None) & (InferenceRow.model_version == self.digest)
        return InferenceRow.served == self.served, nameless


def compare_deployment(engine: Engine, old: Deployed, new: Deployed, marker: int, params: DeployParams) -> Compared:
    """A champion against the one before it. Raises CaseError.

    Args:
        marker: the number of the newest inference when the new one was deployed.
    """
    number = InferenceRow.id
    with reading(engine) as session:
        first = max(_first_of_newest(session, own & (number <= marker)) for own in old.answers)
    by_old, by_new = (one | other for one, other in (old.answers, new.answers))
    wanted = (number >= first) & ((by_old & (number <= marker)) | (by_new & (number > marker)))
    rows = _inferences(engine, wanted, number > marker)
    (alike, unlike), (timed, untimed) = _alike(rows), _alone(rows)
    sides: dict[Metric, _Side] = {"error score": _before(alike, alike.score), "latency": _before(timed, timed.work)}
    return Compared(_judge(sides, params, len(sides)), int(rows.later.sum()), unlike + untimed)


def _first_of_newest(session: Session, own: ColumnElement[bool]) -> int:
    """The number of the oldest of the newest `_MOST`; 0 where there are not as many: nothing older need be read."""
    query = select(InferenceRow.id).where(own).order_by(InferenceRow.id.desc()).offset(_MOST - 1).limit(1)
    return session.scalar(query) or 0


def _inferences(engine: Engine, wanted: ColumnElement[bool], later: ColumnElement[bool]) -> _Rows:
    """In the order of their numbers, whatever the clock said.

    Args:
        later: of the later version.
    """
    row = InferenceRow
    work = case((row.batch == 1, row.latency / row.duration))
    columns = (row.caller, row.audio_sha256, later, row.error_score, row.is_error.is_not(None), work)
    query = select(*columns).where(wanted, row.duration > 0).order_by(row.id).execution_options(yield_per=_ROWS)
    units: dict[str, int] = {}
    found = [np.zeros((0, 5))]
    with reading(engine) as session:
        for part in session.execute(query).partitions(_ROWS):  # numbers of millions of rows, rather than the rows
            made = [(units.setdefault(unit_of(caller, audio), len(units)), *rest) for caller, audio, *rest in part]
            found.append(np.array(made, np.float64))
    table = np.concatenate(found).T
    return _Rows(table[0].astype(np.int64), table[1] == 1, table[2], table[3] == 1, table[4])


def _shadow_pairs(engine: Engine, entry: int) -> Values:
    """Caller, both error scores, disagreement (0 to 1), whether the scores compare: float64 (num_pairs, 5)."""
    pair = ShadowPairRow
    query = (
        select(InferenceRow.caller, InferenceRow.audio_sha256, pair.served_score, pair.shadow_score, pair.errors)
        .add_columns(pair.words, pair.comparable)
        .join(InferenceRow, InferenceRow.request_id == pair.request_id)
        .where(pair.canary == entry)
        .order_by(pair.id)
    )
    units: dict[str, int] = {}
    found = []
    with reading(engine) as session:
        for caller, audio, *scores, errors, words, comparable in session.execute(query):
            old, new = (np.nan if score is None else score for score in scores)
            unit = units.setdefault(unit_of(caller, audio), len(units))
            found.append((unit, old, new, min(1.0, errors / max(words, 1)), comparable))
    return np.array(found, np.float64).reshape(-1, 5)


def _alike(rows: _Rows) -> tuple[_Rows, tuple[str, ...]]:
    """Rows whose error scores compare: the detector is calibrated for both versions, or for neither."""
    scored = rows.of(~np.isnan(rows.score))
    known = [bool(scored.calibrated[scored.later == later].any()) for later in (False, True)]
    there = [bool((scored.later == later).any()) for later in (False, True)]
    if all(there) and known[0] != known[1]:
        return scored.of(np.zeros(len(scored.units), bool)), (NOT_ALIKE,)
    return (scored.of(scored.calibrated) if all(known) else scored), ()


def _alone(rows: _Rows) -> tuple[_Rows, tuple[str, ...]]:
    """Rows whose work compares: while others are heard, a recording takes longer with the same weights."""
    timed = rows.of(~np.isnan(rows.work))
    there = [bool((rows.later == later).any() and not (timed.later == later).any()) for later in (False, True)]
    return timed, (NOT_ALONE,) if any(there) else ()


def _beside(rows: _Rows, values: Values, share: float) -> _Side:
    """Whoever changed sides, which no draw makes anybody do, stays where he was first."""
    first = np.full(rows.units.max(initial=-1) + 1, -1)
    order = np.arange(len(rows.units))[::-1]
    first[rows.units[order]] = rows.later[order]
    kept = first[rows.units] == rows.later
    units, later, values = rows.units[kept], rows.later[kept], values[kept]
    scales = side_by_side(units, values, later, share) if 0 < share < 1 else []
    return _side(scales, units, values, later)


def _before(rows: _Rows, values: Values) -> _Side:
    """The former champion's newest callers are used first."""
    now, then = rows.later, np.flatnonzero(~rows.later)[::-1][:_MOST]
    scales = one_after_the_other((rows.units[then], values[then]), (rows.units[now], values[now]))
    return _side(scales, rows.units, values, rows.later)


def _side(scales: Scales, units: Indices, values: Values, later: Flags) -> _Side:
    sides = [(units[later == which], values[later == which]) for which in (False, True)]
    old, new = (_mean(*side) for side in sides)
    return _Side(scales, old, new, len(np.unique(sides[1][0])), int(later.sum()))


def _itself(callers: Values, before: Values | None, after: Values) -> _Side:
    units = callers.astype(np.int64)
    scales = matched(units, after, np.zeros_like(after) if before is None else before)
    old = None if before is None else _mean(units, before)
    return _Side(scales, old, _mean(units, after), len(np.unique(units)), len(units))


def _mean(units: Indices, values: Values) -> float:
    """Over the callers of their means."""
    counts = np.bincount(units)
    there = counts > 0
    return float((np.bincount(units, values)[there] / counts[there]).mean()) if len(units) else 0.0


def _judge(sides: Mapping[Metric, _Side], params: DeployParams, tests: int) -> tuple[VersionComparison, ...]:
    """Those that have a pair of callers; each has an equal share of alpha."""
    margins: dict[Metric, float] = {
        "latency": params.guard_latency_margin,
        "shadow disagreement": params.guard_disagreement,
    }
    alpha = params.guard_alpha / tests
    return tuple(
        _compared(metric, side, margins.get(metric, params.guard_error_margin), alpha)
        for metric, side in sides.items()
        if any(len(pairs.block) for pairs in side.scales)
    )


def _compared(metric: Metric, side: _Side, margin: float, alpha: float) -> VersionComparison:
    slower = metric == "latency"
    gain, bounds = (slowdown, _SLOWDOWNS) if slower else (loss, _LOSSES)
    before = side.before or 0.0
    ratio = side.after / before - 1 if before else 0.0
    return VersionComparison(
        metric=metric,
        before=side.before,
        after=side.after,
        lost=ratio if slower else side.after - before,
        lower_bound=least_loss(side.scales, gain, 1 / alpha, bounds),
        margin=margin,
        level=1 - alpha,
        evidence=evidence(side.scales, gain, margin),
        needed=1 / alpha,
        reach=reach(side.scales),
        callers=side.callers,
        inferences=side.inferences,
    )
