"""Training through transformers' Trainer (so that `accelerate launch` scales it), made safe to kill and to repeat.

It is steered by the error rates of held-out examples under greedy decoding, and goes on from checkpoints that are
sealed with the digests of their files once they are whole.
"""

import hashlib
import itertools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from mondegreen.config import AudioParams, Params, Seconds
from mondegreen.errors import TrainingError, VocabularyError
from mondegreen.files import readable_by_all
from mondegreen.progress import Bar
from mondegreen.records import Epoch, Example
from mondegreen.scoring.normalizer import NormalizerName, normalize
from mondegreen.scoring.wer import ErrorCounts, count_characters, count_words, read_pair
from mondegreen.speech.dataset import ClipDataset, FeatureCTC, LikeLengthBatches, Recordings, collate, ctc_loss
from mondegreen.speech.decoding import LogProbs, greedy
from mondegreen.speech.model import SpeechModel, log_probabilities
from mondegreen.speech.processes import on_cpu, processes
from mondegreen.speech.text import Labeller
from mondegreen.speech.training_checkpoints import PREFIX, newest_whole, read_state, restore_best, seal
from mondegreen.speech.windows import batches

OnEpoch = Callable[[dict[str, Any]], None]
_WEIGHTS = "model.safetensors"
_NATIVE = frozenset({"avx512_bf16", "amx_bf16", "bf16"})  # as /proc/cpuinfo names them
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DevScore:
    """Counts over a set of examples.

    `heard` is the number of hypotheses that are not empty, `loss` the sum of the CTC losses of a label over those
    examples whose text the model can write, and `written` how many these are.
    """

    words: ErrorCounts
    characters: ErrorCounts
    heard: int
    loss: float
    written: int

    def __add__(self, other: "DevScore") -> "DevScore":
        return DevScore(
            self.words + other.words,
            self.characters + other.characters,
            self.heard + other.heard,
            self.loss + other.loss,
            self.written + other.written,
        )

    @classmethod
    def zero(cls) -> "DevScore":
        """The neutral element of `+`."""
        return cls(ErrorCounts.zero(), ErrorCounts.zero(), 0, 0.0, 0)


@dataclass(frozen=True)
class DevSet:
    """Held-out examples with human references, and how they are judged."""

    examples: tuple[Example, ...]
    recordings: Recordings
    normalizer: NormalizerName
    batch_seconds: Seconds

    def score(self, model: SpeechModel, process: int = 0, processes: int = 1) -> DevScore:
        """Transcribes the share of one of several processes with a model in evaluation mode. Raises AudioError."""
        groups = self.groups()[process::processes]
        return sum(itertools.chain.from_iterable(self._score_group(model, group) for group in groups), DevScore.zero())

    def score_each(self, model: SpeechModel) -> list[DevScore]:
        """A score for each example, in the order of `groups`. Raises AudioError."""
        return [score for group in self.groups() for score in self._score_group(model, group)]

    def has_words(self) -> bool:
        """Whether there is anything to divide errors by."""
        return any(normalize(example.text, self.normalizer) for example in self.examples)

    def groups(self) -> list[list[Example]]:
        """Batches of like length; the same for every model."""
        budget = max(1, round(self.batch_seconds / self.recordings.base.frame_seconds))
        lengths = [self.recordings.frames(example) for example in self.examples]
        return [[self.examples[index] for index in group] for group in batches(lengths, budget)]

    def _score_group(self, model: SpeechModel, group: Sequence[Example]) -> list[DevScore]:
        rows = log_probabilities(model, [self.recordings.features(example, model) for example in group])
        return [
            self._judge(example, row, greedy(row, model.vocabulary, model.frame_seconds).text, model)
            for example, row in zip(group, rows, strict=True)
        ]

    def _judge(self, example: Example, row: LogProbs, text: str, model: SpeechModel) -> DevScore:
        reference, hypothesis = read_pair(example.text, text, self.normalizer)
        labels = self._labels.get(example.id, ())
        frames = torch.from_numpy(row)[None]  # (1, num_frames, vocab_size)
        mask = torch.ones(frames.shape[:2], dtype=torch.bool)
        loss = ctc_loss(frames, mask, torch.tensor([labels]), model.vocabulary.blank) if labels else 0.0
        return DevScore(
            count_words(reference, hypothesis),
            count_characters(reference, hypothesis),
            int(bool(hypothesis)),
            float(loss),
            int(bool(labels)),
        )

    @cached_property
    def _labels(self) -> dict[str, tuple[int, ...]]:
        """By the id of an example; without those that the vocabulary cannot write."""
        labeller, found = Labeller(self.recordings.base.vocabulary), {}
        for example in self.examples:
            with suppress(VocabularyError):
                found[example.id] = tuple(labeller.encode(example.text, example.id))
        return found


def history_of(log: Sequence[Mapping[str, Any]]) -> list[Epoch]:
    """The epochs in the Trainer's log, which checkpoints carry: a resumed run has the whole history."""
    trained: Mapping[str, Any] = {}
    history: list[Epoch] = []
    for entry in log:
        trained = entry if "loss" in entry else trained
        if "eval_wer" in entry:
            history.append(
                Epoch(
                    epoch=round(entry["epoch"]),
                    loss=trained["loss"],
                    dev_wer=entry["eval_wer"],
                    dev_cer=entry["eval_cer"],
                    dev_heard=entry["eval_heard"],
                    dev_loss=entry.get("eval_label_loss"),
                    learning_rate=trained["learning_rate"],
                )
            )
    return history


def out_of_patience(history: Sequence[Epoch], patience: int) -> bool:
    """Whether the last `patience` epochs brought no lower dev WER, where that stands still CER, and where both do loss.

    A model that starts far away gets every word wrong for epochs while its characters come right, and one that writes
    blanks only has every character wrong while its loss falls.
    """
    best = min(range(len(history)), key=lambda index: history[index].rank, default=0)
    return len(history) - 1 - best >= patience


class EarlyStopping(TrainerCallback):
    """Stops when nothing of dev got better for `patience` epochs. Counts in the log, so it survives a resume."""

    def __init__(self, patience: int) -> None:
        self.patience = patience

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if out_of_patience(history_of(state.log_history), self.patience):
            logger.info("No lower dev WER, CER or loss for %d epochs: training stops.", self.patience)
            control.should_training_stop = True


class Reporter(TrainerCallback):
    """Shows loss, dev WER and the remaining time on a terminal, writes a line an epoch elsewhere, calls `on_epoch`.

    Args:
        dev_utterances: how many hypotheses there are, to tell a collapse to blanks.
        on_epoch: called with the fields of Epoch and "seconds"; after a resume first with the epochs done before.
    """

    def __init__(self, dev_utterances: int, on_epoch: OnEpoch | None) -> None:
        self.dev_utterances, self._call = dev_utterances, on_epoch or (lambda row: None)
        self.latest_loss = float("nan")
        self._started = 0.0
        self.bar, self._dev_wer = Bar(), ""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._started = time.perf_counter()
        for epoch in history_of(state.log_history):
            self._call(epoch.model_dump())

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            what = f"training, loss {self.latest_loss:.3f}{self._dev_wer}"
            self.bar.show(what, state.global_step, state.max_steps)

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        history = history_of(state.log_history)
        epoch = history[-1]
        seconds, self._started = time.perf_counter() - self._started, time.perf_counter()
        self._dev_wer = f", dev WER {100 * epoch.dev_wer:.2f} %"
        left = seconds * (args.num_train_epochs - epoch.epoch)
        logger.info(
            "Epoch %d/%d: loss %.3f, dev WER %.2f %%, CER %.2f %%, %.0f s left",
            *(epoch.epoch, args.num_train_epochs, epoch.loss, 100 * epoch.dev_wer, 100 * epoch.dev_cer, left),
        )
        if not epoch.dev_heard and (len(history) == 1 or history[-2].dev_heard):
            logger.warning(
                "The model hears nothing in any of the %d dev recordings (it writes blanks only). It may recover in "
                "later epochs; if not, lower train.learning_rate or raise train.warmup_ratio.",
                self.dev_utterances,
            )
        self._call({**epoch.model_dump(), "seconds": seconds})


class _Arguments(TrainingArguments):
    def get_warmup_steps(self, num_training_steps: int) -> int:
        """Rounds the ratio down: rounded up, a run of one or two steps would take its first with a rate of zero."""
        return int(num_training_steps * self.warmup_steps)


class CTCTrainer(Trainer):
    """A Trainer with batches by total length, an abort on a loss that is no number, and dev WER as its metric.

    Checkpoints hold the trained weights only (LoRA: a few megabytes) and are sealed when they are whole.
    """

    model: FeatureCTC

    def __init__(
        self, *, clips: ClipDataset, dev: DevSet, folder: Path, batch_frames: int, reporter: Reporter, **arguments: Any
    ) -> None:
        super().__init__(train_dataset=clips, eval_dataset=list(dev.examples), **arguments)
        self.clips, self.dev, self.folder = clips, dev, folder
        self.batch_frames, self.reporter = batch_frames, reporter

    def get_train_dataloader(self) -> DataLoader[dict[str, Any]]:
        lengths = [clip.frames for clip in self.clips.clips]
        sampler = LikeLengthBatches(lengths, self.batch_frames, self.args.seed, self.args.world_size)
        loader: DataLoader[dict[str, Any]] = self.accelerator.prepare(
            DataLoader(self.clips, batch_sampler=sampler, collate_fn=collate)
        )
        return loader

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The loss of a batch; raises TrainingError naming the clips when it is not finite."""
        ids = inputs.pop("ids")
        outputs = model(**inputs)
        value = float(outputs["loss"].detach())
        self.reporter.latest_loss = value
        if not torch.isfinite(outputs["loss"]):
            raise TrainingError(
                f"The loss is {value} in step {self.state.global_step + 1} with the learning rate "
                f"{self._get_learning_rate():.3g}, on the clips {', '.join(ids)}.",
                "Lower train.learning_rate or train.max_grad_norm; if it is the first step, listen to the clips.",
            )
        return (outputs["loss"], outputs) if return_outputs else outputs["loss"]

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Dev error rates of the weights as they are; processes share the work."""
        self.model.eval()
        network = self.model.network
        score = self.dev.score(
            replace(self.dev.recordings.base, network=network), self.args.process_index, self.args.world_size
        )
        counts = [
            *(score.words.errors, score.words.reference_length),
            *(score.characters.errors, score.characters.reference_length, score.heard),
        ]
        totals = self.accelerator.reduce(torch.tensor(counts, device=self.args.device), "sum").tolist()
        losses = torch.tensor([score.loss, float(score.written)], device=self.args.device)
        loss, written = self.accelerator.reduce(losses, "sum").tolist()
        rates = {"wer": totals[0] / totals[1], "cer": totals[2] / totals[3], "heard": totals[4]}
        rates["label_loss"] = loss / max(1.0, written)
        # The Trainer keeps the checkpoint of the lowest number: WER; where words tie the CER, as part of one word; and
        # where characters tie too the loss, as part of one character.
        finer = (totals[2] + rates["label_loss"] / (1 + rates["label_loss"])) / totals[3]
        rates["rank"] = (totals[0] + finer / (1 + finer)) / totals[1]
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in rates.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        folder = Path(output_dir) if output_dir else self.folder
        folder.mkdir(parents=True, exist_ok=True)
        frozen = {name for name, weight in self.model.named_parameters() if not weight.requires_grad}
        state = self.model.state_dict()  # with buffers, such as running statistics, which training changes too
        kept = {name: tensor.contiguous() for name, tensor in state.items() if name not in frozen}
        save_file(kept, folder / _WEIGHTS)
        readable_by_all(folder / _WEIGHTS)

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            seal(self.folder / f"{PREFIX}{self.state.global_step}")

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        self.model.load_state_dict(load_file(Path(resume_from_checkpoint) / _WEIGHTS), strict=False)

    def _load_best_model(self) -> None:
        if self.state.best_model_checkpoint:
            self._load_from_checkpoint(self.state.best_model_checkpoint)


def train(
    module: FeatureCTC, dataset: ClipDataset, dev: DevSet, params: Params, folder: Path, on_epoch: OnEpoch | None = None
) -> list[Epoch]:
    """Trains `module` in place and leaves it with the weights of the best epoch by dev WER, then CER, then loss.

    Goes on from the newest whole checkpoint in `folder`; the result is that of a run that was never killed.

    Returns:
        the history, one entry an epoch.

    Raises:
        TrainingError: the loss is not a finite number.
    """
    with processes().main_process_first():
        checkpoint = newest_whole(folder)
    reporter = Reporter(len(dev.examples), on_epoch)
    trainer = CTCTrainer(
        model=module,
        args=_arguments(params, folder, _epochs(params, checkpoint)),
        callbacks=[reporter, EarlyStopping(params.train.patience)],
        clips=dataset,
        dev=dev,
        folder=folder,
        batch_frames=max(1, round(params.train.batch_seconds / dev.recordings.base.frame_seconds)),
        reporter=reporter,
    )
    trainer.remove_callback(PrinterCallback)
    if checkpoint:
        restore_best(checkpoint)
        logger.info("Training goes on from %s.", checkpoint)
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    finally:
        reporter.bar.close()
    module.eval()
    return history_of(trainer.state.log_history)


def _epochs(params: Params, checkpoint: Path | None) -> int:
    """How far to train. A run that was killed after early stopping had decided must not train on."""
    if checkpoint:
        done = history_of(read_state(checkpoint).log_history)
        if out_of_patience(done, params.train.patience):
            return done[-1].epoch
    return params.train.epochs


def _arguments(params: Params, folder: Path, epochs: int) -> _Arguments:
    settings: Mapping[str, Any] = {
        "num_train_epochs": epochs,
        "learning_rate": params.train.resolved_learning_rate,
        "warmup_steps": params.train.warmup_ratio,
        "weight_decay": params.train.weight_decay,
        "max_grad_norm": params.train.max_grad_norm,
        "seed": params.seed,
        "data_seed": params.seed,
    }
    return _Arguments(
        output_dir=str(folder),
        eval_strategy="epoch",
        save_strategy="epoch",
        logging_strategy="epoch",
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="rank",
        greater_is_better=False,
        logging_nan_inf_filter=False,
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to="none",
        dataloader_num_workers=0,
        use_cpu=on_cpu(),
        dataloader_pin_memory=torch.cuda.is_available(),
        # Batches have no fixed size; LikeLengthBatches gives every process as many of them.
        accelerator_config={"even_batches": False},
        # Layer drop and an unused mask embedding leave weights without a gradient in a step.
        ddp_find_unused_parameters=True,
        **settings,
    )


def in_bfloat16(params: Params) -> bool:
    """Whether training multiplies in bfloat16: "auto" asks for an accelerator, or a CPU with instructions for it."""
    if params.train.precision != "auto":
        return params.train.precision == "bfloat16"
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    flags = Path("/proc/cpuinfo")
    return flags.is_file() and not _NATIVE.isdisjoint(flags.read_text(encoding="utf-8", errors="replace").split())


def run_key(params: Params, base_digest: str, train: Sequence[Example], dev: Sequence[Example]) -> str:
    """Names the training that a checkpoint belongs to: everything that decides its result.

    Whoever ran out of memory goes on with gradient checkpointing, which changes nothing.
    """
    settings = params.train.model_dump_json(exclude={"gradient_checkpointing"})
    parts = [settings, str(params.seed), params.score.normalizer, base_digest]
    parts += ["bfloat16"] if in_bfloat16(params) else []  # "auto" is another training on another machine
    if (count := processes().num_processes) > 1:
        parts.append(f"processes {count}")  # they share the steps of an epoch
    usual = AudioParams()  # which left no trace in older keys: they say which recordings are clips
    for name in ("max_duration", "max_missing_share"):
        if (value := getattr(params.audio, name)) != getattr(usual, name):
            parts.append(f"audio.{name} {value}")
    parts += [example.model_dump_json() for example in (*train, *dev)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
