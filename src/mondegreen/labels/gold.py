"""The gold transcript of each utterance and where it comes from: a person, a language model under guard, or nobody."""

from collections import Counter
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from mondegreen.errors import LeakageError
from mondegreen.labels.audit_record import LabelAudit
from mondegreen.records import Domain, Hypothesis, Label, SliceMetrics, Utterance
from mondegreen.scoring.metrics import join, score
from mondegreen.scoring.normalizer import NormalizerName


class Audit(BaseModel):
    """build/label/audit.json: labels by source, and the errors that labels copied from the model would hold.

    `llm` says how true a language model's labels are; None when it is off.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: dict[str, dict[str, int]]  # domain -> source -> utterances
    hypotheses_against_references: dict[str, SliceMetrics]  # by domain
    llm: LabelAudit | None = None


def gold_labels(
    utterances: Sequence[Utterance], corrections: Sequence[Label] = (), machine: Mapping[str, Label] | None = None
) -> list[Label]:
    """A failed case's correction, else the reference, else a language model's label, else one of source "none".

    Args:
        corrections: of failed cases.
        machine: what `labels.machine` says of the utterances that have neither, by id; None when the LLM is off.

    Raises:
        LeakageError: a machine's words would stand where a model is judged (a defect of what made them).
    """
    corrected = {label.id: label for label in corrections}
    return [_gold(item, corrected.get(item.id), (machine or {}).get(item.id)) for item in utterances]


def _gold(item: Utterance, correction: Label | None, machine: Label | None) -> Label:
    if correction is None and item.reference:
        return Label(id=item.id, text=item.reference, source=item.reference_source)
    label = correction or machine
    if label is None:
        return Label(id=item.id, text="", source="none", note="no human reference; correction by an LLM is off")
    written = label.source in ("llm", "hypothesis")
    if written and (item.split != "train" or item.domain == "retention" or item.reference):
        raise LeakageError(
            f"{item.path} ({item.id}): a machine's transcript would judge a model ({item.split}, {item.domain}).",
            "Run `dvc repro prepare`; it lets failed cases into train only.",
        )
    return label


def audit(
    utterances: Sequence[Utterance],
    labels: Sequence[Label],
    hypotheses: Sequence[Hypothesis],
    normalizer: NormalizerName,
    llm: LabelAudit | None = None,
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
        llm=llm,
    )
