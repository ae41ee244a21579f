"""Is the candidate better than the baseline on the test set, and has it forgotten nothing?

`pass`: significantly better (sign-flip over clusters), by at least the floor, non-inferior on retention, and within the
bounds on single utterances. `fail`: shown to be worse, not better by the floor, to have forgotten, or outside a bound.
Anything else is `inconclusive`: no pass.

Of a variant (fewer bits, the same weights) the question is another one: does it lose less than the margin on the test
set and on retention? A pass needs both upper bounds below it; better it need not be.

Better *and* not forgotten: a pass needs every one of its tests, each at the same alpha, so there is nothing to correct
for (an intersection-union test: Berger, "Multiparameter hypothesis testing and acceptance sampling", Technometrics
1982). Holm's correction belongs where any one of several tests may make a claim: which slices, metrics or suites got
better. Several candidates on one test set are such a case too, and there `Look.alpha` is what each may spend.

A trial asks the same of dev, paired and with an interval: it judges nobody and spends no look.

What a round does to what production misheard is measured beside it, on the corrected cases that are held out of
training, and decides nothing. The base model misheard all of them, that is why they are there; so any other model looks
better on them than it is, and one that gains nothing here has missed what the round was for.
"""

from dataclasses import replace
from typing import Any, Literal

from mondegreen.config import Params, ValidateParams
from mondegreen.records import Outcome
from mondegreen.scoring.comparison import ROLES, Comparison, gather, resample
from mondegreen.scoring.metrics import score
from mondegreen.scoring.noninferiority import judge_kept, judge_retention, too_small
from mondegreen.scoring.normalizer import Measure, normalizer_id
from mondegreen.scoring.paired_sets import PairedTestSets
from mondegreen.scoring.significance import EXACT_CLUSTERS, minimum_detectable_effect
from mondegreen.scoring.terms import describe as describe_terms
from mondegreen.scoring.terms import words_that_matter
from mondegreen.scoring.verdict import Corrected, Degradation, Evidence, Interval, Look, Retention, Verdict
from mondegreen.scoring.wording import (
    BY_CHARACTER,
    at_most,
    confidence,
    counted,
    many,
    moved,
    percent,
    points,
    sentence,
    some,
    span,
    unsigned,
)

TestQuestion = Literal["better", "not worse"]
_BADLY = 3  # words at least: in a reference of two words everything is half of it
_FRESH = (
    "record fresh references: replace at least half of its recordings by new ones, with what people heard in them "
    "(data/audio, data/references.csv), then `dvc add data` and `dvc repro`"
)
_FLATTERED = "dev chose the epoch and the merge weight, so it flatters the candidate"
_JUDGE = "`dvc exp apply` and `dvc repro` judge it on test (with validate.on: test)"
_TUNED, _WITHOUT_DEV = "dev flatters a search that was tuned on it", "without --dev it is judged on test"


def decide(
    sets: PairedTestSets, params: Params, look: Look | None = None, question: TestQuestion = "better"
) -> Verdict:
    """The verdict on the test set, with the retention set against forgetting. Reads and writes nothing.

    Args:
        sets: from `pair_test_sets`.
        params: `validate`, `score` and `seed` are read.
        look: which look at this test set it is, from the ledger; without one all of `validate.alpha` is spent.
        question: "not worse" of a variant.
    """
    rules, test = params.validate_, sets.test
    alpha = look.alpha if look else rules.alpha
    at_alpha = params.model_copy(update={"validate_": rules.model_copy(update={"alpha": alpha})})
    evidence = _evidence(test, params, alpha)
    damage = degradation(test, rules) if test.clusters else None
    retention = judge_retention(sets.retention, at_alpha)
    kept = judge_kept(test, at_alpha, sets.split) if question == "not worse" else None
    if kept:
        found = judge_variant(test, kept, damage, params, look)
    else:
        found = judge_test(test, evidence, damage, params, look)
    fails, doubts = _with_retention(found, retention, sets, rules)
    outcome: Outcome = "fail" if fails else "inconclusive" if doubts else "pass"
    evidence = evidence if evidence and evidence.is_finite else None
    asked_for = [kept.reason] if kept else _waived(rules)
    passed_by = [*asked_for, *_unmeasured(retention), retention.reason, _claim(sets)]
    return Verdict(
        outcome=outcome,
        passed=outcome == "pass",
        reason=sentence([*_machines(sets), *_measured(test, evidence), *(fails or doubts or passed_by)]),
        claim="; ".join([*_machines(sets), *_unmeasured(retention), _claim(sets)]),
        retention=retention,
        kept=kept,
        min_wer_improvement=rules.min_wer_improvement,
        alpha=rules.alpha,
        look=look,
        degradation=damage,
        **_beside(sets, params, _look_notes(look, rules)),
        **_of_sets(sets, params),
        **_evidence_fields(evidence),
    ).sealed()


def _with_retention(
    found: tuple[list[str], list[str]], retention: Retention, sets: PairedTestSets, rules: ValidateParams
) -> tuple[list[str], list[str]]:
    """What shuts the gate on the test set, and what forgetting adds to it."""
    fails, doubts = found
    # A set that is there must show it, unless it is waived; one that is missing stops only those who require it.
    asked = sets.retention.clusters > 0 if rules.require_retention is None else rules.require_retention
    return (
        fails + [retention.reason] * (retention.outcome == "fail"),
        doubts + [retention.reason] * (retention.outcome == "inconclusive" and asked),
    )


def _beside(sets: PairedTestSets, params: Params, look_notes: list[str]) -> dict[str, Any]:
    """What is measured beside and decides nothing, and all that a reader of the numbers must know."""
    cases = measure_corrected(sets.corrected, sets.seen_cases, params)
    terms = words_that_matter(sets.test, sets.terms, params)
    described = (*describe_corrected(cases, sets.test.measure), *describe_terms(terms))
    return {"corrected": cases, "terms": terms, "notes": (*_notes(sets), *described, *look_notes)}


def _of_sets(sets: PairedTestSets, params: Params) -> dict[str, Any]:
    """What was compared, and both models' rates."""
    test = sets.test
    same = ("llm_references", "slices", "baseline_model", "candidate_model", "reference_digest")
    return {name: getattr(sets, name) for name in same} | {
        "normalizer": normalizer_id(params.score.normalizer, test.measure),
        "baseline": score(test.baseline) if test.clusters else None,
        "candidate": score(test.candidate) if test.clusters else None,
        **test.size(),
    }


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
    if not evidence.is_finite:
        return [], ["the statistics are not numbers, so nothing can be judged"]
    small = too_small(test, rules.min_clusters, "test set")
    if (words := int(test.words.sum())) < rules.min_words:
        small.append(f"the test set has {words} reference {counted(test.measure)}, {rules.min_words} are needed")
    if unfair := test.failed_by_baseline_only():
        small.append(f"the baseline failed on {many(len(unfair), 'test utterance')} that the candidate transcribed")
    if small:
        return [], [*small, _detectable(evidence)]
    high, floor = evidence.interval[1], rules.min_wer_improvement
    if evidence.p_worse <= rules.alpha:
        return [f"the candidate is significantly worse (p = {evidence.p_worse:.2g} for worse)"], []
    # A floor of zero still asks for an improvement: equal is not better.
    if high < floor or high <= 0:
        wanted = f" of {unsigned(floor)} or more" if floor else ""
        return [f"the interval holds no improvement{wanted}"], []
    if damage := _damage(degradation, rules, test.measure):
        return damage, []
    if spent := _spent(test, params, look):
        return [], [spent, _FRESH]
    alpha = look.alpha if look else rules.alpha
    if rules.require_significance and not evidence.p_better <= alpha:
        which = f" (look {look.number} at this test set; {rules.alpha:g} is shared out over all)" if look else ""
        return [], [f"not significant at {alpha:.2g}{which}", _detectable(evidence)]
    if not (evidence.improvement > 0 and evidence.improvement >= floor):
        below = f"the improvement is below the floor of {unsigned(floor)}, which the interval still reaches"
        return [], [below if floor else "nothing improved, though the interval still holds an improvement"]
    return [], []


def judge_variant(
    test: Comparison, kept: Retention, degradation: Degradation | None, params: Params, look: Look | None
) -> tuple[list[str], list[str]]:
    """The same as `judge_test` for a variant, whose loss on the test set was bounded: `kept`."""
    rules = params.validate_
    if degradation is None:
        return [], [kept.reason]
    fails = [kept.reason] * (kept.outcome == "fail") + _damage(degradation, rules, test.measure)
    doubts = [kept.reason] * (kept.outcome == "inconclusive")
    if (words := int(test.words.sum())) < rules.min_words:
        doubts.append(f"the test set has {words} reference {counted(test.measure)}, {rules.min_words} are needed")
    if look and look.number > rules.max_looks:
        doubts += [_many_looks(look, rules), _FRESH]
    return fails, doubts


def degradation(test: Comparison, rules: ValidateParams) -> Degradation:
    """The utterances that got worse: by more than the bound, and by both `major_degradation` and three words.

    The rise of an utterance is (candidate errors - baseline errors) / reference words. ZeroDivisionError without any.
    """
    worse, badly = 0, []
    for old, new in test.pairs:
        lost = new.words.errors - old.words.errors
        rise = lost / old.words.reference_length
        worse += rise > rules.degradation_bound
        if rise >= rules.major_degradation and lost >= _BADLY:
            badly.append(new.utterance.id)
    return Degradation(worse=worse, rate=worse / len(test.baseline), badly_worse=tuple(sorted(badly)))


def _damage(degradation: Degradation, rules: ValidateParams, measure: Measure) -> list[str]:
    """The bounds on single utterances that were broken, which a better sum may hide."""
    found = []
    if degradation.rate > rules.max_wer_degradation_rate:
        found.append(
            f"{degradation.worse} utterances ({percent(degradation.rate)}) got worse by more than "
            f"{unsigned(rules.degradation_bound)} {measure}, {percent(rules.max_wer_degradation_rate)} may"
        )
    if rules.require_no_major_degradation and (badly := degradation.badly_worse):
        bound = f"{unsigned(rules.major_degradation)} {measure} and {_BADLY} {counted(measure)}"
        found.append(f"{many(len(badly), 'utterance')} got worse by {bound} or more: {some(badly)}")
    return found


def smallest_p(clusters: int, permutations: int) -> float:
    """The smallest p that the sign-flip test can give: a share of alpha below it can never be met."""
    return 0.5**clusters if clusters <= EXACT_CLUSTERS else 1 / (permutations + 1)


def fewest_clusters(alpha: float, permutations: int) -> int | None:
    """How many clusters it takes that the sign-flip test can give a p of `alpha` at all; None where none are enough."""
    return next((n for n in range(1, EXACT_CLUSTERS + 2) if smallest_p(n, permutations) <= alpha), None)


def _spent(test: Comparison, params: Params, look: Look | None) -> str:
    """Why this test set can open the gate for nobody any more; "" when it can."""
    rules = params.validate_
    if look is None:
        return ""
    if look.number > rules.max_looks:
        return _many_looks(look, rules)
    least = smallest_p(test.clusters, rules.permutations)
    if rules.require_significance and look.alpha < least:
        share = f"{look.alpha:.2g} of alpha is left for look {look.number}"
        return f"this test set is spent: {share}, and {test.clusters} {test.unit}s give no p below {least:.2g}"
    return ""


def _many_looks(look: Look, rules: ValidateParams) -> str:
    return f"this test set is spent: it is look {look.number}, validate.max_looks is {rules.max_looks}"


def _evidence(test: Comparison, params: Params, alpha: float) -> Evidence | None:
    """The interval at `validate.alpha`, which is what readers expect; the detectable effect at what may be spent."""
    if not test.clusters:
        return None
    effect = minimum_detectable_effect(test.differences, test.words, alpha)
    return replace(gather(test, params), minimum_detectable_effect=effect)


def _evidence_fields(evidence: Evidence | None) -> dict[str, Any]:
    if evidence is None:
        return dict.fromkeys(("wer_improvement", "interval", "p_value", "mapsswe", "minimum_detectable_effect"))
    low, high = evidence.interval
    same = ("interval_method", "intervals", "cluster_t", "wilcoxon", "effect_size", "minimum_detectable_effect")
    return {name: getattr(evidence, name) for name in same} | {
        "wer_improvement": evidence.improvement,
        "interval": Interval(low=low, high=high, level=evidence.level),
        "p_value": evidence.p_better,
        "mapsswe": evidence.segments,
    }


def _measured(test: Comparison, evidence: Evidence | None) -> list[str]:
    return [measured(test, evidence)] if evidence else []


def measured(test: Comparison, evidence: Evidence) -> str:
    """Both rates, the improvement, its interval and its p."""
    old, new = (percent(score(pairs).wer.rate) for pairs in (test.baseline, test.candidate))
    return (
        f"corpus {test.measure} {old} -> {new}, improvement {points(evidence.improvement)} "
        f"({confidence(evidence.level)} interval {span(*evidence.interval)}, p = {evidence.p_better:.2g}, "
        f"{test.clusters} {test.unit}s, {int(test.words.sum())} {counted(test.measure)})"
    )


def _claim(sets: PairedTestSets) -> str:
    """Whom the numbers speak for, and which sentences where the training data hold them."""
    claim, count = _whom(sets.test), len(sets.test.baseline)
    if not sets.seen_texts:
        return claim
    return f"{claim}; training has seen the texts of {sets.seen_texts} of the {count} test utterances: for such texts"


def _whom(test: Comparison) -> str:
    if test.unit == "speaker":
        return f"it holds for speakers like these {test.speakers}"
    if test.speakers:
        whom = "this one speaker" if test.speakers == 1 else f"these {test.speakers} speakers"
        return f"it holds for {whom} only (too few to judge by speaker: the unit is the {test.unit})"
    return f"it holds for the speakers of these recordings only (nobody named them: the unit is the {test.unit})"


def _machines(sets: PairedTestSets) -> list[str]:
    count = sets.llm_references
    return [f"JUDGED BY {count} REFERENCE(S) THAT A MACHINE WROTE, NOT A PERSON"] if count else []


def _waived(rules: ValidateParams) -> list[str]:
    """What a pass was not asked for, in the words of the parameter that says so."""
    waived = "NOT TESTED FOR SIGNIFICANCE (validate.require_significance is false)"
    return [] if rules.require_significance else [waived]


def _unmeasured(retention: Retention) -> list[str]:
    return [retention.warning] if retention.warning else []


def _detectable(evidence: Evidence) -> str:
    """How small an improvement the test set could have shown."""
    if evidence.minimum_detectable_effect is None:
        return "how small an improvement this test set could show cannot be estimated"
    effect = unsigned(evidence.minimum_detectable_effect)
    return f"this test set shows improvements from about {effect} (80 % power)"


def _notes(sets: PairedTestSets) -> list[str]:
    """What a reader of the numbers must know: failed hypotheses, missing references, unnamed speakers."""
    found = []
    for place, compared in ((sets.split, sets.test), ("retention", sets.retention)):
        found += [f"{place}: {BY_CHARACTER}"] if compared.measure == "CER" else []
        for model in ROLES:
            if failed := compared.failed(model):
                count = f"{len(failed)} {model} hypotheses have errors and count as fully wrong"
                found.append(f"{place}: {count}: {some(failed, 5)}")
        if compared.without_reference:
            found.append(f"{place}: {compared.without_reference} utterances have no reference and were left out")
        if compared.unit == "speaker" and any(not pair.utterance.speaker for pair in compared.baseline):
            found.append(f"{place}: utterances whose speaker nobody named count as one speaker")
    return found


def _look_notes(look: Look | None, rules: ValidateParams) -> list[str]:
    """How often the test set has judged before, and what that leaves."""
    if look is None:
        return []
    if look.before:
        before = f"{many(look.before, 'look')} of others came before"
    else:
        before = "the database knows of none before, and the count is only as good as the database"
    return [f"look {look.number} at this test set: {before}; it may spend {look.alpha:.2g} of alpha {rules.alpha:g}"]


def measure_corrected(cases: Comparison, seen_texts: int, params: Params) -> Corrected | None:
    """Both rates and the interval of their difference; None without held-out cases.

    Args:
        cases: both models on them.
        seen_texts: how many of them say a text that train holds too.
        params: validate and seed are read.
    """
    if not cases.clusters:
        return None
    level, interval = 1 - params.validate_.alpha, None
    if cases.clusters > 1:  # one cluster has no scatter
        low, high = resample(cases, params).interval(level)
        interval = Interval(low=low, high=high, level=level)
    return Corrected(
        utterances=len(cases.baseline),
        unit=cases.unit,
        clusters=cases.clusters,
        baseline_wer=score(cases.baseline).wer.rate,
        candidate_wer=score(cases.candidate).wer.rate,
        wer_improvement=cases.improvement,
        interval=interval,
        seen_texts=seen_texts,
    )


def describe_corrected(cases: Corrected | None, measure: Measure) -> list[str]:
    """A line for the verdict's notes; `measure` is what the rates are, WER or CER."""
    if cases is None:
        return []
    bounds = cases.interval
    shown = f"{confidence(bounds.level)} interval {span(bounds.low, bounds.high)}" if bounds else "no interval"
    seen = f"; {cases.seen_texts} say what training holds too" if cases.seen_texts else ""
    return [
        f"what production misheard, {cases.utterances} corrected cases held out of training: {measure} "
        f"{percent(cases.baseline_wer)} -> {percent(cases.candidate_wer)}, improvement {points(cases.wer_improvement)} "
        f"({shown}, {cases.clusters} {cases.unit}s{seen})"
    ]


def try_out(sets: PairedTestSets, params: Params, question: TestQuestion = "better", proposed: bool = False) -> Verdict:
    """What dev says of a candidate, in the form of a verdict whose outcome is `trial`: it opens no gate.

    Args:
        sets: from `pair_test_sets(…, trial=True)`.
        params: `validate`, `score` and `seed` are read.
        question: see `decide`.
        proposed: it was put together of another model's files, which no training on dev chose.
    """
    found, dev = decide(sets, params, question=question), sets.test
    evidence = gather(dev, params) if dev.clusters else None
    known = evidence is not None and evidence.is_finite
    numbers = measured(dev, evidence) if evidence and known else "no utterance of the dev set has a reference"
    reasons = [f"on dev {numbers}", _kept(found.retention)]
    if found.kept:
        reasons += [f"non-inferiority on {found.kept.reason}", _WITHOUT_DEV]
    else:
        reasons += [_TUNED, _WITHOUT_DEV] if proposed else [_FLATTERED, _JUDGE]
    return found.model_copy(update={"outcome": "trial", "passed": False, "reason": sentence(reasons)}).sealed()


def _kept(retention: Retention) -> str:
    """What was lost on the dev part of the retention set, however small it is."""
    if retention.loss is None or retention.upper_bound is None or retention.level is None:
        return retention.reason
    bound = f"{at_most(retention.upper_bound)} with {confidence(retention.level)} confidence"
    return f"on the retention set's dev part WER {moved(retention.loss)}, and {bound}"
