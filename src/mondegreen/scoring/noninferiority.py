"""Has the candidate lost no more than a margin: on the retention set, on each suite, and a variant on the test set?"""

from collections.abc import Sequence
from math import ceil, inf, isfinite
from typing import Any

from mondegreen.config import Params
from mondegreen.records import Hypothesis, Outcome, SuiteResult, Utterance
from mondegreen.scoring.comparison import Comparison, compare, gather
from mondegreen.scoring.metrics import score
from mondegreen.scoring.verdict import Evidence, Retention
from mondegreen.scoring.wording import at_most, confidence, many, moved, sentence, unsigned


def regression_outcome(
    comparison: Comparison, evidence: Evidence, margin: float, min_clusters: int
) -> tuple[Outcome, str]:
    """Non-inferiority: does the one-sided upper bound of the loss lie below the margin?

    Returns:
        fail when the observed loss is above the margin; pass when the bound lies below it or no utterance lost a word;
        else inconclusive, and so is a missing transcript or a bound over fewer than `min_clusters` (it is too narrow).
        With the reason.
    """
    loss, upper, allowed = evidence.loss, evidence.loss_bounds[1], unsigned(margin)
    if loss > margin:
        return "fail", f"{comparison.measure} rose by {unsigned(loss)}, {allowed} are allowed"
    # A file that neither model can transcribe loses no word, and shows nothing.
    if failed := comparison.failed("candidate"):
        return "inconclusive", f"the candidate has no transcript for {many(len(failed), 'utterance')}"
    if unfair := comparison.failed_by_baseline_only():
        return "inconclusive", f"the baseline failed on {many(len(unfair), 'utterance')} that the candidate transcribed"
    if not (lost := comparison.lost()):
        return "pass", f"no utterance lost a word ({comparison.measure} {moved(loss)})"
    if small := too_small(comparison, min_clusters, "set"):
        return "inconclusive", f"{small[0]} to bound the loss, and {many(len(lost), 'utterance')} lost words"
    level = confidence(evidence.level)
    bound = f"{comparison.measure} {moved(loss)}, and {at_most(upper)} with {level} confidence"
    if upper < margin:
        return "pass", f"{bound}, below the margin of {allowed}"
    return "inconclusive", f"{bound}, which does not stay below the margin of {allowed}"


def too_small(compared: Comparison, min_clusters: int, what: str) -> list[str]:
    """One reason when there are too few clusters to judge by, else none."""
    if compared.clusters >= min_clusters:
        return []
    return [f"the {what} has {many(compared.clusters, compared.unit)}, {min_clusters} are needed"]


def judge_retention(retention: Comparison, params: Params) -> Retention:
    """Has the candidate lost less than `validate.retention_margin` of what the baseline knew? Bounds at its alpha."""
    if not retention.clusters:
        reason = "forgetting cannot be judged: no retention test utterance has a reference"
        reason += " (`mondegreen data retention` picks some)"
        return Retention(outcome="inconclusive", reason=reason, margin=params.validate_.retention_margin)
    return _lost(retention, params, "retention", "retention test set")


def judge_kept(test: Comparison, params: Params, name: str = "test") -> Retention:
    """The same of the test set, for a variant, which is to hear as its parent does and need not be better."""
    if not test.clusters:
        reason = f"no utterance of the {name} set has a reference, so nothing can be judged"
        return Retention(outcome="inconclusive", reason=reason, margin=params.validate_.retention_margin)
    return _lost(test, params, name, f"{name} set")


def _lost(retention: Comparison, params: Params, name: str, called: str) -> Retention:
    rules, margin = params.validate_, params.validate_.retention_margin
    evidence = gather(retention, params)
    if not evidence.is_finite:
        lost = "forgetting" if name == "retention" else "what was lost"
        reason = f"{name}: the statistics are not numbers, so {lost} cannot be judged"
        return Retention(outcome="inconclusive", reason=reason, margin=margin)
    outcome, reason = regression_outcome(retention, evidence, margin, rules.min_clusters)
    # A suite shuts on what was observed; here, to say that the model forgot is a finding and needs the lower bound.
    if outcome == "fail" and evidence.loss_bounds[0] <= margin:
        outcome, reason = "inconclusive", f"{reason}, though not significantly more"
    # A suite is a list of cases to keep; this is a sample, and a small one says nothing of the rest.
    if small := too_small(retention, rules.min_clusters, called):
        outcome, reason = "inconclusive", small[0]
    if outcome == "inconclusive" and not retention.failed("candidate"):
        reason = f"{reason}; {_enough(retention, evidence, params, name)}"
    return Retention(
        outcome=outcome,
        reason=f"{name}: {reason}",
        margin=margin,
        unit=retention.unit,
        clusters=retention.clusters,
        words=int(retention.words.sum()),
        loss=evidence.loss,
        lower_bound=evidence.loss_bounds[0],
        upper_bound=evidence.loss_bounds[1],
        level=evidence.level,
    )


def _enough(retention: Comparison, evidence: Evidence, params: Params, name: str) -> str:
    """How large a set would do, with the clusters' observed variance, if the candidate loses nothing.

    The standard error falls with the square root of the words, so (detectable effect / margin)^2 times as many show a
    loss of nothing to be below the margin with the power that the detectable effect has, 80 %.
    """
    rules, words = params.validate_, int(retention.words.sum())
    effect = evidence.minimum_detectable_effect or 0.0
    shown = (effect / rules.retention_margin) ** 2 if rules.retention_margin else inf
    times = max(shown, rules.min_clusters / retention.clusters)
    if not isfinite(times):
        return f"with a margin of 0 no {name} set is large enough: raise validate.retention_margin"
    needed = _rounded_up(words * times)
    shows = f"it has {words} words, and about {needed} would show that nothing is lost (80 % power)"
    if name != "retention":
        return shows
    whole = _rounded_up(words * times / (1 - params.prepare.retention_dev_fraction))
    return f"{shows}; `mondegreen data retention {whole}` picks as many"


def _rounded_up(number: float) -> int:
    """To two digits that count."""
    step = int(10 ** max(0, len(str(int(number))) - 2))
    return ceil(number / step) * step


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
        outcome, reason = "fail", f"critical: {suite.measure} rose by {unsigned(evidence.loss)}"
    return SuiteResult(
        name=name,
        kind=kind,
        outcome=outcome,
        reason=sentence([reason]),
        baseline=score(suite.baseline),
        candidate=score(suite.candidate),
        details=_suite_details(suite, evidence, margin),
    )


def suite_limit(references: Sequence[Utterance], params: Params) -> str:
    """Why a model that loses a word of a suite cannot pass it, however little it loses; "" when it can.

    Told by the references alone, by the clusters that `judge_suite` makes of them.
    """
    rules = params.validate_
    nothing: dict[str, Any] = {"text": "", "confidence": 0, "duration": 0, "words": [], "nbest": [], "model": ""}
    silent = [Hypothesis(id=row.id, path=row.path, **nothing) for row in references]
    suite = compare(references, silent, silent, rules, params.score.normalizer)
    small = too_small(suite, rules.min_clusters, "suite")
    if not small:
        return ""
    return f"{small[0]} to bound a loss: beside a baseline model, one that loses a word on it cannot pass"


def _suite_details(suite: Comparison, evidence: Evidence, margin: float) -> dict[str, Any]:
    return {
        "unit": suite.unit,
        "clusters": suite.clusters,
        "margin": margin,
        "loss": evidence.loss,
        "loss_upper_bound": evidence.loss_bounds[1],
        "level": evidence.level,
        "lost_words_in": suite.lost(),
        "candidate_errors_in": suite.failed("candidate"),
        "baseline_errors_in": suite.failed("baseline"),
        "without_reference": suite.without_reference,
    }
