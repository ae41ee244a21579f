"""The model card: what the registry's users read before they trust a version."""

from pydantic import BaseModel

from mondegreen.records import RegressionResults, RunInfo
from mondegreen.reports.judgement import Judgement, shown_slices
from mondegreen.reports.templating import templates


def render_card(
    run: RunInfo, verdict: BaseModel, results: RegressionResults, model_name: str = "fine-tuned-stt"
) -> str:
    """The card as Markdown.

    Args:
        run: build/train/run.json.
        verdict: a `mondegreen.loop.verdict.decision.Verdict`.
        results: build/regress/results.json.
        model_name: the registered model's.
    """
    judgement = Judgement.of(verdict)
    # Numbers, names and our own sentences; no transcript stands in it.
    return (
        templates(escape=False)
        .get_template("model_card.md.j2")
        .render(name=model_name, run=run, verdict=judgement, slices=shown_slices(judgement.slices), results=results)
    )
