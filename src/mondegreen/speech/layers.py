"""Layers of our own in the networks of transformers: fast positional convolutions, and products in bfloat16.

A positional convolution of thousands of taps reaches far beyond most recordings: at frame t of T frames only the taps
that meet one of the T frames add anything but zeros. Those alone are convolved, on a CPU by Fourier transforms in
float64 (the convolution theorem), which is nearer to the exact sum than transformers' own float32 and many times
faster. So outputs differ from transformers' by its rounding alone.
"""

import copy
from typing import Any, cast

import torch
from scipy.fft import next_fast_len
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2PositionalConvEmbedding

LONG = 512  # taps; the usual 128 stay with transformers' own code
# WavLM's attention hands these layers' weights to a function of torch's that wants all of them in one type.
_TAKEN_BY_HAND = {"wavlm": ("q_proj", "k_proj", "v_proj", "out_proj")}


class TrimmedPositionalConvolution(Wav2Vec2PositionalConvEmbedding):
    """The same parameters under the same names; `forward` leaves out the taps that meet nothing."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        """float32 (batch, frames, channels) in and out."""
        frames, convolution = hidden_states.shape[1], cast(Any, self.conv)
        taps, before = convolution.kernel_size[0], convolution.padding[0]
        direction = convolution.parametrizations.weight.original1  # weight norm: one gain a tap
        gain = convolution.parametrizations.weight.original0
        first, end = max(0, before - frames + 1), min(taps, before + frames)
        is_learnt = gain.requires_grad and torch.is_grad_enabled()
        if not is_learnt:  # a gain of zero that is being learnt needs its gradient
            used = gain.flatten().nonzero().flatten()
            first = max(first, int(used[0]) if len(used) else before)
            end = max(first + 1, min(end, int(used[-1]) + 1 if len(used) else before + 1))
        part = direction[..., first:end]
        weight = part * (gain[..., first:end] / part.norm(dim=(0, 1), keepdim=True))
        # At frame t tap k meets frame t + k - before; a negative pad cuts frames off.
        padded = functional.pad(hidden_states.transpose(1, 2), (before - first, end - 1 - before))
        summed = _correlated(padded, weight, convolution.groups) + convolution.bias[:, None]
        return cast(Tensor, self.activation(summed).transpose(1, 2))


def _correlated(signal: Tensor, filters: Tensor, groups: int) -> Tensor:
    """What conv1d gives without a bias.

    Args:
        signal: float32 (batch, channels, samples).
        filters: float32 (out_channels, channels / groups, taps).

    Returns:
        float32 (batch, out_channels, samples - taps + 1).
    """
    if signal.device.type != "cpu":  # not every accelerator has float64, and theirs are fast as they are
        return functional.conv1d(signal, filters, groups=groups)
    length = next_fast_len(signal.shape[-1], real=True)
    spectrum = torch.fft.rfft(signal.double(), length).unflatten(1, (groups, 1, -1))
    responses = torch.fft.rfft(filters.double(), length).conj().unflatten(0, (groups, -1))
    # One channel of each group after the other: as (batch, groups, out_channels / groups, frequencies).
    product = sum(spectrum[..., channel, :] * responses[..., channel, :] for channel in range(filters.shape[1]))
    found: Tensor = torch.fft.irfft(cast(Tensor, product).flatten(1, 2), length)
    return found[..., : signal.shape[-1] - filters.shape[-1] + 1].to(signal.dtype)


def trim_positions(network: PreTrainedModel) -> None:
    """Lets a network's positional convolution skip what adds nothing, when its kernel is long. In place."""
    for module in network.modules():
        if (
            type(module) is Wav2Vec2PositionalConvEmbedding
            and module.conv.kernel_size[0] >= LONG
            and _is_normed(module)
        ):
            module.__class__ = TrimmedPositionalConvolution


def _is_normed(module: nn.Module) -> bool:
    """Whether its weight is a direction and a gain for each tap, as transformers makes it."""
    parametrizations: Any = getattr(module.get_submodule("conv"), "parametrizations", {})
    gain = getattr(parametrizations["weight"], "original0", None) if "weight" in parametrizations else None
    return isinstance(gain, torch.Tensor) and gain.shape[:2] == (1, 1)


class _Linear(nn.Module):
    """Multiplies in bfloat16, adds up and answers in float32."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight = nn.Parameter(linear.weight.detach().to(torch.bfloat16), requires_grad=False)
        self.bias = linear.bias

    def forward(self, hidden: Tensor) -> Tensor:
        product = functional.linear(hidden.to(torch.bfloat16), self.weight).float()
        return product if self.bias is None else product + self.bias


def in_bfloat16(network: PreTrainedModel) -> PreTrainedModel:
    """A copy with such layers behind the convolutional encoder, which stays as it is."""
    whole: Any = copy.deepcopy(network)
    skipped = _TAKEN_BY_HAND.get(network.config.model_type, ())
    for name, module in list(whole.named_modules()):
        parent, _, own = name.rpartition(".")
        if type(module) is nn.Linear and own not in skipped:
            setattr(whole.get_submodule(parent), own, _Linear(module))
    return cast(PreTrainedModel, whole.eval())
