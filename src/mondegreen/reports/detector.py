"""The detector's evaluation as tables, as a CSV and a drawing of its reliability curve, and as numbers for MLflow."""

import csv
import io
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from mondegreen.detector.evaluation import DetectorReport, Evaluation, Reached, SliceReport
from mondegreen.detector.measures import PRECISIONS, RECALLS, MeasuredFigure
from mondegreen.scoring.wording import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NAMES = {"detector": "detector", "confidence": "1 - confidence", "everything": "flag everything"}
_FIGURES = {
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "roc_auc": "ROC-AUC",
    "average_precision": "average precision",
    "calibration_error": "calibration error",
}


def render(report: DetectorReport) -> RenderableType:
    """Markdown tables, so that they can be copied into a page as they are; bounds are 95 % intervals.

    Where a screen is too narrow for one of them, it is a table a slice, with the scores side by side.
    """
    parts: list[RenderableType] = [f"Model {report.model[:12]}, errors counted after {report.normalizer}."]
    for evaluation in report.evaluations:
        parts += ["", *_evaluation(evaluation)]
    first = report.evaluations[0]
    parts += ["", _reliability(first, first.slices[0]), "", _types(first, first.slices[0])]
    return Group(*parts)


def _evaluation(found: Evaluation) -> Iterator[RenderableType]:
    yield f"Misheard: WER above {found.error_wer:g}. {escape(_learnt(found))}"
    yield ""
    yield _figures(found)
    if any(part.both_classes for part in found.slices):
        yield ""
        yield _operating_points(found)
    yield from ("", *(f"- {escape(note)}" for note in found.notes)) if found.notes else ()


def _learnt(found: Evaluation) -> str:
    if found.learnt is None:
        return f"Not calibrated, the built-in rules score: {found.reason}"
    cases = ""
    if found.learnt.cases:
        cases = f" It learnt from {found.learnt.cases} corrected cases as well, which no figure counts."
    return (
        f"Calibrated on {found.learnt.utterances} utterances of {' and '.join(found.learnt.splits)} "
        f"({found.learnt.misheard} misheard, {found.learnt.recordings} recordings): cross-fitted ROC-AUC "
        f"{found.learnt.roc_auc:.2f}, calibration error {found.learnt.calibration_error:.2f}.{cases}"
    )


class _BySlice:
    """A table in Markdown; where the screen is too narrow for it, a table a slice, whose columns are the scores."""

    def __init__(self, *headings: str) -> None:
        self.headings = headings
        self.rows: list[tuple[str, ...]] = []

    def add_row(self, *cells: str) -> None:
        self.rows.append(cells)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        whole = _table(*self.headings)
        for row in self.rows:
            whole.add_row(*row)
        if Measurement.get(console, options.update(width=10_000), whole).maximum <= options.max_width:
            yield whole
            return
        score = self.headings.index("score")
        for part, rows in groupby(self.rows, key=itemgetter(slice(score))):
            (_, *scores), *figures = list(zip(self.headings, *rows, strict=True))[score:]
            table = _table(", ".join(part), *scores)
            for figure in figures:
                table.add_row(*figure)
            yield table


def _figures(found: Evaluation) -> _BySlice:
    table = _BySlice("slice", "misheard", "score", f"flagged from {found.threshold:g}", *_FIGURES.values())
    for part in found.slices:
        for scorer in part.scorers:
            cells = [_cell(scorer.measures[name]) for name in _FIGURES]
            table.add_row(part.name, _base_rate(part), _NAMES[scorer.name], str(scorer.flagged), *cells)
    return table


def _operating_points(found: Evaluation) -> _BySlice:
    """The guide's points: on the test curve itself, and by thresholds chosen without the test data."""
    headings = [f"recall where precision >= {at:g}" for at in PRECISIONS]
    headings += [f"precision where recall >= {at:g}" for at in RECALLS]
    table = _BySlice("slice", "score", *headings)
    names = [f"recall_at_precision_{at:g}" for at in PRECISIONS] + [f"precision_at_recall_{at:g}" for at in RECALLS]
    for part in (part for part in found.slices if part.both_classes):
        for scorer in part.scorers:
            table.add_row(part.name, _NAMES[scorer.name], *(_cell(scorer.measures[name]) for name in names))
        if part.reached:
            table.add_row(part.name, "detector, threshold chosen before", *map(_reached, part.reached))
    low, high = (f"{min(values):g} to {max(values):g}" for values in (RECALLS, PRECISIONS))
    table.add_row("the guide's claim", "its detector", low, low, high, high)
    return table


def _reached(point: Reached) -> str:
    if point.threshold is None:
        return "not reached"
    return f"P {_number(point.precision)}, R {_number(point.recall)} from {point.threshold:.2f}"


def _reliability(found: Evaluation, part: SliceReport) -> Table:
    table = _table(f"score, {part.name}, WER above {found.error_wer:g}", "transcripts", "mean score", "misheard")
    for item in part.reliability:
        span = f"{item.low:.1f} to {item.high:.1f}"
        table.add_row(span, str(item.count), _number(item.mean_score), _number(item.misheard))
    return table


def _types(found: Evaluation, part: SliceReport) -> Table:
    table = _table(f"error type, {part.name}, WER above {found.error_wer:g}", "transcripts", "of them misheard")
    for item in part.types:
        table.add_row(item.error_type, str(item.count), str(item.misheard))
    return table


def _table(*headings: str) -> Table:
    table = Table(box=box.MARKDOWN)
    for heading in headings:
        table.add_column(heading, no_wrap=heading in ("slice", "score"))
    return table


def _base_rate(part: SliceReport) -> str:
    return f"{part.misheard} of {part.utterances} ({percent(part.base_rate, 0)})"


def _cell(found: MeasuredFigure) -> str:
    if found.low is None or found.high is None or found.low == found.high:
        return _number(found.value)
    return f"{found.value:.2f} ({found.low:.2f}-{found.high:.2f})"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def reliability_csv(report: DetectorReport) -> str:
    """Every bin of every slice: error_wer, slice, low, high, count, mean_score, misheard."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["error_wer", "slice", "low", "high", "count", "mean_score", "misheard"])
    for evaluation in report.evaluations:
        for part in evaluation.slices:
            for item in part.reliability:
                row = [item.low, item.high, item.count, item.mean_score, item.misheard]
                writer.writerow([f"{evaluation.error_wer:g}", part.name, *row])
    return stream.getvalue()


def metrics(report: DetectorReport) -> dict[str, float]:
    """`wer_0.25/test/detector/roc_auc`, with `_low` and `_high` for its interval, and so on; what exists."""
    values: dict[str, float] = {}
    for evaluation in report.evaluations:
        for part in evaluation.slices:
            prefix = f"wer_{evaluation.error_wer:g}/{part.name}"
            values[f"{prefix}/base_rate"] = part.base_rate
            for scorer in part.scorers:
                for name, found in scorer.measures.items():
                    for suffix, value in (("", found.value), ("_low", found.low), ("_high", found.high)):
                        if value is not None:
                            values[f"{prefix}/{scorer.name}/{name}{suffix}"] = value
    return values


def reliability_svg(report: DetectorReport) -> str:
    """A panel for each meaning of "misheard", on the first slice; a file of its own."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from mondegreen.reports.figures import STYLE, svg

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.2 * len(report.evaluations), 3.2), layout="constrained")
        panels = figure.subplots(1, len(report.evaluations), squeeze=False)[0]
        for axes, evaluation in zip(panels, report.evaluations, strict=True):
            _panel(axes, evaluation)
        text = svg(figure, "Share of misheard transcripts against the mean error score of a bin")
    return text.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)


def _panel(axes: "Axes", evaluation: Evaluation) -> None:
    """The area of a dot is the number of transcripts in the bin."""
    from mondegreen.reports.figures import BEFORE, SAME

    part = evaluation.slices[0]
    filled = [item for item in part.reliability if item.mean_score is not None and item.misheard is not None]
    axes.plot([0, 1], [0, 1], color=SAME, linewidth=1, linestyle="--")
    axes.scatter(
        [item.mean_score or 0.0 for item in filled],
        [item.misheard or 0.0 for item in filled],
        s=[12 + 400 * item.count / part.utterances for item in filled],
        color=BEFORE,
        alpha=0.7,
        linewidths=0,
    )
    rules = "" if evaluation.learnt else ", not calibrated"
    axes.set(
        title=f"WER above {evaluation.error_wer:g}{rules}",
        xlabel="mean error score",
        ylabel=f"share misheard, {part.name}",
        xlim=(-0.05, 1.05),
        ylim=(-0.05, 1.05),
    )
    axes.grid(True)
