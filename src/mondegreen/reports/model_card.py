"""The model card: what the registry's users read before they trust a version."""

from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import BaseModel

from mondegreen.records import RegressionResults, RunInfo
from mondegreen.reports.judgement import Judgement, shown_slices, slice_label
from mondegreen.reports.numbers import percent, points, probability, span


def render_card(
    run: RunInfo, verdict: BaseModel, results: RegressionResults, model_name: str = "fine-tuned-stt"
) -> str:
    """The card as Markdown.

    Args:
        run: build/train/run.json.
        verdict: a `mondegreen.loop.verdict.Verdict`.
        results: build/regress/results.json.
        model_name: the registered model's.
    """
    environment = Environment(  # Markdown with numbers, names and our own sentences; no transcript stands in it
        loader=PackageLoader("mondegreen.reports"),
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.filters.update(percent=percent, points=points, probability=probability, label=slice_label)
    environment.globals["span"] = span
    judgement = Judgement.of(verdict)
    return environment.get_template("model_card.md.j2").render(
        name=model_name, run=run, verdict=judgement, slices=shown_slices(judgement.slices), results=results
    )
