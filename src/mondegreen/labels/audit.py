"""The audit of a language model's labels: its suggestions beside what people wrote, with and without each guard."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mondegreen.config import GUARDS, GuardName, Params
from mondegreen.errors import MondegreenError
from mondegreen.labels.gold import Accepted, EditCounts, EstimatedShare, LabelAudit
from mondegreen.labels.guards import LabelDecision, filter_label, spans
from mondegreen.records import Rate, Utterance
from mondegreen.scoring.metrics import choose_unit, cluster_name, cluster_sums
from mondegreen.scoring.normalizer import NormalizerName, normalize, words_of
from mondegreen.scoring.significance import block_bootstrap
from mondegreen.scoring.verdict import Unit
from mondegreen.scoring.wer import ErrorCounts, count_words
from mondegreen.scoring.wording import percent

_LEVEL = 0.95
_MIN_CLUSTERS = 2  # of one, no interval can be drawn


@dataclass(frozen=True)
class _AuditedLabel:
    """The errors of a hypothesis and of the suggestion in its place, against a person's reference."""

    cluster: str
    before: ErrorCounts
    after: ErrorCounts
    edits: EditCounts


def audit_labels(
    utterances: Mapping[str, Utterance],
    decisions: Sequence[LabelDecision],
    params: Params,
    margin: float | None = None,
    margin_references: int = 0,
) -> LabelAudit:
    """Scores the suggestions for utterances that have a person's reference.

    Args:
        utterances: by id.
        decisions: on these utterances, with the evidence.
        params: label, score, seed and validate (unit and resamples of the intervals) are read.
        margin: of the acoustic check.
        margin_references: how many references it was calibrated on.
    """
    unit = choose_unit([utterances[item.id] for item in decisions], params.validate_)
    rows = [_audited(item, utterances[item.id], unit, params.score.normalizer) for item in decisions]

    def with_guards(guards: tuple[GuardName, ...]) -> Accepted:
        limits = params.label.model_copy(update={"guards": guards})
        passed = [item.evidence is not None and filter_label(item.evidence, limits).accepted for item in decisions]
        return _accepted(rows, passed, params)

    sets: dict[str, tuple[GuardName, ...]] = {"none": (), **{name: (name,) for name in GUARDS}, "all": GUARDS}
    writers = {item.writer.model_dump_json(): item.writer for item in decisions if item.writer}
    return LabelAudit(
        writers=[writers[key] for key in sorted(writers)],
        utterances=len(decisions),
        answered=sum(item.evidence is not None for item in decisions),
        unit=unit,
        heard=_rate([row.before for row in rows]),
        margin=margin,
        margin_references=margin_references,
        result=_accepted(rows, [item.is_accepted for item in decisions], params),
        by_guard={name: with_guards(guards) for name, guards in sets.items()},
    )


def check_audit(audit: LabelAudit, labels: int, limit: float | None) -> None:
    """Stops the round when an LLM's labels are wrong too often, or when nothing tells how often they are wrong.

    Args:
        labels: how many an LLM wrote that would be trained on.
        limit: label.max_label_wer.

    Raises:
        MondegreenError: with the figures.
    """
    if limit is None or not labels:
        return
    found = audit.result
    if found.labels is None:
        raise MondegreenError(
            f"An LLM wrote {labels} labels, and nothing tells how true they are: of {audit.utterances} audited "
            "utterances none was accepted.",
            "Raise label.audit_cases, add references (data/references.csv), set label.llm to off, or, to trust the LLM "
            "unmeasured, label.max_label_wer to null.",
        )
    if found.labels.rate > limit:
        raise MondegreenError(
            f"An LLM's labels have a WER of {percent(found.labels.rate)} on {found.accepted.count} audited utterances; "
            f"label.max_label_wer allows {percent(limit)}.",
            "Look at build/label/audit.json and guards.jsonl, then tighten a guard, take a better LLM, or set "
            "label.llm to off.",
        )


def count_edits(reference: str, hypothesis: str, suggested: str) -> EditCounts:
    """Edits from `hypothesis` to `suggested` by what taking each of them back alone does to the word errors.

    Args:
        reference: normalised, as the others.
    """
    words = words_of(suggested)
    errors = count_words(reference, suggested).errors
    counts = EditCounts()
    shift = 0  # from a position in `hypothesis` to the one in `suggested`
    for span in spans(hypothesis, suggested):
        start = span.start + shift
        restored = [*words[:start], *span.hypothesis, *words[start + len(span.suggested) :]]
        shift += len(span.suggested) - len(span.hypothesis)
        change = count_words(reference, " ".join(restored)).errors - errors
        counts += EditCounts(better=int(change > 0), worse=int(change < 0), same=int(change == 0))
    return counts


def _audited(item: LabelDecision, utterance: Utterance, unit: Unit, normalizer: NormalizerName) -> _AuditedLabel:
    texts = (utterance.reference, item.heard, item.suggested)
    reference, hypothesis, suggested = (normalize(text, normalizer) for text in texts)
    return _AuditedLabel(
        cluster_name(utterance, unit),
        before=count_words(reference, hypothesis),
        after=count_words(reference, suggested),
        edits=count_edits(reference, hypothesis, suggested),
    )


def _accepted(rows: Sequence[_AuditedLabel], passed: Sequence[bool], params: Params) -> Accepted:
    taken = [row for row, accepted in zip(rows, passed, strict=True) if accepted]
    clusters, edits = [row.cluster for row in taken], [row.edits for row in taken]
    words = [row.before.reference_length for row in taken]
    gains = [row.before.errors - row.after.errors for row in taken]
    return Accepted(
        accepted=_share(passed, [1] * len(rows), [row.cluster for row in rows], params),
        heard=_rate([row.before for row in taken]),
        labels=_rate([row.after for row in taken]),
        reduction=round(sum(gains) / sum(words), 6) if sum(words) else None,
        interval=_interval(gains, words, clusters, params),
        edits=sum(edits, EditCounts()),
        harmful=_share([item.worse for item in edits], [item.total for item in edits], clusters, params),
    )


def _share(counts: Sequence[int], totals: Sequence[int], clusters: Sequence[str], params: Params) -> EstimatedShare:
    from scipy.stats import binomtest  # a second of work: imported where it is used

    count, total = int(sum(counts)), sum(totals)
    if not total:
        return EstimatedShare(count=0, total=0, rate=None, interval=None)
    interval = _interval(counts, totals, clusters, params)
    if interval and count in (0, total):  # all clusters say the same, and so would every resample
        trials = len({cluster for cluster, below in zip(clusters, totals, strict=True) if below})
        exact = binomtest(trials if count else 0, trials).proportion_ci(_LEVEL)
        interval = round(float(exact.low), 6), round(float(exact.high), 6)
    return EstimatedShare(count=count, total=total, rate=round(count / total, 6), interval=interval)


def _interval(
    numerators: Sequence[int], denominators: Sequence[int], clusters: Sequence[str], params: Params
) -> tuple[float, float] | None:
    """Of a ratio of sums. Clusters that have nothing to divide by say nothing."""
    above, below = cluster_sums(clusters, numerators), cluster_sums(clusters, denominators)
    known = below > 0
    if known.sum() < _MIN_CLUSTERS:
        return None
    samples = params.validate_.bootstrap_samples
    drawn = block_bootstrap(above[known], np.zeros_like(above[known]), below[known], samples, params.seed)
    low, high = drawn.interval(_LEVEL)
    return round(low, 6), round(high, 6)


def _rate(counts: Sequence[ErrorCounts]) -> Rate | None:
    total = sum(counts, ErrorCounts.zero())
    return total.to_rate() if total.reference_length else None
