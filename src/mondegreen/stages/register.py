"""One model version with its verdict, lineage and card: Staging/@challenger, or @champion when that is allowed."""

import logging
from pathlib import Path

from mondegreen.config import load_params
from mondegreen.errors import RegistryError
from mondegreen.files import read_json, write_json
from mondegreen.loop.verdict import Verdict
from mondegreen.records import RegressionResults, RunInfo
from mondegreen.stages import run

MODEL = Path("build/train/model")


def main() -> None:
    from mondegreen.registry.deployer import register
    from mondegreen.reports.model_card import render_card
    from mondegreen.speech.model import model_digest

    settings = load_params().register_
    trained = read_json(Path("build/train/run.json"), RunInfo)
    verdict = read_json(Path("build/validate/verdict.json"), Verdict)
    results = read_json(Path("build/regress/results.json"), RegressionResults)
    digest = model_digest(MODEL)
    if verdict.candidate_model != digest:
        raise RegistryError(
            f"The verdict is about model {verdict.candidate_model[:12]}, {MODEL} holds {digest[:12]}.",
            "Run `dvc repro` to judge the model that was trained last.",
        )
    version = register(
        settings.model_name,
        trained.run_id,
        MODEL,
        digest=digest,
        verdict=verdict,
        results=results,
        promote=settings.auto_promote,
        card=render_card(trained, verdict, results, settings.model_name),
        tags=_tags(verdict, trained),
    )
    write_json(Path("build/register/version.json"), version)
    logging.getLogger(__name__).info("%s version %s is %s", version.name, version.version, version.stage)


def _tags(verdict: Verdict, trained: RunInfo) -> dict[str, str]:
    """What the registry's list shows of a version."""
    numbers = {
        "p_value": verdict.p_value,
        "wer_before": verdict.baseline and verdict.baseline.wer.rate,
        "wer_after": verdict.candidate and verdict.candidate.wer.rate,
        "wer_improvement": verdict.wer_improvement,
    }
    return trained.data | {name: f"{value:.4g}" for name, value in numbers.items() if value is not None}


if __name__ == "__main__":
    run(main)
