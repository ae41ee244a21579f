"""The fine-tuning guide's three phases on a folder of audio: baseline, fine-tuning on error cases, evaluation.

The folder holds clean/ and noisy/, or loose files, with references beside them.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mondegreen.config import Channel, Params, TranscribeParams
from mondegreen.errors import AudioError, UsageError
from mondegreen.files import check_folder, path_text, write_json, write_jsonl
from mondegreen.labels.acoustic import load_scorer
from mondegreen.labels.audit import check_audit
from mondegreen.labels.gold import gold_labels
from mondegreen.labels.llm_labels import Corpus, correctors, label_with_llm, plan_labelling
from mondegreen.labels.selection import Selection, select
from mondegreen.loop.guide_report import GuideFacts, GuideReport, report_on
from mondegreen.records import Hypothesis, Label, Problem, Utterance
from mondegreen.registry.mlflow_store import connect
from mondegreen.registry.resolving import find_model
from mondegreen.registry.run_logs import log_metrics_file
from mondegreen.registry.runs import log_history, log_metrics, start_run
from mondegreen.scoring.comparison import ROLES
from mondegreen.scoring.metrics import llm_references, model_of
from mondegreen.scoring.normalizer import normalize, text_key
from mondegreen.scoring.recording_names import RecordingNames
from mondegreen.scoring.references import ReferenceRow, match_recordings
from mondegreen.scoring.wording import many, some
from mondegreen.speech.admission import admitted_replay
from mondegreen.speech.audio import SAMPLE_RATE, load_audio
from mondegreen.speech.channels import content_digest
from mondegreen.speech.corpus import Found, discover
from mondegreen.speech.corpus_transcription import transcribe_corpus
from mondegreen.speech.finetuning import FinetuneResult, finetune
from mondegreen.speech.model import load_model
from mondegreen.speech.processes import processes
from mondegreen.speech.saving import keep_adapter_alone, refuse_own_folder
from mondegreen.speech.spelling import check_spelling, summary
from mondegreen.speech.splits import JUDGED_TEXT, SplitRule, assign_splits, check_leakage, enough_speakers
from mondegreen.speech.training_checkpoints import forget
from mondegreen.speech.transcriber import load_transcriber

logger = logging.getLogger(__name__)
HELD_OUT = 0.5
DEV = 0.15
_HOW = (
    "Write what is said into references.csv (first line: path,text; paths relative to the file) in the audio folder "
    "or the folder above it, name such a file with --references, or put a .txt beside each recording."
)


def guide_utterances(
    folder: Path, references: Path | None, params: Params, held_out: float = HELD_OUT, dev: float = DEV
) -> tuple[list[Utterance], list[Problem]]:
    """Every usable recording with its split: half is held out, the rest teaches (a part of it as dev set).

    Recordings of the same name under clean/ and noisy/ are one recording and stay on one side.

    Args:
        folder: clean/ and noisy/, or the recordings themselves.
        references: a CSV file; else references.csv is looked for, and .txt files.
        held_out: share of the recordings that judge.
        dev: share of them that picks the epoch.

    Raises:
        UsageError: no audio, no references, too few recordings for three splits, or references that a machine wrote
            among those that would judge.
    """
    problems: list[Problem] = []
    found = _with_references(folder, references, params.audio.channel)
    rows = [row for item in found for row in _checked(item, params, problems)]
    if not any(row.reference for row in rows):
        raise UsageError(f"None of the {len(rows)} usable recordings in {folder} has a reference.", _HOW)

    def text(reference: str) -> str:
        return text_key(reference, params.score.normalizer)

    rule = SplitRule(text, enough_speakers(rows, params.validate_.min_speakers), params.prepare.shared_texts == "allow")
    own = [row for row in rows if row.domain != "replay"]
    fixed = {item.path.as_posix(): item.split for item in found if item.split}
    dealt = assign_splits(own, rule, seed=params.seed, dev=dev, test=held_out, fixed=fixed)
    utterances = dealt.rows
    replay, barred = admitted_replay([row for row in rows if row.domain == "replay"], utterances, dealt.withheld, rule)
    problems += [*dealt.problems, *barred]
    check_leakage([*utterances, *replay], rule)
    llm_references([row for row in utterances if row.split == "test"], params.validate_.allow_llm_references)
    filled = {row.split for row in utterances if row.reference}
    if missing := sorted({"train", "dev", "test"} - filled):
        raise UsageError(
            f"{folder}: the recordings with references are too few: nothing is left for {' and '.join(missing)}.",
            "Give at least four different recordings with references; a hundred or more tell something.",
        )
    return [*utterances, *replay], problems


def _with_references(folder: Path, references: Path | None, channel: Channel) -> list[Found]:
    found = discover(folder, channel=channel)
    beside = folder.parent / "references.csv"
    if references and not references.is_file():
        raise UsageError(f"{references} does not exist.", _HOW)
    table = references or (beside if beside.is_file() else None)
    by_name = {item.path.relative_to(folder).as_posix(): item for item in found}
    rows = match_recordings(table, RecordingNames(folder, by_name)) if table else {}
    return [_referenced(item, rows.get(name)) for name, item in by_name.items()]


def _referenced(item: Found, row: ReferenceRow | None) -> Found:
    """The row of the named CSV goes before the folder's own, and both before a .txt file."""
    if row and row.text:
        return replace(
            item,
            reference=row.text,
            reference_source=row.reference_source,
            speaker=row.speaker or item.speaker,
            recording=row.recording or item.recording,
        )
    beside = item.path.with_suffix(".txt")
    if not item.reference and beside.is_file():
        return replace(item, reference=" ".join(path_text(beside).split()))
    return item


def _checked(item: Found, params: Params, problems: list[Problem]) -> list[Utterance]:
    """The recording as an utterance, or [] with the problem noted."""
    path = item.path.as_posix()
    try:
        waveform = load_audio(
            item.path,
            params.audio.max_duration,
            max_missing_share=params.audio.max_missing_share,
            warn=lambda code, said: problems.append(Problem(path=path, reason=code, message=said, warning=True)),
        )
    except AudioError as error:
        problems.append(Problem(path=path, reason=error.reason, message=error.problem))
        return []
    digest = content_digest(item.path)
    return [
        Utterance(
            id=_id(digest, item.path),
            path=item.path.as_posix(),
            sha256=digest,
            duration=round(len(waveform) / SAMPLE_RATE, 6),
            condition=item.condition,
            speaker=item.speaker,
            recording=item.recording,
            reference=item.reference if normalize(item.reference, params.score.normalizer) else "",
            split="train",
            domain=item.domain,
            reference_source=item.reference_source,
        )
    ]


def _id(digest: str, path: Path) -> str:
    """An id that tells equal bytes under two paths apart."""
    return f"{digest[:16]}-{path.name}"


CHECKPOINTS = Path("var/checkpoints")


class Request(BaseModel):
    """What the guide's arguments ask for. Without a learning rate it goes by method."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    audio_dir: Path
    output_dir: Path = Path("models/finetuned_wav2vec2")
    model: str = "starter/model"
    references: Path | None = None
    num_epochs: int = 3
    batch_size: int = 4
    learning_rate: float | None = None
    use_lora: bool = True
    lora_rank: int = 8
    lora_alpha: int = 16
    held_out: float = Field(HELD_OUT, gt=0, lt=1)  # share of the recordings
    dev: float = Field(DEV, gt=0, lt=1)
    llm: bool = False  # ask label.model about the training recordings that nobody wrote down
    adapter_only: bool = False

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.held_out + self.dev >= 1:
            raise UsageError("--held-out and --dev leave nothing to train on.", "Their sum must be below 1.")
        if self.adapter_only and not self.use_lora:
            raise UsageError("--adapter-only saves a LoRA adapter, --no-lora makes none.", "Leave one of them out.")
        return self


def run_guide(request: Request, params: Params) -> GuideReport:
    """Runs the three phases and writes the model into output_dir, everything else into output_dir/logs and MLflow.

    Raises:
        UsageError: no audio or no references, or output_dir is no folder or that of the model.
        VocabularyError: the model can write none of the transcripts that would teach.
        MondegreenError: the model misheard nothing that it could learn from, or the language model is not there.
        RegistryError: MLflow cannot be used; nothing was trained.
    """
    check_folder(request.output_dir)
    if Path(request.model).is_dir():  # one that is fetched first is looked at once the recordings were
        refuse_own_folder(request.model, request.output_dir)
    logs = request.output_dir / "logs"
    with _log_file(logs / "finetune.log"):
        shares = (request.held_out, request.dev)
        utterances, problems = guide_utterances(request.audio_dir, request.references, params, *shares)
        utterances, odd, spelling = check_spelling(
            [(row, row.reference) for row in utterances], request.model, find_model
        )
        for line in [
            *left_out(problems),
            *(f"{problem.path}: {problem.message}" for problem in odd),
            *summary(spelling),
        ]:
            logger.warning(line)
        logger.info("Phase 1 of 3: what %s hears in %d recordings.", request.model, len(utterances))
        # The label filter listens to the alternatives too, which the quick way of decoding does not give.
        quick = TranscribeParams(beam_width=1, nbest=1)
        decoding = params if request.llm else params.model_copy(update={"transcribe": quick})
        hypotheses = _transcribe(utterances, request.model, decoding)
        chosen = select(utterances, _labels(request, utterances, hypotheses, params), hypotheses, params)
        report, checkpoints = _tune(request, utterances, hypotheses, chosen, params, decoding)
        missing = [problem for problem in (*problems, *odd) if not problem.warning]
        report = report.model_copy(
            update={"left_out": [*missing, *report.left_out], "notes": [*summary(spelling), *report.notes]}
        )
        if processes().is_main_process:
            write_json(logs / "report.json", report)
            connect().log_artifact(report.run_id, str(logs / "report.json"), "finetune")
        forget(checkpoints)
    return report


def left_out(problems: Sequence[Problem]) -> Iterator[str]:
    """What is said of recordings before anything is heard; copies of judged texts, which may be many, in one line."""
    copies = [problem.path for problem in problems if problem.reason == JUDGED_TEXT]
    for problem in problems:
        if problem.reason != JUDGED_TEXT:
            yield f"{'kept' if problem.warning else 'left out'}: {problem.path}: {problem.message}"
    if copies:
        yield (
            f"{many(len(copies), 'recording')} {'teaches' if len(copies) == 1 else 'teach'} nothing: what is said "
            f"there is held out ({some(copies)}); "
            "prepare.shared_texts: allow in params.yaml lets them."
        )


def _labels(
    request: Request, utterances: Sequence[Utterance], hypotheses: Sequence[Hypothesis], params: Params
) -> list[Label]:
    """People's, and with `llm` a language model's for what nobody wrote down, as far as they pass the label filter."""
    labels = gold_labels(utterances)
    if not request.llm:
        return labels
    own = params.model_copy(
        update={
            "model": params.model.model_copy(update={"base": request.model}),
            "label": params.label.model_copy(update={"llm": "ollama"}),
        }
    )
    corpus = Corpus.of(utterances, hypotheses, labels)
    plan, scorer = plan_labelling(corpus, own), load_scorer(own, model_of(hypotheses))
    logger.info("%s is asked about %d recordings.", own.label.model, len(plan.asked))
    found = label_with_llm(corpus, plan, scorer, own, correctors(own, plan.shots))
    written = [label for label in found.labels.values() if label.source == "llm"]
    logger.info("%d of %d passed the label filter.", len(written), len(found.labels))
    check_audit(found.audit, len(written), own.label.max_label_wer)
    return gold_labels(utterances, llm=found.labels)


def _tune(
    request: Request,
    utterances: Sequence[Utterance],
    hypotheses: Sequence[Hypothesis],
    chosen: Selection,
    params: Params,
    decoding: Params,
) -> tuple[GuideReport, Path]:
    """Phases 2 and 3, in a run of MLflow; the report, and where the training's checkpoints are."""
    logs, tuned = request.output_dir / "logs", tuned_params(request, params, chosen)
    with _recorded(request, tuned) as run_id:
        logger.info("Phase 2 of 3: fine-tuning on %d utterances.", len(chosen.train))
        result = _train(request, chosen, tuned, run_id)
        held_out = [row for row in utterances if row.split == "test" and row.domain == "target"]
        logger.info("Phase 3 of 3: before and after on %d recordings never trained on.", len(held_out))
        ids = {row.id for row in held_out}
        before = [row for row in hypotheses if row.id in ids]
        after = _transcribe(held_out, str(request.output_dir), decoding)
        facts = GuideFacts(
            model=request.model,
            output=str(request.output_dir),
            run_id=run_id,
            error_cases=chosen.report.groups["error"].utterances,
            replayed=chosen.report.groups["replay"].utterances,
            dev=len(chosen.dev),
            best_epoch=result.best_epoch,
            merge_weight=result.merge_weight,
            notes=result.notes,
            left_out=result.left_out,
        )
        report, metrics = report_on(facts, held_out, before, after, params)
        if processes().is_main_process:
            write_jsonl(logs / "before.jsonl", before)
            write_jsonl(logs / "after.jsonl", after)
            write_json(logs / "history.json", result.record)
            for name, found in zip(ROLES, metrics, strict=True):
                log_metrics_file(run_id, name, found)
            log_metrics(run_id, report.numbers())
    return report, result.checkpoints


@contextmanager
def _recorded(request: Request, params: Params) -> Iterator[str]:
    """The MLflow run of this fine-tuning; with several processes the first one's, and "" for the others."""
    if not processes().is_main_process:
        yield ""
        return
    with start_run(params, {"base": request.model, "mondegreen.command": "finetune"}) as run_id:
        yield run_id


def tuned_params(request: Request, params: Params, chosen: Selection) -> Params:
    """params.yaml with the guide's arguments in the place of its own.

    `batch_size` counts recordings; training counts seconds: so many of average length.
    """
    average = sum(example.duration for example in chosen.train) / len(chosen.train)
    train = params.train.model_copy(
        update={
            "method": "lora" if request.use_lora else "full",
            "epochs": request.num_epochs,
            "batch_seconds": request.batch_size * average,
            "learning_rate": request.learning_rate,
            "lora_rank": request.lora_rank,
            "lora_alpha": request.lora_alpha,
        }
    )
    usual, of_full = (
        train.model_copy(update={"learning_rate": None, "method": method}).resolved_learning_rate
        for method in ("lora", "full")
    )
    if request.use_lora and train.resolved_learning_rate <= of_full:
        logger.warning(
            "A learning rate of %g is one for full fine-tuning; LoRA learns little at it. Leave --learning_rate out "
            "to take %g.",
            *(train.resolved_learning_rate, usual),
        )
    return params.model_copy(update={"train": train})


def _train(request: Request, chosen: Selection, params: Params, run_id: str) -> FinetuneResult:
    base, output = load_model(request.model), request.output_dir

    def on_epoch(row: dict[str, Any]) -> None:
        log_history(run_id, [row])

    examples = (chosen.train, chosen.dev, chosen.retention)
    result = finetune(base, *examples, params, output, CHECKPOINTS, on_epoch if run_id else None)
    if run_id and request.adapter_only:
        keep_adapter_alone(output)
    processes().wait_for_everyone()
    return result


def _transcribe(utterances: Sequence[Utterance], model: str, params: Params) -> list[Hypothesis]:
    """With several processes the first one transcribes and the others read what it remembered."""
    with processes().main_process_first():
        return transcribe_corpus(utterances, load_transcriber(model, params))


@contextmanager
def _log_file(path: Path) -> Iterator[None]:
    """Everything that the library logs also goes into a file; with several processes what the first one logs."""
    if not processes().is_main_process:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger("mondegreen")
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        handler.close()
