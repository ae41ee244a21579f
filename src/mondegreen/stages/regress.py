"""What must not get worse: every suite, heard by the base model and by the candidate. The run is put on record."""

from pathlib import Path

from mondegreen.config import load_params
from mondegreen.files import write_json
from mondegreen.progress import progress, run_stage
from mondegreen.registry.regression_runs import record_run
from mondegreen.regression.runner import run_suites
from mondegreen.speech.corpus_transcription import corpus_transcriber
from mondegreen.speech.transcriber import load_transcriber


def main() -> None:
    params = load_params()
    baseline = corpus_transcriber(load_transcriber(params.model.base, params))
    candidate = corpus_transcriber(load_transcriber("build/train/model", params))
    results = run_suites(
        params.regress.suites, candidate, baseline, params, model_version=candidate.digest[:12], track=progress
    )
    record_run(results)  # before the output: what is not on record did not happen
    write_json(Path("build/regress/results.json"), results)


if __name__ == "__main__":
    run_stage(main)
