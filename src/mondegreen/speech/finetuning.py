"""Fine-tuning from end to end: preflight, training, merging, the merge weight.

How much of what was learnt to keep is chosen along the line from base to tuned: dev WER against what is forgotten.
"""

import copy
import logging
import resource
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel, set_seed

from mondegreen.config import Params
from mondegreen.errors import TrainingError
from mondegreen.records import Epoch, Example, Problem, SweepRow, TrainingHistory
from mondegreen.scoring.wer import loss_upper_bound
from mondegreen.speech.dataset import Clip, ClipDataset, FeatureCTC, Recordings, preflight
from mondegreen.speech.feature_cache import FeatureCache
from mondegreen.speech.lora import CHECKED, add_lora, check_merge, in_evaluation, merge, save_adapter, try_merge
from mondegreen.speech.model import SpeechModel
from mondegreen.speech.model_folder import model_digest, tokenizer_digests
from mondegreen.speech.processes import processes
from mondegreen.speech.saving import merged_at, refuse_own_folder, save_adapter_beside, save_model
from mondegreen.speech.spec_augment import fit_spec_augment, look_at_masks
from mondegreen.speech.training import DevScore, DevSet, OnEpoch, in_bfloat16, run_key
from mondegreen.speech.training import train as run_training
from mondegreen.speech.training_checkpoints import check_shared
from mondegreen.speech.upper_layers import LowerOutputs, frozen_layers, outputs_can_be_kept, upper

logger = logging.getLogger(__name__)
FORGETTING_CONFIDENCE = 0.95  # that a training forgets no more than the bound says
_ROUNDING = 1e-9
_UNMEASURED = "what it forgets is not measured: there are no retention recordings of dev"


@dataclass(frozen=True)
class FinetuneResult:
    """What came out of a training. Times and memory are for people and MLflow; they differ between equal runs."""

    history: list[Epoch]
    sweep: list[SweepRow]
    best_epoch: int
    dev_wer: float  # of the saved model
    merge_weight: float
    merge_difference: float  # between the logits of adapter and merged model, as lora.check_merge gives it; 0 for full
    model_digest: str
    left_out: list[Problem]
    notes: list[str]
    checkpoints: Path  # of this training, for `training_checkpoints.forget` once the result is written down
    seconds_per_sample: float  # training time for one clip in one epoch, dev included; 0: all were trained before
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
    checkpoints: Path  # of this training


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

    A killed run goes on from its last checkpoint below `checkpoints`, to the same result. They stay there until the
    caller has written the result down and calls `training_checkpoints.forget`: whoever dies before that trains nothing
    twice.

    Args:
        dev: held-out examples with human references; they pick the epoch and the merge weight.
        retention: examples of what the base knew before; they bound what may be forgotten. May be empty.
        on_epoch: called after each epoch.

    Raises:
        TrainingError: nothing to train on or to judge by, a loss that is no number, a merge that changes the model, or
            processes that do not see each other's files.
        UsageError: `output` is the folder of `base`, or of what it stands on; nothing was trained.
    """
    refuse_own_folder(str(base.folder), output)
    check_shared(checkpoints)
    learnt_from = " ".join([base.weights, *tokenizer_digests(base.folder)])  # which shape the labels
    folder = checkpoints / run_key(params, learnt_from, train, dev)
    prepared = _prepare(base, train, dev, retention, params, folder)
    network, adapted = trainable(base, params)
    fit_spec_augment(network, prepared.clips, params.train.mask_time_prob)
    learner, dev_set = _learner(base, network, prepared, params)
    masks = look_at_masks(learner, prepared.clips, dev_set.recordings, params.seed)
    if adapted:
        try_merge(adapted, prepared.clips, prepared.dev.recordings)
    encoder = trains_encoder(params)
    dataset = ClipDataset(prepared.clips, dev_set.recordings, waveforms=encoder, augment=params.train.augment)
    recompute_activations(learner, params)
    module = FeatureCTC(learner, encoder, bfloat16=in_bfloat16(params))
    history, seconds = _timed(module, dataset, dev_set, params, folder, on_epoch)
    tuned, difference = _merged(base, network, adapted, prepared.dev, folder)
    result = _finish(base, tuned, adapted, prepared, params, output, history, seconds, difference)
    return replace(result, notes=[*masks, *result.notes])


def _timed(
    module: FeatureCTC, dataset: ClipDataset, dev: DevSet, params: Params, folder: Path, on_epoch: OnEpoch | None
) -> tuple[list[Epoch], float]:
    """The history of the training, and its seconds for one clip in one epoch, of those that were trained here."""
    here = 0

    def count(row: dict[str, Any]) -> None:
        nonlocal here
        here += "seconds" in row
        if on_epoch:
            on_epoch(row)

    started = time.perf_counter()
    history = run_training(module, dataset, dev, params, folder, count)
    return history, (time.perf_counter() - started) / (len(dataset) * here) if here else 0.0


def recompute_activations(network: nn.Module, params: Params) -> None:
    """Where `train.gradient_checkpointing` asks for it, layers keep their input alone and are computed again."""
    if params.train.gradient_checkpointing:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # transformers 5.23 has another name, 5.0 has not
            cast(Any, network).gradient_checkpointing_enable({"use_reentrant": False})


def trains_encoder(params: Params) -> bool:
    """Whether the convolutional encoder itself is trained, so that none of its features can be kept."""
    return params.train.method == "full" and params.train.train_encoder


def _prepare(
    base: SpeechModel,
    train: Sequence[Example],
    dev: Sequence[Example],
    retention: Sequence[Example],
    params: Params,
    folder: Path,
) -> _Prepared:
    """Checks everything and fills the feature cache; with several processes the first one does it for all."""
    if params.train.augment or trains_encoder(params):
        reason = "train.train_encoder" if trains_encoder(params) else "train.augment"
        logger.info("%s is on: the feature cache is off, every epoch computes the encoder again.", reason)
    with processes().main_process_first():
        cache = None if trains_encoder(params) else FeatureCache(base.encoder_digest)
        recordings = Recordings(base, cache, params.audio.max_duration, params.audio.max_missing_share)
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
    return _Prepared(clips, left_out, sets[0], sets[1] if sets[1].has_words() else None, folder)


def trainable(base: SpeechModel, params: Params) -> tuple[PreTrainedModel, PeftModel | None]:
    """A copy of the base's network, prepared by method, and peft's view of it for LoRA.

    What LoRA freezes is not copied: base and copy are one set of weights.
    """
    set_seed(params.seed)  # LoRA starts from random directions
    if params.train.method == "lora":
        weights = cast(nn.Module, base.network).parameters()
        memo: Any = {id(one): nn.Parameter(one.detach(), requires_grad=one.requires_grad) for one in weights}
        network = copy.deepcopy(base.network, memo)
        return network, add_lora(network, params.train, frozen_layers(network, params))
    network = copy.deepcopy(base.network)
    network.requires_grad_(True)
    if not params.train.train_encoder:
        cast(Any, network).freeze_feature_encoder()
    return network, None


def _learner(
    base: SpeechModel, network: PreTrainedModel, prepared: _Prepared, params: Params
) -> tuple[PreTrainedModel, DevSet]:
    """What is trained, and the dev set as it hears it: the layers above frozen ones, on what those give, where that can
    be kept; else the network itself."""
    dev, frozen = prepared.dev, frozen_layers(network, params)
    examples = [*(clip.example for clip in prepared.clips), *dev.examples]
    if not frozen or not outputs_can_be_kept(base, params, examples, dev.recordings):
        return network, dev
    with processes().main_process_first():
        outputs = LowerOutputs(dev.recordings, frozen)
        learner = upper(network, frozen, prepared.clips, outputs)
        heard = replace(dev, recordings=outputs)
        heard.groups()  # computes those of every example
        if outputs.cache:
            outputs.cache.flush()
    return learner, heard


def _merged(
    base: SpeechModel, network: PreTrainedModel, adapted: PeftModel | None, dev: DevSet, folder: Path
) -> tuple[PreTrainedModel, float]:
    """The trained network without adapter, and by how much merging changed it.

    What was trained is never lost: when the merge is refused, the adapter is saved beside the checkpoints.
    """
    cast(nn.Module, network).to(base.device)
    if adapted is None:
        return in_evaluation(network), 0.0
    tuned = merge(adapted)
    shortest = sorted(dev.examples, key=lambda row: (row.duration, row.id))[:CHECKED]
    features = [dev.recordings.features(row)[: base.max_frames] for row in shortest]
    try:
        return tuned, check_merge(network, tuned, features)
    except TrainingError as error:
        if processes().is_main_process:
            save_adapter(adapted, base, 1.0, folder / "adapter")
        processes().wait_for_everyone()
        raise TrainingError(
            f"{error.problem} No model was saved; the trained adapter is in {folder / 'adapter'}, and its checkpoints "
            "are beside it.",
            f"Use it unmerged with peft's PeftModel.from_pretrained. {error.next_step} A run with the same parameters "
            "goes on from the checkpoints and trains nothing twice.",
        ) from None


def _finish(
    base: SpeechModel,
    tuned: PreTrainedModel,
    adapted: PeftModel | None,
    prepared: _Prepared,
    params: Params,
    output: Path,
    history: list[Epoch],
    seconds: float,
    difference: float,
) -> FinetuneResult:
    weights = params.train.merge_weights
    rows = sweep(base, tuned, prepared.dev, prepared.retention, weights, params.train.forgetting_budget)
    best, note = choose(rows, weights)
    if processes().is_main_process:
        save_model(merged_at(base.network, tuned, best.weight), base, output)
        if adapted:
            save_adapter_beside(adapted, base, best.weight, output)
    processes().wait_for_everyone()
    best_epoch = min(history, key=lambda epoch: (*epoch.rank, epoch.epoch))
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
        checkpoints=prepared.checkpoints,
        seconds_per_sample=seconds,
        peak_memory_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    )


def sweep(
    base: SpeechModel,
    tuned: PreTrainedModel,
    dev: DevSet,
    retention: DevSet | None,
    weights: Sequence[float],
    budget: float,
) -> list[SweepRow]:
    """Measures the base and every candidate weight.

    Args:
        tuned: a plain network (an adapter merged in).
        budget: WER that the retention set may lose, absolute. The upper bound of the loss must lie within it: what few
            recordings seem to keep, others may lose.
    """
    rows: list[SweepRow] = []
    before: list[DevScore] = []
    for weight in sorted({0.0, *weights}):
        model = replace(base, network=merged_at(base.network, tuned, weight))
        score = dev.score(model)
        kept = retention.score_each(model) if retention else []
        before = before or kept
        loss, bound = _forgotten(before, kept)
        rows.append(
            SweepRow(
                weight=weight,
                dev_wer=score.words.rate,
                dev_cer=score.characters.rate,
                retention_wer=sum(kept, DevScore.zero()).words.rate if kept else None,
                retention_loss=loss,
                retention_loss_bound=bound,
                within_budget=bound <= budget + _ROUNDING,
            )
        )
        forgotten = f"retention loss {100 * loss:+.2f} points, at most {100 * bound:+.2f}" if kept else _UNMEASURED
        logger.info("Merge weight %.2f: dev WER %.2f %%, %s", weight, 100 * score.words.rate, forgotten)
    return rows


def _forgotten(before: Sequence[DevScore], after: Sequence[DevScore]) -> tuple[float, float]:
    """WER lost on the same recordings, absolute, and its upper bound; 0 without recordings."""
    if not before:
        return 0.0, 0.0
    words = np.array([score.words.reference_length for score in before])
    losses = np.array([new.words.errors - old.words.errors for old, new in zip(before, after, strict=True)])
    return int(losses.sum()) / int(words.sum()), loss_upper_bound(losses, words, FORGETTING_CONFIDENCE)


def choose(rows: Sequence[SweepRow], weights: Sequence[float]) -> tuple[SweepRow, str]:
    """The lowest dev WER within the forgetting budget (ties: the smaller weight), and a note when there is none.

    Where none is within it, the one that forgets least for certain: with few retention recordings that is the smallest.

    Args:
        weights: the candidates; the reference at 0 is taken only when it is one of them.
    """
    candidates = [row for row in rows if row.weight in weights]
    within = [row for row in candidates if row.within_budget]
    if within:
        return min(within, key=lambda row: (row.dev_wer, row.weight)), ""
    least = min(candidates, key=lambda row: (row.retention_loss_bound, row.weight))
    note = (
        f"No merge weight surely keeps the forgetting budget; {least.weight:g} comes nearest "
        f"({100 * least.retention_loss:+.2f} points WER on the retention set's dev part, at most "
        f"{100 * least.retention_loss_bound:+.2f}). More retention recordings narrow the bound; a higher "
        "select.replay_ratio (data/replay holds more to replay) or a lower train.learning_rate forgets less."
    )
    logger.warning(note)
    return least, note
