"""Training through transformers' Trainer (so that `accelerate launch` scales it), made safe to kill and to repeat."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainingArguments

from mondegreen.config import Params
from mondegreen.errors import TrainingError
from mondegreen.records import Epoch
from mondegreen.speech.callbacks import EarlyStopping, OnEpoch, Reporter, history_of, out_of_patience
from mondegreen.speech.checkpoints import best_checkpoint, newest_whole, read_state, seal
from mondegreen.speech.ctc import FeatureCTC
from mondegreen.speech.dataset import ClipDataset, LikeLengthBatches, collate
from mondegreen.speech.devset import DevScore, DevSet

logger = logging.getLogger(__name__)

_WEIGHTS = "model.safetensors"


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
        score = self.dev.score_part(
            replace(self.dev.recordings.base, network=network), self.args.process_index, self.args.world_size
        )
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in self._summed(score).items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _summed(self, score: DevScore) -> dict[str, float]:
        counts = [
            *(score.words.errors, score.words.reference_length),
            *(score.characters.errors, score.characters.reference_length, score.heard),
        ]
        totals = self.accelerator.reduce(torch.tensor(counts, device=self.args.device), "sum").tolist()
        return {"wer": totals[0] / totals[1], "cer": totals[2] / totals[3], "heard": totals[4]}

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        folder = Path(output_dir) if output_dir else self.folder
        folder.mkdir(parents=True, exist_ok=True)
        save_file(trained_state(self.model), folder / _WEIGHTS)

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            seal(self.folder / f"checkpoint-{self.state.global_step}")

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        self.model.load_state_dict(load_file(Path(resume_from_checkpoint) / _WEIGHTS), strict=False)

    def _load_best_model(self) -> None:
        if self.state.best_model_checkpoint:
            self._load_from_checkpoint(self.state.best_model_checkpoint)


def trained_state(module: torch.nn.Module) -> dict[str, Tensor]:
    """What training changes: trainable weights, and buffers such as running statistics."""
    frozen = {name for name, weight in module.named_parameters() if not weight.requires_grad}
    return {name: tensor.contiguous() for name, tensor in module.state_dict().items() if name not in frozen}


def train(
    module: FeatureCTC, dataset: ClipDataset, dev: DevSet, params: Params, folder: Path, on_epoch: OnEpoch | None = None
) -> list[Epoch]:
    """Trains `module` in place and leaves it with the weights of the best epoch by dev WER.

    Goes on from the newest whole checkpoint in `folder`; the result is that of a run that was never killed.

    Returns:
        the history, one entry an epoch.

    Raises:
        TrainingError: the loss is not a finite number.
    """
    with PartialState().main_process_first():
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
        _restore_best(checkpoint)
        logger.info("Training goes on from %s.", checkpoint)
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    finally:
        reporter.close()
    module.eval()
    return history_of(trainer.state.log_history)


def _epochs(params: Params, checkpoint: Path | None) -> int:
    """How far to train. A run that was killed after early stopping had decided must not train on."""
    if checkpoint:
        done = history_of(read_state(checkpoint).log_history)
        if out_of_patience(done, params.train.patience):
            return done[-1].epoch
    return params.train.epochs


def _restore_best(checkpoint: Path) -> None:
    """Points the state at the best checkpoint beside this one, when the project was moved since."""
    best, state = best_checkpoint(checkpoint), read_state(checkpoint)
    if best and state.best_model_checkpoint != str(best):
        state.best_model_checkpoint = str(best)
        state.save_to_json(str(checkpoint / "trainer_state.json"))
        seal(checkpoint)


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
        metric_for_best_model="wer",
        greater_is_better=False,
        logging_nan_inf_filter=False,
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to="none",
        dataloader_num_workers=0,
        dataloader_pin_memory=False,
        # Batches have no fixed size; LikeLengthBatches gives every process as many of them.
        accelerator_config={"even_batches": False},
        # Layer drop and an unused mask embedding leave weights without a gradient in a step.
        ddp_find_unused_parameters=True,
        **settings,
    )
