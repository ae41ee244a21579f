"""How true a language model's labels are: its suggestions beside what people wrote, with and without each guard."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.stats import binomtest

from mondegreen.config import GUARDS, GuardName, LabelParams, Params
from mondegreen.labels.audit_record import Accepted, EditCounts, LabelAudit, Share
from mondegreen.labels.edits import count_edits
from mondegreen.labels.guards import decide
from mondegreen.labels.judging import Judgement
from mondegreen.records import Rate, Utterance
from mondegreen.scoring.bootstrap import block_bootstrap
from mondegreen.scoring.comparison import Unit, choose_unit
from mondegreen.scoring.errors import ErrorCounts, count_words
from mondegreen.scoring.normalizer import NormalizerName, normalize

_LEVEL = 0.95
_MIN_CLUSTERS = 2  # of one, no interval can be drawn


@dataclass(frozen=True)
class _Case:
    """An audited utterance."""

    cluster: str
    reference: str
    heard: str
    suggested: str
    accepted: bool


def audit_labels(
    utterances: Mapping[str, Utterance],
    judgements: Sequence[Judgement],
    params: Params,
    margin: float | None = None,
    margin_references: int = 0,
) -> LabelAudit:
    """Scores the suggestions for utterances that have a person's reference.

    Args:
        utterances: by id.
        judgements: of these utterances.
        params: label, score, seed and validate (unit and resamples of the intervals) are read.
        margin: of the acoustic check.
        margin_references: how many references it was calibrated on.
    """
    audited = [utterances[item.record.id] for item in judgements]
    unit = choose_unit(audited, params.validate_)

    def scored(accepts: Callable[[Judgement], bool]) -> Accepted:
        cases = [
            _case(item, utterances[item.record.id], unit, accepts(item), params.score.normalizer) for item in judgements
        ]
        return _accepted(cases, params)

    sets: dict[str, tuple[GuardName, ...]] = {"none": (), **{name: (name,) for name in GUARDS}, "all": GUARDS}
    writers = {item.record.writer.model_dump_json(): item.record.writer for item in judgements if item.record.writer}
    heard = [_counts(utterances[item.record.id].reference, item.record.heard, params) for item in judgements]
    return LabelAudit(
        writers=[writers[key] for key in sorted(writers)],
        utterances=len(judgements),
        answered=sum(item.case is not None for item in judgements),
        unit=unit,
        heard=_rate(heard),
        margin=margin,
        margin_references=margin_references,
        result=scored(lambda item: item.record.is_accepted),
        by_guard={name: scored(partial(_passes, params=params.label, guards=on)) for name, on in sets.items()},
    )


def _passes(item: Judgement, params: LabelParams, guards: tuple[GuardName, ...]) -> bool:
    return item.case is not None and decide(item.case, params.model_copy(update={"guards": guards})).accepted


def _case(item: Judgement, utterance: Utterance, unit: Unit, accepted: bool, normalizer: NormalizerName) -> _Case:
    cluster = {"speaker": utterance.speaker, "recording": utterance.recording, "utterance": utterance.id}[unit]
    texts = (utterance.reference, item.record.heard, item.record.suggested)
    reference, heard, suggested = (normalize(text, normalizer) for text in texts)
    return _Case(cluster, reference, heard, suggested, accepted)


def _accepted(cases: Sequence[_Case], params: Params) -> Accepted:
    taken = [case for case in cases if case.accepted]
    before = [count_words(case.reference, case.heard) for case in taken]
    after = [count_words(case.reference, case.suggested) for case in taken]
    edits = [count_edits(case.reference, case.heard, case.suggested) for case in taken]
    clusters = [case.cluster for case in taken]
    words = [counts.reference_length for counts in before]
    gains = [old.errors - new.errors for old, new in zip(before, after, strict=True)]
    return Accepted(
        accepted=_share([case.accepted for case in cases], [1] * len(cases), [case.cluster for case in cases], params),
        heard=_rate(before),
        labels=_rate(after),
        reduction=round(sum(gains) / sum(words), 6) if sum(words) else None,
        interval=_interval(gains, words, clusters, params),
        edits=sum(edits, EditCounts()),
        harmful=_share([item.worse for item in edits], [item.total for item in edits], clusters, params),
    )


def _share(counts: Sequence[int], totals: Sequence[int], clusters: Sequence[str], params: Params) -> Share:
    count, total = int(sum(counts)), sum(totals)
    if not total:
        return Share(count=0, total=0, rate=None, interval=None)
    interval = _interval(counts, totals, clusters, params)
    if interval and count in (0, total):  # all clusters say the same, and so would every resample
        trials = len({cluster for cluster, below in zip(clusters, totals, strict=True) if below})
        exact = binomtest(trials if count else 0, trials).proportion_ci(_LEVEL)
        interval = round(float(exact.low), 6), round(float(exact.high), 6)
    return Share(count=count, total=total, rate=round(count / total, 6), interval=interval)


def _interval(
    numerators: Sequence[int], denominators: Sequence[int], clusters: Sequence[str], params: Params
) -> tuple[float, float] | None:
    """Of a ratio of sums. Clusters that have nothing to divide by say nothing."""
    sums: dict[str, list[int]] = {}
    for above, below, cluster in zip(numerators, denominators, clusters, strict=True):
        known = sums.setdefault(cluster, [0, 0])
        known[0], known[1] = known[0] + int(above), known[1] + below
    pairs = np.array([pair for _, pair in sorted(sums.items()) if pair[1]], dtype=np.int64).reshape(-1, 2)
    if len(pairs) < _MIN_CLUSTERS:
        return None
    samples = params.validate_.bootstrap_samples
    drawn = block_bootstrap(pairs[:, 0], np.zeros_like(pairs[:, 0]), pairs[:, 1], samples, params.seed)
    low, high = drawn.interval(_LEVEL)
    return round(low, 6), round(high, 6)


def _counts(reference: str, heard: str, params: Params) -> ErrorCounts:
    return count_words(normalize(reference, params.score.normalizer), normalize(heard, params.score.normalizer))


def _rate(counts: Sequence[ErrorCounts]) -> Rate | None:
    total = sum(counts, ErrorCounts.zero())
    return total.to_rate() if total.reference_length else None
