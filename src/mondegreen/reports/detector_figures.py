"""The detector's reliability curve, in the style of the validation report."""

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mondegreen.cases.detector.evaluation import DetectorReport, Evaluation
from mondegreen.reports.drawing import BEFORE, SAME, STYLE, svg


def reliability_svg(report: DetectorReport) -> str:
    """A panel for each meaning of "misheard", on the first slice; a file of its own."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.2 * len(report.evaluations), 3.2), layout="constrained")
        panels = figure.subplots(1, len(report.evaluations), squeeze=False)[0]
        for axes, evaluation in zip(panels, report.evaluations, strict=True):
            _panel(axes, evaluation)
        text = svg(figure, "Share of misheard transcripts against the mean error score of a bin")
    return text.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)


def _panel(axes: Axes, evaluation: Evaluation) -> None:
    """The area of a dot is the number of transcripts in the bin."""
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
