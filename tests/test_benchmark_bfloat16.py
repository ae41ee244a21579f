"""Products of bfloat16 in software are those of torch, but for the order of additions."""

import torch
from torch import Tensor

from benchmarks.bfloat16 import RoundedProducts

STEP = 2.0**-7  # between two neighbours of bfloat16, relative: one of them may be rounded the other way


def products(weight: Tensor, hidden: Tensor) -> list[Tensor]:
    """Outputs of every kind of product, and the gradients of both factors."""
    weight, hidden = weight.clone().requires_grad_(), hidden.clone().requires_grad_()
    filters = weight[:, :, None].expand(-1, -1, 3)
    with torch.autocast("cpu", torch.bfloat16):
        linear = torch.nn.functional.linear(hidden, weight)
        found = [
            linear,
            hidden @ weight.T,
            torch.bmm(hidden, weight[None].expand(len(hidden), -1, -1)),
            torch.nn.functional.conv1d(hidden.transpose(1, 2), filters),
            torch.nn.functional.scaled_dot_product_attention(linear, linear, linear),
        ]
        sum(item.float().square().mean() for item in found).backward()
    assert {item.dtype for item in found} == {torch.bfloat16}
    assert weight.grad is not None and hidden.grad is not None
    return [*(item.detach().float() for item in found), weight.grad, hidden.grad]


def test_they_and_their_gradients_are_those_of_torch() -> None:
    torch.manual_seed(0)
    weight, hidden = torch.randn(48, 48), torch.randn(2, 30, 48)
    expected = products(weight, hidden)
    with RoundedProducts():
        found = products(weight, hidden)
    for own, torchs in zip(found, expected, strict=True):
        assert torch.allclose(own, torchs, rtol=2 * STEP, atol=STEP * torchs.abs().max().item() / 4)
    for own, torchs in list(zip(found, expected, strict=True))[:4]:  # products of the inputs themselves
        assert (own == torchs).float().mean() > 0.95


def test_outside_of_autocast_nothing_is_rounded() -> None:
    weight, hidden = torch.randn(8, 8), torch.randn(3, 8)
    with RoundedProducts():
        assert torch.equal(torch.nn.functional.linear(hidden, weight), hidden @ weight.T)
        assert (hidden @ weight.T).dtype == torch.float32
