"""Training in bfloat16 on a processor without instructions for it: what it does to the weights, not what it costs.

There torch multiplies bfloat16 matrices some twenty times slower than float32 ones. Here the factors are rounded to
bfloat16 and multiplied as float32, and the products are rounded again, which is what the instructions (AVX512-BF16,
AMX) do: they too add up in float32, in another order. The gradients go through the same roundings on their way back.
Everything but the products is torch's own autocast.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_PRODUCTS = frozenset(
    {
        functional.linear,
        functional.conv1d,
        functional.scaled_dot_product_attention,
        torch.matmul,
        torch.bmm,
        Tensor.matmul,
        Tensor.bmm,
        Tensor.__matmul__,
    }
)


class RoundedProducts(TorchFunctionMode):
    """Within it, and within torch's autocast, products of matrices are those of bfloat16."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Rounds what goes in and what comes out; `func` itself computes in float32."""
        given = dict(kwargs or {})
        if func not in _PRODUCTS or not torch.is_autocast_enabled("cpu"):
            return func(*args, **given)
        with torch.autocast("cpu", enabled=False):
            product = func(*map(_rounded, args), **{name: _rounded(value) for name, value in given.items()})
            return product.to(torch.bfloat16)


def _rounded(value: Any) -> Any:
    """A float tensor with the values that bfloat16 has, as float32."""
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.to(torch.bfloat16).float()
    return value


@contextmanager
def rounded_training() -> Iterator[None]:
    """Within it a training in bfloat16 (`train.precision`) takes the products above."""
    from mondegreen.speech.dataset import FeatureCTC

    forward = FeatureCTC.forward

    def rounded(*args: Any, **given: Any) -> Any:
        with RoundedProducts():
            return forward(*args, **given)

    with mock.patch.object(FeatureCTC, "forward", rounded):
        yield
