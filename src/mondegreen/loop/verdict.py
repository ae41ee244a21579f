"""Is the candidate better than the baseline on the test set, and has it forgotten nothing?

`pass`: significantly better (sign-flip over clusters), by at least the floor, and non-inferior on retention.
`fail`: shown to be worse, not better by the floor, or to have forgotten. Anything else is `inconclusive`: no pass.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from mondegreen.config import Params
from mondegreen.records import Domain, Hypothesis, Outcome, SliceMetrics, Utterance
from mondegreen.scoring.comparison import Comparison, Unit, compare
from mondegreen.scoring.evidence import Evidence, gather
from mondegreen.scoring.metrics import model_of, score, slice_metrics
from mondegreen.scoring.noninferiority import judge_suite, regression_outcome
from mondegreen.scoring.normalizer import normalizer_id
from mondegreen.scoring.wording import claim, detectable, notes, numbers, points, sentence, too_small

__all__ = [
    "Interval",
    "Retention",
    "SegmentTest",
    "SideBySide",
    "Verdict",
    "decide",
    "judge_suite",
    "regression_outcome",
]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Interval(_Model):
    """Two-sided block-bootstrap percentile interval of the WER improvement, absolute."""

    low: float
    high: float
    level: float


class SegmentTest(_Model):
    """MAPSSWE over whole utterances, one-sided; reported beside the decision. None when nothing varies."""

    segments: int
    mean_difference: float  # errors an utterance
    z: float | None
    p_value: float | None


class SideBySide(_Model):
    """One slice under both models."""

    baseline: SliceMetrics
    candidate: SliceMetrics


class Retention(_Model):
    """Non-inferiority on what the model knew before. Losses are candidate WER - baseline WER, absolute."""

    outcome: Outcome
    reason: str
    margin: float
    unit: Unit | None = None
    clusters: int = 0
    words: int = 0
    loss: float | None = None
    lower_bound: float | None = None  # one-sided, each at `level`
    upper_bound: float | None = None
    level: float | None = None


class Verdict(_Model):
    """build/validate/verdict.json. Rates are fractions (0.01 is one point); improvement = baseline - candidate."""

    outcome: Outcome
    passed: bool
    reason: str
    claim: str  # whom the numbers speak for
    unit: Unit
    clusters: int
    utterances: int
    words: int
    speakers: int
    without_reference: int
    baseline: SliceMetrics | None
    candidate: SliceMetrics | None
    slices: dict[str, SideBySide]  # test, test/clean, …, retention/test
    wer_improvement: float | None
    min_wer_improvement: float
    interval: Interval | None
    p_value: float | None  # sign-flip, one-sided
    alpha: float
    mapsswe: SegmentTest | None
    minimum_detectable_effect: float | None  # at alpha, power 0.8
    retention: Retention
    notes: tuple[str, ...]
    baseline_model: str
    candidate_model: str
    normalizer: str
    reference_digest: str  # sha256 over the IDs and references of the test set

    def numbers(self) -> dict[str, float]:
        """What is known of the numbers that runs are compared by."""
        found: dict[str, float | None] = {
            "wer_improvement": self.wer_improvement,
            "interval_low": self.interval.low if self.interval else None,
            "interval_high": self.interval.high if self.interval else None,
            "p_value": self.p_value,
            "mapsswe_p_value": self.mapsswe.p_value if self.mapsswe else None,
            "minimum_detectable_effect": self.minimum_detectable_effect,
            "retention_loss": self.retention.loss,
            "retention_upper_bound": self.retention.upper_bound,
            "passed": float(self.passed),
        }
        return {name: value for name, value in found.items() if value is not None}


def decide(
    utterances: Sequence[Utterance], baseline: Sequence[Hypothesis], candidate: Sequence[Hypothesis], params: Params
) -> Verdict:
    """The verdict on target/test, with retention/test as the guard against forgetting.

    Args:
        utterances: the whole manifest; every split must be complete, but only test judges.
        baseline: one hypothesis for each utterance.
        candidate: the same of the candidate.
        params: `validate`, `score` and `seed` are read.

    Raises:
        UsageError: IDs are missing, double or strange, or one side holds hypotheses of several models.
    """
    everything = compare(utterances, baseline, candidate, params.validate_, params.score.normalizer)
    test = compare_set(utterances, baseline, candidate, "target", params)
    guard = compare_set(utterances, baseline, candidate, "retention", params)
    evidence = gather(test, params) if test.clusters else None
    retention = _judge_retention(guard, params)
    fails, doubts = _judge_test(test, evidence, params)
    fails += [retention.reason] * (retention.outcome == "fail")
    doubts += [retention.reason] * (retention.outcome == "inconclusive")
    outcome: Outcome = "fail" if fails else "inconclusive" if doubts else "pass"
    figures = [numbers(test, evidence)] if evidence else []
    reasons = fails or doubts or [retention.reason, claim(test)]
    return Verdict(
        outcome=outcome,
        passed=outcome == "pass",
        reason=sentence([*figures, *reasons]),
        claim=claim(test),
        slices=_slices(everything),
        retention=retention,
        notes=notes(test, guard),
        baseline_model=model_of(baseline),
        candidate_model=model_of(candidate),
        normalizer=normalizer_id(params.score.normalizer),
        min_wer_improvement=params.validate_.min_wer_improvement,
        alpha=params.validate_.alpha,
        **_set_fields(test),
        **_evidence_fields(evidence),
    )


def compare_set(
    utterances: Sequence[Utterance],
    baseline: Sequence[Hypothesis],
    candidate: Sequence[Hypothesis],
    domain: Domain,
    params: Params,
) -> Comparison:
    """Both models on the test split of one domain; UsageError like `decide`."""
    chosen = [utterance for utterance in utterances if (utterance.domain, utterance.split) == (domain, "test")]
    ids = {utterance.id for utterance in chosen}
    old = [hypothesis for hypothesis in baseline if hypothesis.id in ids]
    new = [hypothesis for hypothesis in candidate if hypothesis.id in ids]
    return compare(chosen, old, new, params.validate_, params.score.normalizer)


def _judge_test(test: Comparison, evidence: Evidence | None, params: Params) -> tuple[list[str], list[str]]:
    """What shuts the gate: (proofs against the candidate, what keeps it from being proven)."""
    rules = params.validate_
    if evidence is None:
        return [], ["no utterance of the test set has a reference, so nothing can be judged"]
    small = too_small(test, rules.min_clusters, "test set")
    if (words := int(test.words.sum())) < rules.min_words:
        small.append(f"the test set has {words} reference words, {rules.min_words} are needed")
    if unfair := test.unheard_by_baseline_only():
        small.append(f"the baseline failed on {len(unfair)} test utterance(s) that the candidate transcribed")
    if small:
        return [], [*small, detectable(evidence)]
    high, floor = evidence.interval[1], rules.min_wer_improvement
    if evidence.p_worse <= rules.alpha:
        return [f"the candidate is significantly worse (p = {evidence.p_worse:.2g} for worse)"], []
    # A floor of zero still asks for an improvement: equal is not better.
    if high < floor or high <= 0:
        return ["the interval holds no improvement" + (f" of {points(floor)} or more" if floor else "")], []
    if evidence.p_better > rules.alpha:
        return [], [f"not significant at {rules.alpha:g}", detectable(evidence)]
    if evidence.improvement < floor:
        return [], [f"the improvement is below the floor of {points(floor)}, which the interval still reaches"]
    return [], []


def _judge_retention(guard: Comparison, params: Params) -> Retention:
    rules = params.validate_
    if not guard.clusters:
        reason = "forgetting cannot be judged: no retention test utterance has a reference"
        return Retention(outcome="inconclusive", reason=reason, margin=rules.retention_margin)
    evidence = gather(guard, params)
    outcome, reason = regression_outcome(guard, evidence, rules.retention_margin, rules.min_clusters)
    small = too_small(guard, rules.min_clusters, "retention test set")
    # A suite shuts on what was observed; here, to say that the model forgot is a finding and needs the lower bound.
    if outcome == "fail" and evidence.loss_bounds[0] <= rules.retention_margin:
        outcome, reason = "inconclusive", f"{reason}, though not significantly more"
    # A suite is a list of cases to keep; this is a sample, and a small one says nothing of the rest.
    if small:
        outcome, reason = "inconclusive", small[0]
    return Retention(
        outcome=outcome,
        reason=f"retention: {reason}",
        margin=rules.retention_margin,
        unit=guard.unit,
        clusters=guard.clusters,
        words=int(guard.words.sum()),
        loss=evidence.loss,
        lower_bound=evidence.loss_bounds[0],
        upper_bound=evidence.loss_bounds[1],
        level=evidence.level,
    )


def _set_fields(test: Comparison) -> dict[str, Any]:
    return {
        "unit": test.unit,
        "clusters": test.clusters,
        "utterances": len(test.baseline),
        "words": int(test.words.sum()),
        "speakers": test.speakers,
        "without_reference": test.without_reference,
        "baseline": score(test.baseline) if test.clusters else None,
        "candidate": score(test.candidate) if test.clusters else None,
        "reference_digest": _reference_digest(pair.utterance for pair in test.baseline),
    }


def _evidence_fields(evidence: Evidence | None) -> dict[str, Any]:
    if evidence is None:
        return dict.fromkeys(("wer_improvement", "interval", "p_value", "mapsswe", "minimum_detectable_effect"))
    low, high = evidence.interval
    return {
        "wer_improvement": evidence.improvement,
        "interval": Interval(low=low, high=high, level=evidence.level),
        "p_value": evidence.p_better,
        "mapsswe": SegmentTest.model_validate(vars(evidence.segments)),
        "minimum_detectable_effect": evidence.minimum_detectable_effect,
    }


def _slices(everything: Comparison) -> dict[str, SideBySide]:
    old, new = slice_metrics(everything.baseline), slice_metrics(everything.candidate)
    names = [name for name in old if name.split("/")[0] == "test" or name == "retention/test"]
    return {name: SideBySide(baseline=old[name], candidate=new[name]) for name in names}


def _reference_digest(utterances: Iterable[Utterance]) -> str:
    lines = sorted(f"{utterance.id}\t{utterance.reference}\n" for utterance in utterances)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
