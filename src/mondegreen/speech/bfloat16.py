"""A network whose linear layers multiply in bfloat16."""

import copy
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

# WavLM's attention hands these layers' weights to a function of torch's that wants all of them in one type.
_TAKEN_BY_HAND = {"wavlm": ("q_proj", "k_proj", "v_proj", "out_proj")}


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
