"""The gold transcript of each utterance and where it comes from. Without a person's words there is none."""

from collections import Counter
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from mondegreen.errors import LeakageError
from mondegreen.records import Domain, Hypothesis, Label, SliceMetrics, Utterance
from mondegreen.scoring.metrics import join, score
from mondegreen.scoring.normalizer import NormalizerName


class Audit(BaseModel):
    """build/label/audit.json: labels by source, and the errors that labels copied from the model would hold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: dict[str, dict[str, int]]  # domain -> source -> utterances
    hypotheses_against_references: dict[str, SliceMetrics]  # by domain


def gold_labels(utterances: Sequence[Utterance], corrections: Sequence[Label] = ()) -> list[Label]:
    """A failed case's correction, else a human's reference, else a label of source "none", which nothing trains on.

    Raises:
        LeakageError: a machine's correction would stand where a model is judged (a defect of prepare).
    """
    corrected = {label.id: label for label in corrections}
    return [_gold(item, corrected.get(item.id)) for item in utterances]


def _gold(item: Utterance, correction: Label | None) -> Label:
    if correction is None:
        if item.reference:
            return Label(id=item.id, text=item.reference, source=item.reference_source)
        return Label(id=item.id, text="", source="none", note="no human reference; correction by an LLM is off")
    if correction.source == "llm" and (item.split != "train" or item.domain == "retention" or item.reference):
        raise LeakageError(
            f"{item.path} ({item.id}): a machine's transcript would judge a model ({item.split}, {item.domain}).",
            "Run `dvc repro prepare`; it lets failed cases into train only.",
        )
    return correction


def audit(
    utterances: Sequence[Utterance],
    labels: Sequence[Label],
    hypotheses: Sequence[Hypothesis],
    normalizer: NormalizerName,
) -> Audit:
    """Counts sources by domain, and scores what the model wrote against what people wrote."""
    domains: tuple[Domain, ...] = ("target", "retention")
    sources = {label.id: label.source for label in labels}
    counts = {
        domain: dict(sorted(Counter(sources[item.id] for item in utterances if item.domain == domain).items()))
        for domain in domains
    }
    scored = join(utterances, hypotheses, normalizer).scored
    pairs = {domain: [item for item in scored if item.utterance.domain == domain] for domain in domains}
    return Audit(
        labels=counts,
        hypotheses_against_references={domain: score(items) for domain, items in pairs.items() if items},
    )
