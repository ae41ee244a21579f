"""What happens beside the steps of training: the history, early stopping and progress."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from mondegreen.records import Epoch

logger = logging.getLogger(__name__)

OnEpoch = Callable[[dict[str, Any]], None]


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
                    learning_rate=trained["learning_rate"],
                )
            )
    return history


def out_of_patience(history: Sequence[Epoch], patience: int) -> bool:
    """Whether the last `patience` epochs brought no lower dev WER."""
    best = min(range(len(history)), key=lambda index: history[index].dev_wer, default=0)
    return len(history) - 1 - best >= patience


class EarlyStopping(TrainerCallback):
    """Stops when the dev WER has not fallen for `patience` epochs. Counts in the log, so it survives a resume."""

    def __init__(self, patience: int) -> None:
        self.patience = patience

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if out_of_patience(history_of(state.log_history), self.patience):
            logger.info("No lower dev WER for %d epochs: training stops.", self.patience)
            control.should_training_stop = True


class Reporter(TrainerCallback):
    """Shows loss, dev WER and the remaining time on a terminal, writes a line an epoch elsewhere, calls `on_epoch`.

    Args:
        dev_utterances: how many hypotheses there are, to tell a collapse to blanks.
        on_epoch: called with the fields of Epoch and "seconds"; after a resume first with the epochs done before.
    """

    def __init__(self, dev_utterances: int, on_epoch: OnEpoch | None) -> None:
        self.dev_utterances, self.on_epoch = dev_utterances, on_epoch
        self.latest_loss = float("nan")
        self._started = 0.0
        self._progress: Progress | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._started = time.perf_counter()
        for epoch in history_of(state.log_history):
            self._call(epoch.model_dump())
        console = Console(stderr=True)
        if console.is_terminal and state.is_world_process_zero:
            self._progress = _progress(console)
            self._progress.start()
            self._task = self._progress.add_task(
                "training", total=state.max_steps, completed=state.global_step, wer="–"
            )

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self._progress:
            self._progress.update(
                self._task, completed=state.global_step, description=f"training, loss {self.latest_loss:.3f}"
            )

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        history = history_of(state.log_history)
        epoch = history[-1]
        seconds, self._started = time.perf_counter() - self._started, time.perf_counter()
        if self._progress:
            self._progress.update(self._task, wer=f"{epoch.dev_wer:.2%}")
        left = seconds * (args.num_train_epochs - epoch.epoch)
        logger.info(
            "Epoch %d/%d: loss %.3f, dev WER %.2f%%, CER %.2f%%, %.0f s left",
            *(epoch.epoch, args.num_train_epochs, epoch.loss, 100 * epoch.dev_wer, 100 * epoch.dev_cer, left),
        )
        if not epoch.dev_heard and (len(history) == 1 or history[-2].dev_heard):
            logger.warning(
                "The model hears nothing in any of the %d dev recordings (it writes blanks only). It may recover in "
                "later epochs; if not, lower train.learning_rate or raise train.warmup_ratio.",
                self.dev_utterances,
            )
        self._call({**epoch.model_dump(), "seconds": seconds})

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.close()

    def close(self) -> None:
        """Takes the progress bar off the terminal."""
        if self._progress:
            self._progress.stop()
            self._progress = None

    def _call(self, row: dict[str, Any]) -> None:
        if self.on_epoch:
            self.on_epoch(row)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("dev WER {task.fields[wer]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )
