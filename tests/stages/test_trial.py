"""The trial stage: what DVC cannot see of itself, as a file."""

from pathlib import Path

import pytest
import yaml

from mondegreen.config import load_params
from mondegreen.files import read_json
from mondegreen.records import Trial
from mondegreen.stages import trial

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("params", "experiment", "tries"),
    [
        ("{}", "", False),
        ("{}", "smaller", True),
        ("validate: {on: dev}", "", True),  # YAML 1.1 takes this key for `true`
        ('validate: {"on": test}', "", False),
        ('validate: {"on": test}', "smaller", True),
    ],
)
def test_an_experiment_is_a_trial_and_so_is_a_run_on_dev(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params: str, experiment: str, tries: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    if experiment:
        monkeypatch.setenv("DVC_EXP_NAME", experiment)
    Path("params.yaml").write_text(params)
    trial.main()
    assert read_json(Path("build/trial/trial.json"), Trial).trial == tries
    assert load_params().validate_.on == ("dev" if "dev" in params else "test")


def test_what_judges_runs_again_where_the_answer_changed_and_training_does_not() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert stages["trial"]["always_changed"]
    asks = {name for name, stage in stages.items() if "build/trial/trial.json" in stage["deps"]}
    assert asks == {"evaluate", "validate", "regress"}
