"""The part of a CTC model that is trained, as one module: features in, safe CTC loss out."""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from mondegreen.speech.features import forward_features, pad


class FeatureCTC(nn.Module):
    """Wraps a Wav2Vec2, HuBERT or WavLM CTC network (with or without LoRA layers inside) for the Trainer.

    Args:
        network: changed in place by training.
        train_encoder: let gradients into the convolutional encoder. Needs waveforms.
    """

    def __init__(self, network: PreTrainedModel, train_encoder: bool = False) -> None:
        super().__init__()
        self.network = network
        self.train_encoder = train_encoder

    def forward(
        self,
        labels: Tensor,
        features: Tensor | None = None,
        mask: Tensor | None = None,
        waveforms: Sequence[Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Loss and logits of a batch, given features with their mask, or waveforms.

        Args:
            labels: int64 (batch, max_labels), padded with -100.
            features: float32 (batch, max_frames, conv_dim).
            mask: bool (batch, max_frames), True on real frames.
            waveforms: each float32 (num_samples,), 16 kHz, prepared as the model wants them.

        Returns:
            "loss": float32 (); "logits": float32 (batch, max_frames, vocab_size).
        """
        if waveforms is not None:
            features, mask = self._encode(waveforms)
        if features is None or mask is None:
            raise ValueError("give features with their mask, or waveforms")
        logits = forward_features(self.network, features, mask)
        return {"loss": ctc_loss(logits, mask, labels, int(self.network.config.pad_token_id)), "logits": logits}

    def _encode(self, waveforms: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """One utterance at a time: padding must never enter the statistics of a normalised convolution."""
        encoder = cast(nn.Module, self.network.base_model.feature_extractor)
        with torch.set_grad_enabled(self.train_encoder and torch.is_grad_enabled()):
            features, mask = pad([encoder(waveform[None])[0].T for waveform in waveforms])
        return features, mask.to(features.device)


def ctc_loss(logits: Tensor, mask: Tensor, labels: Tensor, blank: int) -> Tensor:
    """Mean over the batch of the loss for each label.

    A clip whose frames cannot hold its label has an infinite loss; it counts as zero and sends no gradient back.

    Args:
        logits: (batch, max_frames, vocab_size).
        mask: bool (batch, max_frames).
        labels: int64 (batch, max_labels), padded with -100.
        blank: id of the blank.
    """
    log_probabilities = torch.log_softmax(logits.float(), dim=-1).transpose(0, 1)  # (max_frames, batch, vocab_size)
    real = labels >= 0
    with torch.backends.cudnn.flags(enabled=False):  # cuDNN's CTC takes no zero_infinity
        return F.ctc_loss(
            log_probabilities,
            labels[real],
            mask.sum(dim=1),
            real.sum(dim=1),
            blank=blank,
            reduction="mean",
            zero_infinity=True,
        )
