"""LoRA layers in a CTC network, and what comes after training: merging, weighing against the base, saving."""

import copy
import json
import logging
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import PreTrainedModel

from mondegreen.config import TrainParams
from mondegreen.errors import TrainingError
from mondegreen.files import write_text
from mondegreen.speech.features import forward_features, pad
from mondegreen.speech.model import SpeechModel

logger = logging.getLogger(__name__)

MERGE_TOLERANCE = 1e-4
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
    tuned_state = tuned.state_dict()
    network.load_state_dict(
        {name: _between(tensor, tuned_state[name], weight) for name, tensor in base.state_dict().items()}
    )
    return in_evaluation(network)


def in_evaluation(network: PreTrainedModel) -> PreTrainedModel:
    """The same network without dropout and SpecAugment."""
    nn.Module.eval(network)
    return network


def _between(base: Tensor, tuned: Tensor, weight: float) -> Tensor:
    if not base.is_floating_point():
        return tuned if weight > 0 else base
    return torch.lerp(base, tuned.to(base.device), weight)


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
    ordered = {name: sorted(value) if _is_names(value) else value for name, value in sorted(settings.items())}
    _write_json(folder / "adapter_config.json", ordered)
    _write_json(folder / "base.json", {"base": base.name, "base_digest": base.digest, "merge_weight": merge_weight})


def _is_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    write_text(path, json.dumps(content, indent=2) + "\n")
