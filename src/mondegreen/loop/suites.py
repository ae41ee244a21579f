"""Regression suites: data with an index beside it. A suite that is missing, empty or damaged fails."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mondegreen.config import Params
from mondegreen.errors import MondegreenError, UsageError
from mondegreen.files import sha256_file
from mondegreen.loop.verdict import judge_suite
from mondegreen.records import Hypothesis, RegressionResults, SuiteResult, Utterance
from mondegreen.speech.audio import duration_of

Hear = Callable[[Sequence[Utterance]], list[Hypothesis]]


class Suite(BaseModel):
    """An entry of suites.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    type: Literal["benchmark", "critical", "edge_cases"]
    references: Path  # CSV with path and text, relative to the index; its paths are relative to the CSV
    margin: float = Field(ge=0, le=1)  # WER that may be lost, absolute
    severity: str = ""
    owner: str = ""


class _Index(BaseModel):
    model_config = ConfigDict(extra="forbid")

    suites: list[Suite]


def load_index(path: Path) -> list[Suite]:
    """The suites of an index.

    Raises:
        UsageError: the file is missing, not YAML, or a field is wrong.
    """
    try:
        suites = _Index.model_validate(yaml.safe_load(path.read_text(encoding="utf-8"))).suites
    except FileNotFoundError:
        raise UsageError(
            f"{path} does not exist: there are no regression suites.", "Write one, or name it in regress.suites."
        ) from None
    except (yaml.YAMLError, ValidationError) as error:
        raise UsageError(f"{path} is not an index of suites: {error}.", "Correct the entry it names.") from None
    if doubles := {suite.name for suite in suites if sum(other.name == suite.name for other in suites) > 1}:
        raise UsageError(f"{path}: suite names stand twice: {', '.join(sorted(doubles))}.", "Rename one of each.")
    return suites


def suite_utterances(suite: Suite, index: Path) -> list[Utterance]:
    """The recordings of a suite, checked.

    Raises:
        MondegreenError: the CSV or a recording is missing or damaged, or a row lacks path or text.
    """
    table = index.parent / suite.references
    try:
        rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    except FileNotFoundError:
        raise UsageError(f"{table} does not exist.", f"Restore the data of suite {suite.name}.") from None
    return [_utterance(suite.name, table, line, row) for line, row in enumerate(rows, 2)]


def _utterance(name: str, table: Path, line: int, row: dict[str, str]) -> Utterance:
    if not (row.get("path") or "").strip() or not (row.get("text") or "").strip():
        raise UsageError(f"{table}:{line}: path or text is empty.", "Fill in both columns.")
    audio = table.parent / row["path"]
    duration = duration_of(audio)
    digest = sha256_file(audio)
    return Utterance(
        id=f"{name}:{line}",
        path=audio.as_posix(),
        sha256=digest,
        duration=duration,
        condition=row.get("condition") or "",
        speaker=row.get("speaker") or "",
        recording=row["path"],
        reference=row["text"],
        split="test",
        domain="target",
    )


def run_suites(index: Path, baseline: Hear, candidate: Hear, model: str, params: Params) -> RegressionResults:
    """Runs every suite; a suite that raises fails and the others still run. No suites is not a pass.

    Args:
        model: digest of the candidate.
    """
    try:
        suites = load_index(index)
    except MondegreenError as error:
        return RegressionResults(passed=False, reason=str(error), model=model, suites=[])
    results = [_run_suite(suite, index, baseline, candidate, params) for suite in suites]
    shut = [result.name for result in results if result.outcome != "pass"]
    reason = f"not passed: {', '.join(shut)}" if shut else f"{len(results)} suites passed"
    if not results:
        reason = f"{index} lists no suites: nothing was shown"
    return RegressionResults(passed=bool(results) and not shut, reason=reason, model=model, suites=results)


def _run_suite(suite: Suite, index: Path, baseline: Hear, candidate: Hear, params: Params) -> SuiteResult:
    try:
        utterances = suite_utterances(suite, index)
        before, after = baseline(utterances), candidate(utterances)
        return judge_suite(
            suite.name,
            suite.type,
            utterances,
            before,
            after,
            margin=suite.margin,
            critical_degradation=params.regress.critical_degradation,
            params=params,
        )
    except MondegreenError as error:
        return SuiteResult(name=suite.name, kind=suite.type, outcome="fail", reason=f"the suite did not run: {error}")
