"""Whether this run is a trial: every `dvc exp run` is one, and every run while `validate.on` is dev.

DVC's memory knows files, not the environment. So this stage runs every time (`always_changed`), and
`evaluate`, `validate` and `regress` depend on what it writes: after `dvc exp apply X`, `dvc repro` finds that this is
no trial any more and judges the candidate on test, with the training as it is.
"""

from pathlib import Path

from mondegreen.config import load_params
from mondegreen.files import write_json
from mondegreen.progress import run_stage
from mondegreen.records import Trial
from mondegreen.registry.mlflow_store import experiment_name


def main() -> None:
    trial = bool(experiment_name()) or load_params().validate_.on == "dev"
    write_json(Path("build/trial/trial.json"), Trial(trial=trial))


if __name__ == "__main__":
    run_stage(main)
