"""Both models' hypotheses side by side on what judges: the test set, the retention set, held-out failed cases."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mondegreen.config import Params
from mondegreen.records import Domain, Hypothesis, Utterance
from mondegreen.scoring.comparison import Comparison, compare
from mondegreen.scoring.metrics import check_ids, corrected_slice, llm_references, model_of, slice_metrics
from mondegreen.scoring.normalizer import text_key
from mondegreen.scoring.terms import Term, read_terms
from mondegreen.scoring.verdict import SideBySide

Sides = tuple[Sequence[Hypothesis], Sequence[Hypothesis]]  # of the baseline, of the candidate


@dataclass(frozen=True)
class PairedTestSets:
    """Both models side by side on the two sets that judge, or, in a trial, on their dev parts."""

    test: Comparison
    retention: Comparison
    corrected: Comparison  # failed cases that are held out of training; they decide nothing
    baseline_model: str  # digest
    candidate_model: str
    llm_references: int
    split: Literal["test", "dev"] = "test"
    seen_texts: int = 0  # utterances of the test set whose text the training data hold too
    seen_cases: int = 0  # the same of `corrected`
    terms: Mapping[Term, str] = field(default_factory=dict)  # of validate.terms

    @property
    def judging(self) -> list[Utterance]:
        """The utterances of the test set that have a reference."""
        return [pair.utterance for pair in self.test.baseline]

    @property
    def reference_digest(self) -> str:
        """sha256 over the IDs and references of the test set."""
        lines = sorted(f"{utterance.id}\t{utterance.reference}\n" for utterance in self.judging)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    @property
    def slices(self) -> dict[str, SideBySide]:
        """test, test/clean, … and retention/test under both models; in a trial dev, dev/clean, … and retention/dev."""
        parts = (self.test, self.retention, self.corrected)
        old = slice_metrics([pair for part in parts for pair in part.baseline])
        new = slice_metrics([pair for part in parts for pair in part.candidate])
        whole = (f"retention/{self.split}", corrected_slice(self.split))
        names = [name for name in old if name.split("/")[0] == self.split or name in whole]
        return {name: SideBySide(baseline=old[name], candidate=new[name]) for name in names}


def pair_test_sets(
    utterances: Sequence[Utterance],
    baseline: Sequence[Hypothesis],
    candidate: Sequence[Hypothesis],
    params: Params,
    trial: bool = False,
) -> PairedTestSets:
    """Joins both models' hypotheses with target/test and retention/test, after every check that can refuse them.

    Args:
        utterances: the whole manifest; every split must be complete, but only test judges.
        baseline: one hypothesis for each utterance.
        candidate: the same of the candidate.
        params: `validate` and `score` are read.
        trial: join dev instead, of which alone the candidate needs hypotheses.

    Raises:
        UsageError: IDs are missing, double or strange in any split, one side holds hypotheses of several models, or a
            machine wrote references that judge.
    """
    split: Literal["test", "dev"] = "dev" if trial else "test"
    tests = [utterance for utterance in utterances if utterance.split == split]
    if trial:
        chosen = {utterance.id for utterance in tests}
        baseline, candidate = ([row for row in side if row.id in chosen] for side in (baseline, candidate))
    ids = [utterance.id for utterance in (tests if trial else utterances)]
    sides = (baseline, candidate)
    for side in sides:
        check_ids(ids, [hypothesis.id for hypothesis in side])
    machines = llm_references(tests, params.validate_.allow_llm_references)
    seen = _seen(tests, utterances, params)
    return PairedTestSets(
        test=_compared("target", tests, sides, params),
        retention=_compared("retention", tests, sides, params),
        corrected=_compared("corrected", tests, sides, params),
        baseline_model=model_of(sides[0]),
        candidate_model=model_of(sides[1]),
        llm_references=machines,
        split=split,
        seen_texts=seen["target"],
        seen_cases=seen["corrected"],
        terms=read_terms(Path(params.validate_.terms), params.score.normalizer) if params.validate_.terms else {},
    )


def _compared(domain: Domain, tests: Sequence[Utterance], sides: Sides, params: Params) -> Comparison:
    chosen = {utterance.id: utterance for utterance in tests if utterance.domain == domain}
    old, new = ([hypothesis for hypothesis in side if hypothesis.id in chosen] for side in sides)
    return compare(list(chosen.values()), old, new, params.validate_, params.score.normalizer)


def _seen(tests: Sequence[Utterance], utterances: Sequence[Utterance], params: Params) -> Counter[Domain]:
    """How many of the tests say what training says too, of each domain."""

    def text(utterance: Utterance) -> str:
        return text_key(utterance.reference, params.score.normalizer)

    taught = {text(utterance) for utterance in utterances if utterance.split == "train"} - {""}
    return Counter(utterance.domain for utterance in tests if text(utterance) in taught)
