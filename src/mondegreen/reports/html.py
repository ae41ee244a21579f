"""The validation report: one HTML file that needs nothing else, the same bytes for the same inputs."""

from itertools import chain, zip_longest
from pathlib import Path

from markupsafe import Markup

from mondegreen.files import write_text
from mondegreen.records import Utterance
from mondegreen.reports import figures
from mondegreen.reports.clips import embed
from mondegreen.reports.facts import facts
from mondegreen.reports.findings import Findings
from mondegreen.reports.headlines import key_figures, left_out
from mondegreen.reports.regression import rates, why
from mondegreen.reports.regression_figures import rates_svg
from mondegreen.reports.regression_series import series
from mondegreen.reports.slice_rows import Row
from mondegreen.reports.templating import templates


def write_page(path: Path, found: Findings, clips: int | None = None) -> None:
    """Writes the page.

    Args:
        path: build/validate/report.html, or another; links to recordings start from there.
        clips: recordings that play in the page, at most; the others are links. None: validate.report_clips.
    """
    environment = templates(escape=True)
    environment.filters["tone"] = _tone
    outputs, regression = found.outputs, found.outputs.regression
    most = outputs.params.validate_.report_clips if clips is None else clips
    text = environment.get_template("report.html.j2").render(
        verdict=found.verdict,
        found=found,
        key_figures=key_figures(found),
        figures={title: Markup(svg) for title, svg in _drawn(found)},
        clips=embed(_shown(found), outputs.project, path.parent, most),
        regression=regression,
        suites=[(suite, *rates(suite), why(suite)) for suite in regression.suites] if regression else [],
        suites_over_time=Markup(rates_svg(series(outputs.suite_runs)) if len(outputs.suite_runs) > 1 else ""),
        registered=outputs.registered,
        audit=facts(outputs.audit) if outputs.audit else [],
        left_out=left_out(found),
    )
    write_text(path, text + "\n")


def _shown(found: Findings) -> list[Utterance]:
    """The most improved and the most damaged in turn, so that a bound on the clips takes from both."""
    pairs = zip_longest(found.better, found.worse)
    return [item.utterance for item in chain.from_iterable(pairs) if item]


def _tone(row: Row) -> str:
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
