"""The gold transcript of each utterance and where it comes from: a person, a language model under guard, or nobody.

With it the records of build/label/audit.json: sources by domain, and how true a language model's labels are.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from mondegreen.errors import LeakageError
from mondegreen.records import Domain, Hypothesis, Label, Rate, SliceMetrics, Utterance, Writer
from mondegreen.scoring.metrics import join, score
from mondegreen.scoring.normalizer import NormalizerName
from mondegreen.scoring.verdict import Unit


def gold_labels(
    utterances: Sequence[Utterance], corrections: Sequence[Label] = (), llm: Mapping[str, Label] | None = None
) -> list[Label]:
    """A failed case's correction, else the reference, else a language model's label, else one of source "none".

    Args:
        corrections: of failed cases.
        llm: what `labels.llm_labels` says of the utterances that have neither, by id; None when the LLM is off.

    Raises:
        LeakageError: a machine's words would stand where a model is judged (a defect of what made them).
    """
    corrected, written = {label.id: label for label in corrections}, llm or {}
    return [_gold(item, corrected.get(item.id), written.get(item.id)) for item in utterances]


def _gold(item: Utterance, correction: Label | None, written: Label | None) -> Label:
    if correction is None and item.reference:
        return Label(id=item.id, text=item.reference, source=item.reference_source)
    label = correction or written
    if label is None:
        return Label(id=item.id, text="", source="none", note="no human reference; correction by an LLM is off")
    by_machine = label.source in ("llm", "hypothesis")
    if by_machine and (item.judges or item.reference):
        raise LeakageError(
            f"{item.path} ({item.id}): a machine's transcript would judge a model ({item.split}, {item.domain}).",
            "Run `dvc repro prepare`; it lets failed cases into train only.",
        )
    return label


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EstimatedShare(_Record):
    """Some of many. `interval`: 95 %, block bootstrap over clusters; None where there are too few.

    Of none or all, where every resample would be the same, it is Clopper and Pearson's (1934) over the clusters.
    """

    count: int
    total: int
    rate: float | None  # None of nothing
    interval: tuple[float, float] | None


class EditCounts(_Record):
    """Runs of changed words, by what they do to the word errors. `same`: as wrong as before, or as right."""

    better: int = 0
    worse: int = 0
    same: int = 0

    @property
    def total(self) -> int:
        return self.better + self.worse + self.same

    def __add__(self, other: "EditCounts") -> "EditCounts":
        return EditCounts(**{name: count + getattr(other, name) for name, count in self})


class Accepted(_Record):
    """What a set of guards lets through, against people's references."""

    accepted: EstimatedShare  # of all audited utterances
    heard: Rate | None  # WER of the hypotheses in the accepted ones
    labels: Rate | None  # WER of the labels in its place
    reduction: float | None  # WER before minus after, absolute
    interval: tuple[float, float] | None  # 95 %, of the reduction
    edits: EditCounts  # in the accepted labels
    harmful: EstimatedShare  # of the edits


class LabelAudit(_Record):
    """Of train and dev utterances that people labelled, and whose labels stay people's."""

    writers: list[Writer]
    utterances: int
    answered: int  # by a suggestion
    unit: Unit  # of the intervals
    heard: Rate | None  # WER of all hypotheses that were asked about
    margin: float | None  # of the acoustic check
    margin_references: int  # human references that it was calibrated on
    result: Accepted  # with the guards of params.yaml
    by_guard: dict[str, Accepted]  # "none", each guard alone, "all"

    def numbers(self) -> dict[str, float]:
        """What runs are compared by."""
        found: dict[str, float | None] = {
            "heard_wer": self.heard.rate if self.heard else None,
            "accepted_share": self.result.accepted.rate,
            "accepted_heard_wer": self.result.heard.rate if self.result.heard else None,
            "accepted_label_wer": self.result.labels.rate if self.result.labels else None,
            "harmful_edits": self.result.harmful.rate,
            "acoustic_margin": self.margin,
        }
        return {name: value for name, value in found.items() if value is not None}


class Audit(_Record):
    """build/label/audit.json: labels by source, and the errors that labels copied from the model would hold.

    `llm` says how true a language model's labels are; None when it is off.
    """

    labels: dict[str, dict[str, int]]  # domain -> source -> utterances
    hypotheses_against_references: dict[str, SliceMetrics]  # by domain
    llm: LabelAudit | None = None


def make_audit(
    utterances: Sequence[Utterance],
    labels: Sequence[Label],
    hypotheses: Sequence[Hypothesis],
    normalizer: NormalizerName,
    llm: LabelAudit | None = None,
) -> Audit:
    """Counts sources by domain, and scores what the model wrote against what people wrote."""
    domains: list[Domain] = ["target", "retention"]
    if any(item.domain == "replay" for item in utterances):  # few projects have any
        domains.append("replay")
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
