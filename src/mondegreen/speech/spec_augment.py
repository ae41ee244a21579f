"""SpecAugment (Park et al., 2019): masks that fit the clips, and a look at what they cost before training.

A mask may only hide what lies under it. Where a network needs something of every frame, such as a constant from which
it counts positions, and its masked_spec_embed lacks that, a mask breaks all that follows, and training does harm.
"""

import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from mondegreen.speech.dataset import Clip, FeatureCTC, Recordings, batch_of

_CLIPS = 6  # of the shorter half, so that the look takes seconds
_DRAWS = 3  # of masks
_SLACK = 0.5  # nats a label that chance and a cut word may cost
_SPREAD = 2.0  # a hidden frame takes some of what its neighbours tell with it
logger = logging.getLogger(__name__)


def fit_spec_augment(network: PreTrainedModel, clips: Sequence[Clip], mask_time_prob: float) -> None:
    """Sets SpecAugment so that a mask is never longer than the shortest clip and hides the share that was asked for.

    transformers' default of at least two masks a clip would hide 20 frames of the shortest ones, whatever the share.
    """
    config = network.config
    config.apply_spec_augment = mask_time_prob > 0
    config.mask_time_prob = mask_time_prob
    config.mask_time_min_masks = 0
    config.mask_time_length = max(1, min(config.mask_time_length, min(clip.frames for clip in clips)))
    base: Any = network.base_model
    if not hasattr(base, "masked_spec_embed"):  # a model that was saved with SpecAugment off has no such vector
        base.masked_spec_embed = nn.Parameter(torch.zeros(config.hidden_size), requires_grad=False)


def look_at_masks(network: PreTrainedModel, clips: Sequence[Clip], recordings: Recordings, seed: int) -> list[str]:
    """A note when the masks cost more than what they hide, before anything is trained.

    It warns and does not stop: training may still learn to hear around the masks, and dev WER and the gate judge that.
    """
    share = network.config.mask_time_prob if network.config.apply_spec_augment else 0.0
    if not share:
        return []
    plain, masked = masked_losses(network, clips, recordings, seed)
    logger.info("Loss of train clips before training: %.2f without masks, %.2f with them.", plain, masked)
    if not math.isfinite(plain):  # the training stops at its first step and names the clips
        return []
    if masked <= plain + masks_may_cost(share, int(network.config.vocab_size)):
        return []
    note = (
        f"SpecAugment breaks what this model hears: before training the loss of train clips is {masked:.2f} with "
        f"{100 * share:g} % of the frames masked, {plain:.2f} without. Training starts there and may make the model "
        "worse. Set train.mask_time_prob: 0, or take a model whose masked_spec_embed fits its network."
    )
    logger.warning(note)
    return [note]


def masks_may_cost(share: float, vocabulary: int) -> float:
    """The most that masks should add to a loss, nats a label: what a blind guess costs, for what they hide.

    Args:
        share: of the frames that are masked.
        vocabulary: number of tokens; to guess one costs the logarithm of that.
    """
    return _SLACK + min(1.0, _SPREAD * share) * math.log(vocabulary)


def masked_losses(
    network: PreTrainedModel, clips: Sequence[Clip], recordings: Recordings, seed: int
) -> tuple[float, float]:
    """The mean loss of some clips without masks and with them, nats a label; dropout is off.

    The masks are drawn by `seed`; the random state of the training that follows stays as it was.
    """
    shorter = sorted(clips, key=lambda clip: (clip.frames, clip.example.id))[: max(_CLIPS, len(clips) // 2)]
    chosen = shorter[:: max(1, len(shorter) // _CLIPS)][:_CLIPS]
    batch = batch_of(chosen, recordings, network.device)
    nn.Module.eval(network)
    base, before = network.base_model, np.random.get_state()
    losses: list[float] = []
    with torch.no_grad():
        module = FeatureCTC(network)
        plain = float(module(**batch)["loss"])
        for draw in range(_DRAWS):
            np.random.seed((seed + draw) % 2**32)
            base.training = True  # of this module alone: it is what asks for masks
            try:
                losses.append(float(module(**batch)["loss"]))
            finally:
                base.training = False
                np.random.set_state(before)
    return plain, sum(losses) / len(losses)
