"""Fine-tuning from end to end: preflight, training, merging, the merge weight, saving.

How much of what was learnt to keep is chosen along the line from base to tuned: dev WER against what is forgotten.
"""

import copy
import json
import logging
import resource
import shutil
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import PartialState
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import PreTrainedModel, set_seed

from mondegreen.config import Params, TrainParams
from mondegreen.errors import TrainingError
from mondegreen.files import write_text
from mondegreen.records import Epoch, Example, Problem, SweepRow, TrainingHistory
from mondegreen.speech.dataset import Clip, ClipDataset, FeatureCTC, Recordings, fit_spec_augment, preflight
from mondegreen.speech.model import FeatureCache, SpeechModel, forward_features, model_digest, pad
from mondegreen.speech.training import DevSet, OnEpoch, run_key
from mondegreen.speech.training import train as run_training

logger = logging.getLogger(__name__)
MERGE_TOLERANCE = 1e-4
_CHECKED = 4  # utterances of the merge check
_ROUNDING = 1e-9
_ATTENTION = frozenset({"q_proj", "k_proj", "v_proj", "out_proj"})
_FEED_FORWARD = ("intermediate_dense", "output_dense")
_BESIDE_WEIGHTS = (
    "vocab.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "preprocessor_config.json",
    "processor_config.json",
)


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


def add_lora(network: PreTrainedModel, params: TrainParams) -> PeftModel:
    """Puts LoRA layers into `network` (in place) and freezes the rest, but for a trainable copy of the CTC head.

    Returns:
        peft's view of the same network, for merging and saving.

    Raises:
        TrainingError: no module has one of the names in train.lora_targets.
    """
    config = LoraConfig(
        r=params.lora_rank,
        lora_alpha=params.lora_alpha,
        lora_dropout=params.lora_dropout,
        target_modules=list(reachable_targets(network, params.lora_targets)),
        modules_to_save=["lm_head"],
        task_type=None,
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by an old name
            return get_peft_model(network, config)
    except ValueError as error:
        raise TrainingError(
            f"LoRA found none of {', '.join(params.lora_targets)} in this model ({error}).",
            "Name modules that it has in train.lora_targets, such as q_proj.",
        ) from error


def reachable_targets(network: PreTrainedModel, targets: Sequence[str]) -> tuple[str, ...]:
    """Targets whose forward is called.

    WavLM hands the weights of its attention projections to a function of torch instead of calling the modules: an
    adapter there would never be asked and never learn. Its feed-forward layers take the place of the attention.
    """
    if network.config.model_type != "wavlm" or not _ATTENTION & set(targets):
        return tuple(targets)
    logger.warning("WavLM's attention cannot carry LoRA; its feed-forward layers are adapted instead.")
    return tuple(dict.fromkeys([*(name for name in targets if name not in _ATTENTION), *_FEED_FORWARD]))


def merge(adapted: PeftModel) -> PreTrainedModel:
    """A plain network with the adapter merged in; `adapted` stays as it is."""
    merged: PreTrainedModel = cast(Any, copy.deepcopy(adapted)).merge_and_unload()
    return in_evaluation(merged)


def merged_at(base: PreTrainedModel, tuned: PreTrainedModel, weight: float) -> PreTrainedModel:
    """A network at `base + weight * (tuned - base)`: the LoRA scale, or a weighted average after full fine-tuning.

    Args:
        weight: 0 gives the base's weights and 1 the tuned ones, exactly.
    """
    network = copy.deepcopy(base)
    tuned_state, state = tuned.state_dict(), {}
    for name, tensor in base.state_dict().items():
        other = tuned_state[name].to(tensor.device)
        whole = other if weight else tensor  # counters and the like have no middle
        state[name] = torch.lerp(tensor, other, weight) if tensor.is_floating_point() else whole
    network.load_state_dict(state)
    return in_evaluation(network)


def in_evaluation(network: PreTrainedModel) -> PreTrainedModel:
    """The same network without dropout and SpecAugment."""
    nn.Module.eval(network)
    return network


@torch.inference_mode()
def check_merge(adapted: PreTrainedModel, merged: PreTrainedModel, features: Sequence[Tensor]) -> float:
    """The largest difference of any logit between the network with its adapter and the merged one.

    Args:
        features: a few utterances, each float32 (num_frames, conv_dim).

    Raises:
        TrainingError: more than MERGE_TOLERANCE; what would be served is not what was trained.
    """
    padded, mask = pad(features)
    padded, mask = padded.to(merged.device), mask.to(merged.device)
    logits = [forward_features(in_evaluation(network), padded, mask)[mask] for network in (adapted, merged)]
    difference = float((logits[0] - logits[1]).abs().max())
    if not difference <= MERGE_TOLERANCE:  # a NaN is not within the tolerance either
        raise TrainingError(
            f"The merged model differs from the adapter by {difference:.2g} in a logit ({MERGE_TOLERANCE:g} allowed).",
            "Nothing was saved. Train with a lower train.learning_rate, or report this with build/train and the model.",
        )
    return difference


def save_model(network: PreTrainedModel, base: SpeechModel, output: Path) -> None:
    """Writes weights (safetensors, float32) and configuration, and copies the base's tokenizer files beside them."""
    output.mkdir(parents=True, exist_ok=True)
    network.save_pretrained(output)
    for name in _BESIDE_WEIGHTS:
        if (base.folder / name).is_file():
            shutil.copyfile(base.folder / name, output / name)


def save_adapter(adapted: PeftModel, base: SpeechModel, merge_weight: float, folder: Path) -> None:
    """Writes the adapter, and in base.json the model that it belongs to.

    peft writes its configuration in another order each time; it is put in order, so that the bytes can be compared.
    """
    adapted.peft_config["default"].base_model_name_or_path = base.name
    adapted.save_pretrained(str(folder), save_embedding_layers=False)  # "auto" would ask the hub
    (folder / "README.md").unlink(missing_ok=True)
    settings = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    ordered = {name: sorted(value) if isinstance(value, list) else value for name, value in sorted(settings.items())}
    _write_json(folder / "adapter_config.json", ordered)
    _write_json(folder / "base.json", {"base": base.name, "base_digest": base.digest, "merge_weight": merge_weight})


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    write_text(path, json.dumps(content, indent=2) + "\n")


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
        budget: WER that the retention set may lose, absolute.
    """
    rows: list[SweepRow] = []
    for weight in sorted({0.0, *weights}):
        model = replace(base, network=merged_at(base.network, tuned, weight))
        score = dev.score(model)
        kept = retention.score(model).words.rate if retention else None
        loss = kept - (rows[0].retention_wer or 0.0) if kept is not None and rows else 0.0
        rows.append(
            SweepRow(
                weight=weight,
                dev_wer=score.words.rate,
                dev_cer=score.characters.rate,
                retention_wer=kept,
                retention_loss=loss,
                within_budget=loss <= budget + _ROUNDING,
            )
        )
        logger.info(
            "Merge weight %.2f: dev WER %.2f %%, retention loss %+.2f points",
            *(weight, 100 * score.words.rate, 100 * loss),
        )
    return rows


def choose(rows: Sequence[SweepRow], weights: Sequence[float]) -> tuple[SweepRow, str]:
    """The lowest dev WER within the forgetting budget (ties: the smaller weight), and a note when there is none.

    Args:
        weights: the candidates; the reference at 0 is taken only when it is one of them.
    """
    candidates = [row for row in rows if row.weight in weights]
    within = [row for row in candidates if row.within_budget]
    if within:
        return min(within, key=lambda row: (row.dev_wer, row.weight)), ""
    least = min(candidates, key=lambda row: (row.retention_loss, row.weight))
    note = (
        f"No merge weight keeps the forgetting budget; {least.weight:g} forgets least "
        f"({100 * least.retention_loss:+.2f} points WER on the retention set). Raise select.replay_ratio or lower "
        "train.learning_rate."
    )
    logger.warning(note)
    return least, note
