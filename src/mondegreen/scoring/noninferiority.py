"""Has the candidate lost nothing that matters? Non-inferiority for the retention set and the regression suites."""

from collections.abc import Sequence
from typing import Any

from mondegreen.config import Params
from mondegreen.records import Hypothesis, Outcome, SuiteResult, Utterance
from mondegreen.scoring.comparison import Comparison, compare
from mondegreen.scoring.evidence import Evidence, gather
from mondegreen.scoring.metrics import score
from mondegreen.scoring.wording import percent, points, sentence, signed, too_small


def regression_outcome(
    comparison: Comparison, evidence: Evidence, margin: float, min_clusters: int
) -> tuple[Outcome, str]:
    """Non-inferiority: does the one-sided upper bound of the loss lie below the margin?

    Returns:
        fail when the observed loss is above the margin; pass when the bound lies below it or no utterance lost a word;
        else inconclusive, and so is a missing transcript or a bound over fewer than `min_clusters` (it is too narrow).
        With the reason.
    """
    loss, upper, allowed = evidence.loss, evidence.loss_bounds[1], points(margin)
    if loss > margin:
        return "fail", f"WER rose by {points(loss)}, {allowed} are allowed"
    # A file that neither model can hear loses no word, and shows nothing.
    if unheard := comparison.unheard("candidate"):
        return "inconclusive", f"the candidate has no transcript for {len(unheard)} utterance(s)"
    if unfair := comparison.unheard_by_baseline_only():
        return "inconclusive", f"the baseline failed on {len(unfair)} utterance(s) that the candidate transcribed"
    if not (lost := comparison.lost()):
        return "pass", f"no utterance lost a word (change of WER {signed(loss)})"
    if small := too_small(comparison, min_clusters, "set"):
        return "inconclusive", f"{small[0]} to bound the loss, and {len(lost)} utterance(s) lost words"
    bound = f"the change of WER is {signed(loss)}, at most {signed(upper)} with {percent(evidence.level)} confidence"
    if upper < margin:
        return "pass", f"{bound}, below the margin of {allowed}"
    return "inconclusive", f"{bound}, which does not stay below the margin of {allowed}"


def judge_suite(
    name: str,
    kind: str,
    references: Sequence[Utterance],
    baseline_hyps: Sequence[Hypothesis],
    candidate_hyps: Sequence[Hypothesis],
    margin: float,
    critical_degradation: float,
    params: Params,
) -> SuiteResult:
    """One regression suite. Only `pass` opens the gate; an empty suite fails.

    Args:
        name: of the suite.
        kind: "critical" suites also fail when the observed loss is above `critical_degradation`.
        references: the suite's utterances; split and domain are not looked at.
        baseline_hyps: one for each utterance.
        candidate_hyps: the same of the candidate; one with an error counts as fully wrong and is named in the details.
        margin: WER that the suite may lose, absolute.
        critical_degradation: absolute WER.
        params: `validate`, `score` and `seed` are read.

    Raises:
        UsageError: the IDs of utterances and hypotheses are not the same.
    """
    rules = params.validate_
    suite = compare(references, baseline_hyps, candidate_hyps, rules, params.score.normalizer)
    if not suite.clusters:
        return SuiteResult(name=name, kind=kind, outcome="fail", reason="The suite has no utterance with a reference.")
    evidence = gather(suite, params)
    outcome, reason = regression_outcome(suite, evidence, margin, rules.min_clusters)
    if kind == "critical" and evidence.loss > critical_degradation:
        outcome, reason = "fail", f"critical: WER rose by {points(evidence.loss)}"
    return SuiteResult(
        name=name,
        kind=kind,
        outcome=outcome,
        reason=sentence([reason]),
        baseline=score(suite.baseline),
        candidate=score(suite.candidate),
        details=_suite_details(suite, evidence, margin),
    )


def _suite_details(suite: Comparison, evidence: Evidence, margin: float) -> dict[str, Any]:
    return {
        "unit": suite.unit,
        "clusters": suite.clusters,
        "margin": margin,
        "loss": evidence.loss,
        "loss_upper_bound": evidence.loss_bounds[1],
        "level": evidence.level,
        "lost_words_in": suite.lost(),
        "candidate_errors_in": suite.unheard("candidate"),
        "baseline_errors_in": suite.unheard("baseline"),
        "without_reference": suite.without_reference,
    }
