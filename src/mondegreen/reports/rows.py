"""A verdict as rows: rates by slice, and the tests of the difference."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, get_args

from mondegreen.config import Params
from mondegreen.scoring.comparison import Comparison, resample
from mondegreen.scoring.paired_sets import PairedTestSets
from mondegreen.scoring.slices import Slice, SliceKind, slices
from mondegreen.scoring.verdict import Verdict, slice_label
from mondegreen.scoring.wording import counted, probability, unsigned

_TITLES = {"snr": "SNR"}
_MOST_ROWS = 12  # of one kind; of more, the outermost are shown


@dataclass(frozen=True)
class RateRow:
    """A slice under both models; rates are fractions, improvements baseline - candidate."""

    label: str
    utterances: int
    words: int
    wer: tuple[float, float]  # baseline, candidate
    cer: tuple[float, float] | None
    improvement: float
    interval: tuple[float, float] | None  # of the improvement; None where one cluster is all there is
    over: str  # what the interval resamples
    full_label: str  # where no title says what kind it is
    sure: bool = False  # of a difference, two-sided and after Holm's correction over the slices of its kind
    whole: bool = False


@dataclass(frozen=True)
class SliceGroup:
    """Rows of one kind; `hidden` are left out between the best and the worst."""

    title: str
    rows: list[RateRow]
    hidden: int = 0


class EvidenceRow(NamedTuple):
    """One test of the difference; `p_value` is one-sided, "–" where there is none."""

    name: str
    p_value: str
    result: str  # the statistic in words
    over: str  # what was taken as independent


def slice_groups(verdict: Verdict, sets: PairedTestSets, params: Params, snr: Mapping[str, float]) -> list[SliceGroup]:
    """The verdict's own slices first, with their intervals; then by speaker, duration, SNR, confidence, word class.

    Args:
        snr: dB by utterance ID, where it was measured.
    """
    level = verdict.interval.level if verdict.interval else 1 - verdict.alpha
    found = slices(sets.test, snr, level=level, seed=params.seed) if sets.test.clusters else []
    groups = [SliceGroup("", _main_rows(verdict, sets.retention, found, level, params))]
    for kind in get_args(SliceKind):
        rows = [_row(item, verdict) for item in found if item.kind == kind]
        if rows and kind != "condition":
            groups.append(_group(f"By {_TITLES.get(kind, kind)}", rows))
    return groups


def _main_rows(
    verdict: Verdict, retention: Comparison, found: list[Slice], level: float, params: Params
) -> list[RateRow]:
    conditions = {item.name: item for item in found if item.kind == "condition"}
    made = []
    for name in verdict.shown_slices:
        label, both = slice_label(name), verdict.slices[name]
        if name == verdict.split:
            interval = (verdict.interval.low, verdict.interval.high) if verdict.interval else None
            sure, over = verdict.is_significant, f"{verdict.clusters} {verdict.unit}s"
        elif name.startswith("corrected"):
            cases = verdict.corrected
            interval = (cases.interval.low, cases.interval.high) if cases and cases.interval else None
            sure, over = False, f"{cases.clusters} {cases.unit}s" if cases else ""
        elif name.startswith("retention"):
            interval = resample(retention, params).interval(level) if retention.clusters > 1 else None
            sure, over = False, f"{retention.clusters} {retention.unit}s"
        elif item := conditions.get(label):
            interval, sure, over = item.improvement.interval, _sure(item, verdict), f"{item.clusters} {item.unit}s"
        else:
            continue  # the only condition: it is the whole
        row = RateRow(
            label=label,
            utterances=both.candidate.utterances,
            words=both.candidate.wer.reference_length,
            wer=(both.baseline.wer.rate, both.candidate.wer.rate),
            cer=(both.baseline.cer.rate, both.candidate.cer.rate),
            improvement=both.baseline.wer.rate - both.candidate.wer.rate,
            interval=interval,
            over=over,
            full_label=label,
            sure=sure,
            whole=name == verdict.split,
        )
        made.append(row)
    return made


def _sure(item: Slice, verdict: Verdict) -> bool:
    return item.p_value is not None and item.p_value <= verdict.alpha


def _row(item: Slice, verdict: Verdict) -> RateRow:
    return RateRow(
        label=item.name,
        utterances=item.utterances,
        words=item.words,
        wer=(item.baseline.value, item.candidate.value),
        cer=None,
        improvement=item.improvement.value,
        interval=item.improvement.interval,
        over=f"{item.clusters} {item.unit}s",
        full_label=item.name if item.kind == "word class" else f"{_TITLES.get(item.kind, item.kind)} {item.name}",
        sure=_sure(item, verdict),
    )


def _group(title: str, rows: list[RateRow]) -> SliceGroup:
    """All rows in their order, or of many the best and the worst, ties by label."""
    if len(rows) <= _MOST_ROWS:
        return SliceGroup(title, rows)
    ranked = sorted(rows, key=lambda row: (-row.improvement, row.label))
    return SliceGroup(title, [*ranked[: _MOST_ROWS // 2], *ranked[-_MOST_ROWS // 2 :]], hidden=len(rows) - _MOST_ROWS)


def evidence_rows(verdict: Verdict) -> list[EvidenceRow]:
    """Every test of the difference with the unit that it was made over; only the first one decides."""
    unit, over = f"{verdict.unit}s", f"{verdict.clusters} {verdict.unit}s, {verdict.words:,} {counted(verdict.measure)}"
    look = f" for look {verdict.look.number}" if verdict.look else ""
    allowed = f"allowed {verdict.spendable:.3g}{look}"
    rows = [EvidenceRow("sign-flip permutation (decides)", probability(verdict.p_value), allowed, over)]
    if t := verdict.cluster_t:
        rows.append(EvidenceRow("cluster-robust t", probability(t.p_value), _known("t =", t.t, "nothing varies"), over))
    if ranks := verdict.wilcoxon:
        correlation = _known("rank-biserial correlation", ranks.rank_biserial, "none differs")
        which = f"the {ranks.pairs} {unit} that differ"
        rows.append(EvidenceRow("Wilcoxon signed rank", probability(ranks.p_value), correlation, which))
    if segments := verdict.mapsswe:
        z, which = _known("z =", segments.z, "nothing varies"), f"{segments.segments:,} segments, as if independent"
        rows.append(EvidenceRow("MAPSSWE", probability(segments.p_value), z, which))
    if effect := verdict.effect_size:
        shared = f"{effect.better} {unit} better, {effect.worse} worse, {effect.equal} equal"
        size = _known("Hedges’ g", effect.hedges_g, "no variance")
        rows.append(EvidenceRow("effect size", "–", f"{size}; {shared}", over))
    smallest = f"{unsigned(verdict.minimum_detectable_effect)} with 80 % power"
    return [*rows, EvidenceRow("smallest effect that it shows", "–", smallest, over)]


def _known(label: str, value: float | None, otherwise: str) -> str:
    return otherwise if value is None else f"{label} {value:.2f}"
