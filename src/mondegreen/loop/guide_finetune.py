"""The fine-tuning guide's three phases on a folder of audio: baseline, fine-tuning on error cases, evaluation."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from accelerate import PartialState
from pydantic import BaseModel, ConfigDict

from mondegreen.config import Params, TranscribeParams
from mondegreen.files import write_json, write_jsonl
from mondegreen.labels.gold import gold_labels
from mondegreen.labels.selection import Selection, select
from mondegreen.loop.guide_data import guide_utterances
from mondegreen.records import Hypothesis, Metrics, Problem, Utterance
from mondegreen.scoring.metrics import metrics_file
from mondegreen.speech.finetuning import FinetuneResult, finetune
from mondegreen.speech.hearing import hear, transcriber
from mondegreen.speech.model import load_model

logger = logging.getLogger(__name__)

CHECKPOINTS = Path("var/checkpoints")


class Change(BaseModel):
    """Corpus WER of a slice of the held-out recordings before and after."""

    model_config = ConfigDict(frozen=True)

    slice: str
    utterances: int
    words: int
    before: float
    after: float


class GuideReport(BaseModel):
    """{output_dir}/logs/report.json."""

    model_config = ConfigDict(frozen=True)

    model: str
    output: str
    held_out: list[Change]
    error_cases: int
    replayed: int
    dev: int
    best_epoch: int
    merge_weight: float
    notes: list[str]
    left_out: list[Problem]


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


def run_guide(request: Request, params: Params) -> GuideReport:
    """Runs the three phases and writes the model into output_dir, everything else into output_dir/logs.

    Raises:
        UsageError: no audio or no references.
        MondegreenError: the model misheard nothing that it could learn from.
    """
    logs = request.output_dir / "logs"
    with _log_file(logs / "finetune.log"):
        fast = params.model_copy(update={"transcribe": TranscribeParams(beam_width=1, nbest=1)})
        utterances, problems = guide_utterances(request.audio_dir, request.references, params)
        logger.info("Phase 1 of 3: what %s hears in %d recordings.", request.model, len(utterances))
        heard = _hear(utterances, request.model, fast)
        chosen = select(utterances, gold_labels(utterances), heard, params)
        logger.info("Phase 2 of 3: fine-tuning on %d utterances.", len(chosen.train))
        result = _train(request, chosen, tuned_params(request, params, chosen))
        held_out = [row for row in utterances if row.split == "test" and row.domain == "target"]
        logger.info("Phase 3 of 3: before and after on %d recordings never trained on.", len(held_out))
        before = [row for row in heard if row.id in {item.id for item in held_out}]
        after = _hear(held_out, str(request.output_dir), fast)
        report = GuideReport(
            model=request.model,
            output=str(request.output_dir),
            held_out=_changes(*(metrics_file(held_out, rows, params.score.normalizer) for rows in (before, after))),
            error_cases=chosen.report.groups["error"].utterances,
            replayed=chosen.report.groups["replay"].utterances,
            dev=len(chosen.dev),
            best_epoch=result.best_epoch,
            merge_weight=result.merge_weight,
            notes=result.notes,
            left_out=[*problems, *result.left_out],
        )
        if PartialState().is_main_process:
            write_jsonl(logs / "before.jsonl", before)
            write_jsonl(logs / "after.jsonl", after)
            write_json(logs / "history.json", result.record)
            write_json(logs / "report.json", report)
    return report


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
    usual = train.model_copy(update={"learning_rate": None}).resolved_learning_rate
    if request.use_lora and train.resolved_learning_rate < usual / 10:
        logger.warning(
            "A learning rate of %g is one for full fine-tuning; LoRA learns little at it. Leave --learning_rate out "
            "to take %g.",
            *(train.resolved_learning_rate, usual),
        )
    return params.model_copy(update={"train": train})


def _train(request: Request, chosen: Selection, params: Params) -> FinetuneResult:
    base = load_model(request.model)
    return finetune(base, chosen.train, chosen.dev, chosen.retention, params, request.output_dir, CHECKPOINTS)


def _hear(utterances: Sequence[Utterance], model: str, params: Params) -> list[Hypothesis]:
    """With several processes the first one transcribes and the others read what it remembered."""
    with PartialState().main_process_first():
        return hear(utterances, transcriber(model, params))


def _changes(before: Metrics, after: Metrics) -> list[Change]:
    return [
        Change(
            slice=name,
            utterances=found.utterances,
            words=found.wer.reference_length,
            before=found.wer.rate,
            after=after.slices[name].wer.rate,
        )
        for name, found in before.slices.items()
    ]


@contextmanager
def _log_file(path: Path) -> Iterator[None]:
    """Everything that the library logs also goes into a file; with several processes what the first one logs."""
    if not PartialState().is_main_process:
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
