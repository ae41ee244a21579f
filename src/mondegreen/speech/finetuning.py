"""Fine-tuning from end to end: preflight, training, merge weight, merge check, saving."""

import copy
import logging
import resource
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from accelerate import PartialState
from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel, set_seed

from mondegreen.config import Params
from mondegreen.errors import TrainingError
from mondegreen.records import Epoch, Example, Problem, SweepRow, TrainingHistory
from mondegreen.speech.cache import FeatureCache
from mondegreen.speech.callbacks import OnEpoch
from mondegreen.speech.checkpoints import run_key
from mondegreen.speech.ctc import FeatureCTC
from mondegreen.speech.dataset import Clip, ClipDataset, Recordings
from mondegreen.speech.devset import DevSet
from mondegreen.speech.lora import add_lora, check_merge, in_evaluation, merge, merged_at, save_adapter, save_model
from mondegreen.speech.model import SpeechModel, model_digest
from mondegreen.speech.preflight import fit_spec_augment, preflight
from mondegreen.speech.sweep import choose, sweep
from mondegreen.speech.training import train as run_training

logger = logging.getLogger(__name__)

_CHECKED = 4  # utterances of the merge check


@dataclass(frozen=True)
class FinetuneResult:
    """What came out of a training. Times and memory are for people and MLflow; they differ between equal runs."""

    history: list[Epoch]
    sweep: list[SweepRow]
    best_epoch: int
    dev_wer: float  # of the saved model
    merge_weight: float
    merge_difference: float  # largest difference of a logit between adapter and merged model; 0 for full
    model_digest: str
    left_out: list[Problem]
    notes: list[str]
    seconds_per_sample: float  # training time for one clip in one epoch, dev evaluation included
    peak_memory_mib: float

    @property
    def record(self) -> TrainingHistory:
        """The part that is no time or memory: equal runs write equal bytes."""
        return TrainingHistory(epochs=self.history, sweep=self.sweep, left_out=self.left_out, notes=self.notes)


@dataclass(frozen=True)
class _Prepared:
    """The inputs after the preflight."""

    clips: list[Clip]
    left_out: list[Problem]
    dev: DevSet
    retention: DevSet | None


def finetune(
    base: SpeechModel,
    train: Sequence[Example],
    dev: Sequence[Example],
    retention: Sequence[Example],
    params: Params,
    output: Path,
    checkpoints: Path,
    on_epoch: OnEpoch | None = None,
) -> FinetuneResult:
    """Trains a copy of `base` and saves the merged model into `output` (its adapter into `output/adapter`).

    A killed run goes on from its last checkpoint below `checkpoints`, to the same result.

    Args:
        dev: held-out examples with human references; they pick the epoch and the merge weight.
        retention: examples of what the base knew before; they bound what may be forgotten. May be empty.
        on_epoch: called after each epoch.

    Raises:
        VocabularyError: transcripts with characters that the tokenizer lacks.
        TrainingError: nothing to train on or to judge by, a loss that is no number, or a merge that changes the model.
    """
    prepared = _prepare(base, train, dev, retention, params)
    network, adapted = trainable(base, params)
    fit_spec_augment(network, prepared.clips, params.train.mask_time_prob)
    folder = checkpoints / run_key(params, base.digest, train, dev)
    encoder = trains_encoder(params)
    dataset = ClipDataset(prepared.clips, prepared.dev.recordings, waveforms=encoder, augment=params.train.augment)
    started = time.perf_counter()
    history = run_training(FeatureCTC(network, encoder), dataset, prepared.dev, params, folder, on_epoch)
    seconds = (time.perf_counter() - started) / (len(prepared.clips) * len(history))
    result = _finish(base, network, adapted, prepared, params, output, history, seconds)
    if PartialState().is_main_process:
        shutil.rmtree(folder, ignore_errors=True)
    return result


def trains_encoder(params: Params) -> bool:
    """Whether the convolutional encoder itself is trained, so that none of its features can be kept."""
    return params.train.method == "full" and params.train.train_encoder


def _prepare(
    base: SpeechModel, train: Sequence[Example], dev: Sequence[Example], retention: Sequence[Example], params: Params
) -> _Prepared:
    """Checks everything and fills the feature cache; with several processes the first one does it for all."""
    if params.train.augment or trains_encoder(params):
        reason = "train.train_encoder" if trains_encoder(params) else "train.augment"
        logger.info("%s is on: the feature cache is off, every epoch computes the encoder again.", reason)
    with PartialState().main_process_first():
        cache = None if trains_encoder(params) else FeatureCache(base.encoder_digest)
        recordings = Recordings(base, cache, params.audio.max_duration)
        clips, left_out = preflight(train, recordings)
        sets = [
            DevSet(tuple(examples), recordings, params.score.normalizer, params.train.batch_seconds)
            for examples in (dev, retention)
        ]
        for held_out in sets:
            held_out.groups()  # computes the features of every example
        if cache:
            cache.flush()
    if not sets[0].has_words():
        raise TrainingError(
            "There are no dev recordings with words that a person wrote down.",
            "Add human references, or raise prepare.dev_fraction: the dev set picks the epoch and the merge weight.",
        )
    return _Prepared(clips, left_out, sets[0], sets[1] if sets[1].has_words() else None)


def trainable(base: SpeechModel, params: Params) -> tuple[PreTrainedModel, PeftModel | None]:
    """A copy of the base's network, prepared by method, and peft's view of it for LoRA."""
    set_seed(params.seed)  # LoRA starts from random directions
    network = copy.deepcopy(base.network)
    if params.train.method == "lora":
        return network, add_lora(network, params.train)
    network.requires_grad_(True)
    if not params.train.train_encoder:
        cast(Any, network).freeze_feature_encoder()
    return network, None


def _finish(
    base: SpeechModel,
    network: PreTrainedModel,
    adapted: PeftModel | None,
    prepared: _Prepared,
    params: Params,
    output: Path,
    history: list[Epoch],
    seconds: float,
) -> FinetuneResult:
    cast(nn.Module, network).to(base.device)
    tuned = merge(adapted) if adapted else in_evaluation(network)
    examples = prepared.dev.examples[:_CHECKED]
    features = [prepared.dev.recordings.features(example) for example in examples]
    difference = check_merge(network, tuned, features) if adapted else 0.0
    weights = params.train.merge_weights
    rows = sweep(base, tuned, prepared.dev, prepared.retention, weights, params.train.forgetting_budget)
    best, note = choose(rows, weights)
    if PartialState().is_main_process:
        shutil.rmtree(output / "adapter", ignore_errors=True)  # of an earlier run into the same folder
        save_model(merged_at(base.network, tuned, best.weight), base, output)
        if adapted:
            save_adapter(adapted, base, best.weight, output / "adapter")
    PartialState().wait_for_everyone()
    best_epoch = min(history, key=lambda epoch: (epoch.dev_wer, epoch.epoch))
    collapse = "" if best_epoch.dev_heard else "The best epoch hears nothing in any dev recording (blanks only)."
    return FinetuneResult(
        history=history,
        sweep=rows,
        best_epoch=best_epoch.epoch,
        dev_wer=best.dev_wer,
        merge_weight=best.weight,
        merge_difference=difference,
        model_digest=model_digest(output),
        left_out=prepared.left_out,
        notes=[text for text in (note, collapse) if text],
        seconds_per_sample=seconds,
        peak_memory_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    )
