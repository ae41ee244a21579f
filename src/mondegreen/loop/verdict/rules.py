"""The rules of a verdict: what proves something against a candidate, and what keeps it from being proven better."""

from math import isfinite

from mondegreen.config import Params, ValidateParams
from mondegreen.loop.verdict.record import Degradation, Look, Retention
from mondegreen.scoring.comparison import Comparison
from mondegreen.scoring.evidence import Evidence, gather
from mondegreen.scoring.noninferiority import regression_outcome
from mondegreen.scoring.significance import EXACT_CLUSTERS
from mondegreen.scoring.wording import detectable, percent, points, too_small

_BADLY = 3  # words at least: in a reference of two words everything is half of it
_FRESH = (
    "record fresh references: replace at least half of its recordings by new ones, with what people heard in them "
    "(data/audio, data/references.csv), then `dvc add data` and `dvc repro`"
)


def smallest_p(clusters: int, permutations: int) -> float:
    """The smallest p that the sign-flip test can give: a share of alpha below it can never be met."""
    return 0.5**clusters if clusters <= EXACT_CLUSTERS else 1 / (permutations + 1)


def judge_test(
    test: Comparison, evidence: Evidence | None, degradation: Degradation | None, params: Params, look: Look | None
) -> tuple[list[str], list[str]]:
    """What shuts the gate: (proofs against the candidate, what keeps it from being proven).

    To shut it the full alpha is enough; to open it a look has only its share. Every comparison that opens is written
    so that NaN does not.
    """
    rules = params.validate_
    if evidence is None or degradation is None:
        return [], ["no utterance of the test set has a reference, so nothing can be judged"]
    if not is_finite(evidence):
        return [], ["the statistics are not numbers, so nothing can be judged"]
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
    if damage := _damage(degradation, rules):
        return damage, []
    if spent := _spent(test, params, look):
        return [], [*spent, _FRESH]
    alpha = look.alpha if look else rules.alpha
    if rules.require_significance and not evidence.p_better <= alpha:
        return [], [f"not significant at {alpha:.2g}" + _which(look, rules), detectable(evidence)]
    if not (evidence.improvement > 0 and evidence.improvement >= floor):
        below = f"the improvement is below the floor of {points(floor)}, which the interval still reaches"
        return [], [below if floor else "nothing improved, though the interval still holds an improvement"]
    return [], []


def is_finite(evidence: Evidence) -> bool:
    """Whether everything that decides is a number."""
    deciding = (evidence.improvement, *evidence.interval, *evidence.loss_bounds, evidence.p_better, evidence.p_worse)
    return all(map(isfinite, deciding))


def _damage(degradation: Degradation, rules: ValidateParams) -> list[str]:
    """The guards on single utterances, which a better sum may hide."""
    found = []
    if degradation.rate > rules.max_wer_degradation_rate:
        found.append(
            f"{degradation.worse} utterances ({degradation.rate:.1%}) got worse by more than "
            f"{points(rules.degradation_bound)} WER, {percent(rules.max_wer_degradation_rate)} may"
        )
    if rules.require_no_major_degradation and degradation.badly_worse:
        some = ", ".join(degradation.badly_worse[:3]) + (", …" if len(degradation.badly_worse) > 3 else "")
        bound = f"{points(rules.major_degradation)} WER and {_BADLY} words"
        found.append(f"{len(degradation.badly_worse)} utterance(s) got worse by {bound} or more: {some}")
    return found


def degradation(test: Comparison, rules: ValidateParams) -> Degradation:
    """The utterances that got worse: by more than the bound, and by both `major_degradation` and three words.

    The rise of an utterance is (candidate errors - baseline errors) / reference words. ZeroDivisionError without any.
    """
    worse, badly = 0, []
    for old, new in zip(test.baseline, test.candidate, strict=True):
        lost = new.words.errors - old.words.errors
        rise = lost / old.words.reference_length
        worse += rise > rules.degradation_bound
        if rise >= rules.major_degradation and lost >= _BADLY:
            badly.append(new.utterance.id)
    return Degradation(worse=worse, rate=worse / len(test.baseline), badly_worse=tuple(sorted(badly)))


def _spent(test: Comparison, params: Params, look: Look | None) -> list[str]:
    """Why this test set can open the gate for nobody any more."""
    rules = params.validate_
    if look is None:
        return []
    if look.number > rules.max_looks:
        return [f"this test set is spent: it is look {look.number}, validate.max_looks is {rules.max_looks}"]
    share = f"{look.alpha:.2g} of alpha is left for look {look.number}"
    least = smallest_p(test.clusters, rules.permutations)
    if rules.require_significance and look.alpha < least:
        return [f"this test set is spent: {share}, and {test.clusters} {test.unit}s give no p below {least:.2g}"]
    return []


def _which(look: Look | None, rules: ValidateParams) -> str:
    return f" (look {look.number} at this test set; {rules.alpha:g} is shared out over all)" if look else ""


def look_notes(look: Look | None, rules: ValidateParams) -> list[str]:
    """How often the test set has judged before, and what that leaves."""
    if look is None:
        return []
    if look.before:
        before = f"{look.before} look(s) of others came before"
    else:
        before = "the database knows of none before, and the count is only as good as the database"
    return [f"look {look.number} at this test set: {before}; it may spend {look.alpha:.2g} of alpha {rules.alpha:g}"]


def judge_retention(guard: Comparison, params: Params) -> Retention:
    """Has the candidate lost less than `validate.retention_margin` of what the baseline knew? Bounds at its alpha."""
    rules = params.validate_
    if not guard.clusters:
        reason = "forgetting cannot be judged: no retention test utterance has a reference"
        return Retention(outcome="inconclusive", reason=reason, margin=rules.retention_margin)
    evidence = gather(guard, params)
    if not is_finite(evidence):
        reason = "retention: the statistics are not numbers, so forgetting cannot be judged"
        return Retention(outcome="inconclusive", reason=reason, margin=rules.retention_margin)
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
