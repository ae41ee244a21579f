"""LoRA in a CTC network: where the adapter goes, how it is merged, and the proof that merging changed nothing.

The proof runs twice: after training, and before it on a copy that has learnt from a few clips, so that a model whose
adapter cannot be merged is refused before an hour is spent.
"""

import copy
import json
import logging
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import PreTrainedModel

from mondegreen.config import TrainParams
from mondegreen.errors import TrainingError
from mondegreen.files import readable_by_all, write_text
from mondegreen.speech.dataset import Clip, FeatureCTC, Recordings, batch_of
from mondegreen.speech.model import SpeechModel, forward_features, pad

MERGE_TOLERANCE = 1e-4  # largest difference of a logit, over the root mean square of all logits
CHECKED = 2  # utterances of the check, the shortest: double precision is slow
_TRIAL_RATE = 0.1  # so large that every adapted layer shows in the logits after one step
_ATTENTION = frozenset({"q_proj", "k_proj", "v_proj", "out_proj"})
_FEED_FORWARD = ("intermediate_dense", "output_dense")
logger = logging.getLogger(__name__)


def add_lora(network: PreTrainedModel, params: TrainParams, frozen: int = 0) -> PeftModel:
    """Puts LoRA layers into `network` (in place) and freezes the rest, but for a trainable copy of the CTC head.

    Args:
        frozen: layers, from the bottom, that take no adapter.

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
        layers_to_transform=list(range(frozen, int(network.config.num_hidden_layers))) if frozen else None,
        layers_pattern="layers" if frozen else None,
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


def in_evaluation(network: PreTrainedModel) -> PreTrainedModel:
    """The same network without dropout and SpecAugment."""
    nn.Module.eval(network)
    return network


def check_merge(adapted: PreTrainedModel, merged: PreTrainedModel, features: Sequence[Tensor]) -> float:
    """How far the merged network's logits are from those of the network with its adapter.

    Both are computed in double precision. In single precision a network rounds as much as a small layer's adapter does
    in all: the two could not be told apart, and a network with large activations would be refused for nothing. In
    double precision only the rounding of the merged weights is left, 1e-9 to 1e-7 of the logits.

    Args:
        features: a few utterances, each float32 (num_frames, conv_dim).

    Returns:
        the largest difference of a logit, divided by the root mean square of the adapter's logits.

    Raises:
        TrainingError: it is more than MERGE_TOLERANCE; what would be served is not what was trained.
    """
    expected, found = _exact_logits(adapted, features), _exact_logits(merged, features)
    difference = float((expected - found).abs().max() / expected.square().mean().sqrt())
    if not difference <= MERGE_TOLERANCE:  # a NaN is not within the tolerance either
        raise TrainingError(
            f"The merged model differs from its adapter: in a logit by {difference:.2g} of their root mean square "
            f"({MERGE_TOLERANCE:g} allowed).",
            "Name other modules in train.lora_targets, or set train.method: full, which merges nothing.",
        )
    return difference


@torch.inference_mode()
def _exact_logits(network: PreTrainedModel, features: Sequence[Tensor]) -> Tensor:
    """float64 (num_frames of all utterances, vocab_size), on the CPU."""
    padded, mask = pad(features)
    exact = in_evaluation(copy.deepcopy(network)).double()
    return forward_features(exact, padded.double().to(exact.device), mask.to(exact.device))[mask].cpu()


def try_merge(adapted: PeftModel, clips: Sequence[Clip], recordings: Recordings) -> None:
    """Checks on a copy, before the training, that this model's adapter can be merged once it has learnt something.

    An adapter starts at zero, where any merge is right: the copy takes one step on the shortest clips first, without
    dropout and masks, so that the random state of the training that follows stays as it was.

    Raises:
        TrainingError: it cannot; nothing was trained.
    """
    trial = copy.deepcopy(adapted)
    network = cast(PreTrainedModel, trial.get_base_model())
    chosen = sorted(clips, key=lambda clip: (clip.frames, clip.example.id))[:CHECKED]
    features = [recordings.features(clip.example) for clip in chosen]
    if not _step(
        network, batch_of(chosen, recordings, network.device)
    ):  # a loss that is no number: the training's own first step names the clips
        return
    try:
        difference = check_merge(network, merge(trial), features)
    except TrainingError as error:
        raise TrainingError(
            f"Nothing was trained. After one step on a copy: {error.problem}", error.next_step
        ) from None
    logger.info("Merging is right for this model: after one step a logit differs by %.1g at most.", difference)


def _step(network: PreTrainedModel, batch: dict[str, Any]) -> bool:
    """One step of AdamW in evaluation mode, which gradients pass all the same; False when the loss is no number."""
    in_evaluation(network)
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    loss = FeatureCTC(network)(**batch)["loss"]
    if not math.isfinite(float(loss.detach())):
        return False
    loss.backward()
    torch.optim.AdamW(weights, lr=_TRIAL_RATE).step()
    return True


def save_adapter(adapted: PeftModel, base: SpeechModel, merge_weight: float, folder: Path) -> None:
    """Writes the adapter, and in base.json the model that it belongs to.

    peft writes its configuration in another order each time; it is put in order, so that the bytes can be compared.
    """
    adapted.peft_config["default"].base_model_name_or_path = base.name
    adapted.save_pretrained(str(folder), save_embedding_layers=False)  # "auto" would ask the hub
    (folder / "README.md").unlink(missing_ok=True)
    readable_by_all(folder / "adapter_model.safetensors")
    settings = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    ordered = {name: sorted(value) if isinstance(value, list) else value for name, value in sorted(settings.items())}
    _write_json(folder / "adapter_config.json", ordered)
    _write_json(folder / "base.json", {"base": base.name, "base_digest": base.weights, "merge_weight": merge_weight})


def _write_json(path: Path, content: dict[str, object]) -> None:
    write_text(path, json.dumps(content, indent=2) + "\n")
