"""The upper layers of a network alone, on what the frozen layers below give; that is computed once for each recording.

Adapters in the top half learn about as much as in all layers (Li et al., arXiv 2202.03218), and a layer below them is
the same in every epoch. SpecAugment then masks what enters the upper layers: its vector is learnt for what enters the
first one and means nothing further up, so that a masked frame takes the mean of the train clips, as in Park et al.
(2019), whose spectrograms have the mean zero.
"""

import copy
import hashlib
import logging
from collections.abc import Sequence
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from mondegreen.config import Params
from mondegreen.errors import TrainingError
from mondegreen.records import Example
from mondegreen.speech.dataset import Clip, Recordings
from mondegreen.speech.feature_cache import FeatureCache
from mondegreen.speech.model import FEATURE_VERSION, SpeechModel, project

Module = TypeVar("Module", bound=nn.Module)
logger = logging.getLogger(__name__)


def frozen_layers(network: PreTrainedModel, params: Params) -> int:
    """How many layers, from the bottom, have no adapter by train.lora_layers.

    Raises:
        TrainingError: the network has fewer layers than are to be adapted.
    """
    wanted, layers = params.train.adapted_layers, int(network.config.num_hidden_layers)
    if params.train.method != "lora" or wanted is None:
        return 0
    if wanted > layers:
        raise TrainingError(
            f"train.lora_layers: top:{wanted}, but the model has {layers} layers.",
            f"Name top:1 to top:{layers}, or all.",
        )
    return layers - wanted


def outputs_can_be_kept(base: SpeechModel, params: Params, examples: Sequence[Example], recordings: Recordings) -> bool:
    """Whether what the frozen layers give is the same in every epoch, and the rest can go on from it.

    WavLM's first layer makes the position bias of all; waveforms that change make other outputs; and a recording that
    the model hears in windows has two outputs where they overlap. Then the frozen layers are computed in every step.
    """
    if params.train.augment or base.network.config.model_type == "wavlm":
        return False
    longest = base.max_frames
    return longest is None or all(recordings.frames(example) <= longest for example in examples)


class LowerOutputs(Recordings):
    """What the frozen layers give in place of the convolutional features; both are kept on disk.

    Args:
        recordings: of the base, with its features.
        frozen: number of layers, from the bottom.
    """

    def __init__(self, recordings: Recordings, frozen: int) -> None:
        base = recordings.base
        digest = hashlib.sha256(f"{FEATURE_VERSION} {base.weights} {frozen}".encode()).hexdigest()
        cache = FeatureCache(digest, recordings.cache.root) if recordings.cache else None
        super().__init__(base, cache, recordings.max_duration, recordings.max_missing_share)
        self._below, self._lower = recordings, _lower(base.network, frozen)

    def features(self, example: Example, model: SpeechModel | None = None) -> Tensor:
        """float32 (num_frames, hidden_size). Raises AudioError."""
        if self.cache is None:
            return self._computed(example)
        return self.cache.get_or_compute(example.sha256, lambda: self._computed(example))

    def frames(self, example: Example) -> int:
        """As of the features, which were looked at before; computes and keeps what is given here. Raises AudioError."""
        return len(self.features(example))

    @torch.inference_mode()
    def _computed(self, example: Example) -> Tensor:
        """One utterance at a time, so that no batch shows in what is kept."""
        features = self._below.features(example)[None].to(self.base.device)
        output: Tensor = self._lower.encoder(project(self._lower, features)).last_hidden_state
        return output[0].cpu()


def _lower(network: PreTrainedModel, frozen: int) -> Any:
    """The base model with its first layers alone; shares their weights."""
    base: Any = _shared(network.base_model)
    base.encoder = _shared(base.encoder)
    base.encoder.layers = nn.ModuleList(list(base.encoder.layers)[:frozen])
    if base.config.do_stable_layer_norm:  # comes after the last layer there
        base.encoder.layer_norm = nn.Identity()
    return base


def upper(network: PreTrainedModel, frozen: int, clips: Sequence[Clip], outputs: Recordings) -> PreTrainedModel:
    """The network from layer `frozen` on, which takes `outputs` for features; shares its weights and configuration."""
    whole: Any = _shared(network)
    base: Any = _shared(network.base_model)
    setattr(whole, whole.base_model_prefix, base)
    base.feature_projection, base.encoder = _Copy(), _shared(base.encoder)
    base.encoder.layers = nn.ModuleList(list(base.encoder.layers)[frozen:])
    base.encoder.pos_conv_embed = _Nothing()
    if not base.config.do_stable_layer_norm:  # comes before the first layer there
        base.encoder.layer_norm = nn.Identity()
    means = [outputs.features(clip.example).mean(dim=0) for clip in clips]
    mean = torch.stack(means).mean(dim=0).to(network.device)
    base.masked_spec_embed = nn.Parameter(mean, requires_grad=False)
    return cast(PreTrainedModel, whole)


def _shared(module: Module) -> Module:
    """Another module with the same children and weights, whose children can be replaced."""
    view = copy.copy(module)
    view._modules, view._parameters = dict(module._modules), dict(module._parameters)
    return view


class _Copy(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        """A copy: masks and padding are written into it."""
        return features.clone()


class _Nothing(nn.Module):
    def forward(self, hidden: Tensor) -> Tensor:
        """Positions were added below the first layer."""
        return hidden.new_zeros(())
