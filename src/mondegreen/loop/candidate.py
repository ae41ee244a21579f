"""From the stage outputs to the registry: the candidate that was trained, judged and tested last."""

from pathlib import Path

from mondegreen.config import RegisterParams, params_of
from mondegreen.errors import RegistryError
from mondegreen.files import read_json
from mondegreen.records import RegisteredVersion, RegressionResults, RunInfo
from mondegreen.registry.record import VerdictTags
from mondegreen.registry.register import register
from mondegreen.reports.page import render_card
from mondegreen.scoring.verdict import Verdict
from mondegreen.speech.model_folder import model_digest


def register_candidate(build: Path, settings: RegisterParams, promote: bool) -> RegisteredVersion:
    """Registers the candidate in `build`, or finds its version again, with verdict, lineage and card.

    Args:
        build: the folder of the stage outputs.
        promote: to Production/@champion, if the verdict passed, and the regression suites that there are.

    Raises:
        RegistryError: verdict, results and model are not of one candidate, the verdict was edited by hand, or it is a
            trial's.
    """
    model = build / "train" / "model"
    trained = read_json(build / "train" / "run.json", RunInfo)
    verdict = Verdict.read(build / "validate" / "verdict.json")
    if verdict.outcome == "trial":
        raise RegistryError("It was only tried, on dev: nobody judged it.", "Run `dvc repro` with validate.on: test.")
    results = read_json(build / "regress" / "results.json", RegressionResults)
    digest = model_digest(model)
    if verdict.candidate_model != digest:
        raise RegistryError(
            f"The verdict is about model {verdict.candidate_model[:12]}, {model} holds {digest[:12]}.",
            "Run `dvc repro` to judge the model that was trained last.",
        )
    return register(
        settings.model_name,
        trained.run_id,
        model,
        digest=digest,
        verdict=VerdictTags.of(verdict),
        results=results,
        promote=promote,
        card=render_card(trained, verdict, results, settings.model_name),
        told="\n\n".join(verdict.paragraphs),
        facts=_facts(verdict, trained),
        config=params_of(build.parent).deploy,
    )


def _facts(verdict: Verdict, trained: RunInfo) -> dict[str, str]:
    """What `models list` and `show` say of a version; the rest of what made it is lineage.json in its run."""
    numbers = {
        "p_value": verdict.p_value,
        "wer_before": verdict.baseline and verdict.baseline.wer.rate,
        "wer_after": verdict.candidate and verdict.candidate.wer.rate,
        "wer_improvement": verdict.wer_improvement,
    }
    lineage = {name: trained.data[name] for name in ("git.commit", "data.dvc") if name in trained.data}
    return lineage | {name: f"{value:.4g}" for name, value in numbers.items() if value is not None}
