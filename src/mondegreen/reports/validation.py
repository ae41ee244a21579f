"""Everything that the page, the Markdown and the CSV files say of a verdict, computed once from the stage outputs.

The rates by slice, in the order in which people read them: all, conditions, retention, then finer cuts.

Every test of the difference, a row each, with the unit it was made over. Only the first one decides.

The utterances that changed most.

The few numbers that stand under the verdict, and what a reader must know was left out.

Any JSON tree as lines that a page can show: for files whose shape their stage owns and may add to.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_args

from mondegreen.config import Params
from mondegreen.errors import UsageError
from mondegreen.files import no_collection
from mondegreen.records import Utterance
from mondegreen.reports.outputs import StageOutputs
from mondegreen.reports.page import noise
from mondegreen.scoring.comparison import ROLES, Comparison, resample
from mondegreen.scoring.decision import PairedTestSets
from mondegreen.scoring.significance import Bootstrap
from mondegreen.scoring.slices import Confusion, Kind, Slice, confusion_changes, slices
from mondegreen.scoring.verdict import Verdict, slice_label
from mondegreen.scoring.wer import AlignedWord, Scored, align_words
from mondegreen.scoring.wording import percent, points, probability, span

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
    verdict: Verdict, test: Comparison, retention: Comparison, params: Params, snr: Mapping[str, float]
) -> list[SliceGroup]:
    """The verdict's own slices first, with their intervals; then by speaker, duration, SNR, confidence, word class.

    Args:
        snr: dB by utterance ID, where it was measured.
    """
    level = verdict.interval.level if verdict.interval else 1 - verdict.alpha
    found = slices(test, snr, level=level, seed=params.seed) if test.clusters else []
    groups = [SliceGroup("", _main_rows(verdict, retention, found, level, params))]
    for kind in get_args(Kind):
        rows = [_row(item, verdict) for item in found if item.kind == kind]
        if rows and kind != "condition":
            groups.append(_group(f"By {_TITLES.get(kind, kind)}", rows))
    return groups


def _main_rows(verdict: Verdict, retention: Comparison, found: list[Slice], level: float, params: Params) -> list[Row]:
    conditions = {item.name: item for item in found if item.kind == "condition"}
    made = []
    for name in verdict.shown_slices:
        label, both = slice_label(name), verdict.slices[name]
        if name == "test":
            interval = (verdict.interval.low, verdict.interval.high) if verdict.interval else None
            sure = verdict.significant
            over = f"{verdict.clusters} {verdict.unit}s"
        elif name.startswith("retention"):
            interval, sure = resample(retention, params).interval(level) if retention.clusters > 1 else None, False
            over = f"{retention.clusters} {retention.unit}s"
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


def _sure(item: Slice, verdict: Verdict) -> bool:
    return item.p_value is not None and item.p_value <= verdict.alpha


def _row(item: Slice, verdict: Verdict) -> Row:
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


@dataclass(frozen=True)
class EvidenceRow:
    """`result` holds the statistic in words; `p_value` is one-sided, "–" where a test has none."""

    name: str
    p_value: str
    result: str
    over: str  # what was taken as independent


def evidence_rows(verdict: Verdict) -> list[EvidenceRow]:
    """What the verdict holds, the deciding test first."""
    over = f"{verdict.clusters} {verdict.unit}s, {verdict.words:,} words"
    rows = [
        EvidenceRow(
            "sign-flip permutation (decides)",
            probability(verdict.p_value),
            f"allowed {verdict.spendable:.3g}" + (f" for look {verdict.look.number}" if verdict.look else ""),
            over,
        )
    ]
    if found := verdict.cluster_t:
        rows.append(
            EvidenceRow("cluster-robust t", probability(found.p_value), _known("t =", found.t, "nothing varies"), over)
        )
    if ranks := verdict.wilcoxon:
        correlation = _known("rank-biserial correlation", ranks.rank_biserial, "none differs")
        rows.append(
            EvidenceRow(
                "Wilcoxon signed rank", probability(ranks.p_value), correlation,
                f"the {ranks.pairs} {verdict.unit}s that differ",
            )
        )  # fmt: skip
    if segments := verdict.mapsswe:
        rows.append(
            EvidenceRow(
                "MAPSSWE", probability(segments.p_value), _known("z =", segments.z, "nothing varies"),
                f"{segments.segments:,} segments, as if independent",
            )
        )  # fmt: skip
    if effect := verdict.effect_size:
        shared = f"{effect.better} {verdict.unit}s better, {effect.worse} worse, {effect.equal} equal"
        rows.append(
            EvidenceRow("effect size", "–", f"{_known('Hedges’ g', effect.hedges_g, 'no variance')}; {shared}", over)
        )
    rows.append(
        EvidenceRow(
            "smallest effect that it shows", "–",
            f"{points(verdict.minimum_detectable_effect).lstrip('+')} with 80 % power", over,
        )
    )  # fmt: skip
    return rows


def _known(label: str, value: float | None, otherwise: str) -> str:
    return otherwise if value is None else f"{label} {value:.2f}"


@dataclass(frozen=True)
class Change:
    """An utterance under both models: errors lost (negative) or gained, and which word was heard as which."""

    utterance: Utterance
    reference: str
    before: list[AlignedWord]
    after: list[AlignedWord]
    change: int
    errors: tuple[int, int]  # words wrong: baseline, candidate
    words: int  # of the reference


def changed_most(compared: Comparison, limit: int = 10) -> tuple[list[Change], list[Change]]:
    """The utterances that lost and that gained the most word errors, the largest change first, ties by path."""
    pairs = [(new.words.errors - old.words.errors, old, new) for old, new in compared.pairs]
    pairs.sort(key=lambda item: (-abs(item[0]), item[1].utterance.path))
    better = [_change(*item) for item in [pair for pair in pairs if pair[0] < 0][:limit]]
    worse = [_change(*item) for item in [pair for pair in pairs if pair[0] > 0][:limit]]
    return better, worse


def _change(change: int, old: Scored, new: Scored) -> Change:
    return Change(
        utterance=old.utterance,
        reference=old.reference,
        before=align_words(old.reference, old.heard),
        after=align_words(new.reference, new.heard),
        change=change,
        errors=(old.words.errors, new.words.errors),
        words=old.words.reference_length,
    )


_AGAIN = "Run `dvc repro`, so that hypotheses, params.yaml and verdict belong together."


@dataclass(frozen=True)
class Findings:
    """What there is to show; every list may be empty."""

    outputs: StageOutputs
    compared: Comparison  # the test set
    samples: Bootstrap | None  # None when no utterance has a reference
    groups: list[SliceGroup]
    tests: list[EvidenceRow]
    better: list[Change]
    worse: list[Change]
    confusions: list[Confusion]

    @property
    def verdict(self) -> Verdict:
        return self.outputs.verdict

    @cached_property
    def paths(self) -> dict[str, str]:
        """Utterance ID to path."""
        return {utterance.id: utterance.path for utterance in self.outputs.sets.judging}

    @property
    def unheard(self) -> list[tuple[str, str]]:
        """(model, path) of each test utterance that a model gave an error for."""
        return [(model, self.paths[key]) for model in ROLES for key in self.compared.failed(model)]

    @property
    def lineage(self) -> dict[str, str]:
        """What made the candidate, and what judged it; "" for what nobody knows."""
        verdict, run = self.verdict, self.outputs.run
        made = {} if run is None else {
            "MLflow run": run.run_id,
            "base model": run.base,
            "method": f"{'LoRA' if run.method == 'lora' else 'full fine-tuning'}, merge weight {run.merge_weight:g}, "
            f"best epoch {run.best_epoch}",
            **{name: value for name, value in run.data.items() if not name.startswith("mlflow.")},
        }  # fmt: skip
        return made | {
            "baseline digest": verdict.baseline_model,
            "candidate digest": verdict.candidate_model,
            "references digest": verdict.reference_digest,
            "normaliser": verdict.normalizer,
            "seed": str(self.outputs.params.seed),
        }


def find(outputs: StageOutputs) -> Findings:
    """What the verdict's own test sets show.

    Raises:
        UsageError: the verdict is not one of these hypotheses under these parameters.
    """
    with no_collection():
        return _find(outputs)


def _find(outputs: StageOutputs) -> Findings:
    compared, retention = outputs.sets.test, outputs.sets.retention
    _check(outputs.verdict, outputs.sets)
    better, worse = changed_most(compared)
    snr = noise([pair.utterance for pair in compared.baseline], outputs.project)
    return Findings(
        outputs=outputs,
        compared=compared,
        samples=resample(compared, outputs.params) if compared.clusters else None,
        groups=slice_groups(outputs.verdict, compared, retention, outputs.params, snr),
        tests=evidence_rows(outputs.verdict),
        better=better,
        worse=worse,
        confusions=_repeated(confusion_changes(compared)),
    )


def _repeated(found: list[Confusion]) -> list[Confusion]:
    """Without those that happened once: they are no pattern."""
    return [item for item in found if max(item.baseline, item.candidate) > 1]


def _check(verdict: Verdict, sets: PairedTestSets) -> None:
    test = sets.test
    found = test.improvement if test.clusters else None
    if found != verdict.wer_improvement:
        raise UsageError(
            f"The verdict speaks of an improvement of {verdict.wer_improvement}, its files hold one of {found}.", _AGAIN
        )
    if test.clusters and (test.unit, test.clusters) != (verdict.unit, verdict.clusters):
        raise UsageError(
            f"The verdict is over {verdict.clusters} {verdict.unit}s, params.yaml makes {test.clusters} "
            f"{test.unit}s of its files.",
            _AGAIN,
        )
    for role in ROLES:
        judged, there = getattr(verdict, f"{role}_model"), getattr(sets, f"{role}_model")
        if judged != there:
            raise UsageError(f"The verdict's {role} is {judged[:12]}, its hypotheses are of {there[:12]}.", _AGAIN)


_HEADLINES_MOST = 50  # lines of one list


def key_figures(found: Findings) -> list[tuple[str, str, str]]:
    """(name, value, what belongs to it) of error rate, improvement, chance, forgetting and regression suites."""
    verdict, regression = found.verdict, found.outputs.regression
    lines = []
    if "test" in verdict.slices:
        old, new = verdict.slices["test"].baseline, verdict.slices["test"].candidate
        both = f"{100 * old.wer.rate:.1f} → {100 * new.wer.rate:.1f}"
        lines.append(("word error rate, %", both, f"{verdict.utterances:,} utterances, {verdict.words:,} words"))
    if verdict.interval:
        bounds = f"{100 * verdict.interval.level:.0f} % interval {span(verdict.interval.low, verdict.interval.high)}"
        lines.append(("improvement", points(verdict.wer_improvement), bounds))
    if verdict.p_value is not None:
        allowed = f"allowed {verdict.spendable:.3g}" + (f", look {verdict.look.number}" if verdict.look else "")
        chance = "< 0.0001" if verdict.p_value < 0.0001 else probability(verdict.p_value)
        lines.append(("chance (p)", chance, f"{allowed}; {verdict.clusters} {verdict.unit}s"))
    kept = verdict.retention
    if kept.loss is None:
        lines.append(("forgetting", "not measured", ""))
    else:
        lines.append(
            ("change on what it knew", points(-kept.loss), f"{kept.outcome}; may lose {points(kept.margin)[1:]}")
        )
    if regression:
        good = sum(suite.outcome == "pass" for suite in regression.suites)
        lines.append(("regression suites", f"{good} of {len(regression.suites)} pass", ""))
    return lines


def left_out(found: Findings) -> list[tuple[str, str]]:
    """(place, what is wrong) of recordings that judged nothing, counted as wrong, were dropped or kept with doubts."""
    lines: list[tuple[str, str]] = []
    if found.compared.without_reference:
        lines.append(("", f"{found.compared.without_reference} test utterances have no reference and judge nothing"))
    lines += [(path, f"the {model} gave an error; it counts as fully wrong") for model, path in found.unheard]
    history = found.outputs.history
    problems = [*found.outputs.problems, *(history.left_out if history else [])]
    for problem in sorted(problems, key=lambda item: (item.warning, item.path, item.reason)):
        lines.append((problem.path, problem.message + (" (kept)" if problem.warning else "")))
    lines += [("", f"training: {note}") for note in (history.notes if history else [])]
    hidden = len(lines) - _HEADLINES_MOST
    return (
        lines
        if hidden <= 0
        else [*lines[:_HEADLINES_MOST], ("", f"and {hidden} more: build/prepare/report.json has them all")]
    )


_LONGEST = 10  # values in one line
_COUNTS = (("errors", "reference_length"), ("count", "total"))  # what stands beside a rate: some of many


def facts(tree: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(label, value) of every part, in order: "labels · target", "human 80; llm 20".

    A rate with its counts is one value, a small part one line, a large one several; the rest of a long list is counted.
    """
    return [line for key, value in tree.items() for line in _lines(_name(key), value)]


def _lines(label: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and not _is_rate(value):
        leaves = list(_leaves("", value))
        if len(leaves) > _LONGEST:
            for key, inner in value.items():
                yield from _lines(f"{label} · {_name(key)}", inner)
        else:
            yield label, "; ".join(f"{name} {text}".strip() for name, text in leaves)
    elif _is_list(value) and any(isinstance(item, Mapping) for item in value):
        for number, item in enumerate(value[:_MOST], 1):
            yield from _lines(f"{label} · {number}", item)
        if len(value) > _MOST:
            yield label, f"and {len(value) - _MOST} more"
    else:
        yield label, _text(value)


def _leaves(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value and not _is_rate(value):
        for key, inner in value.items():
            yield from _leaves(f"{name} {_name(key)}".strip(), inner)
    else:
        yield name, _text(value)


def _text(value: Any) -> str:
    if isinstance(value, Mapping) and value:
        return _rate(value) if _is_rate(value) else "; ".join(f"{k} {t}".strip() for k, t in _leaves("", value))
    if _is_list(value):
        more = f", and {len(value) - _MOST} more" if len(value) > _MOST else ""
        return ", ".join(map(_text, value[:_MOST])) + more or "none"
    if value is None or value == {}:
        return "–" if value is None else "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _is_rate(value: Mapping[str, Any]) -> bool:
    rate = value.get("rate", "")
    return (rate is None or isinstance(rate, float)) and any(value.keys() >= set(names) for names in _COUNTS)


def _rate(value: Mapping[str, Any]) -> str:
    part, whole = next(names for names in _COUNTS if value.keys() >= set(names))
    bounds = value.get("interval")
    span = f", interval {percent(bounds[0])} to {percent(bounds[1])}" if bounds else ""
    return f"{percent(value['rate'])} ({value[part]} of {value[whole]}{span})"


def _name(key: Any) -> str:
    return str(key).replace("_", " ")
