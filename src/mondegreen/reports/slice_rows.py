"""The rates by slice, in the order in which people read them: all, conditions, retention, then finer cuts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from mondegreen.config import Params
from mondegreen.reports.judgement import Judgement, shown_slices, slice_label
from mondegreen.scoring.comparison import Comparison
from mondegreen.scoring.evidence import resample
from mondegreen.scoring.slices import Kind, Slice, slices

_TITLES = {"snr": "SNR"}
_MOST = 12  # rows of one kind; of more, the outermost are shown


@dataclass(frozen=True)
class Row:
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
    rows: list[Row]
    hidden: int = 0


def slice_groups(
    verdict: Judgement, test: Comparison, guard: Comparison, params: Params, snr: Mapping[str, float]
) -> list[SliceGroup]:
    """The verdict's own slices first, with their intervals; then by speaker, duration, SNR, confidence, word class.

    Args:
        snr: dB by utterance ID, where it was measured.
    """
    level = verdict.interval.level if verdict.interval else 1 - verdict.alpha
    found = slices(test, snr, level=level, seed=params.seed) if test.clusters else []
    groups = [SliceGroup("", _main_rows(verdict, guard, found, level, params))]
    for kind in get_args(Kind):
        rows = [_row(item, verdict) for item in found if item.kind == kind]
        if rows and kind != "condition":
            groups.append(_group(f"By {_TITLES.get(kind, kind)}", rows))
    return groups


def _main_rows(verdict: Judgement, guard: Comparison, found: list[Slice], level: float, params: Params) -> list[Row]:
    conditions = {item.name: item for item in found if item.kind == "condition"}
    made = []
    for name in shown_slices(verdict.slices):
        label, both = slice_label(name), verdict.slices[name]
        if name == "test":
            interval = (verdict.interval.low, verdict.interval.high) if verdict.interval else None
            sure = verdict.p_value is not None and verdict.p_value <= verdict.spendable
            over = f"{verdict.clusters} {verdict.unit}s"
        elif name.startswith("retention"):
            interval, sure = resample(guard, params).interval(level) if guard.clusters > 1 else None, False
            over = f"{guard.clusters} {guard.unit}s"
        elif label in conditions:
            interval, sure = conditions[label].improvement.interval, _sure(conditions[label], verdict)
            over = f"{conditions[label].clusters} {conditions[label].unit}s"
        else:
            continue  # the only condition: it is the whole
        row = Row(
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
            whole=name == "test",
        )
        made.append(row)
    return made


def _sure(item: Slice, verdict: Judgement) -> bool:
    return item.p_value is not None and item.p_value <= verdict.alpha


def _row(item: Slice, verdict: Judgement) -> Row:
    return Row(
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


def _group(title: str, rows: list[Row]) -> SliceGroup:
    """All rows in their order, or of many the best and the worst, ties by label."""
    if len(rows) <= _MOST:
        return SliceGroup(title, rows)
    ranked = sorted(rows, key=lambda row: (-row.improvement, row.label))
    return SliceGroup(title, [*ranked[: _MOST // 2], *ranked[-_MOST // 2 :]], hidden=len(rows) - _MOST)
