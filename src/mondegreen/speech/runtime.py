"""Which library computes a model: torch, or ONNX Runtime, which takes less time for the same texts.

What comes of the two differs in the last bits of a float. So what judges, and what is kept between stages, is computed
by torch unless `onnx` is asked for by name: its files are the same on every machine.
"""

import logging
import os
from pathlib import Path
from typing import cast, get_args

from mondegreen.config import Runtime
from mondegreen.errors import UsageError
from mondegreen.speech.acoustic_model import AcousticModel
from mondegreen.speech.model_folder import resolve_model
from mondegreen.speech.variants import open_variant, precision_of

_MEANT = "MONDEGREEN_RUNTIME"
# Without one of these no accelerator can be there, and torch, which takes seconds to load, need not be asked.
_ACCELERATORS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
logger = logging.getLogger(__name__)


def open_model(name: str, runtime: Runtime = "auto", export: bool = True) -> AcousticModel:
    """A model by its name (see `model.load_model`), ready to hear.

    Args:
        runtime: auto is onnx where there is no accelerator and the export of these weights was verified, else torch.
            A variant says itself what computes it: another would hear otherwise.
        export: make an export that is not there, which takes a core for long; else it counts as one that is of no use.

    Raises:
        UsageError: nothing loadable there; or onnx is asked for, and its export cannot be used.
    """
    folder = resolve_model(name)
    if variant := open_variant(name, folder):
        return variant
    if _by_onnx(runtime):
        from mondegreen.speech.onnx_model import NoExport
        from mondegreen.speech.onnx_store import open_export

        try:
            return open_export(name, folder, make=export)
        except NoExport as reason:
            if runtime == "onnx":
                raise UsageError(
                    f"ONNX Runtime cannot compute {name}: {reason}.",
                    "Take --runtime torch, or transcribe.runtime: auto.",
                ) from None
            logger.warning("torch computes %s: %s.", name, reason)
    from mondegreen.speech.model import load_model

    return load_model(name, folder=folder)


def export_due(name: str, runtime: Runtime = "auto") -> bool:
    """Whether `open_model` would first export the model, which takes a core for long; never where onnx is asked for.

    Raises:
        MondegreenError: there is no such model, or its files are damaged.
    """
    if runtime != "auto" or not _by_onnx(runtime):
        return False
    folder = resolve_model(name)
    if precision_of(folder):
        return False
    from mondegreen.speech.onnx_store import is_made

    return not is_made(name, folder)


def _by_onnx(runtime: Runtime) -> bool:
    wanted = meant() if runtime == "auto" else runtime
    return wanted == "onnx" or (wanted == "auto" and not _accelerated())


def meant() -> Runtime:
    """What auto means by the environment: auto, unless it says otherwise. Raises UsageError."""
    written = os.environ.get(_MEANT) or "auto"
    for known in get_args(Runtime):
        if written == known:
            return cast(Runtime, known)
    raise UsageError(f"{_MEANT}={written} is no runtime.", "Set it to torch or onnx, or unset it.")


def _accelerated() -> bool:
    if not any(Path(device).exists() for device in _ACCELERATORS):
        return False
    import torch

    return torch.cuda.is_available()
