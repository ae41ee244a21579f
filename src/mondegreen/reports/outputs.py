"""What the stages wrote, as a report needs it: gathered by the validate stage, or read from build/ afterwards."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from mondegreen.config import Params, load_params
from mondegreen.errors import UsageError
from mondegreen.files import path_text, read_json, read_jsonl
from mondegreen.records import (
    Alternative,
    Hypothesis,
    Problem,
    RegisteredVersion,
    RegressionResults,
    RunInfo,
    TrainingHistory,
    Utterance,
    Word,
)
from mondegreen.reports.judgement import Judgement
from mondegreen.speech.manifest import Report

if TYPE_CHECKING:
    from mondegreen.cases.regression_runs import RegressionRun  # brings SQLAlchemy

Record = TypeVar("Record", bound=BaseModel)


class _Heard(Hypothesis):
    """A hypothesis without its words' times and its N-best list, which no report shows and which are most of a file."""

    model_config = ConfigDict(extra="ignore")

    words: list[Word] = Field(default=[], validation_alias="no words")
    nbest: list[Alternative] = Field(default=[], validation_alias="no nbest")


@dataclass(frozen=True)
class StageOutputs:
    """A verdict, what it was made from, and what else is known; None or empty where a stage has not run."""

    verdict: Judgement
    utterances: list[Utterance]
    baseline: list[Hypothesis]
    candidate: list[Hypothesis]
    params: Params
    run: RunInfo | None = None
    history: TrainingHistory | None = None
    audit: Mapping[str, Any] | None = None
    problems: tuple[Problem, ...] = ()
    regression: RegressionResults | None = None
    registered: RegisteredVersion | None = None
    suite_runs: "tuple[RegressionRun, ...]" = ()  # the last one of each model, oldest first
    project: Path = Path()  # what the utterances' paths are relative to


def read_outputs(build: Path = Path("build"), params: Path = Path("params.yaml")) -> StageOutputs:
    """Reads the outputs of `dvc repro`. Regression results and version of another candidate are left out.

    Args:
        build: the folder of the stage outputs; recordings are looked for from the current folder.
        params: those that the verdict was made with; the defaults when the file does not exist.

    Raises:
        UsageError: validate has not run yet, or a file is damaged.
    """
    verdict = read_json(build / "validate" / "verdict.json", Judgement)
    report = _optional(build / "prepare" / "report.json", Report)
    regression = _optional(build / "regress" / "results.json", RegressionResults)
    registered = _optional(build / "register" / "version.json", RegisteredVersion)
    return StageOutputs(
        verdict=verdict,
        utterances=read_jsonl(build / "prepare" / "manifest.jsonl", Utterance),
        baseline=[*read_jsonl(build / "transcribe" / "hypotheses.jsonl", _Heard)],
        candidate=[*read_jsonl(build / "evaluate" / "hypotheses.jsonl", _Heard)],
        params=load_params(params) if params.exists() else Params(),
        run=_optional(build / "train" / "run.json", RunInfo),
        history=_optional(build / "train" / "history.json", TrainingHistory),
        audit=_tree(build / "label" / "audit.json"),
        problems=tuple(report.problems) if report else (),
        regression=regression if regression and regression.model == verdict.candidate_model else None,
        registered=registered if registered and registered.digest == verdict.candidate_model else None,
    )


def _optional(path: Path, kind: type[Record]) -> Record | None:
    return read_json(path, kind) if path.exists() else None


def _tree(path: Path) -> Mapping[str, Any] | None:
    if not path.exists():
        return None
    try:
        tree = json.loads(path_text(path))
    except json.JSONDecodeError as error:
        raise UsageError(f"{path} is not JSON: {error}.", "Run `dvc repro --force label`.") from None
    if not isinstance(tree, dict):
        raise UsageError(f"{path} is not a JSON object.", "Run `dvc repro --force label`.")
    return tree
