"""A candidate that was put together of the champion's files: judged against it, and registered."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from mondegreen.config import Params
from mondegreen.loop.validator import ModelValidator, ValidationConfig, ValidationResult
from mondegreen.progress import progress
from mondegreen.registry.deployer import ModelDeployer
from mondegreen.registry.regression_runs import record_run, suites_registered
from mondegreen.scoring.decision import Question
from mondegreen.speech.corpus_transcription import corpus_transcriber, transcribe_corpus
from mondegreen.speech.transcriber import BaselineSTTModel


class Proposal(BaseModel):
    """What came of it. `version` is None for a trial, which registers nothing."""

    model_config = ConfigDict(frozen=True)

    champion: str
    digest: str
    version: str | None
    verdict: ValidationResult
    suites: str  # outcome of the regression suites: pass, fail, none; "" in a trial


def judged(
    deployer: ModelDeployer,
    champion: str,
    old: BaselineSTTModel,
    folder: Path,
    new: BaselineSTTModel,
    params: Params,
    described: str,
    on_dev: bool = False,
    question: Question = "better",
) -> Proposal:
    """Both hear test and retention (dev in a trial); on test the one that is judged becomes Staging/@challenger.

    Args:
        champion: by which name `old` was loaded.
        folder: of `new`.
        described: what it is, for the registry.
        on_dev: a trial, which spends no look and registers nothing.
        question: what a pass has to show.
    """
    config = ValidationConfig.from_params(params).model_copy(update={"on": "dev"} if on_dev else {})
    validator = ModelValidator(config, params=params)
    utterances = validator.utterances()
    heard = []
    for name, model in ((champion, old), (str(folder), new)):
        with progress(name, len(utterances)) as advance:
            heard.append(transcribe_corpus(utterances, model, on_progress=advance))
    verdict = validator.judge_hypotheses(
        utterances, *heard, model_id=str(folder), baseline_id=champion, question=question, proposed=True
    )
    if on_dev:
        return Proposal(champion=champion, digest=new.digest, version=None, verdict=verdict, suites="")
    suites = _suites(old, new, params)
    version = deployer.register_model(
        deployer.model_name, folder, verdict, description=described, tags={"regression": suites}
    )
    return Proposal(champion=champion, digest=new.digest, version=version, verdict=verdict, suites=suites)


def _suites(old: BaselineSTTModel, new: BaselineSTTModel, params: Params) -> str:
    from mondegreen.regression.runner import run_suites

    if not suites_registered(params.regress):
        return "none"
    results = run_suites(
        params.regress.suites, corpus_transcriber(new), corpus_transcriber(old), params,
        model_version=new.digest[:12], track=progress,
    )  # fmt: skip
    record_run(results)
    return results.outcome
