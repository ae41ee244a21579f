"""Two models side by side on the sets that judge, after every check that can refuse them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from mondegreen.config import Params
from mondegreen.loop.verdict.record import SideBySide
from mondegreen.records import Domain, Hypothesis, Utterance
from mondegreen.scoring.comparison import Comparison, compare
from mondegreen.scoring.metrics import check_ids, model_of, slice_metrics
from mondegreen.scoring.provenance import llm_references


@dataclass(frozen=True)
class Confrontation:
    """Both models on the two sets that judge."""

    test: Comparison
    guard: Comparison  # retention
    baseline_model: str
    candidate_model: str
    llm_references: int

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
        """test, test/clean, … and retention/test under both models."""
        old = slice_metrics([*self.test.baseline, *self.guard.baseline])
        new = slice_metrics([*self.test.candidate, *self.guard.candidate])
        names = [name for name in old if name.split("/")[0] == "test" or name == "retention/test"]
        return {name: SideBySide(baseline=old[name], candidate=new[name]) for name in names}


def confront(
    utterances: Sequence[Utterance], baseline: Sequence[Hypothesis], candidate: Sequence[Hypothesis], params: Params
) -> Confrontation:
    """Joins both models' hypotheses with target/test and retention/test, after every check that can refuse them.

    Raises:
        UsageError: IDs are missing, double or strange in any split, one side holds hypotheses of several models, or a
            machine wrote references that judge.
    """
    ids = [utterance.id for utterance in utterances]
    for side in (baseline, candidate):
        check_ids(ids, [hypothesis.id for hypothesis in side])
    judging = [utterance for utterance in utterances if utterance.split == "test"]
    machines = llm_references(judging, params.validate_.allow_llm_references)
    return Confrontation(
        test=compare_set(utterances, baseline, candidate, "target", params),
        guard=compare_set(utterances, baseline, candidate, "retention", params),
        baseline_model=model_of(baseline),
        candidate_model=model_of(candidate),
        llm_references=machines,
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
