"""The validation report: one HTML file that needs nothing else, the same bytes for the same inputs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from pydantic import BaseModel

from mondegreen.config import Params
from mondegreen.files import write_text
from mondegreen.labels.gold import Audit
from mondegreen.records import Hypothesis, Problem, Utterance
from mondegreen.reports import figures
from mondegreen.reports.comparison import Row, changed_most, judging_ids, part, rows
from mondegreen.reports.judgement import Judgement, shown_slices
from mondegreen.reports.numbers import percent, points, probability, span
from mondegreen.scoring.comparison import Comparison
from mondegreen.scoring.evidence import resample


def write_report(
    path: Path,
    verdict: BaseModel,
    utterances: Sequence[Utterance],
    baseline: Sequence[Hypothesis],
    candidate: Sequence[Hypothesis],
    *,
    params: Params | None = None,
    history: Sequence[Mapping[str, float | int | None]] | None = None,
    label_audit: Audit | None = None,
    problems: Sequence[Problem] = (),
    lineage: Mapping[str, str] | None = None,
) -> None:
    """Writes the report.

    Args:
        path: build/validate/report.html.
        verdict: a `mondegreen.loop.verdict.Verdict` of the same utterances and hypotheses.
        utterances: the whole manifest.
        baseline: one hypothesis for each utterance.
        candidate: the same of the candidate.
        params: those that the verdict was made with.
        history: one mapping an epoch, for the learning curves.
        label_audit: build/label/audit.json.
        problems: files that were left out of the manifest.
        lineage: more lines for the last table: data hash, branch, commit.
    """
    params = params or Params()
    judgement = Judgement.of(verdict)
    compared = part(judging_ids(utterances), utterances, baseline, candidate, params)
    table = rows(judgement, shown_slices(judgement.slices), utterances, baseline, candidate, params)
    better, worse = changed_most(compared)
    page = _environment().get_template("report.html.j2")
    text = page.render(
        verdict=judgement,
        rows=table,
        figures={title: Markup(svg) for title, svg in _figures(judgement, compared, table, history, params) if svg},
        better=better,
        worse=worse,
        unheard=[(model, key) for model in ("baseline", "candidate") for key in compared.unheard(model)],
        paths={utterance.id: utterance.path for utterance in utterances},
        without_reference=compared.without_reference,
        audit=label_audit,
        problems=sorted(problems, key=lambda problem: (problem.warning, problem.path)),
        lineage=_lineage(judgement) | dict(lineage or {}),
    )
    write_text(path, text + "\n")


def _figures(
    judgement: Judgement,
    compared: Comparison,
    table: Sequence[Row],
    history: Sequence[Mapping[str, float | int | None]] | None,
    params: Params,
) -> list[tuple[str, str]]:
    """Title and SVG of each figure that there is data for."""
    drawn = []
    bounded = [(row.label, row.interval[0], row.improvement, row.interval[1]) for row in table if row.interval]
    if bounded:
        drawn.append(("Improvement by slice", figures.intervals(bounded)))
    if judgement.interval and compared.clusters:
        samples = resample(compared, params).improvements
        drawn.append(
            (
                "Bootstrap of the improvement",
                figures.improvements(samples, judgement.interval.low, judgement.interval.high),
            )
        )
    if compared.baseline:
        before = [pair.words.rate for pair in compared.baseline]
        after = [pair.words.rate for pair in compared.candidate]
        drawn.append(("Utterance by utterance", figures.scatter(before, after)))
    if history:
        drawn.append(("Training", figures.curves(history)))
    return drawn


def _lineage(judgement: Judgement) -> dict[str, str]:
    return {
        "baseline model": judgement.baseline_model,
        "candidate model": judgement.candidate_model,
        "references": judgement.reference_digest,
        "normaliser": judgement.normalizer,
    }


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("mondegreen.reports"),
        autoescape=True,  # transcripts and file names are other people's text
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters.update(percent=percent, points=points, probability=probability)
    environment.globals["span"] = span
    return environment
