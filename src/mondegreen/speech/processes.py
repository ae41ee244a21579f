"""The processes that train one model together, as torchrun or `accelerate launch` started them."""

import os

import torch
from accelerate import PartialState
from accelerate.utils import str_to_bool


def on_cpu() -> bool:
    """Whether training is on the processor: there is nothing else, or ACCELERATE_USE_CPU says so."""
    return bool(str_to_bool(os.environ.get("ACCELERATE_USE_CPU") or "false")) or not torch.accelerator.is_available()


def processes() -> PartialState:
    """Which of how many this process is.

    On processors accelerate's own answer is that every process is alone, unless it is told that they are meant: then
    each would open a run, train by itself and write over the others.
    """
    return PartialState(cpu=on_cpu())
