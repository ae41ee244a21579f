"""When a fine-tuning round starts: the one rule, from counts and thresholds to a decision with its reasons.

A round starts when there are enough new error cases and enough of them are corrected, or, with
`trigger_on_error_rate`, when the error rate of the last hours is high and was measured on enough inferences. How many
error cases are enough may be learnt from what the rounds before gained. That threshold has no state of its own: it is
folded from the gains of the completed rounds, so nothing can disagree.
"""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from mondegreen.cases.records import AUDIT
from mondegreen.config import GuideConfig, TriggerParams
from mondegreen.db import reading
from mondegreen.scoring.wording import many, percent, points, unsigned
from mondegreen.tables import CaseRow, InferenceRow, JobRow


class FinetuningConfig(TriggerParams, GuideConfig):
    """The section `trigger` of params.yaml."""

    section = "trigger"


class _TriggerRecord(BaseModel):
    model_config = ConfigDict(frozen=True)


class CaseCounts(_TriggerRecord):
    """What the rule looks at. A case is new until a round that was completed has trained on it."""

    total_error_cases: int
    corrected_cases: int
    by_method: dict[str, int]  # corrected cases by whose correction counts: manual, import, llm
    new_error_cases: int
    new_corrected_cases: int
    inferences: int  # in the window, and a detector looked at them
    errors: int  # of these
    unmeasured: int  # in the window, but no calibrated detector looked
    uncalibrated: int = 0  # of these, scored by one that does not know the model
    from_future: int  # dated after `at`: in no window
    at: datetime

    @property
    def error_rate(self) -> float | None:
        """Errors for each inference, None when nothing was measured."""
        return self.errors / self.inferences if self.inferences else None


class Condition(_TriggerRecord):
    """A value against its threshold. `text` is a sentence that names both."""

    name: str
    value: float | None  # None: nothing to measure it on
    threshold: float
    met: bool
    text: str


class TriggerDecision(_TriggerRecord):
    """Whether a round should start, and everything that was compared."""

    should_trigger: bool
    by_cases: bool
    by_error_rate: bool
    conditions: tuple[Condition, ...]
    notes: tuple[str, ...]
    counts: CaseCounts

    @property
    def reasons(self) -> list[str]:
        """Every condition as a sentence, those not met as well, and what else should be known."""
        return [*(condition.text for condition in self.conditions), *self.notes]

    @property
    def metrics(self) -> dict[str, Any]:
        """The counts and the error rate as plain data."""
        return self.counts.model_dump(mode="json") | {"error_rate": self.counts.error_rate}


class EndedRound(_TriggerRecord):
    """The round that ended last."""

    job: int
    state: str
    at: datetime
    reason: str
    new_data: bool  # it trained on cases that no round before it had


class Rest(_TriggerRecord):
    """`watch` asks for no round before `until`. A person may, at any time."""

    until: datetime
    text: str


class ThresholdStep(_TriggerRecord):
    """What one completed round did to the number of error cases that the next one needs."""

    job: int
    gain: float | None  # WER before minus after, absolute; None when nothing was measured
    before: int  # error cases
    after: int
    text: str


def apply_rule(counts: CaseCounts, config: TriggerParams, min_error_cases: int) -> TriggerDecision:
    """The rule.

    Args:
        min_error_cases: the threshold of the next round, which differs from the config's when it is adaptive.
    """
    new, right, heard = counts.new_error_cases, counts.new_corrected_cases, counts.inferences
    cases = _at_least("min_error_cases", many(new, "new error case"), new, min_error_cases)
    corrected = _at_least("min_corrected_cases", f"{right:,} of them corrected", right, config.min_corrected_cases)
    measured = _at_least("min_inferences", f"{many(heard, 'inference')} measured", heard, config.min_inferences)
    rate = _error_rate(counts, config)
    by_cases = cases.met and corrected.met
    by_error_rate = config.trigger_on_error_rate and rate.met and measured.met
    return TriggerDecision(
        should_trigger=by_cases or by_error_rate,
        by_cases=by_cases,
        by_error_rate=by_error_rate,
        conditions=(cases, corrected, rate, measured),
        notes=tuple(_notes(counts, config)),
        counts=counts,
    )


def rest(decision: TriggerDecision, last: EndedRound | None, config: TriggerParams, now: datetime) -> Rest | None:
    """Why `watch` should not ask again yet although the rule says so.

    The window still holds what was seen before the last round; the cases of a round that failed or was rejected are
    still new, and so are those that no snapshot can use. Without a rest every turn would ask for the same round again.
    """
    if last is None or not decision.should_trigger or (last.new_data and decision.by_cases):
        return None
    until = last.at + timedelta(hours=config.window_hours)
    if not last.at <= now < until:
        return None
    told = last.reason and last.state != "completed"
    why = f" ({last.reason.splitlines()[0]})" if told else ""
    return Rest(
        until=until,
        text=f"Job {last.job} ended as {last.state} at {last.at:%Y-%m-%d %H:%M} UTC{why}: watch asks again from "
        f"{until:%Y-%m-%d %H:%M} UTC on; `mondegreen trigger` asks now.",
    )


def adapt(config: TriggerParams, gains: Iterable[tuple[int, float | None]]) -> list[ThresholdStep]:
    """The history of the threshold.

    Args:
        gains: job and gain of every completed round, oldest first.

    Returns:
        One step a round; none when the threshold is not adaptive.
    """
    if not config.adaptive:
        return []
    exact = float(config.min_error_cases)  # rounded only to be shown: a small factor must not get stuck
    steps = []
    for job, gain in gains:
        moved, text = _moved(config, exact, gain)
        steps.append(ThresholdStep(job=job, gain=gain, before=round(exact), after=round(moved), text=text))
        exact = moved
    return steps


def needed_cases(config: TriggerParams, steps: list[ThresholdStep]) -> int:
    """The threshold of the next round."""
    return steps[-1].after if steps else config.min_error_cases


def count(engine: Engine, window_hours: float, now: datetime) -> CaseCounts:
    """Counts cases and the inferences of the last hours, at one moment of the database."""
    with reading(engine) as session:
        trained = trained_version(session)
        total = new = new_corrected = 0
        by_method: dict[str, int] = {}
        # The index holds both columns; there are as many groups as snapshots and ways to correct.
        columns = (CaseRow.label_method, CaseRow.dataset_version)
        failed = select(*columns, func.count()).where(CaseRow.source != AUDIT).group_by(*columns)
        for method, version, cases in session.execute(failed):
            unused = version is None or version > trained
            total += cases
            if method:
                by_method[method] = by_method.get(method, 0) + cases
            new += cases if unused else 0
            new_corrected += cases if unused and method else 0
        window = (InferenceRow.at >= now - timedelta(hours=window_hours), InferenceRow.at <= now)
        kinds = (InferenceRow.is_error, InferenceRow.error_score.is_not(None))
        found = select(*kinds, func.count()).where(*window).group_by(*kinds)
        seen = Counter({(wrong, scored): count for wrong, scored, count in session.execute(found)})
        future = session.scalar(select(func.count()).where(InferenceRow.at > now)) or 0
    return CaseCounts(
        total_error_cases=total,
        corrected_cases=sum(by_method.values()),
        by_method=by_method,
        new_error_cases=new,
        new_corrected_cases=new_corrected,
        inferences=sum(count for (wrong, _), count in seen.items() if wrong is not None),
        errors=seen[True, True] + seen[True, False],
        unmeasured=seen[None, True] + seen[None, False],
        uncalibrated=seen[None, True],
        from_future=future,
        at=now,
    )


def trained_version(session: Session) -> int:
    """The dataset version that the completed rounds have reached, 0 before the first.

    A round that failed used nothing up: its cases are still new.
    """
    return session.scalar(select(func.max(JobRow.dataset_version)).where(JobRow.state == "completed")) or 0


def _at_least(name: str, found: str, value: int, threshold: int) -> Condition:
    """The condition; `found` is the value with what it counts, in words."""
    met = value >= threshold
    text = f"{found}, at least {threshold:,} are needed: {'met' if met else 'not met'}."
    return Condition(name=name, value=value, threshold=threshold, met=met, text=text)


def _error_rate(counts: CaseCounts, config: TriggerParams) -> Condition:
    value, threshold = counts.error_rate, config.error_rate_threshold
    met = value is not None and value >= threshold
    window = f"over the last {config.window_hours:g} h"
    if value is None:
        found = f"No error rate {window} (no inference was looked at by a calibrated detector)"
    else:
        found = f"Error rate {window} {percent(value)} ({counts.errors:,} of {counts.inferences:,} inferences)"
    end = "not looked at, trigger_on_error_rate is off"
    if config.trigger_on_error_rate:
        end = "met" if met else "not met"
    return Condition(
        name="error_rate_threshold",
        value=value,
        threshold=threshold,
        met=met,
        text=f"{found}, at least {percent(threshold)} is needed: {end}.",
    )


def _notes(counts: CaseCounts, config: TriggerParams) -> list[str]:
    notes = []
    if counts.from_future:
        notes.append(
            f"Not counted: {many(counts.from_future, 'inference')} dated after {counts.at:%Y-%m-%d %H:%M:%S} UTC: "
            "check the clocks of this machine and of those that transcribe."
        )
    if counts.unmeasured:
        notes.append(
            f"Not counted: {many(counts.unmeasured, 'inference')} of the last {config.window_hours:g} h that no "
            "calibrated detector looked at" + (" (`mondegreen detector calibrate`)." if counts.uncalibrated else ".")
        )
    return notes


def _moved(config: TriggerParams, exact: float, gain: float | None) -> tuple[float, str]:
    """The threshold after a round with this gain, and why."""
    low, high = config.adaptive_bounds
    small, large = config.adaptive_small_gain, config.adaptive_large_gain
    if gain is None:
        return exact, "no gain was measured: as before"
    shown = f"gain {points(gain)}"
    if gain < small:
        return min(exact * config.adaptive_factor, high), f"{shown}, under {unsigned(small)}: more cases"
    if gain > large:
        return max(exact / config.adaptive_factor, low), f"{shown}, over {unsigned(large)}: fewer cases"
    return exact, f"{shown}, between {unsigned(small)} and {unsigned(large)}: as before"
