"""Judging one suite: against the baseline's own hypotheses, against a stored baseline, or both; and its guards.

A suite passes when everything that could be asked of it passed. What could not be asked shuts the gate.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mondegreen.config import Params
from mondegreen.loop.regression.behaviours import Heard, Violations, violations
from mondegreen.loop.regression.guards import check_guards
from mondegreen.loop.regression.plans import Plan
from mondegreen.records import Hypothesis, Outcome, SliceMetrics, SuiteResult
from mondegreen.scoring.metrics import join, score
from mondegreen.scoring.noninferiority import judge_suite
from mondegreen.scoring.normalizer import normalizer_id
from mondegreen.scoring.wording import points, sentence, signed

_RANK: dict[Outcome, int] = {"pass": 0, "inconclusive": 1, "fail": 2}
_SOME = 5  # recordings that a sentence names
_DIGITS = 6  # of the rates that the index keeps
_EPSILON = 10.0**-_DIGITS


@dataclass
class _Findings:
    """What was found of one suite, piece by piece."""

    parts: list[tuple[Outcome, str]] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    baseline: SliceMetrics | None = None
    candidate: SliceMetrics | None = None
    loss: float = 0.0  # the largest that was observed

    def add(self, outcome: Outcome, reason: str) -> None:
        self.parts.append((outcome, reason))

    @property
    def outcome(self) -> Outcome:
        """The worst; where nothing was found, nothing was shown."""
        return max((outcome for outcome, _ in self.parts), key=lambda outcome: _RANK[outcome], default="inconclusive")

    @property
    def reason(self) -> str:
        """Everything that shut the gate, or why it is open."""
        shut = [reason for outcome, reason in self.parts if outcome != "pass"]
        return sentence(shut or [reason for _, reason in self.parts])


def judge(plan: Plan, before: Heard | None, after: Heard, params: Params) -> SuiteResult:
    """The result of a suite.

    Args:
        before: the baseline's hypotheses by ID; without them the stored baseline is compared with.
        after: the candidate's.
        params: validate, score, regress and seed are read.
    """
    found, suite = _Findings(), plan.suite
    if plan.suite.behaviour is not None:
        _judge_behaviour(plan, before, after, params, found)
    else:
        _judge_rates(plan, before, after, params, found)
    limit = params.regress.critical_degradation_threshold
    critical = suite.type == "critical" and found.loss > limit + _EPSILON
    if critical and params.regress.fail_on_critical_degradation:
        found.add("fail", f"critical: WER rose by {points(found.loss)}, no critical suite may lose {points(limit)}")
    return SuiteResult(
        name=suite.name,
        kind=suite.type,
        outcome=found.outcome,
        reason=found.reason,
        baseline=found.baseline,
        candidate=found.candidate,
        details=found.details,
        severity=suite.severity,
        owner=suite.owner,
        data=plan.digest,
        critical=critical,
    )


def stored_baseline_fault(plan: Plan, params: Params) -> str:
    """Why the stored baseline cannot be compared with, "" when it can."""
    suite = plan.suite
    if not suite.has_baseline:
        return "no baseline is stored"
    if suite.baseline_data != plan.digest:
        return "the suite changed since its stored baseline was measured"
    if suite.baseline_normalizer != normalizer_id(params.score.normalizer):
        return f"the stored baseline was counted under the normaliser {suite.baseline_normalizer or 'nobody named'}"
    return ""


def _judge_rates(plan: Plan, before: Heard | None, after: Heard, params: Params, found: _Findings) -> None:
    suite, rows, normalizer = plan.suite, plan.data.utterances, params.score.normalizer
    heard = [after[row.id] for row in rows]
    found.candidate = score(join(rows, heard, normalizer).scored)
    if before is not None:
        pair = judge_suite(
            suite.name,
            suite.type,
            rows,
            [before[row.id] for row in rows],
            heard,
            margin=suite.margin,
            critical_degradation=math.inf,  # asked once, of every loss that was observed
            params=params,
        )
        found.baseline, found.details, found.loss = pair.baseline, dict(pair.details), pair.details["loss"]
        found.add(pair.outcome, pair.reason[0].lower() + pair.reason[1:].rstrip("."))
    _judge_stored_rates(plan, before is not None, params, found)
    _name_unheard(heard, found)
    guards = check_guards(plan.data.guards, before, after, normalizer)
    found.details["guards"] = {
        "checked": len(plan.data.guards), "broken": list(guards.broken), "not_met_by_baseline": list(guards.excused)
    }  # fmt: skip
    if guards.broken:
        found.add("fail", f"{len(guards.broken)} guard(s) broken: {_some(guards.broken)}")


def _judge_stored_rates(plan: Plan, paired: bool, params: Params, found: _Findings) -> None:
    """The stored numbers; beside a pair they keep small losses of many rounds from adding up."""
    suite, fault = plan.suite, stored_baseline_fault(plan, params)
    if fault:
        _note_fault(plan, fault, paired, found)
        return
    assert found.candidate is not None
    stored = {"wer": suite.baseline_wer, "cer": suite.baseline_cer}
    losses = {
        name: round(getattr(found.candidate, name).rate - value, _DIGITS) + 0.0  # no -0.0
        for name, value in stored.items()
        if value is not None
    }
    found.details["stored_baseline"] = stored | {"version": suite.baseline_version, "losses": losses}
    found.loss = max(found.loss, losses["wer"])
    of = f"the stored baseline{f' of version {suite.baseline_version}' if suite.baseline_version else ''}"
    for name, loss in losses.items():
        if loss > suite.margin + _EPSILON:
            found.add("fail", f"{name.upper()} is {points(loss)} above {of}, {points(suite.margin)} are allowed")
        else:
            found.add("pass", f"{name.upper()} against {of}: {signed(loss)}, {points(suite.margin)} are allowed")


def _judge_behaviour(plan: Plan, before: Heard | None, after: Heard, params: Params, found: _Findings) -> None:
    suite, normalizer = plan.suite, params.score.normalizer
    assert suite.behaviour is not None
    mine = violations(suite.behaviour, plan.variants, after, normalizer)
    _note_violations(mine, found)
    _name_unheard(list(after.values()), found)
    limits: dict[str, float] = {}
    if (bound := suite.behaviour.max_rate) is not None:
        found.details["bound"] = bound
        _compare_rate(mine, {f"{bound:.1%} are allowed": bound}, found)
        return
    margin = f"margin {suite.margin:.1%}"
    if before is not None:
        rate = violations(suite.behaviour, plan.variants, before, normalizer).rate
        found.details["baseline_violation_rate"] = rate
        limits[f"the baseline {rate:.1%}, {margin}"] = rate + suite.margin
    if fault := stored_baseline_fault(plan, params):
        _note_fault(plan, fault, before is not None, found)
    elif (stored := suite.baseline_violation_rate) is not None:
        found.details["stored_baseline"] = {"violation_rate": stored, "version": suite.baseline_version}
        limits[f"stored is {stored:.1%}, {margin}"] = stored + suite.margin
    if limits:
        _compare_rate(mine, limits, found)


def _note_violations(mine: Violations, found: _Findings) -> None:
    found.details |= {"violations": mine.count, "trials": mine.trials, "violation_rate": mine.rate}
    found.details["examples"] = list(mine.examples[:20])


def _compare_rate(mine: Violations, limits: Mapping[str, float], found: _Findings) -> None:
    """The rate against every limit, each with its words."""
    against = "; ".join(limits)
    reason = f"the rule was broken in {mine.count} of {mine.trials} trials ({mine.rate:.1%}; {against})"
    if min(limits.values()) >= 1:
        reason += ", which no model can exceed: this suite shows nothing until its tolerance is raised"
    found.add("fail" if mine.rate > min(limits.values()) + _EPSILON else "pass", reason)


def _note_fault(plan: Plan, fault: str, paired: bool, found: _Findings) -> None:
    """A stored baseline that does not hold: with the baseline model heard anew it is only noted."""
    if paired:
        if plan.suite.has_baseline:
            found.details["stored_baseline"] = {"not_compared": f"{fault}: the baseline model was scored again"}
        return
    found.add(
        "fail",
        f"{fault}: run with a baseline model, or measure one: "
        f"`mondegreen regression baseline {plan.suite.name} --model MODEL`",
    )


def _name_unheard(heard: list[Hypothesis], found: _Findings) -> None:
    """A recording without a transcript counts as fully wrong, and says so."""
    unheard = [f"{row.id} ({row.error})" for row in heard if row.error]
    if unheard:
        found.details["candidate_errors_in"] = [row.id for row in heard if row.error]
        found.add("inconclusive", f"no transcript of {len(unheard)} recording(s): {_some(unheard)}")


def _some(items: list[str] | tuple[str, ...]) -> str:
    return ", ".join(items[:_SOME]) + (", …" if len(items) > _SOME else "")
