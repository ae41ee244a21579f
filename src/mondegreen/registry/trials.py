"""Trials side by side: what MLflow's runs know of candidates that were compared on dev, the best first."""

from datetime import UTC, datetime
from typing import Any

import yaml
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT
from pydantic import BaseModel, ConfigDict

from mondegreen.config import Params
from mondegreen.git import git_or_nothing
from mondegreen.registry.mlflow_store import answered, connect, experiment_id, tracking_root
from mondegreen.registry.run_logs import TRIAL_BASELINE_TAG, TRIAL_REFERENCES_TAG
from mondegreen.registry.runs import EXPERIMENT_TAG, flatten_params


class TrialRun(BaseModel):
    """One trial. Rates and differences are fractions, improvements baseline - candidate, losses the other way round."""

    model_config = ConfigDict(frozen=True)

    name: str  # of the DVC experiment, else of the run
    run_id: str
    at: datetime
    dev_wer: float
    dev_cer: float
    baseline_dev_wer: float
    wer_improvement: float | None
    interval: tuple[float, float] | None  # of the improvement, two-sided
    p_value: float | None
    retention_loss: float | None  # on the dev part of the retention set; None without one
    retention_upper_bound: float | None
    verdict: str  # how it came out when it was judged on test, "" when it was not
    params: dict[str, str]  # that differ between the trials of the list, or from params.yaml where a trial started
    dev_set: str  # digest over the dev set's IDs and references
    baseline: str  # digest of the model that it is compared with


class Trials(BaseModel):
    """The list of `mondegreen trials`."""

    model_config = ConfigDict(frozen=True)

    trials: list[TrialRun]  # lowest dev WER first, ties by CER, then by what was lost on the retention set
    others: int  # trials on another dev set or against another baseline, which cannot be compared with these


@answered()
def list_trials(everything: bool = False) -> Trials:
    """The trials that can be compared with the newest one; the newest of each name.

    Args:
        everything: those on other dev sets and against other baselines as well.

    Raises:
        RegistryError: MLflow cannot be used.
    """
    newest: dict[str, Run] = {}
    for run in _runs(connect()):
        if "candidate/dev/wer" in run.data.metrics:  # else it died between two stages
            newest.setdefault(_name(run), run)
    runs = list(newest.values())
    alike = [run for run in runs if everything or _compared_with(run) == _compared_with(runs[0])]
    committed = {commit: _committed(commit) for commit in {_started_from(run) for run in alike}}
    varied = _varied(alike) | {name for run in alike for name in _changed(run, committed[_started_from(run)])}
    return Trials(trials=sorted((_trial(run, varied) for run in alike), key=_rank), others=len(runs) - len(alike))


def _runs(client: MlflowClient) -> list[Run]:
    """Every trial's run, newest first."""
    found: list[Run] = []
    token: str | None = None
    while token != "":
        page = client.search_runs(
            [experiment_id(client)], f"tags.`{TRIAL_REFERENCES_TAG}` LIKE '%'", page_token=token, max_results=1000
        )
        found += page
        token = page.token or ""
    return found


def _name(run: Run) -> str:
    return run.data.tags.get(EXPERIMENT_TAG) or str(run.info.run_name)


def _compared_with(run: Run) -> tuple[str, str]:
    return run.data.tags[TRIAL_REFERENCES_TAG], run.data.tags[TRIAL_BASELINE_TAG]


def _varied(runs: list[Run]) -> set[str]:
    """Names of the parameters that are not the same in all runs."""
    names = {name for run in runs for name in run.data.params}
    return {name for name in names if len({run.data.params.get(name) for run in runs}) > 1}


def _started_from(run: Run) -> str:
    return run.data.tags.get(MLFLOW_GIT_COMMIT, "")


def _committed(commit: str) -> dict[str, str]:
    """The parameters of a commit; {} where it is not here, or they are another version's."""
    text = git_or_nothing(tracking_root(), "show", f"{commit}:./params.yaml") if commit else ""
    try:
        return flatten_params(Params.model_validate(yaml.safe_load(text))) if text else {}
    except (ValueError, yaml.YAMLError):
        return {}


def _changed(run: Run, committed: dict[str, str]) -> set[str]:
    """Names of the parameters in which a trial differs from the commit that it started from."""
    return {name for name, value in committed.items() if run.data.params.get(name, value) != value}


def _trial(run: Run, varied: set[str]) -> TrialRun:
    numbers, tags = run.data.metrics, run.data.tags
    low, high = (numbers.get(f"trial/interval_{end}") for end in ("low", "high"))
    facts: dict[str, Any] = {
        name: numbers.get(f"trial/{name}")
        for name in ("wer_improvement", "p_value", "retention_loss", "retention_upper_bound")
    }
    return TrialRun(
        name=_name(run),
        run_id=run.info.run_id,
        at=datetime.fromtimestamp(run.info.start_time / 1000, UTC),
        dev_wer=numbers["candidate/dev/wer"],
        dev_cer=numbers["candidate/dev/cer"],
        baseline_dev_wer=numbers["baseline/dev/wer"],
        interval=None if low is None or high is None else (low, high),
        verdict=tags.get("verdict", ""),
        params={name: run.data.params[name] for name in sorted(varied) if name in run.data.params},
        dev_set=tags[TRIAL_REFERENCES_TAG],
        baseline=tags[TRIAL_BASELINE_TAG],
        **facts,
    )


def _rank(trial: TrialRun) -> tuple[float, float, float, str]:
    return trial.dev_wer, trial.dev_cer, trial.retention_loss or 0.0, trial.name
