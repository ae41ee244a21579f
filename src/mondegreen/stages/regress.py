"""What must not get worse: every suite, heard by the base model and by the candidate."""

from functools import partial
from pathlib import Path

from mondegreen.config import load_params
from mondegreen.files import write_json
from mondegreen.loop.suites import run_suites
from mondegreen.speech.hearing import hear, transcriber
from mondegreen.stages import run


def main() -> None:
    params = load_params()
    baseline = transcriber(params.model.base, params)
    candidate = transcriber("build/train/model", params)
    results = run_suites(
        params.regress.suites, partial(hear, model=baseline), partial(hear, model=candidate), candidate.digest, params
    )
    write_json(Path("build/regress/results.json"), results)


if __name__ == "__main__":
    run(main)
