"""What the report shows of two models on the same recordings: rows by slice, and the utterances that changed most."""

from collections.abc import Sequence
from dataclasses import dataclass

from mondegreen.config import Params
from mondegreen.records import Domain, Hypothesis, Utterance
from mondegreen.reports.judgement import Judgement, slice_label
from mondegreen.scoring.alignment import AlignedWord, align_words
from mondegreen.scoring.comparison import Comparison, compare
from mondegreen.scoring.evidence import resample
from mondegreen.scoring.metrics import Scored, slice_names


@dataclass(frozen=True)
class Row:
    """A slice under both models; rates are fractions, improvements baseline - candidate."""

    name: str
    label: str
    utterances: int
    words: int
    wer: tuple[float, float]  # baseline, candidate
    cer: tuple[float, float]
    improvement: float
    interval: tuple[float, float] | None  # of the improvement; None where one cluster is all there is


@dataclass(frozen=True)
class Change:
    """An utterance under both models: errors lost (negative) or gained, and which word was heard as which."""

    utterance: Utterance
    reference: str
    before: list[AlignedWord]
    after: list[AlignedWord]
    change: int
    confidence: tuple[float, float]


def rows(
    judgement: Judgement,
    names: Sequence[str],
    utterances: Sequence[Utterance],
    baseline: Sequence[Hypothesis],
    candidate: Sequence[Hypothesis],
    params: Params,
) -> list[Row]:
    """One row a slice. The whole test set has the verdict's interval, the others the same bootstrap over less."""
    made = []
    for name in names:
        old, new = judgement.slices[name].baseline, judgement.slices[name].candidate
        if name == "test":
            whole = judgement.interval
            interval = (whole.low, whole.high) if whole else None
        else:
            chosen = {utterance.id for utterance in utterances if name in slice_names(utterance)}
            interval = _interval(part(chosen, utterances, baseline, candidate, params), params)
        row = Row(
            name=name,
            label=slice_label(name),
            utterances=new.utterances,
            words=new.wer.reference_length,
            wer=(old.wer.rate, new.wer.rate),
            cer=(old.cer.rate, new.cer.rate),
            improvement=old.wer.rate - new.wer.rate,
            interval=interval,
        )
        made.append(row)
    return made


def part(
    ids: set[str],
    utterances: Sequence[Utterance],
    baseline: Sequence[Hypothesis],
    candidate: Sequence[Hypothesis],
    params: Params,
) -> Comparison:
    """The comparison of some utterances."""
    return compare(
        [utterance for utterance in utterances if utterance.id in ids],
        [hypothesis for hypothesis in baseline if hypothesis.id in ids],
        [hypothesis for hypothesis in candidate if hypothesis.id in ids],
        params.validate_,
        params.score.normalizer,
    )


def judging_ids(utterances: Sequence[Utterance], domain: Domain = "target") -> set[str]:
    """The utterances that judge."""
    return {utterance.id for utterance in utterances if (utterance.domain, utterance.split) == (domain, "test")}


def changed_most(compared: Comparison, limit: int = 10) -> tuple[list[Change], list[Change]]:
    """The utterances that lost and that gained the most word errors, the largest change first, ties by path."""
    pairs = [_change(old, new) for old, new in zip(compared.baseline, compared.candidate, strict=True)]
    ordered = sorted(pairs, key=lambda item: (-abs(item.change), item.utterance.path))
    better = [item for item in ordered if item.change < 0][:limit]
    worse = [item for item in ordered if item.change > 0][:limit]
    return better, worse


def _interval(compared: Comparison, params: Params) -> tuple[float, float] | None:
    return resample(compared, params).interval(1 - params.validate_.alpha) if compared.clusters > 1 else None


def _change(old: Scored, new: Scored) -> Change:
    return Change(
        utterance=old.utterance,
        reference=old.reference,
        before=align_words(old.reference, old.heard),
        after=align_words(new.reference, new.heard),
        change=new.words.errors - old.words.errors,
        confidence=(old.hypothesis.confidence, new.hypothesis.confidence),
    )
