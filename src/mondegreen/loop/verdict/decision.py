"""Is the candidate better than the baseline on the test set, and has it forgotten nothing?

`pass`: significantly better (sign-flip over clusters), by at least the floor, non-inferior on retention, and within the
guards on single utterances. `fail`: shown to be worse, not better by the floor, to have forgotten, or outside a guard.
Anything else is `inconclusive`: no pass.

Better *and* not forgotten: a pass needs every one of its tests, each at the same alpha, so there is nothing to correct
for (an intersection-union test: Berger, "Multiparameter hypothesis testing and acceptance sampling", Technometrics
1982). Holm's correction belongs where any one of several tests may make a claim: which slices, metrics or suites got
better. Several candidates on one test set are such a case too, and there `Look.alpha` is what each may spend.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mondegreen.config import Params, ValidateParams
from mondegreen.loop.verdict.confrontation import Confrontation, compare_set, confront
from mondegreen.loop.verdict.record import (
    ClusterT,
    EffectSize,
    Interval,
    Look,
    Retention,
    SegmentTest,
    SideBySide,
    SignedRank,
    Verdict,
)
from mondegreen.loop.verdict.rules import degradation, is_finite, judge_retention, judge_test, look_notes
from mondegreen.records import Hypothesis, Outcome, Utterance
from mondegreen.scoring.comparison import Comparison
from mondegreen.scoring.evidence import Evidence, gather
from mondegreen.scoring.metrics import score
from mondegreen.scoring.noninferiority import judge_suite, regression_outcome
from mondegreen.scoring.normalizer import normalizer_id
from mondegreen.scoring.significance import minimum_detectable_effect
from mondegreen.scoring.wording import claim, notes, numbers, sentence

__all__ = [
    "Confrontation",
    "Interval",
    "Look",
    "Retention",
    "SegmentTest",
    "SideBySide",
    "Verdict",
    "compare_set",
    "confront",
    "decide",
    "decide_on",
    "judge_suite",
    "regression_outcome",
]


def decide(
    utterances: Sequence[Utterance],
    baseline: Sequence[Hypothesis],
    candidate: Sequence[Hypothesis],
    params: Params,
    look: Look | None = None,
) -> Verdict:
    """The verdict on target/test, with retention/test as the guard against forgetting. Reads and writes nothing.

    Args:
        utterances: the whole manifest; every split must be complete, but only test judges.
        baseline: one hypothesis for each utterance.
        candidate: the same of the candidate.
        params: `validate`, `score` and `seed` are read.
        look: which look at this test set it is, from the ledger; without one all of `validate.alpha` is spent.

    Raises:
        UsageError: like `confront`.
    """
    return decide_on(confront(utterances, baseline, candidate, params), params, look)


def decide_on(case: Confrontation, params: Params, look: Look | None = None) -> Verdict:
    """`decide` on what `confront` has checked."""
    rules, test = params.validate_, case.test
    alpha = look.alpha if look else rules.alpha
    evidence = _evidence(test, params, alpha)
    damage = degradation(test, rules) if test.clusters else None
    retention = judge_retention(case.guard, _spending(params, alpha))
    fails, doubts = judge_test(test, evidence, damage, params, look)
    fails += [retention.reason] * (retention.outcome == "fail")
    doubts += [retention.reason] * (retention.outcome == "inconclusive" and rules.require_retention)
    outcome: Outcome = "fail" if fails else "inconclusive" if doubts else "pass"
    if evidence and not is_finite(evidence):
        evidence = None
    reasons = fails or doubts or [*_waived(rules), retention.reason, claim(test)]
    return Verdict(
        outcome=outcome,
        passed=outcome == "pass",
        reason=sentence([*_machines(case), *([numbers(test, evidence)] if evidence else []), *reasons]),
        claim="; ".join([*_machines(case), claim(test)]),
        llm_references=case.llm_references,
        slices=case.slices,
        retention=retention,
        notes=(*notes(test, case.guard), *look_notes(look, rules)),
        baseline_model=case.baseline_model,
        candidate_model=case.candidate_model,
        normalizer=normalizer_id(params.score.normalizer),
        reference_digest=case.reference_digest,
        min_wer_improvement=rules.min_wer_improvement,
        alpha=rules.alpha,
        look=look,
        degradation=damage,
        **_set_fields(test),
        **_evidence_fields(evidence),
    ).sealed()


def _waived(rules: ValidateParams) -> list[str]:
    """What a pass was not asked for, in the words of the parameter that says so."""
    asked = {
        "NOT TESTED FOR SIGNIFICANCE (validate.require_significance is false)": rules.require_significance,
        "FORGETTING WAS NOT ASKED ABOUT (validate.require_retention is false)": rules.require_retention,
    }
    return [text for text, required in asked.items() if not required]


def _machines(case: Confrontation) -> list[str]:
    count = case.llm_references
    return [f"JUDGED BY {count} REFERENCE(S) THAT A MACHINE WROTE, NOT A PERSON"] if count else []


def _spending(params: Params, alpha: float) -> Params:
    """The parameters with what this look may spend for alpha."""
    return params.model_copy(update={"validate_": params.validate_.model_copy(update={"alpha": alpha})})


def _evidence(test: Comparison, params: Params, alpha: float) -> Evidence | None:
    """The interval at `validate.alpha`, which is what readers expect; the detectable effect at what may be spent."""
    if not test.clusters:
        return None
    effect = minimum_detectable_effect(test.differences, test.words, alpha)
    return replace(gather(test, params), minimum_detectable_effect=effect)


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
    }


def _evidence_fields(evidence: Evidence | None) -> dict[str, Any]:
    if evidence is None:
        return dict.fromkeys(("wer_improvement", "interval", "p_value", "mapsswe", "minimum_detectable_effect"))
    low, high = evidence.interval
    return {
        "wer_improvement": evidence.improvement,
        "interval": Interval(low=low, high=high, level=evidence.level),
        "interval_method": evidence.interval_method,
        "intervals": evidence.intervals,
        "p_value": evidence.p_better,
        "mapsswe": SegmentTest.model_validate(vars(evidence.segments)),
        "cluster_t": ClusterT.model_validate(vars(evidence.cluster_t)),
        "wilcoxon": SignedRank.model_validate(vars(evidence.wilcoxon)),
        "effect_size": EffectSize.model_validate(vars(evidence.effect_size)),
        "minimum_detectable_effect": evidence.minimum_detectable_effect,
    }
