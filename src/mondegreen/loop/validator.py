"""ModelValidator: the fine-tuning guide's way to the verdict, for any two models that transcribe."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from mondegreen.config import GuideConfig, Params, ValidateParams, params_of
from mondegreen.files import save_text
from mondegreen.loop.alpha_ledger import judge, open_ledger
from mondegreen.loop.evaluation_data import MANIFEST, EvaluationData, judging_split, read_evaluation_data
from mondegreen.progress import Advance
from mondegreen.records import Domain, Hypothesis, Utterance
from mondegreen.scoring.comparison import ROLES
from mondegreen.scoring.decision import TestQuestion, try_out
from mondegreen.scoring.metrics import Scored
from mondegreen.scoring.paired_sets import PairedTestSets, pair_test_sets
from mondegreen.scoring.verdict import Verdict, slice_label
from mondegreen.scoring.wording import percent, some
from mondegreen.speech.corpus_transcription import TranscribeFn, corpus_transcriber

__all__ = ["FailedSample", "ModelValidator", "SampleResult", "ValidationConfig", "ValidationResult"]

_NAMED = 5  # clips without a transcript in a sentence
_SHOWN = 5  # of the most improved and of the most damaged recordings


class _Sample(BaseModel):
    model_config = ConfigDict(frozen=True, protected_namespaces=())


class SampleResult(_Sample):
    """One recording under both models. Rates from 0; without a transcript a text is empty."""

    id: str
    path: str
    domain: Domain
    speaker: str
    reference: str  # normalised, as it was counted
    baseline: str
    candidate: str
    words: int  # of the reference
    baseline_wer: float
    candidate_wer: float

    @property
    def degraded(self) -> bool:
        """Whether the candidate makes more errors."""
        return self.candidate_wer > self.baseline_wer


class FailedSample(_Sample):
    """A recording for which a model gave no transcript."""

    id: str
    path: str
    model: str  # baseline or candidate
    error: str


class ValidationResult(Verdict):
    """What `ModelValidator.validate_model` found: a verdict, and what both models said in each recording."""

    model_config = ConfigDict(protected_namespaces=())

    model_id: str
    baseline_id: str
    per_sample_results: tuple[SampleResult, ...]  # of the test set, then of the retention set
    failed_samples: tuple[FailedSample, ...]  # counted as fully wrong

    @classmethod
    def of(cls, sets: PairedTestSets, verdict: Verdict, model_id: str, baseline_id: str) -> Self:
        """The result of paired test sets that were judged."""
        pairs = [*sets.test.pairs, *sets.retention.pairs]
        return cls(
            **vars(verdict),
            model_id=model_id,
            baseline_id=baseline_id,
            per_sample_results=tuple(_sample(old, new) for old, new in pairs),
            failed_samples=tuple(
                FailedSample(id=one.utterance.id, path=one.utterance.path, model=role, error=one.hypothesis.error)
                for pair in pairs
                for role, one in zip(ROLES, pair, strict=True)
                if one.hypothesis.error
            ),
        )

    @property
    def verdict(self) -> Verdict:
        """The verdict alone, as verdict.json would hold it."""
        return Verdict(**{name: getattr(self, name) for name in Verdict.model_fields})

    @property
    def failure_reason(self) -> str | None:
        """Why it did not pass: a sentence with the numbers, and which clips have no transcript. None when it did."""
        return None if self.passed else " ".join([self.reason, *self._failures()])

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data: what matters most, the recordings, and the whole verdict below `verdict`."""
        names = ("outcome", "passed", "wer_improvement", "cer_improvement", "p_value", "is_significant")
        more = ("failure_reason", "model_digest", "baseline_digest", "llm_references")
        facts = {name: getattr(self, name) for name in (*names, *more)}
        own = self.model_dump(mode="json", exclude=set(Verdict.model_fields))
        return facts | own | {"verdict": self.verdict.to_dict()}

    def _failures(self) -> list[str]:
        by_role = {role: [one.path for one in self.failed_samples if one.model == role] for role in ROLES}
        return [
            f"Without a transcript of the {role}, and counted as fully wrong: {some(paths, _NAMED)}."
            for role, paths in by_role.items()
            if paths
        ]


def _sample(old: Scored, new: Scored) -> SampleResult:
    return SampleResult(
        id=new.utterance.id,
        path=new.utterance.path,
        domain=new.utterance.domain,
        speaker=new.utterance.speaker,
        reference=new.reference,
        baseline=old.text,
        candidate=new.text,
        words=new.words.reference_length,
        baseline_wer=old.words.rate,
        candidate_wer=new.words.rate,
    )


class ValidationConfig(ValidateParams, GuideConfig):
    """The section `validate` of params.yaml."""

    section = "validate_"


class ModelValidator:
    """Judges a candidate against a baseline as the stage `validate` does: by `mondegreen.scoring.decision` alone.

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
        params = params or params_of()
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
        on_progress: Advance = lambda done: None,
    ) -> ValidationResult:
        """Lets both models transcribe the evaluation data and judges.

        A recording at which a function raises, or for which it gives no text, counts as fully wrong for that model and
        is named; it is never an exception. A function that never returns is waited for.

        Args:
            model_id: what the candidate is called in reports.
            model_transcribe_fn: takes a path; gives a text, a `Transcription`, or anything with a text.
            baseline_id: what the baseline is called.
            baseline_transcribe_fn: the same for the baseline.
            evaluation_data: a CSV, JSON lines or rows, see `read_evaluation_data`. When not given the project's test
                set is meant, and this is a look at it. Data of one's own have a count of their own, beside the
                project's, unless most of the recordings are the project's.
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
        old = _transcribe(baseline_transcribe_fn, utterances, baseline_path, on_progress)
        new = _transcribe(model_transcribe_fn, utterances, model_path, lambda done: on_progress(len(utterances) + done))
        return self.judge_hypotheses(utterances, old, new, model_id=model_id, baseline_id=baseline_id)

    def judge_hypotheses(
        self,
        utterances: Sequence[Utterance],
        baseline: Sequence[Hypothesis],
        candidate: Sequence[Hypothesis],
        *,
        model_id: str = "candidate",
        baseline_id: str = "baseline",
        question: TestQuestion = "better",
        proposed: bool = False,
    ) -> ValidationResult:
        """The same for transcripts that are there already; raises UsageError when they do not belong together.

        Args:
            question: "not worse" of a variant, see `mondegreen.scoring.decision`.
            proposed: see `mondegreen.scoring.decision`.
        """
        trial = self.config.on == "dev"
        sets = pair_test_sets(utterances, baseline, candidate, self.params, trial)
        if trial:
            verdict = try_out(sets, self.params, question, proposed)
        else:
            with open_ledger(self._ledger) as ledger:
                verdict = judge(sets, self.params, ledger, question)
        result = ValidationResult.of(sets, verdict, model_id, baseline_id)
        self.results.append(result)
        return result

    def generate_validation_report(self, path: Path | str | None = None) -> str:
        """What this validator has judged so far, as Markdown; also written to `path` when that is given."""
        text = render_validation_report(self.results)
        if path is not None:
            save_text(Path(path), text)
        return text

    def utterances(
        self, evaluation: EvaluationData | None = None, retention: EvaluationData | None = None
    ) -> list[Utterance]:
        """The test set and the retention set that `validate_model` takes for these arguments; of dev in a trial."""
        on = self.config.on
        target = judging_split("target", on) if evaluation is None else read_evaluation_data(evaluation, "target")
        kept: list[Utterance] = []
        if retention is not None:
            kept = read_evaluation_data(retention, "retention")
        elif MANIFEST.is_file():
            kept = judging_split("retention", on)
        known = {row.id for row in target}  # a recording in both sets is judged as what the call named it
        rows = [*target, *(row for row in kept if row.id not in known)]
        return [row.model_copy(update={"split": on}) for row in rows]


def _transcribe(
    function: TranscribeFn, utterances: Sequence[Utterance], folder: Path | str | None, on_progress: Advance
) -> list[Hypothesis]:
    transcriber = corpus_transcriber(function)
    try:
        hypotheses = transcriber.transcribe(utterances, on_progress)
    except Exception:  # a model that takes recordings together and broke on one: one by one it is that one alone
        one_by_one = corpus_transcriber(lambda path: function(path))
        hypotheses = one_by_one.transcribe(utterances, on_progress)
    digest = transcriber.digest
    if folder is not None:
        from mondegreen.speech.model_folder import model_digest

        digest = model_digest(Path(folder))
    return [_storable(row).model_copy(update={"model": digest}) for row in hypotheses]


def _storable(row: Hypothesis) -> Hypothesis:
    """Half a surrogate pair is no text: it can be written nowhere."""
    try:
        (row.text + row.error).encode()
    except UnicodeEncodeError as error:
        return row.model_copy(update={"text": "", "error": f"not valid Unicode: {error.reason}"})
    return row


def render_validation_report(results: Sequence[ValidationResult]) -> str:
    """One section a validation, oldest first; says so when there is none, which is no pass."""
    if not results:
        return "# Validation\n\nNothing was validated yet, so nothing passed.\n"
    return "# Validation\n\n" + "\n".join("\n".join(_section(result)) for result in results)


def _section(result: ValidationResult) -> Iterator[str]:
    yield f"## {_cell(result.model_id)} against {_cell(result.baseline_id)}: {result.outcome}\n"
    yield f"{result.sentence} {result.reason}\n"
    more = result.measure == "WER"
    yield f"| slice | utterances | {result.measure} before | after |{' CER before | after |' if more else ''}"
    yield f"|---|---:|---:|---:|{'---:|---:|' if more else ''}"
    for name in result.shown_slices:
        if name == "test/all":  # recordings of no condition: the whole test set once more
            continue
        old, new = result.slices[name].baseline, result.slices[name].candidate
        characters = (old.cer.rate, new.cer.rate) if more else ()
        rates = " | ".join(percent(rate) for rate in (old.wer.rate, new.wer.rate, *characters))
        yield f"| {_cell(slice_label(name))} | {new.utterances} | {rates} |"
    yield ""
    yield from (f"- {note}" for note in result.notes)
    by_change = sorted(result.per_sample_results, key=lambda row: (row.candidate_wer - row.baseline_wer, row.path))
    yield from _samples("Most damaged", [row for row in reversed(by_change) if row.degraded], result.measure)
    yield from _samples(
        "Most improved", [row for row in by_change if row.candidate_wer < row.baseline_wer], result.measure
    )
    if result.failed_samples:
        yield "\nWithout a transcript, counted as fully wrong:\n"
        yield from (f"- {one.model}: {_cell(one.path)}: {_cell(one.error)}" for one in result.failed_samples)
    yield ""


def _samples(title: str, rows: Iterable[SampleResult], measure: str) -> Iterator[str]:
    chosen = list(rows)[:_SHOWN]
    if chosen:
        yield f"\n{title}:\n"
        yield f"| recording | {measure} before | after | reference | before | after |"
        yield "|---|---:|---:|---|---|---|"
    for row in chosen:
        texts = " | ".join(_cell(text) for text in (row.reference, row.baseline, row.candidate))
        yield f"| {_cell(row.path)} | {percent(row.baseline_wer)} | {percent(row.candidate_wer)} | {texts} |"


def _cell(text: str) -> str:
    """Text that stays in its cell, and is no markup."""
    flat = " ".join(text.split())
    for mark in ("\\", "|", "<", "*", "_", "`", "["):
        flat = flat.replace(mark, f"&#{ord(mark)};")
    return flat
