"""What must not get worse: every suite, heard by the base model and by the candidate. The run is put on record.

Suites are for what is judged: a trial runs none, and `dvc repro` after `dvc exp apply` runs them.
"""

import logging
from pathlib import Path

from mondegreen.config import Params, load_params
from mondegreen.files import read_json, write_json
from mondegreen.progress import progress, run_stage
from mondegreen.records import RegressionResults, Trial
from mondegreen.registry.regression_runs import NO_SUITES, record_run, suites_registered
from mondegreen.regression.runner import run_suites
from mondegreen.speech.corpus_transcription import corpus_transcriber, pipeline_transcriber
from mondegreen.speech.model_folder import model_digest

MODEL = Path("build/train/model")


def main() -> None:
    params = load_params()
    if not suites_registered(params.regress):
        results = _not_run(NO_SUITES, registered=False)
        logging.getLogger(__name__).warning("%s: nothing shows what got worse (`mondegreen regression add`)", NO_SUITES)
    elif read_json(Path("build/trial/trial.json"), Trial).trial:
        results = _not_run("a trial runs no suites", registered=True)
    else:
        results = _run(params)
        record_run(results)  # before the output: what is not on record did not happen
    write_json(Path("build/regress/results.json"), results)


def _not_run(reason: str, registered: bool) -> RegressionResults:
    digest = model_digest(MODEL)
    names = {"model": digest, "model_version": digest[:12]}
    return RegressionResults(passed=False, reason=reason, suites=[], registered=registered, **names)


def _run(params: Params) -> RegressionResults:
    baseline = corpus_transcriber(pipeline_transcriber(params.model.base, params))
    candidate = corpus_transcriber(pipeline_transcriber(str(MODEL), params))
    version = candidate.digest[:12]
    return run_suites(params.regress.suites, candidate, baseline, params, model_version=version, track=progress)


if __name__ == "__main__":
    run_stage(main)
