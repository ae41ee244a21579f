"""What must not get worse: every suite, heard by the base model and by the candidate. The run is put on record."""

import logging
from pathlib import Path

from mondegreen.config import Params, load_params
from mondegreen.files import write_json
from mondegreen.progress import progress, run_stage
from mondegreen.records import RegressionResults
from mondegreen.registry.regression_runs import NO_SUITES, record_run, suites_registered
from mondegreen.regression.runner import run_suites
from mondegreen.speech.corpus_transcription import corpus_transcriber
from mondegreen.speech.model import model_digest
from mondegreen.speech.transcriber import load_transcriber

MODEL = Path("build/train/model")


def main() -> None:
    params = load_params()
    if suites_registered(params.regress):
        results = _run(params)
        record_run(results)  # before the output: what is not on record did not happen
    else:
        digest = model_digest(MODEL)
        results = RegressionResults(
            passed=False, reason=NO_SUITES, model=digest, suites=[], model_version=digest[:12], registered=False
        )
        logging.getLogger(__name__).warning("%s: nothing shows what got worse (`mondegreen regression add`)", NO_SUITES)
    write_json(Path("build/regress/results.json"), results)


def _run(params: Params) -> RegressionResults:
    baseline = corpus_transcriber(load_transcriber(params.model.base, params))
    candidate = corpus_transcriber(load_transcriber(str(MODEL), params))
    version = candidate.digest[:12]
    return run_suites(params.regress.suites, candidate, baseline, params, model_version=version, track=progress)


if __name__ == "__main__":
    run_stage(main)
