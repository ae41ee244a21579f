"""ModelValidator: the fine-tuning guide's way to the verdict, for any two models that transcribe."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

from mondegreen.config import Params, ValidateParams
from mondegreen.files import write_text
from mondegreen.loop.ears import OnProgress, TranscribeFn, ear_of_function
from mondegreen.loop.orchestrator import params_of
from mondegreen.loop.verdict.decision import confront
from mondegreen.loop.verdict.evaluation_data import MANIFEST, EvaluationData, judging_split, read_evaluation_data
from mondegreen.loop.verdict.spending import judge, open_ledger
from mondegreen.loop.verdict.validation_result import FailedSample, SampleResult, ValidationResult
from mondegreen.records import Hypothesis, Utterance

__all__ = ["FailedSample", "ModelValidator", "SampleResult", "ValidationConfig", "ValidationResult"]


class ValidationConfig(ValidateParams):
    """The fine-tuning guide's name for the section `validate` of params.yaml: the same knobs, defaults and checks."""

    @classmethod
    def from_params(cls, params: Params) -> Self:
        """The section `validate` of params.yaml."""
        return cls(**params.validate_.model_dump())

    def to_dict(self) -> dict[str, Any]:
        """The knobs as plain data."""
        return self.model_dump(mode="json")


class ModelValidator:
    """Judges a candidate against a baseline as the stage `validate` does: by `mondegreen.loop.verdict.decision` alone.

    Args:
        config: the rules; those of params.yaml when not given, and the defaults without one.
        params: everything else (normaliser, seed); params.yaml when not given.
        ledger_folder: where the database is that counts looks at test sets; the project's var/ when not given.
    """

    def __init__(
        self,
        config: ValidationConfig | None = None,
        *,
        params: Params | None = None,
        ledger_folder: Path | str | None = None,
    ) -> None:
        params = params or params_of(Path())
        self.config = config or ValidationConfig.from_params(params)
        self.params = params.model_copy(update={"validate_": self.config})
        self.results: list[ValidationResult] = []
        self._ledger = Path(ledger_folder) if ledger_folder is not None else None

    def validate_model(
        self,
        model_id: str,
        model_transcribe_fn: TranscribeFn,
        baseline_id: str,
        baseline_transcribe_fn: TranscribeFn,
        evaluation_data: EvaluationData | None = None,
        *,
        retention_data: EvaluationData | None = None,
        model_path: Path | str | None = None,
        baseline_path: Path | str | None = None,
        on_progress: OnProgress = lambda done: None,
    ) -> ValidationResult:
        """Lets both models transcribe the evaluation data and judges.

        A recording at which a function raises, or for which it gives no text, counts as fully wrong for that model and
        is named; it is never an exception. A function that never returns is waited for.

        Args:
            model_id: what the candidate is called in reports.
            model_transcribe_fn: takes a path; gives a text, a `Transcription`, or anything with a text.
            baseline_id: what the baseline is called.
            baseline_transcribe_fn: the same for the baseline.
            evaluation_data: a CSV or rows, see `read_evaluation_data`; the project's test set when not given.
            retention_data: the same for what must not be forgotten; the project's retention test set when not given
                and there is one.
            model_path: the folder of the candidate's files, for the digest that a deployment is checked against. Not
                needed for `BaselineSTTModel.transcribe`, which knows its own.
            baseline_path: the same of the baseline.
            on_progress: called with the number of transcriptions done, of both models together.

        Raises:
            UsageError: the data cannot be read, or a machine wrote references in it.
            CaseError: the ledger of looks cannot be reached.
        """
        utterances = self.utterances(evaluation_data, retention_data)
        old = _hear(baseline_transcribe_fn, utterances, baseline_path, on_progress)
        new = _hear(model_transcribe_fn, utterances, model_path, lambda done: on_progress(len(utterances) + done))
        return self.judge_hypotheses(utterances, old, new, model_id=model_id, baseline_id=baseline_id)

    def judge_hypotheses(
        self,
        utterances: Sequence[Utterance],
        baseline: Sequence[Hypothesis],
        candidate: Sequence[Hypothesis],
        *,
        model_id: str = "candidate",
        baseline_id: str = "baseline",
    ) -> ValidationResult:
        """The same for transcripts that are there already; raises UsageError when they do not belong together."""
        case = confront(utterances, baseline, candidate, self.params)
        with open_ledger(self._ledger) as ledger:
            verdict = judge(case, self.params, ledger)
        result = ValidationResult.of(case, verdict, model_id, baseline_id)
        self.results.append(result)
        return result

    def generate_validation_report(self, path: Path | str | None = None) -> str:
        """What this validator has judged so far, as Markdown; also written to `path` when that is given."""
        from mondegreen.loop.verdict.validation_report import render_validation_report

        text = render_validation_report(self.results)
        if path is not None:
            write_text(Path(path), text)
        return text

    def utterances(
        self, evaluation: EvaluationData | None = None, retention: EvaluationData | None = None
    ) -> list[Utterance]:
        """The test set and the retention set that `validate_model` takes for these arguments."""
        target = judging_split("target") if evaluation is None else read_evaluation_data(evaluation, "target")
        if retention is not None:
            guard = read_evaluation_data(retention, "retention")
        else:
            guard = judging_split("retention") if MANIFEST.is_file() else []
        known = {row.id for row in target}  # a recording in both sets is judged as what the call named it
        return [*target, *(row for row in guard if row.id not in known)]


def _hear(
    transcribe: TranscribeFn, utterances: Sequence[Utterance], folder: Path | str | None, on_progress: OnProgress
) -> list[Hypothesis]:
    ear = ear_of_function(transcribe)
    try:
        heard = ear.hear(utterances, on_progress)
    except Exception:  # a model that takes recordings together and broke on one: one by one it is that one alone
        heard = ear_of_function(_alone(transcribe)).hear(utterances, on_progress)
    digest = _digest(folder) if folder is not None else ear.digest
    return [_storable(row).model_copy(update={"model": digest}) for row in heard]


def _alone(transcribe: TranscribeFn) -> Callable[[str], Any]:
    return lambda path: transcribe(path)


def _digest(folder: Path | str) -> str:
    from mondegreen.speech.model import model_digest

    return model_digest(Path(folder))


def _storable(row: Hypothesis) -> Hypothesis:
    """Half a surrogate pair is no text: it can be written nowhere."""
    try:
        (row.text + row.error).encode()
    except UnicodeEncodeError as error:
        return row.model_copy(update={"text": "", "error": f"not valid Unicode: {error.reason}"})
    return row
