"""A trial: candidate beside baseline on dev, paired and with an interval. It judges nobody and spends no look."""

from mondegreen.config import Params
from mondegreen.scoring.comparison import gather
from mondegreen.scoring.decision import Question, decide, measured
from mondegreen.scoring.paired_sets import PairedTestSets
from mondegreen.scoring.verdict import Retention, Verdict
from mondegreen.scoring.wording import at_most, confidence, moved, sentence

_FLATTERED = "dev chose the epoch and the merge weight, so it flatters the candidate"
_JUDGE = "`dvc exp apply` and `dvc repro` judge it on test (with validate.on: test)"
_TUNED, _WITHOUT_DEV = "dev flatters a search that was tuned on it", "without --dev it is judged on test"


def try_out(sets: PairedTestSets, params: Params, question: Question = "better", proposed: bool = False) -> Verdict:
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
