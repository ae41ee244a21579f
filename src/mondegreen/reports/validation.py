"""Everything that the page, the Markdown and the CSV files say of a verdict, computed once from the stage outputs."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from markupsafe import Markup

from mondegreen.errors import UsageError
from mondegreen.files import no_collection, write_text
from mondegreen.git import git_or_nothing
from mondegreen.records import Utterance
from mondegreen.reports import figures
from mondegreen.reports.outputs import StageOutputs
from mondegreen.reports.page import embed, facts, noise, templates
from mondegreen.reports.regression import rates, rates_svg, series, why
from mondegreen.reports.rows import EvidenceRow, RateRow, SliceGroup, evidence_rows, slice_groups
from mondegreen.scoring.comparison import ROLES, Comparison, resample
from mondegreen.scoring.metrics import Scored
from mondegreen.scoring.paired_sets import PairedTestSets
from mondegreen.scoring.significance import Bootstrap
from mondegreen.scoring.slices import Confusion, confusion_changes
from mondegreen.scoring.verdict import Verdict, slice_label
from mondegreen.scoring.wer import align_words
from mondegreen.scoring.wording import confidence, counted, points, probability, span, unsigned

_MOST_LEFT_OUT = 50  # lines
_MOST_CHANGED = 10  # utterances that improved, and as many that got worse
_AGAIN = "Run `dvc repro`, so that hypotheses, params.yaml and verdict belong together."
_SPECIAL = re.compile(r"([\\`*_\[\]<|~&#]|^[-+>])")
_NO_LINK = "\u200b"  # a space without width: what follows is no mention, no issue and no address


@dataclass(frozen=True)
class Findings:
    """What there is to show; every list may be empty."""

    outputs: StageOutputs
    samples: Bootstrap | None  # None when no utterance has a reference
    groups: list[SliceGroup]
    tests: list[EvidenceRow]
    better: list[tuple[Scored, Scored]]  # utterances under both models that changed most
    worse: list[tuple[Scored, Scored]]
    confusions: list[Confusion]

    @property
    def verdict(self) -> Verdict:
        return self.outputs.verdict

    @property
    def compared(self) -> Comparison:
        """The test set."""
        return self.outputs.sets.test

    @cached_property
    def paths(self) -> dict[str, str]:
        """Utterance ID to path."""
        return {utterance.id: utterance.path for utterance in self.outputs.sets.judging}

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

    @property
    def models(self) -> str:
        """Which models these are, and of which day: the commit's, so that equal runs write equal pages."""
        verdict, run = self.verdict, self.outputs.run
        candidate, baseline = _named(verdict.candidate_model), _named(verdict.baseline_model)
        if run is None:
            return f"Candidate {candidate} against baseline {baseline}."
        method = "LoRA" if run.method == "lora" else "full fine-tuning"
        if commit := run.data.get("git.commit", ""):
            day = git_or_nothing(self.outputs.project, "show", "--no-patch", "--format=%cs", commit)
            commit = f", trained at commit {commit[:7]}" + (f" of {day}" if day else "")
        return f"Candidate {candidate}, {method} of {run.base}, against baseline {run.base} ({baseline}){commit}."


def _named(model: str) -> str:
    """A digest as its beginning, another name as it is."""
    return model[:12] if re.fullmatch("[0-9a-f]{64}", model) else model


def find(outputs: StageOutputs) -> Findings:
    """What the verdict and its test sets show.

    Raises:
        UsageError: the verdict is not one of these hypotheses under these parameters.
    """
    with no_collection():
        _check(outputs.verdict, outputs.sets)
        test = outputs.sets.test
        snr = noise(outputs.sets.judging, outputs.project)
        return Findings(
            outputs=outputs,
            samples=resample(test, outputs.params) if test.clusters else None,
            groups=slice_groups(outputs.verdict, outputs.sets, outputs.params, snr),
            tests=evidence_rows(outputs.verdict),
            better=test.most_changed(1, _MOST_CHANGED),
            worse=test.most_changed(-1, _MOST_CHANGED),
            # What happened once is no pattern.
            confusions=[item for item in confusion_changes(test) if max(item.counts) > 1],
        )


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


def key_figures(found: Findings) -> list[tuple[str, str, str]]:
    """(name, value, what belongs to it) of error rate, improvement, p-value, forgetting and regression suites.

    Above zero is better, in all of them and in the tables.
    """
    verdict, kept, regression = found.verdict, found.verdict.retention, found.outputs.regression
    lines = []
    if both := verdict.slices.get(verdict.split):
        rates = f"{100 * both.baseline.wer.rate:.1f} → {100 * both.candidate.wer.rate:.1f}"
        judged = f"{verdict.utterances:,} utterances, {verdict.words:,} {counted(verdict.measure)}"
        lines.append((f"{counted(verdict.measure)[:-1]} error rate, %", rates, judged))
    if interval := verdict.interval:
        bounds = f"{confidence(interval.level)} interval {span(interval.low, interval.high)}"
        lines.append(("improvement", points(verdict.wer_improvement), bounds))
    if verdict.p_value is not None:
        allowed = f"allowed {verdict.spendable:.3g}" + (f", look {verdict.look.number}" if verdict.look else "")
        chance = "< 0.0001" if verdict.p_value < 0.0001 else probability(verdict.p_value)
        lines.append(("p-value", chance, f"{allowed}; {verdict.clusters} {verdict.unit}s"))
    if kept.loss is None:
        lines.append(("forgetting", "NOT MEASURED", "no retention test set"))
    else:
        may = f"{kept.outcome}; may lose {unsigned(kept.margin)}"
        lines.append(("improvement on what it knew", points(-kept.loss), may))
    if regression and not regression.registered:
        lines.append(("regression suites", "none", "none are registered"))
    elif regression and not regression.suites:
        lines.append(("regression suites", "not run", regression.reason))
    elif regression:
        good = sum(suite.outcome == "pass" for suite in regression.suites)
        lines.append(("regression suites", f"{good} of {len(regression.suites)} pass", ""))
    return lines


def left_out(found: Findings) -> list[tuple[str, str]]:
    """(place, what is wrong) of recordings that judged nothing, counted as wrong, were dropped or kept with doubts."""
    lines: list[tuple[str, str]] = []
    if found.compared.without_reference:
        silent = f"{found.compared.without_reference} {found.verdict.split} utterances"
        lines.append(("", f"{silent} have no reference and judge nothing"))
    for role in ROLES:
        failed = (found.paths[key] for key in found.compared.failed(role))
        lines += [(path, f"the {role} gave an error; it counts as fully wrong") for path in failed]
    history = found.outputs.history
    problems = [*found.outputs.problems, *(history.left_out if history else [])]
    for problem in sorted(problems, key=lambda item: (item.warning, item.path, item.reason)):
        lines.append((problem.path, problem.message + (" (kept)" if problem.warning else "")))
    lines += [("", f"training: {note}") for note in (history.notes if history else [])]
    hidden = len(lines) - _MOST_LEFT_OUT
    if hidden <= 0:
        return lines
    return [*lines[:_MOST_LEFT_OUT], ("", f"and {hidden} more: build/prepare/report.json has them all")]


def write_page(path: Path, found: Findings, clips: int | None = None) -> None:
    """Writes the page.

    Args:
        path: build/validate/report.html, or another; links to recordings start from there.
        clips: recordings that play in the page, at most; the others are links. None: validate.report_clips.
    """
    outputs = found.outputs
    most = outputs.params.validate_.report_clips if clips is None else clips
    text = _rendered(
        "report.html.j2",
        found,
        key_figures=key_figures(found),
        figures={title: Markup(svg) for title, svg in _drawn(found)},
        clips=embed(_shown(found), outputs.project, path.parent, most),
        suites_over_time=Markup(rates_svg(series(outputs.suite_runs)) if len(outputs.suite_runs) > 1 else ""),
        registered=outputs.registered,
        audit=facts(outputs.audit) if outputs.audit else [],
    )
    write_text(path, text + "\n")


def render_markdown(found: Findings) -> str:
    """The report in GitHub's Markdown, short enough for a pull request."""
    return re.sub(r"\n{3,}", "\n\n", _rendered("report.md.j2", found)).strip() + "\n"


def _rendered(template: str, found: Findings, **more: Any) -> str:
    environment, regression = templates(escape=template.endswith(".html.j2")), found.outputs.regression
    environment.filters.update(
        md=escaped,
        code=code,
        capitalised=lambda text: text[:1].upper() + text[1:],
        tone=_tone,
        align=lambda scored: align_words(scored.reference, scored.text),
    )
    return environment.get_template(template).render(
        verdict=found.verdict,
        found=found,
        regression=regression,
        suites=[(suite, *rates(suite), why(suite)) for suite in regression.suites] if regression else [],
        left_out=left_out(found),
        **more,
    )


def _shown(found: Findings) -> list[Utterance]:
    """The most improved and the most damaged in turn, so that a bound on the clips takes from both."""
    pairs = zip_longest(found.better, found.worse)
    return [pair[0].utterance for pair in chain.from_iterable(pairs) if pair]


def _tone(row: RateRow) -> str:
    """A class of the page's style: only a difference that is sure has a colour."""
    return ("good" if row.improvement > 0 else "bad") if row.sure else ""


def _drawn(found: Findings) -> list[tuple[str, str]]:
    """Title and SVG of each figure that there is data for."""
    drawn = []
    rows = [row for group in found.groups for row in group.rows]
    bounded = [
        (row.full_label, row.interval[0], row.improvement, row.interval[1], row.sure) for row in rows if row.interval
    ]
    if bounded:
        drawn.append(("Improvement of each slice with its interval; full dots are sure", figures.intervals(bounded)))
    interval = found.verdict.interval
    if interval and found.samples:
        picture = figures.improvements(found.samples.improvements, interval.low, interval.high)
        drawn.append(("How far chance could move the improvement: the bootstrap", picture))
    if found.compared.baseline:
        before = [pair.words.rate for pair in found.compared.baseline]
        after = [pair.words.rate for pair in found.compared.candidate]
        drawn.append(("Utterance by utterance: dots improved, rings got worse", figures.scatter(before, after)))
    history, run = found.outputs.history, found.outputs.run
    if history and history.epochs:
        best = run.best_epoch if run else None
        drawn.append(("Error rates while it learnt", figures.error_rates(history.epochs, best)))
        drawn.append(("Training loss", figures.losses(history.epochs)))
    if history and history.sweep:
        chosen, budget = run.merge_weight if run else None, found.outputs.params.train.forgetting_budget
        drawn.append(("How much of what was learnt is kept", figures.merge_weights(history.sweep, chosen, budget)))
    return drawn


def escaped(text: str) -> str:
    """Other people's words as text: no markup, no HTML, no mention of a person or an issue, no link."""
    flat = _SPECIAL.sub(r"\\\1", " ".join(text.split()))
    flat = re.sub(r"^(\d+)([.)])", r"\1\\\2", flat)  # no numbered list
    return re.sub(r"(@|\\#|www|https?:)", rf"\1{_NO_LINK}", flat)


def code(text: str) -> str:
    """A path or a digest, as it is; a backtick or a bar in it would end the code or the cell."""
    flat = " ".join(text.split()).replace("`", "'").replace("|", "¦")
    return f"`{flat}`"


def write_plots(folder: Path, found: Findings) -> None:
    """Writes wer_by_slice, bootstrap, utterances, learning_curve and merge_weight; only a header where nothing is."""
    history, pairs = found.outputs.history, found.compared.pairs
    tables: dict[str, tuple[Sequence[str], Iterable[Sequence[Any]]]] = {
        "wer_by_slice": (("slice", "model", "wer", "bar"), _slices(found)),
        "bootstrap": (("improvement", "samples"), found.samples.histogram() if found.samples else ()),
        "utterances": (
            ("id", "condition", "baseline_wer", "candidate_wer"),
            ((old.utterance.id, old.utterance.condition, old.words.rate, new.words.rate) for old, new in pairs),
        ),
        "learning_curve": (
            ("epoch", "loss", "dev_wer", "dev_cer"),
            ((row.epoch, row.loss, row.dev_wer, row.dev_cer) for row in (history.epochs if history else ())),
        ),
        "merge_weight": (
            ("weight", "dev_wer", "retention_wer"),
            ((row.weight, row.dev_wer, row.retention_wer) for row in (history.sweep if history else ())),
        ),
    }
    for name, (header, rows) in tables.items():
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\n").writerows([header, *rows])
        write_text(folder / f"{name}.csv", stream.getvalue())


def _slices(found: Findings) -> Iterable[Sequence[Any]]:
    for name, both in found.verdict.slices.items():
        for model, metrics in (("baseline", both.baseline), ("candidate", both.candidate)):
            yield name, model, metrics.wer.rate, f"{slice_label(name)}, {model}"  # DVC's bars would stack otherwise
