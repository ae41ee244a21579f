"""The validation report: a page that needs nothing else, Markdown for a pull request, and CSV for `dvc plots`.

The same findings give the same bytes. In the Markdown nothing is alive: no link, no mention, no markup of others.
"""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from markupsafe import Markup

from mondegreen.files import write_text
from mondegreen.records import Utterance
from mondegreen.reports import figures
from mondegreen.reports.page import embed, facts, templates
from mondegreen.reports.regression import rates, rates_svg, series, why
from mondegreen.reports.validation import Findings, RateRow, key_figures, left_out
from mondegreen.scoring.verdict import slice_label
from mondegreen.scoring.wer import align_words

_SPECIAL = re.compile(r"([\\`*_\[\]<|~&#]|^[-+>])")
_NO_LINK = "\u200b"  # a space without width: what follows is no mention, no issue and no address


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
